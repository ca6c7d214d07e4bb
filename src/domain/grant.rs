//! Grants: which permissions a role holds and at which scope, and the rules for writing them.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use super::catalog::{Catalog, Grantable, PermissionIx, Requirement, ScopeIx};
use super::relation::RelationSet;

/// A permission at a scope, by name, as it is written and stored.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Grant {
    /// The permission's id.
    pub permission: String,
    /// The scope's id; none for an unscoped permission or one that follows another.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scope: Option<String>,
}

impl fmt::Display for Grant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.scope {
            Some(scope) => write!(f, "{} at {scope}", self.permission),
            None => f.write_str(&self.permission),
        }
    }
}

/// One way to satisfy a requirement.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Choice {
    /// The permission that would do.
    pub permission: String,
    /// The scopes of it (or of the permission it follows) that reach far enough; empty: unscoped.
    pub scopes: Vec<String>,
}

impl fmt::Display for Choice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.scopes.is_empty() {
            f.write_str(&self.permission)
        } else {
            write!(f, "{} at {}", self.permission, self.scopes.join(" or "))
        }
    }
}

/// Something wrong with a list of grants that somebody wants to write. `index` is the place in
/// that list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum GrantProblem {
    /// The catalog has no such permission.
    UnknownPermission {
        /// Place in the list.
        index: usize,
        /// As it was given.
        permission: String,
    },
    /// The permission cannot be granted at that scope.
    UnknownScope {
        /// Place in the list.
        index: usize,
        /// The permission.
        permission: String,
        /// As it was given.
        scope: String,
        /// The scopes that it has.
        allowed: Vec<String>,
    },
    /// A scoped permission without a scope.
    ScopeRequired {
        /// Place in the list.
        index: usize,
        /// The permission.
        permission: String,
        /// The scopes that it has.
        allowed: Vec<String>,
    },
    /// A scope on a permission that takes none.
    ScopeNotAllowed {
        /// Place in the list.
        index: usize,
        /// The permission.
        permission: String,
        /// The one whose reach it has, if it follows one.
        follows: Option<String>,
    },
    /// The permission stands in the list already.
    Duplicate {
        /// Place in the list.
        index: usize,
        /// The permission.
        permission: String,
    },
    /// No custom role may hold it.
    NeverGrantable {
        /// Place in the list.
        index: usize,
        /// The permission.
        permission: String,
    },
    /// Every member holds it anyway.
    HeldByEveryone {
        /// Place in the list.
        index: usize,
        /// The permission.
        permission: String,
    },
    /// A requirement is not met (or not widely enough).
    RequirementMissing {
        /// Place in the list; `None` when the dependent one is itself only required by others.
        index: Option<usize>,
        /// The permission that needs something.
        permission: String,
        /// What would do; more than one: any of them.
        choices: Vec<Choice>,
        /// Whether `expand` would add it by itself.
        expandable: bool,
    },
}

/// Grants by index, before or after their requirements were looked at.
#[derive(Debug, Clone, Default)]
pub(super) struct Held(BTreeMap<PermissionIx, Option<ScopeIx>>);

impl Held {
    pub(super) fn insert(&mut self, permission: PermissionIx, scope: Option<ScopeIx>) -> bool {
        self.0.insert(permission, scope).is_none()
    }

    /// The scope that a held permission was granted at.
    pub(super) fn scope(&self, permission: PermissionIx) -> Option<ScopeIx> {
        self.0.get(&permission).copied().flatten()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (PermissionIx, Option<ScopeIx>)> {
        self.0.iter().map(|(permission, scope)| (*permission, *scope))
    }

    /// What is granted of a permission, base permissions included, followers resolved.
    pub(super) fn reach(&self, catalog: &Catalog, permission: PermissionIx) -> RelationSet {
        let granted = match (self.0.get(&permission), catalog.permission(permission).follows) {
            (None, _) => RelationSet::EMPTY,
            (Some(_), Some(followed)) => self.reach(catalog, followed),
            (Some(Some(scope)), None) => catalog.scope(*scope).closed,
            (Some(None), None) => RelationSet::ANY,
        };
        granted.union(catalog.base(permission))
    }

    /// The requirements of a held permission that are not met.
    pub(super) fn unmet<'c>(
        &self,
        catalog: &'c Catalog,
        permission: PermissionIx,
    ) -> impl Iterator<Item = &'c Requirement> {
        let needed = self.reach(catalog, permission);
        catalog.permission(permission).requires.iter().filter(move |requirement| {
            !requirement.choices().iter().any(|choice| self.suffices(catalog, *choice, needed))
        })
    }

    /// Whether a permission is held, and as far as something else needs it.
    fn suffices(&self, catalog: &Catalog, permission: PermissionIx, needed: RelationSet) -> bool {
        let held = self.reach(catalog, permission);
        !held.is_empty() && held.includes(needed)
    }

    /// Drops what lacks its requirements until nothing more does: fail closed, transitively.
    pub(super) fn drop_unmet(
        &mut self,
        catalog: &Catalog,
    ) -> Vec<(PermissionIx, Option<ScopeIx>, Vec<String>)> {
        let mut dropped = Vec::new();
        loop {
            let failing: Vec<_> = self
                .iter()
                .filter_map(|(permission, scope)| {
                    let missing: Vec<String> = self
                        .unmet(catalog, permission)
                        .map(|requirement| {
                            let ids = requirement.choices().iter();
                            let ids: Vec<_> =
                                ids.map(|ix| catalog.permission(*ix).id.as_str()).collect();
                            ids.join(" or ")
                        })
                        .collect();
                    (!missing.is_empty()).then_some((permission, scope, missing))
                })
                .collect();
            if failing.is_empty() {
                return dropped;
            }
            for (permission, scope, missing) in failing {
                self.0.remove(&permission);
                dropped.push((permission, scope, missing));
            }
        }
    }

    fn to_grants(&self, catalog: &Catalog) -> Vec<Grant> {
        self.iter()
            .map(|(permission, scope)| Grant {
                permission: catalog.permission(permission).id.clone(),
                scope: scope.map(|ix| catalog.scope(ix).id.clone()),
            })
            .collect()
    }

    /// Adds a required permission, or widens it, where a declared scope is exactly what is required:
    /// anything wider would give what nobody asked for.
    fn complete(&mut self, catalog: &Catalog, required: PermissionIx, needed: RelationSet) -> bool {
        let leader = catalog.leader(required);
        let chain = {
            let mut chain = vec![required];
            let mut ix = required;
            while let Some(followed) = catalog.permission(ix).follows {
                chain.push(followed);
                ix = followed;
            }
            chain
        };
        if chain.iter().any(|ix| catalog.permission(*ix).grantable != Grantable::Yes) {
            return false;
        }
        let scopes = &catalog.permission(leader).scopes;
        let scope = if scopes.is_empty() {
            None
        } else {
            let needed = needed.union(match self.0.get(&leader) {
                Some(Some(scope)) => catalog.scope(*scope).closed,
                _ => RelationSet::EMPTY,
            });
            let closed = |ix: &ScopeIx| catalog.scope(*ix).closed;
            // What every member has of it anyway is neither missing nor too much.
            let base = catalog.base(required);
            let fitting = if needed.is_empty() {
                // How far is not said, as by a permission that follows it: the least.
                scopes
                    .iter()
                    .find(|ix| scopes.iter().all(|other| closed(other).includes(closed(ix))))
            } else {
                scopes.iter().find(|ix| closed(ix).union(base) == needed.union(base))
            };
            match fitting {
                Some(ix) => Some(*ix),
                None => return false,
            }
        };
        for ix in chain {
            self.0.entry(ix).or_insert(None);
        }
        self.0.insert(leader, scope);
        true
    }
}

/// Checks a list of grants for a custom role, and gives it back in the catalog's order.
///
/// With `expand`, missing requirements are added where a declared scope is exactly what is required.
/// Otherwise the refusal lists the choices, as it does for an any-of requirement: which of them to
/// give is somebody's decision.
///
/// # Errors
/// Every problem at once. Requirements are only looked at when each grant by itself is sound.
pub fn check_grants(
    catalog: &Catalog,
    grants: &[Grant],
    expand: bool,
) -> Result<Vec<Grant>, Vec<GrantProblem>> {
    let (mut held, places) = parse(catalog, grants)?;
    // Everything that can be completed is, whether it is wanted or not, so that without `expand`
    // the refusal lists what the missing permissions require in their turn. Each round may add or
    // widen permissions whose own requirements the next round looks at. Reach only grows, so this
    // ends.
    let written = held.clone();
    loop {
        let mut changed = false;
        let permissions: Vec<_> = held.iter().map(|(permission, _)| permission).collect();
        for permission in permissions {
            let needed = held.reach(catalog, permission);
            let unmet: Vec<_> = held.unmet(catalog, permission).collect();
            for requirement in unmet {
                if let Requirement::Permission(required) = requirement {
                    changed |= held.complete(catalog, *required, needed);
                }
            }
        }
        if !changed {
            break;
        }
    }
    // Only now is it known how far each requirement must reach.
    let mut problems = Vec::new();
    let mut permissions: Vec<_> = held.iter().map(|(permission, _)| permission).collect();
    // What was written comes first, in its order, then what it brings along.
    permissions.sort_by_key(|permission| places.get(permission).copied().unwrap_or(usize::MAX));
    for permission in permissions {
        let needed = held.reach(catalog, permission);
        let unmet: Vec<_> = held.unmet(catalog, permission).collect();
        for requirement in &catalog.permission(permission).requires {
            let was_missing = match requirement {
                Requirement::Permission(required) => !written.suffices(catalog, *required, needed),
                Requirement::AnyOf(_) => false,
            };
            let still_missing = unmet.contains(&requirement);
            if still_missing || (was_missing && !expand) {
                problems.push(GrantProblem::RequirementMissing {
                    index: places.get(&permission).copied(),
                    permission: catalog.permission(permission).id.clone(),
                    choices: choices(catalog, requirement, needed),
                    expandable: !still_missing,
                });
            }
        }
    }
    if problems.is_empty() { Ok(held.to_grants(catalog)) } else { Err(problems) }
}

type Places = BTreeMap<PermissionIx, usize>;

/// Each grant by itself: known, grantable, once, at a scope that it has.
fn parse(catalog: &Catalog, grants: &[Grant]) -> Result<(Held, Places), Vec<GrantProblem>> {
    let mut held = Held::default();
    let mut places = Places::new();
    let mut problems = Vec::new();
    for (index, grant) in grants.iter().enumerate() {
        let permission = grant.permission.clone();
        let Some(ix) = catalog.find(&permission) else {
            problems.push(GrantProblem::UnknownPermission { index, permission });
            continue;
        };
        if places.insert(ix, index).is_some() {
            problems.push(GrantProblem::Duplicate { index, permission });
            continue;
        }
        match catalog.permission(ix).grantable {
            Grantable::Yes => match scope_for(catalog, ix, grant.scope.as_deref(), index) {
                Ok(scope) => {
                    held.insert(ix, scope);
                }
                Err(problem) => problems.push(problem),
            },
            Grantable::Never => problems.push(GrantProblem::NeverGrantable { index, permission }),
            Grantable::Base(_) => problems.push(GrantProblem::HeldByEveryone { index, permission }),
        }
    }
    if problems.is_empty() { Ok((held, places)) } else { Err(problems) }
}

/// The scope that a grant names, if the permission takes it.
pub(super) fn scope_for(
    catalog: &Catalog,
    ix: PermissionIx,
    scope: Option<&str>,
    index: usize,
) -> Result<Option<ScopeIx>, GrantProblem> {
    let permission = catalog.permission(ix);
    let allowed = || permission.scopes.iter().map(|ix| catalog.scope(*ix).id.clone()).collect();
    match scope {
        None if permission.scopes.is_empty() => Ok(None),
        None => Err(GrantProblem::ScopeRequired {
            index,
            permission: permission.id.clone(),
            allowed: allowed(),
        }),
        Some(_) if permission.scopes.is_empty() => Err(GrantProblem::ScopeNotAllowed {
            index,
            permission: permission.id.clone(),
            follows: permission.follows.map(|ix| catalog.permission(ix).id.clone()),
        }),
        Some(scope) => match catalog.scope_of(ix, scope) {
            Some(found) => Ok(Some(found)),
            None => Err(GrantProblem::UnknownScope {
                index,
                permission: permission.id.clone(),
                scope: scope.to_owned(),
                allowed: allowed(),
            }),
        },
    }
}

/// What would meet a requirement: a custom role can be granted it, and it reaches far enough.
fn choices(catalog: &Catalog, requirement: &Requirement, needed: RelationSet) -> Vec<Choice> {
    let choice = |ix: &PermissionIx| {
        let permission = catalog.permission(*ix);
        let scopes = &catalog.permission(catalog.leader(*ix)).scopes;
        let wide_enough: Vec<String> = scopes
            .iter()
            .map(|scope| catalog.scope(*scope))
            .filter(|scope| scope.closed.includes(needed))
            .map(|scope| scope.id.clone())
            .collect();
        let possible = permission.grantable == Grantable::Yes
            && (scopes.is_empty() || !wide_enough.is_empty());
        possible.then(|| Choice { permission: permission.id.clone(), scopes: wide_enough })
    };
    requirement.choices().iter().filter_map(choice).collect()
}
