//! The outermost layer: counts every call with the code that it ended with, whoever made that code.
//!
//! Of a unary call that succeeds, and of every stream, the code stands in the trailers behind the
//! body. So a call is counted when its body is done with, and as cancelled when it never came to
//! its trailers.

mod counts;

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use http::header::HeaderMap;
use http::{Request, Response};
use http_body::{Body, Frame, SizeHint};
use tonic::Code;
use tower::{Layer, Service};

use super::edge::Begun;

pub use counts::{CODES, LatencySnapshot, MethodCounts, RpcCounts};

/// Puts a [`Meter`] around a service.
#[derive(Debug, Clone)]
pub struct MeterLayer {
    counts: Arc<RpcCounts>,
}

impl MeterLayer {
    /// Counts here.
    #[must_use]
    pub fn new(counts: Arc<RpcCounts>) -> Self {
        MeterLayer { counts }
    }
}

impl<S> Layer<S> for MeterLayer {
    type Service = Meter<S>;

    fn layer(&self, inner: S) -> Self::Service {
        Meter { inner, counts: Arc::clone(&self.counts) }
    }
}

/// Counts every call.
#[derive(Debug, Clone)]
pub struct Meter<S> {
    inner: S,
    counts: Arc<RpcCounts>,
}

impl<S> Meter<S> {
    /// A call of this path that begins now. To go on with.
    #[must_use]
    pub fn begin(&self, path: &str) -> CallUnderWay {
        CallUnderWay::begun(self.counts.method(path), Instant::now())
    }

    /// Goes on with a call that was under way before it came here. Its time has been running.
    pub fn go_on<B>(
        &mut self,
        call: CallUnderWay,
        mut request: Request<B>,
    ) -> MeteredFuture<S::Future>
    where
        S: Service<Request<B>>,
    {
        request.extensions_mut().insert(Begun(call.begun));
        MeteredFuture { inner: self.inner.call(request), call: Some(call) }
    }
}

impl<S, B, R> Service<Request<B>> for Meter<S>
where
    S: Service<Request<B>, Response = Response<R>>,
    S::Future: Unpin,
{
    type Response = Response<MeteredBody<R>>;
    type Error = S::Error;
    type Future = MeteredFuture<S::Future>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let call = self.begin(request.uri().path());
        MeteredFuture { inner: self.inner.call(request), call: Some(call) }
    }
}

/// A call until its answer begins.
#[derive(Debug)]
pub struct MeteredFuture<F> {
    inner: F,
    call: Option<CallUnderWay>,
}

impl<F, R, E> Future for MeteredFuture<F>
where
    F: Future<Output = Result<Response<R>, E>> + Unpin,
{
    type Output = Result<Response<MeteredBody<R>>, E>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let answer = ready!(Pin::new(&mut self.inner).poll(context));
        let mut call = self.call.take();
        if let Some(call) = &mut call {
            match &answer {
                Ok(response) => call.answered(response),
                Err(_) => call.code = Code::Unknown,
            }
        }
        Poll::Ready(answer.map(|response| response.map(|inner| MeteredBody { inner, call })))
    }
}

/// The body of an answer, watched for its trailers.
#[derive(Debug, Default)]
pub struct MeteredBody<R> {
    inner: R,
    call: Option<CallUnderWay>,
}

impl<R: Body + Unpin> Body for MeteredBody<R> {
    type Data = R::Data;
    type Error = R::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<R::Data>, R::Error>>> {
        let frame = ready!(Pin::new(&mut self.inner).poll_frame(context));
        if let Some(call) = &mut self.call {
            match &frame {
                Some(Ok(frame)) => {
                    if let Some(code) = frame.trailers_ref().and_then(code_of) {
                        call.code = code;
                    }
                }
                Some(Err(_)) => call.code = Code::Unknown,
                None => {}
            }
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

/// A call under way. It is counted as ended when it is dropped: as cancelled, if nothing else was said.
#[derive(Debug)]
pub struct CallUnderWay {
    method: Arc<MethodCounts>,
    begun: Instant,
    code: Code,
}

impl CallUnderWay {
    /// One that began then.
    #[must_use]
    pub fn begun(method: &Arc<MethodCounts>, begun: Instant) -> Self {
        method.begin();
        CallUnderWay { method: Arc::clone(method), begun, code: Code::Cancelled }
    }

    /// It was answered, and all of the answer is there.
    pub fn succeeded(mut self) {
        self.method.answered(self.begun.elapsed());
        self.code = Code::Ok;
    }

    /// Whether there is such a method.
    #[must_use]
    pub fn is_of_a_method(&self) -> bool {
        self.method.name() != counts::UNKNOWN
    }

    /// It was refused before anything was done for it.
    pub fn refused(mut self, code: Code) {
        self.method.answered(self.begun.elapsed());
        self.code = code;
    }

    /// Its answer has begun and ends when the client wants.
    pub fn goes_on(&mut self) {
        self.method.answered(self.begun.elapsed());
    }

    fn answered<R>(&mut self, response: &Response<R>) {
        self.method.answered(self.begun.elapsed());
        if let Some(code) = code_of(response.headers()) {
            self.code = code;
        } else if !response.status().is_success() {
            // Not gRPC: there will be no trailers.
            self.code = Code::Unknown;
        }
    }
}

impl Drop for CallUnderWay {
    fn drop(&mut self) {
        self.method.end(self.code);
    }
}

fn code_of(headers: &HeaderMap) -> Option<Code> {
    headers.get("grpc-status").map(|status| Code::from_bytes(status.as_bytes()))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::grpc::pb;

    /// Ends with these trailers, if any.
    struct Scripted(Vec<Frame<bytes::Bytes>>);

    impl Body for Scripted {
        type Data = bytes::Bytes;
        type Error = std::convert::Infallible;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<bytes::Bytes>, Self::Error>>> {
            Poll::Ready(self.0.pop().map(Ok))
        }
    }

    fn trailers(code: &'static str) -> Frame<bytes::Bytes> {
        let mut headers = HeaderMap::new();
        headers.insert("grpc-status", code.parse().unwrap());
        Frame::trailers(headers)
    }

    async fn call(
        counts: &Arc<RpcCounts>,
        path: &str,
        answer: impl FnOnce() -> Response<Scripted> + Send + 'static,
    ) -> Response<MeteredBody<Scripted>> {
        let mut answer = Some(answer);
        let service = tower::service_fn(move |_: Request<()>| {
            let answer = answer.take().unwrap();
            Box::pin(async move { Ok::<_, std::convert::Infallible>(answer()) })
        });
        let request = Request::builder().uri(path).body(()).unwrap();
        MeterLayer::new(Arc::clone(counts)).layer(service).call(request).await.unwrap()
    }

    #[tokio::test]
    async fn a_call_that_was_waited_for_is_one_call_from_its_beginning_on() {
        let counts = Arc::new(RpcCounts::of(&[pb::DESCRIPTORS]).unwrap());
        let service = tower::service_fn(|request: Request<()>| {
            let Begun(begun) = request.extensions().get().unwrap();
            assert!(begun.elapsed() >= Duration::from_secs(9));
            std::future::ready(Ok::<_, std::convert::Infallible>(Response::new(Scripted(vec![
                trailers("0"),
            ]))))
        });
        let mut meter = MeterLayer::new(Arc::clone(&counts)).layer(service);
        let begun = Instant::now().checked_sub(Duration::from_secs(9)).unwrap();
        let call = CallUnderWay::begun(counts.method("/rolegate.v1.AuthzService/Check"), begun);
        assert_eq!(counts.called()[0].open(), 1);
        let mut response = meter.go_on(call, Request::new(())).await.unwrap();
        assert_eq!(counts.called()[0].open(), 1);
        let mut context = Context::from_waker(std::task::Waker::noop());
        while let Poll::Ready(Some(_)) = Pin::new(response.body_mut()).poll_frame(&mut context) {}
        drop(response);
        assert_eq!(ended(&counts, "rolegate.v1.AuthzService/Check"), [("OK", 1)]);
        let latency = counts.called()[0].latency().unwrap();
        assert!(latency.count == 1 && latency.sum >= 9.0, "{latency:?}");
    }

    fn ended(counts: &RpcCounts, name: &str) -> Vec<(&'static str, u64)> {
        let called = counts.called();
        let method = called.iter().find(|method| method.name() == name).unwrap();
        method.ended().filter(|(_, count)| *count > 0).collect()
    }

    #[tokio::test]
    async fn a_call_ends_with_the_code_of_its_trailers_or_as_cancelled() {
        const CHECK: &str = "/rolegate.v1.AuthzService/Check";
        let counts = Arc::new(RpcCounts::of(&[pb::DESCRIPTORS]).unwrap());
        let body = |frames| move || Response::new(Scripted(frames));
        let mut response =
            call(&counts, CHECK, body(vec![trailers("0"), Frame::data("x".into())])).await;
        let mut context = Context::from_waker(std::task::Waker::noop());
        assert_eq!(counts.called()[0].open(), 1);
        while let Poll::Ready(Some(_)) = Pin::new(response.body_mut()).poll_frame(&mut context) {}
        drop(response);
        assert_eq!(counts.called()[0].open(), 0);
        // Read halfway, and left.
        let mut response =
            call(&counts, CHECK, body(vec![trailers("0"), Frame::data("x".into())])).await;
        assert!(Pin::new(response.body_mut()).poll_frame(&mut context).is_ready());
        drop(response);
        // Refused before there was a body.
        drop(
            call(&counts, CHECK, || {
                let mut response = Response::new(Scripted(Vec::new()));
                response.headers_mut().insert("grpc-status", "3".parse().unwrap());
                response
            })
            .await,
        );
        let expected = [("OK", 1), ("CANCELLED", 1), ("INVALID_ARGUMENT", 1)];
        assert_eq!(ended(&counts, "rolegate.v1.AuthzService/Check"), expected);
        assert_eq!(counts.called()[0].latency().unwrap().count, 3);
    }

    #[tokio::test]
    async fn paths_that_nobody_serves_share_one_name() {
        let counts = Arc::new(RpcCounts::of(&[pb::DESCRIPTORS]).unwrap());
        for path in ["/a", "/b", "/rolegate.v1.AuthzService/check"] {
            drop(
                call(&counts, path, || {
                    let mut response = Response::new(Scripted(Vec::new()));
                    *response.status_mut() = http::StatusCode::NOT_FOUND;
                    response
                })
                .await,
            );
        }
        assert_eq!(counts.called().len(), 1);
        assert_eq!(ended(&counts, "unknown"), [("UNKNOWN", 3)]);
    }
}
