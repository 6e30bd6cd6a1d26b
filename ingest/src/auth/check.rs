//! Finds out who calls, and whether a route is for them.

use std::{net::IpAddr, sync::Arc};

use anyhow::Result;
use axum::http::{HeaderMap, header};
use tokio_util::sync::CancellationToken;

use super::{
    admin::AdminTokens,
    caller::{Caller, Identity},
    jwks::Jwks,
    keys::KeySet,
    metrics::TokenMetrics,
    refused::Refused,
    role_claim::RoleClaim,
    settings::{AuthSettings, KeySettings, TokenSettings},
    token::{Expected, Verifier},
    who::Who,
};
use crate::{http::problem::Problem, limits::Limits};

/// Knows callers by their tokens.
pub(crate) struct Auth {
    admin_tokens: AdminTokens,
    administrator: Arc<Identity>,
    /// None in an open shop.
    tokens: Option<Tokens>,
    limits: Arc<Limits>,
    metrics: TokenMetrics,
}

struct Tokens {
    verifier: Verifier,
    keys: Keys,
}

enum Keys {
    Secret(Arc<KeySet>),
    Jwks(Jwks),
}

impl Keys {
    fn now(&self) -> Arc<KeySet> {
        match self {
            Self::Secret(keys) => Arc::clone(keys),
            Self::Jwks(jwks) => jwks.keys(),
        }
    }

    /// The keys of the last read, if it succeeded: see [`Jwks::newer_than`].
    async fn newer_than(&self, seen: &Arc<KeySet>) -> Option<Arc<KeySet>> {
        match self {
            Self::Secret(keys) => Some(Arc::clone(keys)),
            Self::Jwks(jwks) => jwks.newer_than(seen).await,
        }
    }
}

/// What is known of a request by its headers.
pub(super) enum Judged {
    Decided(Result<Caller, Problem>),
    /// The token names a key that is not known. The keys may have changed: see [`Auth::judge_with_newer_keys`].
    Unsure(Unsure),
}

/// A token that may be right by newer keys.
pub(super) struct Unsure {
    token: Box<str>,
    seen: Arc<KeySet>,
}

/// What stands in the header of a request.
enum Sent<'r> {
    Nothing,
    Token(&'r str),
    /// It is given twice, or cannot be a token.
    Unreadable,
}

impl Auth {
    /// Reads the keys, and says how callers are known.
    ///
    /// # Errors
    /// The file of `AUTH_JWKS` gives no keys.
    pub(crate) async fn start(
        settings: AuthSettings,
        limits: Arc<Limits>,
        shutdown: &CancellationToken,
    ) -> Result<Self> {
        let tokens = if let Some(tokens) = settings.tokens {
            Some(Tokens::start(tokens, shutdown).await?)
        } else {
            tracing::warn!(
                "the shop is open: customer_id is believed, and whoever has an order's id may read it; without AUTH_JWKS or AUTH_SECRET, let only the shop's own programs reach this process"
            );
            None
        };
        Ok(Self {
            admin_tokens: AdminTokens::new(settings.admin_tokens),
            administrator: Arc::new(Identity::administrator()),
            tokens,
            limits,
            metrics: TokenMetrics::new(),
        })
    }

    /// Whether no tokens are checked but those of administrators.
    pub(crate) fn is_open(&self) -> bool {
        self.tokens.is_none()
    }

    /// Finds out whether a route is for the caller. What is remembered costs a hash and a look-up. `client` is asked for
    /// the address of a caller whose token is refused.
    pub(super) fn judge(
        &self,
        who: Who,
        headers: &HeaderMap,
        client: impl FnOnce() -> Option<IpAddr>,
    ) -> Judged {
        let token = match sent(headers) {
            Sent::Token(token) => token,
            Sent::Nothing if who.admits_unknown(self.is_open()) => {
                return Judged::Decided(Ok(Caller::Unknown));
            }
            Sent::Nothing => return Judged::Decided(Err(Problem::Unauthorized)),
            Sent::Unreadable => {
                return Judged::Decided(self.refuse(who, Refused::Malformed, client));
            }
        };
        if self.admin_tokens.hold(token) {
            return Judged::Decided(admit(who, Arc::clone(&self.administrator)));
        }
        let Some(tokens) = &self.tokens else {
            return Judged::Decided(self.refuse(who, Refused::NotTheAdmins, client));
        };
        if let Some(identity) = tokens.verifier.recall(token) {
            return Judged::Decided(admit(who, identity));
        }
        let keys = tokens.keys.now();
        match tokens.verifier.verify(token, &keys) {
            Ok(identity) => Judged::Decided(admit(who, identity)),
            Err(Refused::UnknownKey | Refused::NoKeys) => Judged::Unsure(Unsure {
                token: token.into(),
                seen: keys,
            }),
            Err(why) => Judged::Decided(self.refuse(who, why, client)),
        }
    }

    /// The same once the keys are read again, or at once if they were read a moment ago. Only keys that could be read
    /// tell that a token's is not among them.
    pub(super) async fn judge_with_newer_keys(
        &self,
        who: Who,
        unsure: Unsure,
        client: Option<IpAddr>,
    ) -> Result<Caller, Problem> {
        let Unsure { token, seen } = unsure;
        let verified = match &self.tokens {
            None => Err(Refused::NotTheAdmins),
            Some(Tokens { verifier, keys }) => match keys.newer_than(&seen).await {
                Some(keys) => verifier.verify(&token, &keys),
                None => Err(Refused::NoKeys),
            },
        };
        match verified {
            Ok(identity) => admit(who, identity),
            Err(why) => self.refuse(who, why, || client),
        }
    }

    /// What a token that is not right comes to. An open shop checks it only where one is needed.
    fn refuse(
        &self,
        who: Who,
        why: Refused,
        client: impl FnOnce() -> Option<IpAddr>,
    ) -> Result<Caller, Problem> {
        if self.is_open() && who.admits_unknown(true) {
            return Ok(Caller::Unknown);
        }
        self.metrics.refused(why);
        if why == Refused::NoKeys {
            return Err(Problem::Unavailable("the source of AUTH_JWKS"));
        }
        let counted = client().map_or(Ok(()), |client| self.limits.count_refused_token(client));
        Err(match counted {
            Err(exceeded) => Problem::RateLimited(exceeded),
            Ok(()) if self.is_open() => Problem::Unauthorized,
            Ok(()) => Problem::TokenRefused(why.to_string()),
        })
    }
}

impl Tokens {
    async fn start(settings: TokenSettings, shutdown: &CancellationToken) -> Result<Self> {
        if settings.audience.is_none() {
            tracing::warn!(
                "AUTH_AUDIENCE is not set: tokens that the issuer made for other programs are taken, too"
            );
        }
        let keys = match settings.keys {
            KeySettings::Secret(secret) => Keys::Secret(Arc::new(KeySet::of_secret(&secret))),
            KeySettings::Jwks(at) => Keys::Jwks(Jwks::start(at, shutdown).await?),
        };
        let verifier = Verifier::new(Expected {
            issuer: settings.issuer,
            audience: settings.audience,
            role_claim: RoleClaim::new(settings.role_claim),
        });
        Ok(Self { verifier, keys })
    }
}

fn admit(who: Who, identity: Arc<Identity>) -> Result<Caller, Problem> {
    if who.admits(identity.role) {
        Ok(Caller::Known(identity))
    } else {
        Err(Problem::Forbidden(
            "the role of the token does not allow this",
        ))
    }
}

/// The bearer token of a request. (RFC 6750, section 2.1.) Other schemes are nobody's token.
fn sent(headers: &HeaderMap) -> Sent<'_> {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let Some(value) = values.next() else {
        return Sent::Nothing;
    };
    if values.next().is_some() {
        return Sent::Unreadable;
    }
    let Ok(text) = value.to_str() else {
        return Sent::Unreadable;
    };
    let (scheme, token) = text.split_once(' ').unwrap_or((text, ""));
    if scheme.eq_ignore_ascii_case("bearer") {
        Sent::Token(token.trim())
    } else {
        Sent::Nothing
    }
}
