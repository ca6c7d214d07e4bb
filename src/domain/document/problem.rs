//! What is wrong with a file, told to the person who wrote it.

use std::cell::RefCell;
use std::fmt;

/// One mistake in a file.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct FileProblem {
    /// The line, from 1.
    pub line: usize,
    /// The character in the line, from 1.
    pub column: usize,
    /// What is wrong and, where it can be told, what would be right.
    pub message: String,
}

impl fmt::Display for FileProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: {}", self.line, self.message)
    }
}

/// Every mistake in a file, in the file's order; at least one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileProblems(Vec<FileProblem>);

impl FileProblems {
    /// The mistakes in the file's order.
    #[must_use]
    pub fn all(&self) -> &[FileProblem] {
        &self.0
    }
}

impl fmt::Display for FileProblems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, problem) in self.0.iter().enumerate() {
            if position > 0 {
                f.write_str("\n")?;
            }
            problem.fmt(f)?;
        }
        Ok(())
    }
}

impl std::error::Error for FileProblems {}

/// Collects mistakes by where they are in the source. Shared by every reader of the document, so
/// that one mistake never hides the next.
pub(crate) struct Problems<'s> {
    source: &'s str,
    found: RefCell<Vec<(usize, String)>>,
}

impl<'s> Problems<'s> {
    pub(crate) fn new(source: &'s str) -> Self {
        Problems { source, found: RefCell::new(Vec::new()) }
    }

    /// Notes a mistake at a byte offset of the source.
    pub(crate) fn report(&self, at: usize, message: impl Into<String>) {
        self.found.borrow_mut().push((at, message.into()));
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.found.borrow().is_empty()
    }

    /// The line of a byte offset, from 1.
    pub(crate) fn line(&self, at: usize) -> usize {
        self.place(at).0
    }

    fn place(&self, at: usize) -> (usize, usize) {
        let before = self.source.get(..at).unwrap_or(self.source);
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        let column = before.get(line_start..).unwrap_or_default().chars().count() + 1;
        (before.matches('\n').count() + 1, column)
    }

    pub(crate) fn into_problems(self) -> FileProblems {
        let found = self.found.take();
        let mut problems: Vec<_> = found
            .into_iter()
            .map(|(at, message)| {
                let (line, column) = self.place(at);
                FileProblem { line, column, message }
            })
            .collect();
        problems.sort();
        problems.dedup();
        FileProblems(problems)
    }
}

/// The candidate that is closest to what was written, if any is close.
pub(crate) fn nearest<'c>(
    written: &str,
    candidates: impl IntoIterator<Item = &'c str>,
) -> Option<&'c str> {
    let near = candidates
        .into_iter()
        .map(|candidate| (strsim::damerau_levenshtein(written, candidate), candidate))
        .filter(|(distance, candidate)| {
            // A third of the letters may be wrong: beyond that it is another word.
            *distance * 3 <= candidate.chars().count().max(written.chars().count())
        })
        .min();
    near.map(|(_, candidate)| candidate)
}

/// `; did you mean "…"?` when one of the candidates is close to what was written, else nothing.
pub(crate) fn did_you_mean<'c>(
    written: &str,
    candidates: impl IntoIterator<Item = &'c str>,
) -> String {
    match nearest(written, candidates) {
        Some(candidate) => format!("; did you mean \"{candidate}\"?"),
        None => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_typo_gets_a_suggestion_and_another_word_does_not() {
        let ids = ["ticket.delete", "ticket.work", "brand.delete"];
        for (written, suggested) in [
            ("ticket.delet", "; did you mean \"ticket.delete\"?"),
            ("ticket.wrok", "; did you mean \"ticket.work\"?"),
            ("Ticket.delete", "; did you mean \"ticket.delete\"?"),
            ("invoice.pay", ""),
            ("", ""),
        ] {
            assert_eq!(did_you_mean(written, ids), suggested, "{written}");
        }
    }

    #[test]
    fn places_count_lines_and_characters() {
        let problems = Problems::new("a = 1\ntitle = \"상담\" # x\n");
        assert_eq!(problems.place(0), (1, 1));
        assert_eq!(problems.place(6), (2, 1));
        assert_eq!(problems.place("a = 1\ntitle = \"상담\"".len()), (2, 13));
        assert_eq!(problems.place(9999).0, 3);
    }
}
