//! The settings of who may call.

use std::{path::PathBuf, str::FromStr};

use clap::Args;
use hotrow_shared::settings::{Problems, Rotating, Secret, Secrets, given};
use hyper::Uri;

/// The shortest secret of HS256, in bytes. (RFC 7518, section 3.2.)
const SECRET_LENGTH_MIN: usize = 32;
/// The claim of the role unless said otherwise.
const ROLE_CLAIM: &str = "role";

/// What lets administrators in.
pub(crate) const ADMIN_TOKEN: Secret = Secret {
    name: "ADMIN_TOKEN",
    help: "Bearer token of the administrators, at least 16 characters: a second way to be one beside a token with the \
           role `admin`. In a file, SIGHUP replaces it",
};
/// What let them in before.
pub(crate) const ADMIN_TOKEN_PREVIOUS: Secret = Secret {
    name: "ADMIN_TOKEN_PREVIOUS",
    help: "A second token of the administrators, for a rotation. In a file, SIGHUP replaces it",
};
/// What signs tokens where no keys are published.
pub(crate) const AUTH_SECRET: Secret = Secret {
    name: "AUTH_SECRET",
    help: "Signs the tokens of callers (HS256), at least 32 bytes, in place of `AUTH_JWKS`",
};

/// Settings of who may call, as they were given, but for the secrets.
#[derive(Debug, Args)]
#[expect(
    clippy::struct_field_names,
    reason = "flags and variables are named after them"
)]
pub(crate) struct AuthArgs {
    /// Public keys that verify the tokens of callers (a JWK set; RS256, ES256, EdDSA): a path, or an `https://` URL; read
    /// again every 10 minutes. Without keys the shop is open: whoever calls may name any customer
    #[arg(long, env, value_name = "PATH|URL")]
    auth_jwks: Option<String>,

    /// The `iss` that tokens must have
    #[arg(long, env, value_name = "ISSUER")]
    auth_issuer: Option<String>,

    /// The `aud` that tokens must have. Without it, tokens that were made for other programs are taken, too
    #[arg(long, env, value_name = "AUDIENCE")]
    auth_audience: Option<String>,

    /// The claim that says the role: a name, or a path such as `realm_access.roles`
    #[arg(long, env, default_value = ROLE_CLAIM, value_name = "CLAIM")]
    auth_role_claim: String,
}

/// Settings of who may call, checked.
#[derive(Clone)]
pub struct AuthSettings {
    /// The fixed tokens of administrators.
    pub(super) admin_tokens: Option<Rotating<Vec<String>>>,
    /// How tokens are verified; none in an open shop.
    pub(super) tokens: Option<TokenSettings>,
}

/// How tokens are verified.
#[derive(Clone)]
pub(super) struct TokenSettings {
    pub(super) keys: KeySettings,
    pub(super) issuer: Option<String>,
    pub(super) audience: Option<String>,
    pub(super) role_claim: String,
}

/// Where the keys come from.
#[derive(Clone)]
pub(super) enum KeySettings {
    Secret(String),
    Jwks(JwksAt),
}

/// Where the published keys are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum JwksAt {
    File(PathBuf),
    Url(Uri),
}

impl FromStr for JwksAt {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const FORM: &str = "must be a path, or a URL that begins with https:// and holds no password: keys that come by http could be anybody's";
        if !text.contains("://") {
            return Ok(Self::File(text.into()));
        }
        let url: Uri = text.parse().map_err(|_| FORM)?;
        let is_plain = url.authority().is_some_and(|it| !it.as_str().contains('@'));
        if url.scheme_str() == Some("https") && is_plain {
            Ok(Self::Url(url))
        } else {
            Err(FORM)
        }
    }
}

impl AuthArgs {
    /// The checked settings; what is wrong goes to `problems`.
    #[must_use]
    pub(crate) fn check(
        &self,
        secrets: &mut Secrets,
        is_development: bool,
        problems: &mut Problems,
    ) -> AuthSettings {
        let names = [&ADMIN_TOKEN, &ADMIN_TOKEN_PREVIOUS];
        let admin_tokens = secrets.rotating(names, problems, move |tokens, problems| {
            admin_tokens(tokens, is_development, problems)
        });
        AuthSettings {
            admin_tokens,
            tokens: self.tokens(secrets, is_development, problems),
        }
    }

    fn tokens(
        &self,
        secrets: &Secrets,
        is_development: bool,
        problems: &mut Problems,
    ) -> Option<TokenSettings> {
        let jwks = given(self.auth_jwks.as_deref());
        let secret = secrets.text(&AUTH_SECRET, problems).ok()?;
        let secret = given(secret.as_deref());
        let issuer = given(self.auth_issuer.as_deref());
        let audience = given(self.auth_audience.as_deref());
        let role_claim = given(Some(&self.auth_role_claim)).unwrap_or(ROLE_CLAIM);
        let jwks = jwks.map(|text| problems.read::<JwksAt>("AUTH_JWKS", text));
        if let Some(secret) = secret {
            check_secret(secret, is_development, problems);
        }
        let keys = match (jwks, secret) {
            (Some(_), Some(_)) => {
                problems.add("AUTH_SECRET: give either AUTH_SECRET or AUTH_JWKS");
                return None;
            }
            (Some(jwks), None) => KeySettings::Jwks(jwks?),
            (None, Some(secret)) => KeySettings::Secret(secret.to_owned()),
            (None, None) => {
                // Whoever set one of them believes that tokens are checked.
                let others = [
                    ("AUTH_ISSUER", issuer.is_some()),
                    ("AUTH_AUDIENCE", audience.is_some()),
                    ("AUTH_ROLE_CLAIM", role_claim != ROLE_CLAIM),
                ];
                for (name, _) in others.iter().filter(|(_, is_set)| *is_set) {
                    problems.add(format!("{name}: needs AUTH_JWKS or AUTH_SECRET"));
                }
                return None;
            }
        };
        Some(TokenSettings {
            keys,
            issuer: issuer.map(str::to_owned),
            audience: audience.map(str::to_owned),
            role_claim: role_claim.to_owned(),
        })
    }
}

/// The tokens that let administrators in, if there are any.
fn admin_tokens(
    [current, previous]: [Option<&str>; 2],
    is_development: bool,
    problems: &mut Problems,
) -> Option<Vec<String>> {
    let (current, previous) = (given(current), given(previous));
    let named = [
        (ADMIN_TOKEN.name, current),
        (ADMIN_TOKEN_PREVIOUS.name, previous),
    ];
    for (name, token) in named {
        let Some(token) = token else { continue };
        if !token.bytes().all(|b| b.is_ascii_graphic()) {
            problems.add(format!(
                "{name}: must be visible ASCII characters, because it travels in a header"
            ));
        } else if !is_development {
            problems.secret(name, token);
        }
    }
    if previous.is_some() && previous == current {
        problems.add("ADMIN_TOKEN_PREVIOUS: must differ from ADMIN_TOKEN");
    }
    let tokens = [current, previous].into_iter().flatten();
    let tokens: Vec<_> = tokens.map(str::to_owned).collect();
    (!tokens.is_empty()).then_some(tokens)
}

fn check_secret(secret: &str, is_development: bool, problems: &mut Problems) {
    if is_development {
        return;
    }
    if secret.len() >= SECRET_LENGTH_MIN {
        problems.secret("AUTH_SECRET", secret);
    } else {
        problems.add(format!(
            "AUTH_SECRET: must be at least {SECRET_LENGTH_MIN} bytes, for example from `openssl rand -hex 32`"
        ));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_in_a_file_or_come_by_https() {
        let read = |text: &str| text.parse::<JwksAt>();
        for path in ["/etc/hotrow/jwks.json", "jwks.json", "c:keys"] {
            assert_eq!(read(path), Ok(JwksAt::File(path.into())));
        }
        let url = "https://id.example/.well-known/jwks.json?v=1";
        assert_eq!(read(url), Ok(JwksAt::Url(url.parse().expect("a URL"))));
        for wrong in [
            "http://id.example/jwks.json",
            "file:///etc/jwks.json",
            "https://user:secret@id.example/jwks.json",
            "https://",
            "https://two words",
        ] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }
}
