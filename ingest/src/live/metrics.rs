//! What the live streams count.

use hotrow_shared::metrics::{LIVE_STATES, LIVE_STREAMS};
use metrics::{Counter, Gauge};

/// The metrics of the live streams.
pub(super) struct LiveMetrics {
    pub(super) streams: Gauge,
    pub(super) stock: Counter,
    pub(super) orders: Counter,
}

impl LiveMetrics {
    pub(super) fn new() -> Self {
        Self {
            streams: LIVE_STREAMS.gauge(&[]),
            stock: LIVE_STATES.counter(&[("of", "stock")]),
            orders: LIVE_STATES.counter(&[("of", "order")]),
        }
    }
}
