//! The chat service's own database, and how a plan becomes a condition in it.

use std::fmt;

use rolegate::grpc::pb::{PlanFilterResponse, PlanKind, PlanTerm, Relation};
use sea_orm::{
    ConnectOptions, ConnectionTrait, Database as Connections, DatabaseConnection, DbBackend,
    Statement, Value,
};

use crate::Conversation;
use crate::common::Failure;

/// A condition with the values of its placeholders: ids never become part of the SQL.
pub(crate) struct Condition {
    sql: String,
    values: Vec<String>,
}

impl fmt::Display for Condition {
    /// With the values in it, for people.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut values = self.values.iter();
        for part in self.sql.split_inclusive('?') {
            match part.strip_suffix('?') {
                Some(text) => {
                    write!(f, "{text}'{}'", values.next().map_or("", String::as_str))?;
                }
                None => f.write_str(part)?,
            }
        }
        Ok(())
    }
}

/// The plan as a condition on `conversation`; `None`: do not query at all. A term that this table
/// cannot express is a mistake to be mended, not one to be skipped.
pub(crate) fn condition(
    plan: &PlanFilterResponse,
    member: &str,
) -> Result<Option<Condition>, Failure> {
    match plan.kind() {
        PlanKind::Always => Ok(Some(Condition { sql: "TRUE".to_owned(), values: Vec::new() })),
        PlanKind::Never => Ok(None),
        PlanKind::AnyOf => {
            let mut values = Vec::new();
            let terms: Vec<String> = plan
                .terms
                .iter()
                .map(|term| term_sql(term, member, &mut values))
                .collect::<Result<_, _>>()?;
            Ok(Some(Condition { sql: terms.join(" OR "), values }))
        }
        PlanKind::Unspecified => Err("a plan of no known kind".into()),
    }
}

fn term_sql(term: &PlanTerm, member: &str, values: &mut Vec<String>) -> Result<String, Failure> {
    let placeholders = vec!["?"; term.team_ids.len()].join(", ");
    Ok(match term.relation() {
        Relation::Assignee => {
            values.push(member.to_owned());
            "assignee = ?".to_owned()
        }
        Relation::Team => {
            values.extend_from_slice(&term.team_ids);
            format!("team IN ({placeholders})")
        }
        Relation::Unassigned => "assignee IS NULL".to_owned(),
        Relation::TeamUnassigned => {
            values.extend_from_slice(&term.team_ids);
            format!("(assignee IS NULL AND team IN ({placeholders}))")
        }
        Relation::Pool => "(assignee IS NULL AND team IS NULL)".to_owned(),
        Relation::Participant => {
            values.push(member.to_owned());
            "id IN (SELECT conversation FROM participant WHERE member = ?)".to_owned()
        }
        other @ (Relation::Unspecified | Relation::Any | Relation::Creator | Relation::Public) => {
            return Err(format!("conversations have no {}", other.as_str_name()).into());
        }
    })
}

/// An SQLite database in memory.
pub(crate) struct Database(DatabaseConnection);

impl Database {
    /// Filled with these conversations.
    pub(crate) async fn with(conversations: &[Conversation]) -> Result<Self, Failure> {
        // Every connection to ":memory:" has a database of its own, so there is only one.
        let mut options = ConnectOptions::new("sqlite::memory:");
        options.max_connections(1).min_connections(1).sqlx_logging(false);
        let database = Database(Connections::connect(options).await?);
        for sql in [
            "CREATE TABLE conversation (id TEXT PRIMARY KEY, subject TEXT NOT NULL, assignee TEXT, \
             team TEXT)",
            "CREATE TABLE participant (conversation TEXT NOT NULL, member TEXT NOT NULL)",
        ] {
            database.0.execute_unprepared(sql).await?;
        }
        for Conversation { id, subject, assignee, team, participants } in conversations {
            let values: [Value; 4] = [
                id.clone().into(),
                subject.clone().into(),
                assignee.clone().into(),
                team.clone().into(),
            ];
            database.run("INSERT INTO conversation VALUES (?, ?, ?, ?)", values).await?;
            for member in participants {
                let values: [Value; 2] = [id.clone().into(), member.clone().into()];
                database.run("INSERT INTO participant VALUES (?, ?)", values).await?;
            }
        }
        Ok(database)
    }

    async fn run(&self, sql: &str, values: impl IntoIterator<Item = Value>) -> Result<(), Failure> {
        let statement = Statement::from_sql_and_values(DbBackend::Sqlite, sql, values);
        self.0.execute_raw(statement).await?;
        Ok(())
    }

    /// The ids that meet a condition, in order.
    pub(crate) async fn select(&self, condition: &Condition) -> Result<Vec<String>, Failure> {
        let sql = format!("SELECT id FROM conversation WHERE {} ORDER BY id", condition.sql);
        let values = condition.values.iter().cloned().map(Value::from);
        let statement = Statement::from_sql_and_values(DbBackend::Sqlite, sql, values);
        let rows = self.0.query_all_raw(statement).await?;
        Ok(rows.iter().map(|row| row.try_get("", "id")).collect::<Result<_, _>>()?)
    }

    /// A page of a searched list: the condition stands beside the service's own.
    pub(crate) async fn page(
        &self,
        condition: &Condition,
        search: &str,
        size: u32,
    ) -> Result<Vec<(String, String)>, Failure> {
        let sql = format!(
            "SELECT id, subject || ' (' || coalesce(assignee, 'nobody') || ', ' || \
             coalesce(team, 'no team') || ')' AS line \
             FROM conversation WHERE ({}) AND subject LIKE ? ORDER BY id DESC LIMIT ?",
            condition.sql
        );
        let mut values: Vec<Value> = condition.values.iter().cloned().map(Value::from).collect();
        values.extend([Value::from(format!("%{search}%")), Value::from(size)]);
        let statement = Statement::from_sql_and_values(DbBackend::Sqlite, sql, values);
        let mut page = Vec::new();
        for row in self.0.query_all_raw(statement).await? {
            page.push((row.try_get("", "id")?, row.try_get("", "line")?));
        }
        Ok(page)
    }
}
