//! An empty list says nothing, wherever it comes: clients send one for a list whose shape they got
//! wrong, and "nobody, in no team" is the general pool.

use rolegate::grpc::pb;
use tonic::{Code, Status};
use tonic_types::StatusExt;

use super::process::{Clients, Server};

/// A list, as somebody says it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum List {
    Unset,
    /// As `{assignees: ['olaf']}` of a client that finds no message in an array and sends an empty one.
    Empty,
    Ids,
    None,
    Both,
}

impl List {
    fn of(self, id: &str) -> Option<pb::IdList> {
        match self {
            List::Unset => None,
            List::Empty => Some(pb::IdList { ids: vec![], none: false }),
            List::Ids => Some(pb::IdList { ids: vec![id.into()], none: false }),
            List::None => Some(pb::IdList { ids: vec![], none: true }),
            List::Both => Some(pb::IdList { ids: vec![id.into()], none: true }),
        }
    }
}

fn conversation([assignees, teams, participants]: [List; 3]) -> pb::Resource {
    pb::Resource {
        id: "c".into(),
        assignees: assignees.of("olaf"),
        teams: teams.of("other"),
        participants: participants.of("olaf"),
        ..Default::default()
    }
}

/// Whether `ula`, a user of team chat, may view it, or the reason and the field of a refusal.
type Answer = Result<bool, (String, String)>;

const PERMISSION: &str = "conversation.view";

fn allowed(decision: Option<pb::Decision>) -> Answer {
    Ok(decision.unwrap().verdict() == pb::Verdict::Allowed)
}

#[track_caller]
fn refused(status: &Status) -> (String, String) {
    assert_eq!(status.code(), Code::InvalidArgument, "{status:?}");
    let reason = status.get_details_error_info().unwrap().reason;
    let violations = status.get_details_bad_request().unwrap().field_violations;
    assert!(violations.iter().all(|violation| violation.description.contains("none")));
    (reason, violations[0].field.clone())
}

fn item_refused(error: pb::ItemError) -> (String, String) {
    assert!(error.message.contains("none"), "{error:?}");
    (error.reason, error.field)
}

async fn check(clients: &mut Clients, resource: pb::Resource, fresh: bool) -> Answer {
    let request = pb::CheckRequest {
        tenant_id: "demo-qpien".into(),
        member_id: "ula".into(),
        permission: PERMISSION.into(),
        resource: Some(resource),
        consistency: fresh.then_some(pb::Consistency {
            requirement: Some(pb::consistency::Requirement::FullyConsistent(true)),
        }),
    };
    match clients.authz.check(request).await {
        Ok(answer) => allowed(answer.into_inner().decision),
        Err(status) => Err(refused(&status)),
    }
}

async fn batch(clients: &mut Clients, resource: pb::Resource) -> Answer {
    let item = pb::CheckItem {
        member_id: "ula".into(),
        permission: PERMISSION.into(),
        resource: Some(resource),
    };
    let request = pb::BatchCheckRequest {
        tenant_id: "demo-qpien".into(),
        items: vec![item],
        consistency: None,
    };
    let items = clients.authz.batch_check(request).await.unwrap().into_inner().items;
    match items.into_iter().next().unwrap().result.unwrap() {
        pb::check_item_result::Result::Decision(decision) => allowed(Some(decision)),
        pb::check_item_result::Result::Error(error) => Err(item_refused(error)),
    }
}

async fn stream(clients: &mut Clients, resource: pb::Resource) -> Answer {
    let item = pb::CheckStreamItem {
        correlation_id: 7,
        member_id: "ula".into(),
        permission: PERMISSION.into(),
        resource: Some(resource),
    };
    let request = pb::CheckStreamRequest {
        tenant_id: "demo-qpien".into(),
        items: vec![item],
        consistency: None,
    };
    let questions = tokio_stream::iter([request]);
    let mut answers = clients.authz.check_stream(questions).await.unwrap().into_inner();
    let answer = answers.message().await.unwrap().unwrap();
    match answer.results.into_iter().next().unwrap().result.unwrap() {
        pb::check_stream_result::Result::Decision(decision) => allowed(Some(decision)),
        pb::check_stream_result::Result::Error(error) => Err(item_refused(error)),
    }
}

async fn filter(clients: &mut Clients, resource: pb::Resource) -> Answer {
    let request = pb::FilterResourcesRequest {
        tenant_id: "demo-qpien".into(),
        member_id: "ula".into(),
        permission: PERMISSION.into(),
        resources: vec![resource],
        consistency: None,
    };
    match clients.authz.filter_resources(request).await {
        Ok(answer) => Ok(answer.into_inner().allowed_ids == ["c"]),
        Err(status) => Err(refused(&status)),
    }
}

async fn members(clients: &mut Clients, resource: pb::Resource) -> Answer {
    let request = pb::ListAuthorizedMembersRequest {
        tenant_id: "demo-qpien".into(),
        permission: PERMISSION.into(),
        resource: Some(resource),
        ..Default::default()
    };
    match clients.authz.list_authorized_members(request).await {
        Ok(answer) => {
            Ok(answer.into_inner().members.iter().any(|member| member.member_id == "ula"))
        }
        Err(status) => Err(refused(&status)),
    }
}

async fn explain(clients: &mut Clients, resource: pb::Resource) -> Answer {
    let request = pb::ExplainRequest {
        tenant_id: "demo-qpien".into(),
        member_id: "ula".into(),
        permission: PERMISSION.into(),
        resource: Some(resource),
    };
    match clients.authz.explain(request).await {
        Ok(answer) => allowed(answer.into_inner().decision),
        Err(status) => Err(refused(&status)),
    }
}

/// What is to be answered, the field as seen from the resource.
fn expected(lists: [List; 3]) -> Answer {
    for (list, field) in lists.into_iter().zip(["assignees", "teams", "participants"]) {
        match list {
            List::Empty => return Err(("FIELD_INVALID".into(), field.into())),
            List::Both => return Err(("FIELD_INVALID".into(), format!("{field}.none"))),
            _ => {}
        }
    }
    let [assignees, teams, _] = lists;
    Ok([assignees, teams] == [List::None, List::None])
}

#[tokio::test]
async fn an_empty_list_is_refused_in_every_question_from_memory_and_from_the_database() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(directory.path(), &["--demo"]);
    let mut clients = Clients::connect(&server).await;
    let all = [List::Unset, List::Empty, List::Ids, List::None, List::Both];
    // From the second question on everything is at hand.
    assert_eq!(check(&mut clients, conversation([List::None; 3]), false).await, Ok(true));
    for assignees in all {
        for teams in all {
            for participants in [List::Unset, List::Empty, List::None, List::Both] {
                let lists = [assignees, teams, participants];
                let said = || conversation(lists);
                let expected = |path: &str| {
                    expected(lists).map_err(|(reason, field)| (reason, format!("{path}{field}")))
                };
                for (what, answer, path) in [
                    ("Check", check(&mut clients, said(), false).await, "resource."),
                    ("Check afresh", check(&mut clients, said(), true).await, "resource."),
                    ("BatchCheck", batch(&mut clients, said()).await, "items[0].resource."),
                    ("CheckStream", stream(&mut clients, said()).await, "items[0].resource."),
                    ("FilterResources", filter(&mut clients, said()).await, "resources[0]."),
                    ("ListAuthorizedMembers", members(&mut clients, said()).await, "resource."),
                    ("Explain", explain(&mut clients, said()).await, "resource."),
                ] {
                    assert_eq!(answer, expected(path), "{what} of {lists:?}");
                }
            }
        }
    }
}

#[tokio::test]
async fn an_empty_list_takes_nothing_from_a_member_of_a_batch() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(directory.path(), &["--demo"]);
    let mut clients = Clients::connect(&server).await;
    let get = pb::GetMemberRequest { tenant_id: "demo-qpien".into(), member_id: "ula".into() };
    let before = clients.members.get_member(get.clone()).await.unwrap().into_inner().member;
    let before = before.unwrap();
    assert!(!before.role_ids.is_empty() && !before.team_ids.is_empty(), "{before:?}");
    let request = |role_ids, team_ids| pb::BatchUpsertMembersRequest {
        tenant_id: "demo-qpien".into(),
        members: vec![pb::MemberUpsert {
            member_id: "ula".into(),
            role_ids,
            team_ids,
            keep_status: true,
            ..Default::default()
        }],
        mode: pb::BatchMode::ItemByItem.into(),
        ..Default::default()
    };
    for (list, field) in [(List::Empty, ""), (List::Both, ".none")] {
        for (roles, teams, of) in
            [(list.of("user"), None, "role_ids"), (None, list.of("x"), "team_ids")]
        {
            let mut batch = request(roles, teams);
            let answer = clients.members.batch_upsert_members(batch.clone()).await.unwrap();
            let [result] = &answer.into_inner().results[..] else { panic!() };
            assert_eq!(result.outcome(), pb::UpsertOutcome::Refused);
            let expected = ("FIELD_INVALID".to_owned(), format!("members[0].{of}{field}"));
            assert_eq!(item_refused(result.error.clone().unwrap()), expected);
            batch.mode = pb::BatchMode::AllOrNothing.into();
            let status = clients.members.batch_upsert_members(batch).await.unwrap_err();
            assert_eq!(refused(&status), expected);
        }
    }
    let after = clients.members.get_member(get.clone()).await.unwrap().into_inner().member;
    assert_eq!(after.unwrap(), before);

    // Said out loud it is done.
    let none = request(List::None.of(""), List::None.of(""));
    clients.members.batch_upsert_members(none).await.unwrap();
    let after = clients.members.get_member(get).await.unwrap().into_inner().member.unwrap();
    assert_eq!((after.role_ids, after.team_ids), (vec![], vec![]));
}
