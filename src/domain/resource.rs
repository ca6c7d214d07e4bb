//! The ticket, conversation or article that a question is about, as the caller describes it.

use super::ids::{MemberId, TeamId};
use super::relation::{Relation, RelationSet};

/// What the caller says of one resource. We do not store resources.
///
/// **Absent is not empty**: `None` means "not said", an empty list means "nobody" or "no team". The
/// fronts take an empty list only where it is said out loud (`none`).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Resource {
    /// The caller's id for it; carried through to the answer, never decided on.
    pub id: String,
    /// The members it is assigned to.
    pub assignees: Option<Vec<MemberId>>,
    /// The teams it is in.
    pub teams: Option<Vec<TeamId>>,
    /// Who made it; `Some(None)` says that no member did.
    pub creator: Option<Option<MemberId>>,
    /// Those who follow it or collaborate on it.
    pub participants: Option<Vec<MemberId>>,
    /// Whether it is shared with everyone in the tenant.
    pub public: Option<bool>,
}

/// An attribute of a resource that the caller may have left unsaid.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Attribute {
    /// [`Resource::assignees`]
    Assignees,
    /// [`Resource::teams`]
    Teams,
    /// [`Resource::creator`]
    Creator,
    /// [`Resource::participants`]
    Participants,
    /// [`Resource::public`]
    Public,
}

impl Attribute {
    /// Every attribute.
    pub const ALL: [Attribute; 5] = [
        Attribute::Assignees,
        Attribute::Teams,
        Attribute::Creator,
        Attribute::Participants,
        Attribute::Public,
    ];

    /// The field's name in the API.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Attribute::Assignees => "assignees",
            Attribute::Teams => "teams",
            Attribute::Creator => "creator_id",
            Attribute::Participants => "participants",
            Attribute::Public => "public",
        }
    }

    /// The relations that cannot be told without it.
    #[must_use]
    pub fn tells(self) -> RelationSet {
        let relations: &[Relation] = match self {
            Attribute::Assignees => &[
                Relation::Assignee,
                Relation::Unassigned,
                Relation::TeamUnassigned,
                Relation::Pool,
            ],
            Attribute::Teams => &[Relation::Team, Relation::TeamUnassigned, Relation::Pool],
            Attribute::Creator => &[Relation::Creator],
            Attribute::Participants => &[Relation::Participant],
            Attribute::Public => &[Relation::Public],
        };
        relations.iter().copied().collect()
    }
}

/// Some of the attributes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Attributes(u8);

impl Attributes {
    /// Whether this one is among them.
    #[must_use]
    pub const fn contains(self, attribute: Attribute) -> bool {
        self.0 & (1 << attribute as u8) != 0
    }

    /// Those that are among either.
    #[must_use]
    pub const fn union(self, other: Attributes) -> Self {
        Attributes(self.0 | other.0)
    }

    /// In the order of [`Attribute::ALL`].
    pub fn iter(self) -> impl Iterator<Item = Attribute> {
        Attribute::ALL.into_iter().filter(move |attribute| self.contains(*attribute))
    }
}

impl FromIterator<Attribute> for Attributes {
    fn from_iter<I: IntoIterator<Item = Attribute>>(attributes: I) -> Self {
        Attributes(attributes.into_iter().fold(0, |set, one| set | (1 << one as u8)))
    }
}

/// What a decision needs to know of a resource, however that is held: as a [`Resource`], or still
/// as the bytes of the message that it came in. Ids are compared byte by byte, so bytes are all
/// that is asked for.
pub trait Described {
    /// See [`Resource::assignees`].
    fn assignees(&self) -> Option<impl Iterator<Item = &[u8]>>;
    /// See [`Resource::teams`].
    fn teams(&self) -> Option<impl Iterator<Item = &[u8]>>;
    /// See [`Resource::creator`].
    fn creator(&self) -> Option<Option<&[u8]>>;
    /// See [`Resource::participants`].
    fn participants(&self) -> Option<impl Iterator<Item = &[u8]>>;
    /// See [`Resource::public`].
    fn public(&self) -> Option<bool>;

    /// Whether the caller said this attribute.
    fn says(&self, attribute: Attribute) -> bool {
        match attribute {
            Attribute::Assignees => self.assignees().is_some(),
            Attribute::Teams => self.teams().is_some(),
            Attribute::Creator => self.creator().is_some(),
            Attribute::Participants => self.participants().is_some(),
            Attribute::Public => self.public().is_some(),
        }
    }
}

impl Described for Resource {
    fn assignees(&self) -> Option<impl Iterator<Item = &[u8]>> {
        self.assignees.as_ref().map(|ids| ids.iter().map(|id| id.as_str().as_bytes()))
    }

    fn teams(&self) -> Option<impl Iterator<Item = &[u8]>> {
        self.teams.as_ref().map(|ids| ids.iter().map(|id| id.as_str().as_bytes()))
    }

    fn creator(&self) -> Option<Option<&[u8]>> {
        self.creator.as_ref().map(|id| id.as_ref().map(|id| id.as_str().as_bytes()))
    }

    fn participants(&self) -> Option<impl Iterator<Item = &[u8]>> {
        self.participants.as_ref().map(|ids| ids.iter().map(|id| id.as_str().as_bytes()))
    }

    fn public(&self) -> Option<bool> {
        self.public
    }
}

/// How one member stands to one resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Relations {
    /// What holds, by what was said. A relation whose attribute was not said does not hold.
    pub holding: RelationSet,
    /// What holds or could hold, had the caller said everything.
    pub possible: RelationSet,
}

impl Relations {
    /// How a member, known by id and teams, stands to the resource.
    #[must_use]
    pub fn between(member: &MemberId, teams: &[TeamId], resource: &impl Described) -> Self {
        Relations::among(RelationSet::ANY, member, teams, resource)
    }

    /// How every member stands to what no resource was named for: `any` alone holds.
    #[must_use]
    pub fn without_resource() -> Self {
        let any = RelationSet::EMPTY.with(Relation::Any);
        Relations { holding: any, possible: any }
    }

    /// The same, of these relations and `any` only: no others are looked at.
    #[must_use]
    pub fn among(
        wanted: RelationSet,
        member: &MemberId,
        teams: &[TeamId],
        resource: &impl Described,
    ) -> Self {
        let any = RelationSet::EMPTY.with(Relation::Any);
        let mut relations = Relations { holding: any, possible: any };
        for relation in wanted.minus(any).iter() {
            let holds = holds(relation, member, teams, resource);
            if holds == Some(true) {
                relations.holding = relations.holding.with(relation);
            }
            if holds != Some(false) {
                relations.possible = relations.possible.with(relation);
            }
        }
        relations
    }
}

/// Whether a relation holds; nothing when that takes what was not said.
fn holds(
    relation: Relation,
    member: &MemberId,
    teams: &[TeamId],
    resource: &impl Described,
) -> Option<bool> {
    let me = member.as_str().as_bytes();
    let nobody_assigned = || resource.assignees().map(|mut ids| ids.next().is_none());
    let is_mine = |team: &[u8]| teams.iter().any(|mine| mine.as_str().as_bytes() == team);
    let in_my_team = || match resource.teams() {
        Some(mut ids) => Some(ids.any(is_mine)),
        // Whatever its teams are, none is mine when I am in none.
        None if teams.is_empty() => Some(false),
        None => None,
    };
    let in_no_team = || resource.teams().map(|mut ids| ids.next().is_none());
    match relation {
        Relation::Any => Some(true),
        Relation::Assignee => resource.assignees().map(|mut ids| ids.any(|id| id == me)),
        Relation::Team => in_my_team(),
        Relation::Unassigned => nobody_assigned(),
        Relation::TeamUnassigned => both(nobody_assigned(), in_my_team()),
        Relation::Pool => both(nobody_assigned(), in_no_team()),
        Relation::Creator => resource.creator().map(|creator| creator == Some(me)),
        Relation::Participant => resource.participants().map(|mut ids| ids.any(|id| id == me)),
        Relation::Public => resource.public(),
    }
}

/// Three-valued "and": false wins over "not said".
fn both(left: Option<bool>, right: Option<bool>) -> Option<bool> {
    match (left, right) {
        (Some(false), _) | (_, Some(false)) => Some(false),
        (Some(true), Some(true)) => Some(true),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn relate(resource: &Resource, teams: &[&str]) -> (Vec<&'static str>, Vec<&'static str>) {
        let teams: Vec<_> = teams.iter().map(|id| TeamId::trusted(id)).collect();
        let relations = Relations::between(&MemberId::trusted("me"), &teams, resource);
        let unsure = relations.possible.iter().filter(|r| !relations.holding.contains(*r));
        (
            relations.holding.iter().map(Relation::name).collect(),
            unsure.map(Relation::name).collect(),
        )
    }

    fn members(ids: &[&str]) -> Option<Vec<MemberId>> {
        Some(ids.iter().map(|id| MemberId::trusted(id)).collect())
    }

    fn teams(ids: &[&str]) -> Option<Vec<TeamId>> {
        Some(ids.iter().map(|id| TeamId::trusted(id)).collect())
    }

    #[test]
    fn what_was_said_decides_and_what_was_not_said_stays_open() {
        let nothing = Resource::default();
        assert_eq!(
            relate(&nothing, &["t1"]),
            (
                vec!["any"],
                vec![
                    "assignee",
                    "team",
                    "unassigned",
                    "team_unassigned",
                    "pool",
                    "creator",
                    "participant",
                    "public"
                ]
            )
        );
        let said = Resource {
            creator: Some(None),
            participants: Some(vec![]),
            public: Some(false),
            ..Resource::default()
        };
        // A member of no team needs no team list to know that none is theirs.
        assert_eq!(
            relate(&Resource { assignees: members(&[]), ..said.clone() }, &[]),
            (vec!["any", "unassigned"], vec!["pool"])
        );
        assert_eq!(
            relate(&Resource { assignees: members(&["other"]), ..said.clone() }, &["t1"]),
            (vec!["any"], vec!["team"])
        );
        assert_eq!(
            relate(&Resource { teams: teams(&[]), ..said.clone() }, &["t1"]),
            (vec!["any"], vec!["assignee", "unassigned", "pool"])
        );
        assert_eq!(
            relate(
                &Resource { assignees: members(&[]), teams: teams(&[]), ..said.clone() },
                &["t1"]
            ),
            (vec!["any", "unassigned", "pool"], vec![])
        );
        assert_eq!(
            relate(
                &Resource { assignees: members(&[]), teams: teams(&["t2", "t1"]), ..said.clone() },
                &["t1"]
            ),
            (vec!["any", "team", "unassigned", "team_unassigned"], vec![])
        );
        assert_eq!(
            relate(
                &Resource {
                    id: "42".into(),
                    assignees: members(&["me", "other"]),
                    teams: teams(&["t1"]),
                    creator: Some(Some(MemberId::trusted("me"))),
                    participants: members(&["me"]),
                    public: Some(true),
                },
                &["t1"]
            ),
            (vec!["any", "assignee", "team", "creator", "participant", "public"], vec![])
        );
    }
}
