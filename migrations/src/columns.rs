//! The few kinds of columns that the schema is made of.

use sea_orm_migration::sea_orm::DbBackend;
use sea_orm_migration::sea_query::{ColumnDef, Expr};

/// Makes columns for one kind of database.
#[derive(Clone, Copy)]
pub(crate) struct Columns(pub(crate) DbBackend);

impl Columns {
    /// Ids and name keys: equal and ordered byte by byte. SQLite does so by itself; PostgreSQL would
    /// order by the language of the database, and pages that go by id would skip or repeat rows
    /// where that order changes with a library update.
    pub(crate) fn key(self, name: &'static str) -> ColumnDef {
        let mut column = self.optional_key(name);
        column.not_null();
        column
    }

    /// The same, when there may be none.
    pub(crate) fn optional_key(self, name: &'static str) -> ColumnDef {
        let mut column = ColumnDef::new(name);
        column.text();
        if self.0 == DbBackend::Postgres {
            column.extra("COLLATE \"C\"");
        }
        column
    }

    /// The number of the transaction that wrote the row. PostgreSQL gives it; on SQLite, where the
    /// rows of a sequence become visible in its order, there is no need for one.
    pub(crate) fn transaction(self, name: &'static str) -> ColumnDef {
        let mut column = number(name);
        if self.0 == DbBackend::Postgres {
            column.default(Expr::cust("pg_current_xact_id()::text::bigint"));
        } else {
            column.default(0);
        }
        column
    }
}

/// A text that is stored and shown, but neither looked up nor ordered by.
pub(crate) fn text(name: &'static str) -> ColumnDef {
    ColumnDef::new(name).text().not_null().take()
}

/// The same, when there may be none.
pub(crate) fn optional_text(name: &'static str) -> ColumnDef {
    ColumnDef::new(name).text().null().take()
}

/// Revisions, versions, and points in time (microseconds since 1970).
pub(crate) fn number(name: &'static str) -> ColumnDef {
    ColumnDef::new(name).big_integer().not_null().take()
}

/// The same, when there may be none.
pub(crate) fn optional_number(name: &'static str) -> ColumnDef {
    ColumnDef::new(name).big_integer().null().take()
}

/// A number that the database gives out in order, never the same twice.
pub(crate) fn sequence(name: &'static str) -> ColumnDef {
    ColumnDef::new(name).big_integer().not_null().auto_increment().primary_key().take()
}
