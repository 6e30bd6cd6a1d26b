//! Every durable exchange and queue, with its arguments and bindings.

use lapin::{
    Channel, ExchangeKind,
    options::QueueBindOptions,
    types::{AMQPValue, FieldTable},
};

use super::names::{
    DEAD_EXCHANGE, DEAD_QUEUE, ORDERS_EXCHANGE, SETTLED_EXCHANGE, queue, routing_key,
};

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
pub(super) const EXCHANGES: [(&str, ExchangeKind); 3] = [
    (DEAD_EXCHANGE, ExchangeKind::Fanout),
    (ORDERS_EXCHANGE, ExchangeKind::Direct),
    (SETTLED_EXCHANGE, ExchangeKind::Fanout),
];

/// A queue and the binding that fills it.
pub(super) struct Bound {
    pub(super) queue: String,
    pub(super) arguments: FieldTable,
    pub(super) exchange: &'static str,
    pub(super) key: String,
}

/// Every durable queue, in the sequence in which they are declared.
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
