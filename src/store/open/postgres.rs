//! PostgreSQL: a server, shared by several programs.

use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use sea_orm::{
    ConnectOptions, ConnectionTrait, DbBackend, DbErr, IsolationLevel, SqlxPostgresConnector,
    Statement, TransactionOptions,
};
use sqlx::postgres::PgConnectOptions;
use sqlx::{
    AssertSqlSafe, ConnectOptions as _, Connection as _, Executor as _, PgConnection, Row as _,
};

use super::server::Server;
use super::session::{SessionFault, SessionSetup};
use super::{OpenOptions, Opened, identity, schema, tls};
use crate::store::OpenError;
use crate::store::bounded::{Bounds, Connections};
use crate::store::history::{self, History, Lineage, Purpose};
use crate::store::reach::Reach;
use crate::store::renewal::Renewal;
use crate::store::turns::Turns;

/// What this program needs of the server.
const OLDEST_SERVER: i32 = 140_000;
/// Migrations of one database take turns behind this lock. Any number, as long as it stays.
const MIGRATION_LOCK: i64 = 0x726f_6c65_6761_7465;
/// A connection that rested this long is asked whether it still works before it is used.
const ASK_AFTER: Duration = Duration::from_secs(1);
/// Between two attempts to reach a server at the start, and two lines in the log.
const SECOND: Duration = Duration::from_secs(1);
/// One looks for changes, one notifies. A third connection, which listens, is not the pool's.
const FOLLOWERS: u32 = 2;
/// How long followers wait for a connection, and for an answer.
const FOLLOW_TIMEOUT: Duration = Duration::from_secs(2);

/// What may stand in a URL after the question mark.
const PARAMETERS: [&str; 10] = [
    "application_name",
    "dbname",
    "host",
    "port",
    "sslcert",
    "sslkey",
    "sslmode",
    "sslrootcert",
    "statement-cache-capacity",
    "user",
];

pub(super) fn is_url(url: &str) -> bool {
    url.starts_with("postgres:") || url.starts_with("postgresql:")
}

/// Whether somebody wrote a password into this URL, however badly.
pub(super) fn password_in(url: &str) -> bool {
    let Some((_, rest)) = url.split_once("://").filter(|_| is_url(url)) else { return false };
    let (before, parameters) = rest.split_once('?').unwrap_or((rest, ""));
    // Up to the last @: a password that was not encoded may hold any character.
    let in_user = before.rsplit_once('@').is_some_and(|(user, _)| user.contains(':'));
    in_user || parameters.split('&').any(|parameter| parameter.starts_with("password="))
}

pub(super) async fn open(options: &OpenOptions) -> Result<Opened, OpenError> {
    let server = Server::new(parse(options)?, options.password_file.as_deref()).await?;
    let history = wait_for(&server, options).await?;
    let lineage = Arc::new(Lineage::new(history));
    let (probe, within) = (SessionSetup::new(&[]), options.connect_timeout);
    let reach = Arc::new(Reach::new(server.clone(), probe, within, Arc::clone(&lineage)));
    let (reached, of) = (Arc::clone(&reach), Arc::clone(&lineage));
    let renewal = Arc::default();
    let session = Session { options, server, reach: reached, lineage: of, renewal };

    // A pool says only that it got no connection that it could use.
    let failed = |error: DbErr| match reach.shared_sessions() {
        Some(fault) => {
            let (place, fault) = (place(&session.server.options()), fault.to_owned());
            OpenError::SharedSessions { place, fault }
        }
        None => OpenError::from_server(&error),
    };
    let (write, read) = (options.connections / 2, options.connections.div_ceil(2));
    let writers = session.connect(Access::Write, write).await.map_err(failed)?;
    let alone = TransactionOptions {
        isolation_level: Some(IsolationLevel::ReadCommitted),
        ..TransactionOptions::default()
    };
    let tx = writers.prepare(alone).await.map_err(failed)?;
    if options.migrate {
        // Waits as long as another program migrates, and then finds nothing to do.
        let alone = format!(
            "SET LOCAL statement_timeout = 0; SET LOCAL lock_timeout = 0; \
             SET LOCAL idle_in_transaction_session_timeout = 0; \
             SELECT pg_advisory_xact_lock({MIGRATION_LOCK})"
        );
        tx.inner().execute_unprepared(&alone).await.map_err(failed)?;
    }
    let audit_keys = schema::update(tx, options, &failed).await?;

    let readers = session.connect(Access::Read, read).await.map_err(failed)?;
    let followers = session.connect(Access::Follow, FOLLOWERS).await.map_err(failed)?;
    let identity = identity(&readers, &lineage).await.map_err(failed)?;
    let identity = identity.ok_or(OpenError::NoIdentity)?;
    if from_another_server(&readers).await.map_err(failed)? {
        return Err(OpenError::Restored);
    }
    let turns = Some((Turns::default(), options.lock_timeout));
    Ok(Opened { readers, writers, followers, identity, audit_keys, lineage, turns })
}

/// Whether there are changes by transactions that this server has not come to yet. A dump takes rows
/// along, but not the server's count of transactions; followers would wait for it to catch up.
async fn from_another_server(readers: &Connections) -> Result<bool, DbErr> {
    let sql = "SELECT greatest((SELECT max(tx) FROM changes), \
               (SELECT split_part(value, ':', 1)::bigint FROM meta WHERE key = 'trimmed')) \
               >= pg_snapshot_xmax(pg_current_snapshot())::text::bigint AS ahead";
    let row = readers.query_one_raw(Statement::from_string(DbBackend::Postgres, sql)).await?;
    Ok(row.map(|row| row.try_get::<Option<bool>>("", "ahead")).transpose()?.flatten() == Some(true))
}

fn parse(options: &OpenOptions) -> Result<PgConnectOptions, OpenError> {
    let parameters = options.url.split_once('?').map_or("", |(_, parameters)| parameters);
    for parameter in parameters.split('&').filter(|parameter| !parameter.is_empty()) {
        let name = parameter.split_once('=').map_or(parameter, |(name, _)| name);
        if name == "password" {
            return Err(OpenError::BadUrl("a password cannot be a parameter".to_owned()));
        }
        // The driver would only warn of them, and show their values.
        if !PARAMETERS.contains(&name) {
            return Err(OpenError::BadUrl(format!("there is no parameter {name}")));
        }
    }
    let mut server: PgConnectOptions =
        options.url.parse().map_err(|error: sqlx::Error| OpenError::BadUrl(reason(&error)))?;
    if let Some(password) = &options.password {
        server = server.password(password);
    }
    if server.get_application_name().is_none() {
        server = server.application_name("rolegate");
    }
    let server = tls::checked(server, parameters)?;
    // A parameter of the connection that poolers refuse unless told otherwise, and nothing here has
    // a use for. Statements are not for the log.
    Ok(server.extra_float_digits(None).disable_statement_logging())
}

/// Why the driver did not like a URL, without any of it.
fn reason(error: &sqlx::Error) -> String {
    match error {
        sqlx::Error::Configuration(inner) => inner.to_string(),
        _ => "it is not of the form postgres://user@host:port/database".to_owned(),
    }
}

/// Where the server is, in words.
fn place(server: &PgConnectOptions) -> String {
    match server.get_socket() {
        Some(directory) => format!("{} (port {})", directory.display(), server.get_port()),
        None => format!("{}:{}", server.get_host(), server.get_port()),
    }
}

/// Looks until the server is there, and says so once a second while it is not.
async fn wait_for(server: &Server, options: &OpenOptions) -> Result<History, OpenError> {
    let start = Instant::now();
    let waited = || start.elapsed().as_secs();
    loop {
        let options_now = server.options();
        let mut looking = pin!(look(&options_now, options.connect_timeout));
        let ended = loop {
            tokio::select! {
                ended = &mut looking => break ended,
                () = tokio::time::sleep(SECOND), if !options.wait.is_zero() => {
                    tracing::warn!(seconds = waited(), "waiting for the database server to answer");
                }
            }
        };
        match ended {
            Err(error) if error.may_pass() && start.elapsed() < options.wait => {
                tracing::warn!(seconds = waited(), %error, "waiting for the database server");
                tokio::time::sleep(SECOND).await;
                server.refresh().await;
            }
            ended => return ended,
        }
    }
}

/// Two connections of their own: the pool would go on trying until its time is up, and then say only
/// that it was. A pooler that shares sessions gives the second one what the first one left, or the
/// first one another session while the second one is in a transaction.
async fn look(server: &PgConnectOptions, within: Duration) -> Result<History, OpenError> {
    let asked = async {
        let mut first = PgConnection::connect_with(server).await?;
        let history = history::COLUMNS;
        let sql = format!("SELECT current_setting('server_version_num')::int, {history}");
        let row = first.fetch_one(AssertSqlSafe(sql)).await?;
        let facts = (row.try_get(0)?, history::told_in(&row)?);
        let (setup, other) = (SessionSetup::new(&[]), SessionSetup::new(&[]));
        setup.establish(&mut first).await?;
        let mut second = PgConnection::connect_with(server).await?;
        other.establish(&mut second).await?;
        second.execute("BEGIN").await?;
        setup.verify(&mut first).await?;
        second.close().await?;
        first.close().await?;
        Ok::<(i32, Option<History>), SessionFault>(facts)
    };
    let place = place(server);
    let (version, history) = match tokio::time::timeout(within, asked).await {
        Ok(Ok(facts)) => facts,
        Ok(Err(SessionFault::Database(error))) => {
            return Err(OpenError::from_connecting(place, server, &error));
        }
        Ok(Err(shared @ SessionFault::Shared(_))) => {
            return Err(OpenError::SharedSessions { place, fault: shared.to_string() });
        }
        Ok(Err(SessionFault::Unfit(unfit))) => return Err(OpenError::Failed(unfit.to_string())),
        Err(_) => {
            let reason = format!("no answer within {} s", within.as_secs_f32());
            return Err(OpenError::Unreachable { place, reason, may_pass: true });
        }
    };
    if version < OLDEST_SERVER {
        return Err(OpenError::OldServer(version / 10_000));
    }
    history.ok_or(OpenError::Standby(place))
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Access {
    Read,
    Write,
    Follow,
}

/// What all connections to one server have in common.
struct Session<'a> {
    options: &'a OpenOptions,
    server: Server,
    reach: Arc<Reach>,
    lineage: Arc<Lineage>,
    renewal: Arc<Renewal>,
}

impl Session<'_> {
    async fn connect(&self, access: Access, connections: u32) -> Result<Connections, DbErr> {
        let server = self.server.options();
        let setup = Arc::new(SessionSetup::new(&self.settings(access)));
        let alarm = self.reach.alarm();
        let renewal = Arc::clone(&self.renewal);
        let acquire_timeout = match access {
            Access::Follow => self.options.acquire_timeout.min(FOLLOW_TIMEOUT),
            Access::Read | Access::Write => self.options.acquire_timeout,
        };
        let purpose = match access {
            Access::Follow => Purpose::Follow,
            Access::Read | Access::Write => Purpose::Work,
        };
        let (lineage, remembered) = (Arc::clone(&self.lineage), Arc::clone(&self.lineage));
        // The server is set below: these options, URL included, end up in traces.
        let mut connect = ConnectOptions::new("postgres://");
        connect
            .max_connections(connections.max(1))
            .acquire_timeout(acquire_timeout)
            .test_before_acquire_if_idle_for(ASK_AFTER)
            .sqlx_logging(false)
            .record_stmt_in_spans(false)
            .map_sqlx_postgres_opts(move |_| server.clone())
            .map_sqlx_postgres_before_acquire(move |_, connection| {
                let renewed = renewal.allows(connection.age);
                let may_use = renewed && remembered.may_use(connection.age, purpose);
                Box::pin(std::future::ready(Ok(may_use)))
            })
            .map_sqlx_postgres_pool_opts(move |pool| {
                let asked = Arc::clone(&lineage);
                let (at_connect, at_release) = (Arc::clone(&setup), Arc::clone(&setup));
                let (of_connect, of_release) = (alarm.clone(), alarm.clone());
                pool.after_connect(move |connection, _| {
                    let (setup, alarm) = (Arc::clone(&at_connect), of_connect.clone());
                    let lineage = Arc::clone(&asked);
                    Box::pin(async move {
                        let established = async {
                            setup.establish(connection).await?;
                            lineage.admit(connection, purpose).await
                        };
                        // The pool only tries again, and again: the probe finds out why.
                        established.await.map_err(|fault| alarm.raise(fault))
                    })
                })
                .after_release(move |connection, _| {
                    let (setup, alarm) = (Arc::clone(&at_release), of_release.clone());
                    Box::pin(async move {
                        let tidied = setup.tidy(connection).await;
                        // Of the driver's own count nothing is expected, as nothing begins
                        // by it.
                        let clean = !connection.is_in_transaction();
                        tidied.map(|()| clean).map_err(|fault| alarm.raise(fault))
                    })
                })
            });
        let pool = SqlxPostgresConnector::connect(connect).await?;
        self.server.add_pool(pool.get_postgres_connection_pool());
        // The server's own timeout, and the way there and back.
        let limit = acquire_timeout.max(self.statement_timeout(access)) + ASK_AFTER;
        let (reach, renewal) = (Arc::clone(&self.reach), Arc::clone(&self.renewal));
        Ok(Connections::new(pool, Some(Bounds { limit, reach, renewal })))
    }

    /// Followers ask for little, and often: they would rather try again than wait.
    fn statement_timeout(&self, access: Access) -> Duration {
        let timeout = self.options.statement_timeout;
        if access == Access::Follow { timeout.min(FOLLOW_TIMEOUT) } else { timeout }
    }

    fn settings(&self, access: Access) -> Vec<(&'static str, String)> {
        let milliseconds = |time: Duration| time.as_millis().to_string();
        let mut settings = vec![
            ("statement_timeout", milliseconds(self.statement_timeout(access))),
            ("lock_timeout", milliseconds(self.options.lock_timeout)),
            (
                "idle_in_transaction_session_timeout",
                milliseconds(self.options.idle_in_transaction_timeout),
            ),
            // Each statement has an index to go along. A plan that reads a whole table, because that is
            // small, is kept until the table is analyzed, however large an import makes it before.
            ("enable_seqscan", "off".to_owned()),
            // Nor one that finds all rows of a tenant and sorts them for the first few, where the
            // server knows nothing of the table.
            ("enable_bitmapscan", "off".to_owned()),
            // Where there is no other way, the cost of that counts as so high that it would be compiled.
            ("jit", "off".to_owned()),
            // So that the server notices when the machine of a program is gone.
            ("tcp_keepalives_idle", "30".to_owned()),
            ("tcp_keepalives_interval", "10".to_owned()),
            ("tcp_keepalives_count", "3".to_owned()),
        ];
        // Transactions say it themselves, and this is for statements outside of them.
        match access {
            Access::Read => settings.extend([
                ("default_transaction_isolation", "repeatable read".to_owned()),
                ("default_transaction_read_only", "on".to_owned()),
            ]),
            // Whether it may be written stays as the server has it.
            Access::Write | Access::Follow => {
                settings.push(("default_transaction_isolation", "read committed".to_owned()));
            }
        }
        settings
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_in_a_url_is_found() {
        for url in [
            "postgres://kim:secret@host/db",
            "postgresql://kim:@host/db",
            "postgres://kim:se/cr@et@host/db",
            "postgres://:secret@host",
            "postgres://kim@host/db?sslmode=require&password=secret",
        ] {
            assert!(password_in(url), "{url}");
        }
        for url in [
            "postgres://kim@host:5432/db",
            "postgres:///db?host=/run/postgresql&port=5433",
            "postgres://[::1]:5432/db",
            "sqlite://a:b@c",
        ] {
            assert!(!password_in(url), "{url}");
        }
    }
}
