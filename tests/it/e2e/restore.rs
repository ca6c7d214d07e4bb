//! An older backup is restored under running replicas.

use std::process::Command;
use std::time::Duration;

use rolegate::grpc::pb;
use tokio::time::Instant;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use super::desk::{Fresh, NO, YES, ask, make_member, make_tenant, seen, set, warm};
use super::fleet::{Fleet, migrate};
use super::process::Clients;
use crate::postgres::Cluster;

const BOUND: Duration = Duration::from_secs(2);

/// PostgreSQL's own tools, as an operator uses them.
fn run(cluster: &Cluster, program: &str, database: &str, arguments: &[&str]) {
    let port = cluster.port().to_string();
    let output = Command::new(program)
        .args(["--host", "127.0.0.1", "--port", &port, "--username", "postgres"])
        .args(["--dbname", database])
        .args(arguments)
        .output()
        .unwrap_or_else(|error| panic!("{program}: {error}"));
    assert!(output.status.success(), "{program}: {}", String::from_utf8_lossy(&output.stderr));
}

fn reason(status: &Status) -> String {
    status.get_details_error_info().map(|info| info.reason).unwrap_or_default()
}

async fn edit_role(
    clients: &Clients,
    role_id: &str,
    description: &str,
    etag: &str,
) -> Result<pb::Role, Status> {
    let request = pb::UpdateRoleRequest {
        tenant_id: "acme".into(),
        role_id: role_id.into(),
        description: description.into(),
        update_mask: Some(prost_types::FieldMask { paths: vec!["description".into()] }),
        etag: etag.into(),
        ..Default::default()
    };
    Ok(clients.roles.clone().update_role(request).await?.into_inner().role.unwrap())
}

async fn members(clients: &Clients, page_token: &str) -> (Vec<String>, String) {
    let request = pb::ListMembersRequest {
        tenant_id: "acme".into(),
        page_size: 2,
        page_token: page_token.into(),
        ..Default::default()
    };
    let page = clients.members.clone().list_members(request).await.unwrap().into_inner();
    (page.members.into_iter().map(|member| member.id).collect(), page.next_page_token)
}

/// Within the bound: a replica may first have to notice.
async fn refused_as_foreign(clients: &Clients, token: &str, restored: Instant) {
    loop {
        let asked = restored.elapsed();
        let said = ask(clients, "acme", "kim", Fresh::Token(token.to_owned())).await;
        match said {
            Err(refused) if reason(&refused) == "CONSISTENCY_TOKEN_FOREIGN" => {
                assert_eq!(refused.code(), Code::InvalidArgument);
                return;
            }
            other => assert!(asked <= BOUND, "{asked:?} after the restore: {other:?}"),
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_restored_under_running_replicas_is_a_new_epoch_for_all() {
    let Some(cluster) = crate::postgres::shared() else { return };
    let database = cluster.create_database();
    let url = cluster.url(&database);
    migrate(&url, &[]);
    let fleet = Fleet::start(&[&url, &url], &[], &[]).await;
    let [one, two] = fleet.clients.as_slice() else { panic!() };
    make_tenant(one, "acme").await;
    for member in ["kim", "lee", "sam"] {
        make_member(one, "acme", member).await.unwrap();
    }
    let request = pb::CreateRoleRequest {
        tenant_id: "acme".into(),
        name: "Reporter".into(),
        grants: vec![pb::Grant { permission: "report.view".into(), ..Default::default() }],
        ..Default::default()
    };
    let made = one.roles.clone().create_role(request).await.unwrap().into_inner();
    let (role, before) = (made.role.unwrap(), made.consistency_token);
    let (_, page_token) = members(one, "").await;

    let backup = fleet.directory().join("backup").display().to_string();
    run(cluster, "pg_dump", &database, &["--format=custom", "--file", &backup]);

    // All of this is going to be lost, and both replicas hold it.
    let lost_etag = edit_role(one, &role.id, "lost", &role.etag).await.unwrap().etag;
    let after = set(one, "acme", "kim", false).await.unwrap();
    make_member(one, "acme", "ghost").await.unwrap();
    for clients in [one, two] {
        seen(clients, "acme", "kim", NO, Instant::now(), BOUND).await;
        warm(clients, "acme", &["ghost", "lee"]).await;
    }

    let restore = ["--clean", "--if-exists", "--single-transaction", &backup];
    run(cluster, "pg_restore", &database, &restore);
    assert_eq!(migrate(&url, &["--after-restore"]), "epoch 2\n");
    let restored = Instant::now();
    for clients in [one, two] {
        let dropped = seen(clients, "acme", "kim", YES, restored, BOUND).await;
        println!("what was held is dropped {dropped:?} after the new epoch began");
        for token in [&before, &after] {
            refused_as_foreign(clients, token, restored).await;
        }
        assert_eq!(ask(clients, "acme", "ghost", Fresh::Any).await.unwrap(), NO);
    }
    // Pages go on: they are about ids, and the key that signs them came back with the backup.
    assert_eq!(members(two, &page_token).await.0, ["owner", "sam"]);

    // Somebody else edits the role. What was read before the restore must not pass for that.
    let stale = edit_role(two, &role.id, "mine", &lost_etag).await.unwrap_err();
    assert_eq!((stale.code(), reason(&stale).as_str()), (Code::Aborted, "ETAG_MISMATCH"));
    let theirs = edit_role(one, &role.id, "theirs", &role.etag).await.unwrap();
    assert_ne!(theirs.etag, lost_etag);
    let stale = edit_role(two, &role.id, "mine", &lost_etag).await.unwrap_err();
    assert_eq!((stale.code(), reason(&stale).as_str()), (Code::Aborted, "ETAG_MISMATCH"));

    // And they go on as ever, in both directions.
    for (writer, reader, may) in [(one, two, false), (two, one, true)] {
        let expected = if may { YES } else { NO };
        let token = set(writer, "acme", "kim", may).await.unwrap();
        let committed = Instant::now();
        let said = ask(reader, "acme", "kim", Fresh::Token(token)).await.unwrap();
        assert_eq!(said, expected);
        seen(reader, "acme", "kim", expected, committed, BOUND).await;
    }
}
