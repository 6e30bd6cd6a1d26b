//! Endpoints of webhooks: administrators register them, and look at what became of deliveries. `hotrow-worker webhooks`
//! sends.

mod bodies;
pub(crate) mod handler;
mod reach;
mod requests;
mod store;

use hotrow_shared::{sealed::SealingKeys, settings::Common, webhook::AllowedNetworks};
use sqlx::PgPool;

/// Registers and shows endpoints.
pub(crate) struct WebhooksDesk {
    pool: PgPool,
    keys: SealingKeys,
    networks: AllowedNetworks,
    /// The `source` of events.
    source: String,
}

impl WebhooksDesk {
    /// A desk of administrators. None without events: then there is nothing to send.
    #[must_use]
    pub(crate) fn new(pool: PgPool, common: &Common) -> Option<Self> {
        common.plan.events?;
        Some(Self {
            pool,
            keys: common.sealing.clone(),
            networks: common.webhook_networks.clone(),
            source: common.events_source.clone(),
        })
    }
}
