//! What stands around every route that reads: the count of its client.

use std::sync::Arc;

use axum::{
    extract::{Request, State},
    middleware::Next,
    response::Response,
};

use super::Limits;
use crate::http::{
    peer::{Peer, TrustedProxies},
    problem::Problem,
};

/// Counts those who read.
#[derive(Clone)]
pub(crate) struct Reads {
    pub(crate) limits: Arc<Limits>,
    /// Proxies whose `X-Forwarded-For` is believed.
    pub(crate) proxies: TrustedProxies,
}

/// Lets a read pass, which counts once however long it waits.
///
/// # Errors
/// The client has read too much lately.
pub(crate) async fn count(
    State(reads): State<Arc<Reads>>,
    request: Request,
    next: Next,
) -> Result<Response, Problem> {
    if let Some(peer) = request.extensions().get::<Peer>() {
        let client = reads.proxies.client(*peer, request.headers());
        let counted = reads.limits.count_read(client);
        counted.map_err(Problem::RateLimited)?;
    }
    Ok(next.run(request).await)
}
