//! The schema of Rolegate's database, one migration a file, the same for SQLite and PostgreSQL.
//!
//! A migration that was released is never edited; what was wrong with it is put right by the next.

mod columns;
mod m0001_initial;

use sea_orm_migration::async_trait::async_trait;
use sea_orm_migration::{MigrationTrait, MigratorTrait};

/// All migrations, oldest first.
#[derive(Debug, Clone, Copy)]
pub struct Migrator;

#[async_trait]
impl MigratorTrait for Migrator {
    fn migrations() -> Vec<Box<dyn MigrationTrait>> {
        vec![Box::new(m0001_initial::Migration)]
    }
}
