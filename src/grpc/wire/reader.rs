//! The encoding, as far as clients use it for these messages: see
//! <https://protobuf.dev/programming-guides/encoding/>.

/// What a field holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Value<'a> {
    /// A number or a flag.
    Number(u64),
    /// A text or a message.
    Bytes(&'a [u8]),
}

/// The bit of a byte of a number that is not its last.
const CONTINUED: u8 = 0x80;

/// The fields of a message, in the order in which they lie there. `None` for one that is not read
/// here: broken, of another kind, or with a number beyond 15.
#[derive(Debug, Clone)]
pub(super) struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    pub(super) fn of(message: &'a [u8]) -> Self {
        Fields(message)
    }

    #[inline]
    fn field(&mut self) -> Option<(u8, Value<'a>)> {
        let (key, rest) = self.0.split_first()?;
        self.0 = rest;
        let value = match key & 0b111 {
            _ if key & CONTINUED != 0 => return None,
            0 => Value::Number(self.varint()?),
            2 => {
                let length = usize::try_from(self.varint()?).ok()?;
                let (bytes, rest) = self.0.split_at_checked(length)?;
                self.0 = rest;
                Value::Bytes(bytes)
            }
            _ => return None,
        };
        Some((key >> 3, value))
    }

    /// Nearly all fit into one byte.
    #[inline]
    fn varint(&mut self) -> Option<u64> {
        match self.0.split_first() {
            Some((byte, rest)) if byte & CONTINUED == 0 => {
                self.0 = rest;
                Some(u64::from(*byte))
            }
            _ => self.long_varint(),
        }
    }

    /// Seven bits a byte, the lowest first, in at most ten.
    fn long_varint(&mut self) -> Option<u64> {
        let mut value = 0;
        for index in 0..10 {
            let (byte, rest) = self.0.split_first()?;
            self.0 = rest;
            // The tenth has room for one bit.
            if index == 9 && *byte > 1 {
                return None;
            }
            value |= u64::from(byte & 0x7f) << (7 * index);
            if byte & CONTINUED == 0 {
                return Some(value);
            }
        }
        None
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = Option<(u8, Value<'a>)>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        (!self.0.is_empty()).then(|| self.field())
    }
}

/// A text, if it is one.
pub(super) fn text(bytes: &[u8]) -> Option<&str> {
    std::str::from_utf8(bytes).ok()
}

/// Takes what a field holds, if the field has not come before: what it means when it comes again
/// depends on its type.
#[inline]
pub(super) fn once<T>(place: &mut Option<T>, value: Option<T>) -> Option<()> {
    if place.is_some() {
        return None;
    }
    *place = Some(value?);
    Some(())
}
