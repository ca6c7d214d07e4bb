//! The audit trail becomes one keyed chain for each tenant. What is in the trail already is chained
//! by the program that applies this, in the same transaction: it has the key.

use sea_orm_migration::async_trait::async_trait;
use sea_orm_migration::sea_orm::{ConnectionTrait, DbErr};
use sea_orm_migration::sea_query::{ColumnDef, Index, Table, TableCreateStatement};
use sea_orm_migration::{MigrationName, MigrationTrait, SchemaManager};

use crate::columns::{Columns, number, optional_number, optional_text, text};
use crate::m0001_initial::{index, key, random_hex, remember};

pub(crate) struct Migration;

impl MigrationName for Migration {
    fn name(&self) -> &str {
        "m0002_audit_chain"
    }
}

#[async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let columns = Columns(manager.get_database_backend());
        for column in chain() {
            // One at a time: SQLite takes no more.
            let alter = Table::alter().table("audit").add_column(column).take();
            manager.alter_table(alter).await?;
        }
        manager.create_table(audit_heads(columns)).await?;
        manager.create_table(audit_checkpoints(columns)).await?;
        // An event's number takes the place of the row's, which is nobody's business any more.
        for old in ["ix_audit_tenant", "ix_audit_actor"] {
            manager.drop_index(Index::drop().name(old).table("audit").to_owned()).await?;
        }
        let numbers = index("ux_audit_number", "audit", &["tenant_id", "number"]).unique().take();
        manager.create_index(numbers).await?;
        let actors = index("ix_audit_actor", "audit", &["tenant_id", "actor", "number"]);
        manager.create_index(actors).await?;

        remember(manager, "audit_key", random_hex::<32>()?).await?;
        remember(manager, "audit_key_ids", String::new()).await?;
        // Programs that know only the first schema would leave events out of the chain.
        let only_newer = "UPDATE meta SET value = '2' WHERE key = 'oldest_reader'";
        manager.get_connection().execute_unprepared(only_newer).await?;
        Ok(())
    }

    async fn down(&self, _: &SchemaManager) -> Result<(), DbErr> {
        Err(DbErr::Migration("going back would delete what proves the audit trail".into()))
    }
}

/// What an event needs to be part of a chain. Empty only while old events are being chained.
fn chain() -> Vec<ColumnDef> {
    vec![
        // Its place: 1, 2, 3 and so on.
        optional_number("number"),
        // Which key the link was made with.
        optional_text("key_id"),
        optional_text("link"),
        // What is personal goes into the link as digests with this salt.
        optional_text("salt"),
        // The digests that the link covers.
        optional_text("covered"),
        // The digests of what there is now, once something was erased, and who did that.
        optional_text("digests"),
        optional_text("rewrites"),
        // What this event erased from others.
        optional_text("erased"),
    ]
}

/// The last link of each chain. Its row is locked by whoever adds one.
fn audit_heads(columns: Columns) -> TableCreateStatement {
    Table::create()
        .table("audit_heads")
        .col(columns.key("tenant_id"))
        .col(number("number"))
        .col(text("key_id"))
        .col(text("link"))
        .primary_key(&mut key(&["tenant_id"]))
        .take()
}

/// Where a chain begins whose older events were deleted for their age or with their tenant.
fn audit_checkpoints(columns: Columns) -> TableCreateStatement {
    Table::create()
        .table("audit_checkpoints")
        .col(columns.key("tenant_id"))
        .col(number("number"))
        .col(text("link"))
        .col(text("link_key_id"))
        .col(number("revision"))
        .col(number("at"))
        .col(number("deleted"))
        .col(text("pending"))
        .col(text("key_id"))
        .col(text("mac"))
        .primary_key(&mut key(&["tenant_id"]))
        .take()
}
