//! Nothing secret in the log, at its most talkative, nor in errors and metrics.

use rolegate::grpc::pb;
use rolegate::grpc::pb::authz_service_client::AuthzServiceClient;
use rolegate::grpc::pb::member_service_client::MemberServiceClient;
use rolegate::grpc::pb::tenant_service_client::TenantServiceClient;
use tonic::Request;
use tonic::transport::Channel;

use super::callers::setup::{self, Place, check, hash};
use super::http::page;
use super::process::{Server, output};

const TOKEN: &str = "rolegate_planted-good-token-4711";
const NO_TOKEN: &str = "rolegate_planted-bad-token-4712";
/// A JSON web token of nobody.
const JWT: &str =
    "eyJhbGciOiJSUzI1NiJ9.eyJpc3MiOiJwbGFudGVkLWlzc3VlciIsImF1ZCI6InBsYW50ZWQifQ.cGxhbnRlZA";
const PASSWORD: &str = "planted-database-password-4713";
const AUDIT_KEY: &str = "706c616e7465642d61756469742d6b65792d3437313400112233445566778899";
const MEMBER: &str = "planted-member-4715";

fn place() -> Place {
    let caller = format!(
        "[[caller]]\nname = \"all\"\ntoken_sha256 = [\"{}\"]\n\
         capabilities = [\"check\", \"read\", \"admin\"]\n",
        hash(TOKEN)
    );
    let place = Place::new(&caller);
    place.write("audit.key", AUDIT_KEY);
    place.write("password", PASSWORD);
    place
}

fn tokened<M>(message: M) -> Request<M> {
    setup::tokened(TOKEN, message)
}

/// What works and what does not. Gives all that was said about it.
async fn a_day(place: &Place, server: &Server) -> String {
    let channel: Channel = place.connect(server, None).await.unwrap();
    let mut said = String::new();
    for token in [Some(NO_TOKEN), Some(JWT), None] {
        said += &format!("{:?}", check(&channel, token).await.unwrap_err());
    }
    let create = || pb::CreateTenantRequest {
        tenant_id: "acme".into(),
        catalog_id: "qpien".into(),
        owner_member_id: "olivia".into(),
        ..Default::default()
    };
    let mut tenants = TenantServiceClient::new(channel.clone());
    tenants.create_tenant(tokened(create())).await.unwrap();
    said += &format!("{:?}", tenants.create_tenant(tokened(create())).await.unwrap_err());
    let member = || pb::CreateMemberRequest {
        tenant_id: "acme".into(),
        member_id: MEMBER.into(),
        role_ids: vec!["user".into()],
        ..Default::default()
    };
    let mut members = MemberServiceClient::new(channel.clone());
    members.create_member(tokened(member())).await.unwrap();
    said += &format!("{:?}", members.create_member(tokened(member())).await.unwrap_err());
    check(&channel, Some(TOKEN)).await.unwrap();
    let nonsense = pb::CheckRequest {
        tenant_id: "acme".into(),
        member_id: MEMBER.into(),
        permission: "no.such".into(),
        ..Default::default()
    };
    let mut authz = AuthzServiceClient::new(channel);
    said += &format!("{:?}", authz.check(tokened(nonsense)).await.unwrap_err());
    said + &page(server.admin.as_ref().unwrap(), "/metrics").await
}

#[track_caller]
fn tells_nothing(text: &str, place: &Place) {
    let key = std::fs::read_to_string(place.path().join("server.key")).unwrap();
    let key_line = key.lines().nth(1).unwrap();
    for planted in [TOKEN, NO_TOKEN, JWT, PASSWORD, AUDIT_KEY, MEMBER, key_line] {
        assert!(!text.contains(planted), "{planted} is in {text}");
    }
    for hidden in ["PRIVATE KEY", &hash(TOKEN), &hash(NO_TOKEN)] {
        assert!(!text.contains(hidden), "{hidden} is in {text}");
    }
    for sql in ["SELECT ", "INSERT INTO", "UPDATE \"", "DELETE FROM", "PRAGMA", "CREATE TABLE"] {
        assert!(!text.contains(sql), "{sql} is in {text}");
    }
}

async fn at(place: &Place, filter: &str, database: &str) {
    let server = place.start(&[
        "--log",
        filter,
        "--database-url",
        database,
        "--database-password-file",
        "password",
        "--audit-key-file",
        "audit.key",
    ]);
    let said = a_day(place, &server).await;
    tells_nothing(&said.replace(MEMBER, "the caller's own words"), place);
    let log = server.log_with("CreateMember").await;
    assert!(log.contains("serving gRPC"), "{log}");
    tells_nothing(&log, place);
    // Errors say how to send a token; the log has no reason to.
    assert!(!log.to_lowercase().contains("bearer"), "{log}");
}

const FILTERS: [&str; 2] =
    ["trace", "trace,sqlx=trace,sea_orm=trace,h2=trace,rustls=trace,hyper=trace"];

#[tokio::test]
async fn no_log_of_any_level_tells_a_secret_on_sqlite() {
    for filter in FILTERS {
        let place = place();
        at(&place, filter, "sqlite:rolegate.db").await;
    }
}

#[tokio::test]
async fn no_log_of_any_level_tells_a_secret_on_postgres() {
    let Some(cluster) = crate::postgres::shared() else { return };
    let place = place();
    let url = cluster.url(&cluster.create_database());
    let arguments = ["migrate", "--log", "trace", "--database-url", &url];
    let migrated = output(place.path(), &arguments);
    assert!(migrated.status.success());
    tells_nothing(&String::from_utf8_lossy(&migrated.stderr), &place);
    at(&place, FILTERS[1], &url).await;

    // Nobody listens there, and a password in the flag itself.
    for (url, password) in [
        ("postgres://planted@127.0.0.1:1/x".to_owned(), true),
        (format!("postgres://planted:{PASSWORD}@127.0.0.1:1/x"), false),
    ] {
        let mut arguments = vec!["migrate", "--log", "trace", "--database-url", &url];
        arguments.extend(["--database-connect-timeout-ms", "1"]);
        if password {
            arguments.extend(["--database-password-file", "password"]);
        }
        let failed = output(place.path(), &arguments);
        assert!(!failed.status.success());
        tells_nothing(&String::from_utf8_lossy(&failed.stderr), &place);
    }
}
