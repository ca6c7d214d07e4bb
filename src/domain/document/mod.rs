//! Files that people write, in TOML: read so that every mistake is found, each with its line.

mod fields;
mod problem;

pub(crate) use fields::{Fields, Value, Word};
pub use problem::{FileProblem, FileProblems};
pub(crate) use problem::{Problems, did_you_mean};
