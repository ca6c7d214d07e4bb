//! How the connections to the database are used, for operators.

use sea_orm::{DatabaseConnection, DatabaseConnectionType};

use super::SqlStore;

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
        let inner = &self.inner;
        let pools =
            [("read", &inner.readers), ("write", &inner.writers), ("follow", &inner.followers)];
        pools.into_iter().filter_map(|(pool, bounded)| stats(pool, bounded.inner())).collect()
    }
}

fn stats(pool: &'static str, connection: &DatabaseConnection) -> Option<PoolStats> {
    let (open, idle, max) = match &connection.inner {
        DatabaseConnectionType::SqlxSqlitePoolConnection(_) => {
            let pool = connection.get_sqlite_connection_pool();
            (pool.size(), pool.num_idle(), pool.options().get_max_connections())
        }
        DatabaseConnectionType::SqlxPostgresPoolConnection(_) => {
            let pool = connection.get_postgres_connection_pool();
            (pool.size(), pool.num_idle(), pool.options().get_max_connections())
        }
        _ => return None,
    };
    // Read one after the other, so the two need not fit.
    let idle = u32::try_from(idle).unwrap_or(u32::MAX).min(open);
    Some(PoolStats { pool, in_use: open - idle, idle, max })
}
