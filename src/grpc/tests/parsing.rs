//! Values of messages, one by one.

use prost_types::{FieldMask, Timestamp as ProtoTime};

use crate::domain::Timestamp;
use crate::domain::ids::{MemberId, TeamId};
use crate::domain::refusal::{Problem, Unit, Violation};
use crate::domain::resource::Resource;
use crate::grpc::fields::{Fields, Sound};
use crate::grpc::{pb, values};
use crate::service::caller::Caller;
use crate::service::token::Consistency;

/// What a parser makes of something, or all that it finds wrong.
fn parsed<T>(parse: impl FnOnce(&mut Fields) -> Sound<T>) -> Result<T, Vec<Violation>> {
    let mut fields = Fields::of_message(std::sync::Arc::new(Caller::development()));
    let value = parse(&mut fields);
    fields.all_or_violations((value,)).map(|(value,)| value)
}

fn resource(resource: pb::Resource) -> Result<Resource, Vec<Violation>> {
    parsed(|fields| values::resource(fields, "items[3].resource", resource))
}

fn ids(ids: &[&str]) -> Option<pb::IdList> {
    Some(ids.iter().map(|id| (*id).to_owned()).collect::<Vec<_>>().into())
}

#[test]
fn absent_is_not_empty_and_empty_is_said_out_loud() {
    let nothing = Resource::default();
    let none = pb::Resource::default();
    let me = || MemberId::trusted("me");
    for (said, understood) in [
        (none.clone(), nothing.clone()),
        (
            pb::Resource { assignees: ids(&[]), ..none.clone() },
            Resource { assignees: Some(vec![]), ..nothing.clone() },
        ),
        (
            pb::Resource { assignees: ids(&["me"]), ..none.clone() },
            Resource { assignees: Some(vec![me()]), ..nothing.clone() },
        ),
        (
            pb::Resource { teams: ids(&[]), ..none.clone() },
            Resource { teams: Some(vec![]), ..nothing.clone() },
        ),
        (
            pb::Resource { teams: ids(&["t", "t"]), ..none.clone() },
            Resource {
                teams: Some(vec![TeamId::trusted("t"), TeamId::trusted("t")]),
                ..nothing.clone()
            },
        ),
        (
            pb::Resource { creator_id: Some(String::new()), ..none.clone() },
            Resource { creator: Some(None), ..nothing.clone() },
        ),
        (
            pb::Resource { creator_id: Some("me".into()), ..none.clone() },
            Resource { creator: Some(Some(me())), ..nothing.clone() },
        ),
        (
            pb::Resource { participants: ids(&[]), ..none.clone() },
            Resource { participants: Some(vec![]), ..nothing.clone() },
        ),
        (
            pb::Resource { public: Some(false), ..none.clone() },
            Resource { public: Some(false), ..nothing.clone() },
        ),
        (
            pb::Resource { id: "42".into(), public: Some(true), ..none.clone() },
            Resource { id: "42".into(), public: Some(true), ..nothing.clone() },
        ),
    ] {
        assert_eq!(resource(said), Ok(understood));
    }
    // A resource that says nothing is still not the same as none.
    let given = |resource| parsed(|fields| values::optional_resource(fields, "resource", resource));
    assert_eq!(given(None), Ok(None));
    assert_eq!(given(Some(none)), Ok(Some(nothing)));
}

#[test]
fn all_that_is_wrong_with_a_resource_is_told_with_its_path() {
    let too_many = vec!["x".to_owned(); 1_001];
    let wrong = pb::Resource {
        id: "x".repeat(513),
        assignees: ids(&["", "fine", "a\nb"]),
        teams: Some(too_many.into()),
        creator_id: Some("x".repeat(129)),
        participants: ids(&["\u{0}"]),
        public: None,
    };
    let control = || Problem::Invalid("must not contain control characters".into());
    let bytes = |length, limit| Problem::TooLong { length, limit, unit: Unit::Bytes };
    let expected = [
        ("id", bytes(513, 512)),
        ("assignees.ids[0]", Problem::Required),
        ("assignees.ids[2]", control()),
        ("teams.ids", Problem::TooManyItems { count: 1_001, limit: 1_000 }),
        ("creator_id", bytes(129, 128)),
        ("participants.ids[0]", control()),
    ];
    let expected: Vec<_> = expected
        .into_iter()
        .map(|(field, problem)| Violation::new(format!("items[3].resource.{field}"), problem))
        .collect();
    assert_eq!(resource(wrong), Err(expected));
    let longest = pb::Resource { id: "x".repeat(512), ..pb::Resource::default() };
    assert!(resource(longest).is_ok());
    let control = pb::Resource { id: "a\u{7f}".into(), ..pb::Resource::default() };
    assert!(resource(control).is_err());
}

#[test]
fn a_list_with_neither_ids_nor_none_is_refused_and_so_is_one_with_both() {
    let list = |ids: &[&str], none| {
        Some(pb::IdList { ids: ids.iter().map(|id| (*id).to_owned()).collect(), none })
    };
    for (list, field) in [(list(&[], false), "assignees"), (list(&["kim"], true), "assignees.none")]
    {
        let wrong = pb::Resource { assignees: list, ..pb::Resource::default() };
        let found = resource(wrong).unwrap_err();
        let [Violation { field: named, problem: Problem::Invalid(what) }] = &found[..] else {
            panic!("{found:?}")
        };
        assert_eq!(*named, format!("items[3].resource.{field}"));
        assert!(what.contains("none") && what.contains("unset"), "{what}");
    }
}

#[test]
fn violations_are_kept_up_to_a_bound() {
    let texts = vec![String::new(); 5_000];
    let found = parsed(|fields| fields.ids::<MemberId>("ids", &texts)).unwrap_err();
    assert_eq!(found.len(), 100);
    let mut item = Fields::of_item();
    let ids: Sound<Vec<MemberId>> = item.ids("ids", &texts);
    assert_eq!(item.all_or_violations((ids,)).unwrap_err().len(), 10);
}

#[test]
fn something_wrong_is_never_lost() {
    // A parser that says "sound" all the same does not get through.
    let mut fields = Fields::of_message(std::sync::Arc::new(Caller::development()));
    let _: Sound<MemberId> = fields.id("member_id", "");
    assert!(fields.all((Some(1),)).is_err());
}

#[test]
fn freshness() {
    use pb::consistency::Requirement;
    let parse = |requirement| {
        let given = Some(pb::Consistency { requirement });
        parsed(|fields| values::consistency(fields, given))
    };
    let tokens = pb::ConsistencyTokens { tokens: vec!["a".into(), "b".into()] };
    for (requirement, understood) in [
        (Some(Requirement::MinimizeLatency(true)), Consistency::MinimizeLatency),
        (Some(Requirement::FullyConsistent(true)), Consistency::FullyConsistent),
        (
            Some(Requirement::AtLeastAsFresh(tokens)),
            Consistency::AtLeastAsFresh(vec!["a".into(), "b".into()]),
        ),
        // The tokens themselves are for the use case to read, also when there are none.
        (
            Some(Requirement::AtLeastAsFresh(pb::ConsistencyTokens::default())),
            Consistency::AtLeastAsFresh(vec![]),
        ),
    ] {
        assert_eq!(parse(requirement), Ok(understood));
    }
    assert_eq!(parsed(|fields| values::consistency(fields, None)), Ok(Consistency::default()));
    for (requirement, field) in [
        (None, "consistency"),
        (Some(Requirement::MinimizeLatency(false)), "consistency.minimize_latency"),
        (Some(Requirement::FullyConsistent(false)), "consistency.fully_consistent"),
    ] {
        let found = parse(requirement).unwrap_err();
        assert_eq!(found[0].field, field);
        assert!(matches!(found[0].problem, Problem::Invalid(_)));
    }
}

#[test]
fn masks() {
    let parse = |paths: Option<&[&str]>| {
        let paths = paths.map(|paths| paths.iter().map(|path| (*path).to_owned()).collect());
        let mask = paths.map(|paths| FieldMask { paths });
        let mask = parsed(|fields| values::mask(fields, mask, &["name", "grants"]));
        mask.map(|mask| (mask.has("name"), mask.has("grants")))
    };
    assert_eq!(parse(Some(&["name"])), Ok((true, false)));
    assert_eq!(parse(Some(&["grants", "name", "grants"])), Ok((true, true)));
    let problem = Problem::FieldMask { allowed: vec!["name".into(), "grants".into()] };
    for wrong in
        [None, Some(&[][..]), Some(&["*"]), Some(&["name", "id"]), Some(&["Name"]), Some(&[""])]
    {
        let violation = Violation::new("update_mask", problem.clone());
        assert_eq!(parse(wrong), Err(vec![violation]), "{wrong:?}");
    }
}

#[test]
fn times_are_rounded_up_to_what_the_database_keeps() {
    let parse = |seconds, nanos| {
        parsed(|fields| values::time(fields, "start_time", Some(ProtoTime { seconds, nanos })))
    };
    for (seconds, nanos, micros) in [
        (0, 0, 0),
        (1, 1_000, 1_000_001),
        (1, 1, 1_000_001),
        (1, 999_999_999, 2_000_000),
        (-1, 999_999_000, -1),
        (-62_135_596_800, 0, -62_135_596_800_000_000),
    ] {
        assert_eq!(parse(seconds, nanos), Ok(Some(Timestamp(micros))), "{seconds} {nanos}");
    }
    for (seconds, nanos) in [(0, -1), (0, 1_000_000_000), (i64::MAX, 0), (-62_135_596_801, 0)] {
        assert_eq!(parse(seconds, nanos).unwrap_err()[0].field, "start_time");
    }
    assert_eq!(parsed(|fields| values::time(fields, "start_time", None)), Ok(None));
}

#[test]
fn enums_have_no_values_but_their_own() {
    let view = |number| parsed(|fields| values::enumeration(fields, "view", number));
    assert_eq!(view(0), Ok(pb::RoleView::Unspecified));
    assert_eq!(view(2), Ok(pb::RoleView::Full));
    for number in [3, -1, i32::MAX] {
        assert_eq!(view(number).unwrap_err()[0].field, "view");
    }
}
