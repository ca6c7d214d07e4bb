//! What writes do, and what trials of them answer.

use super::super::pb::member_service_server::MemberService;
use super::super::pb::role_service_server::RoleService;
use super::super::pb::tenant_service_server::TenantService;
use super::{Apis, of_caller, pb, tenant};

async fn create(apis: &Apis, member: &str) {
    let request = pb::CreateMemberRequest {
        tenant_id: "t".into(),
        member_id: member.into(),
        ..Default::default()
    };
    apis.members.create_member(of_caller(request)).await.unwrap();
}

#[tokio::test]
async fn an_item_that_cannot_be_read_archives_nobody_that_it_may_mean() {
    let apis = Apis::new().await;
    tenant(&apis, "t", "qpien").await;
    create(&apis, "kim").await;
    create(&apis, "lee").await;
    let item = |id: &str, status: i32| pb::MemberUpsert {
        member_id: id.into(),
        status,
        ..Default::default()
    };
    let sync = async |members: Vec<pb::MemberUpsert>| {
        let request = pb::BatchUpsertMembersRequest {
            tenant_id: "t".into(),
            members,
            mode: pb::BatchMode::ItemByItem.into(),
            archive_absent: true,
            ..Default::default()
        };
        apis.members.batch_upsert_members(of_caller(request)).await.unwrap().into_inner()
    };
    let answer = sync(vec![item("owner", 0), item("kim", 0), item("l\nee", 0)]).await;
    assert_eq!(answer.archived_member_ids, Vec::<String>::new());
    assert!(answer.absent_not_archived);
    // Its status cannot be read, but it names kim.
    let answer = sync(vec![item("owner", 0), item("kim", 7)]).await;
    assert_eq!(answer.archived_member_ids, ["lee"]);
    assert!(!answer.absent_not_archived);
}
