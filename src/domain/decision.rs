//! The decision (DESIGN section 3):
//!
//! ```text
//! allow(member, permission, resource) =
//!     member is active in the tenant
//!     and grants(member)[permission] & relations(member, resource) is not empty
//! ```
//!
//! Lists, query plans, menus and explanations are derived from the same two sets, so a list can
//! never disagree with a check.

use super::catalog::{Catalog, PermissionIx, ScopeIx, SectionIx};
use super::ids::RoleId;
use super::member::{MemberStatus, Subject};
use super::relation::{Relation, RelationSet};
use super::resource::{Attribute, Attributes, Described, Relations, Resource};

/// Why the answer is what it is. Stable: clients branch on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DecisionReason {
    /// Allowed: one of the member's roles grants it.
    GrantedByRole,
    /// Allowed: every active member holds it.
    GrantedToEveryone,
    /// Denied: no such tenant, or it is deleted.
    TenantNotFound,
    /// Denied: no such member in the tenant.
    MemberNotFound,
    /// Denied: the member is archived.
    MemberArchived,
    /// Denied: none of its roles holds the permission.
    PermissionNotGranted,
    /// Denied: held, but the member does not stand to the resource as its scope asks.
    OutOfScope,
    /// Denied: held for some resources only, and none was named.
    ResourceRequired,
    /// Denied: what was said of the resource does not suffice, and more could have allowed it.
    ResourceAttributeRequired,
}

impl DecisionReason {
    /// Every reason, in the order of declaration.
    pub const ALL: [DecisionReason; 9] = [
        DecisionReason::GrantedByRole,
        DecisionReason::GrantedToEveryone,
        DecisionReason::TenantNotFound,
        DecisionReason::MemberNotFound,
        DecisionReason::MemberArchived,
        DecisionReason::PermissionNotGranted,
        DecisionReason::OutOfScope,
        DecisionReason::ResourceRequired,
        DecisionReason::ResourceAttributeRequired,
    ];

    /// Its name for operators, as stable as the reason itself.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            DecisionReason::GrantedByRole => "granted_by_role",
            DecisionReason::GrantedToEveryone => "granted_to_everyone",
            DecisionReason::TenantNotFound => "tenant_not_found",
            DecisionReason::MemberNotFound => "member_not_found",
            DecisionReason::MemberArchived => "member_archived",
            DecisionReason::PermissionNotGranted => "permission_not_granted",
            DecisionReason::OutOfScope => "out_of_scope",
            DecisionReason::ResourceRequired => "resource_required",
            DecisionReason::ResourceAttributeRequired => "resource_attribute_required",
        }
    }

    /// Whether it is a reason to allow.
    #[must_use]
    pub const fn allows(self) -> bool {
        matches!(self, DecisionReason::GrantedByRole | DecisionReason::GrantedToEveryone)
    }
}

/// A role that decided, and the scope it was granted at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DecidedBy {
    /// The role.
    pub role: RoleId,
    /// The scope; none for an unscoped permission.
    pub scope: Option<ScopeIx>,
}

/// The answer to one question, as it is made: a few bits, so that making it allocates nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ruling {
    /// Why; tells the verdict too.
    pub reason: DecisionReason,
    /// The roles that give some of these relations decided, see [`Subject::deciding`].
    deciding: RelationSet,
    /// The attributes that should have been said, for
    /// [`DecisionReason::ResourceAttributeRequired`].
    pub missing: Attributes,
}

impl Ruling {
    /// A denial that no role has to do with.
    #[must_use]
    pub fn denied(reason: DecisionReason) -> Self {
        Ruling { reason, deciding: RelationSet::EMPTY, missing: Attributes::default() }
    }
}

/// The answer to one question, with all that a person may want to know of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    /// Why; tells the verdict too.
    pub reason: DecisionReason,
    /// The roles that allowed it; where it was denied as out of reach, those that hold it.
    pub decided_by: Vec<DecidedBy>,
    /// The attributes that should have been said, for
    /// [`DecisionReason::ResourceAttributeRequired`].
    pub missing: Vec<Attribute>,
}

impl Decision {
    /// A denial that no role has to do with.
    #[must_use]
    pub fn denied(reason: DecisionReason) -> Self {
        Decision { reason, decided_by: Vec::new(), missing: Vec::new() }
    }

    /// The verdict.
    #[must_use]
    pub fn is_allowed(&self) -> bool {
        self.reason.allows()
    }
}

impl Subject {
    /// What the member is granted of a permission: the union over its roles and what everyone has.
    /// Nothing when archived.
    #[must_use]
    pub fn granted(&self, catalog: &Catalog, permission: PermissionIx) -> RelationSet {
        if self.status != MemberStatus::Active {
            return RelationSet::EMPTY;
        }
        self.roles.iter().fold(catalog.base(permission), |granted, (_, role)| {
            granted.union(role.reach(permission).relations)
        })
    }

    /// Decides one question, see [`Subject::rule`], and tells by which roles.
    #[must_use]
    pub fn decide(
        &self,
        catalog: &Catalog,
        permission: PermissionIx,
        resource: Option<&Resource>,
    ) -> Decision {
        self.told(permission, self.rule(catalog, permission, resource))
    }

    /// A ruling on this member and permission, told in full.
    #[must_use]
    pub fn told(&self, permission: PermissionIx, ruling: Ruling) -> Decision {
        let told = |(role, scope): (&RoleId, _)| DecidedBy { role: role.clone(), scope };
        Decision {
            reason: ruling.reason,
            decided_by: self.deciding(permission, ruling).map(told).collect(),
            missing: ruling.missing.iter().collect(),
        }
    }

    /// Decides one question. `resource` is what the caller said.
    #[must_use]
    pub fn rule<R: Described>(
        &self,
        catalog: &Catalog,
        permission: PermissionIx,
        resource: Option<&R>,
    ) -> Ruling {
        if self.status != MemberStatus::Active {
            return Ruling::denied(DecisionReason::MemberArchived);
        }
        // A relation tells all that it implies: where `team` decides, it decides for
        // `team_unassigned` as well. So what each part is granted is reduced, and nothing else looked
        // at.
        let base = catalog.base(permission);
        let (mut by_roles, mut telling) = (RelationSet::EMPTY, base.reduced());
        for (_, role) in &self.roles {
            let reach = role.reach(permission).relations;
            by_roles = by_roles.union(reach);
            telling = telling.union(reach.reduced());
        }
        let granted = base.union(by_roles);
        if granted.is_empty() {
            return Ruling::denied(DecisionReason::PermissionNotGranted);
        }
        let relations = match resource {
            Some(resource) => Relations::among(telling, &self.id, &self.teams, resource),
            None => {
                let any = RelationSet::EMPTY.with(Relation::Any);
                Relations { holding: any, possible: any }
            }
        };
        let missing = Attributes::default();
        if granted.intersects(relations.holding) {
            // What a base permission gives needs no role to give it.
            let reason = if by_roles.intersects(relations.holding) {
                DecisionReason::GrantedByRole
            } else {
                DecisionReason::GrantedToEveryone
            };
            return Ruling { reason, deciding: relations.holding, missing };
        }
        // A denial tells who holds the permission at all.
        let deciding = RelationSet::ANY;
        let Some(resource) = resource else {
            return Ruling { reason: DecisionReason::ResourceRequired, deciding, missing };
        };
        // Reduced once more over all roles: whoever can show that it is in my team need not say who
        // is assigned as well.
        let open = granted.reduced().intersection(relations.possible);
        if open.is_empty() {
            return Ruling { reason: DecisionReason::OutOfScope, deciding, missing };
        }
        let missing = Attribute::ALL
            .into_iter()
            .filter(|attribute| !resource.says(*attribute) && attribute.tells().intersects(open))
            .collect();
        Ruling { reason: DecisionReason::ResourceAttributeRequired, deciding, missing }
    }

    /// The roles that allowed it; where it was denied as out of reach, those that hold it; each with
    /// the scope at which it does. `ruling` is this member's, on this permission.
    pub fn deciding(
        &self,
        permission: PermissionIx,
        ruling: Ruling,
    ) -> impl Iterator<Item = (&RoleId, Option<ScopeIx>)> + Clone {
        self.roles.iter().filter_map(move |(role, compiled)| {
            let reach = compiled.reach(permission);
            reach.relations.intersects(ruling.deciding).then_some((role, reach.scope))
        })
    }

    /// Every permission that the member is granted anything of, in the catalog's order.
    pub fn effective<'a>(
        &'a self,
        catalog: &'a Catalog,
    ) -> impl Iterator<Item = (PermissionIx, RelationSet)> + 'a {
        catalog
            .permissions()
            .map(|(permission, _)| (permission, self.granted(catalog, permission)))
            .filter(|(_, granted)| !granted.is_empty())
    }

    /// The sections that its menus show: those with a permission it holds, in them or below them.
    #[must_use]
    pub fn visible_sections(&self, catalog: &Catalog) -> Vec<SectionIx> {
        let mut visible = std::collections::BTreeSet::new();
        for (permission, _) in self.effective(catalog) {
            let mut section = Some(catalog.permission(permission).section);
            while let Some(ix) = section {
                visible.insert(ix);
                section = catalog.section(ix).parent;
            }
        }
        visible.into_iter().collect()
    }
}
