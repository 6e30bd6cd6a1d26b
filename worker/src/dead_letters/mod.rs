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
    id::OrderId,
    metrics as list,
    outcome::{Reason, Status},
    publish::{self, PublishError},
    retry,
    topology::DEAD_EXCHANGE,
};
use lapin::{
    Channel,
    types::{AMQPValue, FieldTable},
};
use metrics::Counter;
use sqlx::PgPool;
use tokio::sync::Mutex;

use crate::{
    document::{accepted_at, unpriced},
    metrics::Labelled,
    store::{StoreError, orders},
};

/// Header: why the letter is dead.
pub(crate) const REASON_HEADER: &str = "x-hotrow-reason";
/// Header: the same in a sentence, with what the database or the parser said.
pub(crate) const DETAIL_HEADER: &str = "x-hotrow-detail";
/// Header: the partition that it came from and would be replayed to.
pub(crate) const PARTITION_HEADER: &str = "x-hotrow-partition";
/// Header: the order, if the letter is one.
pub(crate) const ORDER_HEADER: &str = "x-hotrow-order-id";

/// Why something could not be settled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum DeadReason {
    /// It is not an envelope, or not an order.
    Malformed,
    /// The database does not take it.
    Refused,
}

impl DeadReason {
    const ALL: [Self; 2] = [Self::Malformed, Self::Refused];

    const fn as_str(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::Refused => "refused",
        }
    }
}

/// Something that cannot be settled.
#[derive(Debug)]
pub(crate) struct DeadLetter {
    partition: u16,
    reason: DeadReason,
    detail: String,
    order_id: Option<String>,
    body: Vec<u8>,
}

impl DeadLetter {
    /// A piece of an envelope that is no order, or a message that is no envelope.
    pub(crate) fn unreadable(partition: u16, piece: &Unreadable) -> Self {
        Self {
            partition,
            reason: DeadReason::Malformed,
            detail: piece.detail.clone(),
            order_id: None,
            body: piece.body.clone(),
        }
    }

    /// An order that the database does not take, with what it said.
    pub(crate) fn refused(partition: u16, order: &Order, detail: &str) -> Self {
        Self {
            partition,
            reason: DeadReason::Refused,
            detail: detail.to_owned(),
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

/// Sends dead letters, one at a time, and marks their orders as failed.
pub(crate) struct DeadLetters {
    broker: Arc<Broker>,
    pool: PgPool,
    channel: Mutex<Option<Channel>>,
    buried: Labelled<DeadReason, Counter>,
    failed: Counter,
}

impl DeadLetters {
    /// Dead letters go out by a channel of this connection. Creates every series.
    pub(crate) fn new(broker: Arc<Broker>, pool: PgPool) -> Self {
        let failed = [
            ("status", Status::Failed.as_str()),
            ("reason", Reason::DeadLettered.as_str()),
        ];
        Self {
            broker,
            pool,
            channel: Mutex::default(),
            buried: Labelled::new(DeadReason::ALL, |reason| {
                list::DEAD_LETTERS.counter(&[("reason", reason.as_str())])
            }),
            failed: list::ORDERS_SETTLED.counter(&failed),
        }
    }

    /// Sends an order that the database refuses to the dead letters and marks it as failed. Returns its
    /// id, if that was possible.
    ///
    /// In this sequence: a crash in between leaves a second dead letter, which changes nothing when it
    /// is replayed, instead of a failed order that nobody can replay.
    pub(crate) async fn bury_order(
        &self,
        partition: u16,
        order: &Order,
        detail: &str,
    ) -> Option<OrderId> {
        self.bury(&DeadLetter::refused(partition, order, detail))
            .await;
        let mark = || mark_failed(&self.pool, order);
        let marked = mark
            .retry(retry::for_ever())
            .when(|error| error.retry_cause().is_some())
            .await;
        if let Err(error) = marked {
            tracing::error!(order_id = %order.id, %error, "a dead letter cannot be marked as failed: its order reads queued");
            return None;
        }
        self.failed.increment(1);
        Some(order.id)
    }

    /// Publishes a dead letter and returns when the broker has it safely, however long that takes.
    pub(crate) async fn bury(&self, letter: &DeadLetter) {
        let attempt = || self.publish(letter);
        let buried = attempt.retry(retry::for_ever()).notify(|error, _| {
            tracing::warn!(%error, "a dead letter is published again");
        });
        if buried.await.is_ok() {
            if let Some(buried) = self.buried.of(letter.reason) {
                buried.increment(1);
            }
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

/// Marks an order as failed, if need be without the parts that the database may have refused.
async fn mark_failed(pool: &PgPool, order: &Order) -> Result<(), StoreError> {
    let (id, accepted_at) = (order.id.uuid(), accepted_at(order));
    let customer = order.customer_id.as_str();
    match orders::write_failed(pool, id, customer, &unpriced(&order.items), accepted_at).await {
        Err(StoreError::Refused(_)) => orders::write_failed(pool, id, "", "[]", accepted_at).await,
        marked => marked,
    }
}
