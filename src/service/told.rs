//! Telling the audit trail what became of members: each change of a member's roles stands under the
//! member, and under the roles that it lost and got.
//!
//! A change can be of very many members: a directory sync, a deletion that gives all holders of a role
//! another one, a catalog that renames a default role. It is told in parts, events of the same
//! revision, of which none is large; and what is moved by one statement is read and told a page at a
//! time before that, so that nothing grows with the number of holders but the trail.

use std::collections::BTreeSet;

use serde_json::Value;

use super::error::ServiceError;
use super::write::{Operation, Trace};
use crate::domain::ids::{MemberId, RoleId};
use crate::domain::member::Member;
use crate::store::{MemberFilter, RoleMembers};

/// The most members, and about the most JSON, of which one audit event tells: whoever lists or
/// erases holds a few of them at a time.
const TOLD_AT_ONCE: usize = 100;
const TOLD_BYTES: usize = 64 << 10;

/// How many holders of a role are read at a time.
const HOLDERS_AT_ONCE: u64 = 500;

/// Roles that a member holds in one of two states only; all of one that is new or deleted.
pub(super) fn moved_roles(before: Option<&Member>, after: Option<&Member>) -> Vec<RoleId> {
    let of = |member: Option<&Member>| -> BTreeSet<RoleId> {
        member.into_iter().flat_map(|member| member.roles.iter().cloned()).collect()
    };
    of(before).symmetric_difference(&of(after)).cloned().collect()
}

/// Audit event of a change of one member.
pub(super) fn told(before: Option<&Member>, after: &Member) -> Trace {
    let trace = Trace::of(before, Some(after)).member(&after.id);
    Trace { roles: moved_roles(before, Some(after)), ..trace }
}

/// Record of one member's change, to stand among others in an event.
struct Told {
    member: MemberId,
    roles: Vec<RoleId>,
    was: Option<Value>,
    is: Option<Value>,
    bytes: usize,
}

impl Told {
    fn of(was: Option<&Member>, is: &Member) -> Self {
        let Trace { roles, before: was, after, .. } = told(was, is);
        let bytes = [&was, &after].into_iter().flatten().map(|told| told.to_string().len()).sum();
        Told { member: is.id.clone(), roles, was, is: after, bytes }
    }
}

/// Audit events of a change of many members. What was before is in the order of what is after,
/// without those that were not there.
pub(super) fn told_in_parts(
    before: Vec<Member>,
    after: Vec<Member>,
) -> impl Iterator<Item = Trace> {
    let (mut before, mut after) = (before.into_iter().peekable(), after.into_iter());
    let mut next = move || {
        let is = after.next()?;
        Some(Told::of(before.next_if(|was| was.id == is.id).as_ref(), &is))
    };
    let mut held = next();
    std::iter::from_fn(move || {
        let (mut members, mut was, mut is, mut bytes) = (Vec::new(), Vec::new(), Vec::new(), 0);
        let mut roles = BTreeSet::new();
        while let Some(told) = held.take_if(|told| {
            members.is_empty() || (members.len() < TOLD_AT_ONCE && bytes + told.bytes <= TOLD_BYTES)
        }) {
            members.push(told.member);
            roles.extend(told.roles);
            was.extend(told.was);
            is.extend(told.is);
            bytes += told.bytes;
            held = next();
        }
        let roles = roles.into_iter().collect();
        let (before, after) = (Some(Value::Array(was)), Some(Value::Array(is)));
        (!members.is_empty()).then_some(Trace { roles, members, before, after })
    })
}

impl Operation {
    /// Gives the holders of a role another one instead, or none, archived ones too, and tells of
    /// each. Says how many that were.
    pub(super) async fn move_holders(
        &self,
        from: &RoleId,
        to: Option<&RoleId>,
    ) -> Result<RoleMembers, ServiceError> {
        if !self.is_trial() {
            self.tell_of_holders(from, to).await?;
        }
        Ok(match to {
            Some(to) => {
                let (active, archived) = self.tx.reassign_role(from, to, self.now).await?;
                RoleMembers { active, archived }
            }
            // It is refused while an active member holds it.
            None => RoleMembers { active: 0, archived: self.tx.strip_role(from, self.now).await? },
        })
    }

    async fn tell_of_holders(
        &self,
        from: &RoleId,
        to: Option<&RoleId>,
    ) -> Result<(), ServiceError> {
        let filter = MemberFilter { role: Some(from.clone()), ..MemberFilter::default() };
        let mut last: Option<MemberId> = None;
        loop {
            let page =
                self.tx.members(self.tenant_id(), &filter, last.as_ref(), HOLDERS_AT_ONCE).await?;
            let complete = (page.len() as u64) < HOLDERS_AT_ONCE;
            last = page.last().map(|member| member.id.clone()).or(last);
            let after = page.iter().map(|member| Member {
                roles: moved(&member.roles, from, to),
                revision: self.tx.next_revision(),
                updated_at: self.now,
                ..member.clone()
            });
            let after = after.collect();
            self.tell(told_in_parts(page, after)).await?;
            if complete {
                return Ok(());
            }
        }
    }
}

/// Roles with one of them replaced where it stands; whoever has the other already only loses it.
fn moved(roles: &[RoleId], from: &RoleId, to: Option<&RoleId>) -> Vec<RoleId> {
    let to = to.filter(|to| !roles.contains(to));
    let role = |role: &RoleId| if role == from { to.cloned() } else { Some(role.clone()) };
    roles.iter().filter_map(role).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_role_is_replaced_where_it_stands() {
        let ids = |ids: &[&str]| ids.iter().map(|id| RoleId::trusted(id)).collect::<Vec<_>>();
        let (b, c) = (RoleId::trusted("b"), RoleId::trusted("c"));
        for (to, roles, expected) in [
            (Some(&c), &["a", "b", "d"][..], &["a", "c", "d"][..]),
            (Some(&c), &["c", "b"], &["c"]),
            (Some(&c), &["a"], &["a"]),
            (None, &["a", "b", "d"], &["a", "d"]),
            (None, &["b"], &[]),
        ] {
            assert_eq!(moved(&ids(roles), &b, to), ids(expected), "{roles:?} to {to:?}");
        }
    }
}
