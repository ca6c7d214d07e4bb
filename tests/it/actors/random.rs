//! Whatever sequence of mutations an actor manages to make, nobody ends up with more than it had
//! before or the actor had, nothing is taken from who holds what the actor lacks, nor is a role of
//! theirs renamed, the actor itself stays as it is, and an owner remains. What it did to a member it
//! could undo.
//!
//! Compared is what is really reached: for relations through teams, in which team. The rules of
//! `domain::actor` are not used for that.

use std::collections::{BTreeMap, BTreeSet};

use rolegate::domain::ids::{MemberId, RoleId};
use rolegate::domain::member::{Member, MemberStatus};
use rolegate::domain::relation::Relation;
use rolegate::domain::role::{CompiledRole, CustomRole};
use rolegate::service::roles::{Deletion, RoleDraft, RoleEdit};
use rolegate::service::upsert::{Batch, BatchMode, ItemOutcome, Upsert};
use rolegate::store::MemberFilter;

use super::{House, alone, grants, member, name, on_behalf, outcome, role, team_ids, trial};

/// `ROLEGATE_PROPERTY_CASES` asks for another number.
const CASES: u64 = 16;
const WRITES: usize = 40;
const TEAMS: [&str; 3] = ["mine", "other", "third"];
const PEOPLE: [&str; 8] = ["me", "a", "b", "c", "d", "e", "new1", "new2"];
const GRANTS: [&str; 12] = [
    "doc.view at own",
    "doc.view at group",
    "doc.view at desk",
    "doc.view at all",
    "doc.edit at own",
    "doc.edit at group",
    "doc.delete",
    "doc.queue at waiting",
    "doc.queue at team",
    "doc.queue at all",
    "archive.list",
    "archive.export",
];

/// xorshift64*: the same cases every time.
struct Dice(u64);

impl Dice {
    fn below(&mut self, sides: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % sides
    }

    fn of<'a, T>(&mut self, all: &'a [T]) -> &'a T {
        &all[self.below(all.len())]
    }

    fn some<T: Clone + PartialEq>(&mut self, most: usize, all: &[T]) -> Vec<T> {
        let mut some = Vec::new();
        for _ in 0..self.below(most + 1) {
            let one = self.of(all).clone();
            if !some.contains(&one) {
                some.push(one);
            }
        }
        some
    }

    fn grants(&mut self) -> Vec<&'static str> {
        let mut all: Vec<&str> = Vec::new();
        // Often so few that the actor may hold them.
        let most = [1, 2, 5][self.below(3)];
        for grant in self.some(most, &GRANTS) {
            let permission = |text: &str| text.split(' ').next().unwrap().to_owned();
            if !all.iter().any(|held| permission(held) == permission(grant)) {
                all.push(grant);
            }
        }
        all
    }
}

/// What a member reaches: permission, relation, and the team for relations through one.
type Reached = BTreeSet<(String, &'static str, Option<String>)>;

struct Seen {
    members: BTreeMap<MemberId, Member>,
    roles: BTreeMap<RoleId, CompiledRole>,
    names: BTreeMap<RoleId, String>,
}

impl Seen {
    async fn at(house: &House) -> Self {
        let tx = house.store.read().await.unwrap();
        let custom = tx.roles(&house.tenant, None, 1_000).await.unwrap();
        let all = tx.members(&house.tenant, &MemberFilter::default(), None, 1_000).await.unwrap();
        let names = custom.iter().map(|role| (role.id.clone(), role.name.to_string())).collect();
        let compiled = |role: CustomRole| (role.id.clone(), role.compile(&house.catalog));
        let defaults = house.catalog.default_roles().iter();
        let defaults = defaults.map(|role| (role.id.clone(), CompiledRole::clone(&role.compiled)));
        Seen {
            members: all.into_iter().map(|member| (member.id.clone(), member)).collect(),
            roles: defaults.chain(custom.into_iter().map(compiled)).collect(),
            names,
        }
    }

    /// Whether this member holds, or would hold if it were active, something that the other lacks:
    /// a relation, or one through a team that the other does not reach in that team.
    fn outranks(&self, house: &House, member: &Member, other: &Member) -> bool {
        let in_one_team = |member: &Member| {
            self.reached(house, &Member { teams: team_ids(&["mine"]), ..member.clone() })
        };
        !in_one_team(member).is_subset(&in_one_team(other))
            || !self.reached(house, member).is_subset(&self.reached(house, other))
    }

    /// What a member reaches, or what its roles would give it if it is archived.
    fn reached(&self, house: &House, member: &Member) -> Reached {
        let mut reached = Reached::new();
        for (ix, permission) in house.catalog.permissions() {
            let roles = member.roles.iter().filter_map(|role| self.roles.get(role));
            let held = roles
                .fold(house.catalog.base(ix), |held, role| held.union(role.reach(ix).relations));
            for relation in held.iter() {
                let id = || permission.id.clone();
                match relation {
                    Relation::Team | Relation::TeamUnassigned => {
                        // At `any`, in every team there is.
                        let wide = held.contains(Relation::Any)
                            || (relation == Relation::TeamUnassigned
                                && held.contains(Relation::Unassigned));
                        let own = member.teams.iter().map(|team| team.to_string());
                        let teams: Vec<String> = match wide {
                            true => TEAMS.iter().map(|team| (*team).to_owned()).collect(),
                            false => own.collect(),
                        };
                        reached.extend(
                            teams.into_iter().map(|team| (id(), relation.name(), Some(team))),
                        );
                    }
                    _ => drop(reached.insert((id(), relation.name(), None))),
                }
            }
        }
        reached
    }
}

/// Nobody but an active member reaches anything.
fn now(seen: &Seen, house: &House, id: &MemberId) -> Reached {
    match seen.members.get(id).filter(|member| member.status == MemberStatus::Active) {
        Some(member) => seen.reached(house, member),
        None => Reached::new(),
    }
}

#[tokio::test]
async fn no_sequence_of_mutations_gives_more_than_the_actor_holds() {
    let mut outcomes: BTreeMap<&str, (usize, usize)> = BTreeMap::new();
    let mut reasons = BTreeSet::new();
    let asked = std::env::var("ROLEGATE_PROPERTY_CASES").ok();
    for case in 1..=asked.map_or(CASES, |cases| cases.parse().unwrap()) {
        let mut dice = Dice(case.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let (house, me) = populated(&mut dice).await;
        let before = Seen::at(&house).await;
        let mine = now(&before, &house, &me);
        for step in 0..WRITES {
            let last = Seen::at(&house).await;
            let (what, said) = try_something(&mut dice, &house, &me).await;
            let count = outcomes.entry(what).or_default();
            match said.as_str() {
                "yes" => count.0 += 1,
                _ => count.1 += 1,
            }
            reasons.insert(said.clone());
            if said != "yes" {
                continue;
            }
            let after = Seen::at(&house).await;
            let place = format!("case {case}, step {step}, {what}");
            assert_eq!(after.members.get(&me), before.members.get(&me), "{place}");
            let owners = after.members.values();
            assert!(owners.into_iter().any(|m| m.actively_holds(house.catalog.owner())));
            for id in before.members.keys().chain(after.members.keys()) {
                let reaches = now(&after, &house, id);
                let had = now(&before, &house, id);
                let allowed = &had | &mine;
                let more: Vec<_> = reaches.difference(&allowed).collect();
                assert!(more.is_empty(), "{place}: {id} got {more:?}");
                let Some(was) = before.members.get(id) else { continue };
                if !before.outranks(&house, was, &before.members[&me]) {
                    continue;
                }
                let held = before.reached(&house, was);
                let is = after.members.get(id).unwrap_or_else(|| panic!("{place}: {id} is gone"));
                assert_eq!((is.status, &is.teams), (was.status, &was.teams), "{place}: {id}");
                let lost: Vec<_> = held.difference(&after.reached(&house, is)).cloned().collect();
                assert!(lost.is_empty(), "{place}: {id} lost {lost:?}");
                for role in &was.roles {
                    let (old, new) = (before.names.get(role), after.names.get(role));
                    assert_eq!(old, new, "{place}: a role of {id} has another name");
                }
            }
            undone(&house, &me, &last, &Seen::at(&house).await, &place).await;
        }
    }
    for (what, (accepted, refused)) in &outcomes {
        assert!(*accepted > 0 && *refused > 0, "{what}: {accepted} and {refused}: {outcomes:?}");
    }
    for reason in
        ["ACTOR_LACKS_GRANT", "ACTOR_OUTRANKED", "ACTOR_IS_SUBJECT", "OWNER_REQUIRED", "yes"]
    {
        assert!(reasons.contains(reason), "{reason} is not in {reasons:?}");
    }
}

/// Whether the actor could give back what it took from a member, and take back what it gave.
async fn undone(house: &House, me: &MemberId, before: &Seen, after: &Seen, place: &str) {
    for (id, is) in &after.members {
        // What roles give changed for others.
        if before.roles != after.roles {
            return;
        }
        let undo = Upsert { id: id.clone(), roles: None, teams: None, status: None };
        let was = before.members.get(id);
        let said = match was {
            Some(was) if was == is => continue,
            Some(was) => {
                let item = Upsert {
                    roles: Some(was.roles.clone()),
                    teams: Some(was.teams.clone()),
                    status: Some(was.status),
                    ..undo
                };
                let mode = BatchMode::AllOrNothing;
                let batch =
                    Batch { items: vec![Ok(item)], mode, archive_absent: false, etag: None };
                outcome(house.members.upsert(trial(me), &house.tenant, batch).await)
            }
            None => outcome(house.members.delete(trial(me), &house.tenant, id, None).await),
        };
        assert_eq!(said, "yes", "{place}: {was:?} -> {is:?} cannot be undone");
    }
}

/// Random roles, and random members who hold them; `me` administers.
async fn populated(dice: &mut Dice) -> (House, MemberId) {
    let house = House::sqlite("test").await;
    let mut roles = vec![role("owner")];
    for number in 0..4 {
        let draft = RoleDraft {
            name: format!("Role {number}"),
            grants: grants(&dice.grants()),
            expand_requirements: true,
            ..RoleDraft::default()
        };
        // One that a person would have to complete is left out.
        if let Ok(made) = house.roles.create(alone(), &house.tenant, &draft).await {
            roles.push(made.value.role.id);
        }
    }
    let custom = roles[1..].to_vec();
    // Much of what the actor holds, it holds through its teams.
    let administers: &[&str] = match dice.below(3) {
        0 => &["admin.roles"],
        1 => &["admin.roles", "doc.open", "doc.view at group", "doc.queue at team"],
        _ => {
            &["admin.roles", "doc.open", "doc.view at desk", "doc.queue at waiting", "archive.list"]
        }
    };
    let administer = house.role("Administrator", administers).await;
    for id in ["a", "b", "c", "d", "e"] {
        let mut held = dice.some(2, &custom);
        if id == "e" {
            held.push(role("owner"));
        }
        let held: Vec<&RoleId> = held.iter().collect();
        let teams = dice.some(2, &TEAMS);
        let made = house.hire(id, &held, &teams).await;
        if dice.below(4) == 0 {
            let archived = MemberStatus::Archived;
            house.members.set_status(alone(), &house.tenant, &made, archived, None).await.unwrap();
        }
    }
    let mut held = dice.some(3, &custom);
    held.truncate(2);
    held.push(administer);
    let held: Vec<&RoleId> = held.iter().collect();
    let me = house.hire("me", &held, &["mine"]).await;
    (house, me)
}

async fn try_something(dice: &mut Dice, house: &House, me: &MemberId) -> (&'static str, String) {
    let (all, members, tenant) = (&house.roles, &house.members, &house.tenant);
    let seen = Seen::at(house).await;
    let every: Vec<RoleId> = seen.roles.keys().cloned().collect();
    let custom: Vec<RoleId> =
        every.iter().filter(|role| *role != house.catalog.owner()).cloned().collect();
    let act = || on_behalf(me);
    let who = member(dice.of::<&str>(&PEOPLE));
    let teams = team_ids(&dice.some(2, &TEAMS));
    let held = dice.some(2, &every);
    let status = *dice.of(&[MemberStatus::Active, MemberStatus::Archived]);
    match dice.below(11) {
        0 => {
            let draft = RoleDraft {
                name: format!("Made {}", dice.below(1 << 30)),
                grants: grants(&dice.grants()),
                expand_requirements: true,
                ..RoleDraft::default()
            };
            ("create role", outcome(all.create(act(), tenant, &draft).await))
        }
        1 => {
            let name = format!("Copy {}", dice.below(1 << 30));
            let made = all.clone_role(act(), tenant, dice.of(&every), &name, None).await;
            ("clone role", outcome(made))
        }
        2 | 3 => {
            let name = format!("Renamed {}", dice.below(1 << 30));
            let renamed = dice.below(3) == 0;
            let edit = RoleEdit {
                name: renamed.then_some(name),
                grants: (!renamed || dice.below(2) == 0).then(|| grants(&dice.grants())),
                expand_requirements: true,
                ..RoleEdit::default()
            };
            ("update role", outcome(all.update(act(), tenant, dice.of(&custom), &edit).await))
        }
        4 => {
            let reassign_to = Some(dice.of(&every).clone());
            let deletion = Deletion { reassign_to, ..Deletion::default() };
            ("delete role", outcome(all.delete(act(), tenant, dice.of(&custom), &deletion).await))
        }
        5 => ("create member", outcome(members.create(act(), tenant, &who, &held, &teams).await)),
        6 => {
            let done = members.assign_roles(act(), tenant, &who, &held, None).await;
            ("assign roles", outcome(done))
        }
        7 => ("set teams", outcome(members.set_teams(act(), tenant, &who, &teams, None).await)),
        8 => ("set status", outcome(members.set_status(act(), tenant, &who, status, None).await)),
        9 if dice.below(2) == 0 => {
            ("delete member", outcome(members.delete(act(), tenant, &who, None).await))
        }
        _ => {
            let another = member(dice.of::<&str>(&PEOPLE));
            let item = |id: &MemberId| Upsert {
                id: id.clone(),
                roles: Some(held.clone()),
                teams: Some(teams.clone()),
                status: Some(status),
            };
            let mut items = vec![Ok(item(&who))];
            if another != who {
                items.push(Ok(item(&another)));
            }
            let mode = *dice.of(&[BatchMode::AllOrNothing, BatchMode::ItemByItem]);
            let archive_absent = mode == BatchMode::ItemByItem && dice.below(6) == 0;
            let batch = Batch { items, mode, archive_absent, etag: None };
            match members.upsert(act(), tenant, batch).await {
                Ok(written) => {
                    let refused = written.value.items.iter().find_map(|(_, item)| match item {
                        ItemOutcome::Refused(refusal) => Some(name(refusal)),
                        _ => None,
                    });
                    // Other items went on: looked at all the same.
                    let alone = written.value.items.len() == 1;
                    ("batch", refused.filter(|_| alone).unwrap_or("yes".to_owned()))
                }
                refused => ("batch", outcome(refused)),
            }
        }
    }
}
