//! Tokens: JSON Web Tokens (RFC 7519), signed by the keys that this shop believes.

use std::{collections::HashMap, sync::Arc};

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use hotrow_shared::order::CustomerId;
use jsonwebtoken::{Algorithm, Validation, decode};
use serde::{Deserialize, de::IgnoredAny};
use serde_json::{Map, Value};

use super::{
    caller::{ADMIN_TOKEN_NAME, Identity},
    keys::{Key, KeySet},
    provider,
    refused::{Refused, TOKEN_LENGTH_MAX},
    remembered::{Remembered, TokenHash, Verified, now},
    role_claim::RoleClaim,
};

/// How far the clock of whoever makes tokens may be off, in seconds.
const LEEWAY_SECONDS: u64 = 30;
/// The algorithms that Hotrow takes.
const ALGORITHMS: [(&str, Algorithm); 4] = [
    ("HS256", Algorithm::HS256),
    ("RS256", Algorithm::RS256),
    ("ES256", Algorithm::ES256),
    ("EdDSA", Algorithm::EdDSA),
];

/// What a token has to say beside a right signature.
pub(super) struct Expected {
    pub(super) issuer: Option<String>,
    pub(super) audience: Option<String>,
    pub(super) role_claim: RoleClaim,
}

/// Verifies tokens, and remembers those that are right.
pub(super) struct Verifier {
    validations: HashMap<Algorithm, Validation>,
    role_claim: RoleClaim,
    remembered: Remembered,
}

/// The part of a token's head that says how it is signed.
#[derive(Deserialize)]
struct Head {
    alg: String,
    kid: Option<String>,
    /// Names extensions that must be understood. (RFC 7515, section 4.1.11.) None is.
    crit: Option<IgnoredAny>,
}

impl Verifier {
    pub(super) fn new(expected: Expected) -> Self {
        provider::install();
        let validations = ALGORITHMS
            .iter()
            .map(|(_, algorithm)| (*algorithm, validation(*algorithm, &expected)));
        Self {
            validations: validations.collect(),
            role_claim: expected.role_claim,
            remembered: Remembered::new(),
        }
    }

    /// Who holds a token, if it was verified before.
    pub(super) fn recall(&self, token: &str) -> Option<Arc<Identity>> {
        if token.len() > TOKEN_LENGTH_MAX {
            return None;
        }
        self.remembered.find(&hash(token), now())
    }

    /// Who holds a token, by its signature.
    ///
    /// # Errors
    /// It is refused. [`Refused::UnknownKey`] may be right for the next set of keys.
    pub(super) fn verify(&self, token: &str, keys: &KeySet) -> Result<Arc<Identity>, Refused> {
        if token.len() > TOKEN_LENGTH_MAX {
            return Err(Refused::TooLarge);
        }
        let head = head(token).ok_or(Refused::Malformed)?;
        let known = ALGORITHMS.iter().find(|(name, _)| *name == head.alg);
        let (_, algorithm) = known.ok_or(Refused::Algorithm)?;
        if keys.is_empty() {
            return Err(Refused::NoKeys);
        }
        let id = head.kid.as_deref();
        let mut refused = if keys.knows(id) {
            Refused::Algorithm
        } else {
            Refused::UnknownKey
        };
        for key in keys.candidates(id, *algorithm) {
            match self.verify_with(token, key) {
                Ok(verified) => {
                    let identity = Arc::clone(&verified.identity);
                    self.remembered.remember(hash(token), verified);
                    return Ok(identity);
                }
                Err(why) => refused = why,
            }
            // The signature is right, and the rest is the same whatever the key.
            if refused != Refused::Signature {
                break;
            }
        }
        Err(refused)
    }

    fn verify_with(&self, token: &str, key: &Arc<Key>) -> Result<Verified, Refused> {
        let validation = self.validations.get(&key.algorithm());
        let validation = validation.ok_or(Refused::Algorithm)?;
        let claims = decode::<Map<String, Value>>(token, key.decoding(), validation)?.claims;
        let subject = claims.get("sub").and_then(Value::as_str);
        // Records must not take the holder of a token for whoever has the fixed one.
        let subject = subject.filter(|text| *text != ADMIN_TOKEN_NAME);
        let subject = subject.and_then(|text| CustomerId::try_from(text).ok());
        let identity = Identity {
            role: self.role_claim.read(&claims),
            subject: subject.ok_or(Refused::Subject)?,
        };
        let ends = claims.get("exp").and_then(seconds);
        Ok(Verified {
            identity: Arc::new(identity),
            ends: ends.unwrap_or_default().saturating_add(LEEWAY_SECONDS),
            key: Arc::clone(key),
        })
    }
}

/// What is checked of a token that is signed so.
fn validation(algorithm: Algorithm, expected: &Expected) -> Validation {
    let mut validation = Validation::new(algorithm);
    validation.leeway = LEEWAY_SECONDS;
    validation.validate_nbf = true;
    validation.validate_aud = expected.audience.is_some();
    let mut required = vec!["exp"];
    if let Some(issuer) = &expected.issuer {
        validation.set_issuer(&[issuer]);
        required.push("iss");
    }
    if let Some(audience) = &expected.audience {
        validation.set_audience(&[audience]);
        required.push("aud");
    }
    validation.set_required_spec_claims(&required);
    validation
}

/// Reads a token's head.
fn head(token: &str) -> Option<Head> {
    let (head, _) = token.split_once('.')?;
    let head = BASE64_URL_SAFE_NO_PAD.decode(head).ok()?;
    let head: Head = serde_json::from_slice(&head).ok()?;
    head.crit.is_none().then_some(head)
}

fn hash(token: &str) -> TokenHash {
    *blake3::hash(token.as_bytes()).as_bytes()
}

/// A time of a token, in whole seconds since 1970. It may have a fraction. (RFC 7519, section 2.)
fn seconds(time: &Value) -> Option<u64> {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a cast of a float saturates"
    )]
    let rounded = |time: f64| time.round() as u64;
    time.as_u64().or_else(|| time.as_f64().map(rounded))
}

#[cfg(test)]
mod tests {
    use ring::hmac;
    use serde_json::json;

    use super::*;

    const SECRET: &str = "a secret of a test that has 32 bytes and more";

    fn verifier() -> Verifier {
        Verifier::new(Expected {
            issuer: Some("https://id.example".to_owned()),
            audience: Some("shop".to_owned()),
            role_claim: RoleClaim::new("role"),
        })
    }

    fn signed(head: &Value, claims: &Value, secret: &str) -> String {
        let part = |part: &Value| BASE64_URL_SAFE_NO_PAD.encode(part.to_string());
        let message = format!("{}.{}", part(head), part(claims));
        let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
        let signature = BASE64_URL_SAFE_NO_PAD.encode(hmac::sign(&key, message.as_bytes()));
        format!("{message}.{signature}")
    }

    fn claims(changed: &Value) -> Value {
        let mut claims = json!({
            "iss": "https://id.example", "aud": "shop", "sub": "c-1", "exp": now() + 60,
        });
        for (name, value) in changed.as_object().expect("an object") {
            claims[name] = value.clone();
        }
        claims
    }

    fn judged(changed: &Value) -> Result<Arc<Identity>, Refused> {
        let token = signed(&json!({ "alg": "HS256" }), &claims(changed), SECRET);
        verifier().verify(&token, &KeySet::of_secret(SECRET))
    }

    #[test]
    fn a_token_proves_its_subject_and_role() {
        let identity = judged(&json!({})).expect("a right token");
        assert_eq!(identity.subject.as_str(), "c-1");
        let identity =
            judged(&json!({ "sub": "auth0|5f", "role": ["shop"], "aud": ["a", "shop"] }));
        let identity = identity.expect("a right token");
        assert_eq!(identity.subject.as_str(), "auth0|5f");
        assert_eq!(identity.role.as_str(), "shop");
    }

    #[test]
    fn times_have_30_seconds_of_leeway() {
        let now = now();
        for right in [
            json!({ "exp": now - 25 }),
            json!({ "nbf": now + 25 }),
            json!({ "nbf": now - 1, "exp": 1.9e10 }),
            json!({ "exp": u64::MAX }),
        ] {
            assert!(judged(&right).is_ok(), "{right}");
        }
        for (wrong, why) in [
            (json!({ "exp": now - 35 }), Refused::Expired),
            (json!({ "nbf": now + 35 }), Refused::NotYetValid),
            (json!({ "exp": null }), Refused::Malformed),
            (json!({ "exp": "4102444800" }), Refused::Malformed),
            (json!({ "exp": -1 }), Refused::Malformed),
            (json!({ "nbf": "soon" }), Refused::Malformed),
        ] {
            assert_eq!(judged(&wrong).err(), Some(why), "{wrong}");
        }
    }

    #[test]
    fn issuer_audience_and_subject_have_to_fit() {
        for (wrong, why) in [
            (json!({ "iss": "https://id.example/" }), Refused::Issuer),
            (json!({ "iss": null }), Refused::Issuer),
            (json!({ "aud": "other" }), Refused::Audience),
            (json!({ "aud": [] }), Refused::Audience),
            (json!({ "aud": null }), Refused::Audience),
            (json!({ "aud": { "shop": true } }), Refused::Audience),
            (json!({ "sub": "two words" }), Refused::Subject),
            (json!({ "sub": "x".repeat(129) }), Refused::Subject),
            (json!({ "sub": "" }), Refused::Subject),
            (json!({ "sub": 7 }), Refused::Subject),
            (json!({ "sub": null }), Refused::Subject),
            (json!({ "sub": "admin-token" }), Refused::Subject),
            (
                json!({ "sub": "admin-token", "role": "admin" }),
                Refused::Subject,
            ),
        ] {
            assert_eq!(judged(&wrong).err(), Some(why), "{wrong}");
        }
    }

    #[test]
    fn what_is_no_token_or_signed_otherwise_is_refused() {
        let set = KeySet::of_secret(SECRET);
        let refused = |token: &str| verifier().verify(token, &set).err();
        let head = json!({ "alg": "HS256" });
        let right = signed(&head, &claims(&json!({})), SECRET);
        let unsigned = right.rsplit_once('.').expect("three parts").0;
        for text in [
            "",
            ".",
            "..",
            "a.b.c",
            "{}",
            unsigned,
            &format!("{right}.x"),
        ] {
            assert_eq!(refused(text), Some(Refused::Malformed), "{text:?}");
        }
        assert_eq!(refused(&format!("{unsigned}.")), Some(Refused::Signature));
        let forged = signed(&head, &claims(&json!({})), "another secret");
        assert_eq!(refused(&forged), Some(Refused::Signature));
        for other in ["none", "None", "HS512", "RS256", "ES256", "EdDSA", ""] {
            let token = signed(&json!({ "alg": other }), &claims(&json!({})), SECRET);
            assert_eq!(refused(&token), Some(Refused::Algorithm), "{other}");
        }
        let critical = json!({ "alg": "HS256", "crit": ["exp"], "exp": 1 });
        let token = signed(&critical, &claims(&json!({})), SECRET);
        assert_eq!(refused(&token), Some(Refused::Malformed));
        let large = signed(
            &head,
            &claims(&json!({ "note": "x".repeat(13_000) })),
            SECRET,
        );
        assert_eq!(refused(&large), Some(Refused::TooLarge));
        let none = verifier().verify(&right, &KeySet::default());
        assert_eq!(none.err(), Some(Refused::NoKeys));
    }

    #[test]
    fn only_a_token_that_was_right_is_remembered() {
        let verifier = verifier();
        let set = KeySet::of_secret(SECRET);
        let right = signed(&json!({ "alg": "HS256" }), &claims(&json!({})), SECRET);
        let forged = signed(&json!({ "alg": "HS256" }), &claims(&json!({})), "another");
        assert!(verifier.recall(&right).is_none());
        assert!(verifier.verify(&right, &set).is_ok());
        assert!(verifier.verify(&forged, &set).is_err());
        assert!(verifier.recall(&right).is_some());
        assert!(verifier.recall(&forged).is_none());
    }
}
