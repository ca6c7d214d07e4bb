//! Members who administer: what the rules about actors let them do, in transactions on real
//! databases.

mod escalation;
mod matrix;
mod random;
mod taking;

use std::sync::Arc;

use rolegate::domain::catalog::{Catalog, shipped};
use rolegate::domain::grant::Grant;
use rolegate::domain::ids::{MemberId, RoleId, TeamId, TenantId};
use rolegate::domain::refusal::Refusal;
use rolegate::service::members::Members;
use rolegate::service::page::PageRequest;
use rolegate::service::roles::{RoleDraft, Roles};
use rolegate::service::seal::Seal;
use rolegate::service::tenants::{NewTenant, Tenants};
use rolegate::service::token::Tokens;
use rolegate::service::{RequestId, ServiceError, WriteContext, Written};
use rolegate::store::{AuditEvent, AuditFilter, OpenOptions, SqlStore};
use tempfile::TempDir;

/// A tenant in a database of its own, whose owner is `owner`.
pub(crate) struct House {
    pub(crate) store: SqlStore,
    pub(crate) roles: Roles,
    pub(crate) members: Members,
    pub(crate) tenant: TenantId,
    catalog: Arc<Catalog>,
    _directory: Option<TempDir>,
}

impl House {
    pub(crate) async fn sqlite(catalog: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let url = format!("sqlite://{}", directory.path().join("rolegate.db").display());
        let store = SqlStore::open(&OpenOptions::new(url)).await.unwrap();
        Self::of(store, catalog, Some(directory)).await
    }

    /// `None` where there is no PostgreSQL.
    pub(crate) async fn postgres(catalog: &str) -> Option<Self> {
        let cluster = crate::postgres::shared()?;
        let url = cluster.url(&cluster.create_database());
        let options = OpenOptions { migrate: true, ..OpenOptions::new(&url) };
        let store = SqlStore::open(&options).await.unwrap();
        Some(Self::of(store, catalog, None).await)
    }

    async fn of(store: SqlStore, catalog: &str, directory: Option<TempDir>) -> Self {
        let fixture = include_str!("../../../src/domain/tests/fixture.toml");
        // Whoever manages roles in these need not manage members.
        let separate = |id: &str| {
            let named = fixture.replacen("id = \"test\"", &format!("id = \"{id}\""), 1);
            named.replacen("members = \"admin.roles\"", "members = \"archive.list\"", 1)
        };
        let refusing = separate("separate_refusing").replacen(
            "policy = \"reassign\"",
            "policy = \"refuse_while_assigned\"",
            1,
        );
        let own = [fixture.to_owned(), separate("separate"), refusing];
        let sources = shipped().iter().copied().chain(own.iter().map(String::as_str));
        let catalogs: Vec<_> =
            sources.map(|source| Arc::new(Catalog::parse(source).unwrap())).collect();
        for catalog in &catalogs {
            store.register(Arc::clone(catalog));
        }
        let tokens = Tokens::new(store.identity());
        let seal = Seal::new(store.identity().signing_key);
        let tenant = TenantId::parse("acme").unwrap();
        let new = NewTenant {
            catalog: catalog.into(),
            version: None,
            plan: (catalog == "oqupie").then(|| "enterprise".into()),
            owner: member("owner"),
            owner_teams: vec![],
        };
        let tenants = Tenants::new(store.clone(), tokens.clone(), seal.clone());
        tenants.create(alone(), &tenant, &new).await.unwrap();
        let found = catalogs.iter().find(|found| found.reference().id == catalog).unwrap();
        House {
            roles: Roles::new(store.clone(), tokens.clone(), seal.clone()),
            members: Members::new(store.clone(), tokens, seal),
            store,
            tenant,
            catalog: Arc::clone(found),
            _directory: directory,
        }
    }

    /// Makes an active member, on nobody's behalf.
    pub(crate) async fn hire(&self, id: &str, roles: &[&RoleId], teams: &[&str]) -> MemberId {
        let roles: Vec<RoleId> = roles.iter().map(|role| (*role).clone()).collect();
        let id = member(id);
        let made = self.members.create(alone(), &self.tenant, &id, &roles, &team_ids(teams)).await;
        made.unwrap();
        id
    }

    /// Makes a custom role, on nobody's behalf.
    pub(crate) async fn role(&self, name: &str, written: &[&str]) -> RoleId {
        let made = self.roles.create(alone(), &self.tenant, &draft(name, written)).await.unwrap();
        made.value.role.id
    }

    pub(crate) async fn revision(&self) -> u64 {
        let tx = self.store.read().await.unwrap();
        tx.tenant(&self.tenant).await.unwrap().unwrap().revision
    }

    /// Tenants in the same database.
    pub(crate) fn tenants(&self) -> Tenants {
        let identity = self.store.identity();
        Tenants::new(self.store.clone(), Tokens::new(identity), Seal::new(identity.signing_key))
    }

    /// What the audit has of an actor, oldest first.
    async fn audit(&self, actor: Option<&MemberId>) -> Vec<AuditEvent> {
        let filter = AuditFilter { actor: actor.cloned(), ..AuditFilter::default() };
        let page = PageRequest { size: 1_000, token: String::new() };
        let mut events = self.roles.audit(&self.tenant, &filter, &page).await.unwrap().items;
        events.reverse();
        events
    }
}

pub(crate) fn member(id: &str) -> MemberId {
    MemberId::parse(id).unwrap()
}

pub(crate) fn role(id: &str) -> RoleId {
    RoleId::parse(id).unwrap()
}

pub(crate) fn team_ids(teams: &[&str]) -> Vec<TeamId> {
    teams.iter().map(|team| TeamId::parse(team).unwrap()).collect()
}

/// `ticket.work at all`, or `customer.edit`.
pub(crate) fn grants(written: &[&str]) -> Vec<Grant> {
    crate::domain::grants(written)
}

fn draft(name: &str, written: &[&str]) -> RoleDraft {
    RoleDraft { name: name.into(), grants: grants(written), ..RoleDraft::default() }
}

/// The caller answers for it.
pub(crate) fn alone() -> WriteContext {
    WriteContext {
        caller: "test".into(),
        actor: None,
        method: "Test",
        request: None,
        validate_only: false,
    }
}

pub(crate) fn on_behalf(actor: &MemberId) -> WriteContext {
    WriteContext { actor: Some(actor.clone()), ..alone() }
}

fn trial(actor: &MemberId) -> WriteContext {
    WriteContext { validate_only: true, ..on_behalf(actor) }
}

fn with_request(context: WriteContext, id: &str, payload: &str) -> WriteContext {
    WriteContext { request: Some(RequestId { id: id.into(), payload: payload.into() }), ..context }
}

/// `yes`, the actor rule that refused it, or another refusal.
pub(crate) fn outcome<T>(result: Result<Written<T>, ServiceError>) -> String {
    match result {
        Ok(_) => "yes".to_owned(),
        Err(ServiceError::Refused(refusal)) => name(&refusal),
        Err(error) => panic!("{error:?}"),
    }
}

fn name(refusal: &Refusal) -> String {
    match refusal {
        Refusal::Actor(refused) => refused.name().to_owned(),
        other => format!("{other:?}").chars().take_while(|c| c.is_alphanumeric()).collect(),
    }
}
