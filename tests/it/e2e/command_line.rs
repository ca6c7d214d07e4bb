//! What the program says to whoever starts it, and to whoever writes catalogs.

use std::fs;
use std::path::Path;

use super::process::{Server, output};

struct Output {
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

fn run(directory: &Path, arguments: &[&str]) -> Output {
    let output = output(directory, arguments);
    Output {
        code: output.status.code(),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

const SMALL: &str = r#"
id = "small"
version = 1
title = "Small"
owner_role = "owner"
[deletion]
policy = "reassign"
[administration]
roles = "settings.roles"
members = "settings.roles"
[[section]]
id = "settings"
title = "Settings"
[[permission]]
id = "settings.roles"
section = "settings"
title = "Roles"
[[role]]
id = "owner"
title = "Owner"
everything = true
"#;

/// Each way in which a start can fail: arguments, and what the message must say.
#[test]
fn a_start_that_cannot_be_says_why_and_what_to_do() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name).display().to_string();
    fs::write(path("garbage.db"), "this is not a database, whatever its name says".repeat(50))
        .unwrap();
    fs::write(
        path("broken.toml"),
        SMALL.replace("owner_role = \"owner\"", "owner_role = \"boss\""),
    )
    .unwrap();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().unwrap().to_string();
    let garbage = format!("sqlite:{}", path("garbage.db"));
    let nowhere = format!("sqlite:{}", path("no/such/directory.db"));
    let broken = path("broken.toml");
    let missing = path("missing.toml");
    let cases: [(&[&str], &str); 9] = [
        (&["serve", "--grpc-addr", "127.0.0.1:0"], "--dev"),
        (&["serve", "--dev", "--grpc-addr", "0.0.0.0:0"], "loopback"),
        (&["serve", "--dev", "--grpc-addr", &taken], "--grpc-addr"),
        (
            &["serve", "--dev", "--grpc-addr", "127.0.0.1:0", "--database-url", &garbage],
            "not a SQLite database",
        ),
        (
            &["serve", "--dev", "--grpc-addr", "127.0.0.1:0", "--database-url", &nowhere],
            "cannot be opened",
        ),
        (
            &["serve", "--dev", "--grpc-addr", "127.0.0.1:0", "--database-url", "sqlite::memory:"],
            "in memory",
        ),
        (
            &["serve", "--dev", "--grpc-addr", "127.0.0.1:0", "--database-url", "mysql://x"],
            "sqlite:",
        ),
        (&["serve", "--dev", "--grpc-addr", "127.0.0.1:0", "--catalog", &broken], "boss"),
        (&["serve", "--dev", "--grpc-addr", "127.0.0.1:0", "--catalog", &missing], "missing.toml"),
    ];
    for (arguments, message) in cases {
        let output = run(directory.path(), arguments);
        assert_eq!(output.code, Some(1), "{arguments:?}: {}", output.stderr);
        assert!(output.stderr.contains(message), "{arguments:?}: {}", output.stderr);
    }
}

#[test]
fn the_same_catalog_version_with_another_content_does_not_start() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("small.toml");
    let file_argument = file.display().to_string();
    fs::write(&file, SMALL).unwrap();
    drop(Server::start(directory.path(), &["--catalog", &file_argument]));
    // Comments and spacing are not content.
    fs::write(&file, format!("# a remark\n{SMALL}\n\n")).unwrap();
    drop(Server::start(directory.path(), &["--catalog", &file_argument]));
    fs::write(&file, SMALL.replace("\"Roles\"", "\"All roles\"")).unwrap();
    let refused = Server::try_start(directory.path(), &["--catalog", &file_argument]);
    let Err(refused) = refused else { panic!("it started") };
    assert_eq!(refused.code, Some(1));
    assert!(refused.stderr.contains("small@1"), "{}", refused.stderr);
    assert!(refused.stderr.contains("higher version"), "{}", refused.stderr);
    // Under a new version it is welcome.
    let newer = SMALL.replace("\"Roles\"", "\"All roles\"").replace("version = 1", "version = 2");
    fs::write(&file, newer).unwrap();
    drop(Server::start(directory.path(), &["--catalog", &file_argument]));
}

#[test]
fn catalogs_are_listed_shown_checked_and_compared() {
    let directory = tempfile::tempdir().unwrap();
    let good = directory.path().join("small.toml").display().to_string();
    let bad = directory.path().join("bad.toml").display().to_string();
    let newer = directory.path().join("newer.toml").display().to_string();
    fs::write(&good, SMALL).unwrap();
    fs::write(&bad, SMALL.replace("section = \"settings\"", "section = \"setings\"")).unwrap();
    fs::write(
        &newer,
        SMALL.replace("version = 1", "version = 2")
            + "[[role]]\nid = \"admin\"\ntitle = \"Admin\"\ngrants = [\"settings.roles\"]\n",
    )
    .unwrap();
    let list = run(directory.path(), &["catalog", "list"]);
    assert!(list.stdout.contains("oqupie@1") && list.stdout.contains("qpien@1"), "{}", list.stdout);
    let show = run(directory.path(), &["catalog", "show", "qpien"]);
    assert!(show.stdout.contains("conversation.view"), "{}", show.stdout);
    let toml = run(directory.path(), &["catalog", "show", "qpien", "--toml"]);
    assert_eq!(toml.stdout, rolegate::domain::catalog::shipped()[1]);
    assert_eq!(run(directory.path(), &["catalog", "check", &good]).code, Some(0));
    let check = run(directory.path(), &["catalog", "check", &bad]);
    assert_eq!(check.code, Some(1));
    assert!(check.stderr.contains("did you mean"), "{}", check.stderr);
    let diff = run(directory.path(), &["catalog", "diff", &good, &newer]);
    assert!(diff.stdout.contains("admin"), "{}", diff.stdout);
    assert_eq!(run(directory.path(), &["catalog", "show", "nope"]).code, Some(1));
}

#[test]
fn migrate_makes_a_database_that_serve_uses() {
    let directory = tempfile::tempdir().unwrap();
    assert_eq!(run(directory.path(), &["migrate"]).code, Some(0));
    assert!(directory.path().join("rolegate.db").exists());
    drop(Server::start(directory.path(), &[]));
}
