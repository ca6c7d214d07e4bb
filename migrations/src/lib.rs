//! The schema of Rolegate's database, one migration a file, the same for SQLite and PostgreSQL.
//!
//! A migration that was released is never edited; what was wrong with it is put right by the next.

mod columns;
mod m0001_initial;
mod m0002_audit_chain;
mod m0003_holders;

use sea_orm_migration::async_trait::async_trait;
use sea_orm_migration::sea_orm::{ConnectionTrait, DbErr, EntityTrait};
use sea_orm_migration::{
    IntoSchemaManagerConnection, MigrationTrait, SchemaManager, seaql_migrations,
};

pub use sea_orm_migration::MigratorTrait;

/// All migrations, oldest first.
#[derive(Debug, Clone, Copy)]
pub struct Migrator;

#[async_trait]
impl MigratorTrait for Migrator {
    fn migrations() -> Vec<Box<dyn MigrationTrait>> {
        vec![
            Box::new(m0001_initial::Migration),
            Box::new(m0002_audit_chain::Migration),
            Box::new(m0003_holders::Migration),
        ]
    }
}

/// The names of the migrations that a database has had, none if it is empty. Only reads: the
/// migrator's own way makes its table first, and fails over names that it does not know.
///
/// # Errors
/// What the database says.
pub async fn applied<'c, C>(connection: &'c C) -> Result<Vec<String>, DbErr>
where
    C: ConnectionTrait,
    &'c C: IntoSchemaManagerConnection<'c>,
{
    if !SchemaManager::new(connection).has_table("seaql_migrations").await? {
        return Ok(Vec::new());
    }
    let rows = seaql_migrations::Entity::find().all(connection).await?;
    Ok(rows.into_iter().map(|row| row.version).collect())
}
