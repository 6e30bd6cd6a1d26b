//! Claims about the memory of an ingest process.

use std::time::Duration;

use hotrow_shared::order::{CUSTOMER_ID_LENGTH_MAX, ITEMS_MAX, SKU_LENGTH_MAX};
use hotrow_tests::{
    Load, Settings,
    load::{Basket, Choice},
    meter::peak_memory,
    wait,
};

use super::place;

const MEMORY_MAX: u64 = 256 * 1024 * 1024;
/// Clients that post at the same time, each its next cart when the last one was answered.
const CLIENTS: usize = 4_096;
const CARTS: u64 = 60_000;
const SETTLED_WITHIN: Duration = Duration::from_mins(3);

/// A cart of the longest SKUs. Its first one is the smallest, and by that names the partition.
fn cart(number: usize) -> (Vec<String>, Basket) {
    let width = SKU_LENGTH_MAX - 1;
    let skus: Vec<_> = (0..ITEMS_MAX)
        .map(|item| match item {
            0 => format!("a{number:0>width$}"),
            _ => format!("b{item:0>width$}"),
        })
        .collect();
    let items = skus.iter().map(|sku| (sku.clone(), 1)).collect();
    (skus, Basket::several(items))
}

#[tokio::test]
#[ignore = "takes a minute: 60,000 of the largest carts by way of 4,096 connections"]
async fn the_largest_carts_of_four_thousand_clients_and_their_outcomes_do_not_fill_the_memory()
-> anyhow::Result<()> {
    let place = place().await?;
    let ingest = Settings::ingest(&place).unlimited().start().await?;
    let worker = Settings::worker(&place).start().await?;
    // Enough different first SKUs for every partition.
    let (skus, baskets): (Vec<_>, Vec<_>) = (0..200).map(cart).unzip();
    let mut database = place.database().await?;
    let put_up = "with put as (
                      insert into inventory (sku, title, unit_price_minor, currency, available)
                      select distinct sku, 'thing', 100, 'EUR', 100000000
                      from unnest($1::text[]) as wanted (sku)
                      returning sku, available
                  )
                  insert into inventory_ledger (sku, kind, delta, balance)
                  select sku, 'put', available, available from put";
    sqlx::query(put_up)
        .bind(skus.concat())
        .execute(&mut database)
        .await?;

    let load = Load::of(baskets[0].clone(), &[ingest.address()?])
        .baskets(baskets, Choice::InTurn)
        .customer_prefix("c".repeat(CUSTOMER_ID_LENGTH_MAX - 16))
        .keys("k".repeat(255 - 16))
        .connections(CLIENTS)
        .orders(CARTS);
    let report = load.start()?.finish().await?;
    let accepted = u64::try_from(report.accepted.len())?;
    assert!(accepted > CARTS / 4, "{accepted}");
    wait::until("the carts to be settled", SETTLED_WITHIN, async || {
        let settled = worker.metrics().await.ok()?;
        let settled = settled.count("hotrow_orders_settled_total", &[]);
        (settled >= accepted).then_some(())
    })
    .await?;
    let peak = peak_memory(ingest.id())?;
    assert!(peak < MEMORY_MAX, "{} MiB", peak / 1024 / 1024);
    Ok(())
}
