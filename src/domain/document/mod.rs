//! Files that people write, in TOML: read so that every mistake is found, each with its line.

mod fields;
mod problem;

pub(crate) use fields::{Fields, Value, Word};
pub use problem::{FileProblem, FileProblems};
pub(crate) use problem::{Problems, did_you_mean};

use toml::Spanned;
use toml::de::DeTable;

/// The document; without one, it is no TOML, and every reason for that has been reported.
pub(crate) fn read<'s>(source: &'s str, problems: &Problems<'_>) -> Option<Spanned<DeTable<'s>>> {
    let (document, errors) = DeTable::parse_recoverable(source);
    for error in &errors {
        let at = error.span().map_or(0, |span| span.start);
        problems.report(at, format!("not valid TOML: {}", error.message()));
    }
    errors.is_empty().then_some(document)
}
