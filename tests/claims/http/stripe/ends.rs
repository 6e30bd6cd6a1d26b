//! What becomes of payments once a worker has settled them.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use futures_util::future::try_join_all;
use hotrow_tests::{Mode, Proxy, law::Verdict, wait};
use serde_json::{Value, json};

use super::{
    CAPTURABLE, PRICE, PROCESSING, SUCCEEDED, Unmatched, assert_done, becomes, counted, ingest,
    intent, reserve, tell_of, unmatched,
};
use crate::http::{
    CHAIR, SOON, assert_accepted, assert_refused, envelopes, hold_chairs, patch_chairs, place,
    put_up, settled, worker,
};

#[tokio::test]
async fn a_payment_that_stripe_tells_of_confirms_its_order() -> anyhow::Result<()> {
    let place = place().await?;
    let ingest = ingest(&place).start().await?;
    let _worker = worker(&place).start().await?;
    let client = ingest.client()?;
    put_up(&ingest, CHAIR, 2).await?;
    hold_chairs(&client, 600).await?;
    let (paid, authorised) = (reserve(&client).await?, reserve(&client).await?);
    let intents = [
        intent(&paid.to_string(), "pi_1"),
        // In capitals it is the same name.
        intent(&authorised.to_string().to_uppercase(), "pi_2"),
    ];
    assert_done(&tell_of(&ingest, SUCCEEDED, &intents[0]).await?, "confirm");
    assert_done(&tell_of(&ingest, CAPTURABLE, &intents[1]).await?, "confirm");
    for (id, reference) in [(paid, "pi_1"), (authorised, "pi_2")] {
        let document = becomes(&client, id, "confirmed", 2).await?;
        assert_eq!(document["payment_reference"], reference);
        let history = client.get(&format!("/v1/orders/{id}/changes")).await?;
        let history = history.expect(200)?.json()?;
        let change = &history["changes"][1];
        assert_eq!(
            (&change["actor"], &change["role"]),
            (&json!("stripe"), &json!("shop"))
        );
    }
    // The shop takes a part of what was authorised, and Stripe repeats itself.
    let mut captured = intents[1].clone();
    captured["amount_received"] = json!(1_000);
    for _ in 0..3 {
        assert_done(&tell_of(&ingest, SUCCEEDED, &captured).await?, "confirm");
        assert_done(&tell_of(&ingest, CAPTURABLE, &intents[1]).await?, "confirm");
    }
    // A payment behind them in the queue shows that they are settled.
    let other = intent(&authorised.to_string(), "pi_3");
    assert_done(&tell_of(&ingest, SUCCEEDED, &other).await?, "confirm");
    let mut database = place.database().await?;
    let listed = wait::until("the other payment to be listed", SOON, async || {
        let listed = unmatched(&mut database).await.ok()?;
        (!listed.is_empty()).then_some(listed)
    })
    .await?;
    let found: Vec<_> = listed.iter().map(|row| row.why.as_str()).collect();
    assert_eq!(found, ["paid_by_another"]);
    becomes(&client, authorised, "confirmed", 2).await?;
    counted(&ingest, &[("confirm", 9)]).await
}

#[tokio::test]
async fn a_payment_that_came_too_late_stays_unmatched_though_it_is_told_again_and_the_goods_come_back()
-> anyhow::Result<()> {
    let place = place().await?;
    let ingest = ingest(&place).start().await?;
    let hasty = worker(&place)
        .set("DEVELOPMENT", "true")
        .set("HOLD_GRACE", "0s");
    let _worker = hasty.start().await?;
    let client = ingest.client()?;
    put_up(&ingest, CHAIR, 1).await?;
    hold_chairs(&client, 2).await?;
    let late = reserve(&client).await?;
    becomes(&client, late, "expired", 2).await?;
    patch_chairs(&client, json!({ "sale": null }))
        .await?
        .expect(200)?;
    // The last one goes to somebody else, once the door knows that it is back.
    wait::until("the chair to be sold", SOON, async || {
        let answer = client.order("c-2", &[(CHAIR, 1)]).await.ok()?;
        let id = (answer.status == 202).then(|| answer.order_id().ok())??;
        let document = settled(&client, id).await.ok()?;
        (document["status"] == "confirmed").then_some(())
    })
    .await?;

    let mut database = place.database().await?;
    let intent = intent(&late.to_string(), "pi_1");
    for delivery in 0..5 {
        if delivery == 2 {
            client.restock(CHAIR, 10, None).await?.expect(200)?;
        }
        assert_done(&tell_of(&ingest, SUCCEEDED, &intent).await?, "confirm");
        let listed = wait::until("the payment to be listed", SOON, async || {
            let listed = unmatched(&mut database).await.ok()?;
            (!listed.is_empty()).then_some(listed)
        })
        .await?;
        let expected = Unmatched {
            order_id: late.to_string(),
            payment_reference: "pi_1".to_owned(),
            amount_minor: Some(PRICE),
            currency: Some("EUR".to_owned()),
            why: "expired".to_owned(),
        };
        assert_eq!(listed, [expected]);
    }
    // Another payment behind them pays, which shows that they are settled.
    let mut another = intent.clone();
    another["id"] = json!("pi_2");
    assert_done(&tell_of(&ingest, SUCCEEDED, &another).await?, "confirm");
    let paid = becomes(&client, late, "confirmed", 3).await?;
    assert_eq!(paid["payment_reference"], "pi_2");
    assert_eq!(unmatched(&mut database).await?.len(), 1);
    Ok(())
}

#[tokio::test]
async fn another_amount_or_another_currency_pays_no_order() -> anyhow::Result<()> {
    let place = place().await?;
    let ingest = ingest(&place).start().await?;
    let _worker = worker(&place).start().await?;
    let client = ingest.client()?;
    put_up(&ingest, CHAIR, 1).await?;
    hold_chairs(&client, 600).await?;
    let id = reserve(&client).await?;
    let wrong = [
        (SUCCEEDED, "amount_received", json!(PRICE - 1)),
        (SUCCEEDED, "amount_received", json!(0)),
        (CAPTURABLE, "amount_capturable", json!(PRICE + 1)),
        (SUCCEEDED, "currency", json!("usd")),
        (SUCCEEDED, "currency", json!("usdc")),
    ];
    for (number, (r#type, member, value)) in wrong.into_iter().enumerate() {
        let mut intent = intent(&id.to_string(), &format!("pi_{number}"));
        intent[member] = value;
        assert_done(&tell_of(&ingest, r#type, &intent).await?, "confirm");
    }
    let right = intent(&id.to_string(), "pi_right");
    assert_done(&tell_of(&ingest, SUCCEEDED, &right).await?, "confirm");
    let paid = becomes(&client, id, "confirmed", 2).await?;
    assert_eq!(paid["payment_reference"], "pi_right");
    let listed = unmatched(&mut place.database().await?).await?;
    let found: Vec<_> = listed
        .iter()
        .map(|row| (row.amount_minor, row.currency.as_deref(), &*row.why))
        .collect();
    let expected = [
        (PRICE - 1, "EUR"),
        (0, "EUR"),
        (PRICE + 1, "EUR"),
        (PRICE, "USD"),
        (PRICE, "USDC"),
    ]
    .map(|(amount, currency)| (Some(amount), Some(currency), "wrong_amount"));
    assert_eq!(found, expected);
    Ok(())
}

#[tokio::test]
async fn a_payment_that_is_being_processed_extends_the_hold_to_its_maximum() -> anyhow::Result<()> {
    let place = place().await?;
    let ingest = ingest(&place).start().await?;
    let _worker = worker(&place).start().await?;
    let client = ingest.client()?;
    put_up(&ingest, CHAIR, 2).await?;
    for longest in [3_600, 604_800] {
        let rules = json!({ "sale": { "hold_seconds": 600, "hold_seconds_max": longest } });
        patch_chairs(&client, rules).await?.expect(200)?;
        let id = reserve(&client).await?;
        let intent = intent(&id.to_string(), "pi_1");
        for _ in 0..2 {
            assert_done(&tell_of(&ingest, PROCESSING, &intent).await?, "extend");
        }
        let held = becomes(&client, id, "reserved", 2).await?;
        let time = |member: &str| -> anyhow::Result<DateTime<Utc>> {
            Ok(held[member].as_str().unwrap_or_default().parse()?)
        };
        let held_for = time("expires_at")? - time("settled_at")?;
        assert_eq!(held_for, TimeDelta::seconds(longest), "{held}");
        // It is paid by the same intent, and the second extension has changed nothing.
        assert_done(&tell_of(&ingest, SUCCEEDED, &intent).await?, "confirm");
        becomes(&client, id, "confirmed", 3).await?;
        // What Stripe delivers out of order does no harm.
        assert_done(&tell_of(&ingest, PROCESSING, &intent).await?, "extend");
    }
    counted(&ingest, &[("extend", 6), ("confirm", 2)]).await
}

#[tokio::test]
async fn an_event_of_an_order_that_is_still_queued_has_to_come_again() -> anyhow::Result<()> {
    let place = place().await?;
    let ingest = ingest(&place).start().await?;
    let client = ingest.client()?;
    put_up(&ingest, CHAIR, 1).await?;
    hold_chairs(&client, 600).await?;
    let id = assert_accepted(&client.order("c-1", &[(CHAIR, 1)]).await?);
    let intent = intent(&id.to_string(), "pi_1");
    for r#type in [SUCCEEDED, CAPTURABLE, PROCESSING] {
        let answer = tell_of(&ingest, r#type, &intent).await?;
        assert_refused(&answer, 503, "not_settled");
    }
    assert_eq!(envelopes(&place).await?, 1, "the order alone");
    counted(&ingest, &[("not_settled", 3)]).await?;
    let _worker = worker(&place).start().await?;
    wait::until("the event to be taken", SOON, async || {
        let answer = tell_of(&ingest, SUCCEEDED, &intent).await.ok()?;
        (answer.status == 200).then_some(())
    })
    .await?;
    becomes(&client, id, "confirmed", 2).await?;
    assert_eq!(unmatched(&mut place.database().await?).await?, []);
    Ok(())
}

#[tokio::test]
async fn an_event_that_cannot_be_queued_or_noted_has_to_come_again() -> anyhow::Result<()> {
    let place = place().await?;
    let database = Proxy::in_front_of(&place.database_url).await?;
    let broker = Proxy::in_front_of(&place.amqp_url).await?;
    let ingest = ingest(&place)
        .set("DATABASE_URL", database.url(&place.database_url)?)
        .set("AMQP_URL", broker.url(&place.amqp_url)?)
        .start()
        .await?;
    let _worker = worker(&place).start().await?;
    let client = ingest.client()?;
    put_up(&ingest, CHAIR, 1).await?;
    hold_chairs(&client, 600).await?;
    let id = reserve(&client).await?;
    let known = intent(&id.to_string(), "pi_1");
    let unknown = intent("made-up", "pi_1");

    database.set(Mode::Refuse).await?;
    let unavailable = async |intent: &Value| {
        let answer = tell_of(&ingest, SUCCEEDED, intent).await.ok()?;
        (answer.status == 503 && answer.header("retry-after").is_some()).then_some(())
    };
    // What memory tells for a moment may still be queued.
    wait::until("the order to be unknown", SOON, async || {
        unavailable(&known).await
    })
    .await?;
    let noted = unavailable(&unknown).await;
    assert_eq!(noted, Some(()), "nothing can be noted");
    database.set(Mode::Pass).await?;
    broker.set(Mode::Refuse).await?;
    wait::until("the broker to be missed", SOON, async || {
        unavailable(&known).await
    })
    .await?;
    broker.set(Mode::Pass).await?;

    for (intent, outcome) in [(&known, "confirm"), (&unknown, "unknown_order")] {
        wait::until("the event to be taken", SOON, async || {
            let answer = tell_of(&ingest, SUCCEEDED, intent).await.ok()?;
            (answer.status == 200).then(|| assert_done(&answer, outcome))
        })
        .await?;
    }
    becomes(&client, id, "confirmed", 2).await?;
    let listed = unmatched(&mut place.database().await?).await?;
    let found: Vec<_> = listed.iter().map(|row| row.order_id.as_str()).collect();
    assert_eq!(found, ["made-up"]);
    Ok(())
}

#[tokio::test]
async fn a_thousand_payments_at_once_each_told_twice_are_each_confirmed_or_unmatched_once()
-> anyhow::Result<()> {
    const ORDERS: usize = 1_000;
    let place = place().await?;
    let (first, second) = (ingest(&place).start().await?, ingest(&place).start().await?);
    let _worker = worker(&place).start().await?;
    let client = first.client()?;
    put_up(&first, CHAIR, ORDERS.try_into()?).await?;
    hold_chairs(&client, 3_600).await?;
    let orders = (0..ORDERS).map(|_| reserve(&client));
    let orders = try_join_all(orders).await?;

    // Every tenth is paid with too little.
    let deliveries = orders.iter().enumerate().flat_map(|(number, id)| {
        let mut intent = intent(&id.to_string(), &format!("pi_{number}"));
        if number % 10 == 0 {
            intent["amount_received"] = json!(1);
        }
        [(&first, intent.clone()), (&second, intent)]
    });
    let told = deliveries.map(async |(process, intent)| {
        wait::until("an event to be taken", Duration::from_mins(1), async || {
            let answer = tell_of(process, SUCCEEDED, &intent).await.ok()?;
            assert!([200, 503].contains(&answer.status.as_u16()), "{answer:?}");
            (answer.status == 200).then(|| assert_done(&answer, "confirm"))
        })
        .await
    });
    try_join_all(told).await?;

    // One more payment lies in the queue behind all of them, so that what was told twice is settled with it.
    let last = intent(&orders[0].to_string(), "pi_last");
    assert_done(&tell_of(&first, SUCCEEDED, &last).await?, "confirm");
    becomes(&client, orders[0], "confirmed", 2).await?;
    let mut database = place.database().await?;
    let ends = "select (select count(*) from order_changes where status = 'confirmed'),
                       (select count(distinct order_id) from order_changes where status = 'confirmed'),
                       (select count(*) from unmatched_payments where why = 'wrong_amount'),
                       (select count(*) from unmatched_payments)";
    let unpaid = i64::try_from(ORDERS / 10)?;
    let paid = i64::try_from(ORDERS)? - unpaid + 1;
    let found: (i64, i64, i64, i64) = sqlx::query_as(ends).fetch_one(&mut database).await?;
    assert_eq!(found, (paid, paid, unpaid, unpaid));
    let verdict = Verdict::read(&mut database, &[]).await?;
    assert!(verdict.holds(), "{verdict}");
    Ok(())
}
