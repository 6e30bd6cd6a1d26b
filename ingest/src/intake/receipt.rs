//! The answer to a purchase that is accepted.

use std::time::Duration;

use hotrow_shared::{described_order::Queued, id::OrderId};
use serde::Serialize;
use utoipa::ToSchema;

use crate::http::whole_millis;

/// The answer to a purchase that is accepted.
#[derive(Debug, Serialize, ToSchema)]
#[schema(examples(json!({
    "order_id": "01a1fe23-4721-808d-a41e-5192f1f4fdd2", "status": "queued",
    "status_url": "/v1/orders/01a1fe23-4721-808d-a41e-5192f1f4fdd2", "estimated_wait_ms": 40,
})))]
pub(crate) struct Receipt {
    /// The id of the order, which is its name from now on.
    order_id: OrderId,
    /// It is accepted, and not settled yet.
    status: Queued,
    /// Where the order is found.
    status_url: String,
    /// How long it will wait, in milliseconds, as far as can be told.
    #[schema(minimum = 0)]
    estimated_wait_ms: u64,
}

impl Receipt {
    /// The receipt of an order that waits for about so long.
    pub(super) fn new(order_id: OrderId, status_url: &str, wait: Duration) -> Self {
        Self {
            order_id,
            status: Queued::Queued,
            status_url: status_url.to_owned(),
            estimated_wait_ms: whole_millis(wait),
        }
    }
}
