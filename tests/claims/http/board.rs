//! Claims about the board: every process knows the state of every SKU, with news and without.

use std::time::Duration;

use hotrow_tests::{
    Client, Process,
    client::{Answer, Product},
    wait,
};
use reqwest::Method;
use serde_json::json;
use sqlx::Executor;

use super::{
    CHAIR, SOON, assert_accepted, assert_refused, hold_chairs, ingest, one, patch_chairs, place,
    post, put_up, settled, stock, worker,
};

/// The contract of whatever changes at a door.
const KNOWN_WITHIN: Duration = Duration::from_secs(1);

/// Waits until the door says of a purchase what is asked for, within the time of the contract.
async fn says(
    client: &Client,
    what: &str,
    expected: impl Fn(&Answer) -> bool,
) -> anyhow::Result<Answer> {
    wait::until(what, KNOWN_WITHIN, async || {
        let answer = client.order("c-9", &[(CHAIR, 1)]).await.ok()?;
        expected(&answer).then_some(answer)
    })
    .await
}

fn is_all_held(answer: &Answer) -> bool {
    answer.json().is_ok_and(|body| body["state"] == "all_held")
}

fn is_sold_out(answer: &Answer) -> bool {
    let body = answer.json().unwrap_or_default();
    body["code"] == "sold_out" && body.get("state").is_none()
}

#[tokio::test]
async fn a_put_changes_what_is_free_and_leaves_held_goods_alone() -> anyhow::Result<()> {
    let place = place().await?;
    let ingest = ingest(&place).start().await?;
    let client = ingest.client()?;
    let mut database = place.database().await?;
    put_up(&ingest, CHAIR, 5).await?;
    database
        .execute("update inventory set held = 3, version = version + 1 where sku = 'chair'")
        .await?;
    let put = client.put_inventory(CHAIR, Product::chairs(9)).await?;
    let put = put.expect(200)?.json()?;
    assert_eq!(
        [&put["available"], &put["held"], &put["state"]],
        [&json!(9), &json!(3), &json!("open")]
    );
    let books = stock(&mut database, CHAIR).await?;
    assert_eq!((books.available, books.ledger), (9, 9));
    Ok(())
}

#[tokio::test]
async fn the_state_of_a_product_says_whether_it_is_for_sale_and_whether_it_may_come_back()
-> anyhow::Result<()> {
    let place = place().await?;
    let ingest = ingest(&place).start().await?;
    let client = ingest.client()?;
    let mut database = place.database().await?;
    put_up(&ingest, CHAIR, 5).await?;
    let states = [
        (5, 0, "open"),
        (2, 3, "open"),
        (0, 3, "all_held"),
        (0, 0, "sold_out"),
    ];
    for (available, held, state) in states {
        sqlx::query("update inventory set available = $1, held = $2, version = version + 1")
            .bind(available)
            .bind(held)
            .execute(&mut database)
            .await?;
        let shown = wait::until(state, KNOWN_WITHIN + KNOWN_WITHIN / 2, async || {
            let shown = client.inventory(CHAIR).await.ok()?.json().ok()?;
            (shown["available"] == available && shown["held"] == held).then_some(shown)
        })
        .await?;
        let listed = client.get("/v1/inventory").await?.expect(200)?.json()?;
        for product in [&shown, &listed["inventory"][0]] {
            assert_eq!(product["state"], state, "{product}");
            assert_eq!(product["held"], held, "{product}");
            assert_eq!(product["sold_out"], available == 0, "{product}");
        }
    }
    Ok(())
}

#[tokio::test]
async fn while_goods_are_held_the_door_says_so_and_when_to_try_again() -> anyhow::Result<()> {
    let place = place().await?;
    let settings = ingest(&place);
    let (here, there) = (settings.start().await?, settings.start().await?);
    put_up(&here, CHAIR, 0).await?;
    put_up(&here, "gone", 0).await?;
    let mut database = place.database().await?;
    // By hand, so that there is no news of it.
    let mut set = async |available: i64, held: i64| -> anyhow::Result<()> {
        let set = "update inventory set available = $1, held = $2, version = version + 1 where sku = 'chair'";
        let set = sqlx::query(set).bind(available).bind(held);
        set.execute(&mut database).await?;
        Ok(())
    };
    let doors = [here.client()?, there.client()?];
    for door in &doors {
        let refused = says(door, "sold out", is_sold_out).await?;
        assert_refused(&refused, 409, "sold_out");
        assert_eq!(refused.header("retry-after"), None);
    }
    set(0, 3).await?;
    for door in &doors {
        let refused = says(door, "all held", is_all_held).await?;
        assert_refused(&refused, 409, "sold_out");
        assert_eq!(refused.header("retry-after"), Some("5"));
        // Waiting does not bring back the other item.
        let cart = door.order("c-1", &[(CHAIR, 1), ("gone", 1)]).await?;
        assert!(is_sold_out(&cart), "{:?}", cart.json());
    }
    set(0, 0).await?;
    for door in &doors {
        says(door, "sold out", is_sold_out).await?;
    }
    set(2, 1).await?;
    for door in &doors {
        assert_accepted(&says(door, "open", |answer| answer.status == 202).await?);
    }
    // A sale that the door hears nothing of closes it all the same, because somebody wants to buy.
    set(0, 3).await?;
    for door in &doors {
        says(door, "all held", is_all_held).await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_keyed_repeat_of_the_order_that_holds_the_last_piece_passes_the_door()
-> anyhow::Result<()> {
    let place = place().await?;
    let ingest = ingest(&place).start().await?;
    let _worker = worker(&place).start().await?;
    let client = ingest.client()?;
    put_up(&ingest, CHAIR, 1).await?;
    hold_chairs(&client, 600).await?;
    let buy = async |process: &Process, key: &str| {
        let key = [("idempotency-key", key.as_bytes())];
        post(process, &key, one(CHAIR)).await
    };
    let first = assert_accepted(&buy(&ingest, "first").await?);
    assert_eq!(settled(&client, first).await?["status"], "reserved");
    wait::until("all to be held", SOON, async || {
        let late = client.order("c-2", &[(CHAIR, 1)]).await.ok()?;
        is_all_held(&late).then_some(())
    })
    .await?;
    assert_eq!(assert_accepted(&buy(&ingest, "first").await?), first);
    let late = buy(&ingest, "second").await?;
    assert_refused(&late, 409, "sold_out");
    assert!(is_all_held(&late));
    let shown = client.inventory(CHAIR).await?.json()?;
    assert_eq!(
        [&shown["available"], &shown["held"], &shown["state"]],
        [&json!(0), &json!(1), &json!("all_held")]
    );
    Ok(())
}

#[tokio::test]
async fn a_change_is_shown_at_once_here_and_within_a_second_elsewhere() -> anyhow::Result<()> {
    let place = place().await?;
    let settings = ingest(&place);
    let (here, there) = (settings.start().await?, settings.start().await?);
    put_up(&here, CHAIR, 5).await?;
    let (here, there) = (here.client()?, there.client()?);
    for number in 0..10 {
        let title = format!("Chair {number}");
        there.inventory(CHAIR).await?.expect(200)?;
        let change = json!({ "title": title, "sale": { "hold_seconds": 60 + number } });
        patch_chairs(&here, change).await?.expect(200)?;
        let shown = here.inventory(CHAIR).await?.json()?;
        assert_eq!(shown["title"], *title);
        assert_eq!(shown["sale"]["hold_seconds"], 60 + number);
        wait::until(
            "the change to be shown elsewhere",
            KNOWN_WITHIN,
            async || {
                let shown = there.inventory(CHAIR).await.ok()?.json().ok()?;
                (shown["title"] == *title && shown["sale"]["hold_seconds"] == 60 + number)
                    .then_some(())
            },
        )
        .await?;
    }
    Ok(())
}

#[tokio::test]
async fn once_the_last_held_goods_are_paid_the_door_says_that_they_are_sold_out()
-> anyhow::Result<()> {
    let place = place().await?;
    let ingest = ingest(&place).start().await?;
    let _worker = worker(&place).start().await?;
    let client = ingest.client()?;
    put_up(&ingest, CHAIR, 1).await?;
    hold_chairs(&client, 600).await?;
    let shows = async |state: &str, held: i64| {
        wait::until(state, SOON, async || {
            let shown = client.inventory(CHAIR).await.ok()?.json().ok()?;
            (shown["state"] == state && shown["held"] == held).then_some(())
        })
        .await
    };
    shows("open", 0).await?;
    let id = assert_accepted(&client.order("c-1", &[(CHAIR, 1)]).await?);
    assert_eq!(settled(&client, id).await?["status"], "reserved");
    let refused = says(&client, "all held", is_all_held).await?;
    assert_refused(&refused, 409, "sold_out");
    assert_eq!(refused.header("retry-after"), Some("5"));
    shows("all_held", 1).await?;

    let path = format!("/v1/orders/{id}/confirm?wait=20");
    let payment = Some(json!({ "payment_reference": "pi_1" }));
    let paid = client.send(Method::POST, &path, &[], payment).await?;
    paid.expect(200)?;
    says(&client, "sold out", is_sold_out).await?;
    shows("sold_out", 0).await
}
