//! The callers file and the keys that it names, kept up to date.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::task::JoinSet;

use super::jwks;
use super::reload::{AllReloads, Contents, Watched};
use crate::files;
use crate::service::allowance::RateLimit;
use crate::service::authentication::{Authenticator, CallersFile, KeySet, KeySource, KeyStore};

/// Reads the callers file again when it changes, and the key sets that it names.
pub(super) struct CallersWatch {
    path: PathBuf,
    file: Watched,
    /// For callers that have no limit in it.
    limit: Option<RateLimit>,
    /// What stands in it, while that cannot be used: it may be for want of a key set that comes later.
    waiting: Option<Contents>,
    authenticator: Arc<Authenticator>,
    reloads: Arc<AllReloads>,
    key_files: HashMap<PathBuf, (Watched, Arc<KeyStore>)>,
    /// Asks the URLs for keys. Aborted when it is dropped.
    asking: JoinSet<()>,
    takes_certificates: bool,
}

impl CallersWatch {
    /// Reads the file for the first time; then everything must be right.
    pub(super) async fn start(
        path: &Path,
        limit: Option<RateLimit>,
        reloads: Arc<AllReloads>,
    ) -> Result<Self, String> {
        let (file, contents) = Watched::new(vec![path.to_owned()]).await;
        let callers = parse(path, contents)?.limited(limit);
        tracing::info!(callers = callers.len(), "callers");
        warn_if_others_may_write(path);
        let takes_certificates = callers.takes_certificates();
        let mut watch = CallersWatch {
            path: path.to_owned(),
            file,
            limit,
            waiting: None,
            authenticator: Arc::new(Authenticator::new(callers)),
            reloads,
            key_files: HashMap::new(),
            asking: JoinSet::new(),
            takes_certificates,
        };
        let stores = watch.authenticator.key_stores();
        watch.key_files = key_files(path, &stores).await?;
        watch.ask_urls(&stores);
        watch.note_looks();
        Ok(watch)
    }

    pub(super) fn authenticator(&self) -> Arc<Authenticator> {
        Arc::clone(&self.authenticator)
    }

    /// Whether a caller proved itself by a certificate when the server started.
    pub(super) fn takes_certificates(&self) -> bool {
        self.takes_certificates
    }

    /// Looks whether anything changed.
    pub(super) async fn look(&mut self) {
        let changed = self.file.changed().await;
        let is_new = changed.is_some();
        if let Some(contents) = changed.or_else(|| self.waiting.take()) {
            let ended = self.replace(contents.clone()).await;
            self.waiting = ended.is_err().then_some(contents);
            // That it still cannot be used was said.
            if is_new || ended.is_ok() {
                self.reloads.callers.ended("the callers file", ended);
            }
        }
        for (path, (file, store)) in &mut self.key_files {
            if let Some(contents) = file.changed().await {
                let ended = key_set(path, contents).map(|keys| store.replace(keys));
                self.reloads.keys.ended("a key set", ended);
            }
        }
        self.note_looks();
    }

    fn note_looks(&self) {
        if self.file.could_be_read() {
            self.reloads.callers.looked();
        }
        let mut key_files = self.key_files.values().map(|(file, _)| file);
        if !self.key_files.is_empty() && key_files.all(Watched::could_be_read) {
            self.reloads.keys.looked();
        }
    }

    async fn replace(&mut self, contents: Contents) -> Result<(), String> {
        let callers = parse(&self.path, contents)?.limited(self.limit);
        // First the keys: a file whose keys are not there is as broken as any.
        let stores = callers.key_stores(&self.authenticator.key_stores());
        let key_files = key_files(&self.path, &stores).await?;
        self.authenticator.replace(callers, &stores);
        self.key_files = key_files;
        self.ask_urls(&stores);
        warn_if_others_may_write(&self.path);
        Ok(())
    }

    /// From now on, these.
    fn ask_urls(&mut self, stores: &[Arc<KeyStore>]) {
        let mut asking = JoinSet::new();
        for store in stores {
            if let KeySource::Url(url, authorities) = store.source() {
                let authorities = authorities.as_ref().map(|file| beside(&self.path, file));
                let (store, reloads) = (Arc::clone(store), Arc::clone(&self.reloads));
                asking.spawn(jwks::keep_asking(store, url.clone(), authorities, reloads));
            }
        }
        self.asking = asking;
    }
}

fn warn_if_others_may_write(path: &Path) {
    if files::others_may_write(path) {
        tracing::warn!(
            file = %path.display(),
            "every user of this machine may write the callers file or its directory, and so say who \
             may call: take that right away (chmod o-w)"
        );
    }
}

/// Content of the only file.
fn only(contents: Contents) -> Result<Vec<u8>, String> {
    let contents = contents.map_err(|error| error.to_string())?;
    Ok(contents.into_iter().next().unwrap_or_default())
}

fn parse(path: &Path, contents: Contents) -> Result<CallersFile, String> {
    let bytes = only(contents)?;
    let path = path.display();
    let text = String::from_utf8(bytes).map_err(|_| format!("{path} is not UTF-8"))?;
    CallersFile::parse(&text).map_err(|problems| format!("{path} has mistakes:\n{problems}"))
}

/// Reads every key set that is in a file.
async fn key_files(
    callers: &Path,
    stores: &[Arc<KeyStore>],
) -> Result<HashMap<PathBuf, (Watched, Arc<KeyStore>)>, String> {
    let mut files = HashMap::new();
    let mut sets = Vec::new();
    for store in stores {
        if let KeySource::File(file) = store.source() {
            let path = beside(callers, file);
            let (watched, contents) = Watched::new(vec![path.clone()]).await;
            sets.push((Arc::clone(store), key_set(&path, contents)?));
            files.insert(path, (watched, Arc::clone(store)));
        }
    }
    // Only once all of them are sound: some may be in use.
    for (store, set) in sets {
        store.replace(set);
    }
    Ok(files)
}

fn key_set(path: &Path, contents: Contents) -> Result<KeySet, String> {
    let bytes = only(contents)?;
    KeySet::parse(&bytes).map_err(|why| format!("{} {why}", path.display()))
}

/// A path in the callers file is relative to it.
fn beside(callers: &Path, file: &str) -> PathBuf {
    callers.parent().unwrap_or(Path::new("")).join(file)
}
