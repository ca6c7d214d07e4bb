//! An entry of the decision log as a line of JSON. `docs/operations/monitor.md` explains each field;
//! they stay, and more may come.

use serde::Serialize;

use crate::domain::Timestamp;
use crate::domain::catalog::Catalog;
use crate::domain::decision::{DecidedBy, Decision};
use crate::service::decision_log::Entry;

#[derive(Serialize)]
struct Line<'e> {
    time: String,
    caller: &'e str,
    method: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    item: Option<usize>,
    tenant: &'e str,
    member: &'e str,
    permission: &'e str,
    #[serde(skip_serializing_if = "Option::is_none")]
    resource: Option<&'e str>,
    verdict: &'static str,
    reason: &'static str,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    roles: Vec<Role<'e>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    missing: Vec<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    catalog: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    revision: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    stale_since: Option<String>,
}

#[derive(Serialize)]
struct Role<'e> {
    role: &'e str,
    #[serde(skip_serializing_if = "Option::is_none")]
    scope: Option<&'e str>,
}

impl<'e> Role<'e> {
    fn of(DecidedBy { role, scope }: &'e DecidedBy, catalog: Option<&'e Catalog>) -> Self {
        let scope = catalog.zip(*scope).map(|(catalog, scope)| catalog.scope(scope).id.as_str());
        Role { role: role.as_str(), scope }
    }
}

/// The line, with its end.
pub(super) fn of(entry: &Entry) -> Vec<u8> {
    let Entry {
        at,
        caller,
        method,
        item,
        tenant,
        member,
        permission,
        resource,
        decision,
        catalog,
        revision,
        stale_since,
    } = entry;
    let Decision { reason, decided_by, missing } = decision;
    let line = Line {
        time: text(*at),
        caller,
        method,
        item: *item,
        tenant: tenant.as_given(),
        member: member.as_str(),
        permission,
        resource: resource.as_deref(),
        verdict: if reason.allows() { "allowed" } else { "denied" },
        reason: reason.name(),
        roles: decided_by.iter().map(|by| Role::of(by, catalog.as_deref())).collect(),
        missing: missing.iter().map(|attribute| attribute.name()).collect(),
        catalog: catalog.as_ref().map(|catalog| catalog.reference().to_string()),
        revision: *revision,
        stale_since: stale_since.map(text),
    };
    // Texts and numbers always have a JSON.
    let mut bytes = serde_json::to_vec(&line).unwrap_or_default();
    bytes.push(b'\n');
    bytes
}

/// As in RFC 3339, to the microsecond.
fn text(Timestamp(micros): Timestamp) -> String {
    let nanos = micros.rem_euclid(1_000_000) * 1_000;
    let nanos = i32::try_from(nanos).unwrap_or_default();
    prost_types::Timestamp { seconds: micros.div_euclid(1_000_000), nanos }.to_string()
}
