use sea_orm::entity::prelude::*;

/// Which database this is.
pub(in crate::store) const DATABASE_ID: &str = "database_id";
/// Grows when the database is restored from a backup.
pub(in crate::store) const EPOCH: &str = "epoch";
/// What page tokens are signed with.
pub(in crate::store) const SIGNING_KEY: &str = "signing_key";
/// The number of the oldest schema whose programs can still work with this one.
pub(in crate::store) const OLDEST_READER: &str = "oldest_reader";
/// The last of the changes that were trimmed, as `tx:seq`.
pub(in crate::store) const TRIMMED: &str = "trimmed";

/// What the audit trail is chained with where no other key was given.
pub(in crate::store) const AUDIT_KEY: &str = "audit_key";
/// The ids of the keys that it was chained with, oldest first, with spaces between.
pub(in crate::store) const AUDIT_KEY_IDS: &str = "audit_key_ids";

#[sea_orm::model]
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "meta")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub key: String,
    pub value: String,
}

impl ActiveModelBehavior for ActiveModel {}
