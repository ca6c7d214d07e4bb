//! Every default role, permission and relation of the shipped catalogs, as a table to read.
//!
//! The tables are written down from the product documents, not recorded: a difference means that
//! the catalog or the decision is wrong, or that the product changed.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use rolegate::domain::catalog::Catalog;
use rolegate::domain::member::Subject;
use rolegate::domain::relation::{Relation, RelationSet};
use rolegate::domain::resource::{Relations, Resource};

use super::support;

/// A resource that stands to the member in one relation, with what that brings along.
struct Probe {
    relation: Relation,
    resource: Resource,
    /// All that holds, besides `any`.
    holding: &'static [Relation],
}

fn probes() -> Vec<Probe> {
    use Relation::{
        Any, Assignee, Creator, Participant, Pool, Public, Team, TeamUnassigned, Unassigned,
    };
    let probe = |relation, resource, holding| Probe { relation, resource, holding };
    vec![
        probe(Any, support::someone_elses(), &[]),
        probe(Assignee, support::assigned_to_me(), &[Assignee]),
        probe(Team, support::in_my_team(), &[Team]),
        probe(Unassigned, support::unassigned_in_another_team(), &[Unassigned]),
        probe(
            TeamUnassigned,
            support::unassigned_in_my_team(),
            &[Team, Unassigned, TeamUnassigned],
        ),
        probe(Pool, support::in_the_general_pool(), &[Unassigned, Pool]),
        probe(Creator, support::made_by_me(), &[Creator]),
        probe(Participant, support::i_take_part_in(), &[Participant]),
        probe(Public, support::set_to_public(), &[Public]),
    ]
}

/// One row per permission and kind of resource; one row only where the resource makes no
/// difference.
fn render(catalog: &Catalog) -> String {
    let mut columns: Vec<(&str, Subject)> = catalog
        .default_roles()
        .iter()
        .map(|role| {
            let id = role.id.as_str();
            (id, support::with_default_role(catalog, id))
        })
        .collect();
    columns.push(("(no role)", support::without_role()));
    let mut table = row("permission", "resource", columns.iter().map(|(name, _)| *name));
    let probes = probes();
    let mut resources: Vec<(&str, Option<&Resource>)> = vec![("(none named)", None)];
    resources.extend(probes.iter().map(|probe| (probe.relation.name(), Some(&probe.resource))));
    for (ix, permission) in catalog.permissions() {
        let answers: Vec<Vec<&str>> = resources
            .iter()
            .map(|(_, resource)| {
                let decide = |(_, subject): &(&str, Subject)| {
                    subject.decide(catalog, ix, *resource).is_allowed()
                };
                columns.iter().map(|column| if decide(column) { "yes" } else { "-" }).collect()
            })
            .collect();
        if answers.iter().all(|answer| answer == &answers[0]) {
            table += &row(&permission.id, "(whatever)", answers[0].iter().copied());
            continue;
        }
        for ((name, _), answer) in resources.iter().zip(&answers) {
            table += &row(&permission.id, name, answer.iter().copied());
        }
    }
    table
}

fn row<'c>(permission: &str, resource: &str, cells: impl Iterator<Item = &'c str>) -> String {
    let mut line = format!("{permission:<30}{resource:<17}");
    for cell in cells {
        let _ = write!(line, "{cell:<14}");
    }
    format!("{}\n", line.trim_end())
}

#[test]
fn each_probe_stands_in_exactly_its_relation() {
    let subject = support::without_role();
    for probe in probes() {
        let relations = Relations::between(&subject.id, &subject.teams, &probe.resource);
        let expected: RelationSet = probe.holding.iter().copied().collect();
        assert_eq!(relations.holding, expected.with(Relation::Any), "{}", probe.relation);
        assert_eq!(relations.possible, relations.holding, "everything is said");
    }
    let probed: BTreeSet<_> = probes().iter().map(|probe| probe.relation).collect();
    assert_eq!(probed, Relation::ALL.into_iter().collect(), "a relation has no probe");
}

#[test]
fn the_default_roles_of_the_shipped_catalogs_decide_as_written_down() {
    for (id, golden) in
        [("oqupie", include_str!("golden/oqupie.txt")), ("qpien", include_str!("golden/qpien.txt"))]
    {
        let catalog = support::catalog(id);
        let covered: BTreeSet<&str> =
            golden.lines().skip(1).filter_map(|line| line.split_whitespace().next()).collect();
        for (_, permission) in catalog.permissions() {
            assert!(covered.contains(permission.id.as_str()), "{id}: no row for {}", permission.id);
        }
        let decided = render(&catalog);
        for (number, (decided, written)) in decided.lines().zip(golden.lines()).enumerate() {
            assert_eq!(
                decided,
                written,
                "{id}, line {}; all of it:\n{}",
                number + 1,
                render(&catalog)
            );
        }
        assert_eq!(decided.lines().count(), golden.lines().count(), "{id}");
    }
}
