//! Who asks for a change, as the audit log names them.

use std::net::IpAddr;

use axum::{extract::FromRequestParts, http::request::Parts};
use hotrow_shared::{change::Actor, request_id::RequestId};

use crate::{
    auth::{Caller, CallsFrom},
    http::problem::Problem,
};

/// Who asks for a change, by which request, and from where. The gate of the route knows the caller.
#[derive(Debug, Clone)]
pub(crate) struct By {
    pub(crate) actor: Actor,
    pub(crate) request_id: Option<RequestId>,
    pub(crate) client: Option<IpAddr>,
}

impl<S: Sync> FromRequestParts<S> for By {
    type Rejection = Problem;

    async fn from_request_parts(head: &mut Parts, state: &S) -> Result<Self, Problem> {
        let caller = Caller::from_request_parts(head, state).await?;
        let client = head.extensions.get::<CallsFrom>();
        Ok(Self {
            actor: caller.actor()?,
            request_id: head.extensions.get::<RequestId>().cloned(),
            client: client.map(|client| client.0),
        })
    }
}
