//! What is said of everything that a request can be refused for: what is wrong, the limit and the
//! current value, and what to do next. For people; programs read the reason and the metadata.

mod actor;
mod check_stream;
mod problem;
mod rate;
mod refusal;
mod watch;

pub(super) use check_stream::{stream_draining, stream_rights_lost};
pub(super) use problem::problem;
pub(super) use rate::{rate_limited, retry_after};
pub(super) use refusal::{precondition_subject, refusal};
pub(super) use watch::{database_gone, draining, rights_lost, too_slow};

use super::pb::ErrorReason;
use crate::domain::refusal::Violation;

/// The longest value out of a request that is repeated in a message, in bytes.
const MAX_QUOTED_BYTES: usize = 100;
/// The most entries of a list that are repeated in a message.
const MAX_LISTED: usize = 20;
/// The longest message, in bytes. Errors travel in headers, for which clients have little room.
const MAX_MESSAGE_BYTES: usize = 500;
/// The longest path of a field, in bytes.
const MAX_FIELD_BYTES: usize = 200;
/// The longest value of the metadata, in bytes.
const MAX_VALUE_BYTES: usize = 400;

/// The metadata of what expand_requirements would add.
pub(super) const MISSING: &str = "missing";
/// The metadata of what somebody must choose.
pub(super) const CHOICES: &str = "choices";

/// A reason, in words and in values.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Said {
    pub(super) reason: ErrorReason,
    pub(super) message: String,
    pub(super) metadata: Vec<(&'static str, String)>,
}

impl Said {
    pub(super) fn new(reason: ErrorReason, message: impl AsRef<str>) -> Self {
        let message = shortened(message.as_ref(), MAX_MESSAGE_BYTES);
        Said { reason, message, metadata: Vec::new() }
    }

    /// With one more value for programs.
    pub(super) fn with(mut self, key: &'static str, value: impl ToString) -> Self {
        self.metadata.push((key, shortened(&value.to_string(), MAX_VALUE_BYTES)));
        self
    }
}

/// A reason's name as clients see it.
pub(super) fn name(reason: ErrorReason) -> &'static str {
    let name = reason.as_str_name();
    name.strip_prefix("ERROR_REASON_").unwrap_or(name)
}

/// The path of a violation's field.
pub(super) fn field(violation: &Violation) -> String {
    shortened(&violation.field, MAX_FIELD_BYTES)
}

/// At most so many bytes of a text; where something is missing, it shows.
pub(super) fn shortened(text: &str, bytes: usize) -> String {
    const MARK: char = '…';
    if text.len() <= bytes {
        return text.to_owned();
    }
    let mut short = String::new();
    for c in text.chars() {
        if short.len() + c.len_utf8() + MARK.len_utf8() > bytes {
            break;
        }
        short.push(c);
    }
    short.push(MARK);
    short
}

/// A value as it was given, in quotes.
fn quoted(text: impl AsRef<str>) -> String {
    format!("{:?}", shortened(text.as_ref(), MAX_QUOTED_BYTES))
}

/// "a, b or c".
fn either<T: ToString>(entries: &[T]) -> String {
    enumerated(entries, "or")
}

/// "a, b and c".
fn all_of<T: ToString>(entries: &[T]) -> String {
    enumerated(entries, "and")
}

fn enumerated<T: ToString>(entries: &[T], last: &str) -> String {
    let mut texts: Vec<String> =
        entries.iter().take(MAX_LISTED).map(|entry| entry.to_string()).collect();
    if entries.len() > MAX_LISTED {
        texts.push(format!("{} others", entries.len() - MAX_LISTED));
    }
    match texts.split_last() {
        None => String::new(),
        Some((only, [])) => only.clone(),
        Some((end, rest)) => format!("{} {last} {end}", rest.join(", ")),
    }
}

/// For programs: entries are ids, which have no commas where we made the catalog.
fn listed(entries: &[String]) -> String {
    entries.join(",")
}

/// "1 role", "2 roles".
fn counted(count: u64, thing: &str) -> String {
    match count {
        1 => format!("1 {thing}"),
        _ => format!("{count} {thing}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_cut_between_characters() {
        for (text, bytes, short) in [
            ("abc", 3, "abc"),
            ("abcd", 3, "…"),
            ("abcde", 4, "a…"),
            ("ééé", 6, "ééé"),
            ("éééé", 7, "éé…"),
        ] {
            assert_eq!(shortened(text, bytes), short, "{text} {bytes}");
        }
    }

    #[test]
    fn lists_read_as_sentences() {
        assert_eq!(either::<&str>(&[]), "");
        assert_eq!(either(&["a"]), "a");
        assert_eq!(either(&["a", "b"]), "a or b");
        assert_eq!(all_of(&["a", "b", "c"]), "a, b and c");
        let many: Vec<usize> = (0..25).collect();
        assert!(all_of(&many).ends_with("18, 19 and 5 others"), "{}", all_of(&many));
    }

    #[test]
    fn values_of_a_request_cannot_break_a_line() {
        assert_eq!(quoted("a\nb\"c"), r#""a\nb\"c""#);
    }
}
