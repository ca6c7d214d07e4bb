// Go: google.golang.org/grpc, with messages from JSON by protojson. go-client ADDRESS DESCRIPTORS HOW
//
// HOW: "strict" as it is, "loose" with DiscardUnknown. Generated structs leave no room for most of
// the mistakes: what they let through (a nil list, an empty message) is what JSON makes too.
package main

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"time"

	legacy "github.com/golang/protobuf/proto"
	"google.golang.org/grpc"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/dynamicpb"
)

// Bytes as they are: the messages are marshalled here.
type raw struct{}

func (raw) Marshal(v interface{}) ([]byte, error)   { return *v.(*[]byte), nil }
func (raw) Unmarshal(d []byte, v interface{}) error { *v.(*[]byte) = d; return nil }
func (raw) Name() string                            { return "proto" }
func (raw) String() string                          { return "proto" }

type mistake struct {
	Name    string      `json:"name"`
	Method  string      `json:"method"`
	Request interface{} `json:"request"`
}

func camel(name string) string {
	parts := strings.Split(name, "_")
	for i := 1; i < len(parts); i++ {
		parts[i] = strings.Title(parts[i])
	}
	return strings.Join(parts, "")
}

func cased(value interface{}) interface{} {
	switch value := value.(type) {
	case []interface{}:
		for i := range value {
			value[i] = cased(value[i])
		}
		return value
	case map[string]interface{}:
		named := map[string]interface{}{}
		for key, one := range value {
			if strings.HasPrefix(key, "!") {
				key = camel(key[1:])
			}
			named[key] = cased(one)
		}
		return named
	}
	return value
}

func must(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func main() {
	address, descriptors, how := os.Args[1], os.Args[2], os.Args[3]
	data, err := os.ReadFile(descriptors)
	must(err)
	var set descriptorpb.FileDescriptorSet
	must(proto.Unmarshal(data, &set))
	files, err := protodesc.NewFiles(&set)
	must(err)
	var mistakes []mistake
	must(json.NewDecoder(os.Stdin).Decode(&mistakes))
	connection, err := grpc.Dial(address, grpc.WithInsecure(), grpc.WithDefaultCallOptions(grpc.ForceCodec(raw{})))
	must(err)
	for _, one := range mistakes {
		text, err := json.Marshal(cased(one.Request))
		must(err)
		if strings.Contains(string(text), "$undefined") {
			continue
		}
		parts := strings.Split(one.Method, "/")
		found, err := files.FindDescriptorByName(protoreflect.FullName("rolegate.v1." + parts[0]))
		must(err)
		method := found.(protoreflect.ServiceDescriptor).Methods().ByName(protoreflect.Name(parts[1]))
		cell := map[string]interface{}{"name": one.Name, "wire": nil}
		request := dynamicpb.NewMessage(method.Input())
		if err := (protojson.UnmarshalOptions{DiscardUnknown: how == "loose"}).Unmarshal(text, request); err != nil {
			cell["thrown"] = err.Error()
		} else {
			wire, err := proto.MarshalOptions{Deterministic: true}.Marshal(request)
			must(err)
			cell["wire"] = hex.EncodeToString(wire)
			ask(connection, "/rolegate.v1."+one.Method, wire, method.Output(), cell)
		}
		line, err := json.Marshal(cell)
		must(err)
		fmt.Println(string(line))
	}
}

func ask(connection *grpc.ClientConn, path string, wire []byte, output protoreflect.MessageDescriptor, cell map[string]interface{}) {
	deadline, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	var answer []byte
	if err := connection.Invoke(deadline, path, &wire, &answer); err != nil {
		told := status.Convert(err).Proto()
		details, unsound := legacy.Marshal(told)
		must(unsound)
		if len(told.Details) == 0 {
			cell["thrown"] = err.Error()
			return
		}
		cell["details"] = hex.EncodeToString(details)
		return
	}
	message := dynamicpb.NewMessage(output)
	must(proto.Unmarshal(answer, message))
	text, err := protojson.MarshalOptions{UseProtoNames: true}.Marshal(message)
	must(err)
	var told map[string]interface{}
	must(json.Unmarshal(text, &told))
	if decision, ok := told["decision"]; ok {
		cell["decision"] = decision
	} else {
		cell["decision"] = map[string]interface{}{}
	}
}
