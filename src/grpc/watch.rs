//! `Watch`: a stream as messages.

use std::collections::BTreeSet;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tokio_stream::Stream;
use tonic::Status;

use super::access::still;
use super::fields::{Fields, Path};
use super::{pb, show};
use crate::domain::refusal::Refusal;
use crate::service::ServiceError;
use crate::service::authentication::Proof;
use crate::service::caller::{Caller, Capability};
use crate::service::watch::{
    Delivery, MAX_TENANTS, RightsLost, WatchQuery, WatchedChange, Watching,
};
use crate::store::Touched;

/// What a client wants to watch.
pub(super) fn query(mut fields: Fields, request: pb::WatchRequest) -> Result<WatchQuery, Refusal> {
    let pb::WatchRequest { tenant_ids, cursor } = request;
    let path = Path::from("tenant_ids");
    let tenants = fields
        .at_most(MAX_TENANTS, path, tenant_ids)
        .and_then(|tenants| fields.tenants(path, &tenants))
        .map(BTreeSet::from_iter);
    let (tenants,) = fields.all((tenants,))?;
    Ok(WatchQuery { tenants, cursor })
}

/// What the caller may see, whenever it is asked. Without a proof nothing is watched, whatever the
/// server forgot.
pub(super) fn rights(
    proof: Option<Proof>,
) -> Result<impl Fn() -> Result<Arc<Caller>, RightsLost> + Send + Sync + 'static, Status> {
    let nothing = || ServiceError::Internal("a Watch came without a proof".to_owned());
    let proof = proof.ok_or_else(nothing)?;
    Ok(move || still(&proof, Capability::Watch))
}

/// The messages of one stream.
#[derive(Debug)]
pub struct WatchStream(Watching);

impl WatchStream {
    pub(super) fn new(watching: Watching) -> Self {
        WatchStream(watching)
    }
}

impl Stream for WatchStream {
    type Item = Result<pb::WatchResponse, Status>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let next = ready!(self.0.poll_next(context));
        Poll::Ready(next.map(|next| next.map(response).map_err(Status::from)))
    }
}

fn response(Delivery { changes, cursor }: Delivery) -> pb::WatchResponse {
    pb::WatchResponse { changes: changes.iter().map(change).collect(), cursor }
}

fn change(change: &Arc<WatchedChange>) -> pb::TenantChange {
    let WatchedChange { tenant, token, at, touched, .. } = &**change;
    use pb::tenant_change::Touched as Shown;
    let touched = match touched {
        Touched::Members(ids) => {
            Shown::Members(pb::ChangedMembers { member_ids: show::member_ids(ids) })
        }
        Touched::Roles(ids) => Shown::Roles(pb::ChangedRoles { role_ids: show::role_ids(ids) }),
        Touched::Nothing => Shown::Nothing(pb::ChangedNothing {}),
        Touched::Tenant => Shown::Tenant(pb::ChangedTenant {}),
    };
    pb::TenantChange {
        tenant_id: tenant.to_string(),
        consistency_token: token.clone(),
        time: Some(show::time(*at)),
        touched: Some(touched),
    }
}
