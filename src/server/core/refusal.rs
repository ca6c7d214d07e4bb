//! Who calls on one connection, found out from the heads of its calls before anything else of them is
//! read or handed on. A call of nobody known gets an answer that was made once, and a connection that
//! goes on with such calls ends: a refusal must cost little, to us and to whoever calls beside.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock, Weak};

use http::Response;
use http::header::HeaderMap;
use tonic::Code;

use super::calls::CallBody;
use crate::grpc::authenticate::unauthenticated;
use crate::grpc::client::Client;
use crate::grpc::meter::CallUnderWay;
use crate::server::limits::Place;
use crate::server::strangers::{MAX_REFUSED, Why};
use crate::service::authentication::{Authenticator, Recognized, Unproven};

/// The same for every call.
static ANSWER: LazyLock<HeaderMap> =
    LazyLock::new(|| unauthenticated().into_http::<()>().into_parts().0.headers);

/// Recognizes the callers of one connection.
pub(super) struct Gate {
    authenticator: Arc<Authenticator>,
    client: Arc<Client>,
    /// Whether a caller has called.
    is_known: AtomicBool,
    place: Weak<Place>,
}

impl Gate {
    /// Of the connection that has this place.
    pub(super) fn new(
        authenticator: Arc<Authenticator>,
        client: Arc<Client>,
        place: &Arc<Place>,
    ) -> Self {
        Gate {
            authenticator,
            client,
            is_known: AtomicBool::new(false),
            place: Arc::downgrade(place),
        }
    }

    /// Whether some caller has called.
    pub(super) fn is_known(&self) -> bool {
        self.is_known.load(Ordering::Relaxed)
    }

    /// Who makes a call of this head.
    pub(super) fn recognize(&self, headers: &HeaderMap) -> Result<Recognized, Unproven> {
        self.end_if_refused();
        let recognized = self.client.recognize(&self.authenticator, headers)?;
        if !self.is_known.swap(true, Ordering::Relaxed)
            && let Some(place) = self.place.upgrade()
        {
            place.is_of_a_caller();
        }
        Ok(recognized)
    }

    /// Refuses a call of this method.
    pub(super) fn refuse(
        &self,
        why: &Unproven,
        method: &str,
        call: CallUnderWay,
    ) -> Response<CallBody> {
        self.authenticator.refusals().add(why, method);
        call.refused(Code::Unauthenticated);
        self.count();
        let mut response = Response::new(CallBody::default());
        *response.headers_mut() = ANSWER.clone();
        response
    }

    /// Counts a call that was refused from its head, whoever made it.
    pub(super) fn count(&self) {
        self.client.count_refused();
        self.end_if_refused();
    }

    /// Those that had to wait were counted where they did.
    fn end_if_refused(&self) {
        if self.client.refused_in_a_row() >= MAX_REFUSED {
            self.end(Why::Refused);
        }
    }

    /// Ends the connection.
    pub(super) fn end(&self, why: Why) {
        if let Some(place) = self.place.upgrade() {
            place.ending.ask(why);
        }
    }
}
