//! Metrics count what was done, and name nobody.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use http::uri::PathAndQuery;
use rolegate::grpc::pb;
use tokio::time::Instant;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;

use super::super::process::{Clients, Server};
use super::exposition::{Exposition, labels};
use super::{get, scrape, start};

fn check(tenant: &str, member: &str, permission: &str) -> pb::CheckRequest {
    pb::CheckRequest {
        tenant_id: tenant.into(),
        member_id: member.into(),
        permission: permission.into(),
        ..Default::default()
    }
}

fn item(member: &str, permission: &str) -> pb::CheckItem {
    pb::CheckItem { member_id: member.into(), permission: permission.into(), resource: None }
}

fn ticket(id: &str, team: &str) -> pb::Resource {
    pb::Resource {
        id: id.into(),
        assignees: Some(vec![].into()),
        teams: Some(vec![team.into()].into()),
        ..Default::default()
    }
}

fn create_role(name: &str, request_id: &str, validate_only: bool) -> pb::CreateRoleRequest {
    pb::CreateRoleRequest {
        tenant_id: "demo-qpien".into(),
        name: name.into(),
        grants: vec![pb::Grant { permission: "chat.view".into(), scope: String::new() }],
        request_id: request_id.into(),
        validate_only,
        ..Default::default()
    }
}

/// Every kind of decision, write and end of a call, once or a known number of times.
async fn a_busy_day(server: &Server) {
    let mut clients = Clients::connect(server).await;
    let authz = &mut clients.authz;
    for _ in 0..3 {
        authz.check(check("demo-oqupie", "olivia", "ticket.delete")).await.unwrap();
    }
    for (member, permission) in [
        ("alice", "customer.view"),
        ("alice", "ticket.delete"),
        ("alice", "ticket.work"),
        ("arthur", "customer.view"),
        ("nobody-at-all", "customer.view"),
    ] {
        authz.check(check("demo-oqupie", member, permission)).await.unwrap();
    }
    authz.check(check("no-such-tenant", "alice", "ticket.work")).await.unwrap();
    let nonsense = authz.check(check("demo-oqupie", "alice", "ticket.fold")).await;
    assert_eq!(nonsense.unwrap_err().code(), tonic::Code::InvalidArgument);
    // Two allowed, one denied, one that is no question.
    let batch = pb::BatchCheckRequest {
        tenant_id: "demo-oqupie".into(),
        items: vec![
            item("olivia", "ticket.delete"),
            item("adam", "ticket.delete"),
            item("dan", "ticket.delete"),
            item("dan", "ticket.fold"),
        ],
        ..Default::default()
    };
    authz.batch_check(batch).await.unwrap();
    // Two in her team, one in another, one of which too little is said.
    let filter = pb::FilterResourcesRequest {
        tenant_id: "demo-oqupie".into(),
        member_id: "alice".into(),
        permission: "ticket.work".into(),
        resources: vec![
            ticket("ticket-1", "billing"),
            ticket("ticket-2", "billing"),
            ticket("ticket-3", "technical"),
            pb::Resource { id: "ticket-4".into(), ..Default::default() },
        ],
        ..Default::default()
    };
    let filtered = authz.filter_resources(filter).await.unwrap().into_inner();
    assert_eq!(filtered.allowed_ids.len(), 2);

    let watch = pb::WatchRequest::default();
    let mut stream = authz.watch(watch).await.unwrap().into_inner();
    stream.message().await.unwrap().unwrap();
    let roles = &mut clients.roles;
    roles.create_role(create_role("Gardener", "once", false)).await.unwrap();
    assert_eq!(stream.message().await.unwrap().unwrap().changes.len(), 1);
    drop(stream);
    roles.create_role(create_role("Gardener", "once", false)).await.unwrap();
    roles.create_role(create_role("Florist", "", true)).await.unwrap();
    let taken = roles.create_role(create_role("gardener", "", false)).await;
    assert_eq!(taken.unwrap_err().code(), tonic::Code::AlreadyExists);
    let same = pb::ChangePlanRequest {
        tenant_id: "demo-oqupie".into(),
        plan: "enterprise".into(),
        ..Default::default()
    };
    clients.tenants.change_plan(same).await.unwrap();
    let mut unfit = create_role("Prince", "", false);
    unfit.actor_id = "alice".to_owned();
    unfit.tenant_id = "demo-oqupie".to_owned();
    let refused = clients.roles.create_role(unfit).await;
    assert_eq!(refused.unwrap_err().code(), tonic::Code::PermissionDenied);

    // What no descriptor names.
    for path in ["/rolegate.v1.AuthzService/Nope", "/secret-of.demo-oqupie/olivia"] {
        let mut grpc = tonic::client::Grpc::new(server.channel().await);
        grpc.ready().await.unwrap();
        let codec = tonic_prost::ProstCodec::<pb::CheckRequest, pb::CheckResponse>::default();
        let request = tonic::Request::new(check("demo-oqupie", "alice", "ticket.work"));
        let answer = grpc.unary(request, PathAndQuery::from_static(path), codec).await;
        assert_eq!(answer.unwrap_err().code(), tonic::Code::Unimplemented);
    }
}

#[tokio::test]
async fn metrics_count_what_was_done_and_name_nobody() {
    let directory = tempfile::tempdir().unwrap();
    // With all that has metrics.
    let arguments = ["--demo", "--cache-mib", "7", "--decision-log", "decisions"];
    let limit = ["--max-questions-per-second-per-caller", "1000000"];
    let (server, admin) = start(directory.path(), &[&arguments[..], &limit].concat());
    let before = scrape(&admin).await;
    a_busy_day(&server).await;

    // A call is counted once the server is done with it, which may be just after its client has
    // the answer. The unknown method is the last one.
    let unknown = labels(&[("method", "unknown"), ("code", "UNIMPLEMENTED")]);
    let deadline = Instant::now() + Duration::from_secs(60);
    let after = loop {
        let after = scrape(&admin).await;
        let open: f64 = after.family("rolegate_rpcs_open").values().sum();
        if after.get("rolegate_rpcs_total", &unknown) == Some(2.0)
            && open == 0.0
            && after.value("rolegate_watch_streams", &[]) == 0.0
        {
            break after;
        }
        assert!(Instant::now() < deadline, "calls are not counted");
        tokio::time::sleep(Duration::from_millis(10)).await;
    };

    let decisions = |reason: &str| {
        let outcome = if reason.starts_with("granted") { "allowed" } else { "denied" };
        let labels = [("outcome", outcome), ("reason", reason)];
        let name = "rolegate_decisions_total";
        after.value(name, &labels) - before.value(name, &labels)
    };
    // Checks, items of the batch, candidates of the filter.
    for (reason, count) in [
        ("granted_by_role", 3.0 + 2.0 + 2.0),
        ("granted_to_everyone", 1.0),
        ("tenant_not_found", 1.0),
        ("member_not_found", 1.0),
        ("member_archived", 1.0),
        ("permission_not_granted", 1.0 + 1.0),
        ("out_of_scope", 1.0),
        ("resource_required", 1.0),
        ("resource_attribute_required", 1.0),
    ] {
        assert_eq!(decisions(reason), count, "{reason}");
    }
    let writes = |kind: &str, outcome: &str| {
        let labels = [("kind", kind), ("outcome", outcome)];
        let name = "rolegate_writes_total";
        after.value(name, &labels) - before.value(name, &labels)
    };
    for (kind, outcome, count) in [
        ("roles", "committed", 1.0),
        ("roles", "replayed", 1.0),
        ("roles", "trial", 1.0),
        ("roles", "abandoned", 1.0),
        ("roles", "refused_to_actor", 1.0),
        ("roles", "failed", 0.0),
        ("tenants", "unchanged", 1.0),
        ("tenants", "committed", 0.0),
        ("members", "committed", 0.0),
    ] {
        assert_eq!(writes(kind, outcome), count, "{kind} {outcome}");
    }
    let rpcs = |method: &str, code: &str| {
        let labels = labels(&[("method", method), ("code", code)]);
        after.get("rolegate_rpcs_total", &labels)
    };
    assert_eq!(rpcs("rolegate.v1.AuthzService/Watch", "CANCELLED"), Some(1.0));
    assert_eq!(after.value("rolegate_watch_streams", &[]), 0.0);
    assert_eq!(after.value("rolegate_watch_changes_total", &[]), 1.0);
    assert_eq!(after.value("rolegate_watch_ends_total", &[("reason", "left")]), 1.0);
    assert_eq!(after.value("rolegate_watch_ends_total", &[("reason", "slow")]), 0.0);
    assert_eq!(rpcs("rolegate.v1.AuthzService/Check", "OK"), Some(9.0));
    assert_eq!(rpcs("rolegate.v1.AuthzService/Check", "INVALID_ARGUMENT"), Some(1.0));
    assert_eq!(rpcs("rolegate.v1.AuthzService/Check", "CANCELLED"), None);
    assert_eq!(rpcs("rolegate.v1.AuthzService/BatchCheck", "OK"), Some(1.0));
    assert_eq!(rpcs("rolegate.v1.RoleService/CreateRole", "ALREADY_EXISTS"), Some(1.0));
    let check = [("method", "rolegate.v1.AuthzService/Check")];
    assert_eq!(after.value("rolegate_rpc_duration_seconds_count", &check), 10.0);
    assert!(after.value("rolegate_rpc_duration_seconds_sum", &check) > 0.0);

    let member = [("kind", "member")];
    assert!(after.value("rolegate_cache_hits_total", &member) > 0.0);
    assert!(after.value("rolegate_cache_misses_total", &member) > 0.0);
    assert_eq!(after.value("rolegate_cache_limit_bytes", &[]), f64::from(7 << 20));
    assert!(after.value("rolegate_cache_bytes", &[]) < f64::from(7 << 20));
    assert_eq!(after.value("rolegate_database_connections_limit", &[("pool", "write")]), 1.0);
    let readers: f64 = ["in_use", "idle"]
        .map(|state| {
            after.value("rolegate_database_connections", &[("pool", "read"), ("state", state)])
        })
        .iter()
        .sum();
    assert!(readers >= 1.0);
    assert_eq!(after.family("rolegate_build_info").values().copied().collect::<Vec<_>>(), [1.0]);

    assert!(after.value("rolegate_staleness_seconds", &[]) < 2.0);
    assert_eq!(after.value("rolegate_standing", &[("standing", "current")]), 1.0);
    assert_documented(&after);

    // No id, name or other text of anybody's is in it, and labels are only these.
    let text = get(&admin, "/metrics").await.body;
    for id in [
        "demo",
        "oqupie",
        "qpien",
        "olivia",
        "alice",
        "nobody",
        "tenant-",
        "ticket",
        "billing",
        "ardener",
        "lorist",
        "secret",
        "fold",
        "Nope",
        "owner",
        "enterprise",
    ] {
        assert!(!text.contains(id), "{id} is in {text}");
    }
    let allowed: BTreeMap<&str, &[&str]> = BTreeMap::from([
        ("rolegate_build_info", ["commit", "rustc", "schema", "version"].as_slice()),
        ("rolegate_decisions", &["outcome", "reason"]),
        ("rolegate_decision_log_dropped", &["reason"]),
        ("rolegate_writes", &["kind", "outcome"]),
        ("rolegate_refusals_unrecorded", &[]),
        ("rolegate_rpcs", &["code", "method"]),
        ("rolegate_rpcs_open", &["method"]),
        ("rolegate_rpc_duration_seconds", &["le", "method"]),
        ("rolegate_cache_hits", &["kind"]),
        ("rolegate_cache_misses", &["kind"]),
        ("rolegate_watch_ends", &["reason"]),
        ("rolegate_standing", &["standing"]),
        ("rolegate_unauthenticated_calls", &["reason"]),
        ("rolegate_reloads", &["outcome", "what"]),
        ("rolegate_reload_failing", &["what"]),
        ("rolegate_reload_age_seconds", &["what"]),
        ("rolegate_connections_ended", &["reason"]),
        ("rolegate_database_epochs", &["cause"]),
        ("rolegate_tls_handshakes", &["outcome"]),
        ("rolegate_connections_refused", &["reason"]),
        ("rolegate_calls_shed", &["what", "of"]),
        ("rolegate_rate_limited", &["caller"]),
        ("rolegate_database_connections", &["pool", "state"]),
        ("rolegate_database_connections_limit", &["pool"]),
    ]);
    for (family, labels) in after.labels() {
        let allowed = allowed.get(family.as_str()).copied().unwrap_or_default();
        assert!(
            labels.iter().all(|label| allowed.contains(&label.as_str())),
            "{family} has {labels:?}"
        );
    }
}

/// The metrics that a page names.
fn mentioned(page: &str) -> BTreeSet<&str> {
    page.split(|c: char| !c.is_ascii_alphanumeric() && c != '_')
        .filter(|word| word.starts_with("rolegate_") || word.starts_with("process_"))
        .map(|word| word.trim_end_matches("_total").trim_end_matches("_bucket"))
        .collect()
}

/// The reference explains every metric, and no page for operators names one that is not there.
fn assert_documented(measured: &Exposition) {
    let families: BTreeSet<String> = measured.labels().into_keys().collect();
    let families: BTreeSet<&str> = families.iter().map(String::as_str).collect();
    assert_eq!(mentioned(include_str!("../../../../docs/reference/metrics.md")), families);
    for (name, page) in [
        ("acting-for-members", include_str!("../../../../docs/guides/acting-for-members.md")),
        ("backup", include_str!("../../../../docs/operations/backup.md")),
        ("benchmarks", include_str!("../../../../docs/operations/benchmarks.md")),
        ("callers-file", include_str!("../../../../docs/reference/callers-file.md")),
        ("command-line", include_str!("../../../../docs/reference/command-line.md")),
        ("deploy", include_str!("../../../../docs/operations/deploy.md")),
        ("monitor", include_str!("../../../../docs/operations/monitor.md")),
    ] {
        let unknown: Vec<_> = mentioned(page).difference(&families).copied().collect();
        assert!(unknown.is_empty(), "docs: {name} names {unknown:?}");
    }
}

/// What only takes the older text format gets it, with the same numbers in it.
#[tokio::test]
async fn metrics_come_in_the_older_format_for_whoever_asks_for_that() {
    let directory = tempfile::tempdir().unwrap();
    let (_server, admin) = start(directory.path(), &[]);
    let accept = "Accept: text/plain;version=0.0.4\r\n";
    let reply = super::request_with(&admin, "GET", "/metrics", accept).await;
    assert_eq!(reply.status, 200);
    assert!(reply.head.contains("content-type: text/plain; version=0.0.4"), "{}", reply.head);
    let (mut family, mut samples) = (String::new(), 0);
    for line in reply.body.lines() {
        if let Some(typed) = line.strip_prefix("# TYPE ") {
            let (name, kind) = typed.split_once(' ').unwrap();
            assert!(["counter", "gauge", "histogram"].contains(&kind), "{line}");
            assert_eq!(kind == "counter", name.ends_with("_total"), "{line}");
            name.clone_into(&mut family);
        } else if !line.starts_with('#') {
            // What a parser of this format takes for the family's.
            let name = line.split(['{', ' ']).next().unwrap();
            let rest = name.strip_prefix(family.as_str()).unwrap_or_else(|| panic!("{line}"));
            assert!(["", "_bucket", "_sum", "_count"].contains(&rest), "{line}");
            samples += 1;
        } else {
            assert!(line.starts_with("# HELP "), "{line}");
        }
    }
    assert!(samples > 20, "{samples}");
    for name in ["rolegate_decisions_total", "process_cpu_seconds_total"] {
        assert!(reply.body.contains(&format!("# TYPE {name} counter\n")), "{name}");
    }
    let newer = get(&admin, "/metrics").await;
    assert!(newer.head.contains("application/openmetrics-text"), "{}", newer.head);
}

#[tokio::test]
async fn metrics_tell_what_the_kernel_counts() {
    let directory = tempfile::tempdir().unwrap();
    let (_server, admin) = start(directory.path(), &[]);
    let measured = scrape(&admin).await;
    let value = |name: &str| measured.value(name, &[]);
    assert!(value("process_cpu_seconds_total") > 0.0);
    assert!(value("process_resident_memory_bytes") > 1e6);
    assert!(value("process_virtual_memory_bytes") >= value("process_resident_memory_bytes"));
    assert!(value("process_open_fds") > 5.0);
    assert!(value("process_max_fds") >= value("process_open_fds"));
    let difference = value("process_start_time_seconds") - value("rolegate_start_time_seconds");
    assert!(difference.abs() < 60.0, "{difference}");
}

#[tokio::test]
async fn an_open_stream_is_seen_and_a_client_that_leaves_is_counted() {
    const WATCH: &str = "grpc.health.v1.Health/Watch";
    let directory = tempfile::tempdir().unwrap();
    let (server, admin) = start(directory.path(), &[]);
    let mut health = HealthClient::new(server.channel().await);
    let request = HealthCheckRequest { service: String::new() };
    let mut stream = health.watch(request).await.unwrap().into_inner();
    stream.message().await.unwrap().unwrap();
    let open = [("method", WATCH)];
    assert_eq!(scrape(&admin).await.value("rolegate_rpcs_open", &open), 1.0);
    drop(stream);
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        let measured = scrape(&admin).await;
        let cancelled = labels(&[("method", WATCH), ("code", "CANCELLED")]);
        if measured.get("rolegate_rpcs_total", &cancelled) == Some(1.0) {
            assert_eq!(measured.value("rolegate_rpcs_open", &open), 0.0);
            let count = measured.get("rolegate_rpc_duration_seconds_count", &labels(&open));
            assert_eq!(count, None, "a stream's length is no latency");
            break;
        }
        assert!(Instant::now() < deadline, "the stream is still open");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
