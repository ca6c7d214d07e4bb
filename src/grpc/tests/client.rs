//! What a connection remembers of its client's proofs.

use http::header::{AUTHORIZATION, HeaderMap};
use sha2::{Digest as _, Sha256};

use crate::grpc::client::Client;
use crate::service::authentication::{Authenticator, CallersFile};

fn caller(name: &str) -> String {
    let hash: String = Sha256::digest(name).iter().map(|byte| format!("{byte:02x}")).collect();
    format!(
        "[[caller]]\nname = \"{name}\"\ntoken_sha256 = [\"{hash}\"]\ncapabilities = [\"check\"]\n"
    )
}

fn file(callers: &[&str]) -> CallersFile {
    let text: String = callers.iter().map(|name| caller(name)).collect();
    CallersFile::parse(&text).unwrap()
}

fn bearers(tokens: &[&str]) -> HeaderMap {
    let header = |token: &&str| (AUTHORIZATION, format!("Bearer {token}").parse().unwrap());
    tokens.iter().map(header).collect()
}

/// What the connection recognizes and remembers, of these callers.
struct Connection {
    client: Client,
    authenticator: Authenticator,
}

impl Connection {
    fn new(callers: &[&str]) -> Self {
        let authenticator = Authenticator::new(file(callers));
        Connection { client: Client::default(), authenticator }
    }

    fn recognizes(&self, tokens: &[&str]) -> Result<String, &'static str> {
        let found = self.client.recognize(&self.authenticator, &bearers(tokens));
        found.map(|found| found.caller.name.clone()).map_err(|why| why.name())
    }

    fn remembers(&self, tokens: &[&str]) -> Option<String> {
        let name = |known: &crate::service::authentication::Recognized| known.caller.name.clone();
        self.client.remembered(&self.authenticator, &bearers(tokens), name)
    }
}

#[test]
fn a_proof_is_remembered_once_it_was_recognized_and_for_no_other() {
    let connection = Connection::new(&["a", "b"]);
    for tokens in [&["a"][..], &["x"], &[], &["a", "a"]] {
        assert_eq!(connection.remembers(tokens), None, "{tokens:?}");
    }
    for (tokens, why) in [
        (&["x"][..], "unknown_token"),
        (&[], "no_credential"),
        (&["a", "a"], "two_credentials"),
        (&["a", "b"], "two_credentials"),
    ] {
        // However often it is tried, and whatever is known besides.
        for _ in 0..2 {
            assert_eq!(connection.recognizes(tokens), Err(why));
            assert_eq!(connection.remembers(tokens), None, "{tokens:?}");
        }
        assert_eq!(connection.recognizes(&["a"]).as_deref(), Ok("a"));
        assert_eq!(connection.remembers(&["a"]).as_deref(), Some("a"));
    }
    assert_eq!(connection.remembers(&["b"]), None);
    assert_eq!(connection.recognizes(&["b"]).as_deref(), Ok("b"));
    for name in ["a", "b"] {
        assert_eq!(connection.remembers(&[name]).as_deref(), Some(name));
    }
    // Nobody else's.
    let other = Client::default();
    assert!(other.remembered(&connection.authenticator, &bearers(&["a"]), |_| ()).is_none());
}

#[test]
fn nothing_is_remembered_beyond_a_reload_and_no_more_than_a_few() {
    let connection = Connection::new(&["a", "b"]);
    connection.recognizes(&["a"]).unwrap();
    connection.recognizes(&["b"]).unwrap();
    connection.authenticator.replace(file(&["b", "c", "d", "e", "f"]), &[]);
    for name in ["a", "b"] {
        assert_eq!(connection.remembers(&[name]), None);
    }
    assert_eq!(connection.recognizes(&["a"]), Err("unknown_token"));
    for name in ["b", "c", "d", "e"] {
        connection.recognizes(&[name]).unwrap();
    }
    assert_eq!(connection.remembers(&["b"]).as_deref(), Some("b"));
    connection.recognizes(&["f"]).unwrap();
    assert_eq!(connection.remembers(&["b"]), None);
    for name in ["c", "d", "e", "f"] {
        assert_eq!(connection.remembers(&[name]).as_deref(), Some(name));
    }
}

#[test]
fn what_a_client_proves_is_not_shown_in_debug_output() {
    let connection = Connection::new(&["hunter2"]);
    connection.recognizes(&["hunter2"]).unwrap();
    assert!(!format!("{:?}", connection.client).contains("hunter2"));
}
