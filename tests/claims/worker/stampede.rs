//! Claims about the whole path: a crowd through two doors to two workers.

use std::{
    collections::BTreeSet,
    sync::atomic::{AtomicBool, Ordering},
};

use hotrow_tests::{
    Load,
    client::Product,
    law::Verdict,
    load::{Basket, Refusal},
    wait,
};
use uuid::Uuid;

use super::shop::{A_WHILE, Shop};

const ORDERS: u64 = 50_000;
const UNITS: i64 = 10_000;
/// The statuses that are asked for once the crowd is gone.
const ASKED: usize = 100;

#[tokio::test]
async fn of_50_000_orders_for_10_000_units_exactly_10_000_are_confirmed_and_none_is_lost()
-> anyhow::Result<()> {
    let shop = Shop::open(16).await?;
    shop.stock("hot", UNITS).await?;
    let (worker, ingest) = (shop.worker(), shop.ingest());
    let (first, second, left, right) = tokio::try_join!(
        worker.start(),
        worker.start(),
        ingest.start(),
        ingest.start()
    )?;
    let report = Load::of(Basket::one("hot", 1), &[left.address()?, right.address()?])
        .orders(ORDERS)
        .connections(256)
        .run()
        .await?;

    assert_eq!(report.unanswered, [0; 0]);
    assert_eq!(report.answered(), ORDERS);
    let sold_out = Refusal {
        status: 409,
        code: "sold_out".into(),
    };
    assert!(
        report.refused.keys().all(|refusal| *refusal == sold_out),
        "{:?}",
        report.refused
    );
    let accepted = &report.accepted;
    let verdict = wait::until("everything to be settled", A_WHILE, async || {
        let mut connection = shop.database.acquire().await.ok()?;
        let verdict = Verdict::read(&mut connection, accepted).await.ok()?;
        (verdict.lost() == 0).then_some(verdict)
    })
    .await?;
    assert!(verdict.holds(), "{verdict}");
    let sold_out = i64::try_from(accepted.len())? - UNITS;
    let outcomes = verdict.outcomes;
    assert_eq!(
        (outcomes.confirmed, outcomes.sold_out, outcomes.settled()),
        (UNITS, sold_out, UNITS + sold_out),
        "{outcomes:?}"
    );
    assert_eq!(shop.left("hot").await?, 0);

    // Every process tells the same of every order.
    let asked: Vec<_> = accepted
        .iter()
        .step_by(accepted.len() / ASKED)
        .copied()
        .take(ASKED)
        .collect();
    let (here, there) = (left.client()?, right.client()?);
    let (here, there) = tokio::try_join!(here.statuses(&asked), there.statuses(&asked))?;
    let (here, there) = (here.expect(200)?.json()?, there.expect(200)?.json()?);
    assert_eq!(here, there);
    let told: Vec<_> = here["orders"].as_array().into_iter().flatten().collect();
    assert_eq!(told.len(), asked.len());
    for (id, told) in asked.iter().zip(told) {
        let outcome: (String, Option<String>) =
            sqlx::query_as("select status, reason from orders where order_id = $1")
                .bind(id)
                .fetch_one(&shop.database)
                .await?;
        assert_eq!(told["order_id"], id.to_string());
        assert_eq!(told["status"], outcome.0);
        assert_eq!(told["reason"].as_str(), outcome.1.as_deref());
    }

    // The hot row was written once per batch, and the counters know it.
    let settled = "hotrow_orders_settled_total";
    let counted = wait::until("everything to be counted", A_WHILE, async || {
        let counted = first
            .metrics()
            .await
            .ok()?
            .and(second.metrics().await.ok()?);
        (counted.count(settled, &[]) >= accepted.len() as u64).then_some(counted)
    })
    .await?;
    let confirmed = [("status", "confirmed"), ("reason", "")];
    let rejected = [("status", "rejected"), ("reason", "sold_out")];
    assert_eq!(counted.count(settled, &confirmed), UNITS.unsigned_abs());
    assert_eq!(counted.count(settled, &rejected), sold_out.unsigned_abs());
    assert_eq!(counted.count(settled, &[]), accepted.len() as u64);
    assert_eq!(
        counted.count("hotrow_order_age_seconds_count", &[]),
        accepted.len() as u64
    );
    let row_writes = counted.count("hotrow_row_writes_total", &[]);
    let entries: i64 = sqlx::query_scalar(
        "select count(*) from inventory_ledger where sku = 'hot' and kind = 'settlement'",
    )
    .fetch_one(&shop.database)
    .await?;
    assert_eq!(row_writes, entries.unsigned_abs());
    assert!(
        row_writes * 4 < UNITS.unsigned_abs(),
        "{row_writes} row writes for {UNITS} confirmed orders"
    );
    assert_eq!(counted.count("hotrow_orders_duplicate_total", &[]), 0);
    assert_eq!(
        accepted.iter().collect::<BTreeSet<&Uuid>>().len(),
        accepted.len()
    );
    Ok(())
}

#[tokio::test]
async fn stock_that_is_added_taken_away_and_replaced_during_a_sale_keeps_the_books_in_order()
-> anyhow::Result<()> {
    let shop = Shop::open(1).await?;
    shop.stock("hot", 300).await?;
    let (worker, ingest) = (shop.worker().set("BATCH_ORDERS_MAX", "25"), shop.ingest());
    let (worker, ingest) = tokio::try_join!(worker.start(), ingest.start())?;
    let client = ingest.client()?;
    let orders: Vec<_> = (0..1_500).map(|_| shop.order("c", &[("hot", 1)])).collect();
    let is_over = AtomicBool::new(false);
    let publish = async {
        for gathered in orders.chunks(5) {
            shop.publish(gathered).await?;
        }
        shop.settled(&orders, A_WHILE).await?;
        is_over.store(true, Ordering::Relaxed);
        anyhow::Ok(())
    };
    let change = async {
        for round in 1.. {
            if is_over.load(Ordering::Relaxed) {
                break;
            }
            let key = format!("round-{round}");
            let restocked = client.restock("hot", 20, Some(&key)).await?;
            restocked.expect_success()?;
            // There may be nothing left to take away.
            client.restock("hot", -3, None).await?;
            if round % 5 == 0 {
                let replaced = client.put_inventory("hot", Product::chairs(40)).await?;
                replaced.expect_success()?;
            }
        }
        anyhow::Ok(())
    };
    tokio::try_join!(publish, change)?;
    let verdict = shop.books(&orders).await?;
    assert!(verdict.outcomes.confirmed > 0, "{:?}", verdict.outcomes);
    let between_changes: i64 = sqlx::query_scalar(
        "select count(*) from inventory_ledger where kind = 'settlement'
         and id < (select max(id) from inventory_ledger where kind = 'put')",
    )
    .fetch_one(&shop.database)
    .await?;
    assert!(between_changes > 5, "{between_changes} settlements");
    let metrics = worker.metrics().await?;
    assert_eq!(metrics.count("hotrow_dead_letters_total", &[]), 0);
    Ok(())
}
