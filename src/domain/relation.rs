//! How a member stands to one resource (DESIGN section 2), as a two-byte bit set.

use std::fmt;

use serde::{Deserialize, Serialize};

/// One way in which a member can stand to one resource.
///
/// The order is the fixed order in which a query plan lists its terms.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Relation {
    /// Always true inside the tenant.
    Any,
    /// The resource is assigned to the member.
    Assignee,
    /// The resource is in one of the member's teams.
    Team,
    /// Nobody is assigned, whatever the team.
    Unassigned,
    /// Nobody is assigned and it is in one of the member's teams.
    TeamUnassigned,
    /// Nobody is assigned and it is in no team: the general pool.
    Pool,
    /// The member made it.
    Creator,
    /// The member follows it or collaborates on it.
    Participant,
    /// It is shared with everyone in the tenant.
    Public,
}

impl Relation {
    /// Every relation, in the fixed order.
    pub const ALL: [Relation; 9] = [
        Relation::Any,
        Relation::Assignee,
        Relation::Team,
        Relation::Unassigned,
        Relation::TeamUnassigned,
        Relation::Pool,
        Relation::Creator,
        Relation::Participant,
        Relation::Public,
    ];

    /// The name used in catalogs and answers, such as `team_unassigned`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Relation::Any => "any",
            Relation::Assignee => "assignee",
            Relation::Team => "team",
            Relation::Unassigned => "unassigned",
            Relation::TeamUnassigned => "team_unassigned",
            Relation::Pool => "pool",
            Relation::Creator => "creator",
            Relation::Participant => "participant",
            Relation::Public => "public",
        }
    }

    /// The relation with this name, if there is one.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|relation| relation.name() == name)
    }

    const fn bit(self) -> u16 {
        1 << (self as u16)
    }

    /// This relation and those that it implies: whoever is granted it is granted them.
    #[must_use]
    pub const fn implied(self) -> RelationSet {
        match self {
            Relation::Any => RelationSet((1 << Self::ALL.len()) - 1),
            Relation::Unassigned => RelationSet(
                Relation::Unassigned.bit() | Relation::TeamUnassigned.bit() | Relation::Pool.bit(),
            ),
            Relation::Team => RelationSet(Relation::Team.bit() | Relation::TeamUnassigned.bit()),
            other => RelationSet(other.bit()),
        }
    }
}

impl fmt::Display for Relation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A set of relations.
///
/// Two kinds of set meet in a decision: what a member is *granted* (closed under implication,
/// see [`RelationSet::closed`], so that "is included in" is a bit test) and what *holds* between
/// the member and one resource.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(into = "Vec<Relation>", from = "Vec<Relation>")]
pub struct RelationSet(u16);

impl RelationSet {
    /// No relation.
    pub const EMPTY: RelationSet = RelationSet(0);
    /// `any` and all that it implies.
    pub const ANY: RelationSet = Relation::Any.implied();

    /// This set with one more relation.
    #[must_use]
    pub const fn with(self, relation: Relation) -> Self {
        RelationSet(self.0 | relation.bit())
    }

    /// This set without one relation.
    #[must_use]
    pub const fn without(self, relation: Relation) -> Self {
        RelationSet(self.0 & !relation.bit())
    }

    /// The set with everything that its members imply. Grants are compiled to this form.
    #[must_use]
    pub fn closed(self) -> Self {
        self.iter().fold(self, |set, relation| set.union(relation.implied()))
    }

    /// The smallest set with the same closure: implied terms dropped.
    #[must_use]
    pub const fn reduced(self) -> Self {
        /// What is implied by this one, where it is in the set.
        const fn implied(set: RelationSet, relation: Relation) -> u16 {
            if set.contains(relation) { relation.implied().0 & !relation.bit() } else { 0 }
        }
        // No other relation implies any.
        let implied = implied(self, Relation::Any)
            | implied(self, Relation::Unassigned)
            | implied(self, Relation::Team);
        RelationSet(self.0 & !implied)
    }

    /// Whether the relation is in the set.
    #[must_use]
    pub const fn contains(self, relation: Relation) -> bool {
        self.0 & relation.bit() != 0
    }

    /// Whether every relation of `other` is in this set. Meant for closed sets.
    #[must_use]
    pub const fn includes(self, other: RelationSet) -> bool {
        other.0 & !self.0 == 0
    }

    /// Whether the two sets share a relation: the decision itself.
    #[must_use]
    pub const fn intersects(self, other: RelationSet) -> bool {
        self.0 & other.0 != 0
    }

    /// Relations in either.
    #[must_use]
    pub const fn union(self, other: RelationSet) -> Self {
        RelationSet(self.0 | other.0)
    }

    /// Relations in both.
    #[must_use]
    pub const fn intersection(self, other: RelationSet) -> Self {
        RelationSet(self.0 & other.0)
    }

    /// Relations in this one that are not in the other.
    #[must_use]
    pub const fn minus(self, other: RelationSet) -> Self {
        RelationSet(self.0 & !other.0)
    }

    /// Whether there is no relation in it.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The relations in the fixed order.
    pub fn iter(self) -> impl Iterator<Item = Relation> {
        let mut left = self.0;
        std::iter::from_fn(move || {
            let relation = Relation::ALL.get(left.trailing_zeros() as usize)?;
            left &= left - 1;
            Some(*relation)
        })
    }
}

impl FromIterator<Relation> for RelationSet {
    fn from_iter<I: IntoIterator<Item = Relation>>(relations: I) -> Self {
        relations.into_iter().fold(Self::EMPTY, Self::with)
    }
}

/// By name where it is written down: the bits are this program's own business.
impl From<RelationSet> for Vec<Relation> {
    fn from(set: RelationSet) -> Self {
        set.iter().collect()
    }
}

impl From<Vec<Relation>> for RelationSet {
    fn from(relations: Vec<Relation>) -> Self {
        relations.into_iter().collect()
    }
}

impl fmt::Debug for RelationSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter().map(Relation::name)).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(relations: &[Relation]) -> RelationSet {
        relations.iter().copied().collect()
    }

    #[test]
    fn implications_are_those_of_the_design() {
        let cases = [
            (Relation::Any, Relation::ALL.to_vec()),
            (
                Relation::Unassigned,
                vec![Relation::Unassigned, Relation::TeamUnassigned, Relation::Pool],
            ),
            (Relation::Team, vec![Relation::Team, Relation::TeamUnassigned]),
            (Relation::Assignee, vec![Relation::Assignee]),
            (Relation::TeamUnassigned, vec![Relation::TeamUnassigned]),
            (Relation::Pool, vec![Relation::Pool]),
            (Relation::Creator, vec![Relation::Creator]),
            (Relation::Participant, vec![Relation::Participant]),
            (Relation::Public, vec![Relation::Public]),
        ];
        for (relation, implied) in cases {
            assert_eq!(relation.implied(), set(&implied), "{relation}");
        }
    }

    #[test]
    fn every_set_survives_reduction_and_closure() {
        for bits in 0..(1u16 << Relation::ALL.len()) {
            let any_set = RelationSet(bits);
            assert_eq!(any_set.reduced().closed(), any_set.closed(), "{any_set:?}");
            assert_eq!(any_set.closed().closed(), any_set.closed());
            for relation in any_set.reduced().iter() {
                let smaller = any_set.reduced().without(relation);
                assert_ne!(smaller.closed(), any_set.closed(), "{relation} is superfluous");
            }
        }
    }

    #[test]
    fn names_round_trip() {
        for relation in Relation::ALL {
            assert_eq!(Relation::from_name(relation.name()), Some(relation));
        }
        assert_eq!(Relation::from_name("owner"), None);
    }
}
