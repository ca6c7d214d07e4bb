//! All that a decision about one member takes, in one statement: one way to the database and back
//! for a check that finds nothing cached.

use std::sync::Arc;

use sea_orm::{ConnectionTrait, DbBackend, QueryResult, Statement};

use super::rows::{ACTIVE, corrupt, count, from_json, status};
use super::{SqlStore, StoreError};
use crate::domain::Timestamp;
use crate::domain::catalog::{Catalog, CatalogRef};
use crate::domain::grant::Grant;
use crate::domain::ids::{MemberId, RoleId, TeamId, TenantId};
use crate::domain::member::Member;
use crate::domain::role::{CompiledRole, RoleKind};

/// A tenant in use with one of its members, as they were at one revision.
#[derive(Debug)]
pub(super) struct Cold {
    /// The id of the epoch that it is of.
    pub(super) epoch: u64,
    pub(super) revision: u64,
    pub(super) catalog: Arc<Catalog>,
    /// If there is such a one.
    pub(super) member: Option<Member>,
    /// Those of its roles that are custom ones.
    pub(super) roles: Vec<(RoleId, Arc<CompiledRole>)>,
}

/// One row for the tenant, with what belongs to the member as JSON: texts, and pairs of a role and its
/// grants, which are JSON in a text themselves.
const SQLITE: &str = "\
SELECT t.revision, t.state, t.catalog_id, t.catalog_version, \
 m.status AS m_status, m.revision AS m_revision, m.created_at, m.updated_at, \
 (SELECT json_group_array(json_array(h.role_id, h.grants)) FROM \
  (SELECT r.role_id, c.grants FROM member_roles r \
   LEFT JOIN roles c ON c.tenant_id = r.tenant_id AND c.id = r.role_id \
   WHERE r.tenant_id = m.tenant_id AND r.member_id = m.id ORDER BY r.position) h) AS roles, \
 (SELECT json_group_array(g.team_id) FROM \
  (SELECT team_id FROM member_teams g \
   WHERE g.tenant_id = m.tenant_id AND g.member_id = m.id ORDER BY g.team_id) g) AS teams \
FROM tenants t LEFT JOIN members m ON m.tenant_id = t.id AND m.id = ?2 WHERE t.id = ?1";
const POSTGRES: &str = "\
SELECT t.revision, t.state, t.catalog_id, t.catalog_version, \
 m.status AS m_status, m.revision AS m_revision, m.created_at, m.updated_at, \
 (SELECT coalesce(json_agg(json_build_array(r.role_id, c.grants) ORDER BY r.position), '[]')::text \
   FROM member_roles r LEFT JOIN roles c ON c.tenant_id = r.tenant_id AND c.id = r.role_id \
   WHERE r.tenant_id = m.tenant_id AND r.member_id = m.id) AS roles, \
 (SELECT coalesce(json_agg(g.team_id ORDER BY g.team_id), '[]')::text \
   FROM member_teams g WHERE g.tenant_id = m.tenant_id AND g.member_id = m.id) AS teams \
FROM tenants t LEFT JOIN members m ON m.tenant_id = t.id AND m.id = $2 WHERE t.id = $1";

impl SqlStore {
    /// The member, and what its tenant says of it. `None`: the tenant is not in use.
    pub(super) async fn load_one(
        &self,
        tenant: &TenantId,
        member: &MemberId,
    ) -> Result<Option<Cold>, StoreError> {
        let epoch = self.epoch().id();
        let readers = &self.inner.readers;
        let backend = readers.get_database_backend();
        let sql = if backend == DbBackend::Postgres { POSTGRES } else { SQLITE };
        let values = [tenant.as_str().into(), member.as_str().into()];
        let statement = Statement::from_sql_and_values(backend, sql, values);
        let Some(row) = readers.query_one_raw(statement).await? else { return Ok(None) };
        if row.try_get::<String>("", "state")? != ACTIVE {
            return Ok(None);
        }
        let version = u32::try_from(row.try_get::<i64>("", "catalog_version")?)
            .map_err(|_| corrupt("tenants.catalog_version", tenant.as_str()))?;
        let reference = CatalogRef { id: row.try_get("", "catalog_id")?, version };
        let catalog = self.catalog(&reference).await?;
        let revision = count(row.try_get("", "revision")?, "tenants.revision", tenant.as_str())?;
        let (member, roles) = match row.try_get::<Option<String>>("", "m_status")? {
            Some(status) => {
                let (member, roles) = held(&row, tenant, member, &status, &catalog)?;
                (Some(member), roles)
            }
            None => (None, Vec::new()),
        };
        Ok(Some(Cold { epoch, revision, catalog, member, roles }))
    }
}

type Held = (Member, Vec<(RoleId, Arc<CompiledRole>)>);

fn held(
    row: &QueryResult,
    tenant: &TenantId,
    member: &MemberId,
    status_name: &str,
    catalog: &Catalog,
) -> Result<Held, StoreError> {
    let key = format!("{tenant}/{member}");
    let roles: Vec<(String, Option<String>)> =
        from_json(&row.try_get::<String>("", "roles")?, "member_roles", &key)?;
    let teams: Vec<String> = from_json(&row.try_get::<String>("", "teams")?, "member_teams", &key)?;
    let mut compiled = Vec::new();
    for (role, grants) in &roles {
        let (Some(grants), None) = (grants, catalog.default_role(role)) else { continue };
        let grants: Vec<Grant> = from_json(grants, "roles.grants", &format!("{tenant}/{role}"))?;
        let ready = CompiledRole::compile(catalog, RoleKind::Custom, &grants);
        compiled.push((RoleId::trusted(role), Arc::new(ready)));
    }
    let member = Member {
        id: member.clone(),
        status: status(status_name, &key)?,
        roles: roles.iter().map(|(role, _)| RoleId::trusted(role)).collect(),
        teams: teams.iter().map(|team| TeamId::trusted(team)).collect(),
        revision: count(row.try_get("", "m_revision")?, "members.revision", &key)?,
        created_at: Timestamp(row.try_get("", "created_at")?),
        updated_at: Timestamp(row.try_get("", "updated_at")?),
    };
    Ok((member, compiled))
}
