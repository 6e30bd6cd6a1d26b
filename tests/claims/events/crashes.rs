//! Claims about events whose worker has ended before they were out.

use hotrow_tests::{Mode, Proxy};

use super::{CHAIR, Reader, assert_rebuilt, everything_is_out, hasty};
use crate::worker::shop::Shop;

#[tokio::test]
async fn a_worker_killed_between_its_commit_and_its_events_leaves_them_to_another()
-> anyhow::Result<()> {
    let shop = Shop::open(1).await?;
    shop.stock(CHAIR, 2).await?;
    let proxy = Proxy::in_front_of(&shop.place.amqp_url).await?;
    let cut_off = hasty(&shop).set("AMQP_URL", proxy.url(&shop.place.amqp_url)?);
    let worker = cut_off.start().await?;
    // The batch is in the worker's hands, and waits for the row. Then the broker hears nothing any more.
    let locked = shop.hold(&[CHAIR]).await?;
    let orders = [
        shop.order("c-1", &[(CHAIR, 2)]),
        shop.order("c-2", &[(CHAIR, 1)]),
    ];
    shop.publish(&orders).await?;
    shop.waits_for_a_lock(1).await?;
    proxy.set(Mode::Stall).await?;
    locked.rollback().await?;
    shop.settled(&orders, crate::worker::shop::A_WHILE).await?;
    worker.kill()?;
    drop(worker);
    let waiting: i64 = sqlx::query_scalar("select count(*) from event_outbox")
        .fetch_one(&shop.database)
        .await?;
    assert_eq!(waiting, 1, "one row for all events of a settlement");
    let mut reader = Reader::from_first(&shop.place).await?;
    reader.catch_up().await?;
    assert!(reader.events.is_empty(), "{:?}", reader.events);

    let _next = hasty(&shop).start().await?;
    everything_is_out(&shop.place).await?;
    reader.catch_up().await?;
    let id = orders[0].id.to_string();
    assert_eq!(reader.types(&id), ["order.confirmed"]);
    assert_eq!(
        reader.events[&format!("{CHAIR}/2")]["data"]["cause"],
        "sold_out"
    );
    assert_eq!(
        reader.events.len(),
        2,
        "nothing of the order that got nothing"
    );
    assert_rebuilt(&shop.place, &reader).await?;
    Ok(())
}
