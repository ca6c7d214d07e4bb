//! Answers, written as prost writes the generated messages.

use bytes::{BufMut, BytesMut};
use prost::Message;

use crate::domain::Timestamp;
use crate::domain::catalog::{Catalog, PermissionIx};
use crate::domain::decision::Ruling;
use crate::domain::member::Subject;
use crate::grpc::{pb, show};
use crate::service::decide::AtHand;

/// A ruling, with what is told of it.
#[derive(Debug, Clone, Copy)]
pub(in crate::grpc) struct Told<'a> {
    pub(in crate::grpc) ruling: Ruling,
    /// Whom it is of and on what, under which catalog; none where there is no such tenant or member.
    pub(in crate::grpc) of: Option<(&'a Subject, PermissionIx, &'a Catalog)>,
}

/// The keys of the fields: number and kind.
const fn number(field: u8) -> u8 {
    field << 3
}
const fn bytes(field: u8) -> u8 {
    field << 3 | 2
}

impl<'a> Told<'a> {
    /// Of an answer.
    pub(in crate::grpc) fn of(answer: &'a AtHand) -> Self {
        let AtHand { view, permission, ruling } = answer;
        let subject = view.subject.as_deref();
        let of = subject.map(|subject| (subject, *permission, view.catalog.as_ref()));
        Told { ruling: *ruling, of }
    }

    /// The roles that decided, with their scopes; empty: unscoped.
    fn decided_by(self) -> impl Iterator<Item = (&'a str, &'a str)> {
        let of = self.of.into_iter();
        of.flat_map(move |(subject, permission, catalog)| {
            let scope = |ix| catalog.scope(ix).id.as_str();
            let deciding = subject.deciding(permission, self.ruling);
            deciding.map(move |(role, ix)| (role.as_str(), ix.map(scope).unwrap_or_default()))
        })
    }

    /// How many bytes [`Told::put`] takes.
    fn length(self) -> usize {
        let by = self.decided_by().map(|(role, scope)| of_bytes(text_length(role, scope)));
        let missing = self.ruling.missing.iter().map(|one| of_bytes(one.name().len()));
        // Verdict and reason are set, and small.
        2 + 2 + by.sum::<usize>() + missing.sum::<usize>()
    }

    /// A `Decision`.
    fn put(self, to: &mut BytesMut) {
        let allowed = self.ruling.reason.allows();
        let verdict = if allowed { pb::Verdict::Allowed } else { pb::Verdict::Denied };
        to.put_slice(&[number(1), verdict as u8]);
        to.put_slice(&[number(2), show::reason(self.ruling.reason) as u8]);
        for (role, scope) in self.decided_by() {
            to.put_u8(bytes(3));
            put_varint(to, text_length(role, scope) as u64);
            put_text(to, 1, role);
            put_text(to, 2, scope);
        }
        for attribute in self.ruling.missing.iter() {
            put_text(to, 4, attribute.name());
        }
    }
}

/// A `CheckResponse`.
pub(in crate::grpc) fn check_response(
    to: &mut BytesMut,
    told: Told<'_>,
    token: &str,
    stale_since: Option<Timestamp>,
) {
    to.put_u8(bytes(1));
    put_varint(to, told.length() as u64);
    told.put(to);
    state_of_answer(to, 2, token, stale_since);
}

/// The state that an answer was given at: its token as this field, and since when it is stale as the
/// next one.
pub(in crate::grpc) fn state_of_answer(
    to: &mut BytesMut,
    field: u8,
    token: &str,
    stale_since: Option<Timestamp>,
) {
    put_text(to, field, token);
    if let Some(since) = stale_since {
        let time = show::time(since);
        to.put_u8(bytes(field + 1));
        put_varint(to, time.encoded_len() as u64);
        time.encode_raw(to);
    }
}

/// Field 1 of a `BatchCheckResponse`: one `CheckItemResult`.
pub(in crate::grpc) fn check_item_result(to: &mut BytesMut, told: Told<'_>) {
    let decision = told.length();
    to.put_u8(bytes(1));
    put_varint(to, of_bytes(decision) as u64);
    to.put_u8(bytes(1));
    put_varint(to, decision as u64);
    told.put(to);
}

/// Field 1 of a `CheckStreamResponse`: one `CheckStreamResult`.
pub(in crate::grpc) fn check_stream_result(to: &mut BytesMut, told: Told<'_>, correlation: u64) {
    let decision = told.length();
    let id = if correlation == 0 { 0 } else { 1 + varint_length(correlation) };
    to.put_u8(bytes(1));
    put_varint(to, (of_bytes(decision) + id) as u64);
    to.put_u8(bytes(1));
    put_varint(to, decision as u64);
    told.put(to);
    if correlation != 0 {
        to.put_u8(number(3));
        put_varint(to, correlation);
    }
}

/// What two texts take as the fields of a message.
fn text_length(first: &str, second: &str) -> usize {
    let length = |text: &str| if text.is_empty() { 0 } else { of_bytes(text.len()) };
    length(first) + length(second)
}

/// What a field of so many bytes takes, with its key and its length.
fn of_bytes(length: usize) -> usize {
    1 + varint_length(length as u64) + length
}

fn varint_length(value: u64) -> usize {
    // Seven bits a byte, and one byte for zero.
    (u64::BITS - (value | 1).leading_zeros()).div_ceil(7) as usize
}

fn put_varint(to: &mut BytesMut, mut value: u64) {
    while value >= 0x80 {
        to.put_u8(value as u8 | 0x80);
        value >>= 7;
    }
    to.put_u8(value as u8);
}

/// A text as a field; an empty one is none.
fn put_text(to: &mut BytesMut, field: u8, text: &str) {
    if !text.is_empty() {
        to.put_u8(bytes(field));
        put_varint(to, text.len() as u64);
        to.put_slice(text.as_bytes());
    }
}
