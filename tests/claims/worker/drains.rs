//! Claims about the end of a worker: what it has is settled, and what it cannot settle stays queued.

use std::time::{Duration, Instant};

use hotrow_shared::topology::{self, DEAD_EXCHANGE, DEAD_QUEUE};
use hotrow_tests::{Mode, Process, Proxy, wait};
use lapin::{
    options::{QueueBindOptions, QueueDeclareOptions, QueueDeleteOptions},
    types::{AMQPValue, FieldTable},
};

use super::{
    shop::{A_WHILE, Shop, counts},
    stream::Stream,
};

/// `SHUTDOWN_GRACE` unless it is set.
const GRACE: Duration = Duration::from_secs(15);

#[tokio::test]
async fn sigterm_under_load_ends_a_worker_well_and_loses_nothing() -> anyhow::Result<()> {
    let shop = Shop::open(4).await?;
    let worker = shop.worker().set("BATCH_ORDERS_MAX", "50");
    let stream = Stream::start(&shop).await?;
    for _ in 0..3 {
        let mut drained = worker.start().await?;
        stream.flows(400).await?;
        drained.terminate()?;
        let ended = drained.ended(GRACE).await?;
        assert!(ended.success(), "{ended}\n{}", drained.log_tail());
    }
    let _last = worker.start().await?;
    stream.settles_in_sequence(&shop).await?;
    Ok(())
}

#[tokio::test]
async fn a_drained_worker_leaves_nothing_to_be_delivered_again() -> anyhow::Result<()> {
    let shop = Shop::open(1).await?;
    shop.stock("hot", 100).await?;
    let orders: Vec<_> = (0..40).map(|_| shop.order("c", &[("hot", 1)])).collect();
    shop.publish_each(&orders).await?;
    let held = shop.hold(&["hot"]).await?;
    // It waits for the backlog to arrive, so that all of it is one batch.
    let backlog = shop.worker().set("BATCH_WAIT", "500ms");
    let mut drained = backlog.start().await?;
    shop.waits_for_a_lock(1).await?;
    // Its batch is in hand, and the end has to wait for it.
    drained.terminate()?;
    draining(&drained).await?;
    drop(held);
    let ended = drained.ended(GRACE).await?;
    assert!(ended.success(), "{ended}");
    shop.settled(&orders, Duration::ZERO).await?;

    // All of its envelopes are acknowledged, and not only the last.
    assert_eq!(shop.depth(&topology::queue(0)).await?, (0, 0));
    shop.books(&orders).await?;
    Ok(())
}

#[tokio::test]
async fn a_second_signal_ends_a_worker_at_once() -> anyhow::Result<()> {
    let shop = Shop::open(1).await?;
    shop.stock("hot", 10).await?;
    let mut worker = shop.worker().start().await?;
    let held = shop.hold(&["hot"]).await?;
    let orders = [shop.order("c", &[("hot", 1)])];
    shop.publish(&orders).await?;
    shop.waits_for_a_lock(1).await?;
    worker.terminate()?;
    draining(&worker).await?;
    let asked_again = Instant::now();
    worker.terminate()?;
    let ended = worker.ended(GRACE).await?;
    assert!(!ended.success(), "work was left behind");
    assert!(
        asked_again.elapsed() < Duration::from_secs(3),
        "{:?}",
        asked_again.elapsed()
    );
    drop(held);
    let _next = shop.worker().start().await?;
    shop.settled(&orders, A_WHILE).await?;
    shop.books(&orders).await?;
    Ok(())
}

#[tokio::test]
async fn a_worker_that_cannot_drain_fails_after_its_grace_and_the_next_settles_everything()
-> anyhow::Result<()> {
    let shop = Shop::open(2).await?;
    let proxy = Proxy::in_front_of(&shop.place.database_url).await?;
    let mut worker = shop
        .worker()
        .set("DATABASE_URL", proxy.url(&shop.place.database_url)?)
        .set("SHUTDOWN_GRACE", "1s")
        .start()
        .await?;
    let stream = Stream::start(&shop).await?;
    stream.flows(300).await?;
    proxy.set(Mode::Refuse).await?;
    wait::until("the worker to notice", A_WHILE, async || {
        (!worker.is_ready().await).then_some(())
    })
    .await?;
    stream.flows(300).await?;
    let asked = Instant::now();
    worker.terminate()?;
    let ended = worker.ended(Duration::from_secs(10)).await?;
    assert!(!ended.success(), "it could not have drained");
    let took = asked.elapsed();
    assert!(
        (Duration::from_secs(1)..Duration::from_secs(4)).contains(&took),
        "{took:?}"
    );
    assert!(worker.has_logged("SHUTDOWN_GRACE"), "{}", worker.log_tail());
    let _next = shop.worker().start().await?;
    stream.settles_in_sequence(&shop).await?;
    Ok(())
}

#[tokio::test]
async fn a_worker_that_waits_for_rows_that_somebody_holds_leaves_its_orders_and_ends_well()
-> anyhow::Result<()> {
    let shop = Shop::open(3).await?;
    let skus = shop.sku_of_each_partition();
    for sku in &skus {
        shop.stock(sku, 100).await?;
    }
    let held: Vec<_> = skus.iter().map(String::as_str).collect();
    let mut row = shop.hold(&held).await?;
    // One waits for the row, others for their turn, and one has an envelope that did not fit.
    let mut worker = shop
        .worker()
        .set("SHUTDOWN_GRACE", "4s")
        .set("BATCH_ORDERS_MAX", "10")
        .start()
        .await?;
    let orders: Vec<_> = skus
        .iter()
        .flat_map(|sku| (0..30).map(|_| shop.order("c", &[(sku, 1)])))
        .collect();
    for gathered in orders.chunks(15) {
        shop.publish(gathered).await?;
    }
    shop.waits_for_a_lock(1).await?;
    worker.terminate()?;
    let ended = worker.ended(Duration::from_secs(5)).await?;
    assert!(ended.success(), "{ended}\n{}", worker.log_tail());
    sqlx::query("select").execute(&mut *row).await?;
    drop(row);
    let _next = shop.worker().start().await?;
    shop.settled(&orders, A_WHILE).await?;
    shop.books(&orders).await?;
    Ok(())
}

#[tokio::test]
async fn a_worker_whose_dead_letters_find_no_queue_ends_well_and_the_next_buries_them()
-> anyhow::Result<()> {
    let shop = Shop::open(1).await?;
    shop.stock("chair", 10).await?;
    let worker = shop.worker().set("SHUTDOWN_GRACE", "4s");
    let mut worker = worker.start().await?;
    let channel = shop.channel().await?;
    channel
        .queue_delete(DEAD_QUEUE.into(), QueueDeleteOptions::default())
        .await?;
    shop.publish_bytes(0, b"no envelope").await?;
    let orders = [shop.order("c", &[("chair", 1)])];
    shop.publish(&orders).await?;
    wait::until("the worker to miss the queue", A_WHILE, async || {
        worker.has_logged("published again").then_some(())
    })
    .await?;
    worker.terminate()?;
    let ended = worker.ended(Duration::from_secs(5)).await?;
    assert!(ended.success(), "{ended}\n{}", worker.log_tail());

    let broker = shop.channel().await?;
    let quorum = QueueDeclareOptions::durable();
    let mut arguments = FieldTable::default();
    arguments.insert(
        "x-queue-type".into(),
        AMQPValue::LongString("quorum".into()),
    );
    let limit = AMQPValue::LongInt(1_000_000_000);
    arguments.insert("x-delivery-limit".into(), limit);
    broker
        .queue_declare(DEAD_QUEUE.into(), quorum, arguments)
        .await?;
    let bind = QueueBindOptions::default();
    broker
        .queue_bind(
            DEAD_QUEUE.into(),
            DEAD_EXCHANGE.into(),
            "".into(),
            bind,
            FieldTable::default(),
        )
        .await?;
    let next = shop.worker().start().await?;
    shop.settled(&orders, A_WHILE).await?;
    counts(&next, "hotrow_dead_letters_total", &[], 1).await?;
    shop.books(&orders).await?;
    Ok(())
}

/// Waits until a worker has taken note of its first signal.
async fn draining(worker: &Process) -> anyhow::Result<()> {
    wait::until("the worker to drain", A_WHILE, async || {
        worker.has_logged("draining").then_some(())
    })
    .await
}
