//! The keys that verify tokens, each with the one algorithm that it may be used with.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use jsonwebtoken::{
    Algorithm, DecodingKey,
    jwk::{AlgorithmParameters, EllipticCurve, Jwk, KeyAlgorithm, KeyOperations, PublicKeyUse},
};
use serde::Deserialize;
use serde_json::Value;

use super::provider::without_leading_zeros;

/// Most keys of a set that are used. A token that names none is tried with each that fits it.
const KEYS_MAX: usize = 32;
/// The shortest modulus of an RSA key, in bytes. (RFC 7518, section 3.3.)
const RSA_MODULUS_MIN: usize = 2_048 / 8;

/// A key, and whether it still counts.
#[derive(Debug)]
pub(super) struct Key {
    /// The name by which tokens refer to it. A key without one verifies tokens that name none.
    id: Option<String>,
    algorithm: Algorithm,
    decoding: DecodingKey,
    /// Tells whether a key of the next set is this one.
    fingerprint: blake3::Hash,
    has_left: AtomicBool,
}

impl Key {
    pub(super) fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    pub(super) fn decoding(&self) -> &DecodingKey {
        &self.decoding
    }

    /// Whether the key was taken out of its set. What it verified counts no more.
    pub(super) fn has_left(&self) -> bool {
        self.has_left.load(Ordering::Acquire)
    }
}

/// The keys that count at a moment.
#[derive(Debug, Default)]
pub(super) struct KeySet {
    keys: Vec<Arc<Key>>,
    /// How many more could be used, and are not.
    left_out: usize,
    /// Whether the name that a token gives its key is ignored.
    is_one_secret: bool,
}

/// Why a document gives no keys.
#[derive(Debug, thiserror::Error)]
pub(super) enum NoKeys {
    #[error("it is no JSON object with a list of keys")]
    NotASet(#[from] serde_json::Error),
    #[error("none of its {0} keys can verify tokens by RS256, ES256 or EdDSA")]
    NoneUsable(usize),
}

impl KeySet {
    /// A secret that is shared with whoever makes tokens.
    pub(super) fn of_secret(secret: &str) -> Self {
        let key = Key {
            id: None,
            algorithm: Algorithm::HS256,
            decoding: DecodingKey::from_secret(secret.as_bytes()),
            fingerprint: blake3::hash(secret.as_bytes()),
            has_left: AtomicBool::new(false),
        };
        Self {
            keys: vec![Arc::new(key)],
            left_out: 0,
            is_one_secret: true,
        }
    }

    /// Reads a set of keys (RFC 7517, section 5) that replaces this one. Keys that verify no tokens are passed over; a
    /// key that is in both sets stays the same.
    ///
    /// # Errors
    /// The text is no set of keys, or none of them can be used: then this set goes on.
    pub(super) fn next(&self, document: &[u8]) -> Result<Self, NoKeys> {
        #[derive(Deserialize)]
        struct Document {
            keys: Vec<Value>,
        }
        let Document { keys: given } = serde_json::from_slice(document)?;
        let count = given.len();
        let read = given.into_iter().filter_map(read_key);
        let mut keys: Vec<_> = read.map(|key| self.known(key)).collect();
        if keys.is_empty() {
            return Err(NoKeys::NoneUsable(count));
        }
        let usable = keys.len();
        keys.truncate(KEYS_MAX);
        let left_out = usable - keys.len();
        // Not again with every read.
        if left_out > 0 && left_out != self.left_out {
            tracing::warn!(
                usable,
                used = KEYS_MAX,
                "AUTH_JWKS has more keys than are used: tokens by the others are refused"
            );
        }
        Ok(Self {
            keys,
            left_out,
            is_one_secret: false,
        })
    }

    fn known(&self, key: Key) -> Arc<Key> {
        let same = |known: &&Arc<Key>| known.fingerprint == key.fingerprint;
        self.keys
            .iter()
            .find(same)
            .map_or_else(|| Arc::new(key), Arc::clone)
    }

    /// Notes which keys left with this set.
    pub(super) fn replaced_by(&self, next: &Self) {
        for key in &self.keys {
            if !next.keys.iter().any(|other| Arc::ptr_eq(key, other)) {
                key.has_left.store(true, Ordering::Release);
            }
        }
    }

    /// The keys that may have signed a token that names its key and algorithm so.
    pub(super) fn candidates(
        &self,
        id: Option<&str>,
        algorithm: Algorithm,
    ) -> impl Iterator<Item = &Arc<Key>> {
        self.keys
            .iter()
            .filter(move |key| key.algorithm == algorithm && self.is_named(key, id))
    }

    /// Whether a key that a token names is here, with whatever algorithm.
    pub(super) fn knows(&self, id: Option<&str>) -> bool {
        self.keys.iter().any(|key| self.is_named(key, id))
    }

    fn is_named(&self, key: &Key, id: Option<&str>) -> bool {
        self.is_one_secret || id.is_none_or(|id| key.id.as_deref() == Some(id))
    }

    pub(super) fn len(&self) -> usize {
        self.keys.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }
}

/// The key of a JWK, if it verifies tokens by one of the algorithms that Hotrow takes. A secret has no business in a set
/// that is published.
fn read_key(value: Value) -> Option<Key> {
    let jwk: Jwk = serde_json::from_value(value).ok()?;
    let (algorithm, named, material) = match &jwk.algorithm {
        AlgorithmParameters::RSA(key) => {
            (Algorithm::RS256, KeyAlgorithm::RS256, [&*key.n, &*key.e])
        }
        AlgorithmParameters::EllipticCurve(key) if key.curve == EllipticCurve::P256 => {
            (Algorithm::ES256, KeyAlgorithm::ES256, [&*key.x, &*key.y])
        }
        AlgorithmParameters::OctetKeyPair(key) if key.curve == EllipticCurve::Ed25519 => {
            (Algorithm::EdDSA, KeyAlgorithm::EdDSA, [&*key.x, ""])
        }
        _ => return None,
    };
    let common = &jwk.common;
    let verifies = common
        .key_operations
        .as_ref()
        .is_none_or(|all| all.contains(&KeyOperations::Verify));
    let signs = !matches!(&common.public_key_use, Some(other) if *other != PublicKeyUse::Signature);
    let fits = common.key_algorithm.is_none_or(|given| given == named);
    if !(verifies && signs && fits) {
        return None;
    }
    let id = common.key_id.as_deref();
    let mut hasher = blake3::Hasher::new();
    for part in [id.unwrap_or_default(), material[0], material[1]] {
        hasher.update(part.as_bytes()).update(&[0]);
    }
    hasher.update(&[u8::from(id.is_some()), algorithm as u8]);
    let decoding = DecodingKey::from_jwk(&jwk).ok()?;
    is_long_enough(&decoding).then(|| Key {
        id: id.map(str::to_owned),
        algorithm,
        decoding,
        fingerprint: hasher.finalize(),
        has_left: AtomicBool::new(false),
    })
}

fn is_long_enough(key: &DecodingKey) -> bool {
    match key.kind() {
        jsonwebtoken::DecodingKeyKind::RsaModulusExponent { n, .. } => {
            without_leading_zeros(n).len() >= RSA_MODULUS_MIN
        }
        jsonwebtoken::DecodingKeyKind::SecretOrDer(_) => true,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn ec(id: Option<&str>, x: &str) -> Value {
        json!({ "kty": "EC", "crv": "P-256", "kid": id, "x": x, "y": "eQ" })
    }

    fn set(before: &KeySet, keys: &[Value]) -> Result<KeySet, NoKeys> {
        before.next(json!({ "keys": keys }).to_string().as_bytes())
    }

    fn count(set: &KeySet, id: Option<&str>, algorithm: Algorithm) -> usize {
        set.candidates(id, algorithm).count()
    }

    #[test]
    fn a_key_is_found_by_its_name_and_its_own_algorithm_alone() {
        let set = set(
            &KeySet::default(),
            &[ec(Some("a"), "eA"), ec(Some("b"), "eg"), ec(None, "ew")],
        );
        let set = set.expect("keys");
        assert_eq!(count(&set, Some("a"), Algorithm::ES256), 1);
        assert_eq!(count(&set, Some("a"), Algorithm::RS256), 0);
        assert_eq!(count(&set, Some("a"), Algorithm::HS256), 0);
        assert_eq!(count(&set, Some("c"), Algorithm::ES256), 0);
        assert_eq!(count(&set, None, Algorithm::ES256), 3);
        assert!(set.knows(Some("a")) && !set.knows(Some("c")));
        let secret = KeySet::of_secret("a secret");
        assert_eq!(count(&secret, Some("whatever"), Algorithm::HS256), 1);
        assert_eq!(count(&secret, None, Algorithm::RS256), 0);
    }

    #[test]
    fn keys_that_verify_nothing_are_passed_over_and_a_set_of_them_is_none() {
        let short = "A".repeat(255 * 4 / 3);
        let useless = [
            json!({ "kty": "oct", "k": "c2VjcmV0" }),
            json!({ "kty": "EC", "crv": "P-384", "x": "eA", "y": "eQ" }),
            json!({ "kty": "EC", "crv": "P-256", "x": "eA", "y": "eQ", "use": "enc" }),
            json!({ "kty": "EC", "crv": "P-256", "x": "eA", "y": "eQ", "key_ops": ["sign"] }),
            json!({ "kty": "RSA", "n": "_".repeat(342), "e": "AQAB", "alg": "RS512" }),
            json!({ "kty": "RSA", "n": short, "e": "AQAB" }),
            json!({ "kty": "RSA", "n": "not base64!", "e": "AQAB" }),
            json!({ "kty": "to-come" }),
            json!("a string"),
        ];
        let none = set(&KeySet::default(), &useless);
        assert!(matches!(none, Err(NoKeys::NoneUsable(9))), "{none:?}");
        let mut keys = useless.to_vec();
        keys.push(ec(Some("a"), "eA"));
        assert_eq!(set(&KeySet::default(), &keys).expect("one key").len(), 1);
        for text in ["", "[]", "{}", r#"{"keys":{}}"#] {
            let refused = KeySet::default().next(text.as_bytes());
            assert!(matches!(refused, Err(NoKeys::NotASet(_))), "{text:?}");
        }
    }

    #[test]
    fn a_key_that_stays_is_the_same_and_one_that_leaves_counts_no_more() {
        let first = set(
            &KeySet::default(),
            &[ec(Some("a"), "eA"), ec(Some("b"), "eg")],
        );
        let first = first.expect("keys");
        // The same name for another key is another key.
        let next = set(&first, &[ec(Some("a"), "eA"), ec(Some("b"), "ew")]).expect("keys");
        first.replaced_by(&next);
        let left: Vec<_> = first.keys.iter().map(|key| key.has_left()).collect();
        assert_eq!(left, [false, true]);
        assert!(Arc::ptr_eq(&first.keys[0], &next.keys[0]));
        assert!(next.keys.iter().all(|key| !key.has_left()));
    }

    #[test]
    fn a_set_without_end_is_cut() {
        let keys: Vec<_> = (0..100)
            .map(|number| ec(Some(&number.to_string()), "eA"))
            .collect();
        let set = set(&KeySet::default(), &keys).expect("keys");
        assert_eq!((set.len(), set.left_out), (KEYS_MAX, 100 - KEYS_MAX));
        assert!(set.knows(Some("0")) && !set.knows(Some("99")));
    }
}
