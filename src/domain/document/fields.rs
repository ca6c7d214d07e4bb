//! Reading one table of a file: typed values, each with its place; whatever is missing,
//! of the wrong type or not known is reported, and reading goes on.

use std::cell::RefCell;
use std::fmt;
use std::ops::RangeInclusive;

use toml::Spanned;
use toml::de::{DeArray, DeTable, DeValue};

use super::problem::{Problems, did_you_mean, nearest};

/// A text of the file and where it stands.
#[derive(Debug, Clone)]
pub(crate) struct Word {
    pub(crate) text: String,
    pub(crate) at: usize,
}

impl fmt::Display for Word {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\"", self.text)
    }
}

/// The value of one key.
pub(crate) struct Value<'d> {
    /// The key, as it is spoken of in messages.
    pub(crate) key: String,
    pub(crate) at: usize,
    pub(crate) value: &'d DeValue<'d>,
}

/// One table of the document.
pub(crate) struct Fields<'d> {
    /// How the table is spoken of in messages: `permission "ticket.delete"`.
    what: String,
    at: usize,
    table: &'d DeTable<'d>,
    problems: &'d Problems<'d>,
    known: RefCell<Vec<&'static str>>,
    missing: RefCell<Vec<&'static str>>,
}

impl<'d> Fields<'d> {
    pub(crate) fn new(
        what: impl Into<String>,
        at: usize,
        table: &'d DeTable<'d>,
        problems: &'d Problems<'d>,
    ) -> Self {
        Fields {
            what: what.into(),
            at,
            table,
            problems,
            known: RefCell::default(),
            missing: RefCell::default(),
        }
    }

    pub(crate) fn at(&self) -> usize {
        self.at
    }

    /// Reports a mistake in a value of the table.
    pub(crate) fn report(&self, at: usize, message: impl Into<String>) {
        self.problems.report(at, message);
    }

    pub(crate) fn what(&self) -> &str {
        &self.what
    }

    /// Speaks of the table by its id from now on.
    pub(crate) fn named(mut self, kind: &str, id: Option<&Word>) -> Self {
        if let Some(id) = id {
            self.what = format!("{kind} {id}");
        }
        self
    }

    pub(crate) fn get(&self, key: &'static str) -> Option<Value<'d>> {
        self.known.borrow_mut().push(key);
        let (name, value) = self.table.get_key_value(key)?;
        Some(Value { key: key.to_owned(), at: name.span().start, value: value.get_ref() })
    }

    pub(crate) fn required(&self, key: &'static str) -> Option<Value<'d>> {
        let value = self.get(key);
        if value.is_none() {
            self.missing.borrow_mut().push(key);
        }
        value
    }

    pub(crate) fn wrong_type(&self, value: &Value<'_>, wanted: &str) {
        let is = value.value.type_str();
        let article = if is.starts_with(['a', 'i']) { "an" } else { "a" };
        self.problems.report(
            value.at,
            format!("{} of {} must be {wanted}, not {article} {is}", value.key, self.what),
        );
    }

    pub(crate) fn as_word(&self, value: &Value<'_>) -> Option<Word> {
        match value.value {
            DeValue::String(text) => Some(Word { text: text.to_string(), at: value.at }),
            _ => {
                self.wrong_type(value, "a text");
                None
            }
        }
    }

    pub(crate) fn word(&self, key: &'static str) -> Option<Word> {
        self.get(key).and_then(|value| self.as_word(&value))
    }

    pub(crate) fn required_word(&self, key: &'static str) -> Option<Word> {
        self.required(key).and_then(|value| self.as_word(&value))
    }

    pub(crate) fn flag(&self, key: &'static str) -> Option<(bool, usize)> {
        let value = self.get(key)?;
        match value.value {
            DeValue::Boolean(flag) => Some((*flag, value.at)),
            _ => {
                self.wrong_type(&value, "true or false");
                None
            }
        }
    }

    fn as_number(&self, value: &Value<'_>, range: RangeInclusive<u32>) -> Option<u32> {
        let DeValue::Integer(integer) = value.value else {
            self.wrong_type(value, "a number");
            return None;
        };
        let number = u32::from_str_radix(integer.as_str(), integer.radix()).ok();
        let number = number.filter(|number| range.contains(number));
        if number.is_none() {
            self.problems.report(
                value.at,
                format!(
                    "{} of {} must be between {} and {}, not {integer}",
                    value.key,
                    self.what,
                    range.start(),
                    range.end()
                ),
            );
        }
        number
    }

    pub(crate) fn number(&self, key: &'static str, range: RangeInclusive<u32>) -> Option<u32> {
        self.get(key).and_then(|value| self.as_number(&value, range))
    }

    pub(crate) fn required_number(
        &self,
        key: &'static str,
        range: RangeInclusive<u32>,
    ) -> Option<u32> {
        self.required(key).and_then(|value| self.as_number(&value, range))
    }

    /// The values of a list, each spoken of as an entry of it.
    pub(crate) fn list(&self, key: &'static str) -> Option<Vec<Value<'d>>> {
        let value = self.get(key)?;
        match value.value {
            DeValue::Array(entries) => Some(entries_of(key, entries)),
            _ => {
                self.wrong_type(&value, "a list");
                None
            }
        }
    }

    /// A list of texts; what is no text is reported and left out.
    pub(crate) fn words(&self, key: &'static str) -> Option<Vec<Word>> {
        let entries = self.list(key)?;
        Some(entries.iter().filter_map(|entry| self.as_word(entry)).collect())
    }

    pub(crate) fn required_words(&self, key: &'static str) -> Option<Vec<Word>> {
        self.required(key)?;
        self.words(key)
    }

    /// A text, or a table with a list of texts, as an entry of a list may be.
    pub(crate) fn one_or_any_of(&self, entry: &Value<'d>) -> Option<(bool, Vec<Word>)> {
        match entry.value {
            DeValue::Table(table) => {
                let fields = Fields::new(
                    format!("an entry of {} in {}", entry.key, self.what),
                    entry.at,
                    table,
                    self.problems,
                );
                let words = fields.required_words("any_of");
                fields.finish();
                words.map(|words| (true, words))
            }
            DeValue::String(_) => self.as_word(entry).map(|word| (false, vec![word])),
            _ => {
                self.wrong_type(entry, "a permission or { any_of = [...] }");
                None
            }
        }
    }

    /// A table below this one.
    pub(crate) fn table(&self, key: &'static str) -> Option<Fields<'d>> {
        let value = self.get(key)?;
        self.as_table(&value, format!("[{key}]"))
    }

    pub(crate) fn required_table(&self, key: &'static str) -> Option<Fields<'d>> {
        let value = self.required(key)?;
        self.as_table(&value, format!("[{key}]"))
    }

    fn as_table(&self, value: &Value<'d>, what: String) -> Option<Fields<'d>> {
        match value.value {
            DeValue::Table(table) => Some(Fields::new(what, value.at, table, self.problems)),
            _ => {
                self.wrong_type(value, "a table");
                None
            }
        }
    }

    /// The tables of a list (`[[permission]]`), at most `limit` of them.
    pub(crate) fn tables(&self, key: &'static str, limit: usize) -> Vec<Fields<'d>> {
        let mut entries = self.list(key).unwrap_or_default();
        if let Some(surplus) = entries.get(limit) {
            let message = format!("more than {limit} {key} entries; the rest was not looked at");
            self.problems.report(surplus.at, message);
        }
        entries.truncate(limit);
        let tables = entries.iter().enumerate().filter_map(|(position, entry)| {
            self.as_table(entry, format!("{key} number {}", position + 1))
        });
        tables.collect()
    }

    /// Every key of a table whose keys are not fixed, in alphabetical order, with the value.
    pub(crate) fn entries(&self) -> Vec<(Word, Value<'d>)> {
        let mut entries: Vec<_> = self
            .table
            .iter()
            .map(|(key, value)| {
                let word = Word { text: key.get_ref().to_string(), at: key.span().start };
                let value = Value { key: word.text.clone(), at: word.at, value: value.get_ref() };
                (word, value)
            })
            .collect();
        entries.sort_by(|(left, _), (right, _)| left.text.cmp(&right.text));
        entries
    }

    pub(crate) fn entry_number(
        &self,
        value: &Value<'d>,
        range: RangeInclusive<u32>,
    ) -> Option<u32> {
        self.as_number(value, range)
    }

    /// An entry that is either a list, or a table with more than the list.
    pub(crate) fn entry_list_or_table(
        &self,
        name: &Word,
        value: &Value<'d>,
    ) -> (Option<Vec<Word>>, Option<Fields<'d>>) {
        match value.value {
            DeValue::Array(entries) => {
                let entries = entries_of(&name.text, entries);
                (Some(entries.iter().filter_map(|entry| self.as_word(entry)).collect()), None)
            }
            DeValue::Table(table) => {
                (None, Some(Fields::new(format!("scope {name}"), name.at, table, self.problems)))
            }
            _ => {
                self.wrong_type(value, "a list of relations");
                (None, None)
            }
        }
    }

    /// Reports every key that nobody asked for, and every key that must be there and is not. A
    /// misspelt key is the former only.
    pub(crate) fn finish(self) {
        let known = self.known.borrow();
        let mut missing = self.missing.borrow_mut();
        for key in self.table.keys() {
            let name: &str = key.get_ref();
            if !known.contains(&name) {
                let near = nearest(name, known.iter().copied());
                missing.retain(|missing| Some(*missing) != near);
                let hint = did_you_mean(name, near);
                let message = format!("unknown key \"{name}\" in {}{hint}", self.what);
                self.problems.report(key.span().start, message);
            }
        }
        for key in missing.iter() {
            self.problems.report(self.at, format!("{} has no {key}", self.what));
        }
    }
}

fn entries_of<'d>(key: &str, entries: &'d DeArray<'d>) -> Vec<Value<'d>> {
    let value = |entry: &'d Spanned<DeValue<'d>>| Value {
        key: key.to_owned(),
        at: entry.span().start,
        value: entry.get_ref(),
    };
    entries.iter().map(value).collect()
}
