//! What a user of PostgreSQL needs to serve, and what it lacks of that.

use sea_orm::{ConnectionTrait, DbBackend, Statement};

use crate::store::{OpenError, SqlStore, StoreError};

/// Each of them is read, added to, changed and deleted from.
const TABLES: [&str; 13] = [
    "audit",
    "audit_checkpoints",
    "audit_heads",
    "audit_subjects",
    "catalog_versions",
    "changes",
    "idempotency",
    "member_roles",
    "member_teams",
    "members",
    "meta",
    "roles",
    "tenants",
];

impl SqlStore {
    /// Makes sure that this user may do all that serving takes, rather than find out in the middle
    /// of a change.
    ///
    /// # Errors
    /// [`OpenError::MissingRights`] names what to grant.
    pub async fn check_rights(&self) -> Result<(), OpenError> {
        let readers = &self.inner.readers;
        if readers.get_database_backend() != DbBackend::Postgres {
            return Ok(());
        }
        let tables = TABLES.map(|table| format!("'{table}'")).join(", ");
        let sql = format!(
            "SELECT string_agg(kind, ', ') || ' ON ' || name AS missing \
             FROM unnest(ARRAY[{tables}]) name, \
             unnest(ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE']) kind \
             WHERE to_regclass(name) IS NOT NULL AND NOT has_table_privilege(name, kind) \
             GROUP BY name ORDER BY name"
        );
        let statement = Statement::from_string(DbBackend::Postgres, sql);
        let failed = |error: sea_orm::DbErr| OpenError::Failed(StoreError::from(error).to_string());
        let rows = readers.query_all_raw(statement).await.map_err(failed)?;
        let missing: Result<Vec<String>, _> =
            rows.iter().map(|row| row.try_get("", "missing")).collect();
        match missing.map_err(failed)? {
            missing if missing.is_empty() => Ok(()),
            missing => Err(OpenError::MissingRights(missing)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_table_is_among_them() {
        let entities = std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/src/store/entity"));
        let names = entities.unwrap().filter_map(|file| {
            let text = std::fs::read_to_string(file.unwrap().path()).unwrap();
            text.split_once("table_name = \"")?.1.split_once('"').map(|(name, _)| name.to_owned())
        });
        let mut names: Vec<String> = names.collect();
        names.sort();
        assert_eq!(names, TABLES);
    }
}
