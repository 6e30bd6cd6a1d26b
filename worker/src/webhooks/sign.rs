//! Signatures, as Standard Webhooks 1.0 says: HMAC-SHA256 of id, time and body.

use hotrow_shared::{
    sealed::{SealError, SealingKeys},
    webhook::webhook_id,
};
use standardwebhooks::{Webhook, WebhookError};
use uuid::Uuid;

/// The secrets of one endpoint. It has no `Debug`.
pub(super) struct Signer(Vec<Webhook>);

/// An endpoint's deliveries cannot be signed.
#[derive(Debug, thiserror::Error)]
pub(super) enum SignError {
    /// Its secret cannot be read.
    #[error(transparent)]
    Sealed(#[from] SealError),
    /// What the library says.
    #[error("a delivery cannot be signed: {0}")]
    Refused(#[from] WebhookError),
}

/// The headers that a receiver verifies.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Signed {
    /// `webhook-id`.
    pub(super) id: String,
    /// `webhook-timestamp`.
    pub(super) timestamp: String,
    /// `webhook-signature`.
    pub(super) signature: String,
}

impl Signer {
    /// Signs by the endpoint's secret and, while a rotation lasts, by the one before.
    pub(super) fn open(
        keys: &SealingKeys,
        endpoint: Uuid,
        secret: &[u8],
        previous: Option<&[u8]>,
    ) -> Result<Self, SignError> {
        let open = |sealed: &[u8]| -> Result<Webhook, SignError> {
            let opened = keys.open(sealed, endpoint.as_bytes())?;
            Ok(Webhook::from_bytes(opened.secret)?)
        };
        let mut secrets = vec![open(secret)?];
        match previous.map(open) {
            Some(Ok(previous)) => secrets.push(previous),
            // A secret that nobody can read any more is what a rotation is for.
            Some(Err(error)) => {
                tracing::debug!(%endpoint, %error, "the secret before does not sign");
            }
            None => {}
        }
        Ok(Self(secrets))
    }

    /// Signs an event that is sent at this time, in seconds since 1970.
    pub(super) fn sign(&self, event_id: &str, now: i64, body: &str) -> Result<Signed, SignError> {
        let id = webhook_id(event_id);
        let mut signatures = Vec::with_capacity(self.0.len());
        for secret in &self.0 {
            signatures.push(secret.sign(&id, now, body.as_bytes())?);
        }
        Ok(Signed {
            id,
            timestamp: now.to_string(),
            signature: signatures.join(" "),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_is_that_of_the_specification_and_the_secret_before_signs_behind_it()
    -> Result<(), SignError> {
        let keys = SealingKeys::new("a secret of a test", None);
        let endpoint = Uuid::nil();
        // What OpenSSL says: printf 'evt_6aa3….1700000000.{}' | openssl dgst -sha256 -hmac first -binary | base64
        let [first, second] = [b"first", b"other"].map(|it| keys.seal(it, endpoint.as_bytes()));
        let (first, second) = (first?, second?);
        let alone = Signer::open(&keys, endpoint, &first, None)?;
        let alone = alone.sign("a.b/1", 1_700_000_000, "{}")?;
        assert_eq!(alone.timestamp, "1700000000");
        assert_eq!(alone.id, "evt_6aa37bc36fa70fa0ec729e5e0a87a946");
        assert_eq!(alone.signature, EXPECTED);
        let both = Signer::open(&keys, endpoint, &second, Some(&first))?;
        let both = both.sign("a.b/1", 1_700_000_000, "{}")?;
        assert!(both.signature.ends_with(&format!(" {EXPECTED}")));
        assert_eq!(both.id, alone.id);
        Ok(())
    }

    const EXPECTED: &str = "v1,fpBXgRTQndZKrOXIuv+kzZWsnWbWUBWdAlOmTBqhIYc=";
}
