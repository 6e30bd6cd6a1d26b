//! Tokens as an issuer writes them, by hand: nothing here is shared with the product, which checks them.

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use ring::hmac;
use serde_json::{Value, json};

/// A token for somebody, for ten minutes, signed by HS256 (RFC 7515, RFC 7519).
#[must_use]
pub fn by_secret(secret: &str, subject: &str, role: &str) -> String {
    let head = json!({ "alg": "HS256", "typ": "JWT" });
    let message = unsigned(&head, &claims(subject, role));
    let signature = hs256(secret.as_bytes(), &message);
    format!("{message}.{}", encoded(signature))
}

/// The signature of HS256.
#[must_use]
pub fn hs256(secret: &[u8], message: &str) -> Vec<u8> {
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret);
    hmac::sign(&key, message.as_bytes()).as_ref().to_vec()
}

/// What a token for somebody says.
#[must_use]
pub fn claims(subject: &str, role: &str) -> Value {
    json!({ "sub": subject, "role": role, "exp": now() + 600 })
}

/// Head and claims of a token, encoded, without a signature.
#[must_use]
pub fn unsigned(head: &Value, claims: &Value) -> String {
    format!(
        "{}.{}",
        encoded(head.to_string()),
        encoded(claims.to_string())
    )
}

/// The time of tokens: seconds since 1970.
#[must_use]
pub fn now() -> i64 {
    chrono::Utc::now().timestamp()
}

/// The base64 of tokens.
#[must_use]
pub fn encoded(bytes: impl AsRef<[u8]>) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(bytes)
}
