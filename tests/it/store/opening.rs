//! Opening SQLite files, good and bad.

use std::fs;
use std::path::Path;
use std::time::Duration;

use rolegate::store::{MemberFilter, OpenError, OpenOptions, SqlStore, StoreError};
use sea_orm::{ConnectionTrait, Database};
use tempfile::TempDir;

use super::backend::{commit, make_members, make_tenant, member, member_id, role, sqlite_options};

fn url(path: &Path) -> OpenOptions {
    OpenOptions::new(format!("sqlite:{}", path.display()))
}

async fn refused(options: &OpenOptions) -> OpenError {
    match SqlStore::open(options).await {
        Ok(store) => panic!("opened {store:?}"),
        Err(error) => error,
    }
}

/// Runs a statement on a database that no store has open.
async fn execute(options: &OpenOptions, statement: &str) {
    let connection = Database::connect(&options.url).await.unwrap();
    connection.execute_unprepared(statement).await.unwrap();
    connection.close().await.unwrap();
}

/// A database with a member in it, closed again.
async fn made(directory: &TempDir) -> OpenOptions {
    let options = sqlite_options(directory);
    let store = SqlStore::open(&options).await.unwrap();
    make_members(&store, "acme", &[member("kim", &["r"], &["t"])]).await;
    store.close().await;
    options
}

#[tokio::test]
async fn a_reopened_database_is_the_same() {
    let directory = tempfile::tempdir().unwrap();
    let options = made(&directory).await;
    let first = SqlStore::open(&options).await.unwrap();
    let identity = first.identity().clone();
    assert_eq!(identity.epoch, 1);
    assert_ne!(identity.signing_key, [0; 32]);
    let debug = format!("{first:?}");
    let secret = format!("{:?}", &identity.signing_key[..2]);
    assert!(!debug.contains("signing_key") && !debug.contains(secret.trim_matches(['[', ']'])));
    // A second process on the same file.
    let second = SqlStore::open(&OpenOptions { migrate: false, ..options }).await.unwrap();
    assert_eq!(second.identity(), &identity);
    let tx = second.read().await.unwrap();
    let tenants = tx.tenants(None, 9, false).await.unwrap();
    let members = tx.members(&tenants[0].id, &MemberFilter::default(), None, 9).await.unwrap();
    assert_eq!(members.len(), 1);

    let elsewhere = tempfile::tempdir().unwrap();
    let other = SqlStore::open(&sqlite_options(&elsewhere)).await.unwrap();
    assert_ne!(other.identity().database_id, identity.database_id);
    assert_ne!(other.identity().signing_key, identity.signing_key);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_database_opened_by_many_at_once_is_made_once() {
    let directory = tempfile::tempdir().unwrap();
    let options = sqlite_options(&directory);
    let mut openers = tokio::task::JoinSet::new();
    for _ in 0..6 {
        let options = options.clone();
        openers.spawn(async move { SqlStore::open(&options).await.unwrap().identity().clone() });
    }
    let identities = openers.join_all().await;
    assert!(identities.iter().all(|identity| identity == &identities[0]));
}

/// A transaction that began by reading and wrote later would fail here instead of waiting.
#[tokio::test(flavor = "multi_thread")]
async fn two_processes_take_turns() {
    let directory = tempfile::tempdir().unwrap();
    let options = sqlite_options(&directory);
    let first = SqlStore::open(&options).await.unwrap();
    let second = SqlStore::open(&options).await.unwrap();
    let tenant = make_tenant(&first, "acme").await;
    let mut writers = tokio::task::JoinSet::new();
    for n in 0..30 {
        let store = [&first, &second][n % 2].clone();
        let tenant = tenant.clone();
        writers.spawn(async move {
            let tx = store.write(&tenant).await.unwrap();
            tx.put_members(&[member(&format!("m{n}"), &[], &[])]).await.unwrap();
            commit(tx).await
        });
    }
    let mut revisions = writers.join_all().await;
    revisions.sort_unstable();
    assert_eq!(revisions, (2..=31).collect::<Vec<_>>());
}

#[tokio::test]
async fn whoever_waits_too_long_for_a_turn_is_told() {
    let directory = tempfile::tempdir().unwrap();
    let acquire_timeout = Duration::from_secs(1);
    let options = OpenOptions { acquire_timeout, ..sqlite_options(&directory) };
    let store = SqlStore::open(&options).await.unwrap();
    let tenant = make_tenant(&store, "acme").await;
    let busy = store.write(&tenant).await.unwrap();
    let refused = store.write(&tenant).await;
    assert!(matches!(refused, Err(StoreError::Unavailable(_))), "{refused:?}");
    assert!(store.read().await.unwrap().tenant(&tenant).await.is_ok(), "readers need no turn");
    assert_eq!(commit(busy).await, 2);
    assert!(store.write(&tenant).await.is_ok());
}

#[tokio::test]
async fn only_its_owner_may_read_it() {
    use std::os::unix::fs::PermissionsExt;
    let directory = tempfile::tempdir().unwrap();
    made(&directory).await;
    let mode = fs::metadata(directory.path().join("rolegate.db")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

/// While a new version is rolled out, the old one goes on with the new schema, if that says so.
#[tokio::test]
async fn a_newer_schema_is_opened_if_it_says_that_this_program_can_read_it() {
    let directory = tempfile::tempdir().unwrap();
    let options = made(&directory).await;
    execute(&options, "INSERT INTO seaql_migrations VALUES ('m9999_future', 0)").await;
    for migrate in [true, false] {
        SqlStore::open(&OpenOptions { migrate, ..options.clone() }).await.unwrap().close().await;
    }
    for says in ["= '4'", "= 'nonsense'"] {
        let spoil = format!("UPDATE meta SET value {says} WHERE key = 'oldest_reader'");
        execute(&options, &spoil).await;
        for migrate in [true, false] {
            let error = refused(&OpenOptions { migrate, ..options.clone() }).await;
            assert!(
                matches!(&error, OpenError::NewerSchema(names) if names == &["m9999_future"]),
                "{error:?}"
            );
        }
    }
}

#[tokio::test]
async fn without_leave_nothing_is_made_or_migrated() {
    let directory = tempfile::tempdir().unwrap();
    let options = OpenOptions { migrate: false, ..sqlite_options(&directory) };
    let error = refused(&options).await;
    assert!(matches!(error, OpenError::Missing(_)), "{error:?}");
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);

    fs::write(directory.path().join("rolegate.db"), "").unwrap();
    let error = refused(&options).await;
    assert!(
        matches!(&error, OpenError::OlderSchema(names) if names == &["m0001_initial", "m0002_audit_chain", "m0003_holders"]),
        "{error:?}"
    );
    // Given leave, an empty file becomes a database.
    SqlStore::open(&OpenOptions { migrate: true, ..options }).await.unwrap();
}

#[tokio::test]
async fn a_file_that_is_no_database_is_refused_and_left_alone() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("notes.txt");
    let text = "Not a database, but long enough to be taken for one. ".repeat(100);
    fs::write(&file, &text).unwrap();
    let error = refused(&url(&file)).await;
    assert!(matches!(error, OpenError::NotADatabase(_)), "{error:?}");
    assert_eq!(fs::read_to_string(&file).unwrap(), text);
}

#[tokio::test]
async fn a_damaged_file_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let options = made(&directory).await;
    let file = directory.path().join("rolegate.db");
    let mut bytes = fs::read(&file).unwrap();
    // The first page still looks right; everything that it points at does not.
    bytes[4096..].fill(0xA5);
    fs::write(&file, bytes).unwrap();
    let error = refused(&options).await;
    assert!(matches!(error, OpenError::Damaged { .. }), "{error:?}");

    let elsewhere = tempfile::tempdir().unwrap();
    let options = made(&elsewhere).await;
    execute(&options, "UPDATE meta SET value = 'short' WHERE key = 'signing_key'").await;
    let error = refused(&options).await;
    assert!(matches!(error, OpenError::Damaged { .. }), "{error:?}");
    assert!(!error.to_string().contains("short"));
}

/// By its mode: a test that runs as root could write it all the same.
#[tokio::test]
async fn a_read_only_file_or_directory_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let options = made(&directory).await;
    for path in [directory.path().join("rolegate.db"), directory.path().to_owned()] {
        let before = fs::metadata(&path).unwrap().permissions();
        let mut read_only = before.clone();
        read_only.set_readonly(true);
        fs::set_permissions(&path, read_only).unwrap();
        let error = refused(&options).await;
        assert!(matches!(&error, OpenError::ReadOnly(which) if which == &path), "{error:?}");
        fs::set_permissions(&path, before).unwrap();
    }
    SqlStore::open(&options).await.unwrap();
}

#[tokio::test]
async fn places_where_no_database_can_be_are_refused() {
    let directory = tempfile::tempdir().unwrap();
    let error = refused(&url(directory.path())).await;
    assert!(matches!(error, OpenError::Inaccessible { .. }), "{error:?}");
    let error = refused(&url(&directory.path().join("no/such/directory/db"))).await;
    assert!(matches!(error, OpenError::Inaccessible { .. }), "{error:?}");
    for (bad, memory) in [
        ("sqlite::memory:", true),
        ("sqlite://x?mode=memory", true),
        ("sqlite:", false),
        ("sqlite://", false),
        ("mysql://user:password@host/db", false),
        ("", false),
    ] {
        let error = refused(&OpenOptions::new(bad)).await;
        match error {
            OpenError::InMemory => assert!(memory, "{bad}"),
            OpenError::UnsupportedUrl => assert!(!memory, "{bad}"),
            error => panic!("{bad}: {error:?}"),
        }
        assert!(!error.to_string().contains("password"));
    }
    for odd in ["mode=ro", "mode=odd", "cache=shared", "mode=rwc&immutable=1"] {
        let error = refused(&OpenOptions::new(format!("sqlite://x?{odd}"))).await;
        assert!(matches!(error, OpenError::BadUrl(_)), "{odd}: {error:?}");
    }
}

#[tokio::test]
async fn an_encoded_path_names_the_file_that_it_says() {
    let directory = tempfile::tempdir().unwrap();
    let encoded = format!("sqlite://{}/a%20b%3Fc.db?mode=rwc", directory.path().display());
    SqlStore::open(&OpenOptions::new(encoded)).await.unwrap().close().await;
    assert!(directory.path().join("a b?c.db").exists());
}

/// The error tells the operator where to look, and nothing of what is there.
#[tokio::test]
async fn nonsense_in_a_row_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let options = made(&directory).await;
    let store = SqlStore::open(&options).await.unwrap();
    let tenant =
        make_members(&store, "spoilt", &[member("Kim", &[], &[]), member("kim", &[], &[])]).await;
    let tx = store.write(&tenant).await.unwrap();
    tx.put_role(&role("r")).await.unwrap();
    commit(tx).await;
    for (spoil, at) in [
        ("UPDATE members SET status = 'secret' WHERE id = 'kim'", "members.status of spoilt/kim"),
        ("UPDATE roles SET grants = 'secret'", "roles.grants of spoilt/r"),
        ("UPDATE tenants SET state = 'secret' WHERE id = 'spoilt'", "tenants.state of spoilt"),
    ] {
        execute(&options, spoil).await;
        let tx = store.read().await.unwrap();
        let outcome = if at.starts_with("members") {
            assert!(tx.member(&tenant, &member_id("Kim")).await.is_ok());
            tx.member(&tenant, &member_id("kim")).await.map(drop)
        } else if at.starts_with("roles") {
            tx.roles(&tenant, None, 9).await.map(drop)
        } else {
            tx.tenant(&tenant).await.map(drop)
        };
        let Err(StoreError::Corrupt(what)) = outcome else { panic!("{at}: {outcome:?}") };
        assert_eq!(what, at);
    }
}
