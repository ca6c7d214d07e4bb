//! `serve --decision-log`, as an operator has it.

use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use rolegate::grpc::pb;
use serde_json::Value;

use super::callers::setup::{Place, check, eventually, hash, metric};
use super::process::{Clients, Server};

const FULL: &str = "rolegate_decision_log_dropped_total{reason=\"full\"}";
const FAILED: &str = "rolegate_decision_log_dropped_total{reason=\"failed\"}";
const WRITTEN: &str = "rolegate_decision_log_written_total";

fn start(directory: &Path, more: &[&str]) -> Server {
    let arguments = [&["--demo", "--admin-addr", "127.0.0.1:0"], more].concat();
    Server::start(directory, &arguments)
}

fn ticket(id: &str, team: &str) -> pb::Resource {
    pb::Resource {
        id: id.into(),
        assignees: Some(vec![].into()),
        teams: Some(vec![team.into()].into()),
        ..Default::default()
    }
}

/// An agent of team billing, and whether she may work on a ticket.
fn question(resource: pb::Resource) -> pb::CheckRequest {
    pb::CheckRequest {
        tenant_id: "demo-oqupie".into(),
        member_id: "alice".into(),
        permission: "ticket.work".into(),
        resource: Some(resource),
        ..Default::default()
    }
}

fn filter(resources: Vec<pb::Resource>) -> pb::FilterResourcesRequest {
    pb::FilterResourcesRequest {
        tenant_id: "demo-oqupie".into(),
        member_id: "alice".into(),
        permission: "ticket.work".into(),
        resources,
        ..Default::default()
    }
}

async fn ask(clients: &mut Clients, times: usize) {
    for _ in 0..times {
        clients.authz.check(question(ticket("t", "billing"))).await.unwrap();
    }
}

async fn filter_many(clients: &mut Clients, count: usize) {
    let resources = (0..count).map(|number| ticket(&number.to_string(), "billing")).collect();
    clients.authz.filter_resources(filter(resources)).await.unwrap();
}

fn lines(file: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(file).unwrap_or_default();
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("{line}")))
        .collect()
}

/// The lines once there are so many.
async fn so_many(file: &Path, count: usize) -> Vec<Value> {
    eventually("the lines", async || lines(file).len() >= count).await;
    let lines = lines(file);
    assert_eq!(lines.len(), count);
    lines
}

#[tokio::test]
async fn each_decision_is_a_line_and_nothing_else_is() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("decisions");
    let server = start(directory.path(), &["--decision-log", "decisions"]);
    let mut clients = Clients::connect(&server).await;
    let authz = &mut clients.authz;
    let allowed = authz.check(question(ticket("t-1", "billing"))).await.unwrap().into_inner();
    let item = |member: &str, permission: &str, resource| pb::CheckItem {
        member_id: member.into(),
        permission: permission.into(),
        resource,
    };
    let batch = |tenant: &str| pb::BatchCheckRequest {
        tenant_id: tenant.into(),
        items: vec![
            item("alice", "no.such", None),
            item("nobody", "ticket.work", None),
            item(
                "alice",
                "ticket.work",
                Some(pb::Resource { id: "t-2".into(), ..Default::default() }),
            ),
        ],
        ..Default::default()
    };
    authz.batch_check(batch("demo-oqupie")).await.unwrap();
    authz.batch_check(batch("nowhere")).await.unwrap();
    authz
        .filter_resources(filter(vec![ticket("a", "billing"), ticket("b", "technical")]))
        .await
        .unwrap();
    let hopeless = pb::FilterResourcesRequest {
        permission: "payment.manage".into(),
        ..filter(vec![ticket("c", "x")])
    };
    authz.filter_resources(hopeless).await.unwrap();
    // Refused, or no decision.
    let nonsense = pb::CheckRequest { permission: "no.such".into(), ..question(ticket("t", "x")) };
    authz.check(nonsense).await.unwrap_err();
    let plan = pb::PlanFilterRequest {
        tenant_id: "demo-oqupie".into(),
        member_id: "alice".into(),
        permission: "ticket.work".into(),
        ..Default::default()
    };
    authz.plan_filter(plan).await.unwrap();

    let lines = so_many(&file, 9).await;
    let first = &lines[0];
    assert!(first["time"].as_str().unwrap().ends_with('Z'), "{first}");
    assert!(first["revision"].as_u64().is_some() && !allowed.consistency_token.is_empty());
    let mut first = first.clone();
    let first = first.as_object_mut().unwrap();
    first.remove("time");
    first.remove("revision");
    let expected = serde_json::json!({
        "caller": "dev", "method": "AuthzService/Check", "tenant": "demo-oqupie", "member": "alice",
        "permission": "ticket.work", "resource": "t-1", "verdict": "allowed",
        "reason": "granted_by_role", "roles": [{"role": "agent", "scope": "group"}],
        "catalog": "oqupie@1",
    });
    assert_eq!(Value::Object(first.clone()), expected);
    let told = lines.iter().map(|line| {
        let text = |key: &str| line[key].as_str().unwrap_or("-").to_owned();
        let item = line["item"].as_u64().map_or("-".to_owned(), |item| item.to_string());
        let method = text("method").replace("AuthzService/", "");
        [method, item, text("member"), text("resource"), text("verdict"), text("reason")].join(" ")
    });
    let told: Vec<String> = told.collect();
    assert_eq!(
        told,
        [
            "Check - alice t-1 allowed granted_by_role",
            "BatchCheck 1 nobody - denied member_not_found",
            "BatchCheck 2 alice t-2 denied resource_attribute_required",
            "BatchCheck 0 alice - denied tenant_not_found",
            "BatchCheck 1 nobody - denied tenant_not_found",
            "BatchCheck 2 alice t-2 denied tenant_not_found",
            "FilterResources 0 alice a allowed granted_by_role",
            "FilterResources 1 alice b denied out_of_scope",
            "FilterResources 0 alice c denied permission_not_granted",
        ]
    );
    assert_eq!(lines[2]["missing"], serde_json::json!(["assignees", "teams"]));
    assert_eq!((&lines[3]["tenant"], &lines[3]["revision"]), (&"nowhere".into(), &Value::Null));
    let mode = std::fs::metadata(&file).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    assert_eq!(metric(&server, WRITTEN).await, Some(9.0));
    assert_eq!(metric(&server, FULL).await, Some(0.0));
}

/// A caller is named, and the tenant as it named it even where there is none for it.
#[tokio::test]
async fn a_line_names_the_caller_and_what_it_asked_for() {
    let caller = format!(
        "[[caller]]\nname = \"chat\"\ntoken_sha256 = [\"{}\"]\n\
         capabilities = [\"check\"]\ntenants = [\"other\"]\n",
        hash("a-token")
    );
    let place = Place::new(&caller);
    let server = place.start(&["--decision-log", "decisions"]);
    let channel = place.connect(&server, None).await.unwrap();
    check(&channel, Some("a-token")).await.unwrap();
    let lines = so_many(&place.path().join("decisions"), 1).await;
    assert_eq!((&lines[0]["caller"], &lines[0]["tenant"]), (&"chat".into(), &"acme".into()));
    assert_eq!(lines[0]["reason"], "tenant_not_found");
}

#[tokio::test]
async fn without_the_flag_there_is_no_log() {
    let directory = tempfile::tempdir().unwrap();
    let server = start(directory.path(), &[]);
    ask(&mut Clients::connect(&server).await, 10).await;
    assert_eq!(metric(&server, WRITTEN).await, None);
    let refused = Server::try_start(directory.path(), &["--decision-log-sample", "10"]);
    let Err(refused) = refused else { panic!("it started") };
    assert!(refused.stderr.contains("--decision-log <FILE>"), "{}", refused.stderr);
}

#[tokio::test]
async fn one_in_so_many_is_logged_and_the_rest_at_the_end() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("decisions");
    let arguments = ["--decision-log", "decisions", "--decision-log-sample", "100"];
    let server = start(directory.path(), &arguments);
    let mut clients = Clients::connect(&server).await;
    for _ in 0..10 {
        filter_many(&mut clients, 10_000).await;
    }
    ask(&mut clients, 20).await;
    drop(clients);
    assert_eq!(server.terminate().await, Some(0));
    // A thousand are expected, and 31 more or less are the rule.
    let count = lines(&file).len();
    assert!((700..1_300).contains(&count), "{count} of 100,020");
}

/// A pipe, and its other end for reading.
fn pipe(path: &Path) -> (File, File) {
    assert!(Command::new("mkfifo").arg(path).status().unwrap().success());
    // For reading and writing, so that opening does not wait.
    let held = File::options().read(true).write(true).open(path).unwrap();
    (held, File::open(path).unwrap())
}

/// Most of it waits in the queue when the server is told to end.
#[tokio::test]
async fn what_was_recorded_is_written_before_the_server_ends() {
    let directory = tempfile::tempdir().unwrap();
    let (held, read) = pipe(&directory.path().join("fifo"));
    let server = start(directory.path(), &["--decision-log", "fifo"]);
    drop(held);
    let mut clients = Clients::connect(&server).await;
    filter_many(&mut clients, 1_000).await;
    filter_many(&mut clients, 1_000).await;
    drop(clients);
    let reader = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_secs(2));
        BufReader::new(read).lines().count()
    });
    assert_eq!(server.terminate().await, Some(0));
    assert_eq!(reader.join().unwrap(), 2_000);
}

/// Whether it is answered from what is at hand or not.
#[tokio::test]
async fn one_call_has_a_thousand_lines_at_most() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("decisions");
    let server = start(directory.path(), &["--decision-log", "decisions"]);
    let mut clients = Clients::connect(&server).await;
    let item = pb::CheckItem {
        member_id: "alice".into(),
        permission: "ticket.work".into(),
        resource: Some(ticket("t", "billing")),
    };
    let batch = pb::BatchCheckRequest {
        tenant_id: "demo-oqupie".into(),
        items: vec![item; 1_500],
        ..Default::default()
    };
    // The second one is: the first has loaded what it needs.
    for so_far in [1, 2] {
        clients.authz.batch_check(batch.clone()).await.unwrap();
        so_many(&file, so_far * 1_000).await;
        assert_eq!(metric(&server, FULL).await, Some(so_far as f64 * 500.0));
    }
}

/// Somebody holds the other end of the pipe, and never reads.
#[tokio::test]
async fn a_reader_that_does_not_read_costs_lines_and_no_answers() {
    let directory = tempfile::tempdir().unwrap();
    let held = pipe(&directory.path().join("fifo"));
    let server = start(directory.path(), &["--decision-log", "fifo"]);
    let mut clients = Clients::connect(&server).await;
    // More than the pipe, the queue, and what is being written hold.
    for _ in 0..30 {
        filter_many(&mut clients, 1_000).await;
    }
    ask(&mut clients, 5).await;
    let full = metric(&server, FULL).await.unwrap();
    assert!((5_000.0..30_005.0).contains(&full), "{full}");
    // It ends all the same.
    drop(clients);
    assert_eq!(server.terminate().await, Some(0));
    drop(held);
}

#[tokio::test]
async fn a_disk_that_is_full_costs_lines_and_no_answers() {
    let directory = tempfile::tempdir().unwrap();
    let server = start(directory.path(), &["--decision-log", "/dev/full"]);
    let mut clients = Clients::connect(&server).await;
    ask(&mut clients, 20).await;
    eventually("the count", async || metric(&server, FAILED).await == Some(20.0)).await;
    ask(&mut clients, 20).await;
    assert_eq!(metric(&server, WRITTEN).await, Some(0.0));
    assert_eq!(server.log().matches("the decision log cannot be written").count(), 1);
}

#[test]
fn a_log_that_cannot_be_is_found_at_the_start() {
    let directory = tempfile::tempdir().unwrap();
    let fifo = directory.path().join("fifo");
    assert!(Command::new("mkfifo").arg(fifo).status().unwrap().success());
    for (log, says) in [("no/such", "No such file"), ("fifo", "a pipe without a reader")] {
        let refused = Server::try_start(directory.path(), &["--decision-log", log]);
        let Err(refused) = refused else { panic!("it started") };
        assert_eq!(refused.code, Some(1));
        assert!(refused.stderr.contains(says), "{}", refused.stderr);
    }
}
