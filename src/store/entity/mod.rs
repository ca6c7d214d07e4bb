//! The tables as SeaORM sees them, one file each. Texts and numbers only: rows become domain values
//! in [`super::rows`], where an error can name the row.

#![allow(unreachable_pub, reason = "the derive makes its types `pub`, whatever the model is")]

pub(super) mod audit;
pub(super) mod audit_checkpoint;
pub(super) mod audit_head;
pub(super) mod audit_subject;
pub(super) mod catalog_version;
pub(super) mod change;
pub(super) mod idempotency;
pub(super) mod member;
pub(super) mod member_role;
pub(super) mod member_team;
pub(super) mod meta;
pub(super) mod role;
pub(super) mod tenant;
