//! Every durable exchange and queue, with its arguments and bindings.

use std::time::Duration;

use lapin::{
    Channel, ExchangeKind,
    options::QueueBindOptions,
    types::{AMQPValue, FieldTable},
};

use super::names::{
    DEAD_EXCHANGE, DEAD_QUEUE, EVENTS_EXCHANGE, EVENTS_QUEUE, ORDERS_EXCHANGE, SETTLED_EXCHANGE,
    queue, routing_key,
};

/// What an installation has at the broker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Plan {
    /// Number of intake queues.
    pub partitions: u16,
    /// What the stream of events keeps; none without events.
    pub events: Option<StreamLimits>,
}

/// What a stream keeps. Whole segments go when either limit is passed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StreamLimits {
    /// For how long.
    pub retention: Duration,
    /// How much.
    pub bytes_max: u64,
}

/// How large the segments of a stream are, unless it keeps so little that a few of them are all of it.
const SEGMENT_BYTES: u64 = 500_000_000;
/// The least number of segments, so that a full stream drops a tenth of itself at a time.
const SEGMENTS_MIN: u64 = 10;

impl StreamLimits {
    /// The arguments of the stream's queue.
    pub(super) fn arguments(self) -> FieldTable {
        let number = |count: u64| AMQPValue::LongLongInt(i64::try_from(count).unwrap_or(i64::MAX));
        let segment_bytes = (self.bytes_max / SEGMENTS_MIN).min(SEGMENT_BYTES);
        let age = format!("{}s", self.retention.as_secs());
        let mut arguments = FieldTable::default();
        arguments.insert("x-queue-type".into(), text("stream"));
        arguments.insert("x-max-age".into(), text(&age));
        arguments.insert("x-max-length-bytes".into(), number(self.bytes_max));
        arguments.insert(
            "x-stream-max-segment-size-bytes".into(),
            number(segment_bytes),
        );
        arguments
    }
}

/// How often an envelope may come back before the broker dead-letters it.
///
/// Every restart of a worker brings back what it held, so the limit is far above what a day of
/// deployments needs; it is there for an envelope that kills each worker that touches it. Having
/// a limit at all also makes a quorum queue put a returned message back at its front, which keeps
/// the order of arrival.
pub(super) const DELIVERY_LIMIT: i32 = 100;

/// `hotrow-worker dead-letters list` looks at messages and puts them back, and from RabbitMQ 4.0
/// on a quorum queue without a limit of its own would drop them after 20 looks.
pub(super) const DEAD_DELIVERY_LIMIT: i32 = 1_000_000_000;

/// Dead-lettering is at least once, which a quorum queue offers together with `reject-publish`.
pub(super) fn intake_arguments() -> FieldTable {
    let mut arguments = quorum(DELIVERY_LIMIT);
    arguments.insert("x-single-active-consumer".into(), AMQPValue::Boolean(true));
    arguments.insert("x-dead-letter-exchange".into(), text(DEAD_EXCHANGE));
    arguments.insert("x-dead-letter-strategy".into(), text("at-least-once"));
    arguments.insert("x-overflow".into(), text("reject-publish"));
    arguments
}

pub(super) fn dead_arguments() -> FieldTable {
    quorum(DEAD_DELIVERY_LIMIT)
}

pub(super) fn quorum(delivery_limit: i32) -> FieldTable {
    let mut arguments = FieldTable::default();
    arguments.insert("x-queue-type".into(), text("quorum"));
    arguments.insert(
        "x-delivery-limit".into(),
        AMQPValue::LongInt(delivery_limit),
    );
    arguments
}

pub(super) fn text(value: &str) -> AMQPValue {
    AMQPValue::LongString(value.into())
}

/// The exchanges that are declared, dead letters first, because the intake queues point at them.
pub(super) fn exchanges(plan: &Plan) -> impl Iterator<Item = (&'static str, ExchangeKind)> {
    let always = [
        (DEAD_EXCHANGE, ExchangeKind::Fanout),
        (ORDERS_EXCHANGE, ExchangeKind::Direct),
        (SETTLED_EXCHANGE, ExchangeKind::Fanout),
    ];
    let events = plan.events.map(|_| (EVENTS_EXCHANGE, ExchangeKind::Topic));
    always.into_iter().chain(events)
}

/// A queue and the binding that fills it.
pub(super) struct Bound {
    pub(super) queue: String,
    pub(super) arguments: FieldTable,
    pub(super) exchange: &'static str,
    pub(super) key: String,
}

/// Every quorum queue, in the sequence in which they are declared.
pub(super) fn queues(partitions: u16) -> impl Iterator<Item = Bound> {
    let dead = Bound {
        queue: DEAD_QUEUE.to_owned(),
        arguments: dead_arguments(),
        exchange: DEAD_EXCHANGE,
        key: String::new(),
    };
    let intake = (0..partitions).rev().map(|partition| Bound {
        queue: queue(partition),
        arguments: intake_arguments(),
        exchange: ORDERS_EXCHANGE,
        key: routing_key(partition),
    });
    std::iter::once(dead).chain(intake)
}

pub(super) async fn bind(
    channel: &Channel,
    queue: &str,
    exchange: &str,
    key: &str,
) -> Result<(), lapin::Error> {
    channel
        .queue_bind(
            queue.into(),
            exchange.into(),
            key.into(),
            QueueBindOptions::default(),
            FieldTable::default(),
        )
        .await
}

/// Binds the stream to all events. Again and again does no harm.
pub(super) async fn bind_stream(channel: &Channel) -> Result<(), lapin::Error> {
    bind(channel, EVENTS_QUEUE, EVENTS_EXCHANGE, "#").await
}
