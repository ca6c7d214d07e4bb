//! What a verified client certificate says of its holder.

use std::fmt;

/// A name out of a certificate's subject alternative names, of a kind that callers prove themselves
/// by.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum San {
    /// Such as `spiffe://example.org/chat`; compared byte by byte.
    Uri(String),
    /// Such as `chat.internal`, in lower case.
    Dns(String),
}

impl San {
    /// A DNS name, which says the same in any case.
    #[must_use]
    pub fn dns(name: &str) -> Self {
        San::Dns(name.to_ascii_lowercase())
    }

    /// As it stands in a callers file: a URI, or `dns:` and a name.
    pub(super) fn parse(text: &str) -> Result<Self, &'static str> {
        if let Some(name) = text.strip_prefix("dns:") {
            let sound = |part: &str| {
                !part.is_empty()
                    && part.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
            };
            return if name.contains('*') {
                Err("has a wildcard, which would let in whoever gets such a certificate")
            } else if name.len() <= 253 && name.split('.').all(sound) {
                Ok(San::dns(name))
            } else {
                Err("is not \"dns:\" with a name such as \"dns:chat.internal\"")
            };
        }
        match text.split_once("://") {
            Some((scheme, rest))
                if !scheme.is_empty()
                    && scheme.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'+')
                    && !rest.is_empty()
                    && text.bytes().all(|byte| byte.is_ascii_graphic()) =>
            {
                Ok(San::Uri(text.to_owned()))
            }
            _ => Err(
                "is neither a URI such as \"spiffe://example.org/chat\" nor \"dns:\" and a name",
            ),
        }
    }
}

impl fmt::Display for San {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            San::Uri(uri) => f.write_str(uri),
            San::Dns(name) => write!(f, "dns:{name}"),
        }
    }
}

/// The other end of a connection, as far as its certificate was verified.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Peer {
    /// The names of its certificate; none without one.
    pub sans: Vec<San>,
}
