//! Claims about the audit: silent while the books are in order, heard when they are not.

use std::time::Duration;

use chrono::{DateTime, Utc};
use hotrow_tests::{Process, wait};

use super::{
    shop::{A_WHILE, Shop},
    stream::Stream,
};

/// A few rounds of the audit.
const NOTICED: Duration = Duration::from_secs(30);

#[tokio::test]
async fn the_audit_finds_nothing_wrong_with_settlements_under_way() -> anyhow::Result<()> {
    let shop = Shop::open(2).await?;
    let worker = shop.worker();
    let (first, second) = tokio::try_join!(worker.start(), worker.start())?;
    let stream = Stream::start(&shop).await?;
    let mut rounds = 0;
    let mut last_round = None;
    wait::until("three rounds of the audit", A_WHILE, async || {
        for worker in [&first, &second] {
            let found = mismatch(worker).await;
            if found != Some(0.0) {
                return Some(Err(anyhow::anyhow!("the audit found {found:?}")));
            }
        }
        let round = audited_at(&shop).await;
        if round.is_some() && round != last_round {
            last_round = round;
            rounds += 1;
        }
        (rounds >= 4).then_some(Ok(()))
    })
    .await??;
    stream.settles_in_sequence(&shop).await?;
    Ok(())
}

#[tokio::test]
async fn stock_that_appears_and_an_order_that_disappears_are_found_and_forgotten_once_mended()
-> anyhow::Result<()> {
    let shop = Shop::open(1).await?;
    shop.stock("chair", 10).await?;
    shop.stock("table", 10).await?;
    let worker = shop.worker().start().await?;
    let orders = [
        shop.order("a", &[("chair", 1)]),
        shop.order("b", &[("table", 2)]),
        shop.order("c", &[("table", 3)]),
    ];
    shop.publish(&orders).await?;
    shop.settled(&orders, A_WHILE).await?;

    shop.sql("update inventory set available = available + 1 where sku = 'chair'")
        .await?;
    becomes(&worker, 1.0).await?;
    shop.sql(
        "create table kept as select * from orders where customer_id = 'b';
         delete from orders where customer_id = 'b'",
    )
    .await?;
    becomes(&worker, 2.0).await?;
    shop.sql("update inventory set available = available - 1 where sku = 'chair'")
        .await?;
    becomes(&worker, 1.0).await?;
    shop.sql("insert into orders select * from kept").await?;
    becomes(&worker, 0.0).await?;

    // A ledger entry that does not follow from the one before it.
    shop.sql(
        "update inventory_ledger set balance = balance - 1 where sku = 'chair' and kind = 'put'",
    )
    .await?;
    becomes(&worker, 1.0).await?;
    shop.sql(
        "update inventory_ledger set balance = balance + 1 where sku = 'chair' and kind = 'put'",
    )
    .await?;
    becomes(&worker, 0.0).await?;
    shop.books(&orders).await?;
    Ok(())
}

#[tokio::test]
async fn the_audit_tells_when_it_came_to_its_end_last() -> anyhow::Result<()> {
    let shop = Shop::open(1).await?;
    let before = Utc::now();
    let (first, second) = (shop.worker().start().await?, shop.worker().start().await?);
    let last_success = async |worker: &Process| {
        let metrics = worker.metrics().await.ok()?;
        metrics.value("hotrow_audit_last_success_timestamp_seconds", &[])
    };
    let (audits, other) = wait::until("a round of the audit", A_WHILE, async || {
        let told = [last_success(&first).await?, last_success(&second).await?];
        (told != [0.0, 0.0]).then_some((told[0].max(told[1]), told[0].min(told[1])))
    })
    .await?;
    let before = std::time::Duration::from_millis(before.timestamp_millis().unsigned_abs());
    assert!(audits >= before.as_secs_f64(), "{audits}");
    assert!(other.total_cmp(&0.0).is_eq(), "one worker at a time audits");
    Ok(())
}

async fn mismatch(worker: &Process) -> Option<f64> {
    let metrics = worker.metrics().await.ok()?;
    metrics.value("hotrow_inventory_mismatch", &[])
}

async fn becomes(worker: &Process, skus: f64) -> anyhow::Result<()> {
    let what = format!("the audit to find {skus} SKUs");
    wait::until(&what, NOTICED, async || {
        mismatch(worker)
            .await
            .is_some_and(|found| found.total_cmp(&skus).is_eq())
            .then_some(())
    })
    .await
}

/// When the audit asked the database last.
async fn audited_at(shop: &Shop) -> Option<DateTime<Utc>> {
    let asked = "select max(query_start) from pg_stat_activity
         where datname = current_database() and application_name = 'hotrow-worker audit' and query like '%with entries%'";
    sqlx::query_scalar(asked)
        .fetch_one(&shop.database)
        .await
        .ok()?
}
