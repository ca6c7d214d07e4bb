//! All methods of the port, and what stands before each: counting, time, who calls, room.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use http::{Request, Response};
use tonic::body::Body;
use tonic::service::Routes;
use tower::{Layer, Service};

use super::admission::{Admission, AdmissionLayer, Held, Room};
use super::authenticate::{Authenticate, AuthenticateLayer};
use super::bulk::Bulk;
use super::check_stream::{CheckStreams, WithCheckStream};
use super::edge::{Edge, EdgeLayer, EdgeLimits};
use super::meter::{Meter, MeterLayer, MeteredBody, RpcCounts};
use super::{
    AuthzApi, AuthzServiceServer, MemberApi, MemberServiceServer, RoleApi, RoleServiceServer,
    TenantApi, TenantServiceServer,
};
use crate::service::authentication::Authenticator;
use crate::service::decide::Decisions;
use crate::store::DecisionSource;

/// The service that decides.
const AUTHZ: &str = "/rolegate.v1.AuthzService/";

/// Every method, behind what all of them share.
pub type Api<S> = Meter<Edge<Authenticate<Admission<Methods<S>>>>>;
/// The body of an answer.
pub type ApiBody = MeteredBody<Held<Body>>;

/// What all methods share.
#[derive(Debug, Clone)]
pub struct Shared {
    /// Counts calls.
    pub rpcs: Arc<RpcCounts>,
    /// What a call may take.
    pub limits: EdgeLimits,
    /// Recognizes callers.
    pub authenticator: Arc<Authenticator>,
    /// What all calls may take together.
    pub room: Arc<Room>,
}

impl Shared {
    /// Puts what is shared before the methods.
    pub fn around<S: DecisionSource>(&self, methods: Methods<S>) -> Api<S> {
        let Shared { rpcs, limits, authenticator, room } = self.clone();
        let admission = AdmissionLayer::new(room, limits.message_bytes).layer(methods);
        let authenticate = AuthenticateLayer::new(authenticator).layer(admission);
        MeterLayer::new(rpcs).layer(EdgeLayer::new(limits).layer(authenticate))
    }
}

/// Every method.
#[derive(Debug)]
pub struct Methods<S> {
    /// Not among the others: it is asked far more often, and has no need of a router.
    authz: WithCheckStream<Bulk<AuthzServiceServer<AuthzApi<S>>, S>, S>,
    others: Routes,
}

impl<S> Clone for Methods<S> {
    fn clone(&self) -> Self {
        Methods { authz: self.authz.clone(), others: self.others.clone() }
    }
}

impl<S: DecisionSource> Methods<S> {
    /// Our services, for messages of up to so many bytes.
    pub fn new(
        authz: AuthzApi<S>,
        (streams, decisions): (&CheckStreams, Decisions<S>),
        roles: RoleApi,
        tenants: TenantApi,
        members: MemberApi,
        message_bytes: usize,
    ) -> Self {
        let authz = AuthzServiceServer::new(authz).max_decoding_message_size(message_bytes);
        let roles = RoleServiceServer::new(roles).max_decoding_message_size(message_bytes);
        let tenants = TenantServiceServer::new(tenants).max_decoding_message_size(message_bytes);
        let members = MemberServiceServer::new(members).max_decoding_message_size(message_bytes);
        let authz = Bulk::before(authz, decisions.clone(), message_bytes);
        Methods {
            authz: streams.before(authz, decisions, message_bytes),
            others: Routes::new(roles).add_service(tenants).add_service(members),
        }
    }

    /// And those that every gRPC server has.
    #[must_use]
    pub fn and(self, others: impl FnOnce(Routes) -> Routes) -> Self {
        Methods { others: others(self.others).prepare(), ..self }
    }
}

impl<S: DecisionSource> Service<Request<Body>> for Methods<S> {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        // None of them ever is not.
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        if request.uri().path().starts_with(AUTHZ) {
            self.authz.call(request)
        } else {
            Box::pin(self.others.call(request))
        }
    }
}

/// Whether a method is answered from what is at hand, as a rule. All others begin with the database.
#[must_use]
pub fn is_decided_at_hand(path: &str) -> bool {
    matches!(
        path.strip_prefix(AUTHZ),
        Some(
            "Check"
                | "BatchCheck"
                | "CheckStream"
                | "FilterResources"
                | "PlanFilter"
                | "ListEffectivePermissions"
        )
    )
}
