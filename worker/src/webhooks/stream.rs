//! The stream of events as one reads it: from an offset on, message by message.

use std::time::Duration;

use chrono::{DateTime, Utc};
use futures_util::{FutureExt, StreamExt};
use hotrow_shared::{
    broker::{Broker, BrokerError},
    event::BATCH_CONTENT_TYPE,
    topology::EVENTS_QUEUE,
};
use lapin::{
    Channel, Consumer,
    message::Delivery,
    options::{BasicAckOptions, BasicConsumeOptions, BasicQosOptions},
    types::{AMQPValue, FieldTable},
};
use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::time::timeout;

/// Messages that the broker may hand out ahead. Each has up to 1,000 events in about 512 KiB.
const PREFETCH: u16 = 8;
/// The longest id of an event that is copied: far more than any of ours has, and less than an index takes.
const ID_LENGTH_MAX: usize = 512;
/// The same for its type.
const TYPE_LENGTH_MAX: usize = 128;
const OFFSET: &str = "x-stream-offset";

/// How long the broker may take to hand out the first message of the last chunk, and each that follows.
const LAST_MAX: Duration = Duration::from_secs(5);
const NEXT_MAX: Duration = Duration::from_millis(500);

/// Where a consumer begins.
#[derive(Debug, Clone, Copy)]
pub(super) enum Start {
    /// At the first message that there is.
    First,
    /// At the last chunk of messages.
    Last,
    /// At this offset.
    At(i64),
}

/// A consumer of the stream.
pub(super) struct Reading {
    channel: Channel,
    consumer: Consumer,
}

/// A message of the stream.
pub(super) struct Message {
    /// Its place in the stream.
    pub(super) offset: i64,
    pub(super) delivery: Delivery,
}

impl Reading {
    /// Reads from there on.
    pub(super) async fn from(broker: &Broker, start: Start) -> Result<Self, BrokerError> {
        let channel = broker.channel().await?;
        channel
            .basic_qos(PREFETCH, BasicQosOptions::default())
            .await?;
        let start = match start {
            Start::First => AMQPValue::LongString("first".into()),
            Start::Last => AMQPValue::LongString("last".into()),
            Start::At(offset) => AMQPValue::LongLongInt(offset),
        };
        let mut arguments = FieldTable::default();
        arguments.insert(OFFSET.into(), start);
        let consumer = channel
            .basic_consume(
                EVENTS_QUEUE.into(),
                "".into(),
                BasicConsumeOptions::default(),
                arguments,
            )
            .await?;
        Ok(Self { channel, consumer })
    }

    /// The next message.
    pub(super) async fn next(&mut self) -> Result<Message, BrokerError> {
        let delivery = self.consumer.next().await;
        let delivery = delivery.ok_or(BrokerError::Ended)??;
        Ok(Message {
            offset: offset(&delivery).unwrap_or_default(),
            delivery,
        })
    }

    /// The next message, if it is here.
    pub(super) fn next_if_here(&mut self) -> Option<Result<Message, BrokerError>> {
        self.next().now_or_never()
    }

    /// Has the broker hand out more than everything up to this message.
    pub(super) async fn acknowledge(&self, last: &Message) -> Result<(), BrokerError> {
        let all_before = BasicAckOptions { multiple: true };
        last.delivery.acker.ack(all_before).await?;
        Ok(())
    }

    /// Ends the consumer. The broker cleans up behind one that just ends, too.
    pub(super) async fn close(self) {
        drop(self.channel.close(200, "done".into()).await);
    }
}

/// The offset behind the last message, or none if the stream seems to be empty.
pub(super) async fn end(broker: &Broker) -> Result<Option<i64>, BrokerError> {
    let mut reading = Reading::from(broker, Start::Last).await?;
    let mut end = None;
    let mut patience = LAST_MAX;
    while let Ok(message) = timeout(patience, reading.next()).await {
        let message = message?;
        end = Some(message.offset + 1);
        reading.acknowledge(&message).await?;
        patience = NEXT_MAX;
    }
    reading.close().await;
    Ok(end)
}

/// The first message at an offset or behind it, or none if the broker hands out none.
pub(super) async fn message_from(
    broker: &Broker,
    offset: i64,
) -> Result<Option<Message>, BrokerError> {
    let mut reading = Reading::from(broker, Start::At(offset)).await?;
    // A consumer begins with the chunk that its offset is in.
    let found = loop {
        let Ok(message) = timeout(LAST_MAX, reading.next()).await else {
            break None;
        };
        let message = message?;
        if message.offset >= offset {
            break Some(message);
        }
        reading.acknowledge(&message).await?;
    };
    reading.close().await;
    Ok(found)
}

fn offset(delivery: &Delivery) -> Option<i64> {
    let headers = delivery.properties.headers().as_ref()?;
    match headers.inner().get(OFFSET)? {
        AMQPValue::LongLongInt(offset) => Some(*offset),
        AMQPValue::LongInt(offset) => Some(i64::from(*offset)),
        AMQPValue::LongUInt(offset) => Some(i64::from(*offset)),
        _ => None,
    }
}

/// An event of a message.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct CopiedEvent {
    pub(super) id: String,
    pub(super) r#type: String,
    pub(super) time: DateTime<Utc>,
    /// The whole of it.
    pub(super) json: String,
}

#[derive(Deserialize)]
struct Head {
    id: String,
    r#type: String,
    time: String,
}

/// Reads the events of a message. What is no event is left out; none at all if it is no batch of them.
pub(super) fn events(content_type: Option<&str>, body: &[u8]) -> Option<Vec<CopiedEvent>> {
    if content_type != Some(BATCH_CONTENT_TYPE) {
        return None;
    }
    let batch: Vec<&RawValue> = serde_json::from_slice(body).ok()?;
    let read = |event: &&RawValue| {
        let json = event.get();
        let Head { id, r#type, time } = serde_json::from_str(json).ok()?;
        let fits = id.len() <= ID_LENGTH_MAX && r#type.len() <= TYPE_LENGTH_MAX;
        let is_text = !id.contains('\0') && !r#type.contains('\0');
        let time: DateTime<Utc> = time.parse().ok()?;
        // The database knows no years as early as a text can name.
        let is_of_our_era = time.timestamp() >= 0;
        (fits && is_text && is_of_our_era).then(|| CopiedEvent {
            id,
            r#type,
            time,
            json: json.to_owned(),
        })
    };
    Some(batch.iter().filter_map(read).collect())
}

/// Reads the events of a delivery, as [`events`] does.
pub(super) fn events_of(message: &Message) -> Option<Vec<CopiedEvent>> {
    let content_type = message.delivery.properties.content_type().as_ref();
    events(
        content_type.map(lapin::types::ShortString::as_str),
        &message.delivery.data,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_is_read_event_by_event_as_it_was_written() {
        let event = r#"{"specversion":"1.0","id":"a/1","type":"order.confirmed","time":"2026-12-01T10:00:00.123Z","data":{"x":1.50}}"#;
        let body = format!("[{event},{{\"id\":7}},null,{event}]");
        let events = events(Some(BATCH_CONTENT_TYPE), body.as_bytes()).expect("a batch");
        assert_eq!(events.len(), 2);
        assert_eq!(
            (&*events[0].id, &*events[0].r#type),
            ("a/1", "order.confirmed")
        );
        assert_eq!(events[0].json, event);
    }

    #[test]
    fn what_is_no_batch_of_events_is_none() {
        let batch = Some(BATCH_CONTENT_TYPE);
        assert_eq!(events(None, b"[]"), None);
        assert_eq!(events(Some("application/json"), b"[]"), None);
        assert_eq!(events(batch, b"{}"), None);
        assert_eq!(events(batch, b"[1,"), None);
        assert_eq!(events(batch, b"[]"), Some(Vec::new()));
        let long = format!(
            r#"[{{"id":"{}","type":"t","time":"2026-12-01T10:00:00Z"}}]"#,
            "x".repeat(ID_LENGTH_MAX + 1)
        );
        assert_eq!(events(batch, long.as_bytes()), Some(Vec::new()));
        let early = br#"[{"id":"a","type":"t","time":"-99999-12-01T10:00:00Z"}]"#;
        assert_eq!(events(batch, early), Some(Vec::new()));
    }
}
