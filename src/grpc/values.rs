//! Values that several messages have in common, parsed.

use super::fields::{Fields, Id, Path, Sound};
use super::pb;
use crate::domain::Timestamp;
use crate::domain::grant::Grant;
use crate::domain::member::MemberStatus;
use crate::domain::refusal::Problem;
use crate::domain::resource::Resource;
use crate::service::page::PageRequest;
use crate::service::token::Consistency;

/// The longest id of a resource, in bytes.
pub(super) const MAX_RESOURCE_ID_BYTES: usize = 512;
/// The most ids in one list that may be unset: of a resource, and of a member in a batch.
pub(super) const MAX_IDS: usize = 1_000;
/// The most fields that an update names.
pub(super) const MAX_FIELD_MASK_PATHS: usize = 100;

const EMPTY_LIST: &str = "is an empty list, as clients send it also for a list whose shape or name \
    they got wrong. Send {\"ids\": [...]} to name some, {\"none\": true} to say that there is none, or \
    leave the whole field unset to say nothing";
const NO_REQUIREMENT: &str = "names no requirement. Set minimize_latency, at_least_as_fresh or \
    fully_consistent in it, or leave consistency unset for minimize_latency";
const IDS_AND_NONE: &str = "must be left unset where there are ids: true says that there is none";

/// A resource. **Absent is not empty**, so presence is carried over as it is.
pub(super) fn resource<'p>(
    fields: &mut Fields,
    path: impl Into<Path<'p>>,
    resource: pb::Resource,
) -> Sound<Resource> {
    let path = path.into();
    let pb::Resource { id, assignees, teams, creator_id, participants, public } = resource;
    let id = fields.opaque(path.then("id"), id, MAX_RESOURCE_ID_BYTES);
    let assignees = id_list(fields, path.then("assignees"), assignees);
    let teams = id_list(fields, path.then("teams"), teams);
    let creator = match creator_id {
        None => Some(None),
        // Said, and no member: someone made it who is not in the tenant.
        Some(id) if id.is_empty() => Some(Some(None)),
        Some(id) => fields.id(path.then("creator_id"), &id).map(|id| Some(Some(id))),
    };
    let participants = id_list(fields, path.then("participants"), participants);
    Some(Resource {
        id: id?,
        assignees: assignees?,
        teams: teams?,
        creator: creator?,
        participants: participants?,
        public,
    })
}

/// A resource that a question may come without.
pub(super) fn optional_resource<'p>(
    fields: &mut Fields,
    path: impl Into<Path<'p>>,
    given: Option<pb::Resource>,
) -> Sound<Option<Resource>> {
    match given {
        None => Some(None),
        Some(given) => resource(fields, path, given).map(Some),
    }
}

/// A list of ids that may be unset.
///
/// Clients that got a list wrong (an array where the message belongs, a name that is not the field's)
/// send an empty one without a word, and "nobody, in no team" is what opens the general pool. So "none"
/// has to be said.
pub(super) fn id_list<'p, I: Id>(
    fields: &mut Fields,
    path: impl Into<Path<'p>>,
    list: Option<pb::IdList>,
) -> Sound<Option<Vec<I>>> {
    let Some(pb::IdList { ids, none }) = list else { return Some(None) };
    let path = path.into();
    match (ids.is_empty(), none) {
        (true, true) => return Some(Some(Vec::new())),
        (true, false) => return fields.wrong(path, Problem::Invalid(EMPTY_LIST.to_owned())),
        (false, true) => {
            let problem = Problem::Invalid(IDS_AND_NONE.to_owned());
            return fields.wrong(path.then("none"), problem);
        }
        (false, false) => {}
    }
    let path = path.then("ids");
    let ids = fields.at_most(MAX_IDS, path, ids)?;
    fields.ids(path, &ids).map(Some)
}

/// How fresh an answer must be.
///
/// `fully_consistent: false` could be read as "not at all" or as "that one, but": either reading
/// gives some callers an answer that is not as fresh as they think, so it is refused.
pub(super) fn consistency(
    fields: &mut Fields,
    consistency: Option<pb::Consistency>,
) -> Sound<Consistency> {
    use pb::consistency::Requirement;
    let Some(pb::Consistency { requirement }) = consistency else {
        return Some(Consistency::MinimizeLatency);
    };
    let mut must_be_true = |field| {
        let problem = Problem::Invalid("must be true; leave it unset otherwise".to_owned());
        fields.wrong(Path::from("consistency").then(field), problem)
    };
    match requirement {
        None => fields.wrong("consistency", Problem::Invalid(NO_REQUIREMENT.to_owned())),
        Some(Requirement::MinimizeLatency(true)) => Some(Consistency::MinimizeLatency),
        Some(Requirement::FullyConsistent(true)) => Some(Consistency::FullyConsistent),
        Some(Requirement::AtLeastAsFresh(pb::ConsistencyTokens { tokens })) => {
            Some(Consistency::AtLeastAsFresh(tokens))
        }
        Some(Requirement::MinimizeLatency(false)) => must_be_true("minimize_latency"),
        Some(Requirement::FullyConsistent(false)) => must_be_true("fully_consistent"),
    }
}

/// The whole new list of something, which is empty only where the flag beside it says so: a list whose
/// name a client got wrong comes as an empty one, and would take everything away.
pub(super) fn whole<T>(
    fields: &mut Fields,
    (path, list): (&str, Sound<Vec<T>>),
    (flag, is_none): (&str, bool),
) -> Sound<Vec<T>> {
    let list = list?;
    match (list.is_empty(), is_none) {
        (true, false) => {
            let problem = format!(
                "is an empty list, as clients send it also for a list whose name they got wrong. \
                 Name at least one, or send {{\"{flag}\": true}} to take all away"
            );
            fields.wrong(path, Problem::Invalid(problem))
        }
        (false, true) => {
            let problem = format!("must be left unset where {path} has entries");
            fields.wrong(flag, Problem::Invalid(problem))
        }
        _ => Some(list),
    }
}

/// A page, whose size and token the use case looks at.
pub(super) fn page(size: i32, token: String) -> PageRequest {
    PageRequest { size, token }
}

/// Grants as they were ticked; whether they can be granted is for the catalog to say.
pub(super) fn grants(
    fields: &mut Fields,
    path: &Path<'_>,
    grants: Vec<pb::Grant>,
) -> Sound<Vec<Grant>> {
    fields.each(grants, |fields, index, pb::Grant { permission, scope }| {
        let permission = fields.required(path.at(index).then("permission"), permission);
        Some(Grant { permission: permission?, scope: given(scope) })
    })
}

/// A text, unless it is empty.
pub(super) fn given(text: String) -> Option<String> {
    Some(text).filter(|text| !text.is_empty())
}

/// The fields that an update changes.
#[derive(Debug)]
pub(super) struct Mask(Vec<String>);

impl Mask {
    /// Whether this one is among them.
    pub(super) fn has(&self, field: &str) -> bool {
        self.0.iter().any(|path| path == field)
    }
}

/// An update mask over these fields. There is no `*`: it would change fields that a client does not
/// know yet.
pub(super) fn mask(
    fields: &mut Fields,
    mask: Option<prost_types::FieldMask>,
    allowed: &[&str],
) -> Sound<Mask> {
    let prost_types::FieldMask { paths } = mask.unwrap_or_default();
    if paths.is_empty() || !paths.iter().all(|path| allowed.contains(&path.as_str())) {
        let allowed = allowed.iter().map(|field| (*field).to_owned()).collect();
        return fields.wrong("update_mask", Problem::FieldMask { allowed });
    }
    Some(Mask(paths))
}

/// A value of an enum that this version knows; the unspecified one included.
pub(super) fn enumeration<'p, E: TryFrom<i32>>(
    fields: &mut Fields,
    path: impl Into<Path<'p>>,
    number: i32,
) -> Sound<E> {
    match E::try_from(number) {
        Ok(value) => Some(value),
        Err(_) => {
            fields.wrong(path, Problem::Invalid("must be one of the enum's values".to_owned()))
        }
    }
}

/// A member's status, if one is named.
pub(super) fn member_status<'p>(
    fields: &mut Fields,
    path: impl Into<Path<'p>>,
    status: i32,
) -> Sound<Option<MemberStatus>> {
    enumeration(fields, path, status).map(|status| match status {
        pb::MemberStatus::Unspecified => None,
        pb::MemberStatus::Active => Some(MemberStatus::Active),
        pb::MemberStatus::Archived => Some(MemberStatus::Archived),
    })
}

/// A point in time as the database keeps it: the first microsecond that is not before it, which is
/// right for "at or after" and for "before".
pub(super) fn time<'p>(
    fields: &mut Fields,
    path: impl Into<Path<'p>>,
    time: Option<prost_types::Timestamp>,
) -> Sound<Option<Timestamp>> {
    /// Years 1 to 9999, as google.protobuf.Timestamp has it.
    const SECONDS: std::ops::RangeInclusive<i64> = -62_135_596_800..=253_402_300_799;
    let Some(prost_types::Timestamp { seconds, nanos }) = time else { return Some(None) };
    if !SECONDS.contains(&seconds) || !(0..1_000_000_000).contains(&nanos) {
        let problem = "must be a time between the years 1 and 9999, with nanos below a billion";
        return fields.wrong(path, Problem::Invalid(problem.to_owned()));
    }
    let micros = seconds * 1_000_000 + i64::from(nanos).div_euclid(1_000);
    Some(Some(Timestamp(micros + i64::from(nanos % 1_000 != 0))))
}
