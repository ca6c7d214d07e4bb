//! What is answered from memory in bulk is, byte for byte, what the service behind would answer.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body::Frame;
use http_body_util::{BodyExt as _, StreamBody};
use proptest::prelude::Rng as _;
use proptest::test_runner::{RngAlgorithm, TestRng};
use prost::Message;
use tonic::Status;
use tonic::body::Body;
use tonic::codegen::BoxFuture;
use tower::Service;

use super::check_stream::{Bench, framed, question};
use crate::grpc::{AuthzApi, AuthzServiceServer, Bulk, pb};
use crate::service::caller::Caller;
use crate::store::{Cached, SqlStore};

const BATCH: &str = "/rolegate.v1.AuthzService/BatchCheck";
const FILTER: &str = "/rolegate.v1.AuthzService/FilterResources";
const LIMIT: usize = 4 << 20;

/// The service behind, and how often it was asked.
#[derive(Clone)]
struct Behind(AuthzServiceServer<AuthzApi<SqlStore>>, Arc<AtomicUsize>);

impl Service<Request<Body>> for Behind {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<Response<Body>, Infallible>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        self.1.fetch_add(1, Ordering::Relaxed);
        self.0.call(request)
    }
}

fn services(bench: &Bench) -> (Behind, Bulk<Behind, Cached>) {
    let server = AuthzServiceServer::new(bench.apis.authz.clone()).max_decoding_message_size(LIMIT);
    let behind = Behind(server, Arc::default());
    (behind.clone(), Bulk::before(behind, bench.decisions.clone(), LIMIT))
}

/// A request in pieces of so many bytes.
fn request(path: &str, bytes: &[u8], size: usize) -> Request<Body> {
    let pieces: Vec<_> = bytes
        .chunks(size)
        .map(|piece| Ok::<_, Infallible>(Frame::data(Bytes::copy_from_slice(piece))))
        .collect();
    let body = Body::new(StreamBody::new(tokio_stream::iter(pieces)));
    let mut request = Request::post(path)
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(body)
        .unwrap();
    request.extensions_mut().insert(Arc::new(Caller::development()));
    request
}

/// The headers, the bytes and the trailers of an answer.
async fn answer<S>(service: &mut S, request: Request<Body>) -> (HeaderMap, Bytes, HeaderMap)
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>,
{
    let (mut parts, body) = service.call(request).await.unwrap().into_parts();
    // Its metadata stand in any order.
    parts.headers.remove("grpc-status-details-bin");
    let body = body.collect().await.unwrap();
    let trailers = body.trailers().cloned().unwrap_or_default();
    (parts.headers, body.to_bytes(), trailers)
}

fn batch(rng: &mut TestRng, items: usize) -> Vec<u8> {
    let (tenant_id, _) = question(rng);
    let item = |_| {
        let (_, item) = question(rng);
        let pb::CheckStreamItem { correlation_id: _, member_id, permission, resource } = item;
        pb::CheckItem { member_id, permission, resource }
    };
    let items = (0..items).map(item).collect();
    pb::BatchCheckRequest { tenant_id, items, consistency: None }.encode_to_vec()
}

fn filter(rng: &mut TestRng, resources: usize) -> Vec<u8> {
    let (tenant_id, one) = question(rng);
    let resource = |number| {
        let resource = question(rng).1.resource.unwrap_or_default();
        let id = if number == 7 && resource.public == Some(true) { 0 } else { number + 1 };
        pb::Resource { id: "r".repeat(id), ..resource }
    };
    let resources = (0..resources).map(resource).collect();
    let pb::CheckStreamItem { member_id, permission, .. } = one;
    pb::FilterResourcesRequest { tenant_id, member_id, permission, resources, consistency: None }
        .encode_to_vec()
}

#[tokio::test]
async fn every_answer_is_that_of_the_service_behind() {
    let bench = Bench::new().await;
    let (mut behind, mut bulk) = services(&bench);
    let mut rng = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
    for member in ["kim", "lee", "owner", "nobody"] {
        let tenants = ["acme", "other"].map(|id| (id.to_owned(), member.to_owned()));
        for (tenant, member) in tenants {
            let tenant = crate::domain::ids::TenantId::trusted(&tenant);
            let member = crate::domain::ids::MemberId::trusted(&member);
            let consistency = crate::service::token::Consistency::MinimizeLatency;
            bench.decisions.effective(&tenant, &member, &consistency).await.unwrap();
        }
    }
    let (mut asked, mut at_hand) = ([0, 0], [0, 0]);
    for round in 0..1_500 {
        let kind = round % 2;
        let size = rng.next_u32() as usize % 4;
        let message = if kind == 0 { batch(&mut rng, size) } else { filter(&mut rng, size * 4) };
        let path = [BATCH, FILTER][kind];
        let bytes = framed(&message);
        let before = behind.1.load(Ordering::Relaxed);
        let pieces = if round % 5 == 0 { 7 } else { bytes.len() };
        let ours = answer(&mut bulk, request(path, &bytes, pieces)).await;
        asked[kind] += 1;
        at_hand[kind] += usize::from(behind.1.load(Ordering::Relaxed) == before);
        let theirs = answer(&mut behind, request(path, &bytes, bytes.len())).await;
        assert_eq!(ours, theirs, "{path} {message:?}");
    }
    // Enough of each went either way to mean something.
    for (asked, at_hand) in asked.into_iter().zip(at_hand) {
        assert!(at_hand > 50 && asked - at_hand > 50, "{at_hand} of {asked} at hand");
    }
}

/// Whatever is not one whole message goes on as it came.
#[tokio::test]
async fn what_is_not_one_message_is_left_to_the_service_behind() {
    let bench = Bench::new().await;
    let (mut behind, mut bulk) = services(&bench);
    let sound = framed(
        &pb::BatchCheckRequest { tenant_id: "acme".into(), ..Default::default() }.encode_to_vec(),
    );
    let mut too_large = framed(&vec![0; LIMIT + 1]);
    let announced = too_large.clone();
    too_large.extend(&[0; 100_000]);
    let mut compressed = sound.clone();
    compressed[0] = 1;
    for (what, bytes) in [
        ("nothing", vec![]),
        ("half a header", sound[..3].to_vec()),
        ("half a message", sound[..8].to_vec()),
        ("two messages", [&sound[..], &sound].concat()),
        ("a compressed message", compressed),
        ("a message that is too large", announced),
        ("more than a message may be", too_large),
        ("no message", framed(&[0x0a])),
    ] {
        let ours = answer(&mut bulk, request(BATCH, &bytes, 16_000)).await;
        let theirs = answer(&mut behind, request(BATCH, &bytes, 16_000)).await;
        assert_eq!(ours, theirs, "{what}");
    }
    let encoded = || {
        let mut request = request(BATCH, &sound, 100);
        request.headers_mut().insert("grpc-encoding", "zstd".parse().unwrap());
        request
    };
    assert_eq!(answer(&mut bulk, encoded()).await, answer(&mut behind, encoded()).await);
    // A body that breaks is broken behind as well, in the same words.
    let broken = || {
        let frames =
            [Ok(Frame::data(Bytes::copy_from_slice(&sound[..7]))), Err(Status::aborted("x"))];
        request(BATCH, &[], 1).map(|_| Body::new(StreamBody::new(tokio_stream::iter(frames))))
    };
    assert_eq!(answer(&mut bulk, broken()).await, answer(&mut behind, broken()).await);
}
