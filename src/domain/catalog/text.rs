//! Titles and descriptions, optionally per language.

use std::collections::BTreeMap;

/// A text for people, with a fallback where a language is missing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Text {
    pub(crate) fallback: String,
    pub(crate) by_language: BTreeMap<String, String>,
}

impl Text {
    /// A text in one language only.
    #[must_use]
    pub fn plain(text: &str) -> Self {
        Text { fallback: text.to_owned(), by_language: BTreeMap::new() }
    }

    /// The text in the wanted language (`ko-KR` falls back to `ko`), else in the default one.
    #[must_use]
    pub fn get(&self, language: &str) -> &str {
        let primary = language.split(['-', '_']).next().unwrap_or_default();
        self.named(language).or_else(|| self.named(primary)).unwrap_or(&self.fallback)
    }

    /// The text in the language of this tag; tags know no case (RFC 5646, section 2.1.1).
    fn named(&self, tag: &str) -> Option<&String> {
        let same = |known: &str| {
            let bytes = |text: &str| text.replace('_', "-");
            bytes(known).eq_ignore_ascii_case(&bytes(tag))
        };
        self.by_language.iter().find(|(known, _)| same(known)).map(|(_, text)| text)
    }

    /// The text in every language it has, the default one first.
    pub fn all(&self) -> impl Iterator<Item = &str> {
        std::iter::once(self.fallback.as_str()).chain(self.by_language.values().map(String::as_str))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_language_falls_back() {
        let text = Text {
            fallback: "Agent".into(),
            by_language: [("ko".to_owned(), "상담원".to_owned())].into(),
        };
        for (language, shown) in [
            ("ko", "상담원"),
            ("ko-KR", "상담원"),
            ("ko_KR", "상담원"),
            ("KO", "상담원"),
            ("Ko-kr", "상담원"),
            ("de", "Agent"),
            ("", "Agent"),
        ] {
            assert_eq!(text.get(language), shown, "{language}");
        }
    }
}
