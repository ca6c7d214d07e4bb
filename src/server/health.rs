//! What health endpoints are told. The admin port asks [`Readiness`] itself; the gRPC health service
//! has to be told.

use tonic_health::ServingStatus;
use tonic_health::server::HealthReporter;

use crate::service::readiness::Readiness;

/// What health is told of: the server as a whole, and each service.
const SERVICES: [&str; 5] = [
    "",
    "rolegate.v1.AuthzService",
    "rolegate.v1.MemberService",
    "rolegate.v1.RoleService",
    "rolegate.v1.TenantService",
];

/// Tells the gRPC health service whenever readiness changes.
pub(super) async fn keep_reporting(readiness: Readiness, reporter: HealthReporter) {
    let mut seen = readiness.watch();
    loop {
        readiness.changed(&mut seen).await;
        report(&readiness, &reporter).await;
    }
}

/// Tells it now.
pub(super) async fn report(readiness: &Readiness, reporter: &HealthReporter) {
    let status = match readiness.obstacle() {
        None => ServingStatus::Serving,
        Some(_) => ServingStatus::NotServing,
    };
    for service in SERVICES {
        reporter.set_service_status(service, status).await;
    }
}
