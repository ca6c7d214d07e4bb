//! Query plans as a caller uses them: as the WHERE clause of a query of its own, over its own
//! tables.

use rolegate::domain::ids::TeamId;
use rolegate::domain::plan::{QueryPlan, Term};
use sea_orm::{ConnectOptions, ConnectionTrait, Database, DatabaseConnection, Statement, Value};

use crate::reference::model::Resource;

/// A caller's database, with resources of which everything is known.
pub(super) struct CallersTables {
    database: DatabaseConnection,
}

const TABLES: [&str; 4] = [
    "CREATE TABLE resources (number INTEGER PRIMARY KEY, creator TEXT, public BOOLEAN NOT NULL)",
    "CREATE TABLE assignees (number INTEGER NOT NULL, member TEXT NOT NULL)",
    "CREATE TABLE teams (number INTEGER NOT NULL, team TEXT NOT NULL)",
    "CREATE TABLE participants (number INTEGER NOT NULL, member TEXT NOT NULL)",
];

impl CallersTables {
    pub(super) async fn new() -> Self {
        let mut options = ConnectOptions::new("sqlite::memory:");
        // Each connection would see a database of its own.
        options.max_connections(1).sqlx_logging(false);
        let database = Database::connect(options).await.unwrap();
        for table in TABLES {
            database.execute_unprepared(table).await.unwrap();
        }
        CallersTables { database }
    }

    /// Replaces what is in the tables. What is not known of a resource, is not there.
    pub(super) async fn fill(&self, resources: &[Resource]) {
        for table in ["resources", "assignees", "teams", "participants"] {
            self.run(&format!("DELETE FROM {table}"), vec![]).await;
        }
        for (number, resource) in resources.iter().enumerate() {
            let number = || Value::from(number as i64);
            let creator = resource.creator.clone().flatten();
            let public = resource.public == Some(true);
            let row = vec![number(), creator.into(), public.into()];
            self.run("INSERT INTO resources VALUES (?, ?, ?)", row).await;
            for (table, ids) in [
                ("assignees", &resource.assignees),
                ("teams", &resource.teams),
                ("participants", &resource.participants),
            ] {
                for id in ids.iter().flatten() {
                    let row = vec![number(), id.as_str().into()];
                    self.run(&format!("INSERT INTO {table} VALUES (?, ?)"), row).await;
                }
            }
        }
    }

    /// The resources that a member may see by this plan.
    pub(super) async fn select(&self, member: &str, plan: &QueryPlan) -> Vec<usize> {
        let mut query = "SELECT r.number FROM resources r".to_owned();
        let mut values = Vec::new();
        match plan {
            QueryPlan::Always => {}
            QueryPlan::Never => return Vec::new(),
            QueryPlan::AnyOf(terms) => {
                let conditions: Vec<_> =
                    terms.iter().map(|term| condition(term, member, &mut values)).collect();
                query.push_str(&format!(" WHERE {}", conditions.join(" OR ")));
            }
        }
        query.push_str(" ORDER BY r.number");
        let statement =
            Statement::from_sql_and_values(self.database.get_database_backend(), query, values);
        let rows = self.database.query_all_raw(statement).await.unwrap();
        let number = |row: &sea_orm::QueryResult| row.try_get::<i64>("", "number").unwrap();
        rows.iter().map(|row| number(row) as usize).collect()
    }

    async fn run(&self, sql: &str, values: Vec<Value>) {
        let backend = self.database.get_database_backend();
        let statement = Statement::from_sql_and_values(backend, sql, values);
        self.database.execute_raw(statement).await.unwrap();
    }
}

/// One term, as the proto's comment on `PlanTerm` has it.
fn condition(term: &Term, member: &str, values: &mut Vec<Value>) -> String {
    const NOBODY: &str = "NOT EXISTS (SELECT 1 FROM assignees a WHERE a.number = r.number)";
    let mut is_me = || values.push(member.into());
    match term {
        Term::Assignee => {
            is_me();
            "r.number IN (SELECT a.number FROM assignees a WHERE a.member = ?)".to_owned()
        }
        Term::Team(teams) => in_teams(teams, values),
        Term::Unassigned => NOBODY.to_owned(),
        Term::TeamUnassigned(teams) => format!("({NOBODY} AND {})", in_teams(teams, values)),
        Term::Pool => {
            format!("({NOBODY} AND NOT EXISTS (SELECT 1 FROM teams t WHERE t.number = r.number))")
        }
        Term::Creator => {
            is_me();
            "r.creator = ?".to_owned()
        }
        Term::Participant => {
            is_me();
            "r.number IN (SELECT p.number FROM participants p WHERE p.member = ?)".to_owned()
        }
        Term::Public => "r.public".to_owned(),
    }
}

fn in_teams(teams: &[TeamId], values: &mut Vec<Value>) -> String {
    assert!(!teams.is_empty(), "a plan never has an empty team list");
    values.extend(teams.iter().map(|team| Value::from(team.as_str())));
    let places = vec!["?"; teams.len()].join(", ");
    format!("r.number IN (SELECT t.number FROM teams t WHERE t.team IN ({places}))")
}
