//! What is in answers: names instead of places, and the permission tree.

use super::{Apis, of_caller, tenant};
use crate::grpc::pb;
use crate::grpc::pb::authz_service_server::AuthzService;
use crate::grpc::pb::member_service_server::MemberService;
use crate::grpc::pb::role_service_server::RoleService;

#[tokio::test]
async fn answers_carry_names_and_not_places_of_the_catalog() {
    let apis = Apis::new().await;
    tenant(&apis, "t", "qpien").await;
    let member = pb::CreateMemberRequest {
        tenant_id: "t".into(),
        member_id: "kim".into(),
        role_ids: vec!["user".into()],
        team_ids: vec!["b".into(), "a".into()],
        ..Default::default()
    };
    apis.members.create_member(of_caller(member)).await.unwrap();
    let (tenant_id, member_id) = ("t".to_owned(), "kim".to_owned());
    let permission = "conversation.view".to_owned();
    let check = pb::CheckRequest {
        tenant_id: tenant_id.clone(),
        member_id: member_id.clone(),
        permission: permission.clone(),
        resource: Some(pb::Resource::default()),
        consistency: None,
    };
    let answer = apis.authz.check(of_caller(check)).await.unwrap().into_inner();
    let decision = answer.decision.unwrap();
    assert_eq!(decision.verdict(), pb::Verdict::Denied);
    assert_eq!(decision.reason(), pb::DecisionReason::ResourceAttributeRequired);
    assert_eq!(decision.missing_attributes, ["assignees", "teams"]);
    let by = pb::DecidingGrant { role_id: "user".into(), scope: "team".into() };
    assert_eq!(decision.decided_by, [by]);

    let plan = pb::PlanFilterRequest {
        tenant_id: tenant_id.clone(),
        member_id: member_id.clone(),
        permission,
        consistency: None,
    };
    let plan = apis.authz.plan_filter(of_caller(plan)).await.unwrap().into_inner();
    assert_eq!(plan.kind(), pb::PlanKind::AnyOf);
    let terms: Vec<_> =
        plan.terms.iter().map(|term| (term.relation(), term.team_ids.join(","))).collect();
    assert_eq!(
        terms,
        [
            (pb::Relation::Assignee, String::new()),
            (pb::Relation::Team, "a,b".into()),
            (pb::Relation::Pool, String::new()),
        ]
    );
    let effective = pb::ListEffectivePermissionsRequest { tenant_id, member_id, consistency: None };
    let effective = apis.authz.list_effective_permissions(of_caller(effective)).await.unwrap();
    let effective = effective.into_inner();
    let view = effective.permissions.iter().find(|p| p.permission == "conversation.view").unwrap();
    assert_eq!(view.scope, "team");
    let catalog = pb::CatalogVersion { catalog_id: "qpien".into(), version: 1 };
    assert_eq!(effective.catalog, Some(catalog));

    let nowhere = pb::CheckRequest {
        tenant_id: "nowhere".into(),
        member_id: "kim".into(),
        permission: "no.such".into(),
        ..Default::default()
    };
    let answer = apis.authz.check(of_caller(nowhere)).await.unwrap().into_inner();
    assert_eq!(answer.decision.unwrap().reason(), pb::DecisionReason::TenantNotFound);
    assert_eq!(answer.consistency_token, "");
}

#[tokio::test]
async fn the_tree_nests_as_the_catalog_does_and_speaks_its_languages() {
    let apis = Apis::new().await;
    tenant(&apis, "t", "oqupie").await;
    let request = pb::ListPermissionsRequest { tenant_id: "t".into(), language_code: "ko".into() };
    let tree = apis.roles.list_permissions(of_caller(request)).await.unwrap().into_inner();
    let management = tree.sections.iter().find(|section| section.id == "management").unwrap();
    assert!(!management.sections.is_empty());
    let all = |sections: &[pb::PermissionSection]| -> Vec<pb::Permission> {
        let nested = sections.iter().flat_map(|section| section.sections.clone());
        let here = sections.iter().flat_map(|section| section.permissions.clone());
        here.chain(nested.flat_map(|section| section.permissions)).collect()
    };
    let permissions = all(&tree.sections);
    let find = |id: &str| permissions.iter().find(|permission| permission.id == id).unwrap();
    assert_eq!(find("ticket.delete").follows, "ticket.work");
    assert_eq!(find("payment.manage").grantable(), pb::Grantable::Never);
    assert_eq!(find("customer.view").grantable(), pb::Grantable::Base);
    assert_eq!(find("report.export").requires.len(), 1);
    assert_eq!(find("report.export").requires[0].any_of.len(), 3);
    let group = &find("ticket.work").scopes[0];
    assert_eq!(group.id, "group");
    let relations = [pb::Relation::Assignee as i32, pb::Relation::Team as i32];
    assert_eq!(group.relations, relations);
}
