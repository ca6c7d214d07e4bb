//! NOT_SERVING first, then drain, then exit.

use std::time::Duration;

use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

use super::process::{Server, signal};

const SERVICES: [&str; 5] = [
    "",
    "rolegate.v1.AuthzService",
    "rolegate.v1.RoleService",
    "rolegate.v1.TenantService",
    "rolegate.v1.MemberService",
];

#[tokio::test]
async fn health_turns_before_connections_are_drained() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(directory.path(), &["--drain-delay", "2"]);
    let mut health = HealthClient::new(server.channel().await);
    for service in SERVICES {
        let request = HealthCheckRequest { service: service.into() };
        let status = health.check(request).await.unwrap().into_inner().status();
        assert_eq!(status, ServingStatus::Serving, "{service:?}");
    }
    signal(server.id(), "TERM");
    let deadline = tokio::time::Instant::now() + Duration::from_secs(2);
    for service in SERVICES {
        loop {
            // Still answering: whoever is connected learns of it.
            let request = HealthCheckRequest { service: service.into() };
            let status = health.check(request).await.unwrap().into_inner().status();
            if status == ServingStatus::NotServing {
                break;
            }
            assert!(tokio::time::Instant::now() < deadline, "{service:?} is still {status:?}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
    drop(health);
    assert_eq!(server.terminate().await, Some(0));
}
