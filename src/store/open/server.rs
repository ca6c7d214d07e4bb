//! Where PostgreSQL is and how to get in, as it is now: a password may change at any time, and each
//! connection is made with the one that counts then.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use sqlx::PgPool;
use sqlx::postgres::PgConnectOptions;
use tokio::sync::oneshot;

use crate::domain::throttle::Throttle;
use crate::store::OpenError;

/// How often a password file is read. What it holds then counts for connections made from then on.
const READ_EVERY: Duration = Duration::from_secs(1);
/// How long reading may take: the file may be on a mount that hangs.
const READ_TIMEOUT: Duration = Duration::from_secs(2);
/// No password is longer.
const MAX_BYTES: u64 = 64 << 10;

/// A server, and the pools that make connections to it. Clones share everything.
#[derive(Clone)]
pub(in crate::store) struct Server {
    options: Arc<RwLock<PgConnectOptions>>,
    password: Option<Arc<PasswordFile>>,
    pools: Arc<Mutex<Vec<PgPool>>>,
}

impl std::fmt::Debug for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The options hold the password.
        f.debug_struct("Server").finish_non_exhaustive()
    }
}

impl Server {
    /// A server to reach with these options, and with the password in a file, if there is one.
    pub(super) async fn new(
        options: PgConnectOptions,
        password_file: Option<&Path>,
    ) -> Result<Self, OpenError> {
        let server = |options, password| Server {
            options: Arc::new(RwLock::new(options)),
            password,
            pools: Arc::default(),
        };
        let Some(path) = password_file else { return Ok(server(options, None)) };
        let file = PasswordFile {
            path: path.to_owned(),
            last: Mutex::default(),
            reading: tokio::sync::Mutex::default(),
        };
        let unusable = |reason| OpenError::PasswordFile { path: path.to_owned(), reason };
        let password = file.read().await.map_err(unusable)?;
        file.is_new(&password);
        Ok(server(options.password(&password), Some(Arc::new(file))))
    }

    /// Options for a connection that is made now.
    pub(in crate::store) fn options(&self) -> PgConnectOptions {
        self.options.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Keeps the options of a pool up to date.
    pub(super) fn add_pool(&self, pool: &PgPool) {
        self.pools.lock().unwrap_or_else(PoisonError::into_inner).push(pool.clone());
    }

    /// Reads the password file again. Returns whether there is another password now. A file that
    /// cannot be read changes nothing.
    pub(in crate::store) async fn refresh(&self) -> bool {
        static UNREADABLE: Throttle = Throttle::new(1, Duration::from_secs(60));
        let Some(file) = &self.password else { return false };
        let password = match file.read().await {
            Ok(password) => password,
            Err(reason) => {
                if UNREADABLE.admit().is_some() {
                    let path = file.path.display();
                    tracing::error!(
                        %path,
                        reason,
                        "the database password file cannot be read; the last password still counts"
                    );
                }
                return false;
            }
        };
        if !file.is_new(&password) {
            return false;
        }
        let now = self.options().password(&password);
        *self.options.write().unwrap_or_else(PoisonError::into_inner) = now.clone();
        for pool in &*self.pools.lock().unwrap_or_else(PoisonError::into_inner) {
            pool.set_connect_options(now.clone());
        }
        tracing::info!("the database password was read again, and is another one");
        true
    }

    /// Reads the password file again and again. Ends at once if there is none.
    pub(in crate::store) async fn keep_password(self) {
        while self.password.is_some() {
            tokio::time::sleep(READ_EVERY).await;
            self.refresh().await;
        }
    }
}

/// A file with a password.
struct PasswordFile {
    path: PathBuf,
    /// The password that counts.
    last: Mutex<String>,
    /// What is being read. One thread at most waits for a file that hangs.
    reading: tokio::sync::Mutex<Option<oneshot::Receiver<Result<String, String>>>>,
}

impl PasswordFile {
    /// Remembers a password. Returns whether it is another one than before.
    fn is_new(&self, password: &str) -> bool {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let new = *last != password;
        password.clone_into(&mut last);
        new
    }

    async fn read(&self) -> Result<String, String> {
        let mut reading = self.reading.lock().await;
        let mut answer = match reading.take() {
            Some(answer) => answer,
            None => {
                let (tell, answer) = oneshot::channel();
                let path = self.path.clone();
                // Not the runtime's: it waits for its own threads at the end of the program.
                let thread = std::thread::Builder::new().name("password file".to_owned());
                let started = thread.spawn(move || tell.send(read(&path)).ok());
                started.map_err(|error| error.to_string())?;
                answer
            }
        };
        match tokio::time::timeout(READ_TIMEOUT, &mut answer).await {
            Ok(read) => read.unwrap_or_else(|_| Err("it was not read to its end".to_owned())),
            Err(_) => {
                *reading = Some(answer);
                Err("reading it takes too long".to_owned())
            }
        }
    }
}

fn read(path: &Path) -> Result<String, String> {
    let metadata = std::fs::metadata(path).map_err(|error| error.to_string())?;
    if !metadata.is_file() {
        return Err("it is not a regular file".to_owned());
    }
    if metadata.len() > MAX_BYTES {
        return Err("it is too large for a password".to_owned());
    }
    let content = std::fs::read_to_string(path).map_err(|error| error.to_string())?;
    match content.trim_end_matches(['\r', '\n']) {
        // As it is for a moment while somebody writes it.
        "" => Err("it is empty".to_owned()),
        password => Ok(password.to_owned()),
    }
}
