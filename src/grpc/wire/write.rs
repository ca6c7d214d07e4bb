//! Answers, written as prost writes the generated messages.

use bytes::BufMut;
use prost::Message;

use crate::domain::Timestamp;
use crate::domain::catalog::{Catalog, PermissionIx};
use crate::domain::decision::{DecisionReason, Ruling};
use crate::domain::member::Subject;
use crate::grpc::{pb, show};
use crate::service::at_hand::Made;

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
    pub(in crate::grpc) fn of(answer: &'a Made) -> Self {
        let Made { view, permission, ruling } = answer;
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

    /// A `Decision`.
    fn put(self, to: &mut Vec<u8>) {
        let allowed = self.ruling.reason.allows();
        let verdict = if allowed { pb::Verdict::Allowed } else { pb::Verdict::Denied };
        let reason = show::reason(self.ruling.reason);
        to.put_slice(&[number(1), verdict as u8, number(2), reason as u8]);
        for (role, scope) in self.decided_by() {
            nested(to, 3, |to| {
                text(to, 1, role.as_bytes());
                text(to, 2, scope.as_bytes());
            });
        }
        for attribute in self.ruling.missing.iter() {
            text(to, 4, attribute.name().as_bytes());
        }
    }
}

/// A `CheckResponse`.
pub(in crate::grpc) fn check_response(
    to: &mut Vec<u8>,
    told: Told<'_>,
    token: &str,
    stale_since: Option<Timestamp>,
) {
    nested(to, 1, |to| told.put(to));
    state_of_answer(to, 2, token, stale_since);
}

/// The state that an answer was given at: its token as this field, and since when it is stale as the
/// next one.
pub(in crate::grpc) fn state_of_answer(
    to: &mut Vec<u8>,
    field: u8,
    token: &str,
    stale_since: Option<Timestamp>,
) {
    text(to, field, token.as_bytes());
    if let Some(since) = stale_since {
        nested(to, field + 1, |to| show::time(since).encode_raw(to));
    }
}

/// Field 1 of a `BatchCheckResponse`: one `CheckItemResult`.
pub(in crate::grpc) fn check_item_result(to: &mut Vec<u8>, told: Told<'_>) {
    nested(to, 1, |to| nested(to, 1, |to| told.put(to)));
}

/// What was denied to all: field 4 of a `FilterResourcesResponse`.
pub(in crate::grpc) fn denied_reason(to: &mut Vec<u8>, reason: DecisionReason) {
    to.put_slice(&[number(4), show::reason(reason) as u8]);
}

/// Field 1 of a `CheckStreamResponse`: one `CheckStreamResult`.
pub(in crate::grpc) fn check_stream_result(to: &mut Vec<u8>, told: Told<'_>, correlation: u64) {
    nested(to, 1, |to| {
        nested(to, 1, |to| told.put(to));
        if correlation != 0 {
            to.put_u8(number(3));
            put_varint(to, correlation);
        }
    });
}

/// The most that a length of one byte says.
const SHORT: usize = 0x7f;

/// A message as a field: its length stands before it, and is known when it is written. Nearly all are
/// short enough for the byte that is kept free for it; others are moved.
fn nested(to: &mut Vec<u8>, field: u8, message: impl FnOnce(&mut Vec<u8>)) {
    to.put_slice(&[bytes(field), 0]);
    let start = to.len();
    message(to);
    let length = to.len() - start;
    if length > SHORT {
        let more = varint_length(length as u64) - 1;
        to.resize(to.len() + more, 0);
        to.copy_within(start..start + length, start + more);
    }
    if let Some(place) = to.get_mut(start - 1..) {
        write_varint(place, length as u64);
    }
}

fn varint_length(value: u64) -> usize {
    // Seven bits a byte, and one byte for zero.
    (u64::BITS - (value | 1).leading_zeros()).div_ceil(7) as usize
}

fn put_varint(to: &mut Vec<u8>, value: u64) {
    let mut bytes = [0; 10];
    let length = write_varint(&mut bytes, value);
    to.put_slice(bytes.get(..length).unwrap_or_default());
}

/// Writes a number, seven bits a byte, the lowest first, to where there is room for it: how many
/// bytes it took.
fn write_varint(to: &mut [u8], mut value: u64) -> usize {
    let mut length = 0;
    for place in to {
        length += 1;
        if value < 0x80 {
            *place = value as u8;
            break;
        }
        *place = value as u8 | 0x80;
        value >>= 7;
    }
    length
}

/// A text as a field; an empty one is none.
pub(in crate::grpc) fn text(to: &mut Vec<u8>, field: u8, text: &[u8]) {
    match text.len() {
        0 => {}
        short @ ..=SHORT => {
            to.put_slice(&[bytes(field), short as u8]);
            to.put_slice(text);
        }
        long => {
            to.put_u8(bytes(field));
            put_varint(to, long as u64);
            to.put_slice(text);
        }
    }
}
