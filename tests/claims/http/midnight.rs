//! Claims about midnight: a key's day ends, and the purchase is still one.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{SystemTime, UNIX_EPOCH},
};

use hotrow_shared::id::Day;
use hotrow_tests::{Client, Place, client::Product, law::Verdict};
use serde_json::{Value, json};
use uuid::Uuid;

use super::{
    CHAIR, PARTITIONS, Stock, assert_accepted, assert_refused, hold_chairs, orders_of, place,
    settled, stock, worker,
};
use crate::{
    events::reader::{Reader, everything_is_out},
    inside::{self, Inside},
};

#[tokio::test]
async fn a_key_repeated_after_midnight_is_one_order_with_two_names() -> anyhow::Result<()> {
    let place = place().await?;
    let midnight = midnight_ms()?;
    let clocks = [midnight - 1_000, midnight + 1_000].map(|now| Arc::new(AtomicU64::new(now)));
    let [before, after] = &clocks;
    let evening = ingest(&place, before).await?;
    let morning = ingest(&place, after).await?;
    let product = Product::chairs(1_000);
    let put = evening.client.put_inventory(CHAIR, product);
    put.await?.expect(201)?;
    let one = [(CHAIR, 1)];

    // Both are in the queue when the worker comes: they may be of one batch.
    let queued = [
        assert_accepted(&evening.client.order_with_key("c-1", &one, "k").await?),
        assert_accepted(&morning.client.order_with_key("c-1", &one, "k").await?),
    ];
    // And the other way round, as clocks of two machines differ.
    let swapped = [
        assert_accepted(&morning.client.order_with_key("c-2", &one, "k").await?),
        assert_accepted(&evening.client.order_with_key("c-2", &one, "k").await?),
    ];
    let _worker = worker(&place).start().await?;
    same_order(&evening, &morning, queued).await?;
    same_order(&evening, &morning, swapped).await?;

    // The one of the new day is settled when that of the old day comes, with the worker's own clock
    // far from midnight.
    let ahead = assert_accepted(&morning.client.order_with_key("c-4", &one, "k").await?);
    settled(&evening.client, ahead).await?;
    let behind = assert_accepted(&evening.client.order_with_key("c-4", &one, "k").await?);
    same_order(&evening, &morning, [ahead, behind]).await?;

    // The first is settled when the second comes, at a process that sees midnight pass.
    let first = assert_accepted(&evening.client.order_with_key("c-3", &one, "k").await?);
    settled(&evening.client, first).await?;
    before.store(midnight, Ordering::Relaxed);
    let second = assert_accepted(&evening.client.order_with_key("c-3", &one, "k").await?);
    same_order(&evening, &morning, [first, second]).await?;
    let again = assert_accepted(&morning.client.order_with_key("c-3", &one, "k").await?);
    assert_eq!(again, second, "the new day has one name, too");

    let last = assert_accepted(&morning.client.order("c-last", &one).await?);
    settled(&morning.client, last).await?;
    let mut database = place.database().await?;
    for customer in ["c-1", "c-2", "c-3", "c-4"] {
        assert_eq!(orders_of(&mut database, customer).await?, 1, "{customer}");
    }
    let left = Stock {
        available: 995,
        ledger: 995,
        sold: 5,
    };
    assert_eq!(stock(&mut database, CHAIR).await?, left);
    Ok(())
}

/// Checks that two names of an order tell of one outcome, at both processes.
async fn same_order(here: &Inside, there: &Inside, names: [Uuid; 2]) -> anyhow::Result<()> {
    assert_ne!(names[0], names[1]);
    let mut outcomes = Vec::new();
    for (client, name) in [
        (&here.client, names[0]),
        (&here.client, names[1]),
        (&there.client, names[0]),
        (&there.client, names[1]),
    ] {
        let mut document = settled(client, name).await?;
        assert_eq!(document["order_id"], json!(name));
        let first = (name != names[0]).then_some(names[0]);
        assert_eq!(document["alias_of"], json!(first));
        document["order_id"] = Value::Null;
        document["alias_of"] = Value::Null;
        assert_eq!(document["status"], "confirmed");
        outcomes.push(document);
    }
    assert!(
        outcomes.iter().all(|outcome| *outcome == outcomes[0]),
        "{outcomes:#?}"
    );
    Ok(())
}

#[tokio::test]
async fn an_order_is_read_and_changed_by_the_name_that_its_key_gets_after_midnight()
-> anyhow::Result<()> {
    let place = place().await?;
    let midnight = midnight_ms()?;
    let clocks = [midnight - 1_000, midnight + 1_000].map(|now| Arc::new(AtomicU64::new(now)));
    let here = ingest(&place, &clocks[0]).await?;
    let there = ingest(&place, &clocks[1]).await?;
    let (evening, morning) = (&here.client, &there.client);
    evening
        .put_inventory(CHAIR, Product::chairs(3))
        .await?
        .expect(201)?;
    hold_chairs(evening, 600).await?;
    let _worker = worker(&place).start().await?;
    let order = async |client: &Client| {
        let accepted = client.order_with_key("c-1", &[(CHAIR, 1)], "k").await?;
        let id = assert_accepted(&accepted);
        anyhow::Ok((id, settled(client, id).await?))
    };
    let (first, document) = order(evening).await?;
    assert_eq!(document["status"], "reserved");
    let (alias, document) = order(morning).await?;
    assert_named(&document, alias, first, "reserved", 1);

    let extended = morning.ask(alias, "extend", 20, json!({ "seconds": 3_000 }));
    let extended = extended.await?.expect(200)?.json()?;
    assert_named(&extended, alias, first, "reserved", 2);
    let paid = |reference| json!({ "payment_reference": reference, "amount_minor": 4_990 });
    let confirmed = morning.ask(alias, "confirm", 20, paid("pi_1"));
    let confirmed = confirmed.await?.expect(200)?.json()?;
    assert_named(&confirmed, alias, first, "confirmed", 3);
    assert_eq!(confirmed["payment_reference"], "pi_1");
    // The same payment by the other name is the same payment, and another one did not pay.
    let again = evening.ask(first, "confirm", 20, paid("pi_1"));
    let again = again.await?.expect(200)?.json()?;
    assert_eq!(
        [&again["order_id"], &again["alias_of"], &again["revision"]],
        [&json!(first), &Value::Null, &json!(3)]
    );
    let second = evening.ask(alias, "confirm", 20, paid("pi_2")).await?;
    let conflict = assert_refused(&second, 409, "conflict");
    assert_named(&conflict["order"], alias, first, "confirmed", 3);
    let listed = morning.get("/v1/payments/unmatched").await?.json()?;
    assert_eq!(listed["payments"][0]["order_id"], json!(first));
    let cancelled = morning.ask(alias, "cancel", 20, json!({})).await?;
    assert_named(
        &cancelled.expect(200)?.json()?,
        alias,
        first,
        "cancelled",
        4,
    );

    let history = async |client: &Client, id: Uuid| {
        let history = client.get(&format!("/v1/orders/{id}/changes")).await?;
        history.expect(200)?.json()
    };
    assert_eq!(
        history(morning, alias).await?,
        history(evening, first).await?
    );
    let mut reader = Reader::from_first(&place).await?;
    everything_is_out(&place).await?;
    reader.catch_up().await?;
    assert!(reader.types(&alias.to_string()).is_empty());
    let told = [
        "payment.unmatched",
        "order.reserved",
        "order.extended",
        "order.confirmed",
        "order.cancelled",
    ];
    assert_eq!(reader.types(&first.to_string()), told);
    let verdict = Verdict::read(&mut place.database().await?, &[first, alias]).await?;
    assert!(verdict.holds(), "{verdict}");
    assert_eq!(verdict.accounts[0].available, 3);
    Ok(())
}

#[track_caller]
fn assert_named(document: &Value, alias: Uuid, first: Uuid, status: &str, revision: i64) {
    let found = ["order_id", "alias_of", "status", "revision"].map(|name| document[name].clone());
    let expected = [json!(alias), json!(first), json!(status), json!(revision)];
    assert_eq!(found, expected, "{document}");
}

async fn ingest(place: &Place, clock: &Arc<AtomicU64>) -> anyhow::Result<Inside> {
    inside::ingest(place, PARTITIONS, &place.amqp_url, clock).await
}

/// The next UTC midnight: the worker has made tables for the days on both sides of it.
fn midnight_ms() -> anyhow::Result<u64> {
    let now_ms = SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis();
    Ok(Day(Day::of_ms(u64::try_from(now_ms)?).0 + 1).start_ms())
}
