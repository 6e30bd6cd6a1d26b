//! Claims about who gets the goods: first come, first served, whatever the batches are.

use hotrow_shared::envelope::Order;

use super::{
    shop::{A_WHILE, Shop},
    stream::{Stream, in_sequence},
};

/// What is asked for, of 10, and whether it is to be had.
const ASKED: [(u32, &str); 7] = [
    (4, "confirmed"),
    (7, "sold_out"),
    (5, "confirmed"),
    (2, "sold_out"),
    (1, "confirmed"),
    (1, "sold_out"),
    (1_000, "sold_out"),
];

#[tokio::test]
async fn the_earlier_order_wins_and_a_large_one_that_does_not_fit_blocks_no_small_one()
-> anyhow::Result<()> {
    let shop = Shop::open(1).await?;
    let orders = |sku: &str| -> Vec<Order> {
        let order = |(quantity, _): &(u32, &str)| shop.order("c", &[(sku, *quantity)]);
        ASKED.iter().map(order).collect()
    };
    for sku in ["together", "apart", "waited", "one-by-one"] {
        shop.stock(sku, 10).await?;
    }
    // In one envelope, in one each, and both before any worker is there.
    let together = orders("together");
    let apart = orders("apart");
    shop.publish(&together).await?;
    shop.publish_each(&apart).await?;
    let _worker = shop.worker().start().await?;
    // Into the hands of a worker, all at once and each after the one before it is settled.
    let waited = orders("waited");
    shop.publish_each(&waited).await?;
    let one_by_one = orders("one-by-one");
    for order in &one_by_one {
        let order = std::slice::from_ref(order);
        shop.publish(order).await?;
        shop.settled(order, A_WHILE).await?;
    }
    for orders in [&together, &apart, &waited, &one_by_one] {
        shop.settled(orders, A_WHILE).await?;
        let outcomes = shop.outcomes(orders).await?;
        assert_eq!(
            outcomes,
            ASKED.map(|(_, outcome)| outcome),
            "{:?}",
            orders[0].items
        );
    }
    let all = [together, apart, waited, one_by_one].concat();
    let verdict = shop.books(&all).await?;
    assert_eq!(verdict.outcomes.confirmed, 3 * 4);
    Ok(())
}

#[tokio::test]
async fn a_backlog_larger_than_a_batch_is_settled_in_the_sequence_of_its_arrival()
-> anyhow::Result<()> {
    let shop = Shop::open(1).await?;
    shop.stock("scarce", 1_000).await?;
    let orders: Vec<_> = (0..600)
        .map(|number| shop.order("c", &[("scarce", 1 + number * 7 % 5)]))
        .collect();
    for gathered in orders.chunks(7) {
        shop.publish(gathered).await?;
    }
    // Batches end within the envelopes, and the stock within a batch.
    let _worker = shop.worker().set("BATCH_ORDERS_MAX", "50").start().await?;
    shop.settled(&orders, A_WHILE).await?;
    in_sequence(&shop, &orders, 1_000).await?;
    shop.books(&orders).await?;
    assert_eq!(shop.left("scarce").await?, 0);
    Ok(())
}

#[tokio::test]
async fn a_worker_killed_in_the_middle_of_its_batches_breaks_no_sequence() -> anyhow::Result<()> {
    let shop = Shop::open(2).await?;
    // Small batches, so that there are many middles.
    let worker = shop.worker().set("BATCH_ORDERS_MAX", "20");
    let killed = worker.start().await?;
    let stream = Stream::start(&shop).await?;
    stream.flows(500).await?;
    // With a batch of each partition in hand.
    let held = stream.hold(&shop).await?;
    shop.waits_for_a_lock(2).await?;
    killed.kill()?;
    drop(held);
    stream.flows(500).await?;
    let killed = worker.start().await?;
    stream.flows(500).await?;
    let _last = worker.start().await?;
    stream.flows(300).await?;
    killed.kill()?;
    stream.flows(300).await?;
    stream.settles_in_sequence(&shop).await?;
    Ok(())
}
