//! What health endpoints are told. The admin port asks [`Readiness`] itself; the gRPC health service
//! has to be told.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::MissedTickBehavior;
use tonic_health::ServingStatus;
use tonic_health::server::HealthReporter;

use crate::service::readiness::Readiness;
use crate::store::{Cached, Standing};

/// What health is told of: the server as a whole, and each service.
const SERVICES: [&str; 5] = [
    "",
    "rolegate.v1.AuthzService",
    "rolegate.v1.MemberService",
    "rolegate.v1.RoleService",
    "rolegate.v1.TenantService",
];
/// How often to look whether the database has been gone for too long.
const LOOK: Duration = Duration::from_millis(250);

/// A replica without its database goes on deciding for a grace, and is ready for as long.
pub(super) async fn watch_database(readiness: Readiness, cache: Arc<Cached>) {
    let mut interval = tokio::time::interval(LOOK);
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        interval.tick().await;
        let lost = cache.following().standing() == Standing::Lost;
        readiness.hindered(lost.then_some("the database has not answered for too long"));
    }
}

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
