//! Who calls, as far as the request proves it.

use std::sync::Arc;

use hotrow_shared::{
    change::{Actor, Role},
    order::CustomerId,
};

use crate::http::problem::Problem;

/// The name of whoever calls with the fixed token of administrators.
const ADMIN_TOKEN_NAME: &str = "admin-token";

/// The caller of a request. The gate of its route puts it into the request's extensions.
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
        Self {
            role: Role::Admin,
            subject: CustomerId::try_from(ADMIN_TOKEN_NAME).expect("the name fits"),
        }
    }
}

impl Caller {
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
