use sea_orm::entity::prelude::*;

#[sea_orm::model]
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "changes")]
pub struct Model {
    #[sea_orm(primary_key)]
    pub seq: i64,
    pub tx: i64,
    pub tenant_id: String,
    pub revision: i64,
    pub touched: String,
    pub created_at: i64,
}

impl ActiveModelBehavior for ActiveModel {}
