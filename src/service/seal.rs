//! Opaque texts that only this database can have made: a keyed code over bytes and a context.
//!
//! The key is created with the database and shared by its replicas.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

/// Half of HMAC-SHA-256: short texts, and still out of reach of guessing.
const CODE_BYTES: usize = 16;

/// What one code of full length can hide.
const MASK_BYTES: usize = 32;

/// Longest sealed text that is looked at.
const MAX_TEXT_BYTES: usize = 1024;

/// Makes and opens sealed texts.
#[derive(Clone)]
pub struct Seal {
    key: [u8; 32],
}

impl std::fmt::Debug for Seal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Seal")
    }
}

impl Seal {
    /// A seal with the database's key.
    #[must_use]
    pub fn new(key: [u8; 32]) -> Self {
        Seal { key }
    }

    /// Seals bytes for one purpose: they only open again for the same one.
    #[must_use]
    pub fn close(&self, purpose: &[&[u8]], bytes: &[u8]) -> String {
        let mut sealed = bytes.to_vec();
        sealed.extend_from_slice(&self.code(purpose, bytes));
        URL_SAFE_NO_PAD.encode(sealed)
    }

    /// The bytes of a sealed text, if it was sealed with this key for this purpose.
    #[must_use]
    pub fn open(&self, purpose: &[&[u8]], text: &str) -> Option<Vec<u8>> {
        if text.len() > MAX_TEXT_BYTES {
            return None;
        }
        let mut bytes = URL_SAFE_NO_PAD.decode(text).ok()?;
        let code = bytes.split_off(bytes.len().checked_sub(CODE_BYTES)?);
        self.mac(purpose, &bytes)?.verify_truncated_left(&code).ok()?;
        Some(bytes)
    }

    /// Like [`Self::close`], and whoever has the text cannot read it: the bytes are masked with what
    /// the key makes of their code. Equal bytes have equal texts; nothing else shows.
    #[must_use]
    pub fn hide<const N: usize>(&self, purpose: &[&[u8]], bytes: [u8; N]) -> String {
        const { assert!(N <= MASK_BYTES) };
        let code = self.code(purpose, &bytes);
        let mut hidden = self.masked(purpose, &code, bytes).to_vec();
        hidden.extend_from_slice(&code);
        URL_SAFE_NO_PAD.encode(hidden)
    }

    /// The bytes of a hidden text, if it was made with this key for this purpose.
    #[must_use]
    pub fn reveal<const N: usize>(&self, purpose: &[&[u8]], text: &str) -> Option<[u8; N]> {
        const { assert!(N <= MASK_BYTES) };
        if text.len() > MAX_TEXT_BYTES {
            return None;
        }
        let bytes = URL_SAFE_NO_PAD.decode(text).ok()?;
        let (hidden, code) = bytes.split_first_chunk::<N>()?;
        if code.len() != CODE_BYTES {
            return None;
        }
        let bytes = self.masked(purpose, code, *hidden);
        self.mac(purpose, &bytes)?.verify_truncated_left(code).ok()?;
        Some(bytes)
    }

    fn masked<const N: usize>(
        &self,
        purpose: &[&[u8]],
        code: &[u8],
        mut bytes: [u8; N],
    ) -> [u8; N] {
        let purpose = [&[b"mask".as_slice()], purpose].concat();
        if let Some(mask) = self.mac(&purpose, code) {
            for (byte, mask) in bytes.iter_mut().zip(mask.finalize().into_bytes()) {
                *byte ^= mask;
            }
        }
        bytes
    }

    fn code(&self, purpose: &[&[u8]], bytes: &[u8]) -> Vec<u8> {
        let code = self.mac(purpose, bytes).map(|mac| mac.finalize().into_bytes());
        code.map(|code| code.iter().copied().take(CODE_BYTES).collect()).unwrap_or_default()
    }

    /// Every part goes in with its length, so that no two purposes run into each other.
    fn mac(&self, purpose: &[&[u8]], bytes: &[u8]) -> Option<Hmac<Sha256>> {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.key).ok()?;
        for part in purpose.iter().chain(std::iter::once(&bytes)) {
            mac.update(&(part.len() as u64).to_be_bytes());
            mac.update(part);
        }
        Some(mac)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_same_key_and_purpose_open_it() {
        let seal = Seal::new([7; 32]);
        let text = seal.close(&[b"page", b"tenant-1"], b"cursor");
        assert_eq!(seal.open(&[b"page", b"tenant-1"], &text), Some(b"cursor".to_vec()));
        assert_eq!(seal.open(&[b"page", b"tenant-2"], &text), None);
        assert_eq!(seal.open(&[b"pagetenant", b"-1"], &text), None);
        assert_eq!(Seal::new([8; 32]).open(&[b"page", b"tenant-1"], &text), None);
    }

    #[test]
    fn what_is_hidden_cannot_be_read_moved_or_changed() {
        let seal = Seal::new([7; 32]);
        let bytes = *b"0000000000000000position";
        let text = seal.hide(&[b"cursor", b"db-1"], bytes);
        assert_eq!(seal.reveal(&[b"cursor", b"db-1"], &text), Some(bytes));
        let shown = URL_SAFE_NO_PAD.decode(&text).unwrap();
        assert!(!shown.windows(4).any(|window| window == b"0000" || window == b"posi"));
        assert_eq!(seal.reveal::<24>(&[b"cursor", b"db-2"], &text), None);
        assert_eq!(seal.reveal::<23>(&[b"cursor", b"db-1"], &text), None);
        assert_eq!(Seal::new([8; 32]).reveal::<24>(&[b"cursor", b"db-1"], &text), None);
        assert_eq!(seal.reveal::<24>(&[b"cursor", b"db-1"], &seal.close(&[b"x"], &bytes)), None);
        for place in 0..text.len() {
            let mut forged: Vec<char> = text.chars().collect();
            forged[place] = if forged[place] == 'A' { 'B' } else { 'A' };
            let forged: String = forged.into_iter().collect();
            assert_eq!(seal.reveal::<24>(&[b"cursor", b"db-1"], &forged), None, "{place}");
            assert_eq!(seal.reveal::<24>(&[b"cursor", b"db-1"], &text[..place]), None, "{place}");
        }
    }

    #[test]
    fn every_change_of_a_character_and_every_cut_is_noticed() {
        let seal = Seal::new([7; 32]);
        let text = seal.close(&[b"x"], b"some bytes");
        for place in 0..text.len() {
            let mut forged: Vec<char> = text.chars().collect();
            forged[place] = if forged[place] == 'A' { 'B' } else { 'A' };
            let forged: String = forged.into_iter().collect();
            assert_eq!(seal.open(&[b"x"], &forged), None, "{place}");
            assert_eq!(seal.open(&[b"x"], &text[..place]), None, "{place}");
        }
        for garbage in ["", "A", "!!!", &"A".repeat(2000)] {
            assert_eq!(seal.open(&[b"x"], garbage), None);
        }
    }
}
