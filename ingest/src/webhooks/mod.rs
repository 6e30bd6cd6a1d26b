//! Endpoints of webhooks: administrators register them, and look at what became of deliveries. `hotrow-worker webhooks`
//! sends.

mod bodies;
pub(crate) mod handler;
mod reach;
mod store;

use hotrow_shared::{sealed::SealingKeys, settings::Common, webhook::AllowedNetworks};
use sqlx::PgPool;

use crate::auth::AdminToken;

/// Registers and shows endpoints.
pub(crate) struct WebhooksDesk {
    pool: PgPool,
    admin_token: AdminToken,
    keys: SealingKeys,
    networks: AllowedNetworks,
    /// The `source` of events.
    source: String,
}

impl WebhooksDesk {
    /// A desk that lets administrators with this token in. None without events: then there is nothing to send.
    #[must_use]
    pub(crate) fn new(pool: PgPool, admin_token: AdminToken, common: &Common) -> Option<Self> {
        common.plan.events?;
        Some(Self {
            pool,
            admin_token,
            keys: common.sealing.clone(),
            networks: common.webhook_networks.clone(),
            source: common.events_source.clone(),
        })
    }
}
