//! What is believed, and what is told where no worker runs.

use std::fs;

use chrono::{TimeDelta, Utc};
use futures_util::future::try_join_all;
use hotrow_shared::id::IdMint;
use hotrow_tests::{processes::ORDER_ID_SECRET, wait};
use nix::sys::signal::Signal;
use reqwest::Method;
use serde_json::{Value, json};
use uuid::Uuid;

use super::{
    CAPTURABLE, PATH, PRICE, PROCESSING, SECRET, SUCCEEDED, Unmatched, assert_done, counted,
    deliver, event, ingest, intent, now, tell, tell_of, unmatched, v1,
};
use crate::{
    events::reader::{Reader, everything_is_out},
    http::{SOON, assert_refused, changes::settle, envelopes, place, raw, send, worker},
};

#[tokio::test]
async fn what_stripe_did_not_sign_is_refused_and_only_what_it_did_is_queued() -> anyhow::Result<()>
{
    let place = place().await?;
    let order = settle(&mut place.database().await?, "reserved", None).await?;
    let ingest = ingest(&place).start().await?;
    let body = event(SUCCEEDED, &intent(&order.to_string(), "pi_1")).to_string();
    let now = now();
    let right = v1(SECRET, now, &body);
    let foreign = v1("whsec_of_another_endpoint", now, &body);
    let changed = body.replace("4990", "4991");
    let at = |sent_at: i64| format!("t={sent_at},v1={}", v1(SECRET, sent_at, &body));
    let wrong: [(String, &str); 9] = [
        (format!("t={now},v1={foreign}"), &body),
        (format!("t={now},v1={right}"), &changed),
        (format!("t={},v1={right}", now - 1), &body),
        (at(now - 400), &body),
        (at(now + 400), &body),
        (format!("t={now},v0={right}"), &body),
        (format!("v1={right}"), &body),
        ("nonsense".to_owned(), &body),
        (format!("t={now},v1={foreign}"), "no JSON"),
    ];
    for (signature, body) in &wrong {
        let answer = deliver(&ingest, signature, body).await?;
        let refused = assert_refused(&answer, 400, "malformed");
        let detail = refused["detail"].as_str().unwrap_or_default();
        assert!(detail.contains("Stripe-Signature"), "{detail}");
    }
    let json: (&str, &[u8]) = ("content-type", b"application/json");
    let bare = send(&ingest, Method::POST, PATH, &[json], body.clone()).await?;
    assert_refused(&bare, 400, "malformed");
    let header = format!("t={now},v1={right}");
    let signed = ("stripe-signature", header.as_bytes());
    let twice = send(
        &ingest,
        Method::POST,
        PATH,
        &[json, signed, signed],
        body.clone(),
    )
    .await?;
    assert_refused(&twice, 400, "malformed");
    assert_eq!(envelopes(&place).await?, 0, "nothing was queued");
    assert!(!ingest.has_logged(SECRET));
    counted(&ingest, &[("bad_signature", 11)]).await?;

    let both = format!("t={now},v1={foreign},v1={right},v0=6ffbb59b");
    for (signature, queued) in [(at(now - 200), 1), (at(now + 200), 2), (both, 3)] {
        assert_done(&deliver(&ingest, &signature, &body).await?, "confirm");
        assert_eq!(envelopes(&place).await?, queued);
    }
    counted(&ingest, &[("bad_signature", 11), ("confirm", 3)]).await
}

#[tokio::test]
async fn a_signed_event_that_cannot_be_read_is_refused_and_an_amount_of_nothing_is_one()
-> anyhow::Result<()> {
    let place = place().await?;
    let order = settle(&mut place.database().await?, "reserved", None).await?;
    let ingest = ingest(&place).start().await?;
    let order = order.to_string();
    let with = |member: &str, value: Value| {
        let mut intent = intent(&order, "pi_1");
        intent[member] = value;
        event(SUCCEEDED, &intent)
    };
    let wrong = [
        json!("text"),
        json!({ "type": SUCCEEDED }),
        json!({ "type": SUCCEEDED, "livemode": true }),
        with("id", json!("two words")),
        with("id", json!("p".repeat(256))),
        with("amount_received", Value::Null),
        with("amount_received", json!(-1)),
        with("currency", Value::Null),
    ];
    for event in &wrong {
        assert_refused(&tell(&ingest, event).await?, 400, "malformed");
    }
    assert_eq!(envelopes(&place).await?, 0, "nothing was queued");
    let nothing = with("amount_received", json!(0));
    assert_done(&tell(&ingest, &nothing).await?, "confirm");
    assert_eq!(envelopes(&place).await?, 1);
    let query = "/v1/payments/stripe?livemode=true";
    let answer = send(&ingest, Method::POST, query, &[], "").await?;
    assert_refused(&answer, 400, "malformed");
    counted(&ingest, &[("malformed", 8), ("confirm", 1)]).await
}

#[tokio::test]
async fn other_types_other_modes_and_payments_for_no_order_are_taken_and_change_nothing()
-> anyhow::Result<()> {
    let place = place().await?;
    let mut database = place.database().await?;
    let order = settle(&mut database, "reserved", None).await?.to_string();
    let live = ingest(&place).start().await?;
    let test = ingest(&place)
        .set("STRIPE_LIVEMODE", "false")
        .start()
        .await?;
    let paid = intent(&order, "pi_1");
    let mut of_test = event(SUCCEEDED, &paid);
    of_test["livemode"] = json!(false);
    assert_done(&tell(&live, &of_test).await?, "other_mode");
    assert_done(&tell_of(&test, SUCCEEDED, &paid).await?, "other_mode");
    for r#type in [
        "payment_intent.canceled",
        "payment_intent.payment_failed",
        "payment_intent.created",
        "charge.succeeded",
        "checkout.session.completed",
    ] {
        assert_done(&tell_of(&live, r#type, &paid).await?, "ignored");
    }
    let thin = json!({ "type": "v1.billing.meter.no_meter_found", "livemode": true });
    assert_done(&tell(&live, &thin).await?, "ignored");
    let mut of_others = paid.clone();
    for metadata in [json!({}), json!({ "invoice": "7" }), Value::Null] {
        of_others["metadata"] = metadata;
        for r#type in [SUCCEEDED, CAPTURABLE, PROCESSING] {
            assert_done(&tell_of(&live, r#type, &of_others).await?, "no_order");
        }
    }
    assert_eq!(envelopes(&place).await?, 0, "nothing was queued");
    assert_eq!(unmatched(&mut database).await?, []);
    counted(&live, &[("other_mode", 1), ("ignored", 6), ("no_order", 9)]).await?;
    assert_done(&tell(&test, &of_test).await?, "confirm");
    counted(&test, &[("other_mode", 1), ("confirm", 1)]).await
}

#[tokio::test]
async fn a_payment_for_an_order_that_is_not_known_is_listed_once() -> anyhow::Result<()> {
    let place = place().await?;
    let mut database = place.database().await?;
    let ingest = ingest(&place).start().await?;
    let month_ago = Utc::now() - TimeDelta::days(40);
    let mint = IdMint::new(ORDER_ID_SECRET, None);
    let no_longer_kept = mint
        .mint(month_ago.timestamp_millis().unsigned_abs())
        .to_string();
    let made_up = Uuid::new_v4().to_string();
    let (long, cut) = ("ü".repeat(500), "ü".repeat(255));
    // The name as the shop wrote it, and as it is listed.
    let in_capitals = no_longer_kept.to_uppercase();
    let names: [(&str, &str); 6] = [
        (made_up.as_str(), made_up.as_str()),
        (
            "order no. 7; drop table orders",
            "order no. 7; drop table orders",
        ),
        (&in_capitals, &no_longer_kept),
        ("a\0b", "a\u{fffd}b"),
        (&long, &cut),
        (" ", " "),
    ];
    for (name, _) in names {
        let processing = tell_of(&ingest, PROCESSING, &intent(name, "pi_1")).await?;
        assert_done(&processing, "unknown_order");
    }
    assert_eq!(unmatched(&mut database).await?, [], "nothing is paid yet");
    for _ in 0..3 {
        let told = names.map(async |(name, _)| {
            let (one, other) = (intent(name, "pi_1"), intent(name, "pi_2"));
            tokio::try_join!(
                tell_of(&ingest, SUCCEEDED, &one),
                tell_of(&ingest, SUCCEEDED, &one),
                tell_of(&ingest, CAPTURABLE, &other)
            )
        });
        for (first, again, other) in try_join_all(told).await? {
            assert_done(&first, "unknown_order");
            assert_done(&again, "unknown_order");
            assert_done(&other, "unknown_order");
        }
    }
    let mut listed = unmatched(&mut database).await?;
    listed.sort();
    let row = |order_id: &str, reference: &str| Unmatched {
        order_id: order_id.to_owned(),
        payment_reference: reference.to_owned(),
        amount_minor: Some(PRICE),
        currency: Some("EUR".to_owned()),
        why: "unknown_order".to_owned(),
    };
    let mut expected: Vec<_> = names
        .iter()
        .flat_map(|(_, name)| [row(name, "pi_1"), row(name, "pi_2")])
        .collect();
    expected.sort();
    assert_eq!(listed, expected);
    assert_eq!(envelopes(&place).await?, 0, "nothing was queued");
    let shown = ingest.client()?.get("/v1/payments/unmatched").await?;
    let shown = shown.expect(200)?.json()?;
    assert_eq!(shown["payments"].as_array().map(Vec::len), Some(12));
    counted(&ingest, &[("unknown_order", 6 + 3 * 18)]).await?;

    let _worker = worker(&place).start().await?;
    everything_is_out(&place).await?;
    let mut reader = Reader::from_first(&place).await?;
    reader.has(expected.len()).await?;
    for row in &expected {
        let data = reader.of(&row.order_id).map(|event| &event["data"]);
        let mut told = data.filter(|it| it["payment_reference"] == row.payment_reference);
        let told = told.next().expect("one");
        assert_eq!(
            (&told["why"], &told["order"]),
            (&json!("unknown_order"), &Value::Null)
        );
    }
    Ok(())
}

#[tokio::test]
async fn without_a_secret_there_is_no_such_route() -> anyhow::Result<()> {
    let place = place().await?;
    let order = settle(&mut place.database().await?, "reserved", None).await?;
    let closed = crate::http::ingest(&place).start().await?;
    let paid = intent(&order.to_string(), "pi_1");
    let answer = tell_of(&closed, SUCCEEDED, &paid).await?;
    assert_refused(&answer, 404, "not_found");
    let client = closed.client()?;
    assert_refused(&client.get(PATH).await?, 404, "not_found");
    let open = ingest(&place).start().await?;
    let client = open.client()?;
    assert_refused(&client.get(PATH).await?, 405, "method_not_allowed");
    assert_eq!(envelopes(&place).await?, 0, "nothing was queued");
    counted(&closed, &[]).await
}

#[tokio::test]
async fn an_event_may_be_large_and_a_crowd_of_large_bodies_keeps_no_small_one_out()
-> anyhow::Result<()> {
    const CROWD: usize = 128;
    let place = place().await?;
    let order = settle(&mut place.database().await?, "reserved", None).await?;
    let ingest = ingest(&place).start().await?;
    let small = intent(&order.to_string(), "pi_1");
    let large = |size: usize| {
        let mut large = small.clone();
        large["description"] = json!("x".repeat(size));
        event(SUCCEEDED, &large)
    };
    assert_done(&tell(&ingest, &large(250 * 1024)).await?, "confirm");
    let too_large = tell(&ingest, &large(256 * 1024)).await?;
    assert_refused(&too_large, 413, "too_large");
    counted(&ingest, &[("confirm", 1)]).await?;

    // Bodies that never come, of whoever knows what a header looks like.
    let head = format!(
        "POST {PATH} HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 200000\r\n\
         stripe-signature: t={},v1=00\r\n\r\n",
        now()
    );
    let large = large(100_000);
    let mut crowd = Vec::new();
    wait::until("no room to be left for a large event", SOON, async || {
        let more = (0..CROWD).map(async |_| {
            let mut client = raw::Client::connect(&ingest).await?;
            client.send(&head).await?;
            anyhow::Ok(client)
        });
        crowd = try_join_all(more).await.ok()?;
        let answer = tell(&ingest, &large).await.ok()?;
        (answer.status == 503).then(|| assert_refused(&answer, 503, "overloaded"))
    })
    .await?;
    assert_done(&tell_of(&ingest, SUCCEEDED, &small).await?, "confirm");
    drop(crowd);
    wait::until("room for a large event", SOON, async || {
        let answer = tell(&ingest, &large).await.ok()?;
        (answer.status == 200).then_some(())
    })
    .await
}

#[tokio::test]
async fn a_sighup_replaces_the_secret_that_events_are_signed_with() -> anyhow::Result<()> {
    const NEXT: &str = "whsec_that_stripe_shows_after_it_was_rolled";
    let place = place().await?;
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("secret");
    fs::write(&path, format!("{SECRET}\n"))?;
    let ingest = crate::http::ingest(&place)
        .set("STRIPE_WEBHOOK_SECRET_FILE", path.to_string_lossy())
        .start()
        .await?;
    let signed_with = async |secret: &str| {
        let body = event("payment_intent.created", &intent("none", "pi_1")).to_string();
        let signature = format!("t={0},v1={1}", now(), v1(secret, now(), &body));
        deliver(&ingest, &signature, &body).await
    };
    assert_done(&signed_with(SECRET).await?, "ignored");
    fs::write(&path, format!("{NEXT}\n"))?;
    assert_refused(&signed_with(NEXT).await?, 400, "malformed");
    ingest.signal(Signal::SIGHUP)?;
    wait::until("the next secret to count", SOON, async || {
        let answer = signed_with(NEXT).await.ok()?;
        (answer.status == 200).then_some(())
    })
    .await?;
    assert_refused(&signed_with(SECRET).await?, 400, "malformed");
    Ok(())
}
