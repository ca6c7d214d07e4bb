//! The fingerprint of a catalog's content.

use std::fmt::Write as _;

use sha2::{Digest, Sha256};
use toml::de::{DeTable, DeValue};

/// SHA-256, in hex, of what the document says: keys sorted, no comments, no layout. It is taken of
/// the document and not of our structs, so that no change of this program changes it.
pub(super) fn of(document: &DeTable<'_>) -> String {
    let mut canonical = String::new();
    table(document, &mut canonical);
    let digest = Sha256::digest(canonical.as_bytes());
    digest.iter().fold(String::with_capacity(64), |mut hex, byte| {
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}

fn table(entries: &DeTable<'_>, out: &mut String) {
    let mut sorted: Vec<_> = entries.iter().collect();
    sorted.sort_by(|(left, _), (right, _)| left.get_ref().cmp(right.get_ref()));
    out.push('{');
    for (key, entry) in sorted {
        text(key.get_ref(), out);
        out.push(':');
        value(entry.get_ref(), out);
        out.push(',');
    }
    out.push('}');
}

fn value(value_: &DeValue<'_>, out: &mut String) {
    match value_ {
        DeValue::String(string) => text(string, out),
        DeValue::Integer(integer) => {
            // 0x10 and 16 say the same. What does not fit is no valid catalog anyway.
            match i128::from_str_radix(integer.as_str(), integer.radix()) {
                Ok(number) => {
                    let _ = write!(out, "{number}");
                }
                Err(_) => out.push_str(integer.as_str()),
            }
        }
        DeValue::Float(float) => out.push_str(float.as_str()),
        DeValue::Boolean(flag) => out.push_str(if *flag { "true" } else { "false" }),
        DeValue::Datetime(time) => {
            let _ = write!(out, "{time}");
        }
        DeValue::Array(entries) => {
            out.push('[');
            for entry in entries {
                value(entry.get_ref(), out);
                out.push(',');
            }
            out.push(']');
        }
        DeValue::Table(entries) => table(entries, out),
    }
}

/// Length first, so that no text can pass for structure.
fn text(text: &str, out: &mut String) {
    let _ = write!(out, "{}\"{text}\"", text.len());
}
