//! Ids that callers give, and how long a text may be.
//!
//! Ids are opaque, case-sensitive and compared byte by byte. Each kind has its own type, so that a
//! team's id cannot be taken for a member's.

use std::borrow::Borrow;
use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// The longest id, in bytes.
pub const MAX_ID_BYTES: usize = 128;

/// Why a text cannot be an id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum IdError {
    /// Nothing was given.
    #[error("must not be empty")]
    Empty,
    /// More than [`MAX_ID_BYTES`] bytes.
    #[error("is {0} bytes long; the limit is {MAX_ID_BYTES}")]
    TooLong(usize),
    /// It has a control character, which no log or URL carries safely.
    #[error("must not contain control characters")]
    ControlCharacter,
}

fn check(text: &str) -> Result<(), IdError> {
    if text.is_empty() {
        Err(IdError::Empty)
    } else if text.len() > MAX_ID_BYTES {
        Err(IdError::TooLong(text.len()))
    } else if has_control_character(text) {
        Err(IdError::ControlCharacter)
    } else {
        Ok(())
    }
}

/// Whether bytes are a text that can be an id.
#[must_use]
pub fn are_id(bytes: &[u8]) -> bool {
    (1..=MAX_ID_BYTES).contains(&bytes.len())
        && are_text(bytes, |text| !has_control_character(text))
}

/// Whether bytes are a text of which this is true. It must be of every text of printable ASCII, for
/// nearly all are, and that is seen without decoding anything.
#[inline]
pub fn are_text(bytes: &[u8], is_sound: impl FnOnce(&str) -> bool) -> bool {
    let is_printable = |byte: u8| byte.wrapping_sub(b' ') < 0x7f - b' ';
    bytes.iter().fold(true, |all, byte| all & is_printable(*byte))
        || std::str::from_utf8(bytes).is_ok_and(is_sound)
}

/// Whether there is a control character in a text: what [`char::is_control`] says of its characters.
#[must_use]
pub fn has_control_character(text: &str) -> bool {
    // Only what begins with 0xC2 can be a control character beyond ASCII; without one, and without
    // those of ASCII, the characters need not be looked at one by one.
    let suspicious = |byte: u8| byte < 0x20 || byte == 0x7f || byte == 0xc2;
    text.bytes().fold(false, |found, byte| found | suspicious(byte))
        && text.chars().any(char::is_control)
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(Arc<str>);

        impl $name {
            /// Takes a text as it is, if it can be an id.
            ///
            /// # Errors
            /// [`IdError`] when it is empty, too long or has control characters.
            pub fn parse(text: &str) -> Result<Self, IdError> {
                check(text)?;
                Ok(Self(Arc::from(text)))
            }

            /// An id that is known to be well-formed: read back from the database, or made by us.
            #[must_use]
            pub fn trusted(text: &str) -> Self {
                Self(Arc::from(text))
            }

            /// The id as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }

            /// Whether somebody else has a clone of it: the text is one for all of them.
            #[must_use]
            pub fn has_clones(&self) -> bool {
                Arc::strong_count(&self.0) > 1
            }
        }

        impl Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:?}", &*self.0)
            }
        }
    };
}

id! {
    /// One customer of the platform.
    TenantId
}
id! {
    /// A person in a tenant.
    MemberId
}
id! {
    /// A team or group of members.
    TeamId
}
id! {
    /// A role: a default role's id from the catalog (`pro_agent`), or one made by us for a custom
    /// role (a UUID, so that the two can never meet: catalog ids have no dashes).
    RoleId
}

impl TenantId {
    /// Stands before the id of a tenant that a caller may not see. No id begins with it, because it
    /// is a control character, so what it makes of an id leads to nothing in any table or cache.
    const ELSEWHERE: char = '\u{1}';

    /// An id under which there is nothing, for a caller for whom this tenant does not exist:
    /// whatever is done with it ends as it would with a tenant that nobody has made.
    #[must_use]
    pub fn out_of_reach(&self) -> Self {
        Self::trusted(&format!("{}{self}", Self::ELSEWHERE))
    }

    /// Whether [`TenantId::out_of_reach`] made it.
    #[must_use]
    pub fn is_out_of_reach(&self) -> bool {
        self.0.starts_with(Self::ELSEWHERE)
    }

    /// The id as the caller wrote it: for messages, and for nothing else.
    #[must_use]
    pub fn as_given(&self) -> &str {
        self.0.strip_prefix(Self::ELSEWHERE).unwrap_or(&self.0)
    }
}

/// Beginning of the pseudonyms of erased members.
pub const ERASED: &str = "erased-";
/// Pseudonym of people that were named but are no members.
pub const STRANGER: &str = "not-a-member";

impl MemberId {
    /// Whether the id means something in audit trails, so that no member may be given it: whoever
    /// took an erased member's pseudonym would take its history over.
    #[must_use]
    pub fn is_reserved(&self) -> bool {
        self.0.starts_with(ERASED) || &*self.0 == STRANGER || self.0.starts_with("rolegate ")
    }
}

impl RoleId {
    /// A new id for a custom role.
    #[must_use]
    pub fn generate() -> Self {
        Self::trusted(&uuid::Uuid::now_v7().to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_out_of_reach_is_nobodys_and_reads_as_given() {
        let longest = "x".repeat(MAX_ID_BYTES);
        for id in ["acme", " ", longest.as_str()] {
            let given = TenantId::parse(id).unwrap();
            let elsewhere = given.out_of_reach();
            assert!(!given.is_out_of_reach() && elsewhere.is_out_of_reach());
            assert_eq!((given.as_given(), elsewhere.as_given()), (id, id));
            assert_ne!(elsewhere, given);
            // Neither spelling of it can be the id of a tenant.
            for spelled in [elsewhere.as_str(), &elsewhere.to_string()] {
                assert!(TenantId::parse(spelled).is_err(), "{spelled:?}");
            }
        }
    }

    #[test]
    fn control_characters_are_those_of_char() {
        for character in ('\0'..='\u{2fff}').chain(['\u{e000}', '\u{10ffff}']) {
            let text = format!("a{character}b");
            assert_eq!(has_control_character(&text), character.is_control(), "{character:?}");
        }
    }

    #[test]
    fn an_id_is_taken_as_it_is_or_refused() {
        let longest = "é".repeat(64);
        for good in ["a", " A ", "가나다", longest.as_str()] {
            assert_eq!(MemberId::parse(good).map(|id| id.to_string()), Ok(good.to_owned()));
        }
        let too_long = "x".repeat(129);
        for (bad, why) in [
            ("", IdError::Empty),
            (too_long.as_str(), IdError::TooLong(129)),
            ("a\nb", IdError::ControlCharacter),
            ("a\u{0}", IdError::ControlCharacter),
            ("\u{85}", IdError::ControlCharacter),
        ] {
            assert_eq!(MemberId::parse(bad), Err(why), "{bad:?}");
        }
        assert_ne!(MemberId::parse("Kim"), MemberId::parse("kim"));
    }
}
