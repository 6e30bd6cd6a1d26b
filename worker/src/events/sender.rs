//! Events become messages, one for each type, and go to the exchange.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use chrono::{DateTime, Utc};
use hotrow_shared::{
    broker::Broker,
    event::{BATCH_CONTENT_TYPE, Event, EventType, InventoryChanged, order_event_id},
    metrics::EVENTS_PUBLISHED,
    outcome::{OrderDocument, Status},
    publish::{self, PublishError},
    topology::EVENTS_EXCHANGE,
};
use lapin::{BasicProperties, Channel};
use metrics::Counter;
use serde::Serialize;

use crate::{metrics::Labelled, telling::type_of};

/// Most events in a message, as the contract says.
const MESSAGE_EVENTS_MAX: usize = 1_000;
/// About how long a message gets: events of 1,000 orders of one item, or of 200 large carts.
const MESSAGE_BYTES: usize = 512 * 1024;
/// How long a channel may have been idle. The broker's end of a channel outlives the queue that it has published to,
/// and a queue that is missing is missed for longer than this: see `shared/src/topology`.
const IDLE_MAX: Duration = Duration::from_secs(1);

/// Writes events into messages, and publishes a message when it is full or flushed.
pub(crate) struct Sender {
    broker: Arc<Broker>,
    /// A channel that confirms, and when it was used last.
    channel: Option<(Channel, Instant)>,
    source: Arc<str>,
    messages: BTreeMap<EventType, Message>,
    published: Labelled<EventType, Counter>,
    count: u64,
}

/// A JSON array that is not closed yet.
#[derive(Default)]
struct Message {
    body: Vec<u8>,
    events: usize,
}

impl Message {
    fn push(&mut self, event: &impl Serialize) {
        let length = self.body.len();
        self.body.push(if self.events == 0 { b'[' } else { b',' });
        if let Err(error) = serde_json::to_writer(&mut self.body, event) {
            tracing::error!(%error, "an event cannot be written as JSON");
            self.body.truncate(length);
            return;
        }
        self.events += 1;
    }

    fn is_full(&self) -> bool {
        self.events >= MESSAGE_EVENTS_MAX || self.body.len() >= MESSAGE_BYTES
    }
}

impl Sender {
    /// A sender for the installation of this name. Creates every series.
    pub(crate) fn new(broker: Arc<Broker>, source: &str) -> Self {
        Self {
            broker,
            channel: None,
            source: source.into(),
            messages: BTreeMap::new(),
            published: Labelled::new(EventType::ALL, |it| {
                EVENTS_PUBLISHED.counter(&[("type", it.as_str())])
            }),
            count: 0,
        }
    }

    /// Writes what became of an order by its first outcome or, if `is_change`, later.
    pub(super) async fn order<Items: Serialize>(
        &mut self,
        status: Status,
        is_change: bool,
        document: OrderDocument<'_, Items>,
    ) -> Result<(), PublishError> {
        let order_id = document.order_id.to_string();
        let id = order_event_id(document.order_id, document.revision);
        let time = document.updated_at;
        self.add(type_of(status, is_change), id, &order_id, time, document)
            .await
    }

    /// Writes what became of the stock of a SKU.
    pub(super) async fn inventory(
        &mut self,
        changed: &InventoryChanged,
        at: DateTime<Utc>,
    ) -> Result<(), PublishError> {
        let id = format!("{}/{}", changed.sku.as_str(), changed.version);
        let subject = changed.sku.as_str();
        self.add(EventType::InventoryChanged, id, subject, at, changed)
            .await
    }

    /// Writes an event, and publishes the messages that are full.
    pub(super) async fn add(
        &mut self,
        r#type: EventType,
        id: String,
        subject: &str,
        time: DateTime<Utc>,
        data: impl Serialize,
    ) -> Result<(), PublishError> {
        let source = Arc::clone(&self.source);
        let event = Event::new(r#type, id, &source, subject, time, data);
        self.push(r#type, &event).await
    }

    /// Writes an event that is JSON already.
    pub(super) async fn push(
        &mut self,
        r#type: EventType,
        event: &impl Serialize,
    ) -> Result<(), PublishError> {
        let message = self.messages.entry(r#type).or_default();
        message.push(event);
        if message.is_full() {
            return self.publish(r#type).await;
        }
        Ok(())
    }

    /// Publishes everything that was written, and returns when the stream has it.
    pub(super) async fn flush(&mut self) -> Result<(), PublishError> {
        while let Some(r#type) = self.messages.keys().next().copied() {
            self.publish(r#type).await?;
        }
        Ok(())
    }

    /// Returns how many events the stream has taken.
    pub(super) fn count(&self) -> u64 {
        self.count
    }

    /// Forgets what was written: it will be written again.
    pub(super) fn forget(&mut self) {
        self.messages.clear();
    }

    async fn publish(&mut self, r#type: EventType) -> Result<(), PublishError> {
        let Some(Message { mut body, events }) = self.messages.remove(&r#type) else {
            return Ok(());
        };
        if events == 0 {
            return Ok(());
        }
        body.push(b']');
        let channel = self.channel().await?;
        let properties = BasicProperties::default().with_content_type(BATCH_CONTENT_TYPE.into());
        publish::confirmed_as(
            &channel,
            EVENTS_EXCHANGE,
            r#type.as_str(),
            &body,
            properties,
        )
        .await?;
        self.channel = Some((channel, Instant::now()));
        if let Some(published) = self.published.of(r#type) {
            published.increment(events as u64);
        }
        self.count += events as u64;
        Ok(())
    }

    /// Takes the channel; it comes back if all goes well. One that was idle is dropped, which closes it.
    async fn channel(&mut self) -> Result<Channel, PublishError> {
        if let Some((channel, used)) = self.channel.take()
            && used.elapsed() < IDLE_MAX
        {
            return Ok(channel);
        }
        let opened = publish::confirming_channel(&self.broker).await;
        opened.map_err(PublishError::NotSent)
    }
}
