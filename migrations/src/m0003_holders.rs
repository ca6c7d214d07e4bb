//! The holders of a role and the members of a team are found by indexes that nothing else can be found
//! by.
//!
//! What a member holds is looked up in the primary key. The old indexes began with the tenant as well;
//! where the server's statistics know no better than that a tenant has one member, both looked equally
//! good, and for each of 100,000 holders all 100,000 rows of the tenant could be gone through. SQLite
//! goes by how many columns of an index are given, and needs no help.

use sea_orm_migration::async_trait::async_trait;
use sea_orm_migration::sea_orm::{DbBackend, DbErr};
use sea_orm_migration::sea_query::Index;
use sea_orm_migration::{MigrationName, MigrationTrait, SchemaManager};

use crate::m0001_initial::index;

pub(crate) struct Migration;

impl MigrationName for Migration {
    fn name(&self) -> &str {
        "m0003_holders"
    }
}

#[async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        if manager.get_database_backend() != DbBackend::Postgres {
            return Ok(());
        }
        for (old, new, table, of) in [
            ("ix_member_roles_role", "ix_member_roles_holders", "member_roles", "role_id"),
            ("ix_member_teams_team", "ix_member_teams_members", "member_teams", "team_id"),
        ] {
            manager.create_index(index(new, table, &[of, "tenant_id", "member_id"])).await?;
            manager.drop_index(Index::drop().name(old).table(table).to_owned()).await?;
        }
        Ok(())
    }

    async fn down(&self, _: &SchemaManager) -> Result<(), DbErr> {
        Err(DbErr::Migration("there is no way back: restore a backup".into()))
    }
}
