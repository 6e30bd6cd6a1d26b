//! The whole: a sale through which workers and broker fall, and what its events alone tell of it.

use std::time::Duration;

use hotrow_shared::envelope::Order;
use hotrow_tests::{Place, servers::RabbitMq, wait};
use lapin::options::QueueDeleteOptions;
use tokio::time::sleep;

use super::{CHAIR, Reader, assert_rebuilt, everything_is_out, hasty, replay};
use crate::worker::shop::{A_WHILE, Shop};

/// How long the alarm lasts, as long as the contract asks for.
const ALARM: Duration = Duration::from_secs(20);

/// Orders of one piece each, some of which find nothing.
fn orders(shop: &Shop, count: usize) -> Vec<Order> {
    (0..count)
        .map(|number| shop.order(&format!("c-{number}"), &[(CHAIR, 1)]))
        .collect()
}

#[tokio::test]
#[ignore = "an alarm of 20 s, restarts of the broker, and crashes of workers"]
async fn events_alone_rebuild_every_order_and_every_stock_after_crashes_restarts_and_an_alarm()
-> anyhow::Result<()> {
    let rabbitmq = RabbitMq::start().await?;
    let shop = Shop::open_at(Place::with_rabbitmq(&rabbitmq).await?, 2).await?;
    shop.stock(CHAIR, 2_000).await?;
    sqlx::query("update inventory set hold_seconds = 5, hold_seconds_max = 60")
        .execute(&shop.database)
        .await?;
    let mut worker = hasty(&shop).start().await?;
    let mut all = Vec::new();
    // Workers end at whatever they are doing.
    for _ in 0..8 {
        let some = orders(&shop, 150);
        let publisher = shop.publisher();
        for order in some.chunks(10) {
            publisher.publish(order).await?;
        }
        all.extend(some);
        sleep(Duration::from_millis(rand::random_range(0..400))).await;
        worker.kill()?;
        worker = hasty(&shop).start().await?;
    }
    shop.settled(&all, A_WHILE).await?;

    rabbitmq.stop().await?;
    rabbitmq.start_again().await?;
    let publisher = shop.publisher_again().await?;
    for order in orders(&shop, 300).chunks(10) {
        publisher.publish(order).await?;
        all.extend_from_slice(order);
    }
    shop.settled(&all, A_WHILE).await?;

    // What is in the queues when the alarm begins is settled during it, and its events follow.
    worker.kill()?;
    let during = orders(&shop, 500);
    for order in during.chunks(10) {
        publisher.publish(order).await?;
    }
    rabbitmq.raise_memory_alarm().await?;
    let alarm = tokio::spawn(sleep(ALARM));
    let _worker = hasty(&shop).spawn().await?;
    shop.settled(&during, ALARM).await?;
    alarm.await?;
    rabbitmq.clear_memory_alarm().await?;
    all.extend(during);
    let what = "no order to be held";
    wait::until(what, A_WHILE, async || {
        let held = sqlx::query_scalar::<_, i64>("select count(*) from holds");
        let held = held.fetch_one(&shop.database).await.ok()?;
        (held == 0).then_some(())
    })
    .await?;
    everything_is_out(&shop.place).await?;
    let mut reader = Reader::from_first(&shop.place).await?;
    let untold = "select count(*) from orders_now where alias_of is null and status <> 'rejected'";
    let orders: i64 = sqlx::query_scalar(untold).fetch_one(&shop.database).await?;
    let orders = usize::try_from(orders)?;
    reader
        .until("every order", |reader| reader.orders().len() >= orders)
        .await?;
    reader.catch_up().await?;
    let told = assert_rebuilt(&shop.place, &reader).await?;
    assert!(told > 500, "{told} orders got something");

    // The stream goes, is made anew, and filled again.
    let before = reader.events.clone();
    let channel = shop.channel().await?;
    let nothing = QueueDeleteOptions::default();
    channel
        .queue_delete("hotrow.events".into(), nothing)
        .await?;
    let mut again = wait::until("a new stream", A_WHILE, async || {
        Reader::from_first(&shop.place).await.ok()
    })
    .await?;
    replay(&hasty(&shop), &[]).await?;
    again.has(before.len()).await?;
    assert_eq!(again.events, before);
    shop.books(&all).await?;
    Ok(())
}
