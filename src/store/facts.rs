//! What operators are told of the database.

use migrations::{Migrator, MigratorTrait};
use sea_orm::{ConnectionTrait, DatabaseConnectionType, DbBackend, sqlx};

use super::SqlStore;
use super::bounded::Connections;

/// The newest schema that this program knows, by the name of its migration.
#[must_use]
pub fn newest_schema() -> String {
    Migrator::migrations().last().map(|newest| newest.name().to_owned()).unwrap_or_default()
}

/// One pool of connections, as it is now. How long callers wait for one is not known: the pool does
/// not tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PoolStats {
    /// What it is for.
    pub pool: &'static str,
    /// Connections at work.
    pub in_use: u32,
    /// Connections that wait for work.
    pub idle: u32,
    /// How many there may be.
    pub max: u32,
}

impl SqlStore {
    /// Every pool.
    #[must_use]
    pub fn pools(&self) -> Vec<PoolStats> {
        let super::sql::Inner { readers, writers, followers, .. } = &*self.inner;
        let mut pools = vec![("read", readers), ("write", writers)];
        // On SQLite the readers follow, too.
        if followers.get_database_backend() == DbBackend::Postgres {
            pools.push(("follow", followers));
        }
        pools.into_iter().filter_map(|(pool, connections)| stats(pool, connections)).collect()
    }
}

fn stats(pool: &'static str, connections: &Connections) -> Option<PoolStats> {
    let connection = connections.inner();
    let (open, idle, max) = match &connection.inner {
        DatabaseConnectionType::SqlxSqlitePoolConnection(_) => {
            numbers(connection.get_sqlite_connection_pool())
        }
        DatabaseConnectionType::SqlxPostgresPoolConnection(_) => {
            numbers(connection.get_postgres_connection_pool())
        }
        _ => return None,
    };
    // Read one after the other, so the two need not fit.
    let idle = u32::try_from(idle).unwrap_or(u32::MAX).min(open);
    Some(PoolStats { pool, in_use: open - idle, idle, max })
}

fn numbers<D: sqlx::Database>(pool: &sqlx::Pool<D>) -> (u32, usize, u32) {
    (pool.size(), pool.num_idle(), pool.options().get_max_connections())
}
