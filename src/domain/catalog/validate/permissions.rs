//! Permissions: what each says of itself, and whom it follows and requires.

use super::super::raw::{RawPermission, RawRequirement};
use super::super::{Grantable, Permission, PermissionIx, Requirement, ScopeIx, SectionIx};
use super::register::{Form, Register};
use super::{Draft, cycle};
use crate::domain::document::Word;
use crate::domain::relation::RelationSet;

/// Where each requirement of each permission is written, in the order of
/// [`Permission::requires`].
pub(super) type Sites = Vec<Vec<usize>>;

/// A permission that has been given its place.
type Taken<'r> = (PermissionIx, &'r Word, &'r RawPermission);

/// The longest chain of permissions that follow each other: reach is looked up along it.
const MAX_FOLLOWS: usize = 8;

impl Draft<'_> {
    /// Takes the permissions over with everything that they name.
    pub(super) fn permissions(
        &mut self,
        raw: &[RawPermission],
        sections: &Register<SectionIx>,
    ) -> Sites {
        let mut taken = Vec::new();
        for permission in raw {
            if let (Some(id), Some(ix)) = (&permission.id, PermissionIx::new(taken.len()))
                && self.permissions.add(id, ix, Form::Dotted, self.problems)
            {
                taken.push((ix, id, permission));
            }
        }
        for (ix, id, permission) in &taken {
            let taken_over = self.permission(*ix, id, permission, sections);
            self.catalog.by_id.insert(id.text.as_bytes().into(), *ix);
            self.catalog.permissions.push(taken_over);
        }
        self.catalog.base = self
            .catalog
            .permissions
            .iter()
            .map(|permission| match permission.grantable {
                Grantable::Base(Some(scope)) => self.catalog.scope(scope).closed,
                Grantable::Base(None) => RelationSet::ANY,
                Grantable::Yes | Grantable::Never => RelationSet::EMPTY,
            })
            .collect();
        self.follows(&taken);
        let renames = taken.iter().map(|(_, id, raw)| (*id, raw.renamed_from.as_slice()));
        self.permissions.check_renames(Form::Dotted, renames, self.problems);
        taken.iter().map(|(ix, id, permission)| self.requires(*ix, id, permission)).collect()
    }

    /// One permission by itself.
    fn permission(
        &mut self,
        ix: PermissionIx,
        id: &Word,
        raw: &RawPermission,
        sections: &Register<SectionIx>,
    ) -> Permission {
        let problems = self.problems;
        let whence = format!("of permission {id}");
        let section = raw.section.as_ref().and_then(|word| sections.find(word, &whence, problems));
        let mut scopes: Vec<ScopeIx> = Vec::new();
        for word in &raw.scopes {
            match self.scopes.find(word, &whence, problems) {
                Some(scope) if scopes.contains(&scope) => {
                    problems.report(word.at, format!("permission {id} has scope {word} twice"));
                }
                Some(scope) => {
                    self.same_reach(id, word, scope, &scopes);
                    scopes.push(scope);
                }
                None => {
                    self.unclear.insert(ix);
                }
            }
        }
        if scopes.iter().any(|scope| self.catalog.scope(*scope).closed.is_empty()) {
            self.unclear.insert(ix);
        }
        let base = raw.custom_roles.as_ref().is_some_and(|word| word.text == "base");
        if let (Some(follows), Some(scope), false) = (&raw.follows, raw.scopes.first(), base) {
            let message = format!(
                "permission {id} follows {follows}, so it reaches as far as that and has no scopes \
                 of its own"
            );
            problems.report(scope.at, message);
            self.unclear.insert(ix);
            scopes.clear();
        }
        let grantable = match raw.custom_roles.as_ref().map(|word| word.text.as_str()) {
            None | Some("yes") => Grantable::Yes,
            Some("never") => Grantable::Never,
            Some("base") => self.base(id, raw, &scopes),
            Some(_) => {
                self.unclear.insert(ix);
                Grantable::Yes
            }
        };
        Permission {
            id: id.text.clone(),
            section: section.or_else(|| SectionIx::new(0)).unwrap_or(SectionIx(0)),
            title: raw.title.clone(),
            description: raw.description.clone(),
            scopes,
            follows: None,
            requires: Vec::new(),
            grantable,
            renamed_from: raw.renamed_from.iter().map(|word| word.text.clone()).collect(),
        }
    }

    fn base(&self, id: &Word, raw: &RawPermission, scopes: &[ScopeIx]) -> Grantable {
        if let Some(second) = raw.scopes.get(1) {
            let message = format!(
                "permission {id} is held by every member, so it has one scope at most: the one it \
                 is held at"
            );
            self.problems.report(second.at, message);
        }
        if let Some(follows) = &raw.follows {
            let message = format!(
                "permission {id} is held by every member, so it cannot follow {follows}; give it \
                 the scope that it is held at"
            );
            self.problems.report(follows.at, message);
        }
        Grantable::Base(scopes.first().copied())
    }

    /// Two scopes of one permission that reach equally far could not be told apart afterwards.
    fn same_reach(&self, id: &Word, word: &Word, scope: ScopeIx, others: &[ScopeIx]) {
        let scope = self.catalog.scope(scope);
        let same = |other: &&ScopeIx| self.catalog.scope(**other).closed == scope.closed;
        if !scope.closed.is_empty()
            && let Some(other) = others.iter().find(same)
        {
            let other = &self.catalog.scope(*other).id;
            let message =
                format!("scopes {word} and \"{other}\" of permission {id} reach equally far");
            self.problems.report(word.at, message);
        }
    }

    /// Looks up who follows whom; circles and long chains are reported and left out.
    fn follows(&mut self, taken: &[Taken<'_>]) {
        let problems = self.problems;
        let mut followed = Vec::new();
        for (ix, id, raw) in taken {
            let whence = format!("in follows of {id}");
            let word = raw
                .follows
                .as_ref()
                .filter(|_| !matches!(self.catalog.permission(*ix).grantable, Grantable::Base(_)));
            let found = word.and_then(|word| self.permissions.find(word, &whence, problems));
            if word.is_some() && found.is_none() {
                self.unclear.insert(*ix);
            }
            followed.push(found);
        }
        self.cut_circles(taken, &mut followed);
        self.cut_long_chains(taken, &mut followed);
        for (permission, follows) in self.catalog.permissions.iter_mut().zip(followed) {
            permission.follows = follows;
        }
    }

    fn cut_circles(&mut self, taken: &[Taken<'_>], followed: &mut [Option<PermissionIx>]) {
        let edges: Vec<Vec<usize>> =
            followed.iter().map(|ix| ix.iter().map(|ix| ix.get()).collect()).collect();
        for nodes in cycle::find(&edges) {
            let ids = nodes.iter().chain(nodes.first()).filter_map(|node| taken.get(*node));
            let ids: Vec<_> = ids.map(|(_, id, _)| id.text.as_str()).collect();
            let first = nodes.first().and_then(|node| taken.get(*node));
            if let Some(word) = first.and_then(|(_, _, raw)| raw.follows.as_ref()) {
                let message = format!("permissions follow each other: {}", ids.join(" -> "));
                self.problems.report(word.at, message);
            }
            for node in nodes {
                if let (Some(slot), Some((ix, _, _))) = (followed.get_mut(node), taken.get(node)) {
                    *slot = None;
                    self.unclear.insert(*ix);
                }
            }
        }
    }

    fn cut_long_chains(&mut self, taken: &[Taken<'_>], followed: &mut [Option<PermissionIx>]) {
        let depth = |ix: &PermissionIx| {
            let next = |ix: &PermissionIx| followed.get(ix.get()).copied().flatten();
            std::iter::successors(next(ix), next).take(MAX_FOLLOWS + 2).count()
        };
        let depths: Vec<_> = taken.iter().map(|(ix, _, _)| depth(ix)).collect();
        for ((ix, id, raw), depth) in taken.iter().zip(depths) {
            if depth <= MAX_FOLLOWS {
                continue;
            }
            // Those further along the chain are too far because this one is.
            if let (Some(word), true) = (&raw.follows, depth == MAX_FOLLOWS + 1) {
                let message = format!(
                    "permission {id} follows over more than {MAX_FOLLOWS} others; follow the first \
                     of them instead, which reaches as far"
                );
                self.problems.report(word.at, message);
            }
            self.unclear.insert(*ix);
            if let Some(slot) = followed.get_mut(ix.get()) {
                *slot = None;
            }
        }
    }

    /// Looks up what a permission requires; what it follows comes first.
    fn requires(&mut self, ix: PermissionIx, id: &Word, raw: &RawPermission) -> Vec<usize> {
        let mut requires = Vec::new();
        let mut sites = Vec::new();
        if let (Some(followed), Some(word)) = (self.catalog.permission(ix).follows, &raw.follows) {
            requires.push(Requirement::Permission(followed));
            sites.push(word.at);
        }
        let automatic = requires.len();
        for entry in &raw.requires {
            let Some(requirement) = self.requirement(ix, id, entry) else {
                self.unclear.insert(ix);
                continue;
            };
            match requires.iter().position(|known| *known == requirement) {
                // Spelling out that it requires what it follows does no harm.
                Some(position) if position < automatic => {}
                Some(_) => {
                    let message = format!("permission {id} has the same requirement twice");
                    self.problems.report(entry.at, message);
                }
                None => {
                    requires.push(requirement);
                    sites.push(entry.at);
                }
            }
        }
        if let Some(permission) = self.catalog.permissions.get_mut(ix.get()) {
            permission.requires = requires;
        }
        sites
    }

    fn requirement(
        &self,
        ix: PermissionIx,
        id: &Word,
        entry: &RawRequirement,
    ) -> Option<Requirement> {
        let whence = format!("in requires of {id}");
        let found: Vec<_> = entry
            .choices
            .iter()
            .map(|word| self.permissions.find(word, &whence, self.problems))
            .collect();
        let mut choices: Vec<PermissionIx> = found.iter().copied().collect::<Option<_>>()?;
        if choices.contains(&ix) {
            self.problems.report(entry.at, format!("permission {id} requires itself"));
            return None;
        }
        if !entry.any_of {
            return choices.first().copied().map(Requirement::Permission);
        }
        let given = choices.len();
        choices.sort();
        choices.dedup();
        if choices.len() < given {
            self.problems.report(entry.at, format!("any_of of permission {id} has a choice twice"));
        } else if given < 2 {
            let message = format!("any_of of permission {id} needs two choices or more");
            self.problems.report(entry.at, message);
        }
        (given >= 2).then_some(Requirement::AnyOf(choices))
    }
}
