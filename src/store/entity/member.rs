use sea_orm::entity::prelude::*;

#[sea_orm::model]
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "members")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub tenant_id: String,
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: String,
    pub status: String,
    pub revision: i64,
    pub created_at: i64,
    pub updated_at: i64,
    #[sea_orm(has_many)]
    pub roles: HasMany<super::member_role::Entity>,
    #[sea_orm(has_many)]
    pub teams: HasMany<super::member_team::Entity>,
}

impl ActiveModelBehavior for ActiveModel {}
