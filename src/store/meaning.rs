//! What PostgreSQL says, in words that an operator can act on: no addresses, no SQL, no values, and
//! nothing of the server's own source code.

use sqlx::error::DatabaseError;
use sqlx::postgres::PgDatabaseError;

/// What a code of an answer means.
struct Meaning {
    code: &'static str,
    /// For the operator: what it is and what to do about it.
    told: &'static str,
    /// For health endpoints, where it is something that does not pass by itself.
    probe: Option<&'static str>,
}

const fn passing(code: &'static str, told: &'static str) -> Meaning {
    Meaning { code, told, probe: None }
}

const fn lasting(code: &'static str, told: &'static str, probe: &'static str) -> Meaning {
    Meaning { code, told, probe: Some(probe) }
}

/// By SQLSTATE.
const POSTGRES: [Meaning; 13] = [
    lasting(
        "25006",
        "the database takes no writes: it is a standby, or set to read-only \
         (default_transaction_read_only)",
        "the database is read-only",
    ),
    lasting(
        "28000",
        "the database server does not let this user in",
        "the database server does not let this program in",
    ),
    lasting(
        "28P01",
        "the database server does not take this password",
        "the database server does not let this program in",
    ),
    lasting(
        "42501",
        "the database user lacks a right (docs/operations/deploy.md lists what it needs)",
        "the database user lacks a right",
    ),
    lasting(
        "53100",
        "the disk of the database server is full",
        "the disk of the database server is full",
    ),
    passing("53200", "the database server is out of memory"),
    lasting(
        "53300",
        "the database server takes no more connections: raise its limit (max_connections, or the \
         CONNECTION LIMIT of the role or the database), or lower --database-connections",
        "the database server takes no more connections",
    ),
    passing("55P03", "another transaction held a lock for longer than --database-lock-timeout-ms"),
    passing(
        "57014",
        "a statement was ended, as a rule because it took longer than \
         --database-statement-timeout-ms",
    ),
    passing("57P01", "the database server is shutting down"),
    passing("57P02", "the database server is shutting down"),
    passing("57P03", "the database server is starting or shutting down"),
    lasting(
        "58030",
        "the disk of the database server fails",
        "the disk of the database server fails",
    ),
];

fn meaning(answer: &dyn DatabaseError) -> Option<&'static Meaning> {
    let code = answer.code()?;
    answer.try_downcast_ref::<PgDatabaseError>()?;
    POSTGRES.iter().find(|meaning| meaning.code == code)
}

/// What to tell health endpoints of an error: nothing of what passes by itself.
pub(super) fn for_probes(error: &sqlx::Error) -> Option<&'static str> {
    meaning(error.as_database_error()?)?.probe
}

/// What an error says to an operator.
pub(super) fn plain(error: &sqlx::Error) -> String {
    match error {
        sqlx::Error::Database(answer) => answered(answer.as_ref()),
        sqlx::Error::Io(error) => error.to_string(),
        sqlx::Error::Tls(error) => format!("TLS: {error}"),
        sqlx::Error::Configuration(error) => error.to_string(),
        sqlx::Error::Protocol(_) => "what came is not PostgreSQL's protocol".to_owned(),
        sqlx::Error::PoolTimedOut => {
            "no connection became free in time, or the server cannot be reached".to_owned()
        }
        sqlx::Error::PoolClosed => "the database was closed".to_owned(),
        other => other.to_string(),
    }
}

/// Classes of SQLSTATE whose messages are about the server or the connection, and about neither
/// statement nor data. The others can quote both.
const ABOUT_THE_SERVER: [&str; 9] = ["08", "28", "3D", "40", "42", "53", "55", "57", "58"];

fn answered(answer: &dyn DatabaseError) -> String {
    let Some(of_postgres) = answer.try_downcast_ref::<PgDatabaseError>() else {
        let code = answer.code().unwrap_or_default();
        return format!("{} (SQLite {code})", answer.message());
    };
    let told = meaning(answer).map(|meaning| format!("{}: ", meaning.told)).unwrap_or_default();
    let code = of_postgres.code();
    if ABOUT_THE_SERVER.iter().any(|class| code.starts_with(class)) {
        // The driver would add the line of the server's source code that said so.
        format!("{told}{} (SQLSTATE {code})", of_postgres.message())
    } else {
        format!("{told}the server refused a statement (SQLSTATE {code})")
    }
}
