//! A program beside Hotrow: it reads the stream with a plain AMQP client, and knows nothing but the contract.

use std::{collections::BTreeMap, time::Duration};

use anyhow::{Context, ensure};
use futures_util::StreamExt;
use hotrow_tests::{Place, wait};
use lapin::{
    Connection, Consumer,
    message::Delivery,
    options::{BasicAckOptions, BasicConsumeOptions, BasicQosOptions},
    types::{AMQPValue, FieldTable},
};
use serde_json::Value;
use tokio::time::timeout;

/// How long nothing comes before a reader thinks that it has everything for now.
const QUIET: Duration = Duration::from_millis(500);

/// What a reader knows from events alone.
pub struct Reader {
    _connection: Connection,
    consumer: Consumer,
    /// Every event by its id.
    pub events: BTreeMap<String, Value>,
    /// How many came, repeated ones included.
    pub received: usize,
    /// The largest number of events in one message.
    pub largest: usize,
}

impl Reader {
    /// Reads from the first event that the stream has.
    pub async fn from_first(place: &Place) -> anyhow::Result<Self> {
        let connection = place.broker().await?;
        let channel = connection.create_channel().await?;
        channel.basic_qos(100, BasicQosOptions::default()).await?;
        let mut arguments = FieldTable::default();
        let first = AMQPValue::LongString("first".into());
        arguments.insert("x-stream-offset".into(), first);
        let options = BasicConsumeOptions::default();
        let consumer = channel.basic_consume("hotrow.events".into(), "".into(), options, arguments);
        Ok(Self {
            consumer: consumer.await?,
            _connection: connection,
            events: BTreeMap::new(),
            received: 0,
            largest: 0,
        })
    }

    /// Reads until nothing comes for a moment.
    pub async fn catch_up(&mut self) -> anyhow::Result<()> {
        while let Ok(delivery) = timeout(QUIET, self.consumer.next()).await {
            let delivery = delivery.context("the stream has ended")??;
            self.take(&delivery)?;
            delivery.ack(BasicAckOptions::default()).await?;
        }
        Ok(())
    }

    /// Reads until it knows so many events, and then as long as more come.
    pub async fn has(&mut self, events: usize) -> anyhow::Result<()> {
        let what = format!("{events} events");
        self.until(&what, |reader| reader.events.len() >= events)
            .await?;
        self.catch_up().await?;
        ensure!(
            self.events.len() == events,
            "{} instead of {events} events: {:#?}",
            self.events.len(),
            self.events.keys()
        );
        Ok(())
    }

    /// Reads until everything that is asked for has come.
    pub async fn until(
        &mut self,
        what: &str,
        is_there: impl Fn(&Self) -> bool,
    ) -> anyhow::Result<()> {
        const A_WHILE: Duration = Duration::from_mins(1);
        let started = std::time::Instant::now();
        while !is_there(self) {
            ensure!(
                started.elapsed() < A_WHILE,
                "{what} did not come; there are {:#?}",
                self.events.keys()
            );
            self.catch_up().await?;
        }
        Ok(())
    }

    /// Checks a message against the contract, and remembers its events.
    fn take(&mut self, delivery: &Delivery) -> anyhow::Result<()> {
        let content_type = delivery.properties.content_type();
        let content_type = content_type.as_ref().map(ToString::to_string);
        ensure!(
            content_type.as_deref() == Some("application/cloudevents-batch+json"),
            "{content_type:?}"
        );
        let batch: Vec<Value> = serde_json::from_slice(&delivery.data)?;
        ensure!((1..=1_000).contains(&batch.len()), "{} events", batch.len());
        self.largest = self.largest.max(batch.len());
        for event in batch {
            ensure!(
                event["type"] == delivery.routing_key.as_str() && event["specversion"] == "1.0",
                "{event}"
            );
            let id = event["id"].as_str().context("no id")?.to_owned();
            self.received += 1;
            if let Some(before) = self.events.insert(id, event.clone()) {
                ensure!(
                    before == event,
                    "told twice otherwise: {before} and {event}"
                );
            }
        }
        Ok(())
    }

    /// The types of the events of a subject, in the sequence of their revisions or versions.
    pub fn types(&self, subject: &str) -> Vec<&str> {
        let mut events: Vec<_> = self.of(subject).collect();
        events.sort_by_key(|event| number(event));
        let types = events.into_iter().filter_map(|it| it["type"].as_str());
        types.collect()
    }

    /// The events of a subject.
    pub fn of(&self, subject: &str) -> impl Iterator<Item = &Value> + use<'_> {
        let subject = subject.to_owned();
        self.events
            .values()
            .filter(move |it| it["subject"] == subject.as_str())
    }

    /// The last state of every order: the document of the highest revision.
    pub fn orders(&self) -> BTreeMap<String, Value> {
        let is_order = |event: &&Value| event["data"]["revision"].is_i64();
        self.latest(is_order)
    }

    /// The last that was told of every SKU.
    pub fn stock(&self) -> BTreeMap<String, Value> {
        self.latest(|event| event["type"] == "inventory.changed")
    }

    fn latest(&self, is_meant: impl Fn(&&Value) -> bool) -> BTreeMap<String, Value> {
        let mut latest: BTreeMap<String, Value> = BTreeMap::new();
        for event in self.events.values().filter(is_meant) {
            let subject = event["subject"].as_str().unwrap_or_default();
            let known = latest.get(subject).map(number_of);
            if known.is_none_or(|known| known < number(event)) {
                latest.insert(subject.to_owned(), event["data"].clone());
            }
        }
        latest
    }
}

/// What orders events of one subject.
fn number(event: &Value) -> i64 {
    number_of(&event["data"])
}

fn number_of(data: &Value) -> i64 {
    let number = data["revision"].as_i64().or(data["version"].as_i64());
    number.unwrap_or_default()
}

/// Waits until no settlement has events that are not out.
pub async fn everything_is_out(place: &Place) -> anyhow::Result<()> {
    let mut database = place.database().await?;
    let mut last: i64 = -1;
    let empty = wait::until(
        "the outbox to be empty",
        Duration::from_mins(1),
        async || {
            let rows = sqlx::query_scalar("select count(*) from event_outbox");
            last = rows.fetch_one(&mut database).await.ok()?;
            (last == 0).then_some(())
        },
    );
    empty.await.with_context(|| format!("{last} rows"))
}
