//! Where the figures go: between marks in docs/operations/benchmarks.md, and into a plot.

use std::path::{Path, PathBuf};

use crate::table::{self, Row};
use crate::{machine, plot};
use rolegate_bench::Failure;

const BEGIN: &str = "<!-- figures: written by .ci/bench -->";
const END: &str = "<!-- end of figures -->";

/// Writes all of them.
pub(crate) fn write(rows: &[Row], about: &str) -> Result<(), Failure> {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..");
    let table = table::markdown(rows);
    let about = format!("{about}\n\n{}", machine::description());
    let pages = root.join("docs/operations");
    put(&pages.join("benchmarks.md"), &format!("{about}\n\n{table}"))?;
    std::fs::write(pages.join("benchmarks.svg"), plot::svg(rows))?;
    Ok(())
}

/// Replaces what is between the marks.
fn put(path: &Path, text: &str) -> Result<(), Failure> {
    let old = std::fs::read_to_string(path)?;
    let without = || format!("{} has no place for figures", path.display());
    let (before, rest) = old.split_once(BEGIN).ok_or_else(without)?;
    let (_, after) = rest.split_once(END).ok_or_else(without)?;
    std::fs::write(path, format!("{before}{BEGIN}\n{text}\n{END}{after}"))?;
    Ok(())
}
