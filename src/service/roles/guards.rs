//! What stands before every write of a role, and how what people typed is read.

use crate::domain::catalog::{Catalog, MAX_PERMISSIONS};
use crate::domain::grant::{Grant, check_grants};
use crate::domain::ids::{RoleId, TenantId};
use crate::domain::name::{Appearance, RoleName, TextError, parse_description};
use crate::domain::refusal::{Problem, Refusal, Unit, Violation};
use crate::domain::role::CustomRole;
use crate::service::ServiceError;
use crate::service::write::Operation;
use crate::store::ReadTx;

/// The most grants that a request may list; a catalog has no more permissions.
pub const MAX_GRANTS: usize = MAX_PERMISSIONS;

/// The custom role, if it is one.
pub(in crate::service) async fn editable(
    tx: &ReadTx,
    catalog: &Catalog,
    tenant: &TenantId,
    role: &RoleId,
) -> Result<CustomRole, ServiceError> {
    if catalog.default_role(role.as_str()).is_some() {
        return Err(Refusal::DefaultRoleImmutable(role.clone()).into());
    }
    let role_not_found = || Refusal::RoleNotFound(role.clone()).into();
    tx.role(tenant, role).await?.ok_or_else(role_not_found)
}

/// No other role, default ones included, has an equal name, and no default one a name that only
/// looks different to a machine.
pub(super) async fn name_is_free(
    operation: &Operation,
    catalog: &Catalog,
    tenant: &TenantId,
    name: &RoleName,
    except: Option<&RoleId>,
) -> Result<(), ServiceError> {
    let key = name.key();
    let taken = catalog
        .default_role_named(&key)
        .or_else(|| catalog.default_role_looking_like(&Appearance::of(name.as_str())));
    let holder = match taken {
        Some(role) => Some(role.id.clone()),
        None => operation.tx.role_named(tenant, &key).await?.map(|role| role.id),
    };
    match holder {
        Some(role) if Some(&role) != except => {
            Err(Refusal::RoleNameTaken { name: name.to_string(), role }.into())
        }
        _ => Ok(()),
    }
}

/// The roles among these that neither the catalog nor the tenant has.
pub(in crate::service) async fn unknown_roles(
    tx: &ReadTx,
    catalog: &Catalog,
    tenant: &TenantId,
    roles: &[RoleId],
) -> Result<Vec<RoleId>, ServiceError> {
    let custom: Vec<RoleId> = roles
        .iter()
        .filter(|role| catalog.default_role(role.as_str()).is_none())
        .cloned()
        .collect();
    if custom.is_empty() {
        return Ok(custom);
    }
    let known = tx.roles_by_ids(tenant, &custom).await?;
    let is_known = |role: &RoleId| known.iter().any(|known| known.id == *role);
    Ok(custom.into_iter().filter(|role| !is_known(role)).collect())
}

/// An etag is the revision that last changed the thing; what is not there yet (0) has none.
#[must_use]
pub fn etag(revision: u64) -> String {
    if revision == 0 { String::new() } else { revision.to_string() }
}

pub(in crate::service) fn check_etag(given: Option<&str>, revision: u64) -> Result<(), Refusal> {
    match given {
        Some(given) if given != etag(revision) => {
            Err(Refusal::EtagMismatch { current: etag(revision) })
        }
        _ => Ok(()),
    }
}

pub(super) fn parse_name(field: &str, text: &str) -> Result<RoleName, Vec<Violation>> {
    RoleName::parse(text).map_err(|error| vec![Violation::new(field, text_problem(error))])
}

pub(super) fn parse_text(field: &str, text: &str) -> Result<String, Vec<Violation>> {
    parse_description(text).map_err(|error| vec![Violation::new(field, text_problem(error))])
}

fn text_problem(error: TextError) -> Problem {
    match error {
        TextError::Empty => Problem::Required,
        TextError::TooLong { length, limit } => {
            Problem::TooLong { length, limit, unit: Unit::Characters }
        }
        TextError::Invisible(_) => Problem::Invalid(error.to_string()),
    }
}

pub(in crate::service) fn parse_grants(
    catalog: &Catalog,
    grants: &[Grant],
    expand: bool,
) -> Result<Vec<Grant>, Vec<Violation>> {
    if grants.len() > MAX_GRANTS {
        let problem = Problem::TooManyItems { count: grants.len(), limit: MAX_GRANTS };
        return Err(vec![Violation::new("grants", problem)]);
    }
    check_grants(catalog, grants, expand)
        .map_err(|problems| Violation::of_grants("grants", problems))
}

/// The value, or its violations put with the others.
pub(in crate::service) fn collect<T>(
    violations: &mut Vec<Violation>,
    result: Result<T, Vec<Violation>>,
) -> Option<T> {
    match result {
        Ok(value) => Some(value),
        Err(more) => {
            violations.extend(more);
            None
        }
    }
}
