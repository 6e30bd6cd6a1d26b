//! Who calls: the bearer token of administrators.

use axum::http::{HeaderMap, header};
use hotrow_shared::{
    change::{Actor, Role},
    settings::Rotating,
};
use subtle::ConstantTimeEq;

use crate::http::problem::Problem;

/// The token that lets administrators in, if there is one.
#[derive(Clone)]
pub(crate) struct AdminToken(Option<Rotating<String>>);

impl AdminToken {
    /// Lets in callers with this token. Without one, nobody gets in.
    #[must_use]
    pub(crate) fn new(token: Option<Rotating<String>>) -> Self {
        Self(token)
    }

    /// Lets administrators in. The comparison takes as long for a wrong token as for the right one.
    ///
    /// # Errors
    /// The request does not carry the token, or there is none (401).
    pub(crate) fn admit(&self, headers: &HeaderMap) -> Result<(), Problem> {
        let token = self.0.as_ref().ok_or(Problem::Unauthorized)?.current();
        let given = headers
            .get(header::AUTHORIZATION)
            .and_then(|value| value.to_str().ok())
            .and_then(|value| value.split_once(' '));
        let given = given
            .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
            .map(|(_, given)| given.trim());
        let fits = given.is_some_and(|given| bool::from(given.as_bytes().ct_eq(token.as_bytes())));
        if fits {
            Ok(())
        } else {
            Err(Problem::Unauthorized)
        }
    }
}

/// Whoever was let in by the token.
#[must_use]
pub(crate) fn administrator() -> Actor {
    Actor {
        role: Role::Admin,
        name: Some("admin-token".to_owned()),
    }
}
