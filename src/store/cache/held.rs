//! What decisions need of a member beside its id: members of whom the same is true share it.
//!
//! Most members of a tenant hold one of a few roles, and many are in the same teams, so what is
//! theirs alone is their id. Where the teams differ, the lists of roles and the texts of the ids are
//! still shared. That two tenants' members share something tells nobody anything: it is equal, and
//! nothing in it can be changed.

use std::sync::Arc;

use super::interner::{Budget, COUNTS, Interner, Part};
use crate::domain::ids::{MemberId, RoleId, TeamId};
use crate::domain::member::{Member, MemberStatus, Subject};
use crate::domain::role::CompiledRole;

/// What a member is, holds and belongs to.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct Held {
    status: MemberStatus,
    pub(super) roles: Arc<[RoleId]>,
    teams: Arc<[TeamId]>,
    /// What of this is not shared, in bytes, for whoever keeps it to count.
    pub(super) alone: usize,
}

impl Held {
    /// The member as decisions take it; nothing when one of its roles is not to be had.
    pub(super) fn subject(
        &self,
        id: MemberId,
        mut compiled: impl FnMut(&RoleId) -> Option<Arc<CompiledRole>>,
    ) -> Option<Subject> {
        let ready = |role: &RoleId| Some((role.clone(), compiled(role)?));
        let roles = self.roles.iter().map(ready).collect::<Option<_>>()?;
        Some(Subject { id, status: self.status, teams: Arc::clone(&self.teams), roles })
    }
}

impl Part for Arc<Held> {
    fn is_held(&self) -> bool {
        Arc::strong_count(self) > 1
    }

    fn bytes(&self) -> usize {
        COUNTS + size_of::<Held>()
    }
}

impl Part for RoleId {
    fn is_held(&self) -> bool {
        self.has_clones()
    }

    fn bytes(&self) -> usize {
        COUNTS + self.as_str().len()
    }
}

impl Part for TeamId {
    fn is_held(&self) -> bool {
        self.has_clones()
    }

    fn bytes(&self) -> usize {
        COUNTS + self.as_str().len()
    }
}

/// What is shared, of all tenants, each once.
#[derive(Debug)]
pub(super) struct Sharing {
    budget: Budget,
    role_ids: Interner<RoleId>,
    team_ids: Interner<TeamId>,
    roles: Interner<Arc<[RoleId]>>,
    teams: Interner<Arc<[TeamId]>>,
    held: Interner<Arc<Held>>,
}

impl Sharing {
    /// Of at most about this many bytes.
    pub(super) fn new(bytes: u64) -> Self {
        Sharing {
            budget: Budget::new(bytes),
            role_ids: Interner::new(),
            team_ids: Interner::new(),
            roles: Interner::new(),
            teams: Interner::new(),
            held: Interner::new(),
        }
    }

    /// What is shared, in bytes.
    pub(super) fn bytes(&self) -> u64 {
        self.budget.used()
    }

    /// What it may be.
    pub(super) fn limit(&self) -> u64 {
        self.budget.limit()
    }

    /// What is true of the member, made of what others hold already as far as it can be.
    pub(super) fn held(&self, member: &Member) -> Arc<Held> {
        let mut alone = 0;
        let roles = self.list(&member.roles, &self.role_ids, &self.roles, &mut alone);
        let teams = self.list(&member.teams, &self.team_ids, &self.teams, &mut alone);
        let mut held = Arc::new(Held { status: member.status, roles, teams, alone });
        // What has parts of its own is equal to nobody else's.
        let shared = if alone == 0 { self.held.share(&held, &self.budget) } else { None };
        shared.unwrap_or_else(|| {
            let bytes = held.bytes();
            if let Some(own) = Arc::get_mut(&mut held) {
                own.alone += bytes;
            }
            held
        })
    }

    fn list<Id: Part>(
        &self,
        ids: &[Id],
        texts: &Interner<Id>,
        lists: &Interner<Arc<[Id]>>,
        alone: &mut usize,
    ) -> Arc<[Id]> {
        let mut shared = Vec::with_capacity(ids.len());
        let mut own = 0;
        for id in ids {
            shared.push(texts.share(id, &self.budget).unwrap_or_else(|| {
                own += id.bytes();
                id.clone()
            }));
        }
        let list: Arc<[Id]> = shared.into();
        // Whoever else had this list would keep texts that only this member counts.
        let known = if own == 0 { lists.share(&list, &self.budget) } else { None };
        known.unwrap_or_else(|| {
            *alone += own + list.bytes();
            list
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Timestamp;

    fn member(id: &str, roles: &[&str], teams: &[&str]) -> Member {
        Member {
            id: MemberId::trusted(id),
            status: MemberStatus::Active,
            roles: roles.iter().map(|id| RoleId::trusted(id)).collect(),
            teams: teams.iter().map(|id| TeamId::trusted(id)).collect(),
            revision: id.len() as u64,
            created_at: Timestamp(1),
            updated_at: Timestamp(2),
        }
    }

    fn same_text(one: &TeamId, other: &TeamId) -> bool {
        std::ptr::eq(one.as_str(), other.as_str())
    }

    #[test]
    fn members_of_whom_the_same_is_true_share_it() {
        let sharing = Sharing::new(1 << 20);
        let kim = sharing.held(&member("kim", &["agent"], &["a", "b"]));
        let used = sharing.bytes();
        let lee = sharing.held(&member("lee-with-a-longer-id", &["agent"], &["a", "b"]));
        assert!(Arc::ptr_eq(&kim, &lee));
        assert_eq!((sharing.bytes(), kim.alone), (used, 0));

        let archived =
            Member { status: MemberStatus::Archived, ..member("may", &["agent"], &["a", "b"]) };
        for other in [
            archived,
            member("may", &["lead"], &["a", "b"]),
            member("may", &["agent"], &["b"]),
            member("may", &[], &["a", "b"]),
        ] {
            let held = sharing.held(&other);
            assert_eq!(
                (held.status, &*held.roles, &*held.teams),
                (other.status, &*other.roles, &*other.teams),
            );
        }
    }

    #[test]
    fn what_is_equal_of_those_who_differ_is_shared() {
        let sharing = Sharing::new(1 << 20);
        let kim = sharing.held(&member("kim", &["agent"], &["a", "b"]));
        let lee = sharing.held(&member("lee", &["lead"], &["a", "b"]));
        let may = sharing.held(&member("may", &["lead"], &["b", "c"]));
        assert!(Arc::ptr_eq(&kim.teams, &lee.teams));
        assert!(Arc::ptr_eq(&lee.roles, &may.roles));
        assert!(same_text(&kim.teams[1], &may.teams[0]));
        // A view shares it as well.
        let compiled = |role: &RoleId| (role.as_str() == "agent").then(Arc::default);
        let subject = kim.subject(MemberId::trusted("kim"), compiled).unwrap();
        assert!(Arc::ptr_eq(&subject.teams, &kim.teams));
        // And there is none with a role that is gone.
        assert!(lee.subject(MemberId::trusted("lee"), compiled).is_none());
    }

    #[test]
    fn a_list_with_texts_that_one_member_counts_is_nobody_elses() {
        // The texts of these teams find no place, and their list, which takes less, would.
        let sharing = Sharing::new(150);
        let teams = ["a", "b"].map(|team| team.repeat(128));
        let kim = member("kim", &[], &[teams[0].as_str(), teams[1].as_str()]);
        let texts: usize = kim.teams.iter().map(Part::bytes).sum();
        let (one, other) = (sharing.held(&kim), sharing.held(&kim));
        assert!(!Arc::ptr_eq(&one.teams, &other.teams));
        assert!(one.alone >= texts && other.alone >= texts, "{} {}", one.alone, other.alone);
    }

    #[test]
    fn what_finds_no_place_among_the_shared_counts_where_it_is_kept() {
        let sharing = Sharing::new(600);
        let first = sharing.held(&member("kim", &["agent"], &["a"]));
        assert_eq!(first.alone, 0);
        let teams = ["b", "c", "d", "e", "f", "g", "h"];
        let lee = member("lee", &["agent"], &teams);
        let (one, other) = (sharing.held(&lee), sharing.held(&lee));
        assert!(!Arc::ptr_eq(&one, &other));
        assert!(Arc::ptr_eq(&one.roles, &other.roles));
        assert_eq!(&*one.teams, lee.teams.as_slice());
        // Its own place and that of its list of teams, at the least.
        let least = one.bytes() + one.teams.bytes();
        assert!(one.alone >= least, "{} < {least}", one.alone);
        assert!(sharing.bytes() <= 600);
    }
}
