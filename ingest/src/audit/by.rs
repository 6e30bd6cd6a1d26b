//! Who asks for a change, as the audit log names them.

use std::{convert::Infallible, net::IpAddr};

use axum::{extract::FromRequestParts, http::request::Parts};
use hotrow_shared::{change::Actor, request_id::RequestId};

use crate::{
    auth,
    http::peer::{Peer, TrustedProxies},
};

/// Who asks for a change, by which request, and from where.
#[derive(Debug, Clone)]
pub(crate) struct By {
    pub(crate) actor: Actor,
    pub(crate) request_id: Option<RequestId>,
    pub(crate) client: Option<IpAddr>,
}

impl<S: Sync> FromRequestParts<S> for By {
    type Rejection = Infallible;

    async fn from_request_parts(head: &mut Parts, _: &S) -> Result<Self, Infallible> {
        let peer = head.extensions.get::<Peer>().copied();
        let client = peer.map(|peer| match head.extensions.get::<TrustedProxies>() {
            Some(proxies) => proxies.client(peer, &head.headers),
            None => peer.0,
        });
        Ok(Self {
            // Nobody else gets in to a route of which there is a record.
            actor: auth::administrator(),
            request_id: head.extensions.get::<RequestId>().cloned(),
            client,
        })
    }
}
