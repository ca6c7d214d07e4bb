//! Answers to requests that carry an id, so that a repeated one gets the same answer.

use sea_orm::sea_query::OnConflict;
use sea_orm::{ActiveValue::Set, EntityTrait, QueryFilter};

use super::StoreError;
use super::entity::idempotency;
use super::read::ReadTx;
use super::write::WriteTx;
use crate::domain::Timestamp;
use crate::domain::ids::TenantId;

/// Which request it is.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct RequestKey {
    /// The service that called.
    pub caller: String,
    /// The tenant.
    pub tenant: TenantId,
    /// The call, such as `CreateRole`.
    pub method: String,
    /// The caller's id for it.
    pub request_id: String,
}

impl RequestKey {
    fn primary_key(&self) -> (String, String, String, String) {
        let RequestKey { caller, tenant, method, request_id } = self;
        (caller.clone(), tenant.to_string(), method.clone(), request_id.clone())
    }
}

/// What was answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Remembered {
    /// Hash of what was asked.
    pub payload_hash: String,
    /// What is left of the answer.
    pub response: Response,
}

/// What is left of an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Response {
    /// All of it: the JSON that was given to [`WriteTx::remember`].
    Kept(String),
    /// Told of a member that was erased since. What was asked for must not be done again.
    Erased,
    /// Told of a tenant that was purged since. What was asked for must not be done again.
    Purged,
}

/// Left of an answer that told of an erased member; versions before 0.1.0 added its pseudonym.
pub(super) const ERASED: &str = "erased-";
/// Left of every answer about a purged tenant.
const PURGED: &str = "purged-";

impl Response {
    /// Neither word is JSON, so it cannot be taken for an answer.
    fn read(text: String) -> Self {
        if text.starts_with(ERASED) {
            Response::Erased
        } else if text.starts_with(PURGED) {
            Response::Purged
        } else {
            Response::Kept(text)
        }
    }
}

impl ReadTx {
    /// What was answered to this request, unless it was too long ago.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn remembered(
        &self,
        request: &RequestKey,
        now: Timestamp,
    ) -> Result<Option<Remembered>, StoreError> {
        let row = idempotency::Entity::find_by_id(request.primary_key()).one(&self.tx).await?;
        Ok(row.filter(|row| row.expires_at > now.0).map(|row| Remembered {
            payload_hash: row.payload_hash,
            response: Response::read(row.response),
        }))
    }
}

impl WriteTx {
    /// Keeps of every answer about the tenant only that it was given: a late retry of the request
    /// that made the tenant must not make it anew.
    pub(super) async fn blank_answers(&self) -> Result<(), StoreError> {
        idempotency::Entity::update_many()
            .set(idempotency::ActiveModel {
                response: Set(PURGED.to_owned()),
                ..Default::default()
            })
            .filter(idempotency::COLUMN.tenant_id.eq(self.id().as_str()))
            .exec(&self.tx)
            .await?;
        Ok(())
    }

    /// Remembers, with this change, what it answers, in JSON. Takes the place of an answer that has expired.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn remember(
        &self,
        request: &RequestKey,
        payload_hash: &str,
        response: &str,
        now: Timestamp,
        expires_at: Timestamp,
    ) -> Result<(), StoreError> {
        let RequestKey { caller, tenant, method, request_id } = request;
        let row = idempotency::Model {
            caller: caller.clone(),
            tenant_id: tenant.to_string(),
            method: method.clone(),
            request_id: request_id.clone(),
            payload_hash: payload_hash.to_owned(),
            response: response.to_owned(),
            created_at: now.0,
            expires_at: expires_at.0,
        };
        use idempotency::Column;
        let replace = OnConflict::columns([
            Column::Caller,
            Column::TenantId,
            Column::Method,
            Column::RequestId,
        ])
        .update_columns([
            Column::PayloadHash,
            Column::Response,
            Column::CreatedAt,
            Column::ExpiresAt,
        ])
        .to_owned();
        idempotency::Entity::insert(idempotency::ActiveModel::from(row))
            .on_conflict(replace)
            .exec_without_returning(&self.tx)
            .await?;
        Ok(())
    }
}
