//! What a change means for decisions: per permission, how far it reached and how far it will.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::catalog::{Catalog, PermissionIx};
use super::member::Subject;
use super::relation::{Relation, RelationSet};

/// How far a permission reaches for somebody.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Extent {
    /// Closed under implication; empty: not held.
    pub relations: RelationSet,
    /// The scope with exactly this reach. None for an unscoped permission, and for a union over
    /// roles that no single scope names.
    pub scope: Option<String>,
}

impl Extent {
    /// Not held.
    #[must_use]
    pub fn nothing() -> Self {
        Extent { relations: RelationSet::EMPTY, scope: None }
    }

    /// A reach of a permission, with the scope's name if it has one.
    #[must_use]
    pub fn of(catalog: &Catalog, permission: PermissionIx, relations: RelationSet) -> Self {
        let scope = catalog.scope_with_reach(permission, relations);
        Extent { relations, scope: scope.map(|scope| scope.id.clone()) }
    }
}

impl fmt::Display for Extent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.scope {
            Some(scope) => f.write_str(scope),
            None if self.relations.is_empty() => f.write_str("no"),
            None if self.relations.contains(Relation::Any) => f.write_str("yes"),
            None => f.write_str(&spelled_out(self.relations)),
        }
    }
}

fn spelled_out(relations: RelationSet) -> String {
    let relations: Vec<_> = relations.reduced().iter().map(Relation::name).collect();
    relations.join(" or ")
}

/// One permission whose reach a change moves.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PermissionDelta {
    /// Its id; after a rename, the new one.
    pub permission: String,
    /// The id it had, if the change renames it.
    pub renamed_from: Option<String>,
    /// How far it reached.
    pub old: Extent,
    /// How far it will reach.
    pub new: Extent,
}

impl PermissionDelta {
    /// Whether something becomes allowed that was not.
    #[must_use]
    pub fn gained(&self) -> bool {
        !self.old.relations.includes(self.new.relations)
    }

    /// Whether something is no longer allowed. A change of reach can be both.
    #[must_use]
    pub fn lost(&self) -> bool {
        !self.new.relations.includes(self.old.relations)
    }
}

impl fmt::Display for PermissionDelta {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verb = match (self.gained(), self.lost()) {
            (true, false) => "gains  ",
            (false, true) => "loses  ",
            _ => "changes",
        };
        write!(f, "{verb} {}: ", self.permission)?;
        if self.old.scope.is_some() && self.old.scope == self.new.scope {
            // The scope itself came to mean something else.
            write!(f, "{} ({}) -> ", self.old, spelled_out(self.old.relations))?;
            write!(f, "{} ({})", self.new, spelled_out(self.new.relations))?;
        } else {
            write!(f, "{} -> {}", self.old, self.new)?;
        }
        match &self.renamed_from {
            Some(old) => write!(f, " (was {old})"),
            None => Ok(()),
        }
    }
}

/// What changes for a member between two states of it; `after` is `None` when it is deleted. In
/// the catalog's order, permissions that do not change left out.
///
/// It compares what the member is granted. A change of teams moves what `team` means, not what is
/// granted, and is not seen here.
#[must_use]
pub fn member_impact(
    catalog: &Catalog,
    before: &Subject,
    after: Option<&Subject>,
) -> Vec<PermissionDelta> {
    let deltas = catalog.permissions().filter_map(|(ix, permission)| {
        let old = before.granted(catalog, ix);
        let new = after.map_or(RelationSet::EMPTY, |after| after.granted(catalog, ix));
        (old != new).then(|| PermissionDelta {
            permission: permission.id.clone(),
            renamed_from: None,
            old: Extent::of(catalog, ix, old),
            new: Extent::of(catalog, ix, new),
        })
    });
    deltas.collect()
}
