//! Secrets that have to be read again: encrypted in the database, by a key that is not there.
//!
//! `XChaCha20-Poly1305` with a random nonce of 24 bytes, so that nobody counts nonces. What is sealed belongs to a
//! context, such as an endpoint's id, and opens in no other: a row that somebody copies is of no use.

use chacha20poly1305::{
    XChaCha20Poly1305, XNonce,
    aead::{Aead, KeyInit, Payload},
};

const NONCE_LENGTH: usize = 24;

/// A secret cannot be sealed or opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    /// The cipher refuses to encrypt, which it does only with what is too long by far.
    #[error("a secret cannot be encrypted")]
    NotSealed,
    /// It was sealed by another key, in another context, or it was changed.
    #[error("a secret was encrypted with another ORDER_ID_SECRET")]
    Foreign,
}

/// The keys that seal, derived from `ORDER_ID_SECRET`: the current one seals, and the previous one still opens.
#[derive(Clone)]
pub struct SealingKeys {
    current: XChaCha20Poly1305,
    previous: Option<XChaCha20Poly1305>,
}

/// What was sealed, opened. It has no `Debug`.
pub struct Opened {
    /// The secret.
    pub secret: Vec<u8>,
    /// Whether the current key sealed it. If not, it is to be sealed anew.
    pub is_current: bool,
}

fn cipher(secret: &str) -> XChaCha20Poly1305 {
    let key = blake3::derive_key("hotrow 2026 sealed secrets", secret.as_bytes());
    XChaCha20Poly1305::new(&key.into())
}

impl SealingKeys {
    /// Keys that come from the current secret and, for opening, from the previous one.
    #[must_use]
    pub fn new(secret: &str, previous: Option<&str>) -> Self {
        Self {
            current: cipher(secret),
            previous: previous.map(cipher),
        }
    }

    /// Encrypts a secret: nonce, ciphertext, tag.
    ///
    /// # Errors
    /// The cipher refuses.
    pub fn seal(&self, secret: &[u8], context: &[u8]) -> Result<Vec<u8>, SealError> {
        let nonce: [u8; NONCE_LENGTH] = rand::random();
        let payload = Payload {
            msg: secret,
            aad: context,
        };
        let encrypted = self.current.encrypt(&XNonce::from(nonce), payload);
        let encrypted = encrypted.map_err(|_| SealError::NotSealed)?;
        Ok([&nonce[..], &encrypted].concat())
    }

    /// Decrypts what was sealed in this context.
    ///
    /// # Errors
    /// No key fits, or it is not what was sealed.
    pub fn open(&self, sealed: &[u8], context: &[u8]) -> Result<Opened, SealError> {
        let (nonce, encrypted) = sealed
            .split_first_chunk::<NONCE_LENGTH>()
            .ok_or(SealError::Foreign)?;
        let open = |key: &XChaCha20Poly1305| {
            let payload = Payload {
                msg: encrypted,
                aad: context,
            };
            key.decrypt(&XNonce::from(*nonce), payload).ok()
        };
        let (secret, is_current) = match open(&self.current) {
            Some(secret) => (Some(secret), true),
            None => (self.previous.as_ref().and_then(open), false),
        };
        let secret = secret.ok_or(SealError::Foreign)?;
        Ok(Opened { secret, is_current })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str = "a secret of a test, long enough";
    const NEXT: &str = "the secret that comes after it";

    fn opened(keys: &SealingKeys, sealed: &[u8], context: &[u8]) -> Option<(Vec<u8>, bool)> {
        let opened = keys.open(sealed, context).ok()?;
        Some((opened.secret, opened.is_current))
    }

    #[test]
    fn the_previous_key_still_opens_and_a_foreign_one_does_not() -> Result<(), SealError> {
        let before = SealingKeys::new(SECRET, None);
        let sealed = before.seal(b"plain", b"here")?;
        assert_eq!(
            opened(&before, &sealed, b"here"),
            Some((b"plain".to_vec(), true))
        );
        let after = SealingKeys::new(NEXT, Some(SECRET));
        assert_eq!(
            opened(&after, &sealed, b"here"),
            Some((b"plain".to_vec(), false))
        );
        assert_eq!(
            opened(&SealingKeys::new(NEXT, None), &sealed, b"here"),
            None
        );
        Ok(())
    }

    #[test]
    fn what_is_sealed_is_unreadable_each_time_another_and_opens_in_its_context_only()
    -> Result<(), SealError> {
        let keys = SealingKeys::new(SECRET, None);
        let sealed = keys.seal(b"plain", b"here")?;
        assert!(!sealed.windows(5).any(|part| part == b"plain"));
        assert_ne!(sealed, keys.seal(b"plain", b"here")?);
        assert_eq!(opened(&keys, &sealed, b"there"), None);
        for at in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[at] ^= 1;
            assert_eq!(opened(&keys, &changed, b"here"), None, "byte {at}");
            assert_eq!(opened(&keys, &sealed[..at], b"here"), None, "cut at {at}");
        }
        Ok(())
    }
}
