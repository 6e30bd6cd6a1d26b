//! Claims about the front door: what an ingest process says to clients, whatever they send and
//! whatever happens behind it.

mod access_log;
mod admin;
mod algorithms;
mod audit_log;
mod board;
mod bodies;
mod broker_away;
mod brokers;
mod browsers;
mod changes;
mod commands;
mod connections;
mod database_away;
mod description;
mod documents;
mod jwks;
mod key_server;
mod keys;
mod lanes;
mod life;
mod limits;
mod live;
mod logs;
mod memory;
mod metrics;
mod midnight;
mod ownership;
mod polls;
mod questions;
mod raw;
mod refusals;
mod restarts;
mod restocks;
mod roles;
mod rules;
mod sale;
mod secrets;
mod settings;
mod stripe;
mod switch;
mod tokens;
mod topology;

use std::{collections::BTreeSet, time::Duration};

use anyhow::Context;
use bytes::Bytes;
use hotrow_tests::{
    Client, Place, Process, Settings,
    client::{Answer, Product},
    issuer,
    processes::migrate,
    wait,
};
use lapin::{options::QueueDeclareOptions, types::FieldTable};
use reqwest::{
    Method,
    header::{HeaderName, HeaderValue},
};
use serde_json::{Value, json};
use sqlx::{FromRow, PgConnection};
use uuid::Uuid;

/// Declaring queues is most of a first start, and no claim here needs many.
const PARTITIONS: u16 = 2;
/// For what takes milliseconds on an idle machine.
const SOON: Duration = Duration::from_secs(20);
/// The product that most claims sell.
const CHAIR: &str = "chair";

/// Names and values, which need not be text.
type Headers<'a> = &'a [(&'a str, &'a [u8])];

/// A place whose schema is up to date.
async fn place() -> anyhow::Result<Place> {
    let place = Place::new().await?;
    migrate(&place).await?;
    Ok(place)
}

fn ingest(place: &Place) -> Settings {
    Settings::ingest(place)
        .unlimited()
        .set("PARTITIONS", PARTITIONS.to_string())
}

fn worker(place: &Place) -> Settings {
    Settings::worker(place).set("PARTITIONS", PARTITIONS.to_string())
}

/// Puts so many pieces of a product up for sale.
async fn put_up(ingest: &Process, sku: &str, available: i64) -> anyhow::Result<()> {
    let client = ingest.client()?;
    let put = client
        .put_inventory(sku, Product::chairs(available))
        .await?;
    put.expect_success().map(drop)
}

/// Changes the chairs as an administrator does.
async fn patch_chairs(client: &Client, change: Value) -> anyhow::Result<Answer> {
    client.patch_inventory(CHAIR, change).await
}

/// Has orders of chairs held for so long.
async fn hold_chairs(client: &Client, seconds: u32) -> anyhow::Result<()> {
    let rules = json!({ "sale": { "hold_seconds": seconds } });
    patch_chairs(client, rules).await?.expect(200).map(drop)
}

/// A request with any headers and any body. `Client` adds what a request needs; this adds nothing.
async fn send(
    process: &Process,
    method: Method,
    path: &str,
    headers: Headers<'_>,
    body: impl Into<Bytes>,
) -> anyhow::Result<Answer> {
    let url = format!("http://{}{path}", process.address()?);
    let http = reqwest::Client::builder()
        .no_proxy()
        .timeout(SOON)
        .build()?;
    let mut request = http.request(method.clone(), url).body(body.into());
    for (name, value) in headers {
        request = request.header(
            HeaderName::try_from(*name)?,
            HeaderValue::from_bytes(value)?,
        );
    }
    Answer::read_whole(&method, path, request.send().await?).await
}

/// A purchase's body with any headers, which is JSON unless they say otherwise.
async fn post(
    process: &Process,
    headers: Headers<'_>,
    body: impl Into<Bytes>,
) -> anyhow::Result<Answer> {
    const JSON: (&str, &[u8]) = ("content-type", b"application/json");
    let headers = [&[JSON][..], headers].concat();
    send(process, Method::POST, "/v1/orders", &headers, body).await
}

/// A purchase of one piece.
fn one(sku: &str) -> String {
    format!(r#"{{"customer_id":"c-1","items":[{{"sku":"{sku}","quantity":1}}]}}"#)
}

/// What serde and `serde_json` say, and no client should read.
const RUST_WORDS: [&str; 11] = [
    "expected `",
    "expected ident",
    "expected struct",
    "invalid type",
    "invalid length",
    " u32",
    " i64",
    "EOF",
    "at line",
    "duplicate field",
    "unknown field",
];

/// Checks the shape of a refusal to the letter, and gives its body.
#[track_caller]
fn assert_refused(answer: &Answer, status: u16, code: &str) -> Value {
    let body: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
    assert_eq!(
        (answer.status.as_u16(), body["code"].as_str()),
        (status, Some(code)),
        "{body}"
    );
    let content_type = answer.header("content-type");
    assert_eq!(content_type, Some("application/problem+json"), "{body}");

    let members = ["type", "title", "status", "detail", "code", "request_id"];
    let mut members = BTreeSet::from(members);
    if code == "outcome_unknown" {
        members.extend(["order_id", "status_url"]);
    }
    if code == "conflict" {
        members.insert("order");
        members.extend(body.get("unmatched").map(|_| "unmatched"));
    }
    // Only of goods that are held, which may come back.
    let is_held = code == "sold_out" && body["state"] == "all_held";
    members.extend(is_held.then_some("state"));
    members.extend(match code {
        "not_open" => Some("opens_at"),
        "limit_reached" => Some("limit"),
        "price_changed" => Some("unit_price_minor"),
        // Only where somebody has said until when.
        "paused" => body.get("until").map(|_| "until"),
        _ => None,
    });
    let errors = body["errors"].as_array();
    if code == "invalid" && errors.is_some() {
        members.insert("errors");
    }
    for error in errors.into_iter().flatten() {
        let shape = (error["pointer"].as_str(), error["detail"].as_str());
        assert!(matches!(shape, (Some(_), Some(_))), "{body}");
    }
    let found = body.as_object().into_iter().flatten();
    let found: BTreeSet<_> = found.map(|(name, _)| name.as_str()).collect();
    assert_eq!(found, members, "{body}");
    assert_eq!(body["type"], format!("urn:hotrow:problem:{code}"));
    assert_eq!(body["status"], status);
    for text in ["title", "detail", "request_id"] {
        let text = body[text].as_str();
        assert!(text.is_some_and(|text| !text.is_empty()), "{body}");
    }
    let detail = body["detail"].as_str().unwrap_or_default();
    for word in RUST_WORDS {
        assert!(!detail.contains(word), "{word:?} in {body}");
    }
    if code == "outcome_unknown" {
        for part in ["reads queued for ever", "the same Idempotency-Key"] {
            assert!(detail.contains(part), "{body}");
        }
    }
    let request_id = answer.header("x-request-id");
    assert_eq!(request_id, body["request_id"].as_str(), "{body}");

    let retry_after = answer.header("retry-after").map(str::parse::<u32>);
    let waits = [
        "not_open",
        "rate_limited",
        "overloaded",
        "unavailable",
        "not_settled",
    ];
    let waits = waits.contains(&code) || is_held || (status, code) == (503, "paused");
    assert!(
        match retry_after {
            Some(seconds) => seconds.is_ok_and(|seconds| seconds > 0) && (status >= 429 || waits),
            None => !waits,
        },
        "Retry-After of {code}: {:?}",
        answer.header("retry-after")
    );
    body
}

/// Checks that a purchase was accepted, and gives its id.
#[track_caller]
fn assert_accepted(answer: &Answer) -> Uuid {
    let text = String::from_utf8_lossy(&answer.body);
    assert_eq!(answer.status, 202, "{text}");
    answer.order_id().expect("an accepted order has an id")
}

/// Waits until an order is settled, and gives its document.
async fn settled(client: &Client, order_id: Uuid) -> anyhow::Result<Value> {
    let document = client.settled(order_id, 20).await?.expect(200)?.json()?;
    anyhow::ensure!(document["status"] != "queued", "not settled: {document}");
    Ok(document)
}

/// How many envelopes wait in the queues of a place.
async fn envelopes(place: &Place) -> anyhow::Result<u32> {
    let channel = place.broker().await?.create_channel().await?;
    let mut envelopes = 0;
    for partition in 0..PARTITIONS {
        let passive = QueueDeclareOptions {
            passive: true,
            ..QueueDeclareOptions::default()
        };
        let queue = hotrow_shared::topology::queue(partition).into();
        let queue = channel.queue_declare(queue, passive, FieldTable::default());
        envelopes += queue.await?.message_count();
    }
    Ok(envelopes)
}

/// What the database says of a SKU's stock.
#[derive(Debug, PartialEq, Eq, FromRow)]
struct Stock {
    available: i64,
    /// The sum of its ledger.
    ledger: i64,
    /// What settlements took.
    sold: i64,
}

async fn stock(database: &mut PgConnection, sku: &str) -> anyhow::Result<Stock> {
    let stock = "select available, coalesce(sum(delta), 0)::bigint as ledger,
                        coalesce(-sum(delta) filter (where kind = 'settlement'), 0)::bigint as sold
                 from inventory left join inventory_ledger using (sku)
                 where sku = $1
                 group by available";
    let stock = sqlx::query_as(stock).bind(sku).fetch_optional(database);
    stock.await?.with_context(|| format!("no {sku}"))
}

/// How many orders of a customer have an outcome of their own.
async fn orders_of(database: &mut PgConnection, customer: &str) -> anyhow::Result<i64> {
    let orders = "select count(*) from orders where customer_id = $1 and alias_of is null";
    let orders = sqlx::query_scalar(orders).bind(customer);
    Ok(orders.fetch_one(database).await?)
}

/// Waits until `/readyz` answers with that status, and gives the answer.
async fn readiness(process: &Process, status: u16) -> anyhow::Result<Answer> {
    let client = process.client()?;
    wait::until(&format!("readyz to answer {status}"), SOON, async || {
        let answer = client.get("/readyz").await.ok()?;
        (answer.status == status).then_some(answer)
    })
    .await
}
