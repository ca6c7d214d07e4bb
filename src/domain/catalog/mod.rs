//! What a product's permissions *are* (DESIGN section 2): the tree of sections and permissions,
//! scopes, requirements, default roles, plans, deletion policy and who may administer.
//!
//! A [`Catalog`] is immutable and was checked as a whole when it was read, so everything else in
//! the domain may rely on its indices pointing somewhere, its requirements having no cycle and
//! its default roles being closed.

pub mod diff;
mod hash;
mod parse;
mod prose;
mod raw;
mod renames;
mod shipped;
mod text;
mod validate;

use std::collections::HashMap;
use std::fmt;

use serde::{Deserialize, Serialize};

pub use renames::migrate_grants;
pub use shipped::shipped;
pub use text::Text;

use super::grant::Grant;
use super::ids::RoleId;
use super::name::{Appearance, NameKey};
use super::relation::{Relation, RelationSet};
use super::role::CompiledRole;

/// Where a permission stands in its catalog. Only meaningful together with that catalog.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PermissionIx(u16);

/// Where a scope stands in its catalog.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ScopeIx(u8);

/// Where a section stands in its catalog.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SectionIx(u16);

/// The most permissions a catalog may have.
pub const MAX_PERMISSIONS: usize = 4096;
/// The most scopes a catalog may have.
pub const MAX_SCOPES: usize = 64;
/// The most sections a catalog may have.
pub const MAX_SECTIONS: usize = 1024;
/// The most default roles a catalog may have.
pub const MAX_DEFAULT_ROLES: usize = 200;
/// The most plans a catalog may have.
pub const MAX_PLANS: usize = 100;
/// The highest limit of custom roles that a plan may set.
pub const MAX_CUSTOM_ROLES: u32 = 10_000;
/// The most roles that a catalog may let a member hold.
pub const MAX_ROLES_PER_MEMBER: u32 = 20;

macro_rules! index {
    ($name:ident, $repr:ty) => {
        impl $name {
            /// The position as a number.
            #[must_use]
            pub fn get(self) -> usize {
                usize::from(self.0)
            }

            pub(crate) fn new(position: usize) -> Option<Self> {
                <$repr>::try_from(position).ok().map(Self)
            }
        }
    };
}
index!(PermissionIx, u16);
index!(ScopeIx, u8);
index!(SectionIx, u16);

/// A catalog at a version: what a tenant belongs to.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct CatalogRef {
    /// The catalog's id, such as `oqupie`.
    pub id: String,
    /// Its version, from 1.
    pub version: u32,
}

impl fmt::Display for CatalogRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.id, self.version)
    }
}

/// One node of the permission tree; sections nest.
#[derive(Debug, Clone)]
pub struct Section {
    /// Id, such as `management`.
    pub id: String,
    /// The section it lies in, if any. Always declared before this one.
    pub parent: Option<SectionIx>,
    /// What the role editor shows.
    pub title: Text,
    /// One line below the title.
    pub description: Text,
}

/// A named set of relations.
#[derive(Debug, Clone)]
pub struct Scope {
    /// Id, such as `group`.
    pub id: String,
    /// What the role editor shows.
    pub title: Text,
    /// As the catalog declares them.
    pub declared: RelationSet,
    /// With what they imply: what a grant at this scope is compiled to.
    pub closed: RelationSet,
}

/// Who may hold a permission.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Grantable {
    /// Every active member holds it, at this scope or at `any`; roles do not list it.
    Base(Option<ScopeIx>),
    /// Default and custom roles.
    Yes,
    /// Default roles only.
    Never,
}

/// What must be held for a permission to be held.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Requirement {
    /// This one.
    Permission(PermissionIx),
    /// At least one of these.
    AnyOf(Vec<PermissionIx>),
}

impl Requirement {
    /// The permissions of which one is enough: a single one, or the choices.
    #[must_use]
    pub fn choices(&self) -> &[PermissionIx] {
        match self {
            Requirement::Permission(ix) => std::slice::from_ref(ix),
            Requirement::AnyOf(choices) => choices,
        }
    }
}

/// One thing that a member may be allowed to do.
#[derive(Debug, Clone)]
pub struct Permission {
    /// Dotted id, such as `ticket.delete`.
    pub id: String,
    /// Where it stands in the tree.
    pub section: SectionIx,
    /// What the role editor shows.
    pub title: Text,
    /// One line below the title.
    pub description: Text,
    /// The scopes that it can be granted at; none: it is unscoped.
    pub scopes: Vec<ScopeIx>,
    /// The permission whose reach it has. A follower has no scopes of its own, and requires what
    /// it follows.
    pub follows: Option<PermissionIx>,
    /// What it needs. Includes what it follows.
    pub requires: Vec<Requirement>,
    /// Who may hold it.
    pub grantable: Grantable,
    /// Ids that it had in older versions.
    pub renamed_from: Vec<String>,
}

/// A role that comes with the product and cannot be edited or deleted.
#[derive(Debug, Clone)]
pub struct DefaultRole {
    /// Id, such as `pro_agent`.
    pub id: RoleId,
    /// What people see.
    pub title: Text,
    /// One line below the title.
    pub description: Text,
    /// What it holds, spelled out (`everything` is expanded), base permissions left out.
    pub grants: Vec<Grant>,
    /// The same, ready for decisions.
    pub compiled: std::sync::Arc<CompiledRole>,
    /// Ids that it had in older versions.
    pub renamed_from: Vec<String>,
}

/// What a customer pays for, as far as it limits roles.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Id, such as `enterprise`.
    pub id: String,
    /// What people see.
    pub title: Text,
    /// The most custom roles a tenant may have; `None`: no limit.
    pub custom_roles: Option<u32>,
}

/// What happens to a custom role's members when it is deleted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DeletionPolicy {
    /// The caller names the role that its members, archived ones too, get; one transaction.
    Reassign,
    /// Refused while any active member holds it; archived members lose it.
    RefuseWhileAssigned {
        /// What the caller must send back exactly; `{name}` stands for the role's name.
        confirmation: Option<String>,
    },
}

/// The permissions that an actor needs for administration calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Administration {
    /// Creating, editing, cloning and deleting roles.
    pub roles: PermissionIx,
    /// Creating, editing, assigning and restoring members, and setting their teams.
    pub members: PermissionIx,
    /// Archiving and deleting members.
    pub member_removal: PermissionIx,
}

/// A validated catalog at one version.
#[derive(Debug, Clone)]
pub struct Catalog {
    pub(crate) reference: CatalogRef,
    pub(crate) hash: String,
    pub(crate) source: String,
    pub(crate) title: Text,
    pub(crate) sections: Vec<Section>,
    pub(crate) scopes: Vec<Scope>,
    pub(crate) permissions: Vec<Permission>,
    /// By the bytes of its id.
    pub(crate) by_id: HashMap<Box<[u8]>, PermissionIx, foldhash::fast::RandomState>,
    pub(crate) base: Box<[RelationSet]>,
    pub(crate) plans: Vec<Plan>,
    pub(crate) default_roles: Vec<DefaultRole>,
    pub(crate) owner: RoleId,
    pub(crate) roles_per_member: usize,
    pub(crate) deletion: DeletionPolicy,
    pub(crate) administration: Administration,
}

impl Catalog {
    /// Id and version.
    #[must_use]
    pub fn reference(&self) -> &CatalogRef {
        &self.reference
    }

    /// SHA-256, in hex, of the content: of what the file says, not of its spacing and comments.
    #[must_use]
    pub fn hash(&self) -> &str {
        &self.hash
    }

    /// The TOML text it was read from, kept in the database so that tenants on an older version go
    /// on being decided by it.
    #[must_use]
    pub fn source(&self) -> &str {
        &self.source
    }

    /// The product's name.
    #[must_use]
    pub fn title(&self) -> &Text {
        &self.title
    }

    /// The sections, parents before children.
    #[must_use]
    pub fn sections(&self) -> &[Section] {
        &self.sections
    }

    /// The sections' indices, in the same order.
    pub fn section_indices(&self) -> impl Iterator<Item = SectionIx> {
        (0..self.sections.len()).filter_map(SectionIx::new)
    }

    /// The scopes, by id.
    #[must_use]
    pub fn scopes(&self) -> &[Scope] {
        &self.scopes
    }

    /// The permissions with their indices, in the catalog's order.
    pub fn permissions(&self) -> impl ExactSizeIterator<Item = (PermissionIx, &Permission)> {
        self.permissions
            .iter()
            .enumerate()
            .map(|(position, permission)| (PermissionIx(position as u16), permission))
    }

    /// The plans a tenant can be on; empty where the product has none.
    #[must_use]
    pub fn plans(&self) -> &[Plan] {
        &self.plans
    }

    /// The plan with this id.
    #[must_use]
    pub fn plan(&self, id: &str) -> Option<&Plan> {
        self.plans.iter().find(|plan| plan.id == id)
    }

    /// The default roles in the catalog's order.
    #[must_use]
    pub fn default_roles(&self) -> &[DefaultRole] {
        &self.default_roles
    }

    /// The default role with this id.
    #[must_use]
    pub fn default_role(&self, id: &str) -> Option<&DefaultRole> {
        self.default_roles.iter().find(|role| role.id.as_str() == id)
    }

    /// The default role that has this name, in any language.
    #[must_use]
    pub fn default_role_named(&self, name: &NameKey) -> Option<&DefaultRole> {
        self.default_roles
            .iter()
            .find(|role| role.title.all().any(|title| NameKey::of(title) == *name))
    }

    /// The default role whose name, in any language, people could take this one for.
    #[must_use]
    pub fn default_role_looking_like(&self, name: &Appearance) -> Option<&DefaultRole> {
        self.default_roles
            .iter()
            .find(|role| role.title.all().any(|title| Appearance::of(title).looks_like(name)))
    }

    /// The default role that is the owner.
    #[must_use]
    pub fn owner(&self) -> &RoleId {
        &self.owner
    }

    /// How many roles a member may hold.
    #[must_use]
    pub fn roles_per_member(&self) -> usize {
        self.roles_per_member
    }

    /// What deleting a custom role takes.
    #[must_use]
    pub fn deletion(&self) -> &DeletionPolicy {
        &self.deletion
    }

    /// What an actor must hold to administer.
    #[must_use]
    pub fn administration(&self) -> Administration {
        self.administration
    }

    /// The permission's index, by id.
    #[must_use]
    pub fn find(&self, permission: &str) -> Option<PermissionIx> {
        self.find_bytes(permission.as_bytes())
    }

    /// The same by the bytes of the id, whatever they are.
    #[must_use]
    pub fn find_bytes(&self, permission: &[u8]) -> Option<PermissionIx> {
        self.by_id.get(permission).copied()
    }

    /// The permission at an index of this catalog.
    #[must_use]
    #[expect(clippy::indexing_slicing, reason = "indices are made by this catalog only")]
    pub fn permission(&self, ix: PermissionIx) -> &Permission {
        &self.permissions[ix.get()]
    }

    /// The scope at an index of this catalog.
    #[must_use]
    #[expect(clippy::indexing_slicing, reason = "indices are made by this catalog only")]
    pub fn scope(&self, ix: ScopeIx) -> &Scope {
        &self.scopes[ix.get()]
    }

    /// The section at an index of this catalog.
    #[must_use]
    #[expect(clippy::indexing_slicing, reason = "indices are made by this catalog only")]
    pub fn section(&self, ix: SectionIx) -> &Section {
        &self.sections[ix.get()]
    }

    /// The scope of that name among those that the permission can be granted at.
    #[must_use]
    pub fn scope_of(&self, permission: PermissionIx, name: &str) -> Option<ScopeIx> {
        let scopes = &self.permission(permission).scopes;
        scopes.iter().copied().find(|ix| self.scope(*ix).id == name)
    }

    /// What every active member is granted of this permission; nothing unless it is a base one.
    #[must_use]
    pub fn base(&self, permission: PermissionIx) -> RelationSet {
        self.base.get(permission.get()).copied().unwrap_or_default()
    }

    /// The permission whose scope decides the reach of this one: itself, or the end of the chain
    /// that it follows.
    #[must_use]
    pub fn leader(&self, permission: PermissionIx) -> PermissionIx {
        let mut ix = permission;
        while let Some(followed) = self.permission(ix).follows {
            ix = followed;
        }
        ix
    }

    /// The scope of this permission, or of the one it follows, with exactly this reach.
    #[must_use]
    pub fn scope_with_reach(&self, permission: PermissionIx, reach: RelationSet) -> Option<&Scope> {
        let scopes = &self.permission(self.leader(permission)).scopes;
        scopes.iter().map(|ix| self.scope(*ix)).find(|scope| scope.closed == reach)
    }

    /// Whether a member with this reach can do it without any resource being named.
    #[must_use]
    pub fn reaches_everything(reach: RelationSet) -> bool {
        reach.contains(Relation::Any)
    }
}
