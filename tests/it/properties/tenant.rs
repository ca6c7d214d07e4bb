//! A database with tenants in it, and everything that answers questions about them.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use rolegate::domain::Timestamp;
use rolegate::domain::catalog::Catalog;
use rolegate::domain::ids::{MemberId, RoleId, TenantId};
use rolegate::domain::member::{Member, MemberStatus};
use rolegate::domain::name::RoleName;
use rolegate::domain::role::CustomRole;
use rolegate::service::WriteContext;
use rolegate::service::decide::Decisions;
use rolegate::service::decision_log::Asker;
use rolegate::service::members::Members;
use rolegate::service::roles::Roles;
use rolegate::service::seal::Seal;
use rolegate::service::tenants::{NewTenant, Tenants};
use rolegate::service::token::Tokens;
use rolegate::store::{
    AuditEntry, Cached, DecisionSource, OpenOptions, RecordedCatalog, SqlStore, Touched,
};
use tempfile::TempDir;

use super::generate::{Case, OWNER};
use super::{convert, toml};
use crate::cache::unhurried;
use crate::reference::model;

/// Whoever asks.
pub(super) const ASKER: Asker<'_> = Asker { caller: "test", method: "test" };

/// A database in a file, and the services over it. `S` answers the checks.
pub(super) struct Service<S> {
    pub(super) store: SqlStore,
    pub(super) decisions: Arc<Decisions<S>>,
    pub(super) tenants: Tenants,
    pub(super) roles: Roles,
    pub(super) members: Members,
    pub(super) tokens: Tokens,
    made: AtomicU32,
    /// Deleted at the end.
    _directory: TempDir,
}

/// Checks are answered by the database.
pub(super) async fn uncached() -> Service<SqlStore> {
    Service::open(|store| Arc::new(store.clone())).await
}

/// Checks are answered by a cache of so many bytes in front of it.
pub(super) async fn cached(bytes: u64) -> Service<Cached> {
    Service::open(|store| {
        let cached = Arc::new(Cached::new(store.clone(), bytes, unhurried()));
        assert!(store.set_listener(cached.clone()).is_ok());
        cached
    })
    .await
}

impl<S: DecisionSource> Service<S> {
    async fn open(source: impl FnOnce(&SqlStore) -> Arc<S>) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let url = format!("sqlite://{}", directory.path().join("rolegate.db").display());
        let store = SqlStore::open(&OpenOptions::new(url)).await.unwrap();
        let tokens = Tokens::new(store.identity());
        let seal = Seal::new(store.identity().signing_key);
        Service {
            decisions: Arc::new(Decisions::new(source(&store), tokens.clone())),
            tenants: Tenants::new(store.clone(), tokens.clone(), seal.clone()),
            roles: Roles::new(store.clone(), tokens.clone(), seal.clone()),
            members: Members::new(store.clone(), tokens.clone(), seal),
            tokens,
            store,
            made: AtomicU32::new(0),
            _directory: directory,
        }
    }

    /// Makes a tenant with this catalog, these roles and these members, whatever the guards would
    /// say: stored roles may lack what their grants require, after a change of the catalog.
    pub(super) async fn make(&self, case: &Case) -> (TenantId, Arc<Catalog>) {
        let name = format!("t{}", self.made.fetch_add(1, Ordering::Relaxed));
        let catalog = self.add_catalog(&case.world.catalog, &name, 1, case.roles_per_member).await;

        let tenant = TenantId::parse(&name).unwrap();
        let new = NewTenant {
            catalog: name,
            version: Some(1),
            plan: None,
            owner: convert::member_id(OWNER),
            owner_teams: vec![],
        };
        self.tenants.create(context("CreateTenant"), &tenant, &new).await.unwrap();

        let tx = self.store.write(&tenant).await.unwrap();
        for role in &case.world.custom_roles {
            tx.put_role(&custom_role(role)).await.unwrap();
        }
        let members: Vec<Member> = case.world.members.iter().map(member).collect();
        tx.put_members(&members).await.unwrap();
        tx.commit(Touched::Tenant, audit_entry()).await.unwrap();
        (tenant, catalog)
    }

    /// Makes a catalog version known, as a start of the service does.
    pub(super) async fn add_catalog(
        &self,
        catalog: &model::Catalog,
        id: &str,
        version: u32,
        roles_per_member: usize,
    ) -> Arc<Catalog> {
        let source = toml::render(catalog, id, version, roles_per_member);
        let catalog = match Catalog::parse(&source) {
            Ok(catalog) => Arc::new(catalog),
            Err(problems) => panic!("the catalog should be sound: {problems:?}\n{source}"),
        };
        let recorded = RecordedCatalog {
            reference: catalog.reference().clone(),
            hash: catalog.hash().to_owned(),
            source,
        };
        self.store.record_catalog(&recorded).await.unwrap();
        self.store.register(Arc::clone(&catalog));
        catalog
    }
}

/// A write without any of the extras.
pub(super) fn context(method: &'static str) -> WriteContext {
    WriteContext {
        caller: "test".to_owned(),
        actor: None,
        method,
        request: None,
        validate_only: false,
    }
}

fn custom_role(role: &model::Role) -> CustomRole {
    CustomRole {
        id: RoleId::parse(&role.id).unwrap(),
        name: RoleName::parse(&role.id).unwrap(),
        description: String::new(),
        grants: convert::grants(&role.grants),
        revision: 0,
        created_at: Timestamp(1),
        updated_at: Timestamp(1),
    }
}

fn member(member: &model::Member) -> Member {
    let mut teams = convert::team_ids(&member.teams);
    teams.sort();
    Member {
        id: MemberId::parse(&member.id).unwrap(),
        status: if member.active { MemberStatus::Active } else { MemberStatus::Archived },
        roles: convert::role_ids(&member.roles),
        teams,
        revision: 0,
        created_at: Timestamp(1),
        updated_at: Timestamp(1),
    }
}

fn audit_entry() -> AuditEntry {
    AuditEntry {
        at: Timestamp(1),
        caller: "test".to_owned(),
        actor: None,
        method: "Prepare".to_owned(),
        request_id: None,
        roles: vec![],
        members: vec![],
        before: None,
        after: None,
    }
}
