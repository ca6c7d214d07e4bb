//! What somebody does not hold.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::domain::catalog::{Catalog, PermissionIx};
use crate::domain::relation::RelationSet;

/// How many permissions are named.
const NAMED: usize = 5;

/// Relations of a permission that are not held.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Missing {
    /// The permission's id.
    pub permission: String,
    /// The relations, implied ones left out; empty for an unscoped permission.
    pub relations: RelationSet,
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.permission)?;
        for (position, relation) in self.relations.iter().enumerate() {
            write!(f, "{}{relation}", if position == 0 { ':' } else { '|' })?;
        }
        Ok(())
    }
}

/// What somebody does not hold; never nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lack {
    /// The first few, in the catalog's order.
    pub missing: Vec<Missing>,
    /// How many permissions that are in all.
    pub count: usize,
}

impl Lack {
    /// What is lacking of each permission; none: nothing.
    pub(super) fn of(
        catalog: &Catalog,
        lacking: impl Fn(PermissionIx) -> RelationSet,
    ) -> Option<Self> {
        let mut lack = Lack { missing: Vec::new(), count: 0 };
        for (ix, permission) in catalog.permissions() {
            let lacking = lacking(ix);
            if lacking.is_empty() {
                continue;
            }
            lack.count += 1;
            if lack.missing.len() < NAMED {
                let scoped = !catalog.permission(catalog.leader(ix)).scopes.is_empty();
                let shown = if scoped { lacking.reduced() } else { RelationSet::EMPTY };
                let missing = Missing { permission: permission.id.clone(), relations: shown };
                lack.missing.push(missing);
            }
        }
        (lack.count > 0).then_some(lack)
    }
}
