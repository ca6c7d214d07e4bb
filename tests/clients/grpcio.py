"""Python: grpcio, with messages as reflection has them. grpcio.py ADDRESS HOW

HOW: `messages` builds them from dictionaries, as keyword arguments of generated classes are;
`json` parses JSON and ignores what it does not know.
"""

import json
import os
import sys

import grpc
from google.protobuf import descriptor_pool, json_format, message_factory
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import (
    ProtoReflectionDescriptorDatabase,
)

address, how = sys.argv[1:]
channel = grpc.insecure_channel(address)
pool = descriptor_pool.DescriptorPool(ProtoReflectionDescriptorDatabase(channel))


def camel(name):
    head, *rest = name.split("_")
    return head + "".join(part.title() for part in rest)


def cased(value):
    if isinstance(value, list):
        return [cased(one) for one in value]
    if not isinstance(value, dict):
        return value
    name = lambda key: camel(key[1:]) if key.startswith("!") else key
    return {name(key): cased(one) for key, one in value.items()}


for one in json.load(sys.stdin):
    if "$undefined" in json.dumps(one["request"]):
        continue
    service, _, call = one["method"].partition("/")
    method = pool.FindServiceByName(f"rolegate.v1.{service}").FindMethodByName(call)
    request = message_factory.GetMessageClass(method.input_type)
    answer = message_factory.GetMessageClass(method.output_type)
    cell = {"name": one["name"], "wire": None}
    written = cased(one["request"])
    try:
        if how == "messages":
            message = request(**written)
        else:
            message = json_format.ParseDict(
                written, request(), ignore_unknown_fields=True, descriptor_pool=pool
            )
        cell["wire"] = message.SerializeToString().hex()
        stub = channel.unary_unary(
            f"/rolegate.v1.{service}/{call}",
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=answer.FromString,
        )
        told = json_format.MessageToDict(
            stub(message, timeout=10), preserving_proto_field_name=True, descriptor_pool=pool
        )
        cell["decision"] = told.get("decision", {})
    except grpc.RpcError as error:
        details = dict(error.trailing_metadata() or ()).get("grpc-status-details-bin", b"")
        cell["details"] = details.hex()
        if not details:
            cell["thrown"] = error.details()
    except (TypeError, ValueError, AttributeError, json_format.ParseError) as error:
        cell["thrown"] = str(error)
    print(json.dumps(cell))
sys.stdout.flush()
# Reflection's own stream need not be waited for.
os._exit(0)
