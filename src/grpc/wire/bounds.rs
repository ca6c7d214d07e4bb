//! How many entries the lists of a message have, and what it takes once it is decoded: found in its
//! bytes, before anything is made of them. An empty entry takes two bytes in a message and a hundred
//! times that decoded, so a limit that is looked at afterwards comes too late.
//!
//! What may contain what is read from the descriptors, so that no list is overlooked; how many there
//! may be stands in [`LIMITS`], which has a row for every list that a request may have. A test compares
//! the two.

use std::collections::HashMap;
use std::sync::LazyLock;

use prost::Message as _;
use prost::encoding::{DecodeContext, WireType, decode_key, decode_varint, skip_field};
use prost_types::field_descriptor_proto::{Label, Type};
use prost_types::{DescriptorProto, FileDescriptorSet};

use crate::domain::member::MAX_TEAMS;
use crate::domain::refusal::{Problem, Violation};
use crate::grpc::pb;
use crate::grpc::values::{MAX_FIELD_MASK_PATHS, MAX_IDS};
use crate::service::decide::MAX_BATCH;
use crate::service::preview::MAX_ASSIGNED;
use crate::service::roles::MAX_GRANTS;
use crate::service::token::MAX_TOKENS;
use crate::service::upsert;
use crate::service::watch::MAX_TENANTS;

/// The most entries of every list of a request: message, field, limit.
const LIMITS: [(&str, &str, usize); 18] = [
    ("BatchCheckRequest", "items", MAX_BATCH),
    ("CheckStreamRequest", "items", MAX_BATCH),
    ("FilterResourcesRequest", "resources", MAX_BATCH),
    ("WatchRequest", "tenant_ids", MAX_TENANTS),
    ("ConsistencyTokens", "tokens", MAX_TOKENS),
    ("IdList", "ids", MAX_IDS),
    ("CreateRoleRequest", "grants", MAX_GRANTS),
    ("UpdateRoleRequest", "grants", MAX_GRANTS),
    ("RoleUpdatePreview", "grants", MAX_GRANTS),
    ("RoleAssignmentPreview", "member_ids", MAX_ASSIGNED),
    ("RoleAssignmentPreview", "role_ids", MAX_IDS),
    ("CreateMemberRequest", "role_ids", MAX_IDS),
    ("CreateMemberRequest", "team_ids", MAX_TEAMS),
    ("UpdateMemberRequest", "team_ids", MAX_TEAMS),
    ("AssignRolesRequest", "role_ids", MAX_IDS),
    ("BatchUpsertMembersRequest", "members", upsert::MAX_BATCH),
    ("CreateTenantRequest", "owner_team_ids", MAX_TEAMS),
    ("FieldMask", "paths", MAX_FIELD_MASK_PATHS),
];

/// The place in memory of a text or a list, without what is in it.
const OWNED: usize = 24;
/// What a list takes for each entry, in places: it grows by doubling, and while it does the old one is
/// there as well.
const GROWTH: usize = 3;
/// What is made of a decoded message is there beside it for a while, so everything is counted twice.
const PARSED: usize = 2;
/// How deep messages may lie in one another; the decoder goes no deeper.
const DEPTH: usize = 100;
/// The most counters of one message, of its lists and those of what lies in it.
const MAX_SLOTS: usize = 8;

/// Finds what a message of this name takes once it is decoded, in bytes, at least as much as it does.
/// Zero for one of which nothing is known, which is no request.
///
/// # Errors
/// A list has more entries than it may have.
pub(in crate::grpc) fn measure(name: &str, message: &[u8]) -> Result<usize, Violation> {
    let shapes = &*SHAPES;
    let Some(shape) = shapes.by_name.get(name).and_then(|at| shapes.all.get(*at)) else {
        return Ok(0);
    };
    let mut taken = shape.size;
    let mut counts = [0; MAX_SLOTS];
    let walk = Walk { shapes, shape, depth: 0 };
    match walk.fields(message, 0, &mut counts, &mut taken) {
        // The decoder comes no further than this walk did.
        Ok(()) | Err(Stop::Malformed) => {
            Ok(taken.saturating_mul(PARSED).saturating_add(message.len()))
        }
        Err(Stop::TooMany { path, limit }) => {
            // The rest only has to be counted.
            let count = count_of(shapes, shape, message, &path).max(limit + 1);
            Err(Violation::new(written(&path), Problem::TooManyItems { count, limit }))
        }
    }
}

/// Where a field stands: its name and, in a list, its place there.
type Path = Vec<(String, Option<usize>)>;

fn written(path: &Path) -> String {
    let mut text = String::new();
    for (name, index) in path.iter().rev() {
        if !text.is_empty() {
            text.push('.');
        }
        text.push_str(name);
        if let Some(index) = index {
            text.push_str(&format!("[{index}]"));
        }
    }
    text
}

/// Why a walk went no further.
enum Stop {
    /// The decoder refuses this, too.
    Malformed,
    /// The path is written from its end, as the walk comes back.
    TooMany { path: Path, limit: usize },
}

#[derive(Clone, Copy)]
struct Walk<'s> {
    shapes: &'s Shapes,
    shape: &'s Shape,
    depth: usize,
}

impl Walk<'_> {
    /// Goes over the fields of one message. Its counters begin at `base`: a message that comes again
    /// where there can be one only is added to what there was, so it counts on.
    fn fields(
        self,
        mut rest: &[u8],
        base: usize,
        counts: &mut [usize; MAX_SLOTS],
        taken: &mut usize,
    ) -> Result<(), Stop> {
        if self.depth > DEPTH {
            return Err(Stop::Malformed);
        }
        while !rest.is_empty() {
            let (number, kind) = decode_key(&mut rest).map_err(|_| Stop::Malformed)?;
            let field = self.shape.fields.get(number as usize).and_then(Option::as_ref);
            let (Some(field), WireType::LengthDelimited) = (field, kind) else {
                let context = DecodeContext::default();
                skip_field(kind, number, &mut rest, context).map_err(|_| Stop::Malformed)?;
                continue;
            };
            let length = decode_varint(&mut rest).map_err(|_| Stop::Malformed)?;
            let length = usize::try_from(length).map_err(|_| Stop::Malformed)?;
            let (bytes, after) = rest.split_at_checked(length).ok_or(Stop::Malformed)?;
            rest = after;
            self.field(field, bytes, base, counts, taken)?;
        }
        Ok(())
    }

    fn field(
        self,
        field: &Field,
        bytes: &[u8],
        base: usize,
        counts: &mut [usize; MAX_SLOTS],
        taken: &mut usize,
    ) -> Result<(), Stop> {
        let index = match field.limit {
            None => None,
            Some(limit) => {
                let count = counts.get_mut(base + field.slot).ok_or(Stop::Malformed)?;
                let entries = match field.kind {
                    // Numbers of a list lie together, each ended by a byte below 128.
                    Kind::Number => bytes.iter().filter(|byte| **byte < 0x80).count(),
                    Kind::Text | Kind::Message(_) => 1,
                };
                *count += entries;
                if *count > limit {
                    return Err(Stop::TooMany { path: vec![(field.name.clone(), None)], limit });
                }
                Some(*count - 1)
            }
        };
        let entry = match field.kind {
            Kind::Number => size_of::<u64>() * bytes.len(),
            Kind::Text => {
                *taken += bytes.len().next_multiple_of(16);
                OWNED
            }
            Kind::Message(at) => {
                let shape = self.shapes.all.get(at).ok_or(Stop::Malformed)?;
                let walk = Walk { shape, depth: self.depth + 1, ..self };
                let walked = match index {
                    Some(_) => walk.fields(bytes, 0, &mut [0; MAX_SLOTS], taken),
                    None => walk.fields(bytes, base + field.slot, counts, taken),
                };
                walked.map_err(|stop| match stop {
                    Stop::TooMany { mut path, limit } => {
                        path.push((field.name.clone(), index));
                        Stop::TooMany { path, limit }
                    }
                    Stop::Malformed => Stop::Malformed,
                })?;
                shape.size
            }
        };
        if index.is_some() {
            *taken += GROWTH * entry;
        }
        Ok(())
    }
}

/// How many entries the list at this path has in all.
fn count_of(
    shapes: &Shapes,
    shape: &Shape,
    message: &[u8],
    path: &[(String, Option<usize>)],
) -> usize {
    let Some(((name, index), inner)) = path.split_last() else { return 0 };
    let mut rest = message;
    let (mut seen, mut count) = (0, 0);
    while !rest.is_empty() {
        let Ok((number, kind)) = decode_key(&mut rest) else { break };
        let field = shape.fields.get(number as usize).and_then(Option::as_ref);
        let (Some(field), WireType::LengthDelimited) =
            (field.filter(|field| field.name == *name), kind)
        else {
            if skip_field(kind, number, &mut rest, DecodeContext::default()).is_err() {
                break;
            }
            continue;
        };
        let length = decode_varint(&mut rest).ok().and_then(|length| usize::try_from(length).ok());
        let Some((bytes, after)) = length.and_then(|length| rest.split_at_checked(length)) else {
            break;
        };
        rest = after;
        if inner.is_empty() {
            count += match field.kind {
                Kind::Number => bytes.iter().filter(|byte| **byte < 0x80).count(),
                Kind::Text | Kind::Message(_) => 1,
            };
        } else if let Kind::Message(at) = field.kind
            && index.is_none_or(|index| index == seen)
            && let Some(shape) = shapes.all.get(at)
        {
            count += count_of(shapes, shape, bytes, inner);
        }
        seen += 1;
    }
    count
}

/// The messages that requests are made of.
struct Shapes {
    all: Vec<Shape>,
    by_name: HashMap<String, usize>,
}

/// A message.
#[derive(Default)]
struct Shape {
    /// By their numbers.
    fields: Vec<Option<Field>>,
    /// What it takes in memory, without what it owns.
    size: usize,
    /// How many counters it has.
    slots: usize,
}

struct Field {
    name: String,
    kind: Kind,
    /// The most entries, of a list.
    limit: Option<usize>,
    /// The first of its counters among those of its message.
    slot: usize,
}

#[derive(Clone, Copy)]
enum Kind {
    Number,
    Text,
    Message(usize),
}

static SHAPES: LazyLock<Shapes> = LazyLock::new(|| {
    let files = FileDescriptorSet::decode(pb::DESCRIPTORS).unwrap_or_default().file;
    let mut messages = HashMap::new();
    for file in &files {
        for message in &file.message_type {
            messages.insert(format!(".{}.{}", file.package(), message.name()), message);
        }
    }
    let mut making = Making { messages: &messages, all: Vec::new(), made: HashMap::new() };
    let mut by_name = HashMap::new();
    for file in &files {
        for method in file.service.iter().flat_map(|service| &service.method) {
            let at = making.shape(method.input_type());
            let name = method.input_type().rsplit('.').next().unwrap_or_default();
            by_name.insert(name.to_owned(), at);
        }
    }
    Shapes { all: making.all, by_name }
});

struct Making<'d> {
    messages: &'d HashMap<String, &'d DescriptorProto>,
    all: Vec<Shape>,
    made: HashMap<String, usize>,
}

impl Making<'_> {
    /// The place of a message, made with all that lies in it.
    fn shape(&mut self, name: &str) -> usize {
        if let Some(at) = self.made.get(name) {
            return *at;
        }
        let at = self.all.len();
        self.all.push(Shape::default());
        self.made.insert(name.to_owned(), at);
        let mut shape = Shape::default();
        let Some(message) = self.messages.get(name).copied() else { return at };
        for field in &message.field {
            let is_list = field.label() == Label::Repeated;
            let kind = match field.r#type() {
                Type::Message | Type::Group => Kind::Message(self.shape(field.type_name())),
                Type::String | Type::Bytes => Kind::Text,
                _ => Kind::Number,
            };
            let inner = match kind {
                Kind::Message(at) => {
                    self.all.get(at).map_or((0, 0), |inner| (inner.size, inner.slots))
                }
                Kind::Text => (OWNED, 0),
                Kind::Number => (size_of::<u64>(), 0),
            };
            let slot = shape.slots;
            let limit = is_list.then(|| limit(message.name(), field.name()));
            // A list is one counter here; those of its entries begin anew with each.
            shape.slots += if is_list { 1 } else { inner.1 };
            // An optional value may take a word more.
            shape.size += if is_list { OWNED } else { inner.0 + size_of::<u64>() };
            let number = field.number().unsigned_abs() as usize;
            if shape.fields.len() <= number {
                shape.fields.resize_with(number + 1, || None);
            }
            if let Some(place) = shape.fields.get_mut(number) {
                *place = Some(Field { name: field.name().to_owned(), kind, limit, slot });
            }
        }
        if let Some(place) = self.all.get_mut(at) {
            *place = shape;
        }
        at
    }
}

/// A list without a row may have no entries, which the test below tells before anybody meets it.
fn limit(message: &str, field: &str) -> usize {
    let row = LIMITS.iter().find(|(of, name, _)| (*of, *name) == (message, field));
    row.map_or(0, |(_, _, limit)| *limit)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_list_of_a_request_has_a_limit_and_every_limit_a_list() {
        let files = FileDescriptorSet::decode(pb::DESCRIPTORS).unwrap().file;
        let messages: HashMap<_, _> = files
            .iter()
            .flat_map(|file| {
                let of =
                    |message: &DescriptorProto| format!(".{}.{}", file.package(), message.name());
                file.message_type.iter().map(move |message| (of(message), message))
            })
            .collect();
        let methods = files.iter().flat_map(|file| &file.service).flat_map(|one| &one.method);
        let mut open: Vec<_> = methods.map(|method| method.input_type().to_owned()).collect();
        let (mut seen, mut lists) = (BTreeSet::new(), BTreeSet::new());
        while let Some(name) = open.pop() {
            if !seen.insert(name.clone()) {
                continue;
            }
            let message = messages.get(&name).unwrap_or_else(|| panic!("{name} is not described"));
            assert!(message.nested_type.is_empty(), "{name} has a map, which is not measured");
            for field in &message.field {
                if field.label() == Label::Repeated {
                    lists.insert((message.name().to_owned(), field.name().to_owned()));
                }
                if field.r#type() == Type::Message {
                    open.push(field.type_name().to_owned());
                }
            }
        }
        let rows: BTreeSet<_> =
            LIMITS.map(|(message, field, _)| (message.to_owned(), field.to_owned())).into();
        assert_eq!(lists, rows);
        for (name, at) in &SHAPES.by_name {
            assert!(SHAPES.all[*at].slots <= MAX_SLOTS, "{name}");
        }
    }

    fn refused(name: &str, message: &[u8]) -> Option<(String, usize, usize)> {
        let violation = measure(name, message).err()?;
        let Problem::TooManyItems { count, limit } = violation.problem else { panic!() };
        Some((violation.field, count, limit))
    }

    /// A field of bytes, wherever its number.
    fn field(number: u32, bytes: &[u8]) -> Vec<u8> {
        let mut field = Vec::new();
        prost::encoding::encode_key(number, WireType::LengthDelimited, &mut field);
        prost::encoding::encode_varint(bytes.len() as u64, &mut field);
        [field.as_slice(), bytes].concat()
    }

    #[test]
    fn too_many_entries_are_found_wherever_they_lie() {
        let ids = |count: usize| field(1, b"").repeat(count);
        let item = |resource: &[u8]| field(2, &field(3, resource));
        let cases = [
            (
                "BatchUpsertMembersRequest",
                field(2, b"").repeat(1 << 20),
                "members",
                1 << 20,
                10_000,
            ),
            ("CreateRoleRequest", field(4, b"").repeat(5_000), "grants", 5_000, MAX_GRANTS),
            ("WatchRequest", field(1, b"").repeat(1_001), "tenant_ids", 1_001, 1_000),
            ("CheckRequest", field(4, &field(3, &ids(1_001))), "resource.teams.ids", 1_001, 1_000),
            (
                "CheckRequest",
                // In pieces that are put together.
                field(4, &field(3, &ids(600))).repeat(2),
                "resource.teams.ids",
                1_200,
                1_000,
            ),
            (
                "BatchCheckRequest",
                [item(&field(2, &ids(1_000))).repeat(7), item(&field(5, &ids(1_003)))].concat(),
                "items[7].resource.participants.ids",
                1_003,
                1_000,
            ),
            (
                "CheckRequest",
                field(5, &field(2, &ids(101))),
                "consistency.at_least_as_fresh.tokens",
                101,
                100,
            ),
            (
                "UpdateRoleRequest",
                field(6, &ids(200)),
                "update_mask.paths",
                200,
                MAX_FIELD_MASK_PATHS,
            ),
            (
                "PreviewRoleChangeRequest",
                field(4, &ids(1_001)),
                "assignment.member_ids",
                1_001,
                MAX_ASSIGNED,
            ),
        ];
        for (name, message, path, count, limit) in cases {
            assert_eq!(refused(name, &message), Some((path.to_owned(), count, limit)), "{name}");
            // And with what is unknown, or of another kind, before it.
            let odd = [&[0x80, 0x7d, 1][..], &field(90, b"..."), &message].concat();
            assert_eq!(refused(name, &odd), Some((path.to_owned(), count, limit)), "{name}");
        }
    }

    #[test]
    fn what_is_within_the_limits_is_measured() {
        let upsert = pb::MemberUpsert {
            member_id: "m".repeat(40),
            team_ids: Some(pb::IdList::decode(field(1, b"t").repeat(1_000).as_slice()).unwrap()),
            ..Default::default()
        };
        let batch =
            pb::BatchUpsertMembersRequest { members: vec![upsert; 10], ..Default::default() };
        let taken = measure("BatchUpsertMembersRequest", &batch.encode_to_vec()).unwrap();
        let least = 10 * (size_of::<pb::MemberUpsert>() + 1_000 * (size_of::<String>() + 16));
        assert!((least..8 * least).contains(&taken), "{taken}, {least}");
        for name in SHAPES.by_name.keys() {
            assert!(measure(name, b"").unwrap() > 0, "{name}");
            // Broken off: the decoder refuses it.
            assert!(measure(name, &[0x0a, 5, b'x']).is_ok(), "{name}");
        }
        assert_eq!(measure("CheckResponse", &[0x0a, 0]).unwrap(), 0);
    }

    #[test]
    fn no_message_takes_more_than_its_size_says() {
        macro_rules! sizes {
            ($($message:ident)*) => {
                $(
                    let at = SHAPES.by_name[stringify!($message)];
                    assert!(SHAPES.all[at].size >= size_of::<pb::$message>(), stringify!($message));
                )*
            };
        }
        sizes!(CheckRequest BatchCheckRequest CheckStreamRequest FilterResourcesRequest
            CreateRoleRequest UpdateRoleRequest PreviewRoleChangeRequest CreateMemberRequest
            BatchUpsertMembersRequest WatchRequest ExplainRequest CreateTenantRequest);
    }
}
