//! The calls of a connection, each to where it is answered: on this thread what is decided from what
//! is at hand, elsewhere what begins with the database.

use std::cell::RefCell;
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::{Request, Response};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::runtime::Handle;
use tokio::task::JoinHandle;
use tower::Service as _;

use super::minder::Activity;
use crate::grpc::AuthzApi;
use crate::grpc::api::{Api, ApiBody, is_decided_at_hand};
use crate::grpc::authenticate::PeerInfo;
use crate::grpc::status::internal;
use crate::service::authentication::Peer;
use crate::store::Cached;

/// Everything that can be called.
pub(super) type Everything = Api<AuthzApi<Cached>>;
type Answer = Result<Response<ApiBody>, Infallible>;
type Answering = <Everything as tower::Service<Request<Incoming>>>::Future;

/// Answers the calls of one connection.
pub(super) struct Calls {
    api: RefCell<Everything>,
    elsewhere: Handle,
    peer: Option<Arc<Peer>>,
    activity: Arc<Activity>,
}

impl Calls {
    /// Of a client that is this peer.
    pub(super) fn new(
        api: Everything,
        elsewhere: Handle,
        peer: Option<Arc<Peer>>,
        activity: Arc<Activity>,
    ) -> Self {
        Calls { api: RefCell::new(api), elsewhere, peer, activity }
    }
}

impl hyper::service::Service<Request<Incoming>> for Calls {
    type Response = Response<CallBody>;
    type Error = Infallible;
    type Future = Call;

    fn call(&self, mut request: Request<Incoming>) -> Call {
        self.activity.begin();
        let decided_here = is_decided_at_hand(request.uri().path());
        request.extensions_mut().insert(PeerInfo(self.peer.clone()));
        let answer = if decided_here {
            Where::Here(self.api.borrow_mut().call(request))
        } else {
            let mut api = self.api.borrow().clone();
            Where::Elsewhere(self.elsewhere.spawn(async move { api.call(request).await }))
        };
        Call { answer, activity: Arc::clone(&self.activity) }
    }
}

/// A call until its answer begins. Dropping it ends it.
pub(super) struct Call {
    answer: Where,
    activity: Arc<Activity>,
}

enum Where {
    Here(Answering),
    Elsewhere(JoinHandle<Answer>),
}

impl Future for Call {
    type Output = Result<Response<CallBody>, Infallible>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let answer = match &mut self.answer {
            Where::Here(answer) => ready!(Pin::new(answer).poll(context)),
            Where::Elsewhere(answer) => match ready!(Pin::new(answer).poll(context)) {
                Ok(answer) => answer,
                // Nobody aborts it but ourselves, when nobody is left to be answered.
                Err(error) => Ok(internal(&format!("a call ended by itself: {error}")).into_http()),
            },
        };
        let activity = Arc::clone(&self.activity);
        Poll::Ready(
            answer.map(|answer| answer.map(|inner| CallBody { inner, _activity: activity })),
        )
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        if let Where::Elsewhere(answer) = &self.answer {
            answer.abort();
        }
    }
}

/// The body of an answer. Its connection is not idle while there is one.
pub(super) struct CallBody {
    inner: ApiBody,
    _activity: Arc<Activity>,
}

impl Body for CallBody {
    type Data = Bytes;
    type Error = tonic::Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, tonic::Status>>> {
        Pin::new(&mut self.inner).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
