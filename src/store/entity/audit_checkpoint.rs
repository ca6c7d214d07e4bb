use sea_orm::entity::prelude::*;

#[sea_orm::model]
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "audit_checkpoints")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub tenant_id: String,
    pub number: i64,
    pub link: String,
    pub link_key_id: String,
    pub revision: i64,
    pub at: i64,
    pub deleted: i64,
    pub pending: String,
    pub key_id: String,
    pub mac: String,
}

impl ActiveModelBehavior for ActiveModel {}
