//! The ids of one kind: declared once, looked up with a hint when they are not there.

use std::collections::{BTreeMap, HashMap};

use crate::domain::document::{Problems, Word, did_you_mean};
use crate::domain::ids::MAX_ID_BYTES;

/// What an id may look like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// `pro_agent`
    Word,
    /// `ticket.delete`: words with dots between them.
    Dotted,
}

impl Form {
    /// Reports an id that is not of this form.
    pub(super) fn check(self, kind: &str, id: &Word, problems: &Problems<'_>) {
        let mut words = id.text.split('.');
        let well_formed = words.clone().all(is_word)
            && match self {
                Form::Word => words.clone().count() == 1,
                Form::Dotted => words.nth(1).is_some(),
            };
        if !well_formed {
            let wanted = match self {
                Form::Word => "lower-case letters, digits and _, such as \"pro_agent\"",
                Form::Dotted => "lower-case words with dots between, such as \"ticket.delete\"",
            };
            problems.report(id.at, format!("{kind} id {id} is not well-formed; use {wanted}"));
        } else if id.text.len() > MAX_ID_BYTES {
            let message = format!("{kind} id {id} is longer than {MAX_ID_BYTES} characters");
            problems.report(id.at, message);
        }
    }
}

fn is_word(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_lowercase())
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
}

/// The declared ids of one kind.
pub(super) struct Register<T> {
    kind: &'static str,
    entries: BTreeMap<String, T>,
    /// By the lower-case id: as it was declared, and where.
    folded: HashMap<String, Word>,
}

impl<T: Copy> Register<T> {
    pub(super) fn new(kind: &'static str) -> Self {
        Register { kind, entries: BTreeMap::new(), folded: HashMap::new() }
    }

    /// Declares an id; an id that is taken already is reported, and stays what it was.
    pub(super) fn add(&mut self, id: &Word, value: T, form: Form, problems: &Problems<'_>) -> bool {
        let kind = self.kind;
        if let Some(taken) = self.folded.get(&id.text.to_lowercase()) {
            let line = problems.line(taken.at);
            let message = if taken.text == id.text {
                format!("{kind} {id} is declared twice, first on line {line}")
            } else {
                format!("{kind} {id} differs only in case from {taken} on line {line}")
            };
            problems.report(id.at, message);
            return false;
        }
        form.check(kind, id, problems);
        self.folded.insert(id.text.to_lowercase(), id.clone());
        self.entries.insert(id.text.clone(), value);
        true
    }

    pub(super) fn get(&self, id: &str) -> Option<T> {
        self.entries.get(id).copied()
    }

    pub(super) fn ids(&self) -> impl Iterator<Item = &str> {
        self.entries.keys().map(String::as_str)
    }

    /// Looks an id up; when it is not declared, says so, and where it was asked for.
    pub(super) fn find(&self, id: &Word, whence: &str, problems: &Problems<'_>) -> Option<T> {
        let found = self.get(&id.text);
        if found.is_none() {
            let hint = did_you_mean(&id.text, self.ids());
            let message = format!("{} {id} {whence} is not declared{hint}", self.kind);
            problems.report(id.at, message);
        }
        found
    }

    /// Checks the ids that something had in older versions: none of them may be in use, or be
    /// claimed twice.
    pub(super) fn check_renames<'w>(
        &self,
        form: Form,
        renames: impl Iterator<Item = (&'w Word, &'w [Word])>,
        problems: &Problems<'_>,
    ) {
        let mut claimed: HashMap<&str, &Word> = HashMap::new();
        for (id, old) in renames.flat_map(|(id, olds)| olds.iter().map(move |old| (id, old))) {
            let kind = self.kind;
            if self.get(&old.text).is_some() {
                let message = format!("renamed_from of {kind} {id}: {old} is in use by a {kind}");
                problems.report(old.at, message);
            } else if let Some(other) = claimed.insert(&old.text, id) {
                let message =
                    format!("renamed_from of {kind} {id}: {old} stands in that of {other} too");
                problems.report(old.at, message);
            } else {
                form.check(kind, old, problems);
            }
        }
    }
}
