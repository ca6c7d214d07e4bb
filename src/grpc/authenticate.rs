//! The layer that finds out who calls, whether it may call that method at all, and has not asked too
//! much: before the message is read, so before anything in it is looked at.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use http::header::AUTHORIZATION;
use http::{HeaderValue, Request, Response};
use tonic::Status;
use tower::{Layer, Service};

use super::access::{Access, Takes, is_a_question, lasts, may_call};
use super::client::Client;
use super::pb::ErrorReason;
use super::status::refuse;
use crate::service::authentication::{Authenticator, Proof, Recognized, Unproven};

/// Puts an [`Authenticate`] around a service.
#[derive(Debug, Clone)]
pub struct AuthenticateLayer {
    authenticator: Arc<Authenticator>,
    access: Arc<Access>,
}

impl AuthenticateLayer {
    /// Recognizes callers with this.
    #[must_use]
    pub fn new(authenticator: Arc<Authenticator>) -> Self {
        AuthenticateLayer { authenticator, access: Arc::new(Access::of_table()) }
    }
}

impl<S> Layer<S> for AuthenticateLayer {
    type Service = Authenticate<S>;

    fn layer(&self, inner: S) -> Self::Service {
        let AuthenticateLayer { authenticator, access } = self.clone();
        Authenticate { inner, authenticator, access }
    }
}

/// Lets through who is known and may, with the caller in the request's extensions.
#[derive(Debug, Clone)]
pub struct Authenticate<S> {
    inner: S,
    authenticator: Arc<Authenticator>,
    access: Arc<Access>,
}

impl<S, B, R> Service<Request<B>> for Authenticate<S>
where
    S: Service<Request<B>, Response = Response<R>> + Clone + Send + 'static,
    S::Future: Unpin + Send + 'static,
    S::Error: Send + Unpin + 'static,
    B: Send + 'static,
    R: Default + Send + Unpin + 'static,
{
    type Response = Response<R>;
    type Error = S::Error;
    type Future = Authenticated<S::Future, R, S::Error>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let takes = self.access.of(request.uri().path());
        if takes == Some(Takes::Nothing) {
            return Authenticated::Called(self.inner.call(request));
        }
        let mut request = request;
        // Whoever brings a call here may have looked already.
        let found = match request.extensions_mut().remove::<Recognized>() {
            Some(known) => Ok(known),
            None => recognize(&self.authenticator, &request),
        };
        match found {
            Ok(known) => match admit(&self.authenticator, known, takes, request) {
                Ok(request) => Authenticated::Called(self.inner.call(request)),
                Err(status) => Authenticated::Refused(Some(status.into_http())),
            },
            Err(why) => {
                let authenticator = Arc::clone(&self.authenticator);
                let ready = self.inner.clone();
                let mut inner = std::mem::replace(&mut self.inner, ready);
                // Rare, so what it costs does not matter.
                Authenticated::Waiting(Box::pin(async move {
                    let why = if why.could_change().await {
                        match recognize(&authenticator, &request) {
                            Ok(known) => {
                                return match admit(&authenticator, known, takes, request) {
                                    Ok(request) => inner.call(request).await,
                                    Err(status) => Ok(status.into_http()),
                                };
                            }
                            Err(why) => why,
                        }
                    } else {
                        why
                    };
                    let method = if takes.is_some() { request.uri().path() } else { "unknown" };
                    authenticator.refusals().add(&why, method);
                    if let Some(client) = request.extensions().get::<Arc<Client>>() {
                        client.count_refused();
                    }
                    Ok(unauthenticated().into_http())
                }))
            }
        }
    }
}

/// A call that came by no connection has nothing but its headers.
fn recognize<B>(
    authenticator: &Authenticator,
    request: &Request<B>,
) -> Result<Recognized, Unproven> {
    match request.extensions().get::<Arc<Client>>() {
        Some(client) => client.recognize(authenticator, request.headers()),
        None => Client::default().recognize(authenticator, request.headers()),
    }
}

/// The request with its caller, which no handler sees a credential of. A call that lasts keeps its
/// proof, to be asked again.
fn admit<B>(
    authenticator: &Arc<Authenticator>,
    recognized: Recognized,
    takes: Option<Takes>,
    mut request: Request<B>,
) -> Result<Request<B>, Status> {
    let Some(takes) = takes else {
        return Err(super::edge::no_such_method());
    };
    let caller = Arc::clone(&recognized.caller);
    may_call(&caller, takes)?;
    if is_a_question(request.uri().path(), takes) {
        caller.spend(|| 1)?;
    }
    let authorization = request.headers_mut().remove(AUTHORIZATION);
    if lasts(request.uri().path()) {
        let client = request.extensions().get::<Arc<Client>>();
        let peer = client.and_then(|client| client.peer().cloned());
        let authorization = authorization.as_ref().map(HeaderValue::as_bytes);
        let proof = Proof::new(Arc::clone(authenticator), peer, authorization, recognized);
        request.extensions_mut().insert(proof);
    }
    request.extensions_mut().insert(caller);
    Ok(request)
}

/// For a call of nobody that is known. The same for all of them.
pub fn unauthenticated() -> Status {
    refuse(
        ErrorReason::CallerUnauthenticated,
        "The call does not prove who makes it. Prove it with a client certificate, or with one \
         header `authorization: Bearer TOKEN`, as the server's callers file has it. The server's log \
         tells its operator what was wrong.",
        &[],
    )
}

/// An answer that begins once it is known who asks.
pub enum Authenticated<F, R, E> {
    /// By the service.
    Called(F),
    /// By this layer.
    Refused(Option<Response<R>>),
    /// When more is known of the credential.
    Waiting(Pin<Box<dyn Future<Output = Result<Response<R>, E>> + Send>>),
}

impl<F, R, E> Future for Authenticated<F, R, E>
where
    F: Future<Output = Result<Response<R>, E>> + Unpin,
    R: Default + Unpin,
    E: Unpin,
{
    type Output = Result<Response<R>, E>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        Poll::Ready(match self.get_mut() {
            Authenticated::Called(future) => ready!(Pin::new(future).poll(context)),
            Authenticated::Waiting(future) => ready!(future.as_mut().poll(context)),
            Authenticated::Refused(response) => Ok(response.take().unwrap_or_default()),
        })
    }
}
