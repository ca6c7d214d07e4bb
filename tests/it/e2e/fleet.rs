//! Several replicas on one PostgreSQL, as an operator sets them up.

use std::path::Path;

use tempfile::TempDir;

use super::process::{Clients, Server, output};

/// Replicas with clients for each. Killed when dropped.
pub(crate) struct Fleet {
    pub(crate) servers: Vec<Server>,
    pub(crate) clients: Vec<Clients>,
    directory: TempDir,
}

impl Fleet {
    /// A replica for each of these URLs, with these files as catalogs. The first must be migrated.
    pub(crate) async fn start(urls: &[&str], catalogs: &[&str], more: &[&str]) -> Fleet {
        let directory = tempfile::tempdir().unwrap();
        let mut arguments: Vec<String> = more.iter().map(|text| text.to_string()).collect();
        for (number, catalog) in catalogs.iter().enumerate() {
            let path = directory.path().join(format!("catalog-{number}.toml"));
            std::fs::write(&path, catalog).unwrap();
            arguments.extend(["--catalog".to_owned(), path.display().to_string()]);
        }
        let (mut servers, mut clients) = (Vec::new(), Vec::new());
        for url in urls {
            let mut all = vec!["--database-url", url];
            all.extend(arguments.iter().map(String::as_str));
            let server = Server::start(directory.path(), &all);
            clients.push(Clients::connect(&server).await);
            servers.push(server);
        }
        Fleet { servers, clients, directory }
    }

    pub(crate) fn directory(&self) -> &Path {
        self.directory.path()
    }
}

/// `rolegate migrate`, which must succeed; what it prints.
pub(crate) fn migrate(url: &str, more: &[&str]) -> String {
    let directory = tempfile::tempdir().unwrap();
    let mut arguments = vec!["migrate", "--database-url", url];
    arguments.extend(more);
    let output = output(directory.path(), &arguments);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}
