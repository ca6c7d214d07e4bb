use sea_orm::entity::prelude::*;

#[sea_orm::model]
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "tenants")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: String,
    pub catalog_id: String,
    pub catalog_version: i64,
    pub plan: Option<String>,
    pub state: String,
    pub revision: i64,
    pub own_revision: i64,
    pub created_at: i64,
    pub updated_at: i64,
    pub purge_at: Option<i64>,
}

impl ActiveModelBehavior for ActiveModel {}
