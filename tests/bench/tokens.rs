//! Tokens: what the customers of a round prove with who they are, and what ingest believes them by.

use std::{fs, path::Path};

use chrono::{TimeDelta, Utc};
use hotrow_tests::{
    Issuer, Settings,
    issuer::{SECRET, key_set},
    load::customer_id,
};
use serde_json::json;

/// As many customers, of whom each buys several times in a round.
const CUSTOMERS: u64 = 10_000;
/// Longer than any round takes.
const VALID_FOR: TimeDelta = TimeDelta::hours(1);
/// In the folder of a round.
const KEY_FILE: &str = "keys.json";

/// By what tokens are signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Signature {
    /// A secret that both sides have.
    Hs256,
    /// A key pair, of which ingest has the public half.
    Es256,
}

/// The tokens of a round, made before its clock starts.
pub(crate) struct Tokens {
    issuer: Issuer,
    signature: Signature,
    /// Of each customer, one.
    pub(crate) all: Vec<String>,
}

impl Tokens {
    /// Signs a token for each customer of a load.
    pub(crate) fn make(signature: Signature) -> Self {
        let issuer = match signature {
            Signature::Hs256 => Issuer::secret(SECRET.as_bytes()),
            Signature::Es256 => Issuer::ec("bench"),
        };
        let until = (Utc::now() + VALID_FOR).timestamp();
        let token = |customer| {
            issuer.sign(&json!({ "sub": customer_id(customer), "role": "customer", "exp": until }))
        };
        Self {
            all: (0..CUSTOMERS).map(token).collect(),
            issuer,
            signature,
        }
    }

    /// The same settings, of a process that believes these tokens and nobody without one. `folder` is for the keys.
    pub(crate) fn believed_by(&self, ingest: Settings, folder: &Path) -> anyhow::Result<Settings> {
        Ok(match self.signature {
            Signature::Hs256 => ingest.set("AUTH_SECRET", SECRET),
            Signature::Es256 => {
                let file = folder.join(KEY_FILE);
                fs::write(&file, key_set(&[&self.issuer]))?;
                ingest.set("AUTH_JWKS", file.display().to_string())
            }
        })
    }
}
