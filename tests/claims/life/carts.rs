//! Claims about carts of which one item is held: they are held whole and come back whole.

use anyhow::Context;
use hotrow_shared::topology::queue;
use hotrow_tests::{Process, wait};
use lapin::options::QueueDeleteOptions;
use serde_json::json;
use uuid::Uuid;

use super::{pay, reserve, stands};
use crate::worker::shop::{A_WHILE, Shop};

/// The number of partitions, and what it is changed to: fewer, so that some carts went through a queue that is gone.
const PARTITIONS: u16 = 5;
const FEWER: u16 = 3;
/// What there is of each SKU.
const EACH: i64 = 5;

/// A shop with three SKUs of three partitions, by either number, of which the second is held for so long. A cart of
/// them has the partition of the first, which has no queue once there are fewer.
async fn shop(hold_seconds: i32) -> anyhow::Result<(Shop, Vec<String>)> {
    let shop = Shop::open(PARTITIONS).await?;
    let places = [("a", [PARTITIONS - 1, 0]), ("b", [0, 1]), ("c", [1, 2])];
    let mut skus = Vec::new();
    for (name, [before, after]) in places {
        let sku = (0..1_000)
            .map(|number| format!("{name}-{number}"))
            .find(|sku| {
                let items = shop.order("c-1", &[(sku, 1)]).items;
                [PARTITIONS, FEWER].map(|it| items.partition(it)) == [before, after]
            });
        let sku = sku.context("a name for each place")?;
        shop.stock(&sku, EACH).await?;
        skus.push(sku);
    }
    shop.hold_for(&skus[1], Some(hold_seconds)).await?;
    Ok((shop, skus))
}

/// One, two and three pieces.
fn cart(skus: &[String]) -> Vec<(&str, u32)> {
    skus.iter().map(String::as_str).zip(1..).collect()
}

/// What is left of each SKU while so many carts hold or have their goods.
fn shelves(held: i64, sold: i64) -> Vec<(i64, i64)> {
    let shelf = |pieces| (EACH - pieces * (held + sold), pieces * held);
    (1..=3).map(shelf).collect()
}

async fn see(shop: &Shop, skus: &[String]) -> anyhow::Result<Vec<(i64, i64)>> {
    let mut shelves = Vec::new();
    for sku in skus {
        shelves.push(shop.shelf(sku).await?);
    }
    Ok(shelves)
}

/// Waits until an order is this, and gives its revision.
async fn becomes(ingest: &Process, id: Uuid, status: &str) -> anyhow::Result<i64> {
    let client = ingest.client()?;
    wait::until(&format!("a cart to be {status}"), A_WHILE, async || {
        let document = client.status(id).await.ok()?.json().ok()?;
        let (now, revision) = stands(&document);
        (now == status).then_some(revision)
    })
    .await
}

/// At how many moments goods of all three SKUs came back together, and at how many others.
async fn releases(shop: &Shop) -> anyhow::Result<(i64, i64)> {
    let releases = sqlx::query_as(
        "select count(*) filter (where skus = 3), count(*) filter (where skus <> 3)
         from (select count(distinct sku) as skus from inventory_ledger where released > 0 group by at) as moments",
    );
    Ok(releases.fetch_one(&shop.database).await?)
}

#[tokio::test]
async fn a_cart_with_one_held_item_of_three_skus_in_different_partitions_is_held_and_released_whole()
-> anyhow::Result<()> {
    let (shop, skus) = shop(600).await?;
    let _worker = shop.hasty_worker().start().await?;
    let ingest = shop.ingest().start().await?;
    let client = ingest.client()?;
    let cancelled = reserve(&client, &cart(&skus)).await?;
    assert_eq!(see(&shop, &skus).await?, shelves(1, 0));
    let answer = client.ask(cancelled, "cancel", 20, json!({})).await?;
    assert_eq!(stands(&answer.expect(200)?.json()?), ("cancelled", 2));
    assert_eq!(see(&shop, &skus).await?, shelves(0, 0));

    shop.hold_for(&skus[1], Some(1)).await?;
    let expired = reserve(&client, &cart(&skus)).await?;
    assert_eq!(becomes(&ingest, expired, "expired").await?, 2);
    assert_eq!(see(&shop, &skus).await?, shelves(0, 0));
    assert_eq!(releases(&shop).await?, (2, 0));

    // All of it is there for an order of everything, and paid late it is taken whole.
    let paid = pay(&client, expired, "pi_1", 20).await?.expect(200)?;
    assert_eq!(stands(&paid.json()?), ("confirmed", 3));
    assert_eq!(see(&shop, &skus).await?, shelves(0, 1));
    let back = client.ask(expired, "cancel", 20, json!({})).await?;
    assert_eq!(stands(&back.expect(200)?.json()?), ("cancelled", 4));
    assert_eq!(see(&shop, &skus).await?, shelves(0, 0));
    assert_eq!(releases(&shop).await?, (3, 0));
    shop.books(&[]).await?;
    Ok(())
}

#[tokio::test]
async fn carts_that_are_held_while_partitions_is_changed_are_paid_cancelled_and_expired_whole()
-> anyhow::Result<()> {
    let (shop, skus) = shop(2).await?;
    // Nothing expires before it is to.
    let patient = shop.worker().set("HOLD_GRACE", "10m");
    let door = shop.ingest();
    let (mut worker, mut ingest) = tokio::try_join!(patient.start(), door.start())?;
    let client = ingest.client()?;
    let small: Vec<_> = skus.iter().map(|sku| (sku.as_str(), 1)).collect();
    let paid = reserve(&client, &small).await?;
    let cancelled = reserve(&client, &small).await?;
    let expired = reserve(&client, &small).await?;
    let held = |held: i64, sold: i64| vec![(EACH - held - sold, held); 3];
    assert_eq!(see(&shop, &skus).await?, held(3, 0));

    // As docs/operations.md says.
    ingest.terminate()?;
    ingest.ended(A_WHILE).await?;
    no_message_waits(&shop).await?;
    worker.terminate()?;
    worker.ended(A_WHILE).await?;
    delete_queues(&shop).await?;
    let ingest = door.set("PARTITIONS", FEWER.to_string());
    let again = patient.set("PARTITIONS", FEWER.to_string());
    // Whoever comes first declares the queues.
    let ingest = ingest.start().await?;
    let mut worker = again.start().await?;
    let client = ingest.client()?;

    let confirmed = pay(&client, paid, "pi_1", 20).await?.expect(200)?;
    assert_eq!(stands(&confirmed.json()?), ("confirmed", 2));
    let answer = client.ask(cancelled, "cancel", 20, json!({})).await?;
    assert_eq!(stands(&answer.expect(200)?.json()?), ("cancelled", 2));
    assert_eq!(see(&shop, &skus).await?, held(1, 1));
    worker.terminate()?;
    worker.ended(A_WHILE).await?;
    let _hasty = again.set("HOLD_GRACE", "0s").start().await?;
    assert_eq!(becomes(&ingest, expired, "expired").await?, 2);
    assert_eq!(see(&shop, &skus).await?, held(0, 1));
    assert_eq!(releases(&shop).await?, (2, 0));
    let next = reserve(&client, &small).await?;
    assert_eq!(becomes(&ingest, next, "expired").await?, 2);
    shop.books(&[]).await?;
    Ok(())
}

async fn no_message_waits(shop: &Shop) -> anyhow::Result<()> {
    for partition in 0..PARTITIONS {
        wait::until("a queue to be empty", A_WHILE, async || {
            let (messages, _) = shop.depth(&queue(partition)).await.ok()?;
            (messages == 0).then_some(())
        })
        .await?;
    }
    Ok(())
}

async fn delete_queues(shop: &Shop) -> anyhow::Result<()> {
    let channel = shop.channel().await?;
    for partition in 0..PARTITIONS {
        let anyway = QueueDeleteOptions::default();
        channel
            .queue_delete(queue(partition).into(), anyway)
            .await?;
    }
    Ok(())
}
