//! Claims about events: what programs beside Hotrow hear, at least once, and only of what happened.

mod crashes;
mod documented;
pub(crate) mod reader;
mod storm;

use hotrow_tests::{Client, Place, Process, Settings, client::Product, wait};
use lapin::{
    options::QueueDeclareOptions,
    types::{AMQPValue, FieldTable},
};
use serde_json::{Value, json};
use sqlx::Connection;
use uuid::Uuid;

use self::reader::{Reader, everything_is_out};
use crate::worker::shop::{A_WHILE, Shop};

const CHAIR: &str = "chair";

/// No order is settled.
const TROUBLE: &str = "create function trouble() returns trigger language plpgsql as $$
         begin raise exception using errcode = '22000'; end $$;
         create trigger trouble before insert on orders for each row
         when (new.status <> 'failed') execute function trouble()";

/// Puts up chairs at 49.90 EUR that are held for so long.
async fn chairs(client: &Client, available: i64, hold_seconds: u32) -> anyhow::Result<()> {
    let put = client.put_inventory(CHAIR, Product::chairs(available));
    put.await?.expect_success()?;
    let rules = json!({ "sale": { "hold_seconds": hold_seconds } });
    client
        .patch_inventory(CHAIR, rules)
        .await?
        .expect(200)
        .map(drop)
}

/// Orders chairs and waits for the outcome.
async fn order(client: &Client, customer: &str, quantity: u32) -> anyhow::Result<Uuid> {
    let accepted = client.order(customer, &[(CHAIR, quantity)]).await?;
    let id = accepted.expect(202)?.order_id()?;
    client.settled(id, 20).await?.expect(200)?;
    Ok(id)
}

/// A worker that expires holds at once when they are over.
fn hasty(shop: &Shop) -> Settings {
    shop.worker().set("HOLD_GRACE", "0s")
}

async fn document(client: &Client, id: Uuid) -> anyhow::Result<Value> {
    client.status(id).await?.expect(200)?.json()
}

/// Publishes again what happened lately.
async fn replay(settings: &Settings, more: &[&str]) -> anyhow::Result<String> {
    let since = (chrono::Utc::now() - chrono::TimeDelta::minutes(10)).to_rfc3339();
    let until = (chrono::Utc::now() + chrono::TimeDelta::minutes(1)).to_rfc3339();
    let span = ["events", "replay", "--since", &since, "--until", &until];
    let output = settings.run(&[&span, more].concat()).await?;
    anyhow::ensure!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// A shop with an ingest process and a hasty worker.
async fn open() -> anyhow::Result<(Shop, Process, Process)> {
    let shop = Shop::open(2).await?;
    let worker = hasty(&shop).start().await?;
    let ingest = shop.ingest().start().await?;
    Ok((shop, ingest, worker))
}

#[tokio::test]
async fn every_change_of_an_order_is_an_event_with_the_document_that_a_poll_shows()
-> anyhow::Result<()> {
    let (shop, ingest, _worker) = open().await?;
    let client = ingest.client()?;
    chairs(&client, 10, 600).await?;
    let paid = order(&client, "c-1", 1).await?;
    let reserved = document(&client, paid).await?;
    let more = json!({ "seconds": 700 });
    client.ask(paid, "extend", 20, more).await?.expect(200)?;
    let payment = json!({ "payment_reference": "pi_1", "amount_minor": 4990, "currency": "EUR" });
    client
        .ask(paid, "confirm", 20, payment)
        .await?
        .expect(200)?;
    let confirmed = document(&client, paid).await?;
    let other = json!({ "payment_reference": "pi_2" });
    client.ask(paid, "confirm", 20, other).await?.expect(409)?;
    let back = json!({ "reason": "broken", "restock": false });
    client.ask(paid, "cancel", 20, back).await?.expect(200)?;
    let cancelled = document(&client, paid).await?;

    let mut reader = Reader::from_first(&shop.place).await?;
    let (id, now) = (paid.to_string(), [reserved, confirmed, cancelled]);
    let all = [
        "payment.unmatched",
        "order.reserved",
        "order.extended",
        "order.confirmed",
        "order.cancelled",
    ];
    reader
        .until("all five", |reader| reader.types(&id).len() == all.len())
        .await?;
    assert_eq!(reader.types(&id), all);
    for (revision, document) in [1, 3, 4].into_iter().zip(&now) {
        let event = &reader.events[&format!("{id}/{revision}")];
        assert_eq!(&event["data"], document);
        assert_eq!(
            [&event["source"], &event["datacontenttype"], &event["time"]],
            [
                &json!("hotrow"),
                &json!("application/json"),
                &document["updated_at"]
            ]
        );
    }
    let unmatched = reader.of(&id).find(|it| it["type"] == "payment.unmatched");
    let data = &unmatched.expect("it was looked for")["data"];
    assert_eq!(data["order"], now[1], "the order as it stood then");
    let rest = [
        &data["payment_reference"],
        &data["why"],
        &data["amount_minor"],
    ];
    assert_eq!(
        rest,
        [&json!("pi_2"), &json!("paid_by_another"), &Value::Null]
    );
    everything_is_out(&shop.place).await
}

#[tokio::test]
async fn a_hold_that_nobody_pays_is_told_and_so_is_stock_that_turns() -> anyhow::Result<()> {
    let (shop, ingest, _worker) = open().await?;
    let client = ingest.client()?;
    chairs(&client, 2, 1).await?;
    let id = order(&client, "c-1", 2).await?;
    let mut reader = Reader::from_first(&shop.place).await?;
    let subject = id.to_string();
    reader
        .until("the expiry", |reader| reader.types(&subject).len() == 2)
        .await?;
    assert_eq!(reader.types(&subject), ["order.reserved", "order.expired"]);
    client
        .restock(CHAIR, 3, Some("k"))
        .await?
        .expect_success()?;
    client
        .restock(CHAIR, 3, Some("k"))
        .await?
        .expect_success()?;
    reader
        .until("five changes", |reader| reader.of(CHAIR).count() >= 5)
        .await?;
    everything_is_out(&shop.place).await?;
    reader.catch_up().await?;
    let mut told: Vec<_> = reader.of(CHAIR).map(|it| &it["data"]).collect();
    told.sort_by_key(|data| data["version"].as_i64());
    let told: Vec<_> = told
        .into_iter()
        .map(|data| [&data["cause"], &data["available"], &data["held"]].map(ToString::to_string))
        .collect();
    let expected = [
        ["\"put\"", "2", "0"],
        ["\"patch\"", "2", "0"],
        ["\"sold_out\"", "0", "2"],
        ["\"reopened\"", "2", "0"],
        ["\"restock\"", "5", "0"],
    ];
    assert_eq!(told, expected.map(|line| line.map(str::to_owned)));
    Ok(())
}

#[tokio::test]
async fn rejected_orders_are_told_only_where_somebody_wants_them() -> anyhow::Result<()> {
    let shop = Shop::open(2).await?;
    let ingest = shop.ingest().start().await?;
    let mut quiet = hasty(&shop).start().await?;
    let client = ingest.client()?;
    // One is left, so that the door is open to those who want two.
    shop.stock("scarce", 1).await?;
    let rejected = async |customer: &str| order_of(&client, customer, &[("scarce", 2)]).await;
    rejected("c-1").await?;
    quiet.terminate()?;
    quiet.ended(A_WHILE).await?;
    let named = hasty(&shop).set("EVENTS_SOURCE", "shop-7");
    let telling = named.clone().set("EVENTS_REJECTED", "true");
    let _telling = telling.start().await?;
    let told = rejected("c-2").await?.to_string();
    let mut reader = Reader::from_first(&shop.place).await?;
    reader
        .until("the second", |reader| !reader.types(&told).is_empty())
        .await?;
    assert_eq!(reader.events.len(), 1);
    let event = reader.events.values().next().expect("one");
    assert_eq!(event["type"], "order.rejected");
    assert_eq!(event["source"], "shop-7");
    // Whoever names the type gets it, too.
    replay(&named, &["--type", "order.rejected"]).await?;
    reader
        .until("the first", |reader| reader.events.len() == 2)
        .await
}

/// Orders something, and returns the order's id once it is settled.
async fn order_of(client: &Client, customer: &str, items: &[(&str, u32)]) -> anyhow::Result<Uuid> {
    let id = client.order(customer, items).await?.expect(202)?;
    let id = id.order_id()?;
    client.settled(id, 20).await?.expect(200)?;
    Ok(id)
}

#[tokio::test]
async fn without_events_there_is_no_stream_and_nothing_waits_to_be_told() -> anyhow::Result<()> {
    let shop = Shop::open(2).await?;
    let _worker = hasty(&shop).set("EVENTS", "off").start().await?;
    let ingest = shop.ingest().set("EVENTS", "off").start().await?;
    let client = ingest.client()?;
    chairs(&client, 2, 600).await?;
    order(&client, "c-1", 2).await?;
    everything_is_out(&shop.place).await?;
    assert!(Reader::from_first(&shop.place).await.is_err(), "a stream");
    let since = "2026-01-01T00:00:00Z";
    let replay = ["events", "replay", "--since", since, "--until", since];
    let off = hasty(&shop).set("EVENTS", "off").run(&replay).await?;
    assert!(!off.status.success());
    let said = String::from_utf8_lossy(&off.stderr);
    assert!(said.contains("EVENTS is off"), "{said}");
    let on = hasty(&shop).run(&replay).await?;
    let said = String::from_utf8_lossy(&on.stderr);
    assert!(said.contains("--since must be before --until"), "{said}");
    Ok(())
}

#[tokio::test]
async fn a_stream_with_other_limits_is_taken_as_it_is_and_another_queue_of_its_name_is_not()
-> anyhow::Result<()> {
    let (shop, ingest, _worker) = open().await?;
    let other = hasty(&shop).set("EVENTS_RETENTION", "1h");
    let _second = other.set("EVENTS_BYTES_MAX", "50MiB").start().await?;
    let client = ingest.client()?;
    chairs(&client, 5, 600).await?;
    let id = order(&client, "c-1", 1).await?.to_string();
    let mut reader = Reader::from_first(&shop.place).await?;
    reader
        .until("an event", |reader| !reader.types(&id).is_empty())
        .await?;

    for kind in ["classic", "quorum"] {
        let shop = Shop::open(1).await?;
        let mut arguments = FieldTable::default();
        let kind = AMQPValue::LongString(kind.into());
        arguments.insert("x-queue-type".into(), kind);
        let channel = shop.channel().await?;
        let durable = QueueDeclareOptions::durable();
        channel
            .queue_declare("hotrow.events".into(), durable, arguments)
            .await?;
        let refused = hasty(&shop).run(&[]).await?;
        assert!(!refused.status.success());
        let said = String::from_utf8_lossy(&refused.stderr);
        assert!(said.contains("the queue hotrow.events is there"), "{said}");
    }
    Ok(())
}

#[tokio::test]
async fn a_dead_letter_is_an_event_and_so_is_what_becomes_of_it_later() -> anyhow::Result<()> {
    let (shop, _ingest, _worker) = open().await?;
    shop.stock(CHAIR, 5).await?;
    shop.sql(TROUBLE).await?;
    let order = shop.order("c-1", &[(CHAIR, 1)]);
    shop.publish(std::slice::from_ref(&order)).await?;
    let id = order.id.to_string();
    let mut reader = Reader::from_first(&shop.place).await?;
    reader
        .until("the failure", |reader| {
            reader.types(&id) == ["order.failed"]
        })
        .await?;
    shop.sql("drop trigger trouble on orders").await?;
    let output = hasty(&shop)
        .run(&["dead-letters", "replay", "--all"])
        .await?;
    assert!(output.status.success());
    reader
        .until("the outcome", |reader| {
            reader.types(&id) == ["order.failed", "order.confirmed"]
        })
        .await?;
    let failed = &reader.events[&format!("{id}/1")]["data"];
    assert_eq!(
        [&failed["status"], &failed["reason"], &failed["customer_id"]],
        [&json!("failed"), &json!("dead_lettered"), &json!("c-1")]
    );
    Ok(())
}

/// The advisory lock of the worker that sweeps the outbox.
const SWEEP_LOCK: i64 = 0x686f_7472_6f77_0006;

#[tokio::test]
async fn a_failure_that_is_replayed_before_its_event_is_out_is_told_all_the_same()
-> anyhow::Result<()> {
    let shop = Shop::open(2).await?;
    shop.stock(CHAIR, 5).await?;
    // Nobody sweeps meanwhile.
    let mut sweeping = shop.place.database().await?;
    sqlx::query("select pg_advisory_lock($1)")
        .bind(SWEEP_LOCK)
        .execute(&mut sweeping)
        .await?;
    let _worker = hasty(&shop).start().await?;
    shop.sql(TROUBLE).await?;
    let order = shop.order("c-1", &[(CHAIR, 1)]);
    shop.publish(std::slice::from_ref(&order)).await?;
    shop.settled(std::slice::from_ref(&order), A_WHILE).await?;
    shop.sql("drop trigger trouble on orders").await?;
    let output = hasty(&shop)
        .run(&["dead-letters", "replay", "--all"])
        .await?;
    assert!(output.status.success());
    let what = "the order to be confirmed";
    wait::until(what, A_WHILE, async || {
        let row = shop.row(&order).await.ok()?;
        (row.status == "confirmed").then_some(())
    })
    .await?;
    sweeping.close().await?;
    let mut reader = Reader::from_first(&shop.place).await?;
    let id = order.id.to_string();
    reader
        .until("both", |reader| {
            reader.types(&id) == ["order.failed", "order.confirmed"]
        })
        .await
}

#[tokio::test]
async fn a_replay_makes_the_same_events_from_the_tables_to_the_letter() -> anyhow::Result<()> {
    let (shop, ingest, _worker) = open().await?;
    let client = ingest.client()?;
    chairs(&client, 3, 600).await?;
    let id = order(&client, "c-1", 3).await?;
    let more = json!({ "seconds": 700 });
    client.ask(id, "extend", 20, more).await?.expect(200)?;
    let payment = json!({ "payment_reference": "pi_1" });
    client.ask(id, "confirm", 20, payment).await?.expect(200)?;
    let other = json!({ "payment_reference": "pi_2", "currency": "EUR" });
    client.ask(id, "confirm", 20, other).await?.expect(409)?;
    client.ask(id, "cancel", 20, json!({})).await?.expect(200)?;
    let mut reader = Reader::from_first(&shop.place).await?;
    everything_is_out(&shop.place).await?;
    // put, patch, sold_out, reopened, reserved, extended, confirmed, unmatched, cancelled.
    reader.has(9).await?;
    let (events, received) = (reader.events.clone(), reader.received);
    assert_eq!(received, events.len(), "none comes twice while all is well");

    let said = replay(&hasty(&shop), &[]).await?;
    assert_eq!(said, "9 events were published again\n");
    reader
        .until("all again", |reader| reader.received >= received + 9)
        .await?;
    // The reader refuses an event that comes a second time and says something else.
    assert_eq!(reader.events, events);
    let said = replay(&hasty(&shop), &["--type", "order.confirmed"]).await?;
    assert_eq!(said, "1 events were published again\n");
    let untold = replay(&hasty(&shop), &["--type", "webhook.disabled"]).await;
    let untold = untold.expect_err("no table has it").to_string();
    assert!(untold.contains("cannot be published again"), "{untold}");
    Ok(())
}

/// What the tables say, against what events alone say.
async fn assert_rebuilt(place: &Place, reader: &Reader) -> anyhow::Result<usize> {
    let mut database = place.database().await?;
    let orders: Vec<(Uuid, i32, String)> = sqlx::query_as(
        "select order_id, revision, status from orders_now
         where alias_of is null and status <> 'rejected' and not is_replayed",
    )
    .fetch_all(&mut database)
    .await?;
    let told = reader.orders();
    for (id, revision, status) in &orders {
        let told = told.get(&id.to_string());
        let stands = told.map(|it| (it["revision"].as_i64(), it["status"].as_str()));
        let stands_there = (Some(i64::from(*revision)), Some(status.as_str()));
        assert_eq!(stands, Some(stands_there), "{id}");
    }
    assert_eq!(told.len(), orders.len(), "events of what did not happen");
    let stock: Vec<(String, i64, i64, i64)> = sqlx::query_as(
        "select distinct on (sku) sku, version, available, held
         from inventory_changes order by sku, version desc",
    )
    .fetch_all(&mut database)
    .await?;
    let told = reader.stock();
    for (sku, version, available, held) in &stock {
        let told = told.get(sku).unwrap_or(&Value::Null);
        let stands = ["version", "available", "held"].map(|name| told[name].as_i64());
        assert_eq!(
            stands,
            [Some(*version), Some(*available), Some(*held)],
            "{sku}"
        );
    }
    assert_eq!(told.len(), stock.len());
    Ok(orders.len())
}
