//! Consistency tokens: opaque texts that name database, epoch, tenant and revision.
//!
//! Layout, before the seal: version (1 byte), database id (16), epoch (8), revision (8), the first
//! 16 bytes of the tenant id's SHA-256. The tenant is in the token as a digest, so that a client
//! may mix tokens of several tenants and the right one is found, while a token stays short whatever
//! the ids are.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use sha2::{Digest, Sha256};

use super::error::ServiceError;
use super::seal::Seal;
use crate::domain::ids::TenantId;
use crate::domain::refusal::{Problem, Refusal};
use crate::store::{DatabaseIdentity, Freshness};

const VERSION: u8 = 1;
const PURPOSE: &[&[u8]] = &[b"consistency-token"];
/// The most tokens that one request may carry.
pub const MAX_TOKENS: usize = 100;

/// How fresh the caller wants an answer to be.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Consistency {
    /// Whatever is at hand.
    #[default]
    MinimizeLatency,
    /// At least as fresh as these tokens.
    AtLeastAsFresh(Vec<String>),
    /// What the database says now.
    FullyConsistent,
}

/// Makes and reads the tokens of one database.
#[derive(Debug, Clone)]
pub struct Tokens {
    seal: Seal,
    database: [u8; 16],
    /// The id of the epoch that is followed. Shared by all clones: it changes when a backup is
    /// restored under a running replica, and when the database fails over.
    epoch: Arc<AtomicU64>,
}

struct Parts {
    database: [u8; 16],
    epoch: u64,
    revision: u64,
    tenant: [u8; 16],
}

impl Tokens {
    /// The tokens of this database.
    #[must_use]
    pub fn new(identity: &DatabaseIdentity) -> Self {
        Tokens {
            seal: Seal::new(identity.signing_key),
            database: *identity.database_id.as_bytes(),
            epoch: Arc::new(AtomicU64::new(identity.epoch().id())),
        }
    }

    /// The restore epoch that tokens are made in.
    pub(super) fn epoch(&self) -> u64 {
        self.epoch.load(Ordering::Acquire)
    }

    /// The seal of this database.
    pub(super) fn seal(&self) -> &Seal {
        &self.seal
    }

    /// Takes on the database's epoch, by its id; `true` when it is a new one. Tokens of the old one
    /// are foreign from now on.
    pub fn begin_epoch(&self, epoch: u64) -> bool {
        self.epoch.swap(epoch, Ordering::AcqRel) != epoch
    }

    /// The token of a tenant at a revision of the epoch with this id: the one that the revision was
    /// read or written in, whichever is followed by now.
    #[must_use]
    pub fn issue(&self, tenant: &TenantId, epoch: u64, revision: u64) -> String {
        let mut bytes = Vec::with_capacity(49);
        bytes.push(VERSION);
        bytes.extend_from_slice(&self.database);
        bytes.extend_from_slice(&epoch.to_be_bytes());
        bytes.extend_from_slice(&revision.to_be_bytes());
        bytes.extend_from_slice(&digest(tenant));
        self.seal.close(PURPOSE, &bytes)
    }

    /// The freshness that a caller asks for: the newest of its tokens for the tenant.
    ///
    /// # Errors
    /// A refusal when a token is garbled or foreign, when there is none, or when none of them is
    /// this tenant's: ignoring it would answer at a state that the caller did not ask for.
    pub fn freshness(
        &self,
        tenant: &TenantId,
        consistency: &Consistency,
    ) -> Result<Freshness, ServiceError> {
        let tokens = match consistency {
            Consistency::MinimizeLatency => return Ok(Freshness::MinimizeLatency),
            Consistency::FullyConsistent => return Ok(Freshness::FullyConsistent),
            Consistency::AtLeastAsFresh(tokens) => tokens,
        };
        const FIELD: &str = "consistency.at_least_as_fresh.tokens";
        if tokens.is_empty() {
            return Err(Refusal::invalid(FIELD, Problem::Required).into());
        }
        if tokens.len() > MAX_TOKENS {
            let problem = Problem::TooManyItems { count: tokens.len(), limit: MAX_TOKENS };
            return Err(Refusal::invalid(FIELD, problem).into());
        }
        let wanted = digest(tenant);
        let mut newest = None;
        for (index, token) in tokens.iter().enumerate() {
            let field = || format!("{FIELD}[{index}]");
            // An unknown token reads the same whether it is garbled or sealed with another
            // database's key: the key is what would tell. Where the database was cloned with its
            // key, its id and epoch tell.
            let parts = self
                .read(token)
                .ok_or_else(|| Refusal::invalid(field(), Problem::ConsistencyTokenInvalid))?;
            if parts.database != self.database || parts.epoch != self.epoch() {
                return Err(Refusal::invalid(field(), Problem::ConsistencyTokenForeign).into());
            }
            if parts.tenant == wanted {
                newest = newest.max(Some(parts.revision));
            }
        }
        match newest {
            Some(revision) => Ok(Freshness::AtLeast(revision)),
            None => Err(Refusal::invalid(FIELD, Problem::ConsistencyTokenOtherTenant).into()),
        }
    }

    fn read(&self, token: &str) -> Option<Parts> {
        let bytes = self.seal.open(PURPOSE, token)?;
        let (version, rest) = bytes.split_first()?;
        let (database, rest) = rest.split_first_chunk()?;
        let (epoch, rest) = rest.split_first_chunk()?;
        let (revision, rest) = rest.split_first_chunk()?;
        let (tenant, rest) = rest.split_first_chunk()?;
        (*version == VERSION && rest.is_empty()).then(|| Parts {
            database: *database,
            epoch: u64::from_be_bytes(*epoch),
            revision: u64::from_be_bytes(*revision),
            tenant: *tenant,
        })
    }
}

fn digest(tenant: &TenantId) -> [u8; 16] {
    let mut short = [0; 16];
    for (to, from) in short.iter_mut().zip(Sha256::digest(tenant.as_str())) {
        *to = from;
    }
    short
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::History;

    fn identity(database: u128, epoch: u64) -> DatabaseIdentity {
        DatabaseIdentity {
            database_id: uuid::Uuid::from_u128(database),
            epoch,
            history: History::default(),
            signing_key: [9; 32],
        }
    }

    fn ask(tokens: &Tokens, tenant: &str, given: &[&str]) -> Result<Freshness, Problem> {
        let given = given.iter().map(|t| (*t).to_owned()).collect();
        match tokens.freshness(&TenantId::trusted(tenant), &Consistency::AtLeastAsFresh(given)) {
            Ok(freshness) => Ok(freshness),
            Err(ServiceError::Refused(Refusal::Invalid(violations))) => {
                Err(violations[0].problem.clone())
            }
            Err(other) => panic!("{other}"),
        }
    }

    #[test]
    fn the_newest_for_the_tenant_counts_and_strangers_are_told() {
        let ours = Tokens::new(&identity(1, 1));
        let token = |tenant: &str, revision| ours.issue(&TenantId::trusted(tenant), 1, revision);
        let (a3, a7, b9) = (token("a", 3), token("a", 7), token("b", 9));
        assert_eq!(ask(&ours, "a", &[&a3]), Ok(Freshness::AtLeast(3)));
        assert_eq!(ask(&ours, "a", &[&a3, &b9, &a7, &a3]), Ok(Freshness::AtLeast(7)));
        assert_eq!(ask(&ours, "a", &[&b9]), Err(Problem::ConsistencyTokenOtherTenant));
        assert_eq!(ask(&ours, "a", &[]), Err(Problem::Required));
        assert_eq!(ask(&ours, "a", &[&a3[1..]]), Err(Problem::ConsistencyTokenInvalid));
        assert_eq!(ask(&ours, "a", &["zzz"]), Err(Problem::ConsistencyTokenInvalid));
        let too_many = vec![a3.as_str(); 101];
        assert_eq!(
            ask(&ours, "a", &too_many),
            Err(Problem::TooManyItems { count: 101, limit: 100 })
        );
        let failed_over =
            DatabaseIdentity { history: History { system: 1, timeline: 2 }, ..identity(1, 1) };
        for other in [identity(2, 1), identity(1, 2), failed_over] {
            let epoch = other.epoch().id();
            let foreign = Tokens::new(&other).issue(&TenantId::trusted("a"), epoch, 1);
            assert_eq!(ask(&ours, "a", &[&foreign]), Err(Problem::ConsistencyTokenForeign));
        }
    }
}
