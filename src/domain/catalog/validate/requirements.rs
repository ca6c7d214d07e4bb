//! Whether requirements can be met at all: no circles, and nothing that could never be granted.

use super::super::{Grantable, PermissionIx, Requirement};
use super::permissions::Sites;
use super::{Draft, cycle};
use crate::domain::relation::RelationSet;

/// How far a permission may reach, and the scope's name if that comes from a scope.
type Extent<'c> = (RelationSet, Option<&'c str>);

impl Draft<'_> {
    /// Checks every requirement. `sites` tells where each is written.
    pub(super) fn requirements(&mut self, sites: &Sites) {
        self.circles(sites);
        let mut hopeless = Vec::new();
        for (ix, permission) in self.catalog.permissions() {
            if self.unclear.contains(&ix) {
                continue;
            }
            let places = sites.get(ix.get()).into_iter().flatten();
            for (requirement, at) in permission.requires.iter().zip(places) {
                let choices = requirement.choices();
                if !choices.iter().any(|choice| self.unclear.contains(choice))
                    && !self.requirement_can_be_met(ix, requirement, *at)
                {
                    hopeless.push(ix);
                }
            }
        }
        self.unclear.extend(hopeless);
    }

    fn id(&self, ix: PermissionIx) -> &str {
        &self.catalog.permission(ix).id
    }

    fn circles(&self, sites: &Sites) {
        let edges: Vec<Vec<usize>> = self
            .catalog
            .permissions
            .iter()
            .map(|permission| {
                let choices = permission.requires.iter().flat_map(Requirement::choices);
                choices.map(|ix| ix.get()).collect()
            })
            .collect();
        for nodes in cycle::find(&edges) {
            let permissions = nodes.iter().filter_map(|node| self.catalog.permissions.get(*node));
            let mut ids: Vec<_> = permissions.map(|permission| permission.id.as_str()).collect();
            ids.extend(ids.first().copied());
            // The place of the requirement that leads on around the circle.
            let place = nodes.first().and_then(|first| {
                let next = nodes.get(1).unwrap_or(first);
                let requires = &self.catalog.permissions.get(*first)?.requires;
                let leads_on = |requirement: &Requirement| {
                    requirement.choices().iter().any(|ix| ix.get() == *next)
                };
                let position = requires.iter().position(leads_on)?;
                sites.get(*first)?.get(position)
            });
            if let Some(at) = place {
                let message = format!("permissions require each other: {}", ids.join(" -> "));
                self.problems.report(*at, message);
            }
        }
    }

    fn requirement_can_be_met(
        &self,
        ix: PermissionIx,
        requirement: &Requirement,
        at: usize,
    ) -> bool {
        let catalog = &self.catalog;
        let id = self.id(ix);
        let choices = requirement.choices();
        let ids: Vec<_> =
            choices.iter().map(|choice| format!("\"{}\"", self.id(*choice))).collect();
        let needed = ids.join(" or ");
        let dependent = catalog.permission(ix).grantable;
        let candidates: Vec<PermissionIx> = match dependent {
            Grantable::Base(_) => choices
                .iter()
                .copied()
                .filter(|choice| catalog.base(*choice).includes(catalog.base(ix)))
                .collect(),
            Grantable::Yes => choices
                .iter()
                .copied()
                .filter(|choice| catalog.permission(*choice).grantable != Grantable::Never)
                .collect(),
            Grantable::Never => choices.to_vec(),
        };
        if candidates.is_empty() {
            let message = match dependent {
                Grantable::Base(_) => {
                    format!("every member holds \"{id}\", but not {needed}, which it requires")
                }
                _ => format!(
                    "\"{id}\" requires {needed}, which no custom role may hold; so no custom role \
                     could hold \"{id}\" either: give it custom_roles = \"never\""
                ),
            };
            self.problems.report(at, message);
            return false;
        }
        let mut met = true;
        for (reach, scope) in self.reaches(ix) {
            let far_enough = |choice: &PermissionIx| {
                self.reaches(*choice).iter().any(|(other, _)| other.includes(reach))
            };
            if !candidates.iter().any(far_enough) {
                let scope = scope.map(|scope| format!(" at scope \"{scope}\"")).unwrap_or_default();
                let message = format!(
                    "\"{id}\"{scope} could never be granted: {needed} has no scope that reaches as \
                     far"
                );
                self.problems.report(at, message);
                met = false;
            }
        }
        met
    }

    /// The reaches that a permission can have.
    fn reaches(&self, ix: PermissionIx) -> Vec<Extent<'_>> {
        let catalog = &self.catalog;
        let leader = catalog.leader(ix);
        let scopes = &catalog.permission(leader).scopes;
        if scopes.is_empty() {
            return vec![(RelationSet::ANY, None)];
        }
        let scopes = scopes.iter().map(|scope| catalog.scope(*scope));
        scopes.map(|scope| (scope.closed, Some(scope.id.as_str()))).collect()
    }
}
