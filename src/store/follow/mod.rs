//! Following what is committed, by this process or another: for caches, which want every change as
//! soon as it is visible, and for Watch, which wants them in an order that nothing overtakes.
//!
//! On PostgreSQL, sequence numbers become visible in any order: a transaction may take one, and
//! commit after others with higher ones. So changes also carry the number of their transaction, and
//! a snapshot says exactly which transactions are visible in it: those below `next` that were not
//! `running`. SQLite has one writer, and there the sequence itself is such a number.

mod snapshot;

use std::str::FromStr;

use sea_orm::{ConnectionTrait, DbBackend, EntityTrait, QueryResult, Statement, Value};
use uuid::Uuid;

use self::snapshot::Snapshot;
use super::bounded::Connections;
use super::entity::meta;
use super::history::{self, Epoch, History, Purpose, Unfit};
use super::rows::{corrupt, count, from_json, stored};
use super::{Change, SqlStore, StoreError};
use crate::domain::Timestamp;
use crate::domain::ids::TenantId;

/// Where a change stands in the order of [`SqlStore::ordered_changes`]: by transaction, then by
/// sequence number. Never the same in two databases or epochs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct ChangePosition {
    /// The number of the transaction that made it; 0 on SQLite.
    pub tx: u64,
    /// Its sequence number; never the same twice.
    pub seq: u64,
}

impl std::fmt::Display for ChangePosition {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.tx, self.seq)
    }
}

/// It cannot be read as `tx:seq`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a position of a change")]
pub struct BadPosition;

impl FromStr for ChangePosition {
    type Err = BadPosition;

    fn from_str(text: &str) -> Result<Self, BadPosition> {
        let (tx, seq) = text.split_once(':').ok_or(BadPosition)?;
        let number = |text: &str| text.parse().map_err(|_| BadPosition);
        Ok(ChangePosition { tx: number(tx)?, seq: number(seq)? })
    }
}

/// A committed change, and where it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SequencedChange {
    /// Where it stands.
    pub position: ChangePosition,
    /// What it is.
    pub change: Change,
    /// When it was made, by the clock of whoever made it.
    pub at: Timestamp,
}

/// What a follower has seen: every change that was visible at some moment, and no other.
///
/// It never claims more than the newest change that was there: a server that crashes may give the
/// numbers of transactions that left nothing behind again to transactions that come later.
///
/// As big as the number of transactions that were running then, which the server's
/// `max_connections` bounds, however long one of them stays open.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FollowCursor {
    epoch: Epoch,
    history: History,
    seen: Snapshot,
}

impl FollowCursor {
    /// The epoch that it is of.
    #[must_use]
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// The history of the server that it is of.
    #[must_use]
    pub fn history(&self) -> History {
        self.history
    }
}

/// What became visible since a cursor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Followed {
    /// Each of them once. Those of one tenant can come in any order; their revisions count.
    pub changes: Vec<SequencedChange>,
    /// Where to go on.
    pub next: FollowCursor,
    /// There is more, now: the limit was reached.
    pub more: bool,
    /// Changes may be missing: some were trimmed before they were seen, or the database was
    /// restored, or another history of it is the current one. Whatever was derived from changes must
    /// be dropped; `next` goes on from now, and `changes` is empty.
    pub gap: bool,
    /// The database's epoch now.
    pub epoch: Epoch,
    /// The history of the server that was asked.
    pub history: History,
}

/// A page of changes in their final order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OrderedChanges {
    /// In the order of their positions.
    pub changes: Vec<SequencedChange>,
    /// Where to go on: behind all that is in here, and all that was skipped for good.
    pub next: ChangePosition,
    /// There is more, now: the limit was reached.
    pub more: bool,
    /// Changes behind the position that was asked for are missing: they were trimmed, or the
    /// position lies ahead of this database, which was restored. `changes` is empty.
    pub gap: bool,
    /// The database's epoch now. Positions of another one mean nothing.
    pub epoch: Epoch,
}

impl SqlStore {
    /// A cursor that has seen what is visible now.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn follow_start(&self) -> Result<FollowCursor, StoreError> {
        let everything = Snapshot { oldest: 0, next: 0, running: Vec::new() };
        let nothing = unseen(self.backend(), &everything, 0);
        let (state, _) = self.look(self.followers(), Purpose::Follow, &nothing).await?;
        let State { epoch, history, snapshot, newest, .. } = state;
        Ok(FollowCursor { epoch, history, seen: snapshot.up_to(newest) })
    }

    /// What became visible since the cursor, at most `limit` changes: as soon as it is, whatever
    /// else is still running, and each change once.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn follow(&self, cursor: &FollowCursor, limit: u64) -> Result<Followed, StoreError> {
        let backend = self.backend();
        let statement = unseen(backend, &cursor.seen, limit);
        let (state, changes) = self.look(self.followers(), Purpose::Follow, &statement).await?;
        let State { snapshot, epoch, history, trimmed, newest, settled: _ } = state;
        let returned = |number| changes.iter().any(|c| number_of(backend, c.position) == number);
        if epoch != cursor.epoch
            || cursor.seen.misses(number_of(backend, trimmed), &snapshot, returned)
        {
            let next = FollowCursor { epoch, history, seen: snapshot.up_to(newest) };
            let changes = Vec::new();
            return Ok(Followed { changes, next, more: false, gap: true, epoch, history });
        }
        let full = changes.len() as u64 >= limit;
        let seen = match changes.last() {
            Some(last) if full => {
                cursor.seen.advanced_to(number_of(backend, last.position), &snapshot)
            }
            _ => snapshot.up_to(newest),
        };
        let next = FollowCursor { epoch, history, seen };
        Ok(Followed { changes, next, more: full, gap: false, epoch, history })
    }

    /// The changes behind a position, in an order that no change will ever get into the middle of.
    /// They wait for every transaction that was running when they were committed, in whatever
    /// database of the server.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn ordered_changes(
        &self,
        after: ChangePosition,
        limit: u64,
    ) -> Result<OrderedChanges, StoreError> {
        let backend = self.backend();
        let statement = settled(backend, after, limit);
        let (state, changes) = self.look(self.readers(), Purpose::Work, &statement).await?;
        let (end, State { epoch, trimmed, .. }) = (state.settled_end(backend), state);
        if after < trimmed || after > end {
            let changes = Vec::new();
            return Ok(OrderedChanges { changes, next: end, more: false, gap: true, epoch });
        }
        let more = changes.len() as u64 >= limit;
        let next = match changes.last() {
            Some(last) if more => last.position,
            _ => end,
        };
        Ok(OrderedChanges { changes, next, more, gap: false, epoch })
    }

    /// Behind every change that is settled now: where a Watch begins that wants no past.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn ordered_end(&self) -> Result<(ChangePosition, Epoch), StoreError> {
        let backend = self.backend();
        let nothing = settled(backend, ChangePosition::default(), 0);
        let (state, _) = self.look(self.readers(), Purpose::Work, &nothing).await?;
        Ok((state.settled_end(backend), state.epoch))
    }

    /// The number of the database's epoch now, which changes when a backup is restored. Compare
    /// [`Self::identity`].
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn current_epoch(&self) -> Result<u64, StoreError> {
        let row = meta::Entity::find_by_id(meta::EPOCH).one(self.followers()).await?;
        row.and_then(|row| row.value.parse().ok()).ok_or_else(|| corrupt("meta.value", meta::EPOCH))
    }

    fn followers(&self) -> &Connections {
        &self.inner.followers
    }

    fn backend(&self) -> DbBackend {
        self.followers().get_database_backend()
    }

    /// For Watch: however many read an old order again, the caches' follower waits for none.
    fn readers(&self) -> &Connections {
        &self.inner.readers
    }

    /// One statement, so that the state is the one in which exactly these changes are visible, and of
    /// the server that it says.
    async fn look(
        &self,
        connections: &Connections,
        purpose: Purpose,
        statement: &Statement,
    ) -> Result<(State, Vec<SequencedChange>), StoreError> {
        let rows = connections.query_all_raw(statement.clone()).await?;
        let first = rows.first().ok_or_else(|| corrupt("meta.value", meta::EPOCH))?;
        let state = self.state(first, purpose)?;
        let changes = rows.iter().filter_map(|row| sequenced(row).transpose());
        Ok((state, changes.collect::<Result<_, _>>()?))
    }

    /// What a server says, if it may be used.
    fn state(&self, row: &QueryResult, purpose: Purpose) -> Result<State, StoreError> {
        if self.backend() != DbBackend::Postgres {
            return State::read(row, History::default());
        }
        let told = history::told_by(row)?;
        self.fit(self.inner.lineage.judge(told, purpose))?;
        let state = State::read(row, told.unwrap_or_default())?;
        let database: String = row.try_get("", "database")?;
        if Uuid::try_parse(&database).ok() != Some(self.identity().database_id) {
            self.fit(Err(self.inner.lineage.refuse(Unfit::OtherDatabase)))?;
        }
        if state.newest.max(state.trimmed.tx) >= state.snapshot.next {
            self.fit(Err(self.inner.lineage.refuse(Unfit::Restored)))?;
        }
        Ok(state)
    }
}

/// What orders visibility.
fn number_of(backend: DbBackend, position: ChangePosition) -> u64 {
    if backend == DbBackend::Postgres { position.tx } else { position.seq }
}

/// What the database says about itself, at the moment of the changes that come with it.
struct State {
    snapshot: Snapshot,
    epoch: Epoch,
    history: History,
    trimmed: ChangePosition,
    /// What numbers the newest change that is visible, or was trimmed.
    newest: u64,
    /// The last change that nothing can get in front of any more; none on SQLite.
    settled: Option<ChangePosition>,
}

impl State {
    /// Behind every settled change. Always the place of a change, never of what the snapshot says
    /// is free: a server that crashes may give the same numbers again to transactions that come
    /// later, but for those up to a change that was committed.
    fn settled_end(&self, backend: DbBackend) -> ChangePosition {
        if backend != DbBackend::Postgres {
            return self.snapshot.horizon(backend);
        }
        let trimmed = (self.trimmed.tx < self.snapshot.oldest).then_some(self.trimmed);
        self.settled.max(trimmed).unwrap_or_default()
    }
}

impl State {
    fn read(row: &QueryResult, history: History) -> Result<Self, StoreError> {
        let (snapshot, epoch, trimmed): (String, String, String) =
            (row.try_get("", "snapshot")?, row.try_get("", "epoch")?, row.try_get("", "trimmed")?);
        let settled: Option<String> = row.try_get("", "settled")?;
        let newest: Option<i64> = row.try_get("", "newest")?;
        let trimmed: ChangePosition =
            trimmed.parse().map_err(|_| corrupt("meta.value", meta::TRIMMED))?;
        let newest = match newest {
            Some(newest) => count(newest, "changes.tx", "newest")?,
            None => trimmed.tx,
        };
        let number = epoch.parse().map_err(|_| corrupt("meta.value", meta::EPOCH))?;
        Ok(State {
            snapshot: snapshot.parse().map_err(|_| corrupt("snapshot", "changes"))?,
            epoch: Epoch::new(number, history),
            history,
            trimmed,
            newest,
            settled: settled
                .map(|settled| settled.parse().map_err(|_| corrupt("changes.tx", &settled)))
                .transpose()?,
        })
    }
}

/// `None` for the row that is there when there are no changes.
fn sequenced(row: &QueryResult) -> Result<Option<SequencedChange>, StoreError> {
    let Some(seq) = row.try_get::<Option<i64>>("", "seq")? else { return Ok(None) };
    let key = seq.to_string();
    let (tx, tenant, revision): (i64, String, i64) =
        (row.try_get("", "tx")?, row.try_get("", "tenant_id")?, row.try_get("", "revision")?);
    let (touched, at): (String, i64) =
        (row.try_get("", "touched")?, row.try_get("", "created_at")?);
    Ok(Some(SequencedChange {
        position: ChangePosition {
            tx: count(tx, "changes.tx", &key)?,
            seq: count(seq, "changes.seq", &key)?,
        },
        change: Change {
            tenant: TenantId::trusted(&tenant),
            revision: count(revision, "changes.revision", &key)?,
            touched: from_json(&touched, "changes.touched", &key)?,
        },
        at: Timestamp(at),
    }))
}

/// The changes that are visible now and were not in that snapshot.
fn unseen(backend: DbBackend, seen: &Snapshot, limit: u64) -> Statement {
    let (next, limit) = (stored(seen.next), stored(limit));
    if backend != DbBackend::Postgres {
        let sql = format!(
            "{COLUMNS} {SQLITE_STATE} LEFT JOIN ({CHANGES} WHERE seq >= ? ORDER BY seq LIMIT ?) c \
             ON true ORDER BY c.seq"
        );
        return Statement::from_sql_and_values(backend, sql, [next.into(), limit.into()]);
    }
    // What was running is looked up one by one: a transaction that stays open for hours must not
    // have everything since then read again and again.
    let state = postgres_state();
    let sql = format!(
        "{state} LEFT JOIN ( \
           ({CHANGES} WHERE tx >= $1 ORDER BY tx, seq LIMIT $3) UNION ALL \
           ({CHANGES} WHERE tx = ANY (string_to_array($2, ',')::bigint[]) AND tx < $1) \
           ORDER BY tx, seq LIMIT $3 \
         ) c ON true ORDER BY c.tx, c.seq"
    );
    let running: Vec<_> = seen.running.iter().map(u64::to_string).collect();
    let values: [Value; 3] = [next.into(), running.join(",").into(), limit.into()];
    Statement::from_sql_and_values(backend, sql, values)
}

/// The changes behind a position that nothing can get in front of any more.
///
/// A transaction that is visible later is not among those that had ended by now, so its number is at
/// least that of the oldest running one, and all that is returned is below that. By sequence number
/// alone it would not hold: a number is taken long before the commit, and a transaction that began
/// earlier may take a higher one.
fn settled(backend: DbBackend, after: ChangePosition, limit: u64) -> Statement {
    let (tx, seq, limit) = (stored(after.tx), stored(after.seq), stored(limit));
    if backend != DbBackend::Postgres {
        let sql = format!(
            "{COLUMNS} {SQLITE_STATE} LEFT JOIN ({CHANGES} WHERE seq > ? ORDER BY seq LIMIT ?) c \
             ON true ORDER BY c.seq"
        );
        return Statement::from_sql_and_values(backend, sql, [seq.into(), limit.into()]);
    }
    let state = postgres_state();
    let sql = format!(
        "{state} LEFT JOIN ( \
           {CHANGES} WHERE (tx, seq) > ($1, $2) \
           AND tx < pg_snapshot_xmin(pg_current_snapshot())::text::bigint \
           ORDER BY tx, seq LIMIT $3 \
         ) c ON true ORDER BY c.tx, c.seq"
    );
    Statement::from_sql_and_values(backend, sql, [tx.into(), seq.into(), limit.into()])
}

/// Each column by its name, here and wherever else statements are written: a server that has prepared a
/// statement refuses it for good once an added column makes its result another one.
const CHANGES: &str = "SELECT tx, seq, tenant_id, revision, touched, created_at FROM changes";

const COLUMNS: &str = "SELECT state.epoch, state.trimmed, state.newest, state.settled, state.snapshot, \
    c.tx, c.seq, c.tenant_id, c.revision, c.touched, c.created_at";

fn postgres_state() -> String {
    let history = history::COLUMNS;
    format!(
        "{COLUMNS}, state.standby, state.wal_file, state.system, state.database FROM ( \
         SELECT pg_current_snapshot()::text AS snapshot, {history}, \
         (SELECT value FROM meta WHERE key = 'database_id') AS database, \
         (SELECT value FROM meta WHERE key = 'epoch') AS epoch, \
         (SELECT value FROM meta WHERE key = 'trimmed') AS trimmed, \
         (SELECT max(tx) FROM changes) AS newest, \
         (SELECT tx || ':' || seq FROM changes \
         WHERE tx < pg_snapshot_xmin(pg_current_snapshot())::text::bigint \
         ORDER BY tx DESC, seq DESC LIMIT 1) AS settled) state"
    )
}

/// The sequence goes on counting where it was, whatever was deleted.
const SQLITE_STATE: &str = "FROM ( \
    SELECT printf('%d:%d:', last + 1, last + 1) AS snapshot, \
    (SELECT value FROM meta WHERE key = 'epoch') AS epoch, \
    (SELECT value FROM meta WHERE key = 'trimmed') AS trimmed, last AS newest, NULL AS settled \
    FROM (SELECT coalesce(max(seq), 0) AS last FROM sqlite_sequence WHERE name = 'changes')) state";
