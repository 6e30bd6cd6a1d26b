//! Claims about events whose worker has ended before they were out.

use hotrow_tests::{Mode, Proxy, wait};
use lapin::options::QueueDeleteOptions;

use super::{CHAIR, Reader, assert_rebuilt, chairs, everything_is_out, hasty, open, order};
use crate::worker::shop::{A_WHILE, Shop};

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
    shop.settled(&orders, A_WHILE).await?;
    worker.kill()?;
    drop(worker);
    let waiting: i64 = sqlx::query_scalar("select count(*) from event_outbox")
        .fetch_one(&shop.database)
        .await?;
    assert_eq!(waiting, 1, "one row for all events of a settlement");
    let mut reader = Reader::from_first(&shop.place).await?;
    let _next = hasty(&shop).start().await?;
    everything_is_out(&shop.place).await?;
    // Nothing of the order that got nothing.
    reader.has(2).await?;
    assert_eq!(reader.received, 2, "none was out before");
    let id = orders[0].id.to_string();
    assert_eq!(reader.types(&id), ["order.confirmed"]);
    assert_eq!(
        reader.events[&format!("{CHAIR}/2")]["data"]["cause"],
        "sold_out"
    );
    assert_rebuilt(&shop.place, &reader).await?;
    Ok(())
}

#[tokio::test]
async fn a_stream_that_is_deleted_while_a_sale_runs_has_every_event_that_comes_after()
-> anyhow::Result<()> {
    let (shop, ingest, _worker) = open().await?;
    let client = ingest.client()?;
    chairs(&client, 10, 600).await?;
    let before = order(&client, "c-1", 1).await?.to_string();
    everything_is_out(&shop.place).await?;
    let channel = shop.channel().await?;
    let nothing = QueueDeleteOptions::default();
    channel
        .queue_delete("hotrow.events".into(), nothing)
        .await?;
    // One settles while there is no stream, the others when there is one again.
    let mut after = vec![order(&client, "c-1", 1).await?.to_string()];
    let mut reader = wait::until("a new stream", A_WHILE, async || {
        Reader::from_first(&shop.place).await.ok()
    })
    .await?;
    for _ in 0..3 {
        after.push(order(&client, "c-1", 1).await?.to_string());
    }
    reader
        .until("the events of all four", |reader| {
            let is_told = |id: &String| reader.types(id) == ["order.reserved"];
            after.iter().all(is_told)
        })
        .await?;
    assert!(reader.types(&before).is_empty(), "what was in it is gone");
    let generation: i64 = sqlx::query_scalar("select generation from event_stream")
        .fetch_one(&shop.database)
        .await?;
    // The first start made the first one. Two processes that repair it may both count.
    assert!(generation >= 2, "{generation}");
    Ok(())
}
