//! Claims about payments that Stripe tells of: what is believed, what becomes of it, and that nothing is lost. The
//! signatures are made here, from the published scheme and nothing else.

mod door;
mod ends;

use std::fmt::Write;

use chrono::Utc;
use hotrow_tests::{Client, Place, Process, Settings, client::Answer, wait};
use reqwest::Method;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use sqlx::{FromRow, PgConnection};
use uuid::Uuid;

use super::{CHAIR, SOON, assert_accepted, send, settled};

const PATH: &str = "/v1/payments/stripe";
const SECRET: &str = "whsec_9nq2Vd7TzRk4mXcJ0bLsWyHf";
const SUCCEEDED: &str = "payment_intent.succeeded";
const CAPTURABLE: &str = "payment_intent.amount_capturable_updated";
const PROCESSING: &str = "payment_intent.processing";
/// What a chair costs.
const PRICE: i64 = 4_990;

fn ingest(place: &Place) -> Settings {
    super::ingest(place).set("STRIPE_WEBHOOK_SECRET", SECRET)
}

fn now() -> i64 {
    Utc::now().timestamp()
}

/// The signature of a body by HMAC-SHA256, as RFC 2104 defines it.
fn v1(secret: &str, sent_at: i64, body: &str) -> String {
    let mut key = [0_u8; 64];
    key[..secret.len()].copy_from_slice(secret.as_bytes());
    let padded = |with: u8| key.map(|byte| byte ^ with);
    let inner = Sha256::new()
        .chain_update(padded(0x36))
        .chain_update(format!("{sent_at}.{body}"))
        .finalize();
    let outer = Sha256::new()
        .chain_update(padded(0x5c))
        .chain_update(inner)
        .finalize();
    outer.iter().fold(String::new(), |mut hex, byte| {
        // Text takes whatever is written to it.
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}

/// A payment of a chair, as Stripe's events have it.
fn intent(order: &str, reference: &str) -> Value {
    json!({
        "id": reference, "object": "payment_intent", "amount": PRICE, "amount_capturable": PRICE,
        "amount_received": PRICE, "currency": "eur", "customer": null, "livemode": true,
        "metadata": { "order_id": order, "cart": "c-7" }, "status": "succeeded",
    })
}

fn event(r#type: &str, intent: &Value) -> Value {
    json!({
        "id": format!("evt_{}", Uuid::new_v4().simple()), "object": "event", "api_version": "2025-09-30.clover",
        "created": now(), "livemode": true, "type": r#type, "data": { "object": intent },
        "pending_webhooks": 1, "request": { "id": null, "idempotency_key": null },
    })
}

/// Sends a body with this signature.
async fn deliver(ingest: &Process, signature: &str, body: &str) -> anyhow::Result<Answer> {
    let headers: [(&str, &[u8]); 2] = [
        ("content-type", b"application/json; charset=utf-8"),
        ("stripe-signature", signature.as_bytes()),
    ];
    send(ingest, Method::POST, PATH, &headers, body.to_owned()).await
}

/// Sends an event as Stripe does.
async fn tell(ingest: &Process, event: &Value) -> anyhow::Result<Answer> {
    let (sent_at, body) = (now(), event.to_string());
    let signature = format!("t={sent_at},v1={}", v1(SECRET, sent_at, &body));
    deliver(ingest, &signature, &body).await
}

async fn tell_of(ingest: &Process, r#type: &str, intent: &Value) -> anyhow::Result<Answer> {
    tell(ingest, &event(r#type, intent)).await
}

#[track_caller]
fn assert_done(answer: &Answer, outcome: &str) {
    let body = String::from_utf8_lossy(&answer.body);
    assert_eq!(answer.status, 200, "{body}");
    assert_eq!(answer.json().ok(), Some(json!({ "outcome": outcome })));
}

/// Checks how many events were counted, and as what; nothing else was.
async fn counted(ingest: &Process, expected: &[(&str, u64)]) -> anyhow::Result<()> {
    let metrics = ingest.metrics().await?;
    let of = |labels: &[(&str, &str)]| metrics.count("hotrow_stripe_events_total", labels);
    for (outcome, count) in expected {
        assert_eq!(of(&[("outcome", outcome)]), *count, "{outcome}");
    }
    assert_eq!(
        of(&[]),
        expected.iter().map(|(_, count)| count).sum::<u64>()
    );
    Ok(())
}

/// A payment that did not pay its order.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord, FromRow)]
struct Unmatched {
    order_id: String,
    payment_reference: String,
    amount_minor: Option<i64>,
    currency: Option<String>,
    why: String,
}

async fn unmatched(database: &mut PgConnection) -> anyhow::Result<Vec<Unmatched>> {
    let rows = "select * from unmatched_payments order by id";
    Ok(sqlx::query_as(rows).fetch_all(database).await?)
}

/// Orders a chair, and waits until it is held.
async fn reserve(client: &Client) -> anyhow::Result<Uuid> {
    let id = assert_accepted(&client.order("c-1", &[(CHAIR, 1)]).await?);
    let document = settled(client, id).await?;
    anyhow::ensure!(document["status"] == "reserved", "{document}");
    Ok(id)
}

/// Waits until an order is this, in this revision.
async fn becomes(client: &Client, id: Uuid, status: &str, revision: i32) -> anyhow::Result<Value> {
    wait::until(&format!("an order to be {status}"), SOON, async || {
        let document = client.status(id).await.ok()?.json().ok()?;
        (document["status"] == status && document["revision"] == revision).then_some(document)
    })
    .await
}
