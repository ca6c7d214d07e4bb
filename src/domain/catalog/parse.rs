//! From a TOML text to a catalog that holds together.

use super::{Catalog, hash, raw, validate};
use crate::domain::document::{self, FileProblems, Problems};

impl Catalog {
    /// Reads a catalog file and checks it as a whole.
    ///
    /// # Errors
    /// Every mistake in it, each with its place. A text that is no TOML is not looked at further.
    pub fn parse(source: &str) -> Result<Catalog, FileProblems> {
        let problems = Problems::new(source);
        let Some(document) = document::read(source, &problems) else {
            return Err(problems.into_problems());
        };
        let document = document.get_ref();
        let catalog = validate::catalog(&raw::read(document, &problems), &problems);
        match catalog {
            Some(mut catalog) if problems.is_empty() => {
                hash::of(document).clone_into(&mut catalog.hash);
                source.clone_into(&mut catalog.source);
                Ok(catalog)
            }
            _ => Err(problems.into_problems()),
        }
    }
}
