//! The names of exchanges, queues and routing keys.

/// Takes envelopes; the routing key is the partition.
pub const ORDERS_EXCHANGE: &str = "hotrow.orders";

/// Takes what cannot be settled.
pub const DEAD_EXCHANGE: &str = "hotrow.dead";

/// Keeps what cannot be settled, for a person.
pub const DEAD_QUEUE: &str = "hotrow.dead";

/// Tells every ingest process what was settled.
pub const SETTLED_EXCHANGE: &str = "hotrow.settled";

/// Takes events; the routing key is their type.
pub const EVENTS_EXCHANGE: &str = "hotrow.events";

/// The stream that keeps every event for a while.
pub const EVENTS_QUEUE: &str = "hotrow.events";

/// How many envelopes a partition's worker may hold that it has not acknowledged.
///
/// Together with the 512 orders of a full envelope of the default size this is 32,768 orders: enough to fill
/// several batches while one is being committed, and 8 MB at most: an envelope has 128 KiB.
pub const PREFETCH_ENVELOPES: u16 = 64;

/// The name of a partition's queue.
#[must_use]
pub fn queue(partition: u16) -> String {
    format!("hotrow.orders.{partition:02}")
}

/// The routing key of a partition.
#[must_use]
pub fn routing_key(partition: u16) -> String {
    format!("{partition:02}")
}
