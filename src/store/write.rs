//! Writing: one transaction is one change of one tenant.

use std::ops::Deref;
use std::sync::{Mutex, PoisonError};

use sea_orm::{
    ActiveModelTrait,
    ActiveValue::{NotSet, Set},
    EntityTrait, IntoActiveModel, QueryFilter,
    sea_query::OnConflict,
};

use super::chain::{AuditKeys, Chain, Erasures};
use super::entity::{change, member, member_role, member_team, role, tenant};
use super::listed::delete_rows_of;
use super::members::{MEMBERS_BY_ID, ROLES_BY_MEMBER, TEAMS_BY_MEMBER};
use super::read::{CHUNK, ReadTx};
use super::rows::{
    corrupt, member_role_rows, member_row, member_team_rows, role_row, stored, tenant_row, to_json,
};
use super::turns::Turn;
use super::{AuditEntry, Change, SqlStore, StoreError, Touched, audit as trail};
use crate::domain::Timestamp;
use crate::domain::ids::{MemberId, RoleId, TenantId};
use crate::domain::member::Member;
use crate::domain::role::CustomRole;
use crate::domain::tenant::Tenant;

/// A change of one tenant that is being made: nobody else can change that tenant until it ends.
/// Reads see what it wrote so far. Dropping it leaves everything as it was.
///
/// What is written gets [`Self::next_revision`], whatever the value says.
#[derive(Debug)]
pub struct WriteTx {
    reads: ReadTx,
    store: SqlStore,
    id: TenantId,
    tenant: Option<Tenant>,
    /// Goes with the transaction.
    turn: Option<Turn>,
    /// What it has erased from the audit trail, which its first entry is going to say.
    erasures: Mutex<Erasures>,
}

impl Deref for WriteTx {
    type Target = ReadTx;

    fn deref(&self) -> &ReadTx {
        &self.reads
    }
}

impl WriteTx {
    /// Takes over a transaction that has locked the tenant.
    pub(super) fn new(
        reads: ReadTx,
        store: SqlStore,
        id: TenantId,
        tenant: Option<Tenant>,
        turn: Option<Turn>,
    ) -> Self {
        WriteTx { reads, store, id, tenant, turn, erasures: Mutex::default() }
    }

    /// The id of the tenant that is locked.
    pub(super) fn id(&self) -> &TenantId {
        &self.id
    }

    /// The tenant as it was when the transaction began, whatever its state.
    #[must_use]
    pub fn tenant(&self) -> Option<&Tenant> {
        self.tenant.as_ref()
    }

    /// The revision that the tenant has after this change.
    #[must_use]
    pub fn next_revision(&self) -> u64 {
        self.tenant.as_ref().map_or(0, |tenant| tenant.revision) + 1
    }

    /// Makes the tenant, or changes it if it was there when the transaction began.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn put_tenant(&self, tenant: &Tenant) -> Result<(), StoreError> {
        let row = tenant_row(tenant, self.next_revision()).into_active_model();
        if self.tenant.is_some() {
            tenant::Entity::update(row.reset_all()).exec_without_returning(&self.tx).await?;
        } else {
            tenant::Entity::insert(row).exec_without_returning(&self.tx).await?;
        }
        Ok(())
    }

    /// Makes the role, or changes it if it is there.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] when another role has its name.
    pub async fn put_role(&self, role: &CustomRole) -> Result<(), StoreError> {
        use role::Column;
        let row = role_row(&self.id, role, self.next_revision())?;
        let change = OnConflict::columns([Column::TenantId, Column::Id])
            .update_columns([
                Column::Name,
                Column::NameKey,
                Column::Description,
                Column::Grants,
                Column::Revision,
                Column::UpdatedAt,
            ])
            .to_owned();
        role::Entity::insert(row.into_active_model())
            .on_conflict(change)
            .exec_without_returning(&self.tx)
            .await?;
        Ok(())
    }

    /// Deletes the role; `false` when there is none. Its members must have been dealt with.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn delete_role(&self, role: &RoleId) -> Result<bool, StoreError> {
        let deleted = role::Entity::delete_by_id((self.id.to_string(), role.to_string()))
            .exec(&self.tx)
            .await?;
        Ok(deleted.rows_affected > 0)
    }

    /// Makes these members, or changes those that are there. No id may come twice.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn put_members(&self, members: &[Member]) -> Result<(), StoreError> {
        use member::Column;
        for members in members.chunks(CHUNK) {
            let rows = members.iter().map(|member| {
                member_row(&self.id, member, self.next_revision()).into_active_model()
            });
            let change = OnConflict::columns([Column::TenantId, Column::Id])
                .update_columns([Column::Status, Column::Revision, Column::UpdatedAt])
                .to_owned();
            member::Entity::insert_many(rows)
                .on_conflict(change)
                .exec_without_returning(&self.tx)
                .await?;
            self.put_roles_and_teams(members).await?;
        }
        Ok(())
    }

    /// Replaces the roles and teams of at most [`CHUNK`] members.
    async fn put_roles_and_teams(&self, members: &[Member]) -> Result<(), StoreError> {
        let ids: Vec<&str> = members.iter().map(|member| member.id.as_str()).collect();
        delete_rows_of(&self.tx, ROLES_BY_MEMBER, &self.id, &ids).await?;
        delete_rows_of(&self.tx, TEAMS_BY_MEMBER, &self.id, &ids).await?;
        let roles: Vec<_> =
            members.iter().flat_map(|member| member_role_rows(&self.id, member)).collect();
        for rows in roles.chunks(CHUNK) {
            let rows = rows.iter().cloned().map(IntoActiveModel::into_active_model);
            member_role::Entity::insert_many(rows).exec_without_returning(&self.tx).await?;
        }
        let teams: Vec<_> =
            members.iter().flat_map(|member| member_team_rows(&self.id, member)).collect();
        for rows in teams.chunks(CHUNK) {
            let rows = rows.iter().cloned().map(IntoActiveModel::into_active_model);
            member_team::Entity::insert_many(rows).exec_without_returning(&self.tx).await?;
        }
        Ok(())
    }

    /// Deletes these members, and says how many of them there were.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn delete_members(&self, ids: &[MemberId]) -> Result<u64, StoreError> {
        let ids: Vec<&str> = ids.iter().map(MemberId::as_str).collect();
        let mut deleted = 0;
        for ids in ids.chunks(CHUNK) {
            deleted += delete_rows_of(&self.tx, MEMBERS_BY_ID, &self.id, ids).await?;
        }
        Ok(deleted)
    }

    /// Deletes everything of the tenant but its own row and its latest changes, which name no member
    /// any more: roles, members, the audit trail (of
    /// which the number and the link of the last event stay), and what was answered to requests.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn delete_tenant_data(&self) -> Result<(), StoreError> {
        let id = self.id.as_str();
        // What hangs on members and on audit events goes with them.
        self.delete_audit(self.audit_keys()).await?;
        member::Entity::delete_many()
            .filter(member::COLUMN.tenant_id.eq(id))
            .exec(&self.tx)
            .await?;
        role::Entity::delete_many().filter(role::COLUMN.tenant_id.eq(id)).exec(&self.tx).await?;
        self.blank_answers().await?;
        self.blur_changes_of(None).await
    }

    /// Commits what was remembered where nothing had to change: no revision, nothing to tell.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn commit_unchanged(self) -> Result<(), StoreError> {
        if !self.erasures().is_empty() {
            return Err(StoreError::Internal("an erasure that no event tells of".to_owned()));
        }
        self.store.still_in(self.epoch())?;
        self.reads.tx.commit().await?;
        self.store.still_in(self.reads.epoch)
    }

    /// The chain that the tenant's audit trail is.
    pub(super) async fn chain(&self) -> Result<Chain<'_>, StoreError> {
        Chain::load(&self.tx, self.audit_keys(), &self.id, self.tenant.is_some()).await
    }

    pub(super) fn audit_keys(&self) -> &AuditKeys {
        &self.store.inner.audit_keys
    }

    pub(super) fn erasures(&self) -> std::sync::MutexGuard<'_, Erasures> {
        self.erasures.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds to the audit trail what a part of the change is going to be, before it is made. The commit
    /// adds at least one entry more.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn tell(
        &self,
        entries: impl Iterator<Item = AuditEntry> + Send,
    ) -> Result<(), StoreError> {
        if !self.erasures().is_empty() {
            // The next event is the one that has to say so.
            return Err(StoreError::Internal("an erasure before what else is told".to_owned()));
        }
        let revision = self.next_revision();
        let mut chain = self.chain().await?;
        for entry in entries {
            trail::append(&mut chain, &self.tx, &self.id, revision, entry, None).await?;
        }
        chain.save(&self.tx).await
    }

    /// Commits the change, tells the listener, and gives back the tenant's new revision.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] can mean that it was committed all the same: the listener is
    /// told to forget the tenant then.
    pub async fn commit(self, touched: Touched, entry: AuditEntry) -> Result<u64, StoreError> {
        let at = entry.at;
        self.commit_in_parts(touched, at, std::iter::once(entry)).await
    }

    /// The same for a change that is too much for one entry of the audit trail.
    ///
    /// # Errors
    /// As [`Self::commit`].
    pub async fn commit_in_parts(
        self,
        touched: Touched,
        at: Timestamp,
        entries: impl Iterator<Item = AuditEntry> + Send,
    ) -> Result<u64, StoreError> {
        let revision = self.next_revision();
        let bumped = tenant::Entity::update_many()
            .set(tenant::ActiveModel { revision: Set(stored(revision)), ..Default::default() })
            .filter(tenant::COLUMN.id.eq(self.id.as_str()))
            .exec(&self.tx)
            .await?;
        if bumped.rows_affected != 1 {
            return Err(corrupt("tenants.id", self.id.as_str()));
        }
        let row = change::ActiveModel {
            seq: NotSet,
            tx: NotSet,
            tenant_id: Set(self.id.to_string()),
            revision: Set(stored(revision)),
            touched: Set(to_json(&touched, "changes.touched")?),
            created_at: Set(at.0),
        };
        change::Entity::insert(row).exec_without_returning(&self.tx).await?;
        let mut chain = self.chain().await?;
        chain.erases(&self.erasures());
        let before = chain.number();
        for entry in entries {
            trail::append(&mut chain, &self.tx, &self.id, revision, entry, None).await?;
        }
        if chain.number() == before {
            // A revision that the trail does not have looks like an event that was deleted.
            return Err(StoreError::Internal("a change without an audit event".to_owned()));
        }
        chain.save(&self.tx).await?;

        self.store.still_in(self.epoch())?;
        let WriteTx { reads, store, id, turn, .. } = self;
        let epoch = reads.epoch;
        let change = Change { tenant: id.clone(), revision, touched };
        let listener = store.clone();
        // In a task of its own: a client that goes away now must not keep the change from being
        // told, or the cache would go on with what was before.
        let finish = tokio::spawn(async move {
            let committed = reads.tx.commit().await.map_err(StoreError::from);
            // A server that is not the primary any more may have taken it, and only that one has it.
            let committed = committed.and_then(|()| listener.still_in(epoch));
            drop(turn);
            match &committed {
                Ok(()) => listener.committed(epoch, &change),
                Err(_) => listener.uncertain(&change.tenant),
            }
            committed
        });
        match finish.await {
            Ok(committed) => committed.map_err(|error| match error {
                // Whatever it was, nobody knows whether it happened.
                StoreError::Internal(detail) => StoreError::Unavailable(detail),
                other => other,
            })?,
            Err(stopped) => {
                store.uncertain(&id);
                return Err(StoreError::Unavailable(format!("the commit was cut off: {stopped}")));
            }
        }
        Ok(revision)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::Mutex;

    use sea_orm::ConnectionTrait;

    use super::*;
    use crate::domain::catalog::CatalogRef;
    use crate::domain::tenant::TenantState;
    use crate::store::{ChangeListener, OpenOptions};

    #[derive(Default)]
    struct Told(Mutex<Vec<String>>);

    impl ChangeListener for Told {
        fn committed(&self, _: u64, change: &Change) {
            self.0.lock().unwrap().push(format!("{}@{}", change.tenant, change.revision));
        }

        fn uncertain(&self, tenant: &TenantId) {
            self.0.lock().unwrap().push(format!("{tenant}?"));
        }
    }

    #[tokio::test]
    async fn a_commit_that_fails_makes_the_listener_forget_the_tenant() {
        let directory = tempfile::tempdir().unwrap();
        let url = format!("sqlite:{}", directory.path().join("db").display());
        let store = SqlStore::open(&OpenOptions::new(url)).await.unwrap();
        let told = Arc::new(Told::default());
        assert!(store.set_listener(told.clone()).is_ok());
        let at = Timestamp(1);
        let tenant = Tenant {
            id: TenantId::trusted("acme"),
            catalog: CatalogRef { id: "c".into(), version: 1 },
            plan: None,
            state: TenantState::Active,
            revision: 1,
            own_revision: 1,
            created_at: at,
            updated_at: at,
            purge_at: None,
        };
        let entry = AuditEntry {
            at,
            caller: "c".into(),
            actor: None,
            method: "m".into(),
            request_id: None,
            roles: vec![],
            members: vec![],
            before: None,
            after: None,
        };
        let tx = store.write(&tenant.id).await.unwrap();
        tx.put_tenant(&tenant).await.unwrap();
        tx.commit(Touched::Tenant, entry.clone()).await.unwrap();

        // The database ends the transaction behind our back, so there is nothing to commit.
        let tx = store.write(&tenant.id).await.unwrap();
        tx.tx.execute_unprepared("ROLLBACK").await.unwrap();
        let failed = tx.commit(Touched::Nothing, entry).await;
        assert!(matches!(failed, Err(StoreError::Unavailable(_))), "{failed:?}");
        assert_eq!(*told.0.lock().unwrap(), ["acme@1", "acme?"]);
    }
}
