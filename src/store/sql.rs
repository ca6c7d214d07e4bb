//! The store itself: its connections, and how transactions begin.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, OnceLock, RwLock};
use std::time::Duration;

use sea_orm::{ConnectionTrait, DbBackend, EntityTrait, QuerySelect, Statement};

use super::bounded::Connections;
use super::chain::AuditKeys;
use super::entity::tenant;
use super::erase::unname;
use super::history::{self, Lineage};
use super::open::SAFE_COMMIT;
use super::renewal::{STALE, is_stale};
use super::transaction::{Access, Transaction};
use super::turns::Turns;
use super::wake::Waker;
use super::{
    AuditEntry, Change, ChangeListener, DatabaseIdentity, OpenError, OpenOptions, ReadTx,
    StoreError, WriteTx, audit, open,
};
use crate::domain::catalog::{Catalog, CatalogRef};
use crate::domain::ids::{MemberId, TenantId};
use crate::domain::tenant::Tenant;

/// Tenants, roles and members in a database. Clones share everything.
#[derive(Clone)]
pub struct SqlStore {
    pub(super) inner: Arc<Inner>,
}

pub(super) struct Inner {
    pub(super) readers: Connections,
    pub(super) writers: Connections,
    pub(super) followers: Connections,
    pub(super) identity: DatabaseIdentity,
    pub(super) audit_keys: AuditKeys,
    pub(super) lineage: Arc<Lineage>,
    pub(super) waker: Waker,
    turns: Option<(Turns, Duration)>,
    listener: OnceLock<Arc<dyn ChangeListener>>,
    pub(super) catalogs: RwLock<BTreeMap<CatalogRef, Arc<Catalog>>>,
}

impl std::fmt::Debug for SqlStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SqlStore").field("identity", &self.inner.identity).finish_non_exhaustive()
    }
}

impl SqlStore {
    /// Opens the database, making or migrating it if that is wanted.
    ///
    /// # Errors
    /// [`OpenError`] says what is wrong and what to do about it.
    pub async fn open(options: &OpenOptions) -> Result<Self, OpenError> {
        let open::Opened { readers, writers, followers, identity, audit_keys, lineage, turns } =
            open::open(options).await?;
        Ok(SqlStore {
            inner: Arc::new(Inner {
                waker: Waker::new(&followers),
                turns,
                readers,
                writers,
                followers,
                identity,
                audit_keys,
                lineage,
                listener: OnceLock::new(),
                catalogs: RwLock::default(),
            }),
        })
    }

    /// Which database it is.
    #[must_use]
    pub fn identity(&self) -> &DatabaseIdentity {
        &self.inner.identity
    }

    /// Sets who is told of changes.
    ///
    /// # Errors
    /// Gives the listener back when there is one already.
    pub fn set_listener(
        &self,
        listener: Arc<dyn ChangeListener>,
    ) -> Result<(), Arc<dyn ChangeListener>> {
        self.inner.listener.set(listener)
    }

    pub(super) fn committed(&self, epoch: u64, change: &Change) {
        if let Some(listener) = self.inner.listener.get() {
            listener.committed(epoch, change);
        }
        // Those who follow have waited long enough already.
        self.notify();
    }

    pub(super) fn uncertain(&self, tenant: &TenantId) {
        if let Some(listener) = self.inner.listener.get() {
            listener.uncertain(tenant);
        }
        self.notify();
    }

    /// Tells that an answer was not waited for any longer: on PostgreSQL it is looked into at once
    /// whether the server is still there, so that others need not wait.
    pub fn suspect(&self) {
        self.inner.followers.suspect();
    }

    /// Whether the database is known not to answer. Then everything that needs it fails at once,
    /// until it is back.
    #[must_use]
    pub fn is_gone(&self) -> bool {
        self.inner.followers.is_gone()
    }

    /// What keeps changes from being written, as the last attempts showed: a full disk, a file that
    /// is read-only. `None` while they succeed. For people, without paths.
    #[must_use]
    pub fn write_obstacle(&self) -> Option<&'static str> {
        self.inner.writers.health().obstacle()
    }

    /// What the database server said of late that does not pass by itself and is for an operator to
    /// put right: too few connections, a missing right, a full disk, a read-only server. For health
    /// endpoints.
    #[must_use]
    pub fn trouble(&self) -> Option<&'static str> {
        self.inner.followers.trouble()
    }

    /// Waits for what is running, then closes all connections.
    pub async fn close(&self) {
        // The writer goes last: whoever closes a SQLite file last tidies it up.
        let Inner { followers, readers, writers, waker, .. } = &*self.inner;
        waker.stop();
        for connections in [followers, readers, writers] {
            if let Err(error) = connections.inner().close_by_ref().await {
                tracing::warn!(error = %StoreError::from(error), "closing the database");
            }
        }
    }

    /// Begins reading at one state.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`]
    pub async fn read(&self) -> Result<ReadTx, StoreError> {
        let epoch = self.epoch().id();
        let tx = self.inner.readers.begin(Access::Read).await?;
        Ok(ReadTx { tx, epoch })
    }

    /// Begins a change of one tenant, which may not exist yet, once every change of it that is
    /// under way has ended.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`]
    pub async fn write(&self, tenant: &TenantId) -> Result<WriteTx, StoreError> {
        let turn = match &self.inner.turns {
            Some((turns, limit)) => Some(turns.wait(tenant, *limit).await?),
            None => None,
        };
        let epoch = self.epoch().id();
        let locked = match self.locked(tenant).await? {
            Some(locked) => Some(locked),
            // Nothing was written yet.
            None => self.locked(tenant).await?,
        };
        let (tx, row) = locked.ok_or_else(|| StoreError::Unavailable(STALE.to_owned()))?;
        let found = row.map(Tenant::try_from).transpose()?;
        Ok(WriteTx::new(ReadTx { tx, epoch }, self.clone(), tenant.clone(), found, turn))
    }

    /// A transaction that has locked the tenant, and the tenant's row. `None`: on a connection that has
    /// to be renewed.
    async fn locked(
        &self,
        tenant: &TenantId,
    ) -> Result<Option<(Transaction, Option<tenant::Model>)>, StoreError> {
        let tx = self.inner.writers.begin(Access::Write).await?;
        if tx.get_database_backend() == DbBackend::Postgres {
            // A transaction that waits for a row has its number already, so the next in turn may
            // have a lower one than the last. This lock is waited for without one: a tenant's
            // changes are numbered in the order in which they were made. It also makes those wait
            // who would make the same tenant.
            //
            // The session commits safely, too; this holds even if a pooler has reset it since.
            let turn = format!(
                "SELECT pg_advisory_xact_lock(hashtextextended($1, 0)), \
                 set_config('synchronous_commit', {SAFE_COMMIT}, true), {}",
                history::COLUMNS
            );
            let id = [tenant.as_str().into()];
            let turn = Statement::from_sql_and_values(DbBackend::Postgres, turn, id);
            let row = tx.query_one_raw(turn).await?;
            self.is_followed(row.as_ref())?;
        }
        // SQLite has locked the file already.
        match tenant::Entity::find_by_id(tenant.as_str()).lock_exclusive().one(&tx).await {
            Ok(row) => Ok(Some((tx, row))),
            Err(error) if is_stale(&error) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Adds to the audit trail that an actor was refused something. Changes nothing else, so the
    /// tenant's revision stays. Waits for its turn as a change does: the trail is one chain.
    ///
    /// Whoever can try can name anybody. Only members are named in the trail, whom a deletion erases
    /// from it: others are left out, and nothing is recorded of an actor that is no member (any more).
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn record_refusal(
        &self,
        tenant: &TenantId,
        mut entry: AuditEntry,
        reason: &str,
    ) -> Result<(), StoreError> {
        let tx = self.write(tenant).await?;
        let named: BTreeSet<MemberId> = entry.members.iter().chain(&entry.actor).cloned().collect();
        let members = tx.existing_members(tenant, &named).await?;
        if entry.actor.as_ref().is_none_or(|actor| !members.contains(actor)) {
            return Ok(());
        }
        entry.members.retain(|member| members.contains(member));
        for stranger in named.difference(&members) {
            unname(&mut entry, stranger);
        }
        let revision = tx.tenant().map_or(0, |tenant| tenant.revision);
        let mut chain = tx.chain().await?;
        audit::append(&mut chain, &tx.tx, tenant, revision, entry, Some(reason)).await?;
        chain.save(&tx.tx).await?;
        tx.commit_unchanged().await
    }

    pub(super) async fn begin_write(&self) -> Result<Transaction, StoreError> {
        Ok(self.inner.writers.begin(Access::Write).await?)
    }
}
