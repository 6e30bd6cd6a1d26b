//! Claims about who may buy, when, and how much, as the door says it.

use std::time::Duration;

use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};
use hotrow_tests::{
    Client,
    client::{Answer, Product},
    wait,
};
use reqwest::Method;
use serde_json::{Value, json};

use super::{
    CHAIR, SOON, assert_accepted, assert_refused, ingest, patch_chairs, place, put_up, settled,
    worker,
};

/// The contract of whatever changes at a door.
const KNOWN_WITHIN: Duration = Duration::from_secs(1);

fn text(time: DateTime<Utc>) -> String {
    time.to_rfc3339_opts(SecondsFormat::Millis, true)
}

/// Gives the chairs these rules and no others.
async fn rule(client: &Client, sale: Value) -> anyhow::Result<()> {
    patch_chairs(client, json!({ "sale": null }))
        .await?
        .expect(200)?;
    patch_chairs(client, json!({ "sale": sale }))
        .await?
        .expect(200)?;
    Ok(())
}

/// A purchase of one item, as it stands in the body.
async fn buy(client: &Client, customer: &str, item: Value) -> anyhow::Result<Answer> {
    let body = json!({ "customer_id": customer, "items": [item] });
    client
        .send(Method::POST, "/v1/orders", &[], Some(body))
        .await
}

async fn buy_chairs(client: &Client, customer: &str, quantity: u32) -> anyhow::Result<Answer> {
    client.order(customer, &[(CHAIR, quantity)]).await
}

async fn state(client: &Client) -> anyhow::Result<Value> {
    Ok(client.inventory(CHAIR).await?.expect(200)?.json()?["state"].clone())
}

#[tokio::test]
async fn a_sale_opens_and_closes_by_the_clock_at_every_process() -> anyhow::Result<()> {
    let place = place().await?;
    let settings = ingest(&place);
    let (here, there) = (settings.start().await?, settings.start().await?);
    let doors = [here.client()?, there.client()?];
    put_up(&here, CHAIR, 100).await?;
    let opens_at = Utc::now() + TimeDelta::seconds(4);
    let closes_at = opens_at + TimeDelta::seconds(3);
    let window = json!({ "opens_at": text(opens_at), "closes_at": text(closes_at) });
    rule(&doors[0], window).await?;
    for door in &doors {
        let refused = wait::until("the rule to be known", KNOWN_WITHIN, async || {
            let answer = buy_chairs(door, "c-1", 1).await.ok()?;
            (answer.status == 409).then_some(answer)
        });
        let problem = assert_refused(&refused.await?, 409, "not_open");
        assert_eq!(problem["opens_at"], text(opens_at));
        assert_eq!(state(door).await?, "not_open");
    }
    let mut states = Vec::new();
    while states.last().is_none_or(|state| state != "closed") {
        anyhow::ensure!(
            Utc::now() < closes_at + TimeDelta::seconds(15),
            "it never closes"
        );
        for door in &doors {
            let before = Utc::now();
            let answer = buy_chairs(door, "c-1", 1).await?;
            let after = Utc::now();
            let code = answer.code().unwrap_or_default();
            // Clocks are measured to some milliseconds.
            let margin = TimeDelta::milliseconds(100);
            let (early, late) = (before + margin, after - margin);
            if early < opens_at - margin {
                assert_ne!(answer.status, 202, "{} before", opens_at - after);
            }
            if late > opens_at + margin && early < closes_at - margin {
                assert_eq!(answer.status, 202, "open: {code}");
            }
            if late > closes_at + margin {
                assert_refused(&answer, 409, "closed");
            }
            states.push(code);
        }
    }
    assert_eq!(state(&doors[1]).await?, "closed");
    assert!(
        states.iter().any(String::is_empty),
        "it was open: {states:?}"
    );
    Ok(())
}

#[tokio::test]
async fn a_paused_product_is_refused_and_what_was_accepted_before_is_settled() -> anyhow::Result<()>
{
    let place = place().await?;
    let ingest = ingest(&place).start().await?;
    let client = ingest.client()?;
    put_up(&ingest, CHAIR, 5).await?;
    put_up(&ingest, "table", 5).await?;
    let accepted = assert_accepted(&buy_chairs(&client, "c-1", 1).await?);
    rule(&client, json!({ "paused": true })).await?;
    assert_refused(&buy_chairs(&client, "c-2", 1).await?, 409, "paused");
    assert_eq!(state(&client).await?, "paused");
    let cart = client.order("c-2", &[("table", 1), (CHAIR, 1)]).await?;
    assert_refused(&cart, 409, "paused");
    assert_accepted(&client.order("c-2", &[("table", 1)]).await?);
    let _worker = worker(&place).start().await?;
    assert_eq!(settled(&client, accepted).await?["status"], "confirmed");
    rule(&client, json!({ "paused": false })).await?;
    assert_accepted(&buy_chairs(&client, "c-2", 1).await?);
    Ok(())
}

#[tokio::test]
async fn more_than_an_order_or_a_customer_may_have_is_refused_with_the_limit() -> anyhow::Result<()>
{
    let place = place().await?;
    let ingest = ingest(&place).start().await?;
    let _worker = worker(&place).start().await?;
    let client = ingest.client()?;
    put_up(&ingest, CHAIR, 100).await?;
    // What was bought before the rule does not count.
    let before = assert_accepted(&buy_chairs(&client, "c-1", 9).await?);
    assert_eq!(settled(&client, before).await?["status"], "confirmed");
    rule(
        &client,
        json!({ "max_per_order": 2, "max_per_customer": 3 }),
    )
    .await?;
    let problem = assert_refused(&buy_chairs(&client, "c-1", 3).await?, 409, "limit_reached");
    assert_eq!(problem["limit"], 2);
    rule(&client, json!({ "max_per_customer": 3 })).await?;
    let problem = assert_refused(&buy_chairs(&client, "c-1", 4).await?, 409, "limit_reached");
    assert_eq!(problem["limit"], 3);

    // What the customer has already only the worker knows.
    let outcome = async |customer, quantity| {
        let id = assert_accepted(&buy_chairs(&client, customer, quantity).await?);
        let document = settled(&client, id).await?;
        anyhow::Ok((document["status"].clone(), document["reason"].clone()))
    };
    let yes = (json!("confirmed"), Value::Null);
    let no = (json!("rejected"), json!("limit_reached"));
    assert_eq!(outcome("c-1", 2).await?, yes);
    assert_eq!(outcome("c-1", 2).await?, no);
    assert_eq!(outcome("c-1", 1).await?, yes);
    assert_eq!(outcome("c-1", 1).await?, no);
    assert_eq!(outcome("c-2", 3).await?, yes);
    Ok(())
}

#[tokio::test]
async fn a_price_that_the_buyer_saw_has_to_be_the_price() -> anyhow::Result<()> {
    let place = place().await?;
    let ingest = ingest(&place).start().await?;
    let _worker = worker(&place).start().await?;
    let client = ingest.client()?;
    put_up(&ingest, CHAIR, 5).await?;
    let seen = |price: Value| json!({ "sku": CHAIR, "quantity": 1, "unit_price_minor": price });
    let bought = buy(&client, "c-1", seen(json!(4990))).await?;
    let document = settled(&client, assert_accepted(&bought)).await?;
    assert_eq!(document["total_minor"], 4990);
    let raised = json!({ "unit_price_minor": 5990 });
    patch_chairs(&client, raised).await?.expect(200)?;
    let refused = buy(&client, "c-1", seen(json!(4990))).await?;
    let problem = assert_refused(&refused, 409, "price_changed");
    assert_eq!(problem["unit_price_minor"], 5990);
    assert_accepted(&buy(&client, "c-1", seen(json!(5990))).await?);
    for wrong in [json!(-1), json!("4990"), json!(49.9), Value::Null] {
        let answer = buy(&client, "c-1", seen(wrong)).await?;
        let problem = assert_refused(&answer, 422, "invalid");
        let pointer = &problem["errors"][0]["pointer"];
        assert_eq!(pointer, "/items/0/unit_price_minor");
    }
    Ok(())
}

#[tokio::test]
async fn a_cart_of_two_currencies_is_refused_at_the_door() -> anyhow::Result<()> {
    let place = place().await?;
    let ingest = ingest(&place).start().await?;
    let client = ingest.client()?;
    put_up(&ingest, CHAIR, 5).await?;
    let import =
        json!({ "title": "Import", "unit_price_minor": 1, "currency": "USD", "available": 5 });
    let path = "/v1/inventory/import";
    let put = client.send(Method::PUT, path, &[], Some(import)).await?;
    put.expect(201)?;
    let cart = client.order("c-1", &[(CHAIR, 1), ("import", 1)]).await?;
    let problem = assert_refused(&cart, 409, "currency_mismatch");
    let detail = problem["detail"].as_str().unwrap_or_default();
    assert!(
        detail.contains("import is priced in another currency"),
        "{problem}"
    );
    assert_accepted(&client.order("c-1", &[("import", 1)]).await?);
    Ok(())
}

#[tokio::test]
async fn a_product_is_unknown_once_the_database_said_so_and_known_within_a_second()
-> anyhow::Result<()> {
    let place = place().await?;
    let settings = ingest(&place);
    let (here, there) = (settings.start().await?, settings.start().await?);
    let door = here.client()?;
    let unknown = wait::until("the door to know", SOON, async || {
        let answer = door.order("c-1", &[("sofa", 1)]).await.ok()?;
        // The first pass: the door does not know yet.
        (answer.status == 422).then_some(answer)
    });
    assert_refused(&unknown.await?, 422, "unknown_sku");
    put_up(&there, "sofa", 5).await?;
    wait::until("the sofa to be known", KNOWN_WITHIN, async || {
        let answer = door.order("c-1", &[("sofa", 1)]).await.ok()?;
        (answer.status == 202).then_some(())
    })
    .await
}

#[tokio::test]
async fn a_repeat_gets_its_order_whatever_the_door_says_by_now() -> anyhow::Result<()> {
    let place = place().await?;
    let (ingest, _worker) = (ingest(&place).start().await?, worker(&place).start().await?);
    let client = ingest.client()?;
    put_up(&ingest, CHAIR, 5).await?;
    let buy = async |customer, key| client.order_with_key(customer, &[(CHAIR, 2)], key).await;
    let id = assert_accepted(&buy("c-1", "k-1").await?);
    settled(&client, id).await?;
    let over = Utc::now() - TimeDelta::seconds(1);
    for (rules, code) in [
        (json!({ "closes_at": text(over) }), "closed"),
        (json!({ "paused": true }), "paused"),
        (json!({ "max_per_order": 1 }), "limit_reached"),
    ] {
        rule(&client, rules).await?;
        // Another process has no memory of it.
        let other = super::ingest(&place).start().await?;
        let there = other.client()?;
        let again = there.order_with_key("c-1", &[(CHAIR, 2)], "k-1").await?;
        assert_eq!(assert_accepted(&again), id, "{code}");
        let new = there.order_with_key("c-1", &[(CHAIR, 2)], "k-2").await?;
        assert_refused(&new, 409, code);
    }
    rule(
        &client,
        json!({ "opens_at": text(Utc::now() + TimeDelta::hours(1)) }),
    )
    .await?;
    assert_refused(&buy("c-1", "k-1").await?, 409, "not_open");
    Ok(())
}

#[tokio::test]
async fn a_change_by_etag_holds_against_administrators_and_not_against_settlements()
-> anyhow::Result<()> {
    let place = place().await?;
    let (ingest, _worker) = (ingest(&place).start().await?, worker(&place).start().await?);
    let client = ingest.client()?;
    let path = format!("/v1/inventory/{CHAIR}");
    let change = async |method: Method, tag: &str, body: Value| {
        let headers = [("if-match", tag)];
        client.send(method, &path, &headers, Some(body)).await
    };
    let chairs =
        || json!({ "title": "Chair", "unit_price_minor": 1, "currency": "EUR", "available": 5 });
    let absent = change(Method::PUT, "*", chairs()).await?;
    assert_refused(&absent, 412, "precondition_failed");
    assert_eq!(
        client.inventory(CHAIR).await?.status,
        404,
        "nothing was made"
    );
    let put = client
        .put_inventory(CHAIR, Product::chairs(5))
        .await?
        .expect(201)?;
    let tag = put.header("etag").unwrap_or_default().to_owned();
    let id = assert_accepted(&buy_chairs(&client, "c-1", 1).await?);
    settled(&client, id).await?;
    let shown = client.inventory(CHAIR).await?;
    assert_eq!(
        shown.header("etag"),
        Some(&*tag),
        "a settlement does not move it"
    );
    let asked = [("if-none-match", &*tag)];
    let read = client.send(Method::GET, &path, &asked, None).await?;
    assert_eq!(read.status, 200, "If-None-Match is for others");

    let title = json!({ "title": "A better chair" });
    let patched = change(Method::PATCH, &tag, title.clone())
        .await?
        .expect(200)?;
    let newer = patched.header("etag").unwrap_or_default().to_owned();
    assert_ne!(newer, tag);
    for (method, body) in [(Method::PATCH, title), (Method::PUT, chairs())] {
        let late = change(method, &tag, body).await?;
        assert_refused(&late, 412, "precondition_failed");
    }
    let several = format!("\"no\", {newer}");
    change(Method::PUT, &several, chairs()).await?.expect(200)?;
    let malformed = change(Method::PUT, "7", chairs()).await?;
    assert_refused(&malformed, 400, "malformed");
    Ok(())
}

#[tokio::test]
async fn a_clock_that_is_two_seconds_fast_opens_no_door_early() -> anyhow::Result<()> {
    let place = place().await?;
    let mut database = place.database().await?;
    // To the database this machine is fast.
    sqlx::raw_sql(
        "create function public.clock_timestamp() returns timestamptz language sql volatile as
             $$ select pg_catalog.clock_timestamp() - interval '2 seconds' $$;
         do $$ begin
             execute format('alter database %I set search_path = public, pg_catalog', current_database());
         end $$;",
    )
    .execute(&mut database)
    .await?;
    let (ingest, _worker) = (ingest(&place).start().await?, worker(&place).start().await?);
    let client = ingest.client()?;
    put_up(&ingest, CHAIR, 1_000).await?;
    let opens_at = Utc::now() + TimeDelta::seconds(1);
    let opened_at = opens_at + TimeDelta::seconds(2);
    rule(&client, json!({ "opens_at": text(opens_at) })).await?;
    let first = wait::until("the door to open", SOON, async || {
        let answer = buy_chairs(&client, "c-1", 1).await.ok()?;
        (answer.status == 202).then(|| (Utc::now(), answer))
    });
    let (at, answer) = first.await?;
    assert!(
        at > opened_at - TimeDelta::milliseconds(100),
        "{}",
        opened_at - at
    );
    let document = settled(&client, assert_accepted(&answer)).await?;
    assert_eq!(document["status"], "confirmed", "{document}");
    Ok(())
}
