//! What is read and written without prost is what prost and the general parsers make of it.

use std::sync::{Arc, LazyLock};

use proptest::prelude::*;
use prost::Message;

use crate::domain::Timestamp;
use crate::domain::catalog::{Catalog, PermissionIx, shipped};
use crate::domain::ids::{MemberId, RoleId, TeamId, TenantId};
use crate::domain::member::{MemberStatus, Subject};
use crate::domain::resource::{Attribute, Described, Relations, Resource};
use crate::grpc::fields::{Fields, Path, Sound};
use crate::grpc::wire::{self, Told};
use crate::grpc::{authz, pb, show, values};
use crate::service::caller::Caller;
use crate::service::decide::Question;
use crate::service::token::Consistency;

type General<T> = Result<T, String>;

fn parsed<T>(parse: impl FnOnce(&mut Fields) -> Sound<T>) -> General<T> {
    let mut fields = Fields::of_message(Arc::new(Caller::development()));
    let value = parse(&mut fields);
    fields.all_or_violations((value,)).map(|(value,)| value).map_err(|wrong| format!("{wrong:?}"))
}

fn decoded<M: Message + Default>(bytes: &[u8]) -> General<M> {
    M::decode(bytes).map_err(|error| error.to_string())
}

/// A `CheckRequest`, the general way.
fn check(bytes: &[u8]) -> General<(TenantId, Question, Consistency)> {
    let pb::CheckRequest { tenant_id, member_id, permission, resource, consistency } =
        decoded(bytes)?;
    parsed(|fields| {
        let tenant = fields.tenant("tenant_id", &tenant_id);
        let question = authz::question(fields, None, member_id, permission, resource);
        let consistency = values::consistency(fields, consistency);
        Some((tenant?, question?, consistency?))
    })
}

/// A `BatchCheckRequest`, the general way, without its items' own errors.
fn batch(bytes: &[u8]) -> General<(TenantId, Vec<Option<Question>>, Consistency)> {
    let pb::BatchCheckRequest { tenant_id, items, consistency } = decoded(bytes)?;
    let items = items.into_iter().enumerate();
    let items = items.map(|(index, item)| authz::check_item(index, item).ok()).collect();
    parsed(|fields| {
        let tenant = fields.tenant("tenant_id", &tenant_id);
        Some((tenant?, items, values::consistency(fields, consistency)?))
    })
}

/// A `FilterResourcesRequest`, the general way.
fn filter(bytes: &[u8]) -> General<(TenantId, MemberId, String, Vec<Resource>, Consistency)> {
    let pb::FilterResourcesRequest { tenant_id, member_id, permission, resources, consistency } =
        decoded(bytes)?;
    parsed(|fields| {
        let tenant = fields.tenant("tenant_id", &tenant_id);
        let member = fields.id("member_id", &member_id);
        let permission = fields.required("permission", permission);
        let path = Path::from("resources");
        let resources = fields
            .each(resources, |fields, index, one| values::resource(fields, path.at(index), one));
        let consistency = values::consistency(fields, consistency);
        Some((tenant?, member?, permission?, resources?, consistency?))
    })
}

fn texts<'a>(ids: Option<impl Iterator<Item = &'a [u8]>>) -> Option<Vec<&'a str>> {
    ids.map(|ids| ids.map(|id| std::str::from_utf8(id).unwrap()).collect())
}

#[track_caller]
fn same_resource(read: &wire::Resource<'_>, general: &Resource) {
    assert_eq!(read.id, general.id.as_bytes());
    assert_eq!(texts(read.assignees()), texts(general.assignees()));
    assert_eq!(texts(read.teams()), texts(general.teams()));
    assert_eq!(read.creator(), general.creator());
    assert_eq!(texts(read.participants()), texts(general.participants()));
    assert_eq!(read.public(), general.public());
    for attribute in Attribute::ALL {
        assert_eq!(read.says(attribute), general.says(attribute));
    }
    let (me, teams) = (MemberId::trusted("a"), ["b", "c"].map(TeamId::trusted));
    for teams in [&teams[..], &[]] {
        let (ours, theirs) =
            (Relations::between(&me, teams, read), Relations::between(&me, teams, general));
        assert_eq!(ours, theirs);
    }
}

#[track_caller]
fn same_question(read: &wire::Question<'_>, general: &Question) {
    assert_eq!(read.member, general.member.as_str().as_bytes());
    assert_eq!(read.permission, general.permission.as_bytes());
    match (&read.resource, &general.resource) {
        (None, None) => {}
        (Some(read), Some(general)) => same_resource(read, general),
        (read, general) => panic!("{read:?} {general:?}"),
    }
}

/// Whatever `wire` reads, the general way reads as well, and the same. Whether it reads it at all.
#[track_caller]
fn agrees(bytes: &[u8]) -> [bool; 3] {
    let one = wire::Check::read(bytes);
    if let Some(wire::Check { tenant, question, consistency }) = &one {
        let general = check(bytes).unwrap();
        assert_eq!(*tenant, general.0.as_str());
        same_question(question, &general.1);
        assert_eq!(consistency.kept(), general.2);
    }
    let many = wire::Batch::read(bytes);
    // An item that is not UTF-8 is found with the item.
    let items = many.and_then(|many| many.items.iter().map(wire::Question::read).collect());
    if let (Some(wire::Batch { tenant, items: all, consistency }), Some::<Vec<_>>(items)) =
        (&many, &items)
    {
        let general = batch(bytes).unwrap();
        assert_eq!(*tenant, general.0.as_str());
        assert_eq!((all.len(), items.len()), (general.1.len(), general.1.len()));
        for (read, general) in items.iter().zip(&general.1) {
            same_question(read, general.as_ref().unwrap());
        }
        assert_eq!(consistency.kept(), general.2);
    }
    let list = wire::Filter::read(bytes);
    let resources = list.and_then(|list| list.resources.iter().map(wire::Resource::read).collect());
    if let (
        Some(wire::Filter { tenant, member, permission, resources: all, consistency }),
        Some::<Vec<_>>(resources),
    ) = (&list, &resources)
    {
        let general = filter(bytes).unwrap();
        assert_eq!(*tenant, general.0.as_str());
        assert_eq!((*member, *permission), (general.1.as_str().as_bytes(), general.2.as_bytes()));
        assert_eq!((all.len(), resources.len()), (general.3.len(), general.3.len()));
        for (read, general) in resources.iter().zip(&general.3) {
            same_resource(read, general);
        }
        assert_eq!(consistency.kept(), general.4);
    }
    [one.is_some(), items.is_some(), resources.is_some()]
}

/// Ids as they are, and now and then one that is none.
fn any_id() -> impl Strategy<Value = String> {
    prop_oneof![
        6 => "[a-c]",
        2 => "[a-zé가]{1,20}",
        1 => proptest::sample::select(vec![
            String::new(),
            "a\n".to_owned(),
            "\u{85}".to_owned(),
            "\u{a0}".to_owned(),
            "x".repeat(128),
            "x".repeat(129),
        ]),
    ]
}

fn sound_id() -> impl Strategy<Value = String> {
    prop_oneof!["[a-c]", "[a-zé가]{1,40}"]
}

fn resource_of(
    id: impl Strategy<Value = String> + Clone + 'static,
) -> impl Strategy<Value = pb::Resource> {
    let ids = || {
        proptest::option::of(proptest::collection::vec(id.clone(), 0..4).prop_map(pb::IdList::from))
    };
    let creator = proptest::option::of(prop_oneof![Just(String::new()), id.clone()]);
    let own = prop_oneof![Just(String::new()), id.clone()];
    (own, ids(), ids(), creator, ids(), any::<Option<bool>>()).prop_map(
        |(id, assignees, teams, creator_id, participants, public)| pb::Resource {
            id,
            assignees,
            teams,
            creator_id,
            participants,
            public,
        },
    )
}

fn consistency() -> impl Strategy<Value = Option<pb::Consistency>> {
    use pb::consistency::Requirement;
    let tokens = proptest::collection::vec("[a-c]{0,3}", 0..3);
    let requirement = prop_oneof![
        Just(Some(Requirement::MinimizeLatency(true))),
        Just(Some(Requirement::FullyConsistent(true))),
        tokens
            .prop_map(|tokens| Some(Requirement::AtLeastAsFresh(pb::ConsistencyTokens { tokens }))),
    ];
    proptest::option::of(requirement.prop_map(|requirement| pb::Consistency { requirement }))
}

fn request_of(
    id: impl Strategy<Value = String> + Clone + 'static,
) -> impl Strategy<Value = pb::CheckRequest> {
    let resource = proptest::option::of(resource_of(id.clone()));
    (id.clone(), id, "[a-z.]{1,9}", resource, consistency()).prop_map(
        |(tenant_id, member_id, permission, resource, consistency)| pb::CheckRequest {
            tenant_id,
            member_id,
            permission,
            resource,
            consistency,
        },
    )
}

/// The question of a check in the form of each message.
fn forms(request: &pb::CheckRequest, items: usize) -> [Vec<u8>; 3] {
    let pb::CheckRequest { tenant_id, member_id, permission, resource, consistency } =
        request.clone();
    let item = pb::CheckItem {
        member_id: member_id.clone(),
        permission: permission.clone(),
        resource: resource.clone(),
    };
    let many = pb::BatchCheckRequest {
        tenant_id: tenant_id.clone(),
        items: vec![item; items],
        consistency: consistency.clone(),
    };
    let list = pb::FilterResourcesRequest {
        tenant_id,
        member_id,
        permission,
        resources: vec![resource.unwrap_or_default(); items],
        consistency,
    };
    [request.encode_to_vec(), many.encode_to_vec(), list.encode_to_vec()]
}

static CATALOG: LazyLock<Catalog> = LazyLock::new(|| Catalog::parse(shipped()[0]).unwrap());

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn arbitrary_bytes(bytes in proptest::collection::vec(any::<u8>(), 0..60)) {
        agrees(&bytes);
    }

    /// Few values, so that something comes of it.
    #[test]
    fn arbitrary_fields(bytes in proptest::collection::vec(
        proptest::sample::select(vec![0x0a, 0x10, 0x12, 0x1a, 0x22, 0x2a, 8, 0x30, 0x18, 0, 1, 2, 3, b'a', 0x80, 0xff]),
        0..40,
    )) {
        agrees(&bytes);
    }

    #[test]
    fn arbitrary_requests(request in request_of(any_id().boxed())) {
        for bytes in forms(&request, 2) {
            agrees(&bytes);
        }
    }

    #[test]
    fn sound_requests_are_read(request in request_of(sound_id().boxed()), items in 0_usize..4) {
        for (form, bytes) in forms(&request, items).iter().enumerate() {
            prop_assert!(agrees(bytes)[form], "{request:?}");
        }
    }

    #[test]
    fn mutated_requests(
        request in request_of(sound_id().boxed()),
        at in any::<proptest::sample::Index>(),
        byte in any::<u8>(),
        how in 0..4,
    ) {
        for mut bytes in forms(&request, 2) {
            let at = at.index(bytes.len());
            match how {
                0 => bytes[at] = byte,
                1 => bytes.insert(at, byte),
                2 => { bytes.remove(at); }
                _ => bytes.truncate(at),
            }
            agrees(&bytes);
        }
    }

    /// Messages that prost merges.
    #[test]
    fn two_requests_in_a_row(
        one in request_of(sound_id().boxed()),
        other in request_of(any_id().boxed()),
    ) {
        for (mut bytes, other) in forms(&one, 1).into_iter().zip(forms(&other, 1)) {
            bytes.extend(other);
            agrees(&bytes);
        }
    }

    #[test]
    fn answers_are_written_as_prost_writes_them(
        roles in proptest::collection::vec("[a-z_가]{0,140}", 0..4),
        which in 0_usize..4,
        permission in any::<proptest::sample::Index>(),
        teams in proptest::collection::vec("[a-c]", 0..3),
        resource in proptest::option::of(resource_of(sound_id().boxed())),
        known in any::<bool>(),
        token in "[a-z]{0,200}",
        stale in any::<Option<i64>>(),
    ) {
        let catalog = &*CATALOG;
        let permissions: Vec<PermissionIx> = catalog.permissions().map(|(ix, _)| ix).collect();
        let permission = permissions[permission.index(permissions.len())];
        let compiled: Vec<_> = catalog.default_roles().iter().map(|role| Arc::clone(&role.compiled)).collect();
        let named = |(index, role): (usize, &String)| {
            (RoleId::trusted(role), Arc::clone(&compiled[(which + index) % compiled.len()]))
        };
        let subject = Subject {
            id: MemberId::trusted("a"),
            status: if known { MemberStatus::Active } else { MemberStatus::Archived },
            teams: teams.iter().map(|team| TeamId::trusted(team)).collect(),
            roles: roles.iter().enumerate().map(named).collect(),
        };
        let resource = resource.map(|resource| {
            parsed(|fields| values::resource(fields, "resource", resource)).unwrap()
        });
        let ruling = subject.rule(catalog, permission, resource.as_ref());
        let decision = subject.decide(catalog, permission, resource.as_ref());
        prop_assert_eq!(ruling.reason, decision.reason);
        let decision = show::decision(Some(catalog), decision);
        let told = Told { ruling, of: Some((&subject, permission, catalog)) };
        let stale = stale.map(Timestamp);

        let mut written = Vec::new();
        wire::check_response(&mut written, told, &token, stale);
        let expected = pb::CheckResponse {
            decision: Some(decision.clone()),
            consistency_token: token.clone(),
            stale_since: stale.map(show::time),
        };
        prop_assert_eq!(&written[..], expected.encode_to_vec());

        written.clear();
        wire::check_item_result(&mut written, told);
        wire::check_item_result(&mut written, told);
        wire::state_of_answer(&mut written, 2, &token, stale);
        let item = pb::CheckItemResult {
            result: Some(pb::check_item_result::Result::Decision(decision)),
        };
        let expected = pb::BatchCheckResponse {
            items: vec![item; 2],
            consistency_token: token,
            stale_since: stale.map(show::time),
        };
        prop_assert_eq!(&written[..], expected.encode_to_vec());
    }
}

/// What clients do not write is left to prost, however it would end there.
#[test]
fn what_is_unusual_is_not_judged() {
    let usual = pb::CheckRequest {
        tenant_id: "t".into(),
        member_id: "m".into(),
        permission: "p".into(),
        ..Default::default()
    };
    let with = |more: &[u8]| [usual.encode_to_vec().as_slice(), more].concat();
    assert!(wire::Check::read(&with(&[])).is_some());
    for (what, more) in [
        ("an unknown field", &[0x78, 1][..]),
        ("a field number of two bytes", &[0x80, 1, 1]),
        ("field number 0", &[2, 0]),
        ("a group", &[0x2b, 0x2c]),
        ("a field that comes twice", &[0x0a, 1, b't']),
        ("a field of another kind", &[0x08, 1]),
        ("a length beyond the end", &[0x22, 9, 0]),
        ("nothing behind a key", &[0x22]),
        ("a token that is no text", &[0x2a, 5, 0x12, 3, 0x0a, 1, 0xff]),
        ("a flag that is false", &[0x2a, 2, 0x08, 0]),
        ("a consistency without a requirement", &[0x2a, 0]),
        ("two requirements", &[0x2a, 4, 0x08, 1, 0x18, 1]),
    ] {
        assert!(wire::Check::read(&with(more)).is_none(), "{what}");
    }
    for empty in 0..3 {
        let mut request = usual.clone();
        *[&mut request.tenant_id, &mut request.member_id, &mut request.permission][empty] =
            String::new();
        assert!(wire::Check::read(&request.encode_to_vec()).is_none());
    }
    let list =
        |count| pb::Resource { teams: Some(vec!["t".into(); count].into()), ..Default::default() };
    assert!(wire::Resource::read(&list(1_000).encode_to_vec()).is_some());
    assert!(wire::Resource::read(&list(1_001).encode_to_vec()).is_none());
    // Empty is said out loud, in one way.
    for (what, list, is_read) in [
        ("none", &[0x10, 1][..], true),
        ("an id", &[0x0a, 1, b'a'], true),
        ("nothing", &[], false),
        ("none, which is false", &[0x10, 0], false),
        ("none, in two bytes", &[0x10, 0x81, 0], false),
        ("none, twice", &[0x10, 1, 0x10, 1], false),
        ("none and an id", &[0x10, 1, 0x0a, 1, b'a'], false),
        ("an id and none", &[0x0a, 1, b'a', 0x10, 1], false),
        ("an id and none, which is false", &[0x0a, 1, b'a', 0x10, 0], false),
        ("an unknown field", &[0x18, 1], false),
    ] {
        for field in [2, 3, 5] {
            let resource = [&[field << 3 | 2, list.len() as u8], list].concat();
            assert_eq!(wire::Resource::read(&resource).is_some(), is_read, "{what}");
            agrees(&with(&[&[0x22, resource.len() as u8], &resource[..]].concat()));
        }
    }
}

/// The item of a stream: a question, and its client's own number for it.
#[test]
fn correlation_ids() {
    let item = pb::CheckItem { member_id: "m".into(), permission: "p".into(), resource: None };
    for id in [0, 1, 127, 128, u64::from(u32::MAX), 1 << 63, u64::MAX] {
        let mut bytes = item.encode_to_vec();
        bytes.push(4 << 3);
        prost::encoding::encode_varint(id, &mut bytes);
        let (read, question) = wire::Question::read_streamed(&bytes).unwrap();
        assert_eq!((read, question.member), (id, &b"m"[..]));
    }
    let mut too_long = item.encode_to_vec();
    too_long.push(4 << 3);
    too_long.extend([0xff; 9]);
    for (last, is_read) in [(1, true), (2, false), (0x81, false)] {
        let bytes = [too_long.as_slice(), &[last]].concat();
        assert_eq!(wire::Question::read_streamed(&bytes).is_some(), is_read, "{last}");
    }
}
