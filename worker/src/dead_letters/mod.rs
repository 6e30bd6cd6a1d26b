//! Dead letters: what cannot be settled, kept in the broker with its reason until a person decides.
//!
//! A dead letter of an order is an envelope with that one order, so that replaying it is publishing
//! it again. The broker adds letters of its own: envelopes that came back too often.

pub mod command;

use std::sync::Arc;

use backon::Retryable;
use hotrow_shared::{
    broker::Broker,
    envelope::{Order, Unreadable},
    publish::{self, PublishError},
    retry,
    topology::DEAD_EXCHANGE,
};
use lapin::{
    Channel,
    types::{AMQPValue, FieldTable},
};
use tokio::sync::Mutex;

use crate::{metrics::WorkerMetrics, settle::store::StoreError};

/// Header: why the letter is dead.
pub const REASON_HEADER: &str = "x-hotrow-reason";
/// Header: the same in a sentence, with what the database or the parser said.
pub const DETAIL_HEADER: &str = "x-hotrow-detail";
/// Header: the partition that it came from and would be replayed to.
pub const PARTITION_HEADER: &str = "x-hotrow-partition";
/// Header: the order, if the letter is one.
pub const ORDER_HEADER: &str = "x-hotrow-order-id";

/// Why something could not be settled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeadReason {
    /// It is not an envelope, or not an order.
    Malformed,
    /// The database does not take it.
    Refused,
}

impl DeadReason {
    /// Every reason that a worker gives.
    pub const ALL: [Self; 2] = [Self::Malformed, Self::Refused];

    /// The value of the header and the label.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::Refused => "refused",
        }
    }
}

/// Something that cannot be settled.
#[derive(Debug)]
pub struct DeadLetter {
    partition: u16,
    reason: DeadReason,
    detail: String,
    order_id: Option<String>,
    body: Vec<u8>,
}

impl DeadLetter {
    /// A piece of an envelope that is no order, or a message that is no envelope.
    #[must_use]
    pub fn unreadable(partition: u16, piece: &Unreadable) -> Self {
        Self {
            partition,
            reason: DeadReason::Malformed,
            detail: piece.detail.clone(),
            order_id: None,
            body: piece.body.clone(),
        }
    }

    /// An order that the database does not take.
    #[must_use]
    pub fn refused(partition: u16, order: &Order, refusal: &StoreError) -> Self {
        Self {
            partition,
            reason: DeadReason::Refused,
            detail: refusal.to_string(),
            order_id: Some(order.id.to_string()),
            body: order.seal_alone(),
        }
    }

    fn headers(&self) -> FieldTable {
        let mut headers = FieldTable::default();
        let text = |value: &str| AMQPValue::LongString(value.into());
        headers.insert(REASON_HEADER.into(), text(self.reason.as_str()));
        headers.insert(DETAIL_HEADER.into(), text(&self.detail));
        if let Some(id) = &self.order_id {
            headers.insert(ORDER_HEADER.into(), text(id));
        }
        headers.insert(
            PARTITION_HEADER.into(),
            AMQPValue::LongInt(i32::from(self.partition)),
        );
        headers
    }
}

/// Sends dead letters, one at a time.
pub struct DeadLetters {
    broker: Arc<Broker>,
    channel: Mutex<Option<Channel>>,
    metrics: Arc<WorkerMetrics>,
}

impl DeadLetters {
    /// Dead letters go out by a channel of this connection.
    #[must_use]
    pub fn new(broker: Arc<Broker>, metrics: Arc<WorkerMetrics>) -> Self {
        Self {
            broker,
            channel: Mutex::default(),
            metrics,
        }
    }

    /// Publishes a dead letter and returns when the broker has it safely, however long that takes.
    pub async fn bury(&self, letter: &DeadLetter) {
        let attempt = || self.publish(letter);
        let buried = attempt.retry(retry::for_ever()).notify(|error, _| {
            tracing::warn!(%error, "a dead letter is published again");
        });
        if buried.await.is_ok() {
            self.metrics.dead_letter(letter.reason);
            tracing::error!(
                partition = letter.partition,
                reason = letter.reason.as_str(),
                order_id = letter.order_id,
                detail = letter.detail,
                "dead letter"
            );
        }
    }

    async fn publish(&self, letter: &DeadLetter) -> Result<(), PublishError> {
        let mut slot = self.channel.lock().await;
        let channel = match slot.take() {
            Some(channel) if channel.status().connected() => channel,
            _ => publish::confirming_channel(&self.broker)
                .await
                .map_err(PublishError::NotSent)?,
        };
        publish::confirmed(&channel, DEAD_EXCHANGE, "", &letter.body, letter.headers()).await?;
        *slot = Some(channel);
        Ok(())
    }
}
