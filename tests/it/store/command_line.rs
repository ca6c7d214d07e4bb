//! What the program says about databases to whoever starts it.

use std::fs;
use std::path::Path;

use rolegate::domain::Timestamp;
use rolegate::store::{AuditKey, AuditKeyChoice, OpenOptions, SqlStore, Touched};

use super::backend::{entry, make_tenant};
use crate::e2e::process::{rolegate, tells_no_secret};
use crate::postgres;

/// Exit code, standard output, standard error.
fn run(
    directory: &Path,
    arguments: &[&str],
    environment: &[(&str, &str)],
) -> (Option<i32>, String, String) {
    let output = rolegate(directory, arguments).envs(environment.iter().copied()).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    tells_no_secret(&String::from_utf8_lossy(&output.stderr));
    (output.status.code(), text(output.stdout), text(output.stderr))
}

const SERVE: [&str; 4] = ["serve", "--dev", "--grpc-addr", "127.0.0.1:0"];

#[test]
fn a_password_in_a_flag_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    for url in ["postgres://kim:s3cret@host/db", "postgresql://kim@host/db?password=s3cret"] {
        let serve = [&SERVE[..], &["--database-url", url]].concat();
        for arguments in [&serve[..], &["migrate", "--database-url", url]] {
            let (code, _, said) = run(directory.path(), arguments, &[]);
            assert_eq!(code, Some(1), "{said}");
            assert!(said.contains("ROLEGATE_DATABASE_PASSWORD"), "{said}");
            assert!(said.contains("--database-password-file"), "{said}");
            assert!(!said.contains("s3cret"), "{said}");
        }
    }
    // The help shows the environment, but not this.
    let url = ("ROLEGATE_DATABASE_URL", "postgres://kim:s3cret@127.0.0.1:1/db");
    let (_, help, _) = run(directory.path(), &["serve", "--help"], &[url]);
    assert!(help.contains("ROLEGATE_DATABASE_URL") && !help.contains("s3cret"), "{help}");
    // In the environment it may be, but only once.
    let hurry = ("ROLEGATE_DATABASE_CONNECT_TIMEOUT_MS", "1");
    let (code, _, said) = run(directory.path(), &["migrate"], &[url, hurry]);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("cannot be reached") && !said.contains("s3cret"), "{said}");
    let twice = [url, ("ROLEGATE_DATABASE_PASSWORD", "other")];
    let (code, _, said) = run(directory.path(), &["migrate"], &twice);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("two passwords"), "{said}");
    let (code, _, said) =
        run(directory.path(), &["migrate", "--database-password-file", "nowhere"], &[]);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("nowhere"), "{said}");
}

#[test]
fn a_server_is_migrated_before_it_is_served_from() {
    let Some(cluster) = postgres::shared() else { return };
    let directory = tempfile::tempdir().unwrap();
    let user = postgres::LOCKED_USER;
    let database = cluster.create_database();
    cluster.sql("postgres", &format!("ALTER DATABASE {database} OWNER TO {user}"));
    let url = format!("postgres://{user}@127.0.0.1:{}/{database}", cluster.port());
    let file = directory.path().join("password");
    fs::write(&file, format!("{}\n", postgres::LOCKED_PASSWORD)).unwrap();
    let file = file.display().to_string();
    let database = ["--database-url", &url, "--database-password-file", &file];

    let serve = [&SERVE[..], &database].concat();
    let (code, _, said) = run(directory.path(), &serve, &[]);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("run `rolegate migrate` first"), "{said}");
    let migrate = [&["migrate"][..], &database].concat();
    for _ in 0..2 {
        let (code, out, said) = run(directory.path(), &migrate, &[]);
        assert_eq!((code, out.as_str()), (Some(0), ""), "{said}");
    }
    let restored = [&migrate[..], &["--after-restore"]].concat();
    for epoch in 2..4 {
        let (code, out, said) = run(directory.path(), &restored, &[]);
        assert_eq!((code, out), (Some(0), format!("epoch {epoch}\n")), "{said}");
    }
    // The other way to give the password, and none.
    let from_environment = ("ROLEGATE_DATABASE_PASSWORD", postgres::LOCKED_PASSWORD);
    let migrate = ["migrate", "--database-url", &url];
    assert_eq!(run(directory.path(), &migrate, &[from_environment]).0, Some(0));
    let (code, _, said) = run(directory.path(), &migrate, &[]);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains(&format!("does not let {user} in")), "{said}");
}

/// What is under the key of an older file, a server keeps; with all keys it goes, and leaves a trail
/// that is sound.
#[tokio::test]
async fn old_events_are_trimmed_by_whoever_has_all_keys() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    let keys = ["one", "two"].map(|name| name.repeat(12));
    fs::write(path.join("one.key"), &keys[0]).unwrap();
    fs::write(path.join("two.key"), &keys[1]).unwrap();
    let audit_key = AuditKeyChoice::Given(AuditKey::from_file(keys[0].as_bytes()).unwrap());
    let url = format!("sqlite://{}", path.join("rolegate.db").display());
    let store = SqlStore::open(&OpenOptions { audit_key, ..OpenOptions::new(url) }).await.unwrap();
    // Two events of 1970, and one of now.
    let tenant = make_tenant(&store, "acme").await;
    for at in [10, Timestamp::now().0] {
        let tx = store.write(&tenant).await.unwrap();
        tx.commit(Touched::Nothing, entry(at)).await.unwrap();
    }
    store.close().await;

    let two = ["--audit-key-file", "two.key"];
    let both = [&two[..], &["--old-audit-key-file", "one.key"]].concat();
    let audit = |command: &[&str], keys: &[&str]| {
        let (code, out, said) = run(path, &[&["audit"], command, keys].concat(), &[]);
        // Standard error has the log, too.
        assert!(code == Some(0) || !said.is_empty());
        (code, out)
    };
    let said = |text: &str| (Some(0), text.to_owned());
    assert_eq!(audit(&["rotate"], &both), said("1 trails go on with the current key\n"));
    assert_eq!(audit(&["verify"], &both), said("sound: 1 trails with 4 events\n"));
    let trim = |days: &str, keys: &[&str]| audit(&["trim", "--older-than-days", days], keys);
    assert_eq!(trim("0", &both).0, Some(2), "that would be all of it");
    assert_eq!(trim("30", &two), said("0 events were deleted\n"));
    assert_eq!(trim("30", &both), said("2 events were deleted\n"));
    assert_eq!(trim("30", &both), said("0 events were deleted\n"));
    assert_eq!(audit(&["verify"], &both), said("sound: 1 trails with 2 events\n"));
}
