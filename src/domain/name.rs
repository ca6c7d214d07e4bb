//! Names of roles: what people type, and when two of them are the same.

use std::fmt;

use icu_casemap::CaseMapper;
use icu_normalizer::ComposingNormalizerBorrowed;
use serde::{Deserialize, Serialize};

/// The longest role name, in characters.
pub const MAX_NAME_CHARS: usize = 100;
/// The longest role description, in characters.
pub const MAX_DESCRIPTION_CHARS: usize = 1000;

/// Why a text cannot be a name or a description.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TextError {
    /// Nothing is left after trimming.
    #[error("must not be empty")]
    Empty,
    /// Too many characters.
    #[error("has {length} characters; the limit is {limit}")]
    TooLong {
        /// How many it has.
        length: usize,
        /// How many it may have.
        limit: usize,
    },
    /// It has a character that nobody sees: control, direction override, zero width space.
    #[error("must not contain the invisible character U+{:04X}", *.0 as u32)]
    Invisible(char),
}

/// What makes two names equal: NFKC, trimmed, runs of blanks as one, case folded (DESIGN section 2),
/// without the characters that nobody sees.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct NameKey(String);

impl NameKey {
    /// The key of any text.
    #[must_use]
    pub fn of(name: &str) -> Self {
        let nfkc = ComposingNormalizerBorrowed::new_nfkc();
        let seen: String = nfkc.normalize(name).chars().filter_map(as_seen).collect();
        let folded = CaseMapper::new().fold_string(&seen).into_owned();
        // Leaving out and folding can leave a text that is no longer composed.
        NameKey(single_spaced(&nfkc.normalize(&folded)))
    }

    /// The key as text, for the database's unique index.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Returns the text as names and confirmations are kept and compared: NFC, trimmed, every run of
/// blanks as one space.
#[must_use]
pub fn tidy(text: &str) -> String {
    single_spaced(&ComposingNormalizerBorrowed::new_nfc().normalize(text))
}

fn single_spaced(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// A role's name: [`tidy`], 1 to [`MAX_NAME_CHARS`] characters, all of them visible.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RoleName(String);

impl RoleName {
    /// Takes what somebody typed.
    ///
    /// # Errors
    /// [`TextError`] when it cannot be a name.
    pub fn parse(text: &str) -> Result<Self, TextError> {
        // Before anything is normalized: that takes long for megabytes.
        check(text.trim(), MAX_NAME_CHARS, |_| false)?;
        let name = tidy(text);
        if NameKey::of(&name).0.is_empty() {
            return Err(TextError::Empty);
        }
        // Composing makes some characters longer.
        check(&name, MAX_NAME_CHARS, |_| false)?;
        Ok(RoleName(name))
    }

    /// A name that is known to be well-formed: read back from the database.
    #[must_use]
    pub fn trusted(name: &str) -> Self {
        RoleName(name.to_owned())
    }

    /// The name as typed, trimmed.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// What it is compared by.
    #[must_use]
    pub fn key(&self) -> NameKey {
        NameKey::of(&self.0)
    }
}

/// Forms of a name as people see it: two names that share one look alike. Confusable characters are
/// replaced as in the skeletons of UTS 39, in the name as it is typed, in small letters and in
/// capitals, because which characters look alike differs: `l` looks like `I`, and not like `i`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Appearance([String; 3]);

impl Appearance {
    /// Returns how a name looks.
    #[must_use]
    pub fn of(name: &str) -> Self {
        let nfkc = ComposingNormalizerBorrowed::new_nfkc();
        let seen: String = nfkc.normalize(name).chars().filter_map(as_seen).collect();
        let seen = single_spaced(&seen);
        let cases = CaseMapper::new();
        let small = cases.fold_string(&seen).into_owned();
        let skeleton = |text: &str| -> String {
            let skeleton: String = unicode_security::skeleton(text).collect();
            cases.fold_string(&skeleton).into_owned()
        };
        let capitals = seen.to_uppercase();
        Appearance([skeleton(&seen), skeleton(&small), skeleton(&capitals)])
    }

    /// Whether people could take one for the other.
    #[must_use]
    pub fn looks_like(&self, other: &Self) -> bool {
        self.0.iter().any(|form| other.0.contains(form))
    }
}

impl fmt::Display for RoleName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Takes a description: trimmed, may be empty, may have line breaks and tabs.
///
/// # Errors
/// [`TextError`] when it is too long or has invisible characters.
pub fn parse_description(text: &str) -> Result<String, TextError> {
    let description = text.trim();
    check(description, MAX_DESCRIPTION_CHARS, |c| matches!(c, '\n' | '\r' | '\t'))?;
    Ok(description.to_owned())
}

fn check(text: &str, limit: usize, tolerated: impl Fn(char) -> bool) -> Result<(), TextError> {
    let length = text.chars().count();
    if length > limit {
        return Err(TextError::TooLong { length, limit });
    }
    match text.chars().find(|c| is_invisible(*c) && !tolerated(*c)) {
        Some(c) => Err(TextError::Invisible(c)),
        None => Ok(()),
    }
}

/// Characters that would let two different names look the same, or break a line of a log: controls,
/// line and paragraph separators, interlinear annotations, and what Unicode says is not shown.
/// Joiners, variation selectors and tags stay allowed: scripts and emoji need them.
fn is_invisible(c: char) -> bool {
    let needed = matches!(
        c,
        '\u{34F}'
            | '\u{180B}'..='\u{180D}'
            | '\u{180F}'
            | '\u{200C}'..='\u{200D}'
            | '\u{FE00}'..='\u{FE0F}'
            | '\u{E0020}'..='\u{E007F}'
            | '\u{E0100}'..='\u{E01EF}'
    );
    c.is_control()
        || matches!(c, '\u{2028}' | '\u{2029}' | '\u{FFF9}'..='\u{FFFB}')
        || (is_default_ignorable(c) && !needed)
}

/// The character as it counts in a key: one that is not shown does not, as in Unicode's
/// `NFKC_Casefold`, and the blank Braille pattern is a space.
fn as_seen(c: char) -> Option<char> {
    match c {
        '\u{2800}' => Some(' '),
        c if is_default_ignorable(c) => None,
        c => Some(c),
    }
}

/// Unicode's `Default_Ignorable_Code_Point` (DerivedCoreProperties.txt), unassigned ones included.
fn is_default_ignorable(c: char) -> bool {
    matches!(
        c,
        '\u{AD}'
            | '\u{34F}'
            | '\u{61C}'
            | '\u{115F}'..='\u{1160}'
            | '\u{17B4}'..='\u{17B5}'
            | '\u{180B}'..='\u{180F}'
            | '\u{200B}'..='\u{200F}'
            | '\u{202A}'..='\u{202E}'
            | '\u{2060}'..='\u{206F}'
            | '\u{3164}'
            | '\u{FE00}'..='\u{FE0F}'
            | '\u{FEFF}'
            | '\u{FFA0}'
            | '\u{FFF0}'..='\u{FFF8}'
            | '\u{1BCA0}'..='\u{1BCA3}'
            | '\u{1D173}'..='\u{1D17A}'
            | '\u{E0000}'..='\u{E0FFF}'
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_after_nfkc_trimming_and_case_folding() {
        for (left, right) in [
            ("Night Shift", " night shift "),
            ("Straße", "STRASSE"),
            ("Ｂｉｌｌｉｎｇ", "billing"),
            ("ﬁnance", "FINANCE"),
            ("Café", "Cafe\u{301}"),
            ("ΣΊΣΥΦΟΣ", "σίσυφος"),
            ("야간 팀", "\u{110B}\u{1163}\u{1100}\u{1161}\u{11AB} 팀"),
            ("\u{3000}Team", "team"),
            ("Night  \u{2003} Shift", "night shift"),
        ] {
            assert_eq!(NameKey::of(left), NameKey::of(right), "{left} / {right}");
        }
        assert_ne!(NameKey::of("Night Shift"), NameKey::of("Nightshift"));
    }

    #[test]
    fn what_nobody_sees_makes_no_other_name() {
        for hidden in ['\u{AD}', '\u{34F}', '\u{3164}', '\u{200D}', '\u{FE0F}', '\u{E0041}'] {
            assert_eq!(NameKey::of(&format!("Ow{hidden}ner")), NameKey::of("owner"), "{hidden:?}");
            let alone = RoleName::parse(&hidden.to_string());
            let refused = [Err(TextError::Empty), Err(TextError::Invisible(hidden))];
            assert!(refused.contains(&alone), "{hidden:?}: {alone:?}");
        }
        assert_eq!(RoleName::parse("\u{2800}"), Err(TextError::Empty));
        assert_eq!(NameKey::of("Team\u{2800}lead"), NameKey::of("team lead"));
        // What is typed stays as it is: emoji need their joiners.
        assert_eq!(RoleName::parse("👩\u{200D}💻").unwrap().as_str(), "👩\u{200D}💻");
    }

    #[test]
    fn names_that_people_could_confuse_look_alike() {
        for (left, right) in [
            ("Admin", "\u{410}dmin"),
            ("Admin", "adm\u{131}n"),
            ("Admin", "ADMlN"),
            ("Owner", "0wner"),
            ("Owner", "\u{41E}wn\u{435}r"),
            ("User", "U\u{455}er"),
            ("Pro Agent", "Pr\u{3BF}  Agent"),
        ] {
            assert!(Appearance::of(left).looks_like(&Appearance::of(right)), "{left} / {right}");
        }
        for (left, right) in
            [("Admin", "Admins"), ("Agent", "Urgent"), ("User", "Uses"), ("상담원", "상담완")]
        {
            assert!(!Appearance::of(left).looks_like(&Appearance::of(right)), "{left} / {right}");
        }
    }

    #[test]
    fn a_name_of_megabytes_is_refused_before_it_is_normalized() {
        // Normalizing reorders a run of marks, which takes many times as long as counting them.
        let huge = format!("a{}", "\u{315}\u{300}".repeat(2_000_000));
        let begun = std::time::Instant::now();
        let length = 4_000_001;
        assert_eq!(RoleName::parse(&huge), Err(TextError::TooLong { length, limit: 100 }));
        assert!(begun.elapsed() < std::time::Duration::from_secs(1), "{:?}", begun.elapsed());
    }

    #[test]
    fn names_are_trimmed_or_refused() {
        assert_eq!(RoleName::parse("  Team lead ").map(|n| n.to_string()), Ok("Team lead".into()));
        assert_eq!(RoleName::parse("Team \u{3000} lead").unwrap().as_str(), "Team lead");
        assert_eq!(RoleName::parse("Cafe\u{301}").unwrap().as_str(), "Café");
        assert!(RoleName::parse(&"é".repeat(100)).is_ok());
        let too_long = "é".repeat(101);
        for (bad, why) in [
            ("", TextError::Empty),
            (" \u{3000} ", TextError::Empty),
            (too_long.as_str(), TextError::TooLong { length: 101, limit: 100 }),
            ("a\tb", TextError::Invisible('\t')),
            ("a\u{202E}b", TextError::Invisible('\u{202E}')),
            ("a\u{200B}b", TextError::Invisible('\u{200B}')),
            ("a\u{AD}b", TextError::Invisible('\u{AD}')),
            ("a\u{61C}b", TextError::Invisible('\u{61C}')),
            ("a\u{3164}b", TextError::Invisible('\u{3164}')),
            ("a\u{FFF9}b", TextError::Invisible('\u{FFF9}')),
        ] {
            assert_eq!(RoleName::parse(bad), Err(why), "{bad:?}");
        }
        assert_eq!(parse_description(" two\nlines "), Ok("two\nlines".into()));
        assert_eq!(parse_description("a\u{0}"), Err(TextError::Invisible('\u{0}')));
        assert!(parse_description(&"x".repeat(1001)).is_err());
    }
}
