//! Who calls, as far as the request proves it.

use std::sync::Arc;

use axum::{extract::FromRequestParts, http::request::Parts};
use hotrow_shared::{
    change::{Actor, Role},
    order::CustomerId,
};

use crate::http::problem::Problem;

/// The name of whoever calls with the fixed token of administrators.
pub(super) const ADMIN_TOKEN_NAME: &str = "admin-token";

/// The caller of a request. The gate of its route puts it into the request, and handlers take it as an argument.
#[derive(Debug, Clone)]
pub(crate) enum Caller {
    /// Nobody has to say who calls here, and the caller did not.
    Unknown,
    /// The holder of a token.
    Known(Arc<Identity>),
}

/// What a token proves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) role: Role,
    /// The `sub` of the token. A customer buys under this id.
    pub(crate) subject: CustomerId,
}

impl Identity {
    /// Whoever has the fixed token of administrators.
    #[must_use]
    pub(super) fn administrator() -> Self {
        Self::named(Role::Admin, ADMIN_TOKEN_NAME)
    }

    fn named(role: Role, name: &'static str) -> Self {
        Self {
            role,
            subject: CustomerId::try_from(name).expect("the name fits"),
        }
    }
}

impl Caller {
    /// Somebody who proves by other means than a token to be one of the shop's programs.
    #[must_use]
    pub(crate) fn program(name: &'static str) -> Self {
        Self::Known(Arc::new(Identity::named(Role::Shop, name)))
    }

    /// The customer who calls, if it is one: a customer sees and changes only its own orders.
    #[must_use]
    pub(crate) fn customer(&self) -> Option<&CustomerId> {
        match self {
            Self::Known(identity) if identity.role == Role::Customer => Some(&identity.subject),
            Self::Known(_) | Self::Unknown => None,
        }
    }

    /// Who is written down for what the caller does.
    ///
    /// # Errors
    /// Nobody knows who calls (401). The gates let no such caller through to a route that changes something settled.
    pub(crate) fn actor(&self) -> Result<Actor, Problem> {
        match self {
            Self::Unknown => Err(Problem::Unauthorized),
            Self::Known(identity) => Ok(Actor {
                role: identity.role,
                name: Some(identity.subject.as_str().to_owned()),
            }),
        }
    }
}

impl<S: Sync> FromRequestParts<S> for Caller {
    type Rejection = Problem;

    /// Behind no gate, nobody is let in.
    async fn from_request_parts(head: &mut Parts, _: &S) -> Result<Self, Problem> {
        let caller = head.extensions.get::<Self>();
        caller.cloned().ok_or(Problem::Unauthorized)
    }
}
