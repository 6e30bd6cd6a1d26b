//! An issuer of tokens, which shares no code with the product: it signs by ring and writes the JSON by hand.

use hotrow_tests::tokens::{self, encoded};
pub(crate) use hotrow_tests::tokens::{claims, now, unsigned};
use ring::{
    rand::SystemRandom,
    rsa::PublicKeyComponents,
    signature::{
        ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair, RSA_PKCS1_SHA256,
        RsaKeyPair,
    },
};
use serde_json::{Value, json};

/// What the claims sign tokens of `AUTH_SECRET` with.
pub(crate) const SECRET: &str = "a-secret-for-tokens-of-tests-of-more-than-32-bytes";

/// A key of 2,048 bits for tests alone, which ring cannot make (PKCS #8).
const RSA: &[u8] = include_bytes!("issuer/rsa.der");

/// Somebody who signs tokens.
pub(crate) struct Issuer {
    id: Option<&'static str>,
    key: SigningKey,
}

enum SigningKey {
    Secret(Vec<u8>),
    Rsa(RsaKeyPair),
    Ec(EcdsaKeyPair),
    Ed(Ed25519KeyPair),
}

impl Issuer {
    /// Signs by HS256.
    pub(crate) fn secret(secret: &[u8]) -> Self {
        Self {
            id: None,
            key: SigningKey::Secret(secret.to_vec()),
        }
    }

    /// Signs by RS256, with the one key that there is.
    pub(crate) fn rsa(id: &'static str) -> Self {
        let key = RsaKeyPair::from_pkcs8(RSA).expect("a key");
        Self::named(id, SigningKey::Rsa(key))
    }

    /// Signs by ES256, with a new key.
    pub(crate) fn ec(id: &'static str) -> Self {
        let (curve, rng) = (&ECDSA_P256_SHA256_FIXED_SIGNING, SystemRandom::new());
        let made = EcdsaKeyPair::generate_pkcs8(curve, &rng).expect("a key");
        let key = EcdsaKeyPair::from_pkcs8(curve, made.as_ref(), &rng).expect("a key");
        Self::named(id, SigningKey::Ec(key))
    }

    /// Signs by `EdDSA`, with a new key.
    pub(crate) fn ed(id: &'static str) -> Self {
        let made = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).expect("a key");
        let key = Ed25519KeyPair::from_pkcs8(made.as_ref()).expect("a key");
        Self::named(id, SigningKey::Ed(key))
    }

    fn named(id: &'static str, key: SigningKey) -> Self {
        Self { id: Some(id), key }
    }

    /// The same without a name in its tokens.
    pub(crate) fn nameless(mut self) -> Self {
        self.id = None;
        self
    }

    /// The public key. (RFC 7517, RFC 8037.)
    pub(crate) fn jwk(&self) -> Value {
        let mut jwk = match &self.key {
            SigningKey::Secret(_) => panic!("a secret is not published"),
            SigningKey::Rsa(key) => {
                let PublicKeyComponents { n, e } =
                    PublicKeyComponents::<Vec<u8>>::from(key.public());
                json!({ "kty": "RSA", "alg": "RS256", "use": "sig", "n": encoded(n), "e": encoded(e) })
            }
            SigningKey::Ec(key) => {
                // Uncompressed: a byte that says so, and both coordinates.
                let (x, y) = key.public_key().as_ref()[1..].split_at(32);
                json!({ "kty": "EC", "crv": "P-256", "x": encoded(x), "y": encoded(y) })
            }
            SigningKey::Ed(key) => {
                json!({ "kty": "OKP", "crv": "Ed25519", "x": encoded(key.public_key()) })
            }
        };
        if let Some(id) = self.id {
            jwk["kid"] = json!(id);
        }
        jwk
    }

    /// The head of its tokens.
    pub(crate) fn head(&self) -> Value {
        let algorithm = match &self.key {
            SigningKey::Secret(_) => "HS256",
            SigningKey::Rsa(_) => "RS256",
            SigningKey::Ec(_) => "ES256",
            SigningKey::Ed(_) => "EdDSA",
        };
        let mut head = json!({ "alg": algorithm, "typ": "JWT" });
        if let Some(id) = self.id {
            head["kid"] = json!(id);
        }
        head
    }

    /// A token for somebody, for ten minutes.
    pub(crate) fn token(&self, subject: &str, role: &str) -> String {
        self.sign(&claims(subject, role))
    }

    /// A token that says this.
    pub(crate) fn sign(&self, claims: &Value) -> String {
        self.sign_as(&self.head(), claims)
    }

    /// A token that says this, under any head.
    pub(crate) fn sign_as(&self, head: &Value, claims: &Value) -> String {
        let message = unsigned(head, claims);
        let bytes = message.as_bytes();
        let rng = SystemRandom::new();
        let signature = match &self.key {
            SigningKey::Secret(secret) => tokens::hs256(secret, &message),
            SigningKey::Rsa(key) => {
                let mut signature = vec![0; key.public().modulus_len()];
                key.sign(&RSA_PKCS1_SHA256, &rng, bytes, &mut signature)
                    .expect("a signature");
                signature
            }
            SigningKey::Ec(key) => key
                .sign(&rng, bytes)
                .expect("a signature")
                .as_ref()
                .to_vec(),
            SigningKey::Ed(key) => key.sign(bytes).as_ref().to_vec(),
        };
        format!("{message}.{}", encoded(signature))
    }
}

/// The public keys of some issuers, as they are published.
pub(crate) fn key_set(issuers: &[&Issuer]) -> String {
    let keys: Vec<_> = issuers.iter().map(|issuer| issuer.jwk()).collect();
    json!({ "keys": keys }).to_string()
}
