//! Claims about orders of several items.

use std::{collections::BTreeSet, time::Duration};

use anyhow::Context;
use hotrow_shared::{envelope::Order, id::Day, order::SKU_LENGTH_MAX, request_id::RequestId};
use hotrow_tests::meter::peak_memory;
use serde_json::json;

use super::shop::{A_WHILE, Shop, counts};

#[tokio::test]
async fn a_cart_gets_everything_or_nothing() -> anyhow::Result<()> {
    let shop = Shop::open(1).await?;
    shop.stock("chair", 5).await?;
    shop.stock("table", 1).await?;
    shop.stock("lamp", 9).await?;
    let orders = [
        // The table is short: no chair and no lamp leaves the shelf either.
        shop.order("a", &[("chair", 1), ("lamp", 9), ("table", 2)]),
        // So all chairs and lamps are still there for this one.
        shop.order("b", &[("table", 1), ("chair", 5), ("lamp", 8)]),
        // And nothing of it is left for this one, though there is a lamp.
        shop.order("c", &[("lamp", 1), ("chair", 1)]),
        shop.order("d", &[("lamp", 1)]),
    ];
    shop.publish(&orders).await?;
    let _worker = shop.worker().start().await?;
    shop.settled(&orders, A_WHILE).await?;
    assert_eq!(
        shop.outcomes(&orders).await?,
        ["sold_out", "confirmed", "sold_out", "confirmed"]
    );
    for sku in ["chair", "table", "lamp"] {
        assert_eq!(shop.left(sku).await?, 0, "{sku}");
    }
    shop.books(&orders).await?;
    Ok(())
}

#[tokio::test]
async fn an_unknown_sku_and_two_currencies_reject_the_whole_cart_and_take_nothing()
-> anyhow::Result<()> {
    let shop = Shop::open(1).await?;
    shop.stock_at("chair", 5, 4_990, "EUR").await?;
    shop.stock_at("table", 5, 19_900, "EUR").await?;
    shop.stock_at("lamp", 5, 2_500, "USD").await?;
    let worker = shop.worker().start().await?;
    let orders = [
        shop.order("a", &[("chair", 1), ("unheard-of", 1)]),
        shop.order("b", &[("unheard-of", 1)]),
        shop.order("c", &[("table", 1), ("chair", 1), ("lamp", 1)]),
        // What is unknown has no price, and what cannot be priced is not counted either.
        shop.order("d", &[("lamp", 6), ("unheard-of", 1), ("chair", 1)]),
        shop.order("e", &[("chair", 1), ("lamp", 6)]),
        shop.order("f", &[("table", 2), ("chair", 5)]),
    ];
    shop.publish(&orders).await?;
    shop.settled(&orders, A_WHILE).await?;
    assert_eq!(
        shop.outcomes(&orders).await?,
        [
            "unknown_sku",
            "unknown_sku",
            "currency_mismatch",
            "unknown_sku",
            "currency_mismatch",
            "confirmed"
        ]
    );
    let left = [
        shop.left("chair").await?,
        shop.left("table").await?,
        shop.left("lamp").await?,
    ];
    assert_eq!(left, [0, 3, 5]);
    let verdict = shop.books(&orders).await?;
    assert_eq!(verdict.outcomes.rejected_otherwise, 5);
    for (status, reason, count) in [
        ("confirmed", "", 1),
        ("rejected", "unknown_sku", 3),
        ("rejected", "currency_mismatch", 2),
    ] {
        let labels = [("status", status), ("reason", reason)];
        counts(&worker, "hotrow_orders_settled_total", &labels, count).await?;
    }

    // A SKU becomes known with its row.
    shop.stock("unheard-of", 1).await?;
    let known = [shop.order("a", &[("unheard-of", 1)])];
    shop.publish(&known).await?;
    shop.settled(&known, A_WHILE).await?;
    assert_eq!(shop.outcomes(&known).await?, ["confirmed"]);
    Ok(())
}

#[tokio::test]
async fn prices_and_the_total_of_the_moment_are_in_the_row_and_in_the_document()
-> anyhow::Result<()> {
    let shop = Shop::open(1).await?;
    shop.stock_at("chair", 10, 4_990, "EUR").await?;
    shop.stock_at("table", 2, 19_900, "EUR").await?;
    let (worker, ingest) = (shop.worker(), shop.ingest());
    let (_worker, ingest) = tokio::try_join!(worker.start(), ingest.start())?;
    let client = ingest.client()?;

    let cart = [("table", 2), ("chair", 3)];
    let accepted = client.order("c-1", &cart).await?.expect(202)?;
    let told = client
        .settled(accepted.order_id()?, 30)
        .await?
        .expect(200)?;
    let told = told.json()?;
    let items = json!([
        { "sku": "table", "quantity": 2, "unit_price_minor": 19_900 },
        { "sku": "chair", "quantity": 3, "unit_price_minor": 4_990 },
    ]);
    let total = 2 * 19_900 + 3 * 4_990;
    assert_eq!(
        (&told["status"], &told["reason"]),
        (&json!("confirmed"), &json!(null))
    );
    assert_eq!(
        (&told["items"], &told["total_minor"], &told["currency"]),
        (&items, &json!(total), &json!("EUR"))
    );
    let row = sqlx::query_as::<_, (serde_json::Value, Option<i64>, Option<String>)>(
        "select items, total_minor, currency from orders where order_id = $1",
    );
    let row = row
        .bind(accepted.order_id()?)
        .fetch_one(&shop.database)
        .await?;
    assert_eq!(row, (items, Some(total), Some("EUR".into())));

    // A later price is for later orders, and who gets nothing pays nothing.
    shop.sql("update inventory set unit_price_minor = 5990 where sku = 'chair'")
        .await?;
    let accepted = client.order("c-2", &[("chair", 1)]).await?.expect(202)?;
    let later = client.settled(accepted.order_id()?, 30).await?.json()?;
    assert_eq!(
        (
            &later["total_minor"],
            &later["items"][0]["unit_price_minor"]
        ),
        (&json!(5_990), &json!(5_990))
    );
    let short = [shop.order("c-3", &[("chair", 7), ("unheard-of", 1)])];
    shop.publish(&short).await?;
    shop.settled(&short, A_WHILE).await?;
    let row = shop.row(&short[0]).await?;
    assert_eq!(
        row.items,
        json!([
            { "sku": "chair", "quantity": 7, "unit_price_minor": 5_990 },
            { "sku": "unheard-of", "quantity": 1, "unit_price_minor": null },
        ])
    );
    assert_eq!((row.total_minor, row.currency), (None, None));
    shop.books(&short).await?;
    Ok(())
}

#[tokio::test]
async fn carts_that_share_products_across_partitions_neither_deadlock_nor_share_units()
-> anyhow::Result<()> {
    let shop = Shop::open(4).await?;
    let skus = shop.sku_of_each_partition();
    for sku in &skus {
        shop.stock(sku, 150).await?;
    }
    // Every order of two products, named in every sequence, and each pair has its own partition.
    let cart = |number: usize| -> Order {
        let first = number % skus.len();
        let second = (first + 1 + number / skus.len() % (skus.len() - 1)) % skus.len();
        let quantity = 1 + u32::try_from(number % 3).unwrap_or_default();
        shop.order("c", &[(&skus[first], 1), (&skus[second], quantity)])
    };
    let orders: Vec<_> = (0..600).map(cart).collect();
    let worker = shop.worker().set("BATCH_ORDERS_MAX", "10");
    let (first, second) = tokio::try_join!(worker.start(), worker.start())?;
    shop.publish_each(&orders).await?;
    shop.settled(&orders, A_WHILE).await?;

    let verdict = shop.books(&orders).await?;
    assert!(verdict.outcomes.confirmed > 100, "{:?}", verdict.outcomes);
    assert!(verdict.outcomes.sold_out > 100, "{:?}", verdict.outcomes);
    let counted = first.metrics().await?.and(second.metrics().await?);
    let retries = |cause| counted.count("hotrow_settle_retries_total", &[("cause", cause)]);
    assert_eq!(
        retries("deadlock"),
        0,
        "rows are locked in the sequence of their SKUs"
    );
    Ok(())
}

/// The largest that the API takes: 20 items with names of 64 characters, a customer of 128, a key of 255 and
/// a request of 128.
fn largest_cart(shop: &Shop, partition: u16, number: usize) -> anyhow::Result<Order> {
    // The smallest name chooses the partition.
    let smallest = (0..10_000)
        .map(|name: u32| format!("{name:0>SKU_LENGTH_MAX$}"))
        .find(|name| shop.partition(&[name]) == partition)
        .context("a name for each partition")?;
    let others: Vec<_> = (1..20)
        .map(|item| format!("{item:z>SKU_LENGTH_MAX$}"))
        .collect();
    let mut items = vec![(smallest.as_str(), 1_000)];
    items.extend(others.iter().map(|name| (name.as_str(), 1_000)));
    let key = format!("{number:k>255}");
    let mut order = shop.keyed(&"c".repeat(128), &items, &key, Day::today());
    let request = format!("{number:r>128}").into_boxed_str();
    order.request_id = Some(RequestId::try_from(request)?);
    Ok(order)
}

#[tokio::test]
#[ignore = "takes a minute"]
async fn a_backlog_of_the_largest_carts_in_every_partition_is_settled_in_less_than_256_mb()
-> anyhow::Result<()> {
    const PARTITIONS: u16 = 16;
    const CARTS_PER_PARTITION: usize = 3_000;
    /// What ingest puts into an envelope of 128 KiB.
    const CARTS_PER_ENVELOPE: usize = 48;
    let shop = Shop::open(PARTITIONS).await?;
    let (mut last, mut stocked) = (Vec::new(), BTreeSet::new());
    for partition in 0..PARTITIONS {
        let first = usize::from(partition) * CARTS_PER_PARTITION;
        let carts = (first..first + CARTS_PER_PARTITION)
            .map(|number| largest_cart(&shop, partition, number))
            .collect::<anyhow::Result<Vec<_>>>()?;
        for gathered in carts.chunks(CARTS_PER_ENVELOPE) {
            shop.publish(gathered).await?;
        }
        for item in carts[0].items.as_slice() {
            if stocked.insert(item.sku.clone()) {
                shop.stock(item.sku.as_str(), 1_000_000_000).await?;
            }
        }
        last.extend(carts.last().cloned());
    }
    let worker = shop.worker().start().await?;
    shop.settled(&last, Duration::from_mins(10)).await?;
    let settled = u64::from(PARTITIONS) * CARTS_PER_PARTITION as u64;
    counts(&worker, "hotrow_orders_settled_total", &[], settled).await?;
    let peak = peak_memory(worker.id())?;
    println!("peak of {settled} carts: {} MiB", peak / 1024 / 1024);
    assert!(peak < 256 * 1024 * 1024, "{peak} bytes");
    Ok(())
}

#[tokio::test]
async fn carts_that_do_not_fit_into_a_batch_by_their_bytes_are_settled_in_sequence()
-> anyhow::Result<()> {
    let shop = Shop::open(1).await?;
    // One envelope of an older release, larger than all of the room for opened ones, and small ones.
    let carts = (0..1_500)
        .map(|number| largest_cart(&shop, 0, number))
        .collect::<anyhow::Result<Vec<_>>>()?;
    shop.publish(&carts[..1_200]).await?;
    for gathered in carts[1_200..].chunks(20) {
        shop.publish(gathered).await?;
    }
    let worker = shop.worker().start().await?;
    shop.settled(&carts, A_WHILE).await?;
    counts(&worker, "hotrow_orders_settled_total", &[], 1_500).await?;
    let full = [("closed_by", "full")];
    let full = worker
        .metrics()
        .await?
        .count("hotrow_batch_orders_count", &full);
    assert!(full >= 1, "1,500 orders are few, and their bytes are many");
    Ok(())
}
