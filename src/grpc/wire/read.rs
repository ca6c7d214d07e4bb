//! The messages, borrowed from their bytes. Texts stay bytes, which are known to be one: nothing that
//! decides needs more.

use super::reader::{Fields, Value, once, text};
use crate::domain::ids::{TenantId, are_id, are_text, has_control_character};
use crate::domain::resource::Described;
use crate::grpc::values::{MAX_IDS, MAX_RESOURCE_ID_BYTES};
use crate::service::decide::Decisions;
use crate::service::token::{self, MAX_TOKENS};
use crate::store::{DecisionSource, Freshness};

/// A `CheckRequest`.
#[derive(Debug, Clone, Copy)]
pub(in crate::grpc) struct Check<'a> {
    pub(in crate::grpc) tenant: &'a str,
    pub(in crate::grpc) question: Question<'a>,
    pub(in crate::grpc) consistency: Consistency<'a>,
}

impl<'a> Check<'a> {
    pub(in crate::grpc) fn read(message: &'a [u8]) -> Option<Self> {
        let (mut tenant, mut consistency, mut question) = (None, None, Parts::default());
        for field in Fields::of(message) {
            match field? {
                (1, Value::Bytes(bytes)) => once(&mut tenant, id(bytes).and_then(text))?,
                (2, Value::Bytes(bytes)) => once(&mut question.member, id(bytes))?,
                (3, Value::Bytes(bytes)) => once(&mut question.permission, given(bytes))?,
                (4, Value::Bytes(bytes)) => once(&mut question.resource, Resource::read(bytes))?,
                (5, Value::Bytes(bytes)) => once(&mut consistency, Consistency::read(bytes))?,
                _ => return None,
            }
        }
        Some(Check {
            tenant: tenant?,
            question: question.whole()?,
            consistency: consistency.unwrap_or_default(),
        })
    }
}

/// A `BatchCheckRequest`, or a `CheckStreamRequest`: their fields have the same numbers.
#[derive(Debug, Clone, Copy)]
pub(in crate::grpc) struct Batch<'a> {
    pub(in crate::grpc) tenant: &'a str,
    /// What the message has of these, not yet looked into.
    pub(in crate::grpc) items: Items<'a>,
    pub(in crate::grpc) consistency: Consistency<'a>,
}

impl<'a> Batch<'a> {
    pub(in crate::grpc) fn read(message: &'a [u8]) -> Option<Self> {
        let (mut tenant, mut consistency, mut count) = (None, None, 0);
        for field in Fields::of(message) {
            match field? {
                (1, Value::Bytes(bytes)) => once(&mut tenant, id(bytes).and_then(text))?,
                (2, Value::Bytes(_)) => count += 1,
                (3, Value::Bytes(bytes)) => once(&mut consistency, Consistency::read(bytes))?,
                _ => return None,
            }
        }
        Some(Batch {
            tenant: tenant?,
            items: Items { message, number: 2, count },
            consistency: consistency.unwrap_or_default(),
        })
    }
}

/// A `FilterResourcesRequest`.
#[derive(Debug, Clone, Copy)]
pub(in crate::grpc) struct Filter<'a> {
    pub(in crate::grpc) tenant: &'a str,
    pub(in crate::grpc) member: &'a [u8],
    pub(in crate::grpc) permission: &'a [u8],
    /// What the message has of these, not yet looked into.
    pub(in crate::grpc) resources: Items<'a>,
    pub(in crate::grpc) consistency: Consistency<'a>,
}

impl<'a> Filter<'a> {
    pub(in crate::grpc) fn read(message: &'a [u8]) -> Option<Self> {
        let (mut tenant, mut consistency, mut count) = (None, None, 0);
        let (mut member, mut permission) = (None, None);
        for field in Fields::of(message) {
            match field? {
                (1, Value::Bytes(bytes)) => once(&mut tenant, id(bytes).and_then(text))?,
                (2, Value::Bytes(bytes)) => once(&mut member, id(bytes))?,
                (3, Value::Bytes(bytes)) => once(&mut permission, given(bytes))?,
                (4, Value::Bytes(_)) => count += 1,
                (5, Value::Bytes(bytes)) => once(&mut consistency, Consistency::read(bytes))?,
                _ => return None,
            }
        }
        Some(Filter {
            tenant: tenant?,
            member: member?,
            permission: permission?,
            resources: Items { message, number: 4, count },
            consistency: consistency.unwrap_or_default(),
        })
    }
}

/// The messages of one repeated field.
#[derive(Debug, Clone, Copy)]
pub(in crate::grpc) struct Items<'a> {
    message: &'a [u8],
    number: u8,
    count: usize,
}

impl<'a> Items<'a> {
    pub(in crate::grpc) fn len(&self) -> usize {
        self.count
    }

    /// Each as its bytes.
    pub(in crate::grpc) fn iter(&self) -> impl Iterator<Item = &'a [u8]> + Clone + use<'a> {
        bytes_of(self.message, self.number)
    }
}

/// One question: in a `CheckRequest`, or as an item.
#[derive(Debug, Clone, Copy)]
pub(in crate::grpc) struct Question<'a> {
    pub(in crate::grpc) member: &'a [u8],
    pub(in crate::grpc) permission: &'a [u8],
    pub(in crate::grpc) resource: Option<Resource<'a>>,
}

impl<'a> Question<'a> {
    /// A `CheckItem`.
    pub(in crate::grpc) fn read(item: &'a [u8]) -> Option<Self> {
        let mut question = Parts::default();
        for field in Fields::of(item) {
            question.take(field?)?;
        }
        question.whole()
    }

    /// A `StreamedCheck`: the fields of a `CheckItem`, and its correlation id.
    pub(in crate::grpc) fn read_streamed(item: &'a [u8]) -> Option<(u64, Self)> {
        let (mut correlation, mut question) = (None, Parts::default());
        for field in Fields::of(item) {
            match field? {
                (4, Value::Number(id)) => once(&mut correlation, Some(id))?,
                other => question.take(other)?,
            }
        }
        Some((correlation.unwrap_or_default(), question.whole()?))
    }
}

#[derive(Default)]
struct Parts<'a> {
    member: Option<&'a [u8]>,
    permission: Option<&'a [u8]>,
    resource: Option<Resource<'a>>,
}

impl<'a> Parts<'a> {
    /// A field of a `CheckItem`.
    fn take(&mut self, field: (u8, Value<'a>)) -> Option<()> {
        match field {
            (1, Value::Bytes(bytes)) => once(&mut self.member, id(bytes)),
            (2, Value::Bytes(bytes)) => once(&mut self.permission, given(bytes)),
            (3, Value::Bytes(bytes)) => once(&mut self.resource, Resource::read(bytes)),
            _ => None,
        }
    }

    fn whole(self) -> Option<Question<'a>> {
        let Parts { member, permission, resource } = self;
        Some(Question { member: member?, permission: permission?, resource })
    }
}

/// A `Resource`. **Absent is not empty, and empty is said out loud**, as everywhere.
#[derive(Debug, Clone, Copy, Default)]
pub(in crate::grpc) struct Resource<'a> {
    /// Empty: it has none.
    pub(in crate::grpc) id: &'a [u8],
    assignees: Option<Texts<'a>>,
    teams: Option<Texts<'a>>,
    /// Empty: no member.
    creator: Option<&'a [u8]>,
    participants: Option<Texts<'a>>,
    public: Option<bool>,
}

impl<'a> Resource<'a> {
    pub(in crate::grpc) fn read(message: &'a [u8]) -> Option<Self> {
        let (mut own_id, mut resource) = (None, Resource::default());
        for field in Fields::of(message) {
            match field? {
                (1, Value::Bytes(bytes)) => once(&mut own_id, resource_id(bytes))?,
                (2, Value::Bytes(bytes)) => once(&mut resource.assignees, ids(bytes))?,
                (3, Value::Bytes(bytes)) => once(&mut resource.teams, ids(bytes))?,
                (4, Value::Bytes(bytes)) => once(&mut resource.creator, creator(bytes))?,
                (5, Value::Bytes(bytes)) => once(&mut resource.participants, ids(bytes))?,
                (6, Value::Number(flag)) => once(&mut resource.public, Some(flag != 0))?,
                _ => return None,
            }
        }
        Some(Resource { id: own_id.unwrap_or_default(), ..resource })
    }
}

impl Described for Resource<'_> {
    fn assignees(&self) -> Option<impl Iterator<Item = &[u8]>> {
        self.assignees.map(Texts::iter)
    }

    fn teams(&self) -> Option<impl Iterator<Item = &[u8]>> {
        self.teams.map(Texts::iter)
    }

    fn creator(&self) -> Option<Option<&[u8]>> {
        self.creator.map(|id| Some(id).filter(|id| !id.is_empty()))
    }

    fn participants(&self) -> Option<impl Iterator<Item = &[u8]>> {
        self.participants.map(Texts::iter)
    }

    fn public(&self) -> Option<bool> {
        self.public
    }
}

/// How fresh an answer must be.
#[derive(Debug, Clone, Copy, Default)]
pub(in crate::grpc) enum Consistency<'a> {
    #[default]
    MinimizeLatency,
    AtLeastAsFresh(Texts<'a>),
    FullyConsistent,
}

impl<'a> Consistency<'a> {
    fn read(message: &'a [u8]) -> Option<Self> {
        let mut requirement = None;
        for field in Fields::of(message) {
            let one = match field? {
                (1, Value::Number(1)) => Consistency::MinimizeLatency,
                (2, Value::Bytes(tokens)) => {
                    Consistency::AtLeastAsFresh(Texts::read(tokens, MAX_TOKENS, |bytes| {
                        text(bytes).is_some()
                    })?)
                }
                (3, Value::Number(1)) => Consistency::FullyConsistent,
                _ => return None,
            };
            once(&mut requirement, Some(one))?;
        }
        requirement
    }

    /// How fresh an answer must be that is given from what is at hand; none: it must not be, or the
    /// tokens are not sound.
    pub(in crate::grpc) fn at_hand<S: DecisionSource>(
        self,
        decisions: &Decisions<S>,
        tenant: &str,
    ) -> Option<Freshness> {
        match self {
            Consistency::MinimizeLatency => Some(Freshness::MinimizeLatency),
            Consistency::FullyConsistent => None,
            other => decisions.freshness(&TenantId::trusted(tenant), &other.kept()).ok(),
        }
    }

    /// For the use cases, which keep it.
    pub(in crate::grpc) fn kept(self) -> token::Consistency {
        match self {
            Consistency::MinimizeLatency => token::Consistency::MinimizeLatency,
            Consistency::FullyConsistent => token::Consistency::FullyConsistent,
            Consistency::AtLeastAsFresh(tokens) => token::Consistency::AtLeastAsFresh(
                tokens.iter().filter_map(text).map(str::to_owned).collect(),
            ),
        }
    }
}

/// An `IdList` of `none: true`: field 2, a number, 1.
const NONE: &[u8] = &[2 << 3, 1];

/// A message of nothing but texts, each of which has been looked at.
#[derive(Debug, Clone, Copy)]
pub(in crate::grpc) struct Texts<'a>(&'a [u8]);

impl<'a> Texts<'a> {
    fn read(message: &'a [u8], limit: usize, is_sound: impl Fn(&[u8]) -> bool) -> Option<Self> {
        let mut count = 0;
        for field in Fields::of(message) {
            let (1, Value::Bytes(bytes)) = field? else { return None };
            if !is_sound(bytes) {
                return None;
            }
            count += 1;
        }
        (count <= limit).then_some(Texts(message))
    }

    fn iter(self) -> impl Iterator<Item = &'a [u8]> + Clone {
        bytes_of(self.0, 1)
    }
}

/// What a message has of one field.
fn bytes_of(message: &[u8], number: u8) -> impl Iterator<Item = &[u8]> + Clone {
    Fields::of(message).filter_map(move |field| match field {
        Some((of, Value::Bytes(bytes))) if of == number => Some(bytes),
        _ => None,
    })
}

fn id(bytes: &[u8]) -> Option<&[u8]> {
    are_id(bytes).then_some(bytes)
}

/// An `IdList` with ids, or one that says `none` and nothing else. One with neither is refused, which
/// is not for here to do.
fn ids(message: &[u8]) -> Option<Texts<'_>> {
    match message {
        [] => None,
        NONE => Some(Texts(&[])),
        some => Texts::read(some, MAX_IDS, are_id),
    }
}

fn creator(bytes: &[u8]) -> Option<&[u8]> {
    (bytes.is_empty() || are_id(bytes)).then_some(bytes)
}

fn given(bytes: &[u8]) -> Option<&[u8]> {
    (!bytes.is_empty() && are_text(bytes, |_| true)).then_some(bytes)
}

fn resource_id(bytes: &[u8]) -> Option<&[u8]> {
    let is_sound = |text: &str| !has_control_character(text);
    (bytes.len() <= MAX_RESOURCE_ID_BYTES && are_text(bytes, is_sound)).then_some(bytes)
}
