use sea_orm::entity::prelude::*;

#[sea_orm::model]
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "audit")]
pub struct Model {
    #[sea_orm(primary_key)]
    pub seq: i64,
    pub tenant_id: String,
    pub revision: i64,
    pub at: i64,
    pub caller: String,
    pub actor: Option<String>,
    pub method: String,
    pub request_id: Option<String>,
    pub before: Option<String>,
    pub after: Option<String>,
    pub refusal: Option<String>,
    pub number: Option<i64>,
    pub key_id: Option<String>,
    pub link: Option<String>,
    pub salt: Option<String>,
    pub covered: Option<String>,
    pub digests: Option<String>,
    pub rewrites: Option<String>,
    pub erased: Option<String>,
    #[sea_orm(has_many)]
    pub subjects: HasMany<super::audit_subject::Entity>,
}

impl ActiveModelBehavior for ActiveModel {}
