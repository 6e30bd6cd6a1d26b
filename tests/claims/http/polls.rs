//! Claims about polls: what is told of an order before, while and after it is settled, and of ids
//! that are none.

use std::{collections::BTreeSet, time::Instant};

use hotrow_tests::{Mode, Proxy, client, processes::ORDER_ID_SECRET, wait};
use serde_json::{Value, json};
use uuid::Uuid;

use super::{
    CHAIR, SOON, assert_accepted, assert_refused, ingest, one, orders_of, place, post, put_up,
    settled, stock, worker,
};

#[tokio::test]
async fn a_202_says_where_and_when_to_ask_and_a_poll_before_the_worker_reads_queued()
-> anyhow::Result<()> {
    let place = place().await?;
    let ingest = ingest(&place).start().await?;
    let answer = post(&ingest, &[], one(CHAIR)).await?;
    let order_id = assert_accepted(&answer);
    let status_url = format!("/v1/orders/{order_id}");
    let wait_ms = answer.json()?["estimated_wait_ms"].clone();
    assert!(wait_ms.as_u64().is_some_and(|ms| ms > 0), "{wait_ms}");
    let receipt = json!({
        "order_id": order_id, "status": "queued", "status_url": status_url, "estimated_wait_ms": wait_ms,
    });
    assert_eq!(answer.json()?, receipt);
    assert_eq!(answer.header("content-type"), Some("application/json"));
    assert_eq!(answer.header("location"), Some(&*status_url));
    assert!(
        answer
            .header("retry-after")
            .is_some_and(|wait| wait.parse::<u32>().is_ok())
    );

    let client = ingest.client()?;
    let poll = client.get(&status_url).await?.expect(200)?;
    let found = poll.json()?;
    let members: BTreeSet<_> = found
        .as_object()
        .into_iter()
        .flatten()
        .map(|(name, _)| &**name)
        .collect();
    assert_eq!(
        members,
        BTreeSet::from(["order_id", "status", "estimated_wait_ms"])
    );
    assert_eq!(
        (&found["order_id"], &found["status"]),
        (&json!(order_id), &json!("queued"))
    );
    assert!(
        found["estimated_wait_ms"].as_u64().is_some_and(|ms| ms > 0),
        "{found}"
    );
    assert!(
        poll.header("retry-after")
            .is_some_and(|wait| wait.parse::<u32>().is_ok())
    );
    assert_eq!(poll.header("content-type"), Some("application/json"));

    // An id with any digit changed, and one in another spelling, was never issued.
    let text = order_id.to_string();
    let damaged = [0, 15, 20, 35].map(|at| {
        let digit = if &text[at..=at] == "0" { "1" } else { "0" };
        format!("{}{digit}{}", &text[..at], &text[at + 1..])
    });
    let made_up = [
        Uuid::nil().to_string(),
        Uuid::new_v4().to_string(),
        Uuid::from_bytes(order_id.into_bytes().map(u8::reverse_bits)).to_string(),
        text.replace('-', ""),
        text.to_uppercase() + "0",
        format!("{text}/"),
        "1".to_owned(),
    ];
    for id in damaged.iter().chain(&made_up) {
        assert_refused(
            &client.get(&format!("/v1/orders/{id}")).await?,
            404,
            "not_found",
        );
    }
    let several = client
        .get(&format!("/v1/orders?ids={text},{}", damaged[3]))
        .await?;
    assert_refused(&several, 404, "not_found");
    Ok(())
}

#[tokio::test]
async fn an_id_of_the_previous_secret_is_known_and_of_a_dropped_one_is_not() -> anyhow::Result<()> {
    let place = place().await?;
    let settings = ingest(&place);
    let rotated = settings
        .clone()
        .set("ORDER_ID_SECRET", "the-secret-that-comes-next");
    let old = settings.start().await?;
    put_up(&old, CHAIR, 10).await?;
    let order = client::order("c-1", &[(CHAIR, 1)]).to_string();
    let keyed = [("idempotency-key", &b"k"[..])];
    let waiting = assert_accepted(&post(&old, &keyed, order.clone()).await?);
    old.terminate()?;

    let both = rotated
        .clone()
        .set("ORDER_ID_SECRET_PREVIOUS", ORDER_ID_SECRET);
    let (both, new) = (both.start().await?, rotated.start().await?);
    let answer = both.client()?.status(waiting).await?.expect(200)?;
    assert_eq!(answer.json()?["status"], "queued");
    assert_refused(&new.client()?.status(waiting).await?, 404, "not_found");

    // A repeat across the rotation is the same purchase.
    let repeated = assert_accepted(&post(&both, &keyed, order).await?);
    let _worker = worker(&place)
        .set("ORDER_ID_SECRET", "the-secret-that-comes-next")
        .set("ORDER_ID_SECRET_PREVIOUS", ORDER_ID_SECRET)
        .start()
        .await?;
    let client = both.client()?;
    for order_id in [waiting, repeated] {
        assert_eq!(settled(&client, order_id).await?["status"], "confirmed");
    }
    assert_eq!(stock(&mut place.database().await?, CHAIR).await?.sold, 1);
    Ok(())
}

#[tokio::test]
async fn a_preferred_wait_holds_the_answer_until_the_order_is_settled_and_no_longer()
-> anyhow::Result<()> {
    let place = place().await?;
    let ingest = ingest(&place).start().await?;
    put_up(&ingest, CHAIR, 10).await?;
    let client = ingest.client()?;
    let order_id = assert_accepted(&client.order("c-1", &[(CHAIR, 1)]).await?);

    let asked = Instant::now();
    let unsettled = client.settled(order_id, 1).await?.expect(200)?;
    assert!(
        asked.elapsed().as_millis() >= 1_000,
        "{:?}",
        asked.elapsed()
    );
    assert_eq!(unsettled.header("preference-applied"), Some("wait=1"));
    assert_eq!(unsettled.json()?["status"], "queued");
    assert!(unsettled.header("retry-after").is_some());
    let plain = client.status(order_id).await?;
    assert_eq!(plain.header("preference-applied"), None);

    let held = {
        let client = client.clone();
        tokio::spawn(async move { client.settled(order_id, 3_600).await })
    };
    let asked = Instant::now();
    let _worker = worker(&place).start().await?;
    let held = held.await??.expect(200)?;
    assert!(asked.elapsed().as_secs() < 29, "woken, not timed out");
    assert_eq!(held.json()?["status"], "confirmed");
    assert_eq!(
        held.header("preference-applied"),
        Some("wait=30"),
        "the longest there is"
    );
    assert_eq!(held.header("retry-after"), None);
    Ok(())
}

#[tokio::test]
async fn several_orders_are_told_in_the_order_asked() -> anyhow::Result<()> {
    let place = place().await?;
    let ingest = ingest(&place).start().await?;
    put_up(&ingest, CHAIR, 2).await?;
    // One is left, so that the door is open to those who want two.
    put_up(&ingest, "scarce", 1).await?;
    let client = ingest.client()?;
    let mut ids = Vec::new();
    for number in 0..99 {
        let customer = format!("c-{number}");
        ids.push(assert_accepted(
            &client.order(&customer, &[("scarce", 2)]).await?,
        ));
    }
    let worker = worker(&place).start().await?;
    settled(&client, ids[98]).await?;
    worker.kill()?;
    drop(worker);
    // One is still queued, between those that are settled.
    let queued = assert_accepted(&client.order("c-1", &[(CHAIR, 1)]).await?);
    ids.insert(50, queued);
    ids.reverse();

    let body = client.statuses(&ids).await?.expect(200)?.json()?;
    let orders = body["orders"].as_array().cloned().unwrap_or_default();
    let told: Vec<_> = orders
        .iter()
        .map(|order| order["order_id"].clone())
        .collect();
    assert_eq!(told, ids.iter().map(|id| json!(id)).collect::<Vec<_>>());
    for order in &orders {
        let settled = order["order_id"] != json!(queued);
        assert_eq!(order["status"], if settled { "rejected" } else { "queued" });
        assert_eq!(
            order["reason"],
            if settled {
                json!("sold_out")
            } else {
                Value::Null
            }
        );
    }
    let alone = client.status(ids[0]).await?.json()?;
    assert_eq!(orders[0], alone);

    ids.push(queued);
    assert_refused(&client.statuses(&ids).await?, 422, "invalid");
    assert_refused(&client.statuses(&[]).await?, 422, "invalid");
    let twice = client
        .statuses(&[ids[0], ids[0]])
        .await?
        .expect(200)?
        .json()?;
    assert_eq!(twice["orders"], json!([alone, alone]));
    Ok(())
}

#[tokio::test]
async fn an_outcome_reads_the_same_to_the_byte_from_the_news_and_from_the_database()
-> anyhow::Result<()> {
    let place = place().await?;
    let database = Proxy::in_front_of(&place.database_url).await?;
    let settings = ingest(&place);
    let there = settings
        .clone()
        .set("DATABASE_URL", database.url(&place.database_url)?);
    let (there, _worker) = (there.start().await?, worker(&place).start().await?);
    put_up(&there, CHAIR, 4).await?;
    put_up(&there, "table", 1).await?;
    let there = there.client()?;

    // Without its database, it has the outcomes from the news alone.
    database.set(Mode::Refuse).await?;
    let mut orders = Vec::new();
    for outcome in OUTCOMES {
        let order_id = assert_accepted(&there.order("c-1", outcome.items).await?);
        orders.push((order_id, outcome));
    }
    let mut books = place.database().await?;
    wait::until("all orders to be settled", SOON, async || {
        let settled = orders_of(&mut books, "c-1").await.ok()?;
        (settled == 4).then_some(())
    })
    .await?;
    // And this one comes after the news.
    let late = settings.start().await?;
    let late = late.client()?;
    for (order_id, outcome) in orders {
        let stored = late.status(order_id).await?.expect(200)?;
        let news = wait::until("news of an order", SOON, async || {
            let answer = there.status(order_id).await.ok()?;
            (answer.status == 200).then_some(answer)
        })
        .await?;
        let texts = [&news, &stored].map(|answer| String::from_utf8_lossy(&answer.body));
        assert_eq!(texts[0], texts[1]);
        assert_document(&stored.json()?, order_id, &outcome)?;
    }
    Ok(())
}

/// What is ordered one after the other, and what becomes of it.
struct Outcome {
    items: &'static [(&'static str, u32)],
    status: &'static str,
    reason: Option<&'static str>,
    total_minor: Option<i64>,
}

const fn confirmed(items: &'static [(&str, u32)], total_minor: i64) -> Outcome {
    Outcome {
        items,
        status: "confirmed",
        reason: None,
        total_minor: Some(total_minor),
    }
}

const fn rejected(items: &'static [(&str, u32)], reason: &'static str) -> Outcome {
    Outcome {
        items,
        status: "rejected",
        reason: Some(reason),
        total_minor: None,
    }
}

const OUTCOMES: [Outcome; 4] = [
    confirmed(&[("table", 1), (CHAIR, 1)], 9_980),
    confirmed(&[(CHAIR, 2)], 9_980),
    // One is left, so that the door is open.
    rejected(&[(CHAIR, 2)], "sold_out"),
    rejected(&[("no-such", 1)], "unknown_sku"),
];

/// Checks a settled order's document, member by member.
fn assert_document(document: &Value, order_id: Uuid, outcome: &Outcome) -> anyhow::Result<()> {
    let price = |sku| (sku != "no-such").then_some(4_990);
    let items = outcome.items.iter().map(|(sku, quantity)| {
        json!({ "sku": sku, "quantity": quantity, "unit_price_minor": price(*sku) })
    });
    let expected = json!({
        "order_id": order_id,
        "alias_of": null,
        "status": outcome.status,
        "revision": 1,
        "reason": outcome.reason,
        "customer_id": "c-1",
        "items": items.collect::<Vec<_>>(),
        "total_minor": outcome.total_minor,
        "currency": outcome.total_minor.map(|_| "EUR"),
        "accepted_at": document["accepted_at"],
        "settled_at": document["settled_at"],
        "updated_at": document["settled_at"],
        "expires_at": null,
        "payment_reference": null,
        "restocked": null,
    });
    assert_eq!(*document, expected);
    let time = |name: &str| {
        let text = document[name].as_str().unwrap_or_default();
        chrono::DateTime::parse_from_rfc3339(text)
    };
    assert!(time("accepted_at")? <= time("settled_at")?, "{document}");
    Ok(())
}
