//! Errors that tonic makes by itself, as they leave the layer over all services.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use http::{Request, Response};
use tonic::body::Body;
use tonic::{Code, Status};
use tonic_types::StatusExt;
use tower::{Layer, Service};

use super::Apis;
use crate::grpc::AuthzServiceServer;
use crate::grpc::edge::{self, EdgeLayer, EdgeLimits};
use crate::service::caller::Caller;

const LIMITS: EdgeLimits = EdgeLimits { message_bytes: 1_000, time: Duration::from_secs(5) };
const CHECK: &str = "/rolegate.v1.AuthzService/Check";

/// A gRPC request with these bytes as its one message.
fn request(path: &str, message: &str) -> Request<Body> {
    framed(path, &format!("\0{}{message}", as_length(message.len())))
}

/// Bytes below 128 are a text, which is a body.
fn as_length(length: usize) -> String {
    u32::try_from(length).unwrap().to_be_bytes().map(char::from).into_iter().collect()
}

fn framed(path: &str, frame: &str) -> Request<Body> {
    let mut request = Request::post(path)
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(Body::new(frame.to_owned()))
        .unwrap();
    request.extensions_mut().insert(Arc::new(Caller::development()));
    request
}

async fn routes() -> (tonic::service::Routes, Apis) {
    let apis = Apis::new().await;
    let authz =
        AuthzServiceServer::new(apis.authz.clone()).max_decoding_message_size(LIMITS.message_bytes);
    (tonic::service::Routes::new(authz), apis)
}

/// The status of an answer that consists of headers only.
fn status(response: &Response<Body>) -> Status {
    let headers = response.headers();
    for header in ["grpc-status", "grpc-message", "grpc-status-details-bin"] {
        assert!(headers.get_all(header).iter().count() <= 1, "{header} stands there twice");
    }
    Status::from_header_map(headers).unwrap()
}

fn said(response: &Response<Body>) -> (Code, String) {
    let status = status(response);
    assert!(!status.message().is_empty());
    (status.code(), status.get_details_error_info().unwrap().reason)
}

#[tokio::test]
async fn what_tonic_refuses_by_itself_gets_a_reason() {
    let (routes, _apis) = routes().await;
    let mut edge = EdgeLayer::new(LIMITS).layer(routes);
    let mut zipped = request(CHECK, "");
    zipped.headers_mut().insert("grpc-encoding", "zstd".parse().unwrap());
    for (what, request, code, reason) in [
        (
            "a service that is not there",
            request("/rolegate.v2.AuthzService/Check", ""),
            Code::Unimplemented,
            "METHOD_NOT_FOUND",
        ),
        (
            "a method that is not there",
            request("/rolegate.v1.AuthzService/Chek", ""),
            Code::Unimplemented,
            "METHOD_NOT_FOUND",
        ),
        ("another type", request(CHECK, "\u{8}\u{1}"), Code::InvalidArgument, "MALFORMED_MESSAGE"),
        ("a cut message", request(CHECK, "\n\u{7f}x"), Code::InvalidArgument, "MALFORMED_MESSAGE"),
        (
            "a cut frame",
            framed(CHECK, "\0\0\0\0\u{5}x"),
            Code::InvalidArgument,
            "MALFORMED_MESSAGE",
        ),
        ("no message", framed(CHECK, ""), Code::InvalidArgument, "MALFORMED_MESSAGE"),
        (
            "a strange flag",
            framed(CHECK, "\u{7}\0\0\0\0"),
            Code::InvalidArgument,
            "MALFORMED_MESSAGE",
        ),
        ("an unknown compression", zipped, Code::Unimplemented, "MALFORMED_MESSAGE"),
        (
            "a large message",
            request(CHECK, &"x".repeat(1_024)),
            Code::ResourceExhausted,
            "MESSAGE_TOO_LARGE",
        ),
        // Ours already; it stays as it is.
        ("nothing in the fields", request(CHECK, ""), Code::InvalidArgument, "FIELD_REQUIRED"),
    ] {
        let response = edge.call(request).await.unwrap();
        assert_eq!(said(&response), (code, reason.to_owned()), "{what}");
        if reason == "MESSAGE_TOO_LARGE" {
            let info = status(&response).get_details_error_info().unwrap();
            assert_eq!(info.metadata["limit_bytes"], "1000");
        }
    }
}

/// A service that answers after a while, with these headers.
#[derive(Clone)]
struct Slow(Duration, &'static [(&'static str, &'static str)]);

impl Service<Request<Body>> for Slow {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Request<Body>) -> Self::Future {
        let Slow(time, headers) = self.clone();
        Box::pin(async move {
            tokio::time::sleep(time).await;
            let mut response = Response::new(Body::default());
            for (name, value) in headers {
                response.headers_mut().insert(*name, value.parse().unwrap());
            }
            Ok(response)
        })
    }
}

async fn through_the_edge(
    limits: EdgeLimits,
    slow: Slow,
    deadline: Option<&str>,
) -> Response<Body> {
    let mut request = request(CHECK, "");
    if let Some(deadline) = deadline {
        request.headers_mut().insert("grpc-timeout", deadline.parse().unwrap());
    }
    EdgeLayer::new(limits).layer(slow).call(request).await.unwrap()
}

#[test]
fn deadlines() {
    for (text, deadline) in [
        ("2H", Some(Duration::from_secs(7_200))),
        ("3M", Some(Duration::from_secs(180))),
        ("4S", Some(Duration::from_secs(4))),
        ("5m", Some(Duration::from_millis(5))),
        ("6u", Some(Duration::from_micros(6))),
        ("7n", Some(Duration::from_nanos(7))),
        ("99999999H", Some(Duration::from_secs(99_999_999 * 3_600))),
        ("123456789m", None),
        ("", None),
        ("S", None),
        ("1", None),
        ("-1S", None),
        ("+1S", None),
        ("1s", None),
        ("soon", None),
    ] {
        let headers = [("grpc-timeout".parse().unwrap(), text.parse().unwrap())];
        assert_eq!(edge::deadline(&headers.into_iter().collect()), deadline, "{text}");
    }
}

#[tokio::test]
async fn time_is_up_at_the_callers_deadline_or_ours() {
    let never = || Slow(Duration::MAX, &[]);
    let ours = EdgeLimits { time: Duration::from_millis(20), ..LIMITS };
    for (limits, deadline) in
        [(ours, None), (ours, Some("100S")), (ours, Some("soon")), (LIMITS, Some("20m"))]
    {
        let response = through_the_edge(limits, never(), deadline).await;
        let timed_out = (Code::DeadlineExceeded, "TIMED_OUT".to_owned());
        assert_eq!(said(&response), timed_out, "{deadline:?}");
        assert_eq!(response.headers()["content-type"], "application/grpc");
    }
}

#[tokio::test]
async fn time_runs_from_the_beginning_of_a_call_that_was_waited_for() {
    let minute = Duration::from_secs(60);
    let ours = EdgeLimits { time: minute, ..LIMITS };
    for (limits, deadline) in
        [(ours, None), (EdgeLimits { time: 2 * minute, ..LIMITS }, Some("60S"))]
    {
        let mut request = request(CHECK, "");
        if let Some(deadline) = deadline {
            request.headers_mut().insert("grpc-timeout", deadline.parse().unwrap());
        }
        let begun = Instant::now().checked_sub(minute).unwrap();
        request.extensions_mut().insert(edge::Begun(begun));
        let answer = EdgeLayer::new(limits).layer(Slow(Duration::MAX, &[])).call(request);
        let response =
            tokio::time::timeout(minute / 2, answer).await.expect("it has a minute more");
        assert_eq!(said(&response.unwrap()).0, Code::DeadlineExceeded);
    }
}

#[tokio::test]
async fn other_services_and_good_answers_are_left_alone() {
    for headers in [
        &[][..],
        &[("grpc-status", "0")],
        // As the health service answers for a service that it does not know.
        &[("grpc-message", "service not registered"), ("grpc-status", "5")],
        &[("grpc-status", "13"), ("grpc-status-details-bin", "")],
    ] {
        let response = through_the_edge(LIMITS, Slow(Duration::ZERO, headers), None).await;
        let mut left: Vec<_> = response
            .headers()
            .iter()
            .map(|(name, value)| (name.as_str(), value.to_str().unwrap()))
            .filter(|(name, _)| *name != "grpc-accept-encoding")
            .collect();
        left.sort_unstable();
        assert_eq!(left, headers);
    }
}
