//! What a newer version of a catalog changes: for whoever writes it, and for whoever moves a
//! tenant to it.

mod rules;

use std::fmt;

use super::{Catalog, CatalogRef, DefaultRole, PermissionIx, migrate_grants};
use crate::domain::grant::Grant;
use crate::domain::ids::RoleId;
use crate::domain::impact::{Extent, PermissionDelta};
use crate::domain::relation::RelationSet;
use crate::domain::role::{CompiledRole, RoleKind};

/// An id with the title that people know it by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Named {
    /// The id.
    pub id: String,
    /// In the catalog's default language.
    pub title: String,
}

impl fmt::Display for Named {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.id, self.title)
    }
}

/// What became of a default role.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RoleChange {
    /// It is still there.
    Kept,
    /// It has a new id.
    Renamed {
        /// The id it had.
        from: RoleId,
    },
    /// It is new: nobody holds it yet.
    Added,
    /// It is gone.
    Removed,
}

/// One default role, and what its members gain and lose. Where several became one, there is one of
/// these for each.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DefaultRoleDiff {
    /// The role; after a rename, its new id.
    pub role: Named,
    /// What became of it.
    pub change: RoleChange,
    /// What its members gain and lose beyond what every member does.
    pub deltas: Vec<PermissionDelta>,
}

/// The difference between two catalogs, normally two versions of one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CatalogDiff {
    /// From.
    pub old: CatalogRef,
    /// To.
    pub new: CatalogRef,
    /// Permissions that only the new one has.
    pub added: Vec<Named>,
    /// Permissions that only the old one has.
    pub removed: Vec<Named>,
    /// Permissions with a new id: old, new.
    pub renamed: Vec<(String, String)>,
    /// What every member gains and loses by base permissions.
    pub everyone: Vec<PermissionDelta>,
    /// The default roles that change.
    pub roles: Vec<DefaultRoleDiff>,
    /// Everything else that matters, a line each: what custom roles may hold, requirements, plans,
    /// deletion, administration.
    pub rules: Vec<String>,
}

impl CatalogDiff {
    /// Compares two catalogs.
    #[must_use]
    pub fn of(old: &Catalog, new: &Catalog) -> Self {
        let pairs = pairs(old, new);
        let everyone = compare(old, new, &pairs, |ix| old.base(ix), |ix| new.base(ix));
        let added = pairs.iter().filter_map(|pair| match pair {
            (None, Some(ix)) => Some(named(new, *ix)),
            _ => None,
        });
        let removed = pairs.iter().filter_map(|pair| match pair {
            (Some(ix), None) => Some(named(old, *ix)),
            _ => None,
        });
        let renamed = pairs.iter().filter_map(|(from, to)| {
            let (from, to) = (&old.permission((*from)?).id, &new.permission((*to)?).id);
            (from != to).then(|| (from.clone(), to.clone()))
        });
        CatalogDiff {
            old: old.reference().clone(),
            new: new.reference().clone(),
            added: added.collect(),
            removed: removed.collect(),
            renamed: renamed.collect(),
            roles: roles(old, new, &pairs, &everyone),
            everyone,
            rules: rules::changed(old, new),
        }
    }

    /// Whether anybody who holds nothing but what comes with the product may do something that
    /// they could not before. Custom roles are a tenant's own: see [`role_diff`].
    #[must_use]
    pub fn widens(&self) -> bool {
        let held_before = |role: &&DefaultRoleDiff| role.change != RoleChange::Added;
        let roles = self.roles.iter().filter(held_before).flat_map(|role| &role.deltas);
        self.everyone.iter().chain(roles).any(PermissionDelta::gained)
    }

    /// Whether nothing changes for anybody.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.added.is_empty()
            && self.removed.is_empty()
            && self.renamed.is_empty()
            && self.everyone.is_empty()
            && self.roles.is_empty()
            && self.rules.is_empty()
    }
}

/// What the members of a role gain and lose when their tenant moves to a newer catalog, base
/// permissions included. Renamed permissions are followed, as [`migrate_grants`] does.
#[must_use]
pub fn role_diff(
    old: &Catalog,
    new: &Catalog,
    kind: RoleKind,
    grants: &[Grant],
) -> Vec<PermissionDelta> {
    let before = CompiledRole::compile(old, kind, grants);
    let after = CompiledRole::compile(new, kind, &migrate_grants(new, grants));
    compare_roles(old, new, &pairs(old, new), &before, &after)
}

/// A permission of the old catalog and what it is in the new one; `None` where it is not.
type Pair = (Option<PermissionIx>, Option<PermissionIx>);

/// Where two permissions became one, each of them is paired with it: a member who held only one
/// of them is seen to gain the other.
fn pairs(old: &Catalog, new: &Catalog) -> Vec<Pair> {
    let mut by_new: Vec<Vec<PermissionIx>> = vec![Vec::new(); new.permissions().len()];
    let mut gone = Vec::new();
    for (ix, permission) in old.permissions() {
        let target = new.find_renamed(&permission.id);
        match target.and_then(|target| by_new.get_mut(target.get())) {
            Some(sources) => sources.push(ix),
            None => gone.push((Some(ix), None)),
        }
    }
    let mut pairs: Vec<Pair> = Vec::new();
    for ((ix, _), sources) in new.permissions().zip(by_new) {
        if sources.is_empty() {
            pairs.push((None, Some(ix)));
        }
        pairs.extend(sources.into_iter().map(|source| (Some(source), Some(ix))));
    }
    pairs.extend(gone);
    pairs
}

fn compare(
    old: &Catalog,
    new: &Catalog,
    pairs: &[Pair],
    before: impl Fn(PermissionIx) -> RelationSet,
    after: impl Fn(PermissionIx) -> RelationSet,
) -> Vec<PermissionDelta> {
    let delta = |(from, to): &Pair| {
        let extent = |catalog, ix: Option<_>, reach: &dyn Fn(PermissionIx) -> RelationSet| {
            ix.map_or_else(Extent::nothing, |ix| Extent::of(catalog, ix, reach(ix)))
        };
        let (old_extent, new_extent) = (extent(old, *from, &before), extent(new, *to, &after));
        let old_id = from.map(|ix| old.permission(ix).id.clone());
        let new_id = to.map(|ix| new.permission(ix).id.clone());
        (old_extent.relations != new_extent.relations).then(|| PermissionDelta {
            renamed_from: old_id.clone().filter(|id| new_id.as_ref().is_some_and(|new| new != id)),
            permission: new_id.or(old_id).unwrap_or_default(),
            old: old_extent,
            new: new_extent,
        })
    };
    pairs.iter().filter_map(delta).collect()
}

fn compare_roles(
    old: &Catalog,
    new: &Catalog,
    pairs: &[Pair],
    before: &CompiledRole,
    after: &CompiledRole,
) -> Vec<PermissionDelta> {
    compare(
        old,
        new,
        pairs,
        |ix| old.base(ix).union(before.reach(ix).relations),
        |ix| new.base(ix).union(after.reach(ix).relations),
    )
}

fn roles(
    old: &Catalog,
    new: &Catalog,
    pairs: &[Pair],
    everyone: &[PermissionDelta],
) -> Vec<DefaultRoleDiff> {
    let nothing = CompiledRole::default();
    let own = |mut deltas: Vec<PermissionDelta>| {
        deltas.retain(|delta| !everyone.contains(delta));
        deltas
    };
    let mut roles = Vec::new();
    for role in new.default_roles() {
        let became = |source: &&DefaultRole| {
            new.default_role_renamed(source.id.as_str()).is_some_and(|new| new.id == role.id)
        };
        // Where roles became one, each of them is compared with it: the holders of the lesser one
        // are seen to gain what the other has.
        let mut sources: Vec<_> = old.default_roles().iter().filter(became).map(Some).collect();
        if sources.is_empty() {
            sources.push(None);
        }
        for source in sources {
            let change = match source {
                None => RoleChange::Added,
                Some(source) if source.id == role.id => RoleChange::Kept,
                Some(source) => RoleChange::Renamed { from: source.id.clone() },
            };
            let before = source.map_or(&nothing, |source| &*source.compiled);
            let deltas = own(compare_roles(old, new, pairs, before, &role.compiled));
            if change != RoleChange::Kept || !deltas.is_empty() {
                let title = role.title.get("").to_owned();
                let role = Named { id: role.id.to_string(), title };
                roles.push(DefaultRoleDiff { role, change, deltas });
            }
        }
    }
    for role in old.default_roles() {
        let id = role.id.as_str();
        if new.default_role_renamed(id).is_none() {
            let deltas = own(compare_roles(old, new, pairs, &role.compiled, &nothing));
            let role = Named { id: id.to_owned(), title: role.title.get("").to_owned() };
            roles.push(DefaultRoleDiff { role, change: RoleChange::Removed, deltas });
        }
    }
    roles
}

fn named(catalog: &Catalog, ix: PermissionIx) -> Named {
    let permission = catalog.permission(ix);
    Named { id: permission.id.clone(), title: permission.title.get("").to_owned() }
}

impl fmt::Display for CatalogDiff {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} -> {}", self.old, self.new)?;
        if self.is_empty() {
            return writeln!(f, "\nNothing changes for anybody.");
        }
        if !(self.added.is_empty() && self.removed.is_empty() && self.renamed.is_empty()) {
            writeln!(f, "\nPermissions")?;
            for permission in &self.added {
                writeln!(f, "  added   {permission}")?;
            }
            for permission in &self.removed {
                writeln!(f, "  removed {permission}")?;
            }
            for (from, to) in &self.renamed {
                writeln!(f, "  renamed {from} -> {to}")?;
            }
        }
        if !self.everyone.is_empty() {
            writeln!(f, "\nEvery member")?;
            for delta in &self.everyone {
                writeln!(f, "  {delta}")?;
            }
        }
        for role in &self.roles {
            write!(f, "\nRole {}", role.role)?;
            match &role.change {
                RoleChange::Kept => writeln!(f)?,
                RoleChange::Renamed { from } => writeln!(f, ", was {from}")?,
                RoleChange::Added => writeln!(f, ", new")?,
                RoleChange::Removed => writeln!(f, ", removed")?,
            }
            for delta in &role.deltas {
                writeln!(f, "  {delta}")?;
            }
        }
        if !self.rules.is_empty() {
            writeln!(f, "\nRules")?;
            for rule in &self.rules {
                writeln!(f, "  {rule}")?;
            }
        }
        Ok(())
    }
}
