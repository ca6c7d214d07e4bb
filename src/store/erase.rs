//! Erasing a member: its id goes from everything that is kept, the record of what happened stays.

use sea_orm::sea_query::OnConflict;
use sea_orm::{
    ActiveModelTrait, ActiveValue::Set, EntityTrait, IntoActiveModel, QueryFilter, QuerySelect,
};
use serde_json::Value;

use super::audit::{MEMBER, row as row_of};
use super::chain::{Record, record, subjects_of};
use super::entity::{audit, audit_subject, change, idempotency};
use super::requests;
use super::rows::{from_json, to_json};
use super::write::WriteTx;
use super::{AuditEntry, StoreError, Touched};
use crate::domain::ids::{ERASED, MemberId, STRANGER};

/// How many audit events are rewritten at a time: each can be large.
const AT_ONCE: usize = 32;

impl WriteTx {
    /// Replaces the member's id in the audit trail by one that says nothing, the same everywhere, so
    /// that what one person did can still be told from what another did; and blanks remembered
    /// answers that name it, and what changes say of it. Gives back what it is called from now on.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn erase_member(&self, member: &MemberId) -> Result<MemberId, StoreError> {
        let pseudonym = format!("{ERASED}{}", uuid::Uuid::new_v4());
        self.erase_from_trail(member, &pseudonym).await?;
        self.blank_answers_naming(member).await?;
        self.blur_changes_of(Some(member)).await?;
        Ok(MemberId::trusted(&pseudonym))
    }

    /// Rewrites the events that it did or that are about it, each with proof for the chain.
    async fn erase_from_trail(&self, member: &MemberId, pseudonym: &str) -> Result<(), StoreError> {
        let events = self.events_naming(member).await?;
        if events.is_empty() {
            return Ok(());
        }
        let chain = self.chain().await?;
        for events in events.chunks(AT_ONCE) {
            // Not by the tenant, whose index might be taken instead.
            let rows = audit::Entity::find()
                .filter(audit::COLUMN.seq.is_in(events.iter().copied()))
                .all(&self.tx)
                .await?;
            let rows: Vec<_> =
                rows.into_iter().filter(|row| row.tenant_id == self.id().as_str()).collect();
            if rows.is_empty() {
                continue;
            }
            let mut subjects = subjects_of(&self.tx, &rows).await?;
            let mut rewritten = Vec::with_capacity(rows.len());
            for row in rows {
                let seq = row.seq;
                let told = subjects.remove(&seq).unwrap_or_default();
                let old = record(row, told);
                let mut event = old.clone();
                pseudonymize(&mut event, member.as_str(), pseudonym)?;
                let event = self.erasures().rewrite(&chain, &old, event)?;
                rewritten.push(row_of(event, Set(seq)));
            }
            use audit::Column;
            let change = OnConflict::column(Column::Seq)
                .update_columns([
                    Column::Actor,
                    Column::Before,
                    Column::After,
                    Column::Salt,
                    Column::Digests,
                    Column::Rewrites,
                ])
                .to_owned();
            audit::Entity::insert_many(rewritten)
                .on_conflict(change)
                .exec_without_returning(&self.tx)
                .await?;
        }
        audit_subject::Entity::update_many()
            .set(audit_subject::ActiveModel {
                subject_id: Set(pseudonym.to_owned()),
                ..Default::default()
            })
            .filter(audit_subject::COLUMN.tenant_id.eq(self.id().as_str()))
            .filter(audit_subject::COLUMN.kind.eq(MEMBER))
            .filter(audit_subject::COLUMN.subject_id.eq(member.as_str()))
            .exec(&self.tx)
            .await?;
        Ok(())
    }

    /// The rows of the events that the member did or that are about it, oldest first.
    async fn events_naming(&self, member: &MemberId) -> Result<Vec<i64>, StoreError> {
        let mut events: Vec<i64> = audit_subject::Entity::find()
            .select_only()
            .column(audit_subject::Column::AuditSeq)
            .filter(audit_subject::COLUMN.tenant_id.eq(self.id().as_str()))
            .filter(audit_subject::COLUMN.kind.eq(MEMBER))
            .filter(audit_subject::COLUMN.subject_id.eq(member.as_str()))
            .into_tuple()
            .all(&self.tx)
            .await?;
        let done: Vec<i64> = audit::Entity::find()
            .select_only()
            .column(audit::Column::Seq)
            .filter(audit::COLUMN.tenant_id.eq(self.id().as_str()))
            .filter(audit::COLUMN.actor.eq(member.as_str()))
            .into_tuple()
            .all(&self.tx)
            .await?;
        events.extend(done);
        events.sort_unstable();
        events.dedup();
        Ok(events)
    }

    /// Lets changes of this member, or all that name members, say "everything" instead: followers
    /// that read them only forget more.
    pub(super) async fn blur_changes_of(
        &self,
        member: Option<&MemberId>,
    ) -> Result<(), StoreError> {
        let of_members = format!("{{\"members\":{}", member.map_or("%".to_owned(), suspicious));
        change::Entity::update_many()
            .set(change::ActiveModel {
                touched: Set(to_json(&Touched::Tenant, "changes.touched")?),
                ..Default::default()
            })
            .filter(change::COLUMN.tenant_id.eq(self.id().as_str()))
            .filter(change::COLUMN.touched.like(of_members))
            .exec(&self.tx)
            .await?;
        Ok(())
    }

    /// Keeps that the requests were made: a late retry must not bring the member back. The pseudonym
    /// stays out of it, because whoever repeats the request knows whom it stands for.
    async fn blank_answers_naming(&self, member: &MemberId) -> Result<(), StoreError> {
        let quoted = to_json(&member, "idempotency.response")?;
        let suspects = idempotency::Entity::find()
            .filter(idempotency::COLUMN.tenant_id.eq(self.id().as_str()))
            .filter(idempotency::COLUMN.response.like(suspicious(member)))
            .all(&self.tx)
            .await?;
        for row in suspects.into_iter().filter(|row| row.response.contains(&quoted)) {
            let mut row = row.into_active_model();
            row.response = Set(requests::ERASED.to_owned());
            row.update(&self.tx).await?;
        }
        Ok(())
    }
}

/// Replaces the member in an event: who did it, what it is about, and what is told of it.
fn pseudonymize(event: &mut Record, id: &str, pseudonym: &str) -> Result<(), StoreError> {
    let key = event.number.to_string();
    if event.actor.as_deref() == Some(id) {
        event.actor = Some(pseudonym.to_owned());
    }
    let mut about = false;
    for (_, subject) in event.subjects.iter_mut().filter(|told| told.0 == MEMBER && told.1 == id) {
        pseudonym.clone_into(subject);
        about = true;
    }
    // Others are told of only where they are what it is about.
    let told = [(&mut event.before, "audit.before"), (&mut event.after, "audit.after")];
    for (text, column) in told.into_iter().filter(|_| about) {
        if let Some(text) = text {
            let mut value: Value = from_json(text, column, &key)?;
            replace(&mut value, id, pseudonym);
            *text = to_json(&value, column)?;
        }
    }
    Ok(())
}

/// Takes somebody who is no member out of what is told.
pub(super) fn unname(entry: &mut AuditEntry, stranger: &MemberId) {
    for value in [&mut entry.before, &mut entry.after].into_iter().flatten() {
        replace(value, stranger.as_str(), STRANGER);
    }
}

/// A pattern that finds too much, never too little: what JSON or LIKE write in a way of their own is
/// left open, and SQLite's LIKE knows no case.
fn suspicious(member: &MemberId) -> String {
    format!("%\"{}\"%", member.as_str().replace(['"', '\\', '%', '_'], "%"))
}

/// Replaces the id of members that are told of: the value itself, one of a list, or what another
/// thing has as its owner or member. Roles, teams and statuses can be called what a member is
/// called, and are left alone.
fn replace(value: &mut Value, id: &str, pseudonym: &str) {
    match value {
        Value::Array(values) => {
            values.iter_mut().for_each(|value| replace(value, id, pseudonym));
        }
        // Only members have teams.
        Value::Object(fields) if fields.contains_key("teams") => {
            if let Some(Value::String(text)) = fields.get_mut("id")
                && text == id
            {
                pseudonym.clone_into(text);
            }
        }
        Value::Object(fields) => {
            let members =
                fields.iter_mut().filter(|(key, _)| ["owner", "member"].contains(&&***key));
            members.for_each(|(_, value)| replace(value, id, pseudonym));
        }
        Value::String(_) | Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_ids_of_members_are_replaced() {
        let member = |id: &str, other: &str| {
            json!({
                "id": id, "status": other, "roles": [other], "teams": [other, "Kim"], "note": other
            })
        };
        for (mut value, expected) in [
            (member("kim", "kim"), member("x", "kim")),
            (member("Kim", "kim"), member("Kim", "kim")),
            (json!([member("kim", "a"), member("lee", "kim")]), {
                json!([member("x", "a"), member("lee", "kim")])
            }),
            (json!({ "id": "kim", "owner": member("kim", "a") }), {
                json!({ "id": "kim", "owner": member("x", "a") })
            }),
            (json!({ "member": member("kim", "a"), "role": { "id": "kim" } }), {
                json!({ "member": member("x", "a"), "role": { "id": "kim" } })
            }),
            // A role, a tenant, and where a deleted role's members went.
            (json!({ "id": "kim", "name": "kim", "grants": [] }), {
                json!({ "id": "kim", "name": "kim", "grants": [] })
            }),
            (json!({ "reassigned_to": "kim" }), json!({ "reassigned_to": "kim" })),
        ] {
            replace(&mut value, "kim", "x");
            assert_eq!(value, expected);
        }
    }
}
