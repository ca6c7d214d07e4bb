//! Parsing at the edge: every violation of a message is collected, and all are returned at once.

use std::fmt;
use std::sync::Arc;

use crate::domain::ids::{
    IdError, MAX_ID_BYTES, MemberId, RoleId, TeamId, TenantId, has_control_character,
};
use crate::domain::refusal::{Problem, Refusal, Unit, Violation};
use crate::service::caller::Caller;

/// The most violations that are kept of one message. A message of a few bytes per id could
/// otherwise make us hold, and answer with, many times its size.
const MAX_VIOLATIONS: usize = 100;
/// The same for one item of a batch.
const MAX_ITEM_VIOLATIONS: usize = 10;

/// Where a value stands in a message. Only becomes a text when something is wrong with the value.
#[derive(Clone, Copy)]
pub(super) enum Path<'a> {
    Field(&'a str),
    Then(&'a Path<'a>, &'a str),
    At(&'a Path<'a>, usize),
}

impl<'a> Path<'a> {
    /// A field of the message that stands here.
    pub(super) fn then(&'a self, field: &'a str) -> Path<'a> {
        Path::Then(self, field)
    }

    /// An entry of the list that stands here.
    pub(super) fn at(&'a self, index: usize) -> Path<'a> {
        Path::At(self, index)
    }
}

impl<'a> From<&'a str> for Path<'a> {
    fn from(field: &'a str) -> Self {
        Path::Field(field)
    }
}

impl fmt::Display for Path<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Path::Field(field) => f.write_str(field),
            Path::Then(path, field) => write!(f, "{path}.{field}"),
            Path::At(path, index) => write!(f, "{path}[{index}]"),
        }
    }
}

/// A value out of a message. `None`: it is not sound, and its violations have been recorded.
pub(super) type Sound<T> = Option<T>;

/// What is wrong with a message, as far as it was looked at. Its methods take a field each; what
/// they give comes out through [`Fields::all`] only when everything was sound.
#[derive(Debug)]
pub(super) struct Fields {
    violations: Vec<Violation>,
    limit: usize,
    /// `None`: of an item, which names no tenant.
    caller: Option<Arc<Caller>>,
}

impl Fields {
    /// Of a message of this caller.
    pub(super) fn of_message(caller: Arc<Caller>) -> Self {
        Fields { violations: Vec::new(), limit: MAX_VIOLATIONS, caller: Some(caller) }
    }

    pub(super) fn of_item() -> Self {
        Fields { violations: Vec::new(), limit: MAX_ITEM_VIOLATIONS, caller: None }
    }

    /// Records a violation.
    pub(super) fn wrong<'p, T>(&mut self, path: impl Into<Path<'p>>, problem: Problem) -> Sound<T> {
        if self.violations.len() < self.limit {
            self.violations.push(Violation::new(path.into().to_string(), problem));
        }
        None
    }

    /// The tenant that the message is about, as far as its caller reaches. There is no other way to
    /// get one out of a message.
    pub(super) fn tenant<'p>(&mut self, path: impl Into<Path<'p>>, text: &str) -> Sound<TenantId> {
        match TenantId::parse(text) {
            Ok(id) => Some(match &self.caller {
                Some(caller) => caller.reach(&id).into_owned(),
                None => id.out_of_reach(),
            }),
            Err(error) => self.wrong(path, id_problem(error)),
        }
    }

    /// The same for a list.
    pub(super) fn tenants<'p>(
        &mut self,
        path: impl Into<Path<'p>>,
        texts: &[String],
    ) -> Sound<Vec<TenantId>> {
        let path = path.into();
        self.each(texts, |fields, index, text| fields.tenant(path.at(index), text))
    }

    /// An id that must be there.
    pub(super) fn id<'p, I: Id>(&mut self, path: impl Into<Path<'p>>, text: &str) -> Sound<I> {
        match I::parse(text) {
            Ok(id) => Some(id),
            Err(error) => self.wrong(path, id_problem(error)),
        }
    }

    /// An id that may be left out.
    pub(super) fn optional_id<'p, I: Id>(
        &mut self,
        path: impl Into<Path<'p>>,
        text: &str,
    ) -> Sound<Option<I>> {
        if text.is_empty() { Some(None) } else { self.id(path, text).map(Some) }
    }

    /// A list of ids.
    pub(super) fn ids<'p, I: Id>(
        &mut self,
        path: impl Into<Path<'p>>,
        texts: &[String],
    ) -> Sound<Vec<I>> {
        let path = path.into();
        self.each(texts, |fields, index, text| fields.id(path.at(index), text))
    }

    /// Every entry of a list; all are looked at, also after one that is not sound.
    pub(super) fn each<T, U>(
        &mut self,
        entries: impl IntoIterator<Item = T>,
        mut parse: impl FnMut(&mut Self, usize, T) -> Sound<U>,
    ) -> Sound<Vec<U>> {
        let mut sound = Some(Vec::new());
        for (index, entry) in entries.into_iter().enumerate() {
            match (parse(self, index, entry), &mut sound) {
                (Some(value), Some(values)) => values.push(value),
                (None, _) => sound = None,
                (Some(_), None) => {}
            }
        }
        sound
    }

    /// A list that is not longer than it may be. A longer one is not looked into.
    pub(super) fn at_most<'p, T>(
        &mut self,
        limit: usize,
        path: impl Into<Path<'p>>,
        entries: Vec<T>,
    ) -> Sound<Vec<T>> {
        let count = entries.len();
        if count > limit {
            return self.wrong(path, Problem::TooManyItems { count, limit });
        }
        Some(entries)
    }

    /// A text that must be there.
    pub(super) fn required<'p>(
        &mut self,
        path: impl Into<Path<'p>>,
        text: String,
    ) -> Sound<String> {
        if text.is_empty() { self.wrong(path, Problem::Required) } else { Some(text) }
    }

    /// A text of so many bytes without control characters, for one that is only passed on.
    pub(super) fn opaque<'p>(
        &mut self,
        path: impl Into<Path<'p>>,
        text: String,
        limit: usize,
    ) -> Sound<String> {
        let length = text.len();
        if length > limit {
            self.wrong(path, Problem::TooLong { length, limit, unit: Unit::Bytes })
        } else if has_control_character(&text) {
            self.wrong(path, id_problem(IdError::ControlCharacter))
        } else {
            Some(text)
        }
    }

    /// What was wanted of the message, if all of it is sound.
    pub(super) fn all<T: All>(self, values: T) -> Result<T::Values, Refusal> {
        self.all_or_violations(values).map_err(Refusal::Invalid)
    }

    /// The same for one item of a batch, which fails by itself.
    pub(super) fn all_or_violations<T: All>(self, values: T) -> Result<T::Values, Vec<Violation>> {
        match values.all() {
            Some(values) if self.violations.is_empty() => Ok(values),
            _ => Err(self.violations),
        }
    }
}

fn id_problem(error: IdError) -> Problem {
    match error {
        IdError::Empty => Problem::Required,
        IdError::TooLong(length) => {
            Problem::TooLong { length, limit: MAX_ID_BYTES, unit: Unit::Bytes }
        }
        IdError::ControlCharacter => Problem::Invalid(error.to_string()),
    }
}

/// The kinds of id; for tenants see [`Fields::tenant`].
pub(super) trait Id: Sized {
    fn parse(text: &str) -> Result<Self, IdError>;
}

macro_rules! ids {
    ($($id:ty),*) => {
        $(impl Id for $id {
            fn parse(text: &str) -> Result<Self, IdError> {
                <$id>::parse(text)
            }
        })*
    };
}
ids!(MemberId, TeamId, RoleId);

/// Several values, each sound or not.
pub(super) trait All {
    type Values;
    fn all(self) -> Option<Self::Values>;
}

macro_rules! all {
    ($($name:ident)*) => {
        impl<$($name),*> All for ($(Sound<$name>,)*) {
            type Values = ($($name,)*);
            #[allow(non_snake_case, reason = "named like their types")]
            fn all(self) -> Option<Self::Values> {
                let ($($name,)*) = self;
                Some(($($name?,)*))
            }
        }
    };
}
all!(A);
all!(A B);
all!(A B C);
all!(A B C D);
all!(A B C D E);
all!(A B C D E F);
