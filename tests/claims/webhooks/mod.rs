//! Claims about webhooks, against a receiver that is a real HTTP server.

mod answers;
mod disabling;
mod pressure;
mod receiver;
mod routes;
mod secrets;
mod sharing;

use std::{collections::BTreeMap, time::Duration};

use anyhow::Context;
use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};
use hotrow_shared::{
    broker::Broker, event::BATCH_CONTENT_TYPE, publish, topology::EVENTS_EXCHANGE,
};
use hotrow_tests::{Client, Place, Process, Settings, client::Answer, processes, wait};
use lapin::{BasicProperties, Channel};
use reqwest::Method;
use serde_json::{Value, json};
use sqlx::{PgPool, postgres::PgPoolOptions};
use uuid::Uuid;

use self::receiver::Receiver;

/// Long for anything that works, on a machine with other things to do.
const A_WHILE: Duration = Duration::from_mins(1);
/// Where the receivers of the claims are.
const HERE: &str = "127.0.0.0/8,::1";
const CONFIRMED: &str = "order.confirmed";

/// A place with a front door, a receiver, and a hand on the stream of events.
struct Stage {
    place: Place,
    database: PgPool,
    ingest: Process,
    client: Client,
    receiver: Receiver,
    channel: Channel,
}

/// An endpoint that was registered.
struct Registered {
    id: Uuid,
    secret: String,
    path: String,
}

/// What the database says of a delivery.
#[derive(Debug, Clone, sqlx::FromRow)]
struct Row {
    event_id: String,
    state: String,
    attempts: i32,
    outcome: Option<String>,
    status: Option<i16>,
    /// Seconds until the next attempt.
    wait: f64,
}

impl Stage {
    async fn set() -> anyhow::Result<Self> {
        let place = Place::new().await?;
        processes::migrate(&place).await?;
        let ingest = ingest(&place).start().await?;
        let database = PgPoolOptions::new()
            .max_connections(4)
            .connect(&place.database_url)
            .await?;
        let amqp = place.amqp_url.parse().map_err(anyhow::Error::msg)?;
        let channel = publish::confirming_channel(&Broker::new(&amqp, "test")).await?;
        Ok(Self {
            client: ingest.client()?,
            receiver: Receiver::start().await?,
            place,
            database,
            ingest,
            channel,
        })
    }

    /// A process that delivers.
    fn webhooks(&self) -> Settings {
        webhooks(&self.place)
    }

    async fn post(&self, path: &str, body: Value) -> anyhow::Result<Answer> {
        let path = format!("/v1/webhooks{path}");
        self.client.send(Method::POST, &path, &[], Some(body)).await
    }

    async fn get(&self, path: &str) -> anyhow::Result<Value> {
        let answer = self.client.get(&format!("/v1/webhooks{path}")).await?;
        answer.expect(200)?.json()
    }

    async fn patch(&self, endpoint: &Registered, body: Value) -> anyhow::Result<Answer> {
        let path = format!("/v1/webhooks/{}", endpoint.id);
        self.client
            .send(Method::PATCH, &path, &[], Some(body))
            .await
    }

    /// Registers a path of the receiver for `order.confirmed`.
    async fn register(&self, path: &str) -> anyhow::Result<Registered> {
        let body = json!({ "url": self.receiver.url(path), "types": [CONFIRMED] });
        let created: Value = self.post("", body).await?.expect(201)?.json()?;
        Ok(Registered {
            id: created["id"].as_str().context("no id")?.parse()?,
            secret: created["secret"].as_str().context("no secret")?.to_owned(),
            path: path.to_owned(),
        })
    }

    /// Publishes events as a worker does.
    async fn publish(&self, events: &[Value]) -> anyhow::Result<()> {
        let body = serde_json::to_vec(events)?;
        self.publish_bytes(BATCH_CONTENT_TYPE, &body).await
    }

    async fn publish_bytes(&self, content_type: &str, body: &[u8]) -> anyhow::Result<()> {
        let properties = BasicProperties::default().with_content_type(content_type.into());
        let channel = &self.channel;
        publish::confirmed_as(channel, EVENTS_EXCHANGE, CONFIRMED, body, properties).await?;
        Ok(())
    }

    /// The deliveries of an endpoint, by event.
    async fn rows(&self, endpoint: &Registered) -> anyhow::Result<BTreeMap<String, Row>> {
        let rows: Vec<Row> = sqlx::query_as(
            "select event_id, state, attempts, outcome, status,
                    extract(epoch from next_at - now())::float8 as wait
             from webhook_deliveries where endpoint_id = $1",
        )
        .bind(endpoint.id)
        .fetch_all(&self.database)
        .await?;
        let rows = rows.into_iter().map(|row| (row.event_id.clone(), row));
        Ok(rows.collect())
    }

    /// Waits until the only delivery of an endpoint has had so many attempts.
    async fn attempted(&self, endpoint: &Registered, attempts: i32) -> anyhow::Result<Row> {
        let what = format!("{attempts} attempts at {}", endpoint.path);
        wait::until(&what, A_WHILE, async || {
            let rows = self.rows(endpoint).await.ok()?;
            let row = rows.into_values().next()?;
            (row.attempts >= attempts).then_some(row)
        })
        .await
    }

    /// Waits until so many deliveries of an endpoint are in a state.
    async fn reach(&self, endpoint: &Registered, state: &str, count: usize) -> anyhow::Result<()> {
        let what = format!("{count} {state} deliveries at {}", endpoint.path);
        wait::until(&what, A_WHILE, async || {
            let rows = self.rows(endpoint).await.ok()?;
            let found = rows.values().filter(|row| row.state == state).count();
            (found == count).then_some(())
        })
        .await
    }

    /// Waits until so many different events have come to a path.
    async fn receive(&self, path: &str, count: usize) -> anyhow::Result<()> {
        let what = format!("{count} events at {path}");
        let mut last = 0;
        wait::until(&what, A_WHILE, async || {
            last = self.receiver.ids(path).len();
            (last == count).then_some(())
        })
        .await
        .with_context(|| format!("there are {last}"))
    }

    /// Has time pass for every attempt that is to come.
    async fn make_due(&self) -> anyhow::Result<()> {
        self.sql(
            "update webhook_deliveries set next_at = now() where finished_at is null and leased_until is null;
             update webhooks set paused_until = null",
        )
        .await
    }

    /// Has time pass for the leases of a process that is dead.
    async fn end_leases(&self) -> anyhow::Result<()> {
        self.sql(
            "update webhook_deliveries set next_at = now(), leased_until = null where finished_at is null",
        )
        .await
    }

    /// Runs statements as one transaction. They lock rows in another order than a process that writes what became of
    /// attempts: where the two meet in a deadlock and these give way, they are run again.
    async fn sql(&self, statements: &'static str) -> anyhow::Result<()> {
        loop {
            match sqlx::raw_sql(statements).execute(&self.database).await {
                Err(sqlx::Error::Database(error)) if error.code().as_deref() == Some("40P01") => {}
                ended => return Ok(ended.map(drop)?),
            }
        }
    }

    /// Waits until each of so many deliveries of an endpoint has been tried, and puts their next attempts off.
    async fn all_tried(&self, endpoint: &Registered, count: usize) -> anyhow::Result<()> {
        wait::until("all to be tried", A_WHILE, async || {
            let rows = self.rows(endpoint).await.ok()?;
            (rows.len() == count && rows.values().all(|row| row.attempts >= 1)).then_some(())
        })
        .await?;
        self.sql(
            "update webhook_deliveries set next_at = now() + interval '1 hour' where finished_at is null",
        )
        .await
    }
}

fn ingest(place: &Place) -> Settings {
    Settings::ingest(place)
        .unlimited()
        .set("PARTITIONS", "2")
        .set("WEBHOOK_ALLOWED_NETWORKS", HERE)
}

fn webhooks(place: &Place) -> Settings {
    Settings::webhooks(place)
        .set("PARTITIONS", "2")
        .set("WEBHOOK_ALLOWED_NETWORKS", HERE)
}

/// An event of now.
fn event(id: &str) -> Value {
    event_at(id, TimeDelta::zero())
}

/// An event of some time ago, or to come.
fn event_at(id: &str, from_now: TimeDelta) -> Value {
    let time: DateTime<Utc> = Utc::now() + from_now;
    json!({
        "specversion": "1.0",
        "id": id,
        "source": "hotrow",
        "type": CONFIRMED,
        "subject": id,
        "time": time.to_rfc3339_opts(SecondsFormat::Millis, true),
        "datacontenttype": "application/json",
        "data": { "order_id": id, "status": "confirmed" },
    })
}

/// So many events, which name a topic.
fn events(topic: &str, count: usize) -> Vec<Value> {
    (0..count)
        .map(|number| event(&format!("{topic}-{number}/1")))
        .collect()
}
