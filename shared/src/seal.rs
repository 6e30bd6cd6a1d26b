//! Seals: how a worker knows that an envelope was written by a process of its own installation.
//!
//! A message of the exchange `hotrow.orders` carries a keyed BLAKE3 of its body, cut to 128 bits, in a header. The body
//! stays what it is, so a person can read a dead letter, and a worker of the release before takes no notice of the
//! header. The key comes from `ORDER_ID_SECRET`. Neither queue nor time is part of what is sealed: a message stays
//! valid under another number of `PARTITIONS`, and one that comes twice finds itself settled.

use lapin::types::{AMQPValue, FieldTable};
use subtle::ConstantTimeEq;

/// Header: the seal of the body, as 32 lower-case hexadecimal digits.
pub const SEAL_HEADER: &str = "x-hotrow-seal";

/// 128 bits: nobody finds a seal by trying, because every attempt has to be published and is counted.
const SEAL_DIGITS: usize = 32;

const KEY_LENGTH: usize = blake3::KEY_LEN;

/// The keys of seals: the current secret makes them, and those of the previous one are still right.
#[derive(Clone)]
pub struct SealKeys {
    current: [u8; KEY_LENGTH],
    previous: Option<[u8; KEY_LENGTH]>,
}

/// What the seal of a message says about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Seal {
    /// The current secret made it.
    Current,
    /// The previous secret made it.
    Previous,
    /// There is none.
    Missing,
    /// It belongs to another body or to another secret, or is no seal at all.
    Wrong,
}

impl Seal {
    /// Every one.
    pub const ALL: [Self; 4] = [Self::Current, Self::Previous, Self::Missing, Self::Wrong];

    /// Its name in metrics and in lists of dead letters.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Current => "current",
            Self::Previous => "previous",
            Self::Missing => "missing",
            Self::Wrong => "wrong",
        }
    }
}

impl SealKeys {
    /// Keys that come from the current secret and, for checking, from the previous one.
    #[must_use]
    pub fn new(secret: &str, previous: Option<&str>) -> Self {
        Self {
            current: key(secret),
            previous: previous.map(key),
        }
    }

    /// Adds the seal of a body to the headers of its message.
    pub fn add(&self, body: &[u8], headers: &mut FieldTable) {
        let seal = seal(&self.current, body);
        let seal = AMQPValue::LongString(seal[..].into());
        headers.insert(SEAL_HEADER.into(), seal);
    }

    /// Adds the seal of a body that came in a message of this `seal`: what was not sealed is not sealed now, and of
    /// what had a wrong seal, nobody may take it for one of ours.
    pub fn pass_on(&self, seal: Seal, body: &[u8], headers: &mut FieldTable) {
        match seal {
            Seal::Current | Seal::Previous => self.add(body, headers),
            Seal::Missing => {}
            Seal::Wrong => {
                let denied = AMQPValue::LongString("wrong".into());
                headers.insert(SEAL_HEADER.into(), denied);
            }
        }
    }

    /// What the headers of a message say about its body.
    #[must_use]
    pub fn check(&self, body: &[u8], headers: Option<&FieldTable>) -> Seal {
        let Some(given) = headers.and_then(|headers| headers.inner().get(SEAL_HEADER)) else {
            return Seal::Missing;
        };
        let AMQPValue::LongString(given) = given else {
            return Seal::Wrong;
        };
        let fits = |key: &[u8; KEY_LENGTH]| seal(key, body).ct_eq(given.as_bytes()).into();
        if fits(&self.current) {
            Seal::Current
        } else if self.previous.as_ref().is_some_and(fits) {
            Seal::Previous
        } else {
            Seal::Wrong
        }
    }
}

fn key(secret: &str) -> [u8; KEY_LENGTH] {
    blake3::derive_key("hotrow 2026 seal of an envelope", secret.as_bytes())
}

fn seal(key: &[u8; KEY_LENGTH], body: &[u8]) -> [u8; SEAL_DIGITS] {
    let digits = blake3::keyed_hash(key, body).to_hex();
    std::array::from_fn(|at| digits.as_bytes()[at])
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str = "a secret of a test, long enough";
    const NEXT: &str = "the secret that comes after it";
    const BODY: &[u8] = br#"{"v":2,"commands":[]}"#;

    fn sealed(keys: &SealKeys, body: &[u8]) -> FieldTable {
        let mut headers = FieldTable::default();
        keys.add(body, &mut headers);
        headers
    }

    #[test]
    fn a_seal_is_right_for_its_body_and_the_current_or_the_previous_secret_only() {
        let before = SealKeys::new(SECRET, None);
        let headers = sealed(&before, BODY);
        let said = |keys: SealKeys| keys.check(BODY, Some(&headers));
        assert_eq!(said(before.clone()), Seal::Current);
        assert_eq!(said(SealKeys::new(NEXT, Some(SECRET))), Seal::Previous);
        assert_eq!(said(SealKeys::new(NEXT, None)), Seal::Wrong);
        for at in 0..BODY.len() {
            let mut changed = BODY.to_vec();
            changed[at] ^= 1;
            assert_eq!(before.check(&changed, Some(&headers)), Seal::Wrong);
        }
        assert_eq!(before.check(b"", Some(&headers)), Seal::Wrong);
    }

    #[test]
    fn what_is_passed_on_is_believed_as_it_was_before() {
        let keys = SealKeys::new(NEXT, Some(SECRET));
        for seal in Seal::ALL {
            let mut headers = FieldTable::default();
            keys.pass_on(seal, BODY, &mut headers);
            let expected = match seal {
                Seal::Previous => Seal::Current,
                seal => seal,
            };
            assert_eq!(keys.check(BODY, Some(&headers)), expected);
        }
    }

    #[test]
    fn a_message_without_the_header_is_not_sealed_and_one_with_anything_else_in_it_is_wrong() {
        let keys = SealKeys::new(SECRET, None);
        assert_eq!(keys.check(BODY, None), Seal::Missing);
        assert_eq!(
            keys.check(BODY, Some(&FieldTable::default())),
            Seal::Missing
        );
        let right = seal(&keys.current, BODY);
        let upper = right.to_ascii_uppercase();
        let long = [&right[..], b"0"].concat();
        let texts = [&b""[..], b"\xff\xfe", &right[..31], &upper, &long];
        let values = texts.map(|text| AMQPValue::LongString(text.into()));
        for value in values.into_iter().chain([AMQPValue::Boolean(true)]) {
            let mut headers = FieldTable::default();
            headers.insert(SEAL_HEADER.into(), value);
            assert_eq!(keys.check(BODY, Some(&headers)), Seal::Wrong);
        }
    }
}
