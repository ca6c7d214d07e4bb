//! Who calls: the service on the other end of the connection, not the member it asks about. What a
//! caller may do, and which tenants there are for it, is decided here and nowhere else.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::sync::Arc;

use super::allowance::{Allowance, RateExceeded};
use super::under_way::UnderWay;
use crate::domain::ids::TenantId;

/// What a caller may be allowed to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Capability {
    /// Ask for decisions.
    Check,
    /// Read what is stored.
    Read,
    /// Change things by itself, and in any member's name.
    Admin,
    /// Follow changes.
    Watch,
    /// Change things in the name of a member, within what that member may do.
    Act,
}

impl Capability {
    /// All of them.
    pub const ALL: [Capability; 5] = [
        Capability::Check,
        Capability::Read,
        Capability::Admin,
        Capability::Watch,
        Capability::Act,
    ];

    /// As it stands in a callers file.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Capability::Check => "check",
            Capability::Read => "read",
            Capability::Admin => "admin",
            Capability::Watch => "watch",
            Capability::Act => "act",
        }
    }

    /// The one of this name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|capability| capability.name() == name)
    }
}

/// A set of capabilities.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Capabilities(u8);

impl Capabilities {
    /// Whether this one is among them. Who may change anything may also do so for a member.
    #[must_use]
    pub fn include(self, capability: Capability) -> bool {
        let has = |capability: Capability| self.0 & (1 << capability as u8) != 0;
        has(capability) || (capability == Capability::Act && has(Capability::Admin))
    }
}

impl FromIterator<Capability> for Capabilities {
    fn from_iter<I: IntoIterator<Item = Capability>>(capabilities: I) -> Self {
        Capabilities(capabilities.into_iter().fold(0, |set, one| set | (1 << one as u8)))
    }
}

/// A calling service. Authentication puts an `Arc` of it into the request; without one, nothing is
/// answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// Its name, as it stands in the audit.
    pub name: String,
    /// What it may do.
    pub capabilities: Capabilities,
    /// The tenants that there are for it; `None`: all.
    pub tenants: Option<BTreeSet<TenantId>>,
    /// How much it may ask; `None`: without end.
    pub allowance: Option<Arc<Allowance>>,
    /// What it has under way, of which one caller among others has its share at most; `None`: it is the
    /// only one.
    pub under_way: Option<UnderWay>,
}

impl Caller {
    /// The one caller of development mode, who may do anything.
    #[must_use]
    pub fn development() -> Self {
        Caller {
            name: "dev".to_owned(),
            capabilities: Capability::ALL.into_iter().collect(),
            tenants: None,
            allowance: None,
            under_way: None,
        }
    }

    /// Whether it may ask one question, which then counts. Who is told no goes on to where
    /// [`Caller::spend`] is asked, which says why.
    #[must_use]
    pub fn may_ask(&self) -> bool {
        self.allowance.as_ref().is_none_or(|allowance| allowance.take(1).is_ok())
    }

    /// Counts so many questions, which are only looked at where there is a limit.
    ///
    /// # Errors
    /// They are more than it may ask now.
    pub fn spend(&self, questions: impl FnOnce() -> usize) -> Result<(), RateExceeded> {
        let Some(allowance) = &self.allowance else { return Ok(()) };
        let questions = questions() as u64;
        allowance.take(questions).map_err(|retry_after| {
            allowance.refuse(&self.name, questions);
            let limit = allowance.limit();
            RateExceeded { caller: self.name.clone(), limit, questions, retry_after }
        })
    }

    /// Whether there is this tenant for it, if there is one at all.
    #[must_use]
    pub fn sees(&self, tenant: &TenantId) -> bool {
        self.sees_named(tenant.as_str())
    }

    /// The same of a tenant whose id has not been taken out of its message.
    #[must_use]
    pub fn sees_named(&self, tenant: &str) -> bool {
        self.tenants.as_ref().is_none_or(|tenants| tenants.contains(tenant))
    }

    /// The tenant that it means by this id: for one that it does not see, an id under which there is
    /// nothing, so that everything goes as if nobody had ever made that tenant.
    #[must_use]
    pub fn reach<'t>(&self, tenant: &'t TenantId) -> Cow<'t, TenantId> {
        if self.sees(tenant) { Cow::Borrowed(tenant) } else { Cow::Owned(tenant.out_of_reach()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_capability_is_itself_and_admin_also_acts() {
        for given in Capability::ALL {
            assert_eq!(Capability::named(given.name()), Some(given));
            let set: Capabilities = [given].into_iter().collect();
            for asked in Capability::ALL {
                let expected =
                    given == asked || (given == Capability::Admin && asked == Capability::Act);
                assert_eq!(set.include(asked), expected, "{given:?} {asked:?}");
            }
        }
        assert!(!Capabilities::default().include(Capability::Check));
        assert_eq!(Capability::named("Admin"), None);
    }

    #[test]
    fn a_caller_reaches_its_own_tenants_only() {
        let [ours, other] = ["a", "A"].map(TenantId::trusted);
        let everybody = Caller::development();
        let bound = Caller { tenants: Some([ours.clone()].into()), ..everybody.clone() };
        let nothing = Caller { tenants: Some(BTreeSet::new()), ..everybody.clone() };
        assert!(everybody.sees(&other) && bound.sees(&ours));
        assert!(!bound.sees(&other) && !nothing.sees(&ours));
        assert_eq!(*bound.reach(&ours), ours);
        assert_eq!(*bound.reach(&other), other.out_of_reach());
    }
}
