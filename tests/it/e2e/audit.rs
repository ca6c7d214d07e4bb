//! `rolegate audit`, as an operator uses it.

use std::fs;
use std::path::Path;

use rolegate::grpc::pb;
use sea_orm::ConnectionTrait;

use super::process::{Clients, MARK_IN_HEX, Server, output};

struct Output {
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

fn audit(directory: &Path, arguments: &[&str]) -> Output {
    let output = output(directory, &[&["audit"], arguments].concat());
    Output {
        code: output.status.code(),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

/// Runs it, and gives back what it prints.
#[track_caller]
fn expect(code: i32, directory: &Path, arguments: &[&str]) -> String {
    let output = audit(directory, arguments);
    assert_eq!(output.code, Some(code), "{arguments:?}: {}{}", output.stdout, output.stderr);
    output.stdout
}

async fn sql(directory: &Path, statement: &str) {
    let url = format!("sqlite:{}", directory.join("rolegate.db").display());
    let connection = sea_orm::Database::connect(url).await.unwrap();
    assert!(connection.execute_unprepared(statement).await.unwrap().rows_affected() > 0);
    connection.close().await.unwrap();
}

async fn make_member(clients: &mut Clients, id: &str) {
    let request = pb::CreateMemberRequest {
        tenant_id: "acme".into(),
        member_id: id.into(),
        role_ids: vec!["user".into()],
        ..Default::default()
    };
    clients.members.create_member(request).await.unwrap();
}

#[tokio::test]
async fn a_trail_is_verified_exported_and_handed_to_a_new_key() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    let save = |name: &str, text: &str| fs::write(path.join(name), text).unwrap();
    save("one.key", &format!("{MARK_IN_HEX}{}\n", "1f".repeat(32)));
    save("two.key", &format!("{MARK_IN_HEX}{}", "2e".repeat(32)));
    save("short.key", "secret");
    let one = ["--audit-key-file", "one.key"];

    let server = Server::start(path, &one);
    let mut clients = Clients::connect(&server).await;
    let tenant = pb::CreateTenantRequest {
        tenant_id: "acme".into(),
        catalog_id: "qpien".into(),
        owner_member_id: "owner".into(),
        ..Default::default()
    };
    clients.tenants.create_tenant(tenant).await.unwrap();
    for id in ["kim", "lee"] {
        make_member(&mut clients, id).await;
    }
    let deletion = pb::DeleteMemberRequest {
        tenant_id: "acme".into(),
        member_id: "kim".into(),
        ..Default::default()
    };
    clients.members.delete_member(deletion).await.unwrap();
    // While it serves.
    let said = expect(0, path, &["verify", one[0], one[1]]);
    assert_eq!(said, "sound: 1 trails with 4 events\n");
    save("heads", &expect(0, path, &["head", one[0], one[1]]));
    let export = expect(0, path, &["export", "--tenant", "acme", one[0], one[1]]);
    assert_eq!(export.lines().count(), 6);
    assert!(!export.contains("kim"), "{export}");
    save("export", &export);
    make_member(&mut clients, "ada").await;
    assert_eq!(server.terminate().await, Some(0));

    // What cannot be looked at.
    for (arguments, said) in [
        (&["verify", "--audit-key-file", "short.key"][..], "at least 32"),
        (&["verify", "--audit-key-file", "nowhere"], "nowhere"),
        (&["verify", "--tenant", "nobody", one[0], one[1]], "nobody"),
        (&["verify", "--from", "short.key", one[0], one[1]], "not a line"),
        (&["verify", "--database-url", "sqlite:nowhere.db"], "no database"),
        (&["export", "--tenant", "nobody"], "nobody"),
    ] {
        let output = audit(path, arguments);
        assert_eq!(output.code, Some(2), "{arguments:?}: {}", output.stderr);
        assert!(output.stderr.contains(said), "{arguments:?}: {}", output.stderr);
        assert!(!output.stderr.contains("secret"), "{}", output.stderr);
    }
    // With another key, or none, nothing fits.
    expect(1, path, &["verify"]);
    expect(1, path, &["verify", "--audit-key-file", "two.key"]);

    // Offline: what was exported, and the same with one letter changed or its end cut off.
    let from = ["verify", "--from", "export", one[0], one[1]];
    assert_eq!(expect(0, path, &from), "sound: 1 trails with 4 events\n");
    save("export", &export.replace("\"lee\"", "\"leo\""));
    assert!(expect(1, path, &from).contains("event 3 was edited: "));
    let lines: Vec<_> = export.lines().collect();
    save("export", &lines[..5].join("\n"));
    assert!(expect(1, path, &from).contains("head"));
    save("export", &[&lines[..3], &lines[4..]].concat().join("\n"));
    assert!(expect(1, path, &from).contains("event 3 is missing"));

    // The end is cut off, and all that says so is adjusted.
    sql(path, "DELETE FROM audit WHERE number > 3").await;
    sql(path, "UPDATE tenants SET revision = 3").await;
    sql(
        path,
        "UPDATE audit_heads SET number = 3, link = (SELECT link FROM audit WHERE number = 3)",
    )
    .await;
    // What the erasure left has no erasure any more.
    let said = expect(1, path, &["verify", one[0], one[1]]);
    assert!(said.contains("event 4, which does not exist"), "{said}");
    let said = expect(1, path, &["verify", "--head", "heads", "--json", one[0], one[1]]);
    let said: serde_json::Value = serde_json::from_str(&said).unwrap();
    assert_eq!((&said["sound"], &said["tenant"]), (&false.into(), &"acme".into()));
    let problems = said["findings"].as_array().unwrap().iter().map(|f| &f["problem"]);
    assert!(problems.into_iter().any(|problem| problem == "cut"), "{said}");
}

#[tokio::test]
async fn a_database_goes_on_with_a_new_key_only() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    fs::write(path.join("key"), format!("{MARK_IN_HEX}{}", "2e".repeat(32))).unwrap();
    let key = ["--audit-key-file", "key"];
    drop(Server::start(path, &["--demo"]));
    let said = expect(0, path, &["verify"]);
    assert!(said.starts_with("sound: 2 trails"), "{said}");
    let Err(refused) = Server::try_start(path, &key) else { panic!("the key changed by itself") };
    assert!(refused.stderr.contains("--began-with-database-key"), "{}", refused.stderr);
    let began = ["--began-with-database-key", key[0], key[1]];
    let verify = [&["verify"], &began[..]].concat();
    assert!(expect(1, path, &verify).contains("rolegate audit rotate"));
    let rotate = [&["rotate"], &began[..]].concat();
    assert_eq!(expect(0, path, &rotate), "2 trails go on with the current key\n");
    assert_eq!(expect(0, path, &rotate), "0 trails go on with the current key\n");
    expect(0, path, &verify);
    let Err(refused) = Server::try_start(path, &[]) else { panic!("it started without the key") };
    assert_eq!(refused.code, Some(1));
    assert!(refused.stderr.contains("--audit-key-file"), "{}", refused.stderr);
}

/// The trail of one tenant is edited before the key changes, that of the other is not.
#[tokio::test]
async fn a_broken_trail_goes_on_with_a_new_key_only_if_told_so_and_stays_broken() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    for name in ["one.key", "two.key"] {
        fs::write(path.join(name), format!("{MARK_IN_HEX}{}", name.repeat(9))).unwrap();
    }
    let one = ["--audit-key-file", "one.key"];
    let two = ["--audit-key-file", "two.key"];
    let both = [&two[..], &["--old-audit-key-file", "one.key"]].concat();
    let with = |command: &[&'static str], keys: &[&'static str]| [command, keys].concat();
    drop(Server::start(path, &with(&["--demo"], &one)));
    sql(path, "UPDATE audit SET caller = 'nobody' WHERE number = 2 AND tenant_id = 'demo-qpien'")
        .await;

    let rotate = with(&["rotate"], &both);
    let refused = audit(path, &rotate);
    assert_eq!(refused.code, Some(1), "{}", refused.stderr);
    assert_eq!(refused.stdout, "1 trails go on with the current key\n");
    assert!(refused.stderr.contains("given: demo-qpien."), "{}", refused.stderr);
    let code = async |tenant: &str| {
        let server = Server::start(path, &two);
        let mut clients = Clients::connect(&server).await;
        let request = pb::CreateMemberRequest {
            tenant_id: tenant.into(),
            member_id: format!("new-{}", server.id()),
            ..Default::default()
        };
        clients.members.create_member(request).await.err().map(|status| status.code())
    };
    assert_eq!(code("demo-oqupie").await, None);
    assert_eq!(code("demo-qpien").await, Some(tonic::Code::Unavailable));

    assert_eq!(audit(path, &with(&rotate, &["--tenant", "demo-qpien"])).code, Some(1));
    let broken = with(&rotate, &["--even-broken"]);
    assert_eq!(expect(0, path, &broken), "1 trails go on with the current key\n");
    assert_eq!(expect(0, path, &broken), "0 trails go on with the current key\n");
    assert_eq!(code("demo-qpien").await, None);
    let said = expect(1, path, &with(&["verify", "--tenant", "demo-qpien"], &both));
    assert!(said.contains("the link of event 2 does not follow"), "{said}");
    expect(0, path, &with(&["verify", "--tenant", "demo-oqupie"], &both));
}

/// Neither a start nor a migration with a file that was named by mistake takes the trail over.
#[tokio::test]
async fn a_wrong_key_file_is_refused_and_changes_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    for name in ["one.key", "two.key"] {
        fs::write(path.join(name), format!("{MARK_IN_HEX}{}", name.repeat(9))).unwrap();
    }
    let one = ["--audit-key-file", "one.key"];
    let two = ["--audit-key-file", "two.key"];
    let server = Server::start(path, &[&one[..], &["--demo"]].concat());
    let running = || async {
        let mut clients = Clients::connect(&server).await;
        let request = pb::CreateMemberRequest {
            tenant_id: "demo-qpien".into(),
            member_id: uuid::Uuid::new_v4().to_string(),
            ..Default::default()
        };
        clients.members.create_member(request).await
    };
    for _ in 0..2 {
        let Err(refused) = Server::try_start(path, &two) else { panic!("it started") };
        assert_eq!(refused.code, Some(1));
        let migrate = output(path, &[&["migrate"], &two[..]].concat());
        assert_eq!(migrate.status.code(), Some(1));
        for said in [refused.stderr, String::from_utf8(migrate.stderr).unwrap()] {
            assert!(said.contains("rolegate audit rotate"), "{said}");
        }
        // Without the key of now, not even `rotate` does.
        for keys in [&two[..], &["--audit-key-file", "two.key", "--old-audit-key-file", "two.key"]]
        {
            let rotate = audit(path, &[&["rotate"], keys].concat());
            assert_eq!(rotate.code, Some(2), "{}", rotate.stdout);
            assert!(rotate.stderr.contains("--old-audit-key-file"), "{}", rotate.stderr);
        }
        running().await.unwrap();
    }
    expect(0, path, &["rotate", two[0], two[1], "--old-audit-key-file", "one.key"]);
    // What does not fit is told as that.
    let status = running().await.unwrap_err();
    assert_eq!(status.code(), tonic::Code::Unavailable);
    let info = tonic_types::StatusExt::get_details_error_info(&status).unwrap();
    assert_eq!(info.reason, "AUDIT_KEY_MISMATCH");
    drop(server);
    let Err(replaced) = Server::try_start(path, &one) else { panic!("it started") };
    assert!(replaced.stderr.contains("which came after the one given"), "{}", replaced.stderr);
    drop(Server::start(path, &two));
}
