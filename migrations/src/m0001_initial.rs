//! Everything that the first release keeps.

use sea_orm_migration::async_trait::async_trait;
use sea_orm_migration::sea_orm::{DbBackend, DbErr};
use sea_orm_migration::sea_query::{
    ForeignKey, ForeignKeyAction, ForeignKeyCreateStatement, Index, IndexCreateStatement, Query,
    Table, TableCreateStatement,
};
use sea_orm_migration::{MigrationName, MigrationTrait, SchemaManager};

use crate::columns::{Columns, number, optional_number, optional_text, sequence, text};

pub(crate) struct Migration;

impl MigrationName for Migration {
    fn name(&self) -> &str {
        "m0001_initial"
    }
}

#[async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let columns = Columns(manager.get_database_backend());
        for table in [
            meta(columns),
            catalog_versions(columns),
            tenants(columns),
            roles(columns),
            members(columns),
            member_roles(columns),
            member_teams(columns),
            changes(columns),
            audit(columns),
            audit_subjects(columns),
            idempotency(columns),
        ] {
            manager.create_table(table).await?;
        }
        for index in indexes() {
            manager.create_index(index).await?;
        }
        if columns.0 == DbBackend::Postgres {
            // What followers look for. SQLite goes by `seq` alone.
            manager.create_index(index("ix_changes_tx", "changes", &["tx", "seq"])).await?;
        }
        identify(manager).await
    }

    async fn down(&self, _: &SchemaManager) -> Result<(), DbErr> {
        Err(DbErr::Migration("going back below the first schema would delete everything".into()))
    }
}

/// What the database says about itself, by key.
fn meta(columns: Columns) -> TableCreateStatement {
    Table::create()
        .table("meta")
        .col(columns.key("key"))
        .col(text("value"))
        .primary_key(&mut key(&["key"]))
        .take()
}

fn catalog_versions(columns: Columns) -> TableCreateStatement {
    Table::create()
        .table("catalog_versions")
        .col(columns.key("catalog_id"))
        .col(number("version"))
        .col(text("hash"))
        .col(text("source"))
        .col(number("recorded_at"))
        .primary_key(&mut key(&["catalog_id", "version"]))
        .take()
}

fn tenants(columns: Columns) -> TableCreateStatement {
    Table::create()
        .table("tenants")
        .col(columns.key("id"))
        .col(columns.key("catalog_id"))
        .col(number("catalog_version"))
        .col(optional_text("plan"))
        .col(columns.key("state"))
        .col(number("revision"))
        .col(number("own_revision"))
        .col(number("created_at"))
        .col(number("updated_at"))
        .col(optional_number("purge_at"))
        .primary_key(&mut key(&["id"]))
        .take()
}

fn roles(columns: Columns) -> TableCreateStatement {
    Table::create()
        .table("roles")
        .col(columns.key("tenant_id"))
        .col(columns.key("id"))
        .col(text("name"))
        .col(columns.key("name_key"))
        .col(text("description"))
        .col(text("grants"))
        .col(number("revision"))
        .col(number("created_at"))
        .col(number("updated_at"))
        .primary_key(&mut key(&["tenant_id", "id"]))
        .foreign_key(&mut of_tenant("roles"))
        .take()
}

fn members(columns: Columns) -> TableCreateStatement {
    Table::create()
        .table("members")
        .col(columns.key("tenant_id"))
        .col(columns.key("id"))
        .col(columns.key("status"))
        .col(number("revision"))
        .col(number("created_at"))
        .col(number("updated_at"))
        .primary_key(&mut key(&["tenant_id", "id"]))
        .foreign_key(&mut of_tenant("members"))
        .take()
}

/// A role may be a default one of the catalog, hence no foreign key to `roles`.
fn member_roles(columns: Columns) -> TableCreateStatement {
    Table::create()
        .table("member_roles")
        .col(columns.key("tenant_id"))
        .col(columns.key("member_id"))
        .col(columns.key("role_id"))
        .col(number("position"))
        .primary_key(&mut key(&["tenant_id", "member_id", "role_id"]))
        .foreign_key(&mut of_member("member_roles"))
        .take()
}

fn member_teams(columns: Columns) -> TableCreateStatement {
    Table::create()
        .table("member_teams")
        .col(columns.key("tenant_id"))
        .col(columns.key("member_id"))
        .col(columns.key("team_id"))
        .primary_key(&mut key(&["tenant_id", "member_id", "team_id"]))
        .foreign_key(&mut of_member("member_teams"))
        .take()
}

fn changes(columns: Columns) -> TableCreateStatement {
    Table::create()
        .table("changes")
        .col(sequence("seq"))
        .col(columns.transaction("tx"))
        .col(columns.key("tenant_id"))
        .col(number("revision"))
        .col(text("touched"))
        .col(number("created_at"))
        .take()
}

/// No foreign key: what was done is kept on its own terms.
fn audit(columns: Columns) -> TableCreateStatement {
    Table::create()
        .table("audit")
        .col(sequence("seq"))
        .col(columns.key("tenant_id"))
        .col(number("revision"))
        .col(number("at"))
        .col(text("caller"))
        .col(columns.optional_key("actor"))
        .col(text("method"))
        .col(optional_text("request_id"))
        .col(optional_text("before"))
        .col(optional_text("after"))
        .col(optional_text("refusal"))
        .take()
}

/// Which roles and members an audit event is about, so that it is found by them.
fn audit_subjects(columns: Columns) -> TableCreateStatement {
    Table::create()
        .table("audit_subjects")
        .col(number("audit_seq"))
        .col(columns.key("tenant_id"))
        .col(columns.key("kind"))
        .col(columns.key("subject_id"))
        .primary_key(&mut key(&["audit_seq", "kind", "subject_id"]))
        .foreign_key(
            ForeignKey::create()
                .name("fk_audit_subjects_audit")
                .from("audit_subjects", "audit_seq")
                .to("audit", "seq")
                .on_delete(ForeignKeyAction::Cascade),
        )
        .take()
}

fn idempotency(columns: Columns) -> TableCreateStatement {
    Table::create()
        .table("idempotency")
        .col(columns.key("caller"))
        .col(columns.key("tenant_id"))
        .col(columns.key("method"))
        .col(columns.key("request_id"))
        .col(text("payload_hash"))
        .col(text("response"))
        .col(number("created_at"))
        .col(number("expires_at"))
        .primary_key(&mut key(&["caller", "tenant_id", "method", "request_id"]))
        .take()
}

fn indexes() -> Vec<IndexCreateStatement> {
    vec![
        index("ix_tenants_purge", "tenants", &["state", "purge_at"]),
        index("ux_roles_name", "roles", &["tenant_id", "name_key"]).unique().take(),
        index("ix_member_roles_role", "member_roles", &["tenant_id", "role_id", "member_id"]),
        index("ix_member_teams_team", "member_teams", &["tenant_id", "team_id", "member_id"]),
        index("ux_changes_revision", "changes", &["tenant_id", "revision"]).unique().take(),
        index("ix_changes_age", "changes", &["created_at"]),
        index("ix_audit_tenant", "audit", &["tenant_id", "seq"]),
        index("ix_audit_actor", "audit", &["tenant_id", "actor", "seq"]),
        index("ix_audit_age", "audit", &["at"]),
        index(
            "ix_audit_subjects_subject",
            "audit_subjects",
            &["tenant_id", "kind", "subject_id", "audit_seq"],
        ),
        index("ix_idempotency_tenant", "idempotency", &["tenant_id"]),
        index("ix_idempotency_expiry", "idempotency", &["expires_at"]),
    ]
}

/// Gives the database its id, its first epoch, the key that page tokens are signed with, and what
/// else it says about itself.
async fn identify(manager: &SchemaManager<'_>) -> Result<(), DbErr> {
    for (key, value) in [
        ("database_id", random_hex::<16>()?),
        ("epoch", "1".to_owned()),
        ("signing_key", random_hex::<32>()?),
        // A later migration that older programs can live with leaves this; one that they cannot
        // live with sets it to its own number.
        ("oldest_reader", "1".to_owned()),
        // Nothing was trimmed so far.
        ("trimmed", "0:0".to_owned()),
    ] {
        remember(manager, key, value).await?;
    }
    Ok(())
}

/// Adds to what the database says about itself.
pub(crate) async fn remember(
    manager: &SchemaManager<'_>,
    key: &'static str,
    value: String,
) -> Result<(), DbErr> {
    let mut insert = Query::insert();
    insert.into_table("meta").columns(["key", "value"]);
    insert
        .values([key.into(), value.into()])
        .map_err(|error| DbErr::Migration(error.to_string()))?;
    manager.execute(insert).await
}

pub(crate) fn random_hex<const BYTES: usize>() -> Result<String, DbErr> {
    let mut bytes = [0_u8; BYTES];
    getrandom::fill(&mut bytes).map_err(|error| {
        DbErr::Migration(format!("the operating system gives no random bytes: {error}"))
    })?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

pub(crate) fn key(columns: &[&'static str]) -> IndexCreateStatement {
    let mut key = Index::create();
    for column in columns {
        key.col(*column);
    }
    key
}

fn of_tenant(table: &'static str) -> ForeignKeyCreateStatement {
    ForeignKey::create()
        .name(format!("fk_{table}_tenant"))
        .from(table, "tenant_id")
        .to("tenants", "id")
        .take()
}

fn of_member(table: &'static str) -> ForeignKeyCreateStatement {
    ForeignKey::create()
        .name(format!("fk_{table}_member"))
        .from(table, ("tenant_id", "member_id"))
        .to("members", ("tenant_id", "id"))
        .on_delete(ForeignKeyAction::Cascade)
        .take()
}

pub(crate) fn index(
    name: &'static str,
    table: &'static str,
    columns: &[&'static str],
) -> IndexCreateStatement {
    key(columns).name(name).table(table).take()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sql(backend: DbBackend) -> String {
        backend.build(&members(Columns(backend))).to_string()
    }

    #[test]
    fn ids_are_compared_by_bytes_on_both_databases() {
        let postgres = sql(DbBackend::Postgres);
        for column in ["tenant_id", "id", "status"] {
            let expected = format!("\"{column}\" text NOT NULL COLLATE \"C\"");
            assert!(postgres.contains(&expected), "{postgres}");
        }
        assert!(!sql(DbBackend::Sqlite).contains("COLLATE"), "binary is SQLite's own default");
    }
}
