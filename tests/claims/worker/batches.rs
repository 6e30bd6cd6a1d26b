//! Claims about batches: why they are closed, and how large they get.

use std::time::Duration;

use hotrow_tests::{Process, wait};

use super::shop::{A_WHILE, Shop, counts};

const WHY: [&str; 4] = ["full", "drained", "waited", "shutdown"];

#[tokio::test]
async fn a_backlog_is_settled_in_full_batches_and_no_batch_is_larger_than_the_setting()
-> anyhow::Result<()> {
    let shop = Shop::open(1).await?;
    shop.stock("hot", 1_000).await?;
    let orders: Vec<_> = (0..120).map(|_| shop.order("c", &[("hot", 1)])).collect();
    // Envelopes of 3, and one that holds more than a batch may.
    for gathered in orders[..96].chunks(3) {
        shop.publish(gathered).await?;
    }
    shop.publish(&orders[96..]).await?;
    let worker = shop.worker().set("BATCH_ORDERS_MAX", "8").start().await?;
    shop.settled(&orders, A_WHILE).await?;
    shop.books(&orders).await?;

    let largest: i32 =
        sqlx::query_scalar("select max(orders) from inventory_ledger where kind = 'settlement'")
            .fetch_one(&shop.database)
            .await?;
    assert_eq!(largest, 8, "the large envelope is settled in parts");
    counts(&worker, "hotrow_orders_settled_total", &[], 120).await?;
    let metrics = worker.metrics().await?;
    let full = metrics.count("hotrow_batch_orders_count", &[("closed_by", "full")]);
    assert!(full >= 10, "{full} of about 16 batches are full");
    let row_writes = metrics.count("hotrow_row_writes_total", &[]);
    assert!((15..=40).contains(&row_writes), "{row_writes} row writes");
    Ok(())
}

#[tokio::test]
async fn an_idle_worker_settles_an_order_at_once_and_alone() -> anyhow::Result<()> {
    let shop = Shop::open(1).await?;
    shop.stock("hot", 10).await?;
    let worker = shop.worker().start().await?;
    for number in 1..=3 {
        let order = [shop.order("c", &[("hot", 1)])];
        shop.publish(&order).await?;
        shop.settled(&order, A_WHILE).await?;
        assert_eq!(closed_by(&worker, number).await?, [0, number, 0, 0]);
    }
    Ok(())
}

#[tokio::test]
async fn orders_that_come_while_a_batch_is_committed_are_the_next_batch() -> anyhow::Result<()> {
    let shop = Shop::open(1).await?;
    shop.stock("hot", 100).await?;
    let worker = shop.worker().start().await?;
    let orders: Vec<_> = (0..31).map(|_| shop.order("c", &[("hot", 1)])).collect();
    let held = shop.hold(&["hot"]).await?;
    shop.publish(&orders[..1]).await?;
    shop.waits_for_a_lock(1).await?;
    shop.publish_each(&orders[1..]).await?;
    drop(held);
    shop.settled(&orders, A_WHILE).await?;
    shop.books(&orders).await?;
    counts(&worker, "hotrow_orders_settled_total", &[], 31).await?;
    // The last deliveries may still be on their way when the lock is let go.
    let row_writes = worker.metrics().await?;
    let row_writes = row_writes.count("hotrow_row_writes_total", &[]);
    assert!(row_writes < 6, "{row_writes} row writes for 31 orders");
    Ok(())
}

#[tokio::test]
async fn orders_that_come_while_another_partition_settles_share_batches() -> anyhow::Result<()> {
    let shop = Shop::open(2).await?;
    let [held, hot] = &shop.sku_of_each_partition()[..] else {
        anyhow::bail!("a shop of two partitions");
    };
    shop.stock(held, 100).await?;
    shop.stock(hot, 100).await?;
    let worker = shop.worker().start().await?;
    let first = [shop.order("c", &[(held, 1)])];
    let orders: Vec<_> = (0..30).map(|_| shop.order("c", &[(hot, 1)])).collect();
    let row = shop.hold(&[held]).await?;
    shop.publish(&first).await?;
    shop.waits_for_a_lock(1).await?;
    shop.publish_each(&orders).await?;
    drop(row);
    shop.settled(&first, A_WHILE).await?;
    shop.settled(&orders, A_WHILE).await?;
    shop.books(&orders).await?;
    counts(&worker, "hotrow_orders_settled_total", &[], 31).await?;
    // As above, and a slow publisher may see a turn go by.
    let row_writes = worker.metrics().await?;
    let row_writes = row_writes.count("hotrow_row_writes_total", &[]);
    assert!(row_writes < 7, "{row_writes} row writes for 31 orders");
    Ok(())
}

#[tokio::test]
async fn a_batch_that_may_wait_takes_in_what_comes_until_its_time_is_up() -> anyhow::Result<()> {
    let shop = Shop::open(1).await?;
    shop.stock("hot", 10).await?;
    let worker = shop.worker().set("BATCH_WAIT", "2s").start().await?;
    let orders: Vec<_> = (0..5).map(|_| shop.order("c", &[("hot", 1)])).collect();
    shop.publish_each(&orders).await?;
    shop.settled(&orders, A_WHILE).await?;
    counts(&worker, "hotrow_orders_settled_total", &[], 5).await?;
    assert_eq!(closed_by(&worker, 1).await?, [0, 0, 1, 0]);
    let metrics = worker.metrics().await?;
    assert_eq!(metrics.count("hotrow_batch_orders_sum", &[]), 5);
    assert_eq!(metrics.count("hotrow_row_writes_total", &[]), 1);
    let waited = metrics.sum("hotrow_order_age_seconds_sum", &[]);
    assert!(waited >= 5.0, "five orders that wait about two seconds");
    shop.books(&orders).await?;
    Ok(())
}

#[tokio::test]
async fn a_batch_that_waits_is_closed_and_settled_by_the_end_of_its_worker() -> anyhow::Result<()> {
    let shop = Shop::open(1).await?;
    shop.stock("hot", 10).await?;
    let worker = shop.worker().set("BATCH_WAIT", "10s");
    let worker = worker.set("RUST_LOG", "info,hotrow_worker=trace");
    let mut worker = worker.start().await?;
    let orders = [shop.order("c", &[("hot", 1)])];
    // Held, so that the worker can be asked while it drains.
    let held = shop.hold(&["hot"]).await?;
    shop.publish(&orders).await?;
    wait::until("the order to be in hand", A_WHILE, async || {
        worker.has_logged("a batch begins").then_some(())
    })
    .await?;
    worker.terminate()?;
    let closed_by = closed_by(&worker, 1).await?;
    assert_eq!(closed_by, [0, 0, 0, 1]);
    shop.waits_for_a_lock(1).await?;
    drop(held);
    let ended = worker.ended(Duration::from_secs(5)).await?;
    assert!(ended.success(), "{ended}");
    shop.settled(&orders, Duration::ZERO).await?;
    shop.books(&orders).await?;
    Ok(())
}

/// How many batches were closed for each reason, once there are that many.
async fn closed_by(worker: &Process, batches: u64) -> anyhow::Result<[u64; 4]> {
    wait::until("the batches to be counted", A_WHILE, async || {
        let metrics = worker.metrics().await.ok()?;
        let counts =
            WHY.map(|why| metrics.count("hotrow_batch_orders_count", &[("closed_by", why)]));
        (counts.iter().sum::<u64>() >= batches).then_some(counts)
    })
    .await
}
