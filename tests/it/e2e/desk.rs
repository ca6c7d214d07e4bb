//! A tenant of `qpien` to break things around: who holds what, and how to ask and change it.

use std::time::Duration;

use rolegate::grpc::pb;
use tokio::time::Instant;
use tonic::Status;

use super::process::Clients;
use crate::timing;

/// What [`ask`] is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Said {
    pub(crate) allowed: bool,
    pub(crate) stale: bool,
}

pub(crate) const YES: Said = Said { allowed: true, stale: false };
pub(crate) const NO: Said = Said { allowed: false, stale: false };

/// How fresh.
#[derive(Debug, Clone)]
pub(crate) enum Fresh {
    Any,
    Full,
    Token(String),
}

pub(crate) async fn make_tenant(clients: &Clients, tenant: &str) {
    let request = pb::CreateTenantRequest {
        tenant_id: tenant.into(),
        catalog_id: "qpien".into(),
        owner_member_id: "owner".into(),
        ..Default::default()
    };
    clients.tenants.clone().create_tenant(request).await.unwrap();
}

/// A member who may view chats.
pub(crate) async fn make_member(
    clients: &Clients,
    tenant: &str,
    member: &str,
) -> Result<String, Status> {
    let request = pb::CreateMemberRequest {
        tenant_id: tenant.into(),
        member_id: member.into(),
        role_ids: vec!["user".into()],
        ..Default::default()
    };
    Ok(clients.members.clone().create_member(request).await?.into_inner().consistency_token)
}

/// Takes a member's role away, or gives it back.
pub(crate) async fn set(
    clients: &Clients,
    tenant: &str,
    member: &str,
    may: bool,
) -> Result<String, Status> {
    let request = pb::AssignRolesRequest {
        tenant_id: tenant.into(),
        member_id: member.into(),
        role_ids: if may { vec!["user".into()] } else { vec![] },
        no_roles: !may,
        ..Default::default()
    };
    Ok(clients.members.clone().assign_roles(request).await?.into_inner().consistency_token)
}

/// Whether the member may view chats.
pub(crate) async fn ask(
    clients: &Clients,
    tenant: &str,
    member: &str,
    fresh: Fresh,
) -> Result<Said, Status> {
    let requirement = match fresh {
        Fresh::Any => None,
        Fresh::Full => Some(pb::consistency::Requirement::FullyConsistent(true)),
        Fresh::Token(token) => {
            let tokens = pb::ConsistencyTokens { tokens: vec![token] };
            Some(pb::consistency::Requirement::AtLeastAsFresh(tokens))
        }
    };
    let request = pb::CheckRequest {
        tenant_id: tenant.into(),
        member_id: member.into(),
        permission: "chat.view".into(),
        resource: None,
        consistency: requirement.map(|kind| pb::Consistency { requirement: Some(kind) }),
    };
    let answer = clients.authz.clone().check(request).await?.into_inner();
    let allowed = answer.decision.unwrap().verdict() == pb::Verdict::Allowed;
    Ok(Said { allowed, stale: answer.stale_since.is_some() })
}

/// Asks until it is so, and says how long that took.
pub(crate) async fn until(
    limit: Duration,
    what: &str,
    mut holds: impl AsyncFnMut() -> bool,
) -> Duration {
    let start = Instant::now();
    while !holds().await {
        assert!(start.elapsed() < timing::limit(limit), "not within {limit:?}: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    start.elapsed()
}

/// Asks until the answer is this one. Gives back how long after `committed` it was asked for. However
/// slow the machine, an answer that was asked for later than the bound is this one or marked as stale.
pub(crate) async fn seen(
    clients: &Clients,
    tenant: &str,
    member: &str,
    expected: Said,
    committed: Instant,
    bound: Duration,
) -> Duration {
    loop {
        let asked = committed.elapsed();
        let said = ask(clients, tenant, member, Fresh::Any).await.unwrap();
        if said == expected {
            return asked;
        }
        let late = asked > if said.stale { timing::limit(bound) } else { bound };
        assert!(!late, "{tenant}/{member}: {said:?}, asked {asked:?} after the commit");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// Asks until these are held: a first view may not be kept, when a change is followed just then.
pub(crate) async fn warm(clients: &Clients, tenant: &str, members: &[&str]) {
    for _ in 0..3 {
        for member in members {
            until(Duration::from_secs(5), "the beginning", async || {
                ask(clients, tenant, member, Fresh::Any).await.is_ok_and(|said| said == YES)
            })
            .await;
        }
        tokio::time::sleep(Duration::from_millis(60)).await;
    }
}
