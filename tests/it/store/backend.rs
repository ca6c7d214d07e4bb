//! Databases to test with, and the values that most tests begin with.

use rolegate::domain::Timestamp;
use rolegate::domain::catalog::{Catalog, CatalogRef, shipped};
use rolegate::domain::grant::Grant;
use rolegate::domain::ids::{MemberId, RoleId, TeamId, TenantId};
use rolegate::domain::member::{Member, MemberStatus};
use rolegate::domain::name::RoleName;
use rolegate::domain::role::CustomRole;
use rolegate::domain::tenant::{Tenant, TenantState};
use rolegate::store::{AuditEntry, OpenOptions, SqlStore, Touched, WriteTx};
use tempfile::TempDir;

/// A new database.
pub(super) struct Database {
    pub(super) store: SqlStore,
    /// What opens it again.
    pub(super) options: OpenOptions,
    /// Deleted with the test.
    _directory: Option<TempDir>,
}

impl Database {
    /// Another store on the same database, as another replica has it.
    pub(super) async fn replica(&self) -> SqlStore {
        SqlStore::open(&self.options).await.unwrap()
    }
}

/// `None` where there is no such database.
pub(super) async fn sqlite() -> Option<Database> {
    let directory = tempfile::tempdir().unwrap();
    let options = sqlite_options(&directory);
    let store = SqlStore::open(&options).await.unwrap();
    Some(Database { store, options, _directory: Some(directory) })
}

pub(super) async fn postgres() -> Option<Database> {
    let cluster = crate::postgres::shared()?;
    let options = postgres_options(&cluster.url(&cluster.create_database()));
    let store = SqlStore::open(&options).await.unwrap();
    Some(Database { store, options, _directory: None })
}

/// With leave to migrate.
pub(super) fn postgres_options(url: &str) -> OpenOptions {
    OpenOptions { migrate: true, ..OpenOptions::new(url) }
}

pub(super) fn sqlite_options(directory: &TempDir) -> OpenOptions {
    OpenOptions::new(format!("sqlite://{}", directory.path().join("rolegate.db").display()))
}

pub(super) fn tenant_id(id: &str) -> TenantId {
    TenantId::parse(id).unwrap()
}

pub(super) fn member_id(id: &str) -> MemberId {
    MemberId::parse(id).unwrap()
}

pub(super) fn role_id(id: &str) -> RoleId {
    RoleId::parse(id).unwrap()
}

pub(super) fn team_id(id: &str) -> TeamId {
    TeamId::parse(id).unwrap()
}

pub(super) fn role_ids(ids: &[&str]) -> Vec<RoleId> {
    ids.iter().map(|id| role_id(id)).collect()
}

pub(super) fn member_ids(ids: &[&str]) -> Vec<MemberId> {
    ids.iter().map(|id| member_id(id)).collect()
}

pub(super) fn tenant(id: &str) -> Tenant {
    Tenant {
        id: tenant_id(id),
        catalog: CatalogRef { id: "qpien".into(), version: 1 },
        plan: None,
        state: TenantState::Active,
        revision: 1,
        own_revision: 1,
        created_at: Timestamp(100),
        updated_at: Timestamp(100),
        purge_at: None,
    }
}

/// A role whose name is its id.
pub(super) fn role(id: &str) -> CustomRole {
    CustomRole {
        id: role_id(id),
        name: RoleName::parse(id).unwrap(),
        description: String::new(),
        grants: vec![Grant { permission: "chat.view".into(), scope: None }],
        revision: 0,
        created_at: Timestamp(200),
        updated_at: Timestamp(200),
    }
}

/// An active member.
pub(super) fn member(id: &str, roles: &[&str], teams: &[&str]) -> Member {
    Member {
        id: member_id(id),
        status: MemberStatus::Active,
        roles: role_ids(roles),
        teams: teams.iter().map(|id| team_id(id)).collect(),
        revision: 0,
        created_at: Timestamp(300),
        updated_at: Timestamp(300),
    }
}

pub(super) fn archived(member: Member) -> Member {
    Member { status: MemberStatus::Archived, ..member }
}

pub(super) fn entry(at: i64) -> AuditEntry {
    AuditEntry {
        at: Timestamp(at),
        caller: "admin-service".into(),
        actor: None,
        method: "Test".into(),
        request_id: None,
        roles: vec![],
        members: vec![],
        before: None,
        after: None,
    }
}

/// Commits without much ado.
pub(super) async fn commit(tx: WriteTx) -> u64 {
    tx.commit(Touched::Nothing, entry(1)).await.unwrap()
}

/// A tenant with nothing in it, at revision 1.
pub(super) async fn make_tenant(store: &SqlStore, id: &str) -> TenantId {
    let tx = store.write(&tenant_id(id)).await.unwrap();
    tx.put_tenant(&tenant(id)).await.unwrap();
    assert_eq!(commit(tx).await, 1);
    tenant_id(id)
}

/// A tenant with these members, at revision 2.
pub(super) async fn make_members(store: &SqlStore, id: &str, members: &[Member]) -> TenantId {
    let tenant = make_tenant(store, id).await;
    let tx = store.write(&tenant).await.unwrap();
    tx.put_members(members).await.unwrap();
    assert_eq!(commit(tx).await, 2);
    tenant
}

/// The catalog that [`tenant`] is on.
pub(super) fn qpien() -> Catalog {
    let catalogs = shipped().iter().map(|source| Catalog::parse(source).unwrap());
    catalogs.into_iter().find(|catalog| catalog.reference().id == "qpien").unwrap()
}
