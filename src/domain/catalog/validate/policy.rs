//! Plans and limits, deletion, and who may administer.

use super::super::raw::{RawCatalog, RawDeletion};
use super::super::{Administration, DeletionPolicy, Grantable, PermissionIx, Plan};
use super::Draft;
use super::register::{Form, Register};
use crate::domain::document::{Word, did_you_mean};
use crate::domain::name::RoleName;

/// What stands for the role's name in a confirmation text.
const NAME: &str = "{name}";

impl Draft<'_> {
    /// Takes everything over that is not about single permissions.
    pub(super) fn policy(&mut self, raw: &RawCatalog) {
        self.plans(raw);
        if let Some(deletion) = &raw.deletion {
            self.deletion(deletion);
        }
        let administration = &raw.administration;
        let roles = self.guard("roles", administration.roles.as_ref());
        let members = self.guard("members", administration.members.as_ref());
        let member_removal = match &administration.member_removal {
            Some(word) => self.guard("member_removal", Some(word)),
            None => members,
        };
        if let (Some(roles), Some(members), Some(member_removal)) = (roles, members, member_removal)
        {
            self.catalog.administration = Administration { roles, members, member_removal };
        }
    }

    fn plans(&mut self, raw: &RawCatalog) {
        let mut register = Register::new("plan");
        for plan in &raw.plans {
            if let Some(id) = &plan.id
                && register.add(id, self.catalog.plans.len(), Form::Word, self.problems)
            {
                let plan =
                    Plan { id: id.text.clone(), title: plan.title.clone(), custom_roles: None };
                self.catalog.plans.push(plan);
            }
        }
        for (word, limit) in &raw.limits {
            let found = register.find(word, "in limits.custom_roles", self.problems);
            if let Some(plan) = found.and_then(|position| self.catalog.plans.get_mut(position)) {
                plan.custom_roles = Some(*limit);
            }
        }
    }

    fn deletion(&mut self, raw: &RawDeletion) {
        const POLICIES: [&str; 2] = ["reassign", "refuse_while_assigned"];
        let Some(policy) = &raw.policy else { return };
        match (policy.text.as_str(), &raw.confirmation) {
            ("reassign", None) => self.catalog.deletion = DeletionPolicy::Reassign,
            ("reassign", Some(word)) => self
                .problems
                .report(word.at, "confirmation only goes with policy = \"refuse_while_assigned\""),
            ("refuse_while_assigned", confirmation) => {
                if let Some(word) = confirmation {
                    self.confirmation(word);
                }
                let confirmation = confirmation.as_ref().map(|word| word.text.clone());
                self.catalog.deletion = DeletionPolicy::RefuseWhileAssigned { confirmation };
            }
            (other, _) => {
                let hint = did_you_mean(other, POLICIES);
                let message = format!(
                    "policy of [deletion] must be {}, not {policy}{hint}",
                    POLICIES.join(" or ")
                );
                self.problems.report(policy.at, message);
            }
        }
    }

    /// Somebody must be able to type it exactly, so all of it must be seen.
    fn confirmation(&self, word: &Word) {
        let report = |what: &str| {
            self.problems.report(word.at, format!("confirmation {word} {what}"));
        };
        match RoleName::parse(&word.text) {
            Err(error) => report(&error.to_string()),
            Ok(visible) if visible.as_str() != word.text => {
                report("must not begin or end with spaces, which nobody would type");
            }
            Ok(_) => {}
        }
        if word.text.replace(NAME, "").contains(['{', '}']) {
            report(
                "has braces around something other than {name}, which stands for the role's name",
            );
        }
    }

    /// A permission that guards administration calls. Such a call is about no resource, and not
    /// for everyone.
    fn guard(&self, key: &str, word: Option<&Word>) -> Option<PermissionIx> {
        let word = word?;
        let whence = format!("in {key} of [administration]");
        let ix = self.permissions.find(word, &whence, self.problems)?;
        let permission = self.catalog.permission(ix);
        let leader = self.catalog.permission(self.catalog.leader(ix));
        if matches!(permission.grantable, Grantable::Base(_)) {
            let message = format!(
                "{key} of [administration]: every member holds {word}, so it guards nothing"
            );
            self.problems.report(word.at, message);
        } else if !leader.scopes.is_empty() {
            let message = format!(
                "{key} of [administration]: {word} has scopes, but an administration call is about \
                 no resource"
            );
            self.problems.report(word.at, message);
        }
        Some(ix)
    }
}
