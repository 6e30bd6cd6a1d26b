//! Dead letters: what cannot be settled, kept in the broker with its reason until a person decides.
//!
//! A dead letter of an order is an envelope with that one order, so that replaying it is publishing
//! it again. It is sealed if its own envelope was, and not otherwise, so that it is believed no more than
//! that. The broker adds letters of its own: envelopes that came back too often.

pub mod command;
mod failed;
mod letter;

use std::sync::Arc;

use backon::Retryable;
use hotrow_shared::{
    broker::Broker,
    envelope::Command,
    id::OrderId,
    metrics as list,
    outcome::{Reason, Status},
    publish::{self, PublishError},
    request_id::RequestId,
    retry,
    seal::{Seal, SealKeys},
    topology::DEAD_EXCHANGE,
};
use lapin::types::{AMQPValue, FieldTable};
use metrics::Counter;
use sqlx::PgPool;

use crate::{
    metrics::Labelled,
    seals::{Fault, Faulty},
    settle::Refused,
    store::RetryCause,
};

/// Header: why the letter is dead.
pub(crate) const REASON_HEADER: &str = "x-hotrow-reason";
/// Header: the same in a sentence, with what the database or the parser said.
pub(crate) const DETAIL_HEADER: &str = "x-hotrow-detail";
/// Header: the partition that it came from and would be replayed to.
pub(crate) const PARTITION_HEADER: &str = "x-hotrow-partition";
/// Header: the order, if the letter is one.
pub(crate) const ORDER_HEADER: &str = "x-hotrow-order-id";

/// Header: the HTTP request that brought the order.
pub(crate) const REQUEST_HEADER: &str = "x-hotrow-request-id";

/// The longest detail, in bytes. All headers of a message travel in one frame, and a broker closes the
/// connection over one that is larger than agreed (16 KiB).
const DETAIL_BYTES_MAX: usize = 1024;

/// Why something could not be settled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum DeadReason {
    /// It is not an envelope, or not an order.
    Malformed,
    /// The database does not take it.
    Refused,
    /// It has no seal, and `REQUIRE_SEALED` is set.
    Unsealed,
    /// Its seal is wrong.
    WrongSeal,
}

impl DeadReason {
    pub(crate) const ALL: [Self; 4] = [
        Self::Malformed,
        Self::Refused,
        Self::Unsealed,
        Self::WrongSeal,
    ];

    /// Those of letters that are not believed.
    const DOUBTED: [Self; 2] = [Self::Unsealed, Self::WrongSeal];

    pub(crate) const fn of(fault: Fault) -> Self {
        match fault {
            Fault::Malformed => Self::Malformed,
            Fault::Unsealed => Self::Unsealed,
            Fault::WrongSeal => Self::WrongSeal,
        }
    }

    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::Refused => "refused",
            Self::Unsealed => "unsealed",
            Self::WrongSeal => "wrong_seal",
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
    request_id: Option<RequestId>,
    body: Vec<u8>,
    /// That of the envelope that it comes from.
    seal: Seal,
}

impl DeadLetter {
    /// A piece of an envelope that is no order, or a message that is no envelope or not believed.
    pub(crate) fn faulty(partition: u16, piece: &Faulty) -> Self {
        Self {
            partition,
            reason: DeadReason::of(piece.fault),
            detail: cut(&piece.detail).to_owned(),
            order_id: None,
            request_id: None,
            body: piece.body.clone(),
            seal: piece.seal,
        }
    }

    /// A command that the database does not take, with what it said.
    fn refused(partition: u16, refused: &Refused) -> Self {
        let command = &refused.command;
        Self {
            partition,
            reason: DeadReason::Refused,
            detail: cut(&refused.detail).to_owned(),
            order_id: Some(command.order_id().to_string()),
            request_id: command.request_id().cloned(),
            body: command.alone(),
            seal: refused.seal,
        }
    }

    fn headers(&self, seals: &SealKeys) -> FieldTable {
        let mut headers = FieldTable::default();
        let text = |value: &str| AMQPValue::LongString(value.into());
        headers.insert(REASON_HEADER.into(), text(self.reason.as_str()));
        headers.insert(DETAIL_HEADER.into(), text(&self.detail));
        if let Some(id) = &self.order_id {
            headers.insert(ORDER_HEADER.into(), text(id));
        }
        if let Some(id) = &self.request_id {
            headers.insert(REQUEST_HEADER.into(), text(id.as_str()));
        }
        headers.insert(
            PARTITION_HEADER.into(),
            AMQPValue::LongInt(i32::from(self.partition)),
        );
        seals.pass_on(self.seal, &self.body, &mut headers);
        headers
    }
}

/// Sends dead letters and marks their orders as failed.
pub(crate) struct DeadLetters {
    broker: Arc<Broker>,
    pool: PgPool,
    seals: SealKeys,
    /// The name of the installation in its events, if there are any.
    source: Option<String>,
    buried: Labelled<DeadReason, Counter>,
    failed: Counter,
}

impl DeadLetters {
    /// Dead letters go out by a channel of this connection. Creates every series.
    pub(crate) fn new(
        broker: Arc<Broker>,
        pool: PgPool,
        seals: SealKeys,
        source: Option<String>,
    ) -> Self {
        let failed = [
            ("status", Status::Failed.as_str()),
            ("reason", Reason::DeadLettered.as_str()),
        ];
        Self {
            broker,
            pool,
            seals,
            source,
            buried: Labelled::new(DeadReason::ALL, |reason| {
                list::DEAD_LETTERS.counter(&[("reason", reason.as_str())])
            }),
            failed: list::ORDERS_SETTLED.counter(&failed),
        }
    }

    /// Sends a command that the database refuses to the dead letters. A new order is marked as failed; one that
    /// something was asked of stays as it is. Returns the id of an order that was marked.
    ///
    /// In this sequence: a crash in between leaves a second dead letter, which changes nothing when it
    /// is replayed, instead of a failed order that nobody can replay.
    pub(crate) async fn bury_refused(&self, partition: u16, refused: &Refused) -> Option<OrderId> {
        self.bury(&DeadLetter::refused(partition, refused)).await;
        let Command::Place(order) = &refused.command else {
            return None;
        };
        let mark = async || {
            let mut connection = self.pool.acquire().await?;
            failed::mark(&mut connection, order, self.source.as_deref()).await
        };
        let marked = mark
            .retry(retry::for_ever())
            // The table of a day that is no longer kept is not made again.
            .when(|error| {
                let cause = error.retry_cause();
                cause.is_some_and(|cause| cause != RetryCause::MissingDay)
            })
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
                request_id = letter.request_id.as_ref().map(RequestId::as_str),
                detail = letter.detail,
                "dead letter"
            );
        }
    }

    /// By a channel of its own for each letter: a queue that was deleted and declared again would not hand
    /// out what an old channel brings.
    async fn publish(&self, letter: &DeadLetter) -> Result<(), PublishError> {
        let channel = publish::confirming_channel(&self.broker)
            .await
            .map_err(PublishError::NotSent)?;
        let headers = letter.headers(&self.seals);
        publish::confirmed(&channel, DEAD_EXCHANGE, "", &letter.body, headers).await?;
        // The letter is safe, and a channel that ended by itself needs no good-bye.
        let _ = channel.close(200, "buried".into()).await;
        Ok(())
    }
}

/// The beginning of a detail, as much as fits.
fn cut(detail: &str) -> &str {
    &detail[..detail.floor_char_boundary(DETAIL_BYTES_MAX)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_detail_of_any_length_and_alphabet_is_cut_between_two_characters() {
        assert_eq!(cut("short"), "short");
        let long = "x".to_owned() + &"ü".repeat(100_000);
        assert_eq!(cut(&long).len(), DETAIL_BYTES_MAX - 1);
        let piece = Faulty {
            fault: Fault::Malformed,
            seal: Seal::Current,
            body: Vec::new(),
            detail: long,
        };
        let letter = DeadLetter::faulty(7, &piece);
        assert!(letter.detail.len() <= DETAIL_BYTES_MAX);
    }
}
