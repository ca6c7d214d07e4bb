//! Catalogs, roles, members and resources as plain values. Everything is named by text, and
//! nothing is checked: the generators make what is wanted, sound or not.

use std::collections::{BTreeMap, BTreeSet};

/// Names of relations, such as `assignee`.
pub(crate) type Relations = BTreeSet<&'static str>;

/// What a product's permissions are.
#[derive(Debug, Clone)]
pub(crate) struct Catalog {
    pub(crate) sections: Vec<Section>,
    /// The relations of each scope, as declared.
    pub(crate) scopes: BTreeMap<String, Relations>,
    pub(crate) permissions: Vec<Permission>,
    /// `owner` is among them.
    pub(crate) default_roles: Vec<Role>,
}

#[derive(Debug, Clone)]
pub(crate) struct Section {
    pub(crate) id: String,
    /// Declared before this one.
    pub(crate) parent: Option<String>,
}

#[derive(Debug, Clone)]
pub(crate) struct Permission {
    pub(crate) id: String,
    pub(crate) section: String,
    /// None: it is unscoped.
    pub(crate) scopes: Vec<String>,
    pub(crate) follows: Option<String>,
    /// Each entry is a list of which one is enough. What it follows is not spelled out.
    pub(crate) requires: Vec<Vec<String>>,
    pub(crate) who: Who,
}

/// Who may hold a permission.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Who {
    /// Every active member holds it, at its one scope or at `any`.
    Base,
    /// Default and custom roles.
    Roles,
    /// Default roles only.
    DefaultRoles,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Role {
    pub(crate) id: String,
    /// Made by a tenant, not by the catalog.
    pub(crate) custom: bool,
    pub(crate) grants: Vec<Grant>,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Grant {
    pub(crate) permission: String,
    pub(crate) scope: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Member {
    pub(crate) id: String,
    pub(crate) active: bool,
    /// Ids of roles; one that does not exist gives nothing.
    pub(crate) roles: Vec<String>,
    pub(crate) teams: Vec<String>,
}

/// What a question says about a ticket, conversation or article. `None` is "not said", which is
/// not the same as nobody, no team and not public.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Resource {
    pub(crate) assignees: Option<Vec<String>>,
    pub(crate) teams: Option<Vec<String>>,
    /// `Some(None)`: said that no member made it.
    pub(crate) creator: Option<Option<String>>,
    pub(crate) participants: Option<Vec<String>>,
    pub(crate) public: Option<bool>,
}

/// One tenant: its catalog, its custom roles, its members.
#[derive(Debug, Clone)]
pub(crate) struct World {
    pub(crate) catalog: Catalog,
    pub(crate) custom_roles: Vec<Role>,
    pub(crate) members: Vec<Member>,
}

impl Catalog {
    pub(crate) fn permission(&self, id: &str) -> Option<&Permission> {
        self.permissions.iter().find(|permission| permission.id == id)
    }
}

impl World {
    pub(crate) fn member(&self, id: &str) -> Option<&Member> {
        self.members.iter().find(|member| member.id == id)
    }

    /// The roles of a member that exist.
    pub(crate) fn roles_of(&self, member: &Member) -> Vec<&Role> {
        let all = || self.catalog.default_roles.iter().chain(&self.custom_roles);
        member.roles.iter().filter_map(|id| all().find(|role| role.id == *id)).collect()
    }
}
