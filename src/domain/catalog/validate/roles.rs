//! Default roles: what each holds, spelled out and compiled as any role is.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use super::super::raw::{RawCatalog, RawHolds, RawRole};
use super::super::{DefaultRole, Grantable, PermissionIx, ScopeIx};
use super::Draft;
use super::register::{Form, Register};
use crate::domain::document::{Word, did_you_mean};
use crate::domain::grant::{Grant, GrantProblem, scope_for};
use crate::domain::ids::RoleId;
use crate::domain::name::NameKey;
use crate::domain::relation::{Relation, RelationSet};
use crate::domain::role::{CompiledRole, DropReason, RoleKind};

/// What a role holds, as far as it could be understood.
#[derive(Default)]
struct Holding {
    grants: BTreeMap<PermissionIx, Option<ScopeIx>>,
    /// Where each is written; of an `everything` role, nothing.
    places: HashMap<PermissionIx, usize>,
    /// Permissions with a reported mistake in this role.
    unclear: BTreeSet<PermissionIx>,
    /// Where mistakes that no single grant makes are reported.
    at: usize,
    /// Whether the list names something that does not exist: what is missing can then not be told.
    incomplete: bool,
}

impl Draft<'_> {
    /// Takes the default roles over, and looks the owner up.
    pub(super) fn roles(&mut self, raw: &RawCatalog) {
        let problems = self.problems;
        let mut register = Register::new("role");
        let mut sound = Vec::new();
        let mut names: HashMap<NameKey, &Word> = HashMap::new();
        for role in &raw.roles {
            let Some(id) = &role.id else { continue };
            if !register.add(id, self.catalog.default_roles.len(), Form::Word, problems) {
                continue;
            }
            self.name(id, role, &mut names);
            let holding = self.holding(id, role);
            let grants: Vec<Grant> = holding
                .grants
                .iter()
                .map(|(ix, scope)| Grant {
                    permission: self.catalog.permission(*ix).id.clone(),
                    scope: scope.map(|scope| self.catalog.scope(scope).id.clone()),
                })
                .collect();
            let compiled = CompiledRole::compile(&self.catalog, RoleKind::Default, &grants);
            let closed = self.is_closed(id, &holding, &compiled);
            sound.push(closed && holding.unclear.is_empty());
            self.catalog.default_roles.push(DefaultRole {
                id: RoleId::trusted(&id.text),
                title: role.title.clone(),
                description: role.description.clone(),
                grants,
                compiled: Arc::new(compiled),
                renamed_from: role.renamed_from.iter().map(|word| word.text.clone()).collect(),
            });
        }
        let renames = raw.roles.iter();
        let renames =
            renames.filter_map(|role| Some((role.id.as_ref()?, role.renamed_from.as_slice())));
        register.check_renames(Form::Word, renames, problems);
        if let Some(word) = &raw.owner_role
            && let Some(position) = register.find(word, "in owner_role", problems)
        {
            self.catalog.owner = RoleId::trusted(&word.text);
            if sound.get(position) == Some(&true) {
                self.owner_holds_everything(word, position);
            }
        }
    }

    /// A default role's title is its name, in each language; no two roles may share one.
    fn name<'w>(&mut self, id: &'w Word, role: &RawRole, names: &mut HashMap<NameKey, &'w Word>) {
        for title in role.title.all().filter(|title| !title.is_empty()) {
            let key = NameKey::of(title);
            match names.get(&key) {
                Some(other) if other.text != id.text => {
                    let message = format!("role {id} has the name of role {other}: \"{title}\"");
                    self.problems.report(role.at, message);
                }
                Some(_) => {}
                None => {
                    names.insert(key, id);
                }
            }
        }
    }

    fn holding(&self, id: &Word, role: &RawRole) -> Holding {
        match &role.holds {
            RawHolds::Grants(words) => self.granted(id, role, words),
            RawHolds::EverythingExcept(words) => self.everything(id, role, words),
            RawHolds::Unclear => Holding { incomplete: true, at: role.at, ..Holding::default() },
        }
    }

    /// Every permission that not everyone has, as far as it goes.
    fn everything(&self, id: &Word, role: &RawRole, except: &[Word]) -> Holding {
        let problems = self.problems;
        let at = except.first().map_or(role.at, |word| word.at);
        let mut holding = Holding { at, ..Holding::default() };
        let mut excepted = BTreeSet::new();
        for word in except {
            let Some(ix) =
                self.permissions.find(word, &format!("in except of role {id}"), problems)
            else {
                holding.incomplete = true;
                continue;
            };
            if !excepted.insert(ix) {
                problems.report(word.at, format!("except of role {id} has {word} twice"));
            }
            if matches!(self.catalog.permission(ix).grantable, Grantable::Base(_)) {
                let message = format!(
                    "except of role {id}: every member holds {word}, so no role can go without it"
                );
                problems.report(word.at, message);
            }
        }
        for (ix, permission) in self.catalog.permissions() {
            if excepted.contains(&ix) || matches!(permission.grantable, Grantable::Base(_)) {
                continue;
            }
            let widest = permission
                .scopes
                .iter()
                .find(|scope| self.catalog.scope(**scope).closed.contains(Relation::Any));
            if widest.is_none() && !permission.scopes.is_empty() {
                holding.unclear.insert(ix);
                if !self.unclear.contains(&ix) {
                    let message = format!(
                        "role {id} has everything, but permission \"{}\" has no scope with \"any\"",
                        permission.id
                    );
                    problems.report(role.at, message);
                }
            } else {
                holding.grants.insert(ix, widest.copied());
            }
        }
        holding
    }

    fn granted(&self, id: &Word, role: &RawRole, words: &[Word]) -> Holding {
        let problems = self.problems;
        let mut holding = Holding { at: role.at, ..Holding::default() };
        for word in words {
            let parts: Vec<_> = word.text.split_whitespace().collect();
            let (permission, scope) = match parts.as_slice() {
                [permission] => (*permission, None),
                [permission, "at", scope] => (*permission, Some(*scope)),
                _ => {
                    let message = format!(
                        "grant {word} of role {id} must read \"permission\" or \"permission at \
                         scope\""
                    );
                    problems.report(word.at, message);
                    holding.incomplete = true;
                    continue;
                }
            };
            let permission = Word { text: permission.to_owned(), at: word.at };
            let whence = format!("in grants of role {id}");
            let Some(ix) = self.permissions.find(&permission, &whence, problems) else {
                holding.incomplete = true;
                continue;
            };
            if holding.places.insert(ix, word.at).is_some() {
                problems.report(word.at, format!("role {id} is granted {permission} twice"));
            } else if matches!(self.catalog.permission(ix).grantable, Grantable::Base(_)) {
                let message =
                    format!("role {id} need not be granted {permission}: every member holds it");
                problems.report(word.at, message);
            } else if self.unclear.contains(&ix) {
                holding.unclear.insert(ix);
            } else {
                match scope_for(&self.catalog, ix, scope, 0) {
                    Ok(scope) => {
                        holding.grants.insert(ix, scope);
                    }
                    Err(problem) => {
                        problems.report(word.at, wrong_scope(id, &problem));
                        holding.unclear.insert(ix);
                    }
                }
            }
        }
        holding
    }

    /// Whether the role holds what its permissions require. What fails only because of another
    /// mistake is not reported.
    fn is_closed(&self, id: &Word, holding: &Holding, compiled: &CompiledRole) -> bool {
        if holding.incomplete {
            return false;
        }
        let unclear = self.unclear.union(&holding.unclear);
        let mut silent: BTreeSet<&str> =
            unclear.map(|ix| self.catalog.permission(*ix).id.as_str()).collect();
        let mut fallen = BTreeSet::new();
        for dropped in compiled.dropped() {
            let permission = dropped.grant.permission.as_str();
            let DropReason::RequirementMissing(missing) = &dropped.reason else { continue };
            let among = |missing: &str, ids: &BTreeSet<&str>| {
                missing.split(" or ").any(|choice| ids.contains(choice))
            };
            if silent.contains(permission) || missing.iter().any(|choices| among(choices, &silent))
            {
                silent.insert(permission);
                continue;
            }
            let mut needs: Vec<_> = missing.iter().map(String::as_str).collect();
            // What it needs is in the list, but falls for a reason of its own.
            needs.retain(|choices| !among(choices, &fallen));
            fallen.insert(permission);
            if let Some(ix) = self.catalog.find(permission).filter(|_| !needs.is_empty()) {
                let too_narrow = needs.iter().any(|choices| {
                    let mut choices = choices.split(" or ").filter_map(|id| self.catalog.find(id));
                    choices.any(|choice| holding.grants.contains_key(&choice))
                });
                let reach = if too_narrow { " to reach as far" } else { "" };
                let message =
                    format!("role {id}: {} needs {}{reach}", dropped.grant, needs.join(" and "));
                self.problems
                    .report(holding.places.get(&ix).copied().unwrap_or(holding.at), message);
            }
        }
        compiled.dropped().is_empty()
    }

    fn owner_holds_everything(&self, word: &Word, position: usize) {
        let Some(owner) = self.catalog.default_roles.get(position) else { return };
        let lacking: Vec<_> = self
            .catalog
            .permissions()
            .filter(|(ix, permission)| {
                !matches!(permission.grantable, Grantable::Base(_))
                    && !self.unclear.contains(ix)
                    && owner.compiled.reach(*ix).relations != RelationSet::ANY
            })
            .map(|(_, permission)| format!("\"{}\"", permission.id))
            .collect();
        if let Some(first) = lacking.first() {
            let more = match lacking.len() {
                1 => String::new(),
                count => format!(" and {} more", count - 1),
            };
            let message = format!(
                "owner_role {word} must hold everything, at every reach, but lacks {first}{more}; \
                 give it everything = true"
            );
            self.problems.report(word.at, message);
        }
    }
}

fn wrong_scope(id: &Word, problem: &GrantProblem) -> String {
    match problem {
        GrantProblem::ScopeRequired { permission, allowed, .. } => {
            let scopes = allowed.join(" or ");
            format!("role {id}: \"{permission}\" needs a scope: \"{permission} at {scopes}\"")
        }
        GrantProblem::ScopeNotAllowed { permission, follows: Some(follows), .. } => format!(
            "role {id}: \"{permission}\" takes no scope; it reaches as far as \"{follows}\""
        ),
        GrantProblem::UnknownScope { permission, scope, allowed, .. } => {
            let hint = did_you_mean(scope, allowed.iter().map(String::as_str));
            let scopes = allowed.join(", ");
            format!("role {id}: \"{permission}\" has no scope \"{scope}\", only {scopes}{hint}")
        }
        GrantProblem::ScopeNotAllowed { permission, .. } => {
            format!("role {id}: \"{permission}\" takes no scope")
        }
        other => format!("role {id}: {other:?}"),
    }
}
