//! What comes to the gRPC port and is not quite what it should be: other protocols, other content
//! types, headers that are too large, compressed messages, questions to reflection that have no answer.

use std::io::Write as _;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use http_body_util::{BodyExt as _, Full};
use prost::Message as _;
use rolegate::grpc::pb;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_stream::wrappers::ReceiverStream;
use tonic::body::Body;
use tonic::transport::Channel;
use tonic::{Code, Request, Status};
use tonic_types::StatusExt as _;
use tower::Service as _;

use super::callers::setup::{PATIENCE, Place, client_config, eventually, hash, metric};
use super::limits::{PREFACE, frame, head, say};
use super::process::{Clients, Server};

const CREATE_ROLE: &str = "/rolegate.v1.RoleService/CreateRole";
const CHECK: &str = "/rolegate.v1.AuthzService/Check";

fn start(directory: &std::path::Path, more: &[&str]) -> Server {
    Server::start(directory, &[&["--demo", "--admin-addr", "127.0.0.1:0"], more].concat())
}

/// All that is answered to these bytes until the server ends the connection.
async fn exchange(mut stream: impl AsyncRead + AsyncWrite + Unpin, said: &[u8]) -> String {
    let mut answer = Vec::new();
    // It may be answered, and ended, before all of it is sent.
    stream.write_all(said).await.ok();
    let reading = stream.read_to_end(&mut answer);
    tokio::time::timeout(PATIENCE, reading).await.expect("it goes on").ok();
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test]
async fn http_1_is_answered_with_a_line_that_a_person_understands() {
    let directory = tempfile::tempdir().unwrap();
    let server = start(directory.path(), &[]);
    let connect = || TcpStream::connect(&server.address);
    let get = b"GET / HTTP/1.1\r\nHost: localhost:50051\r\n\r\n";
    let long = format!(
        "POST {CREATE_ROLE} HTTP/1.1\r\nHost: localhost:50051\r\nOrigin: https://elsewhere.example\r\n\
         Content-Type: text/plain\r\nContent-Length: 50000\r\n\r\n{}",
        "x".repeat(50_000)
    );
    for said in [&get[..], long.as_bytes()] {
        let answer = exchange(connect().await.unwrap(), said).await;
        assert!(answer.starts_with("HTTP/1.1 415 "), "{answer}");
        assert!(answer.to_lowercase().contains("content-type: text/plain"), "{answer}");
        let line = "Try: grpcurl -plaintext localhost:50051 list\n";
        assert!(answer.contains("This port speaks gRPC") && answer.contains(line), "{answer}");
    }
    // What cannot be answered in words ends.
    let hello = exchange(connect().await.unwrap(), b"\x16\x03\x01\x02\x00\x01\x00").await;
    assert_eq!(hello, "");
    let refused = "rolegate_connections_refused_total{reason=\"not_http2\"}";
    assert_eq!(metric(&server, refused).await, Some(3.0));
    // What is sent in half is given up.
    let half = exchange(connect().await.unwrap(), b"GET / HTTP/1.1\r\nHost: ").await;
    assert!(!half.contains("200"), "{half}");
    eventually("room", async || metric(&server, "rolegate_connections ").await == Some(0.0)).await;
}

#[tokio::test]
async fn http_1_is_answered_over_tls_whether_or_not_it_is_agreed_upon() {
    let place = Place::new(&format!(
        "[[caller]]\nname = \"chat\"\ntoken_sha256 = [\"{}\"]\ncapabilities = [\"check\"]\n",
        hash("a-token")
    ));
    let server = place.start(&[]);
    for alpn in [&[][..], &[b"http/1.1".to_vec()]] {
        let mut config = client_config(&place.authority.pem, None);
        config.alpn_protocols = alpn.to_vec();
        let connector = TlsConnector::from(Arc::new(config));
        let stream = TcpStream::connect(&server.address).await.unwrap();
        let name = ServerName::try_from("127.0.0.1").unwrap();
        let stream = connector.connect(name, stream).await.unwrap();
        let get = format!("GET / HTTP/1.1\r\nHost: {}\r\n\r\n", server.address);
        let answer = exchange(stream, get.as_bytes()).await;
        assert!(answer.starts_with("HTTP/1.1 415 "), "{alpn:?}: {answer}");
        assert!(answer.contains(&format!("Try: grpcurl {} list\n", server.address)), "{answer}");
    }
}

fn framed(flag: u8, message: &[u8]) -> Vec<u8> {
    [&[flag], &u32::try_from(message.len()).unwrap().to_be_bytes()[..], message].concat()
}

/// A call as it is sent, and as it is answered: HTTP status, gRPC status, text.
async fn send(
    server: &Server,
    request: http::request::Builder,
    body: Vec<u8>,
) -> (u16, Option<Code>, http::HeaderMap, Bytes) {
    let mut channel = server.channel().await;
    std::future::poll_fn(|context| channel.poll_ready(context)).await.unwrap();
    let request = request.body(Body::new(Full::new(Bytes::from(body)))).unwrap();
    let response = channel.call(request).await.unwrap();
    let (head, body) = response.into_parts();
    // A body that is not read to its end by the server is reset once it was answered.
    let body = body.collect().await.unwrap();
    let trailers = body.trailers().cloned().unwrap_or_default();
    let status = Status::from_header_map(&trailers).or(Status::from_header_map(&head.headers));
    let code = status.map(|status| status.code());
    (head.status.as_u16(), code, head.headers, body.to_bytes())
}

fn role(name: &str) -> Vec<u8> {
    let request = pb::CreateRoleRequest {
        tenant_id: "demo-qpien".into(),
        name: name.into(),
        grants: vec![pb::Grant { permission: "chat.view".into(), scope: String::new() }],
        ..Default::default()
    };
    framed(0, &request.encode_to_vec())
}

#[tokio::test]
async fn only_posts_of_grpc_are_calls() {
    let directory = tempfile::tempdir().unwrap();
    let server = start(directory.path(), &[]);
    let request = |method: &str, path: &str| http::Request::builder().method(method).uri(path);
    for (number, content_type) in
        ["text/plain", "application/json", "application/grpc-web", "application/grpc-web+proto", ""]
            .into_iter()
            .enumerate()
    {
        for path in [CREATE_ROLE, CHECK] {
            let mut post = request("POST", path).header("origin", "https://elsewhere.example");
            if !content_type.is_empty() {
                post = post.header("content-type", content_type);
            }
            let body = role(&format!("Gardener {number}"));
            let (status, code, headers, text) = send(&server, post, body).await;
            assert_eq!((status, code), (415, None), "{content_type}");
            assert!(headers["content-type"].to_str().unwrap().starts_with("text/plain"));
            let text = String::from_utf8(text.to_vec()).unwrap();
            let line = format!("Try: grpcurl -plaintext {} list\n", server.address);
            assert!(text.contains(&line), "{text}");
        }
    }
    for method in ["GET", "PUT", "OPTIONS"] {
        for path in [CREATE_ROLE, CHECK] {
            let other = request(method, path).header("content-type", "application/grpc");
            let (status, _, headers, _) = send(&server, other, role("Florist")).await;
            assert_eq!(status, 405, "{method}");
            assert_eq!(headers["allow"], "POST");
        }
    }
    let mut clients = Clients::connect(&server).await;
    let list = pb::ListRolesRequest { tenant_id: "demo-qpien".into(), ..Default::default() };
    let roles = clients.roles.list_roles(list).await.unwrap().into_inner().roles;
    let made = roles.iter().find(|role| role.name.starts_with(['G', 'F']));
    assert!(made.is_none(), "{made:?}");
    // The same as a call.
    let post = request("POST", CREATE_ROLE).header("content-type", "application/grpc+proto");
    let (status, code, ..) = send(&server, post, role("Gardener")).await;
    assert_eq!((status, code), (200, Some(Code::Ok)));
}

fn packed(message: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(message).unwrap();
    framed(1, &encoder.finish().unwrap())
}

fn compressed(path: &str, encoding: &str) -> http::request::Builder {
    let post = http::Request::builder().method("POST").uri(path);
    post.header("content-type", "application/grpc").header("grpc-encoding", encoding)
}

#[tokio::test]
async fn compressed_requests_are_answered_within_bounds() {
    let directory = tempfile::tempdir().unwrap();
    let server = start(directory.path(), &["--max-message-kib", "1024"]);
    let check = pb::CheckRequest {
        tenant_id: "demo-oqupie".into(),
        member_id: "olivia".into(),
        permission: "customer.view".into(),
        ..Default::default()
    };
    let (_, code, headers, answer) =
        send(&server, compressed(CHECK, "gzip"), packed(&check.encode_to_vec())).await;
    assert_eq!(code, Some(Code::Ok));
    assert_eq!(headers["grpc-accept-encoding"], "identity,gzip");
    let answer = pb::CheckResponse::decode(&answer[5..]).unwrap();
    assert_eq!(answer.decision.unwrap().verdict(), pb::Verdict::Allowed);

    // A batch, which has a way of its own, and a stream, which has another.
    let item = pb::CheckItem {
        member_id: "olivia".into(),
        permission: "customer.view".into(),
        resource: None,
    };
    let batch = pb::BatchCheckRequest {
        tenant_id: "demo-oqupie".into(),
        items: vec![item; 500],
        consistency: None,
    };
    let path = "/rolegate.v1.AuthzService/BatchCheck";
    let (_, code, _, answer) =
        send(&server, compressed(path, "gzip"), packed(&batch.encode_to_vec())).await;
    assert_eq!(code, Some(Code::Ok));
    assert_eq!(pb::BatchCheckResponse::decode(&answer[5..]).unwrap().items.len(), 500);
    let item = pb::CheckStreamItem {
        correlation_id: 7,
        member_id: "olivia".into(),
        permission: "customer.view".into(),
        resource: None,
    };
    let message = pb::CheckStreamRequest {
        tenant_id: "demo-oqupie".into(),
        items: vec![item],
        consistency: None,
    };
    let path = "/rolegate.v1.AuthzService/CheckStream";
    let twice = packed(&message.encode_to_vec()).repeat(2);
    let (_, code, _, answer) = send(&server, compressed(path, "gzip"), twice).await;
    assert_eq!(code, Some(Code::Ok));
    let length = u32::from_be_bytes(answer[1..5].try_into().unwrap()) as usize;
    let first = pb::CheckStreamResponse::decode(&answer[5..5 + length]).unwrap();
    assert_eq!(first.results[0].correlation_id, 7);

    // 256 MiB of nothing in 256 KiB, for every kind of method.
    let mebibyte = packed(&vec![0; 1 << 20]);
    let bomb = framed(1, &mebibyte[5..].repeat(256));
    assert!(bomb.len() < 512 << 10);
    for path in [CHECK, CREATE_ROLE, path, "/rolegate.v1.AuthzService/BatchCheck"] {
        let (_, code, ..) = send(&server, compressed(path, "gzip"), bomb.clone()).await;
        assert_eq!(code, Some(Code::ResourceExhausted), "{path}");
    }
    let resident = metric(&server, "process_resident_memory_bytes ").await.unwrap();
    assert!(resident < 200e6, "{resident}");
    let under_way = "rolegate_calls_under_way_bytes ";
    eventually("room", async || metric(&server, under_way).await == Some(0.0)).await;

    let (_, code, headers, _) =
        send(&server, compressed(CHECK, "br"), packed(&check.encode_to_vec())).await;
    assert_eq!(code, Some(Code::Unimplemented));
    assert_eq!(headers["grpc-accept-encoding"], "identity,gzip");
    let (_, code, ..) = send(&server, compressed(CHECK, "gzip"), framed(1, b"no gzip")).await;
    assert_eq!(code, Some(Code::InvalidArgument));
}

/// One check with this much metadata.
async fn with_metadata(channel: &Channel, bytes: usize) -> Result<(), Status> {
    let mut request = Request::new(pb::CheckRequest {
        tenant_id: "demo-oqupie".into(),
        member_id: "olivia".into(),
        permission: "customer.view".into(),
        ..Default::default()
    });
    request.metadata_mut().insert("x-large", "x".repeat(bytes).parse().unwrap());
    let mut client = pb::authz_service_client::AuthzServiceClient::new(channel.clone());
    client.check(request).await.map(drop)
}

#[tokio::test]
async fn large_headers_cost_their_own_call_only() {
    let directory = tempfile::tempdir().unwrap();
    let server = start(directory.path(), &[]);
    let channel = server.channel().await;
    let (questions, receiver) = tokio::sync::mpsc::channel(8);
    let mut client = pb::authz_service_client::AuthzServiceClient::new(channel.clone());
    let stream = client.check_stream(ReceiverStream::new(receiver)).await;
    let mut answers = stream.unwrap().into_inner();
    for bytes in [1_000, 20_000, 80_000, 100_000, 1_000] {
        let answer = with_metadata(&channel, bytes).await;
        match bytes {
            1_000 => answer.unwrap(),
            20_000 => {
                let status = answer.unwrap_err();
                let info = status.get_details_error_info().unwrap();
                assert_eq!(status.code(), Code::ResourceExhausted, "{status:?}");
                assert_eq!(info.reason, "MESSAGE_TOO_LARGE");
                assert_eq!(info.metadata["limit_bytes"], "16384");
                assert!(status.message().contains("headers"), "{status:?}");
            }
            // As HTTP says it.
            _ => {
                let status = answer.unwrap_err();
                assert!(status.message().contains("431"), "{status:?}");
            }
        }
        let item = pb::CheckStreamItem {
            correlation_id: bytes as u64,
            member_id: "olivia".into(),
            permission: "customer.view".into(),
            resource: None,
        };
        let question = pb::CheckStreamRequest {
            tenant_id: "demo-oqupie".into(),
            items: vec![item],
            consistency: None,
        };
        questions.send(question).await.unwrap();
        let answer = tokio::time::timeout(PATIENCE, answers.message()).await.unwrap();
        let answer = answer.unwrap_or_else(|status| panic!("{bytes}: {status:?}")).unwrap();
        assert_eq!(answer.results[0].correlation_id, bytes as u64);
    }
}

macro_rules! asks_reflection {
    ($name:ident, $version:ident) => {
        #[tokio::test]
        async fn $name() {
            use tonic_reflection::pb::$version::server_reflection_client::ServerReflectionClient;
            use tonic_reflection::pb::$version::server_reflection_request::MessageRequest;
            use tonic_reflection::pb::$version::server_reflection_response::MessageResponse;
            use tonic_reflection::pb::$version::{ExtensionRequest, ServerReflectionRequest};

            let directory = tempfile::tempdir().unwrap();
            let server = start(directory.path(), &[]);
            let (questions, receiver) = tokio::sync::mpsc::channel(8);
            let mut client = ServerReflectionClient::new(server.channel().await);
            let receiver = ReceiverStream::new(receiver);
            let mut answers = client.server_reflection_info(receiver).await.unwrap().into_inner();
            let mut ask = async |question: Option<MessageRequest>| {
                let host = "here".to_owned();
                let request = ServerReflectionRequest { host, message_request: question };
                questions.send(request.clone()).await.unwrap();
                let answer = tokio::time::timeout(PATIENCE, answers.message()).await.unwrap();
                let answer = answer.expect("the stream ended").expect("the stream ended");
                assert_eq!(answer.original_request, Some(request));
                answer.message_response.unwrap()
            };
            let extension = |of: &str| {
                let containing_type = of.to_owned();
                ExtensionRequest { containing_type, extension_number: 7 }
            };
            let check = "rolegate.v1.CheckRequest".to_owned();
            for (question, code) in [
                (Some(MessageRequest::FileContainingSymbol("no.Such".into())), 5),
                (Some(MessageRequest::FileByFilename("no/such.proto".into())), 5),
                (Some(MessageRequest::FileContainingExtension(extension(&check))), 5),
                (Some(MessageRequest::FileContainingExtension(extension("no.Such"))), 5),
                (Some(MessageRequest::AllExtensionNumbersOfType("no.Such".into())), 5),
                (None, 3),
            ] {
                let answer = ask(question.clone()).await;
                let MessageResponse::ErrorResponse(error) = answer else {
                    panic!("{question:?}: {answer:?}")
                };
                assert_eq!(error.error_code, code, "{question:?}");
                assert!(!error.error_message.is_empty());
            }
            // It goes on.
            for symbol in [
                "rolegate.v1.AuthzService",
                "rolegate.v1.AuthzService.Check",
                "rolegate.v1.CheckRequest.tenant_id",
                "rolegate.v1.Verdict",
                "google.rpc.ErrorInfo",
                "grpc.health.v1.Health",
            ] {
                let answer = ask(Some(MessageRequest::FileContainingSymbol(symbol.into()))).await;
                let MessageResponse::FileDescriptorResponse(files) = answer else {
                    panic!("{symbol}: {answer:?}")
                };
                assert_eq!(files.file_descriptor_proto.len(), 1);
            }
            let answer = ask(Some(MessageRequest::AllExtensionNumbersOfType(check))).await;
            assert!(matches!(answer, MessageResponse::AllExtensionNumbersResponse(_)));
            let answer = ask(Some(MessageRequest::ListServices(String::new()))).await;
            let MessageResponse::ListServicesResponse(list) = answer else { panic!("{answer:?}") };
            let names: Vec<_> = list.service.iter().map(|service| &*service.name).collect();
            assert_eq!(names.len(), 7, "{names:?}");
        }
    };
}

asks_reflection!(reflection_goes_on_after_what_it_does_not_know, v1);
asks_reflection!(so_does_reflection_of_the_older_version, v1alpha);

/// A connection that is open, heeds nothing, and has nothing under way.
#[tokio::test]
async fn an_idle_connection_that_does_not_go_does_not_hold_up_the_end() {
    let directory = tempfile::tempdir().unwrap();
    let server = start(directory.path(), &["--drain-timeout", "300"]);
    let mut deaf = Vec::new();
    // One has made a call, which was answered.
    let called = [PREFACE, &head(1, CHECK, &[]), &frame(0, 1, 1, &[0; 5])].concat();
    for said in [&called, PREFACE, &PREFACE[..10], b""] {
        deaf.push(say(&server, said).await);
    }
    // Let in.
    eventually("four", async || metric(&server, "rolegate_connections ").await == Some(4.0)).await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    // Long before they are given up for not answering a ping, which takes 30 seconds.
    let ended = tokio::time::timeout(Duration::from_secs(20), server.terminate()).await;
    assert_eq!(ended.unwrap(), Some(0));
    drop(deaf);
}
