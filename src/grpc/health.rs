//! The health service of gRPC, answered from memory to everybody: see
//! <https://github.com/grpc/grpc/blob/master/doc/health-checking.md>.
//!
//! A probe proves nothing, so a question is read up to a fixed size that has nothing to do with what
//! callers may send, and nothing that callers share is taken for it.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use prost::Message as _;
use tonic::{Code, Status};
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse};

use super::edge::malformed;
use super::framing::{HEADER, framed};
use crate::service::readiness::{Readiness, Seen};

/// The method that answers once.
pub const CHECK: &str = "/grpc.health.v1.Health/Check";
/// The method that answers on every change.
pub const WATCH: &str = "/grpc.health.v1.Health/Watch";
/// The largest question: the name of a service.
pub const MAX_MESSAGE_BYTES: usize = 1 << 10;

/// Names that may be asked about: the server as a whole, and each service.
const SERVICES: [&str; 5] = [
    "",
    "rolegate.v1.AuthzService",
    "rolegate.v1.MemberService",
    "rolegate.v1.RoleService",
    "rolegate.v1.TenantService",
];

/// Answers about health.
#[derive(Debug, Clone)]
pub struct Health {
    readiness: Readiness,
}

/// A question as far as it came.
#[derive(Debug, PartialEq, Eq)]
pub enum Question<'a> {
    /// More has to come.
    Partial,
    /// All of it.
    Whole(&'a [u8]),
    /// Larger than any may be, or compressed.
    Refused,
}

impl<'a> Question<'a> {
    /// Finds the first message in these bytes of a body.
    #[must_use]
    pub fn of(bytes: &'a [u8]) -> Self {
        let Some(([flag, length @ ..], rest)) = bytes.split_first_chunk::<HEADER>() else {
            return Question::Partial;
        };
        let length = u32::from_be_bytes(*length) as usize;
        if *flag != 0 || length > MAX_MESSAGE_BYTES {
            return Question::Refused;
        }
        rest.get(..length).map_or(Question::Partial, Question::Whole)
    }
}

impl Health {
    /// Tells what this says.
    #[must_use]
    pub fn new(readiness: Readiness) -> Self {
        Health { readiness }
    }

    /// Answers a `Check`: the bytes of the answer with what stands before a message.
    ///
    /// # Errors
    /// The message is none, or there is no such service.
    pub fn check(&self, message: &[u8]) -> Result<Bytes, Status> {
        if is_known(message)? {
            Ok(encoded(self.status()))
        } else {
            Err(Status::not_found("there is no such service"))
        }
    }

    /// Begins to answer a `Watch`.
    ///
    /// # Errors
    /// The message is none.
    pub fn watch(&self, message: &[u8]) -> Result<HealthChanges, Status> {
        let (readiness, is_known) = (self.readiness.clone(), is_known(message)?);
        let change = next_change(readiness.clone(), readiness.watch());
        Ok(HealthChanges { health: self.clone(), is_known, told: None, change: Box::pin(change) })
    }

    fn status(&self) -> ServingStatus {
        match self.readiness.obstacle() {
            None => ServingStatus::Serving,
            Some(_) => ServingStatus::NotServing,
        }
    }
}

fn is_known(message: &[u8]) -> Result<bool, Status> {
    let request = HealthCheckRequest::decode(message);
    let HealthCheckRequest { service } =
        request.map_err(|error| malformed(Code::InvalidArgument, &error.to_string()))?;
    Ok(SERVICES.contains(&service.as_str()))
}

fn encoded(status: ServingStatus) -> Bytes {
    let mut bytes = Vec::with_capacity(HEADER + 2);
    framed(&mut bytes, |to| HealthCheckResponse { status: status.into() }.encode_raw(to));
    bytes.into()
}

/// Answers of one `Watch`: the status, and again whenever another one is to be told.
pub struct HealthChanges {
    health: Health,
    is_known: bool,
    told: Option<ServingStatus>,
    change: Pin<Box<dyn Future<Output = Seen> + Send>>,
}

impl HealthChanges {
    /// The next answer. There is always another one.
    pub fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Bytes> {
        loop {
            let seen = ready!(self.change.as_mut().poll(context));
            // From before the status is read, so that no change is missed.
            self.change = Box::pin(next_change(self.health.readiness.clone(), seen));
            let status = match self.is_known {
                true => self.health.status(),
                // As the protocol has it: the stream stays, for the service may come.
                false => ServingStatus::ServiceUnknown,
            };
            if self.told.replace(status) != Some(status) {
                return Poll::Ready(encoded(status));
            }
        }
    }
}

async fn next_change(readiness: Readiness, mut seen: Seen) -> Seen {
    readiness.changed(&mut seen).await;
    seen
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use super::*;

    fn asking(service: &str) -> Vec<u8> {
        HealthCheckRequest { service: service.into() }.encode_to_vec()
    }

    fn status(bytes: &[u8]) -> ServingStatus {
        HealthCheckResponse::decode(&bytes[HEADER..]).unwrap().status()
    }

    #[test]
    fn a_question_is_small_and_not_compressed() {
        let message = asking("rolegate.v1.AuthzService");
        let mut bytes = Vec::new();
        framed(&mut bytes, |to| to.extend_from_slice(&message));
        for end in 0..bytes.len() {
            assert_eq!(Question::of(&bytes[..end]), Question::Partial);
        }
        assert_eq!(Question::of(&bytes), Question::Whole(&message[..]));
        assert_eq!(Question::of(&[0, 0, 0, 4, 1]), Question::Refused);
        assert_eq!(Question::of(&[0, 0, 0, 4, 0]), Question::Partial);
        assert_eq!(Question::of(&[0, 0, 64, 0, 0]), Question::Refused, "4 MiB are announced");
        assert_eq!(Question::of(&[1, 0, 0, 0, 0]), Question::Refused);
    }

    #[test]
    fn health_is_what_readiness_says_and_changes_are_told_once() {
        let readiness = Readiness::starting();
        let health = Health::new(readiness.clone());
        let mut context = Context::from_waker(Waker::noop());
        let mut known = health.watch(&asking("rolegate.v1.RoleService")).unwrap();
        let mut unknown = health.watch(&asking("no.such.Service")).unwrap();
        let mut told = |changes: &mut HealthChanges| match changes.poll_next(&mut context) {
            Poll::Ready(bytes) => Some(status(&bytes)),
            Poll::Pending => None,
        };
        assert_eq!(status(&health.check(b"").unwrap()), ServingStatus::NotServing);
        assert_eq!(told(&mut known), Some(ServingStatus::NotServing));
        assert_eq!(told(&mut unknown), Some(ServingStatus::ServiceUnknown));
        readiness.hindered(Some("the database does not answer"));
        assert_eq!(told(&mut known), None);
        readiness.hindered(None);
        readiness.started();
        assert_eq!(told(&mut known), Some(ServingStatus::Serving));
        assert_eq!(told(&mut known), None);
        assert_eq!(told(&mut unknown), None);
        assert_eq!(status(&health.check(&asking("")).unwrap()), ServingStatus::Serving);
        assert_eq!(health.check(&asking("x")).unwrap_err().code(), Code::NotFound);
        assert_eq!(health.check(&[0xff]).unwrap_err().code(), Code::InvalidArgument);
        readiness.draining();
        assert_eq!(told(&mut known), Some(ServingStatus::NotServing));
    }
}
