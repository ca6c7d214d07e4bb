//! Texts for people in a catalog file: one, or one per language.

use std::collections::BTreeMap;

use toml::de::DeValue;

use super::text::Text;
use crate::domain::document::{Fields, Value};
use crate::domain::name::{RoleName, parse_description};

/// How a text for people is checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Prose {
    /// One line that must not be missing.
    Title,
    /// One line that defaults to nothing (a scope's or section's title falls back to its id).
    OptionalTitle,
    /// A line or two that may be missing.
    Description,
}

/// What catalogs read besides what every file has.
pub(super) trait TextFields {
    /// A text for people: a text, or one per language with the default language among them.
    fn text(&self, key: &'static str, prose: Prose, default_language: &str) -> Text;
}

impl TextFields for Fields<'_> {
    fn text(&self, key: &'static str, prose: Prose, default_language: &str) -> Text {
        let value = if prose == Prose::Title { self.required(key) } else { self.get(key) };
        let Some(value) = value else { return Text::default() };
        match value.value {
            DeValue::String(text) => Text::plain(&checked(self, key, prose, text, value.at)),
            DeValue::Table(languages) => {
                let mut by_language = BTreeMap::new();
                for (language, text) in languages {
                    let at = language.span().start;
                    let language = language.get_ref().to_string();
                    if !is_language(&language) {
                        self.report(
                            at,
                            format!(
                                "{key} of {}: \"{language}\" is not a language such as \"en\" or \"pt-BR\"",
                                self.what()
                            ),
                        );
                    }
                    let text =
                        Value { key: format!("{key}.{language}"), at, value: text.get_ref() };
                    if let Some(text) = self.as_word(&text) {
                        let text = checked(self, key, prose, &text.text, at);
                        by_language.insert(language, text);
                    }
                }
                let fallback = by_language.remove(default_language);
                if fallback.is_none() {
                    self.report(
                        value.at,
                        format!(
                            "{key} of {} has no text in the default language \"{default_language}\"",
                            self.what()
                        ),
                    );
                }
                Text { fallback: fallback.unwrap_or_default(), by_language }
            }
            _ => {
                self.wrong_type(&value, "a text, or a table with a text per language");
                Text::default()
            }
        }
    }
}

fn checked(fields: &Fields<'_>, key: &str, prose: Prose, text: &str, at: usize) -> String {
    // Titles follow the rules of role names: a default role's title is its name.
    let parsed = match prose {
        Prose::Title | Prose::OptionalTitle => RoleName::parse(text).map(|t| t.to_string()),
        Prose::Description => parse_description(text),
    };
    parsed.unwrap_or_else(|error| {
        fields.report(at, format!("{key} of {} {error}", fields.what()));
        text.to_owned()
    })
}

/// Good enough for a BCP 47 tag: groups of letters and digits, the first of two or three letters.
pub(super) fn is_language(tag: &str) -> bool {
    let mut groups = tag.split('-');
    let primary = groups.next().unwrap_or_default();
    (2..=3).contains(&primary.len())
        && primary.bytes().all(|byte| byte.is_ascii_lowercase())
        && groups.all(|group| {
            (1..=8).contains(&group.len()) && group.bytes().all(|byte| byte.is_ascii_alphanumeric())
        })
}
