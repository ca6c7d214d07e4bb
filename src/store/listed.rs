//! Rows of many ids at once, each found by an index, and what else keeps a statement's worst plan near
//! its best one.
//!
//! PostgreSQL chooses how to join tables by statistics, and those are older than the last import, or
//! missing. Where they say that a tenant has six members, comparing each holder of a role with each
//! member of the tenant looks cheap; with 10,000 of both it takes minutes. So no statement of this
//! store joins tables that can be large, and none looks for `id IN (...)` among the rows of a tenant:
//!
//! - one pass goes along one index, over the holders of a role, say;
//! - what is wanted of another table is asked for each row by a subquery in the place of a value, which
//!   the planner never turns into a join, by all columns of a key, which leaves it one row to find;
//! - lists of ids are a table of their own, with a `LATERAL` subquery for each id. Its `OFFSET 0` is
//!   what keeps PostgreSQL from making a join of it.
//!
//! `tests/it/store/plans.rs` reads what the server did for every statement. SQLite knows no statistics
//! here and always does what these rules say.

use std::borrow::Borrow;

use sea_orm::sea_query::{Expr, SelectStatement};
use sea_orm::{
    ColumnTrait, ConnectionTrait, DbBackend, DbErr, EntityTrait, IdenStatic, Iterable, QueryFilter,
    Statement, Value,
};

use crate::domain::ids::TenantId;

/// The columns by which an entity's rows are found: the tenant's, and that of the ids.
pub(super) struct By<E: EntityTrait> {
    /// Names the tenant.
    pub(super) tenant: E::Column,
    /// Names what is listed.
    pub(super) key: E::Column,
}

/// Finds the rows of a tenant that have one of these keys, in no order. At most
/// [`super::read::CHUNK`] keys, each of them once.
pub(super) async fn rows_of<E, S>(
    connection: &impl ConnectionTrait,
    by: By<E>,
    tenant: &TenantId,
    keys: &[S],
) -> Result<Vec<E::Model>, DbErr>
where
    E: EntityTrait,
    S: Borrow<str> + Sync,
{
    if keys.is_empty() {
        return Ok(Vec::new());
    }
    if connection.get_database_backend() != DbBackend::Postgres {
        return listed(by, tenant, keys).all(connection).await;
    }
    let columns: Vec<&str> = E::Column::iter().map(|column| column.as_str()).collect();
    let columns = columns.join(", ");
    let (table, by_tenant, key) = (E::default().table_name(), by.tenant.as_str(), by.key.as_str());
    let sql = format!(
        "SELECT {columns} FROM json_array_elements_text($2::json) AS wanted(wanted_id) \
         CROSS JOIN LATERAL (SELECT {columns} FROM {table} \
         WHERE {by_tenant} = $1 AND {key} = wanted_id OFFSET 0) AS found"
    );
    let values = [tenant.as_str().into(), list(keys)?];
    let statement = Statement::from_sql_and_values(DbBackend::Postgres, sql, values);
    E::find().from_raw_sql(statement).all(connection).await
}

/// Deletes the rows of a tenant that have one of these keys, and says how many. Keys as above.
///
/// PostgreSQL deletes rows by where they lie, which it finds for each key as above. Nobody else moves
/// them meanwhile: the transaction has locked the tenant.
pub(super) async fn delete_rows_of<E, S>(
    connection: &impl ConnectionTrait,
    by: By<E>,
    tenant: &TenantId,
    keys: &[S],
) -> Result<u64, DbErr>
where
    E: EntityTrait,
    S: Borrow<str> + Sync,
{
    if keys.is_empty() {
        return Ok(0);
    }
    if connection.get_database_backend() != DbBackend::Postgres {
        let rows = E::delete_many()
            .filter(by.tenant.eq(tenant.as_str()))
            .filter(by.key.is_in(keys.iter().map(Borrow::borrow)));
        return Ok(rows.exec(connection).await?.rows_affected);
    }
    let (table, by_tenant, key) = (E::default().table_name(), by.tenant.as_str(), by.key.as_str());
    let sql = format!(
        "DELETE FROM {table} WHERE ctid = ANY (ARRAY(SELECT place \
         FROM json_array_elements_text($2::json) AS wanted(wanted_id) \
         CROSS JOIN LATERAL (SELECT ctid AS place FROM {table} \
         WHERE {by_tenant} = $1 AND {key} = wanted_id OFFSET 0) AS found))"
    );
    let values = [tenant.as_str().into(), list(keys)?];
    let statement = Statement::from_sql_and_values(DbBackend::Postgres, sql, values);
    Ok(connection.execute_raw(statement).await?.rows_affected())
}

/// The same rows as SQLite takes it.
pub(super) fn listed<E: EntityTrait, S: Borrow<str>>(
    by: By<E>,
    tenant: &TenantId,
    keys: &[S],
) -> sea_orm::Select<E> {
    E::find()
        .filter(by.tenant.eq(tenant.as_str()))
        .filter(by.key.is_in(keys.iter().map(|key| key.borrow())))
}

/// Ids as one value of a statement: `json_array_elements_text` and `json_each` read it.
pub(super) fn list<S: Borrow<str>>(ids: &[S]) -> Result<Value, DbErr> {
    let ids: Vec<&str> = ids.iter().map(Borrow::borrow).collect();
    serde_json::to_string(&ids).map(Value::from).map_err(|error| DbErr::Json(error.to_string()))
}

/// Asks a question for each row that is found otherwise. Its answer is a value, at most one.
pub(super) fn asked_for_each(question: SelectStatement) -> Expr {
    Expr::from(question)
}
