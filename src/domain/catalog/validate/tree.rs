//! Sections and scopes.

use super::super::raw::{RawScope, RawSection};
use super::super::{Scope, ScopeIx, Section, SectionIx};
use super::register::{Form, Register};
use super::{Draft, cycle};
use crate::domain::document::did_you_mean;
use crate::domain::relation::{Relation, RelationSet};

impl Draft<'_> {
    /// Takes the sections over, parents before children.
    pub(super) fn sections(&mut self, raw: &[RawSection]) -> Register<SectionIx> {
        let problems = self.problems;
        let mut register = Register::new("section");
        let mut taken = Vec::new();
        for section in raw {
            if let (Some(id), Some(ix)) = (&section.id, SectionIx::new(taken.len()))
                && register.add(id, ix, Form::Word, problems)
            {
                taken.push((id, section));
            }
        }
        let parents: Vec<Option<SectionIx>> = taken
            .iter()
            .map(|(id, section)| {
                let whence = format!("as the parent of section {id}");
                register.find(section.parent.as_ref()?, &whence, problems)
            })
            .collect();
        let edges: Vec<Vec<usize>> =
            parents.iter().map(|parent| parent.iter().map(|ix| ix.get()).collect()).collect();
        let cycles = cycle::find(&edges);
        for nodes in &cycles {
            let ids: Vec<_> =
                nodes.iter().chain(nodes.first()).filter_map(|node| taken.get(*node)).collect();
            if let Some((id, _)) = ids.first() {
                let ids: Vec<_> = ids.iter().map(|(id, _)| id.text.as_str()).collect();
                problems.report(id.at, format!("sections lie in a circle: {}", ids.join(" in ")));
            }
        }
        for (position, ((id, section), parent)) in taken.iter().zip(parents).enumerate() {
            let in_cycle = cycles.iter().any(|nodes| nodes.contains(&position));
            let parent = parent.filter(|_| !in_cycle);
            if let (Some(word), Some(ix)) = (&section.parent, parent)
                && ix.get() > position
            {
                let message = format!("section {id} must come after its parent {word}");
                problems.report(word.at, message);
            }
            self.catalog.sections.push(Section {
                id: id.text.clone(),
                parent,
                title: section.title.clone(),
                description: section.description.clone(),
            });
        }
        register
    }

    /// Takes the scopes over.
    pub(super) fn scopes(&mut self, raw: &[RawScope]) {
        let problems = self.problems;
        for scope in raw {
            let Some(ix) = ScopeIx::new(self.catalog.scopes.len()) else { return };
            if !self.scopes.add(&scope.id, ix, Form::Word, problems) {
                continue;
            }
            let mut declared = RelationSet::EMPTY;
            for word in scope.relations.iter().flatten() {
                let Some(relation) = Relation::from_name(&word.text) else {
                    let hint = did_you_mean(&word.text, Relation::ALL.map(Relation::name));
                    let message =
                        format!("relation {word} of scope {} does not exist{hint}", scope.id);
                    problems.report(word.at, message);
                    continue;
                };
                if declared.contains(relation) {
                    let message = format!("scope {} names relation {word} twice", scope.id);
                    problems.report(word.at, message);
                }
                declared = declared.with(relation);
            }
            if scope.relations.as_ref().is_some_and(Vec::is_empty) {
                let message = format!("scope {} has no relations, so it reaches nothing", scope.id);
                problems.report(scope.id.at, message);
            }
            self.catalog.scopes.push(Scope {
                id: scope.id.text.clone(),
                title: scope.title.clone(),
                declared,
                closed: declared.closed(),
            });
        }
    }
}
