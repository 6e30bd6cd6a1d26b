//! Claims about idempotency keys: one key of one customer is one order, wherever and how often it
//! comes in.

use futures_util::future::try_join_all;
use hotrow_tests::{client, wait};

use super::{
    CHAIR, SOON, Stock, assert_accepted, assert_refused, ingest, orders_of, place, post, put_up,
    settled, stock, worker,
};

#[tokio::test]
async fn a_key_sent_100_times_at_once_to_two_processes_is_one_order_with_one_effect()
-> anyhow::Result<()> {
    let place = place().await?;
    let settings = ingest(&place);
    let (here, there, _worker) = (
        settings.start().await?,
        settings.start().await?,
        worker(&place).start().await?,
    );
    put_up(&here, CHAIR, 1_000).await?;
    let (here, there) = (here.client()?, there.client()?);
    let one = [(CHAIR, 1)];
    let at_once = (0..100).map(|number| {
        let client = if number % 2 == 0 { &here } else { &there };
        client.order_with_key("c-1", &one, "the-key")
    });
    let answers = try_join_all(at_once).await?;
    let order_id = assert_accepted(&answers[0]);
    for answer in &answers {
        assert_eq!(assert_accepted(answer), order_id);
    }
    assert_eq!(settled(&here, order_id).await?["status"], "confirmed");

    // The last of all: when it is settled, so is whatever was queued before it.
    let last = assert_accepted(&here.order("c-last", &one).await?);
    settled(&here, last).await?;
    let mut database = place.database().await?;
    assert_eq!(orders_of(&mut database, "c-1").await?, 1);
    let left = Stock {
        available: 998,
        ledger: 998,
        sold: 2,
    };
    assert_eq!(stock(&mut database, CHAIR).await?, left);
    Ok(())
}

#[tokio::test]
async fn a_key_names_one_order_of_one_customer_in_either_spelling() -> anyhow::Result<()> {
    let place = place().await?;
    let settings = ingest(&place);
    let (here, there) = (settings.start().await?, settings.start().await?);
    put_up(&here, CHAIR, 10).await?;
    let order = async |ingest, customer: &str, quantity, key: &str| {
        let body = client::order(customer, &[(CHAIR, quantity)]).to_string();
        post(ingest, &[("idempotency-key", key.as_bytes())], body).await
    };
    let plain = assert_accepted(&order(&here, "c-1", 1, "k-1").await?);
    assert_eq!(
        assert_accepted(&order(&here, "c-1", 1, "\"k-1\"").await?),
        plain
    );
    assert_eq!(
        assert_accepted(&order(&there, "c-1", 1, "\"k-1\"").await?),
        plain
    );
    let longest = "k".repeat(255);
    let others = [
        assert_accepted(&order(&here, "c-2", 1, "k-1").await?),
        assert_accepted(&order(&here, "c-1", 1, "K-1").await?),
        assert_accepted(&order(&here, "c-1", 1, &longest).await?),
        assert_accepted(&post(&here, &[], client::order("c-1", &[(CHAIR, 1)]).to_string()).await?),
    ];
    assert!(!others.contains(&plain));

    // The same key for something else is refused where it is known, and has no effect where it is not.
    let body = client::order("c-1", &[(CHAIR, 1), ("table", 1)]).to_string();
    let other_items = post(&here, &[("idempotency-key", b"k-1")], body).await?;
    assert_refused(&other_items, 422, "idempotency_mismatch");
    assert_refused(
        &order(&here, "c-1", 2, "k-1").await?,
        422,
        "idempotency_mismatch",
    );
    let elsewhere = order(&there, "c-1", 3, "k-1").await?;
    if elsewhere.status == 202 {
        assert_eq!(assert_accepted(&elsewhere), plain);
    } else {
        assert_refused(&elsewhere, 422, "idempotency_mismatch");
    }

    let _worker = worker(&place).start().await?;
    let client = here.client()?;
    let last = assert_accepted(&client.order("c-last", &[(CHAIR, 1)]).await?);
    settled(&client, last).await?;
    let document = settled(&client, plain).await?;
    assert_eq!(document["items"][0]["quantity"], 1, "the first body counts");
    let mut database = place.database().await?;
    let left = Stock {
        available: 4,
        ledger: 4,
        sold: 6,
    };
    assert_eq!(stock(&mut database, CHAIR).await?, left);
    Ok(())
}

#[tokio::test]
async fn a_keyed_buyer_of_the_last_piece_who_repeats_the_request_is_not_told_sold_out()
-> anyhow::Result<()> {
    let place = place().await?;
    let settings = ingest(&place);
    let (here, there, _worker) = (
        settings.start().await?,
        settings.start().await?,
        worker(&place).start().await?,
    );
    put_up(&here, CHAIR, 1).await?;
    let (here, there) = (here.client()?, there.client()?);
    let one = [(CHAIR, 1)];
    let bought = assert_accepted(&here.order_with_key("c-1", &one, "mine").await?);
    assert_eq!(settled(&here, bought).await?["status"], "confirmed");
    for client in [&here, &there] {
        wait::until("the door to be closed", SOON, async || {
            // Without a key: a keyed one that came in before the door closed would be a known repeat.
            let late = client.order("c-2", &one).await.ok()?;
            (late.status == 409).then_some(())
        })
        .await?;
        let repeated = client.order_with_key("c-1", &one, "mine").await?;
        assert_eq!(assert_accepted(&repeated), bought);
        assert_refused(&client.order("c-1", &one).await?, 409, "sold_out");
        assert_refused(
            &client.order_with_key("c-1", &one, "another").await?,
            409,
            "sold_out",
        );
    }
    assert_eq!(settled(&there, bought).await?["status"], "confirmed");
    assert_eq!(orders_of(&mut place.database().await?, "c-1").await?, 1);
    Ok(())
}
