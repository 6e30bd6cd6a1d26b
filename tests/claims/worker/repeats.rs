//! Claims about what comes twice: it has one effect.

use hotrow_shared::{
    envelope::Order,
    id::{Day, IdMint},
};
use hotrow_tests::{Mode, Proxy, processes::ORDER_ID_SECRET, wait};
use serde_json::json;

use super::shop::{A_WHILE, Shop, counts};

#[tokio::test]
async fn a_batch_redelivered_after_its_commit_moves_stock_once() -> anyhow::Result<()> {
    let shop = Shop::open(1).await?;
    shop.stock("hot", 25).await?;
    let proxy = Proxy::in_front_of(&shop.place.amqp_url).await?;
    let killed = shop
        .worker()
        .set("AMQP_URL", proxy.url(&shop.place.amqp_url)?)
        .start()
        .await?;
    let orders: Vec<_> = (0..20).map(|_| shop.order("c", &[("hot", 2)])).collect();

    // The worker has the orders and waits for the row; from here on nothing it says reaches the broker.
    let held = shop.hold(&["hot"]).await?;
    for gathered in orders.chunks(4) {
        shop.publish(gathered).await?;
    }
    shop.waits_for_a_lock(1).await?;
    proxy.set(Mode::Stall).await?;
    drop(held);
    shop.settled(&orders[..1], A_WHILE).await?;
    // Killed between the commit and the arrival of its acknowledgement.
    killed.kill()?;
    proxy.set(Mode::Refuse).await?;

    let next = shop.worker().start().await?;
    shop.settled(&orders, A_WHILE).await?;
    let committed = "hotrow_orders_settled_total";
    wait::until("everything to be acknowledged", A_WHILE, async || {
        let metrics = next.metrics().await.ok()?;
        let redelivered = [("kind", "redelivered")];
        let duplicates = metrics.count("hotrow_orders_duplicate_total", &redelivered);
        (metrics.count(committed, &[]) + duplicates == 20 && duplicates > 0).then_some(())
    })
    .await?;
    let verdict = shop.books(&orders).await?;
    assert_eq!(
        (verdict.outcomes.confirmed, verdict.outcomes.sold_out),
        (12, 8)
    );
    assert_eq!(shop.left("hot").await?, 1);
    assert_eq!(
        shop.outcomes(&orders).await?,
        [["confirmed"; 12].as_slice(), &["sold_out"; 8]].concat()
    );
    Ok(())
}

#[tokio::test]
async fn an_envelope_that_is_published_twice_moves_stock_once() -> anyhow::Result<()> {
    let shop = Shop::open(1).await?;
    shop.stock("hot", 10).await?;
    let orders: Vec<_> = (0..8).map(|_| shop.order("c", &[("hot", 2)])).collect();
    // As a confirm that never came makes a publisher do: within one batch, and after it.
    shop.publish(&orders).await?;
    shop.publish(&orders).await?;
    let worker = shop.worker().start().await?;
    shop.settled(&orders, A_WHILE).await?;
    let settled_at = shop.row(&orders[0]).await?.settled_at;
    shop.publish(&orders).await?;
    let (name, kind) = ("hotrow_orders_duplicate_total", [("kind", "redelivered")]);
    counts(&worker, name, &kind, 16).await?;
    counts(&worker, "hotrow_orders_settled_total", &[], 8).await?;

    let verdict = shop.books(&orders).await?;
    assert_eq!(
        (verdict.outcomes.confirmed, verdict.outcomes.sold_out),
        (5, 3)
    );
    assert_eq!(
        shop.row(&orders[0]).await?.settled_at,
        settled_at,
        "the first outcome stays as it is"
    );
    Ok(())
}

#[tokio::test]
async fn one_key_has_one_effect_in_one_batch_in_several_and_with_another_body() -> anyhow::Result<()>
{
    let shop = Shop::open(1).await?;
    shop.stock("chair", 10).await?;
    shop.stock("table", 10).await?;
    let today = Day::today();
    let keyed = |items: &[(&str, u32)]| shop.keyed("buyer", items, "key-1", today);
    let first = keyed(&[("chair", 1)]);
    let others = [
        shop.keyed("someone", &[("chair", 1)], "key-1", today),
        shop.keyed("buyer", &[("chair", 1)], "key-2", today),
    ];
    // Three times in one batch, the third with another body.
    let envelope = [
        first.clone(),
        keyed(&[("chair", 1)]),
        others[0].clone(),
        keyed(&[("table", 5)]),
        others[1].clone(),
    ];
    assert_eq!(envelope[3].id, first.id);
    shop.publish(&envelope).await?;
    let worker = shop.worker().start().await?;
    shop.settled(&envelope, A_WHILE).await?;
    // And twice in later ones.
    shop.publish(&[keyed(&[("chair", 1)])]).await?;
    shop.publish(&[keyed(&[("table", 5), ("chair", 2)])])
        .await?;
    let (name, kind) = ("hotrow_orders_duplicate_total", [("kind", "repeated_key")]);
    counts(&worker, name, &kind, 4).await?;

    assert_eq!(shop.left("chair").await?, 7, "one each of three purchases");
    assert_eq!(shop.left("table").await?, 10);
    let row = shop.row(&first).await?;
    assert_eq!(row.outcome(), "confirmed");
    assert_eq!(row.items[0]["sku"], "chair", "the first body counts");
    let [a, b] = others;
    shop.books(&[first, a, b]).await?;
    Ok(())
}

#[tokio::test]
async fn one_key_sent_at_once_for_products_of_two_partitions_has_one_effect() -> anyhow::Result<()>
{
    let shop = Shop::open(2).await?;
    let skus = shop.sku_of_each_partition();
    for sku in &skus {
        shop.stock(sku, 1_000).await?;
    }
    let today = Day::today();
    let worker = shop.worker();
    let (_first, _second) = tokio::try_join!(worker.start(), worker.start())?;
    let of = |sku: &str| -> Vec<Order> {
        (0..50)
            .map(|key| shop.keyed("c", &[(sku, 1)], &format!("key-{key}"), today))
            .collect()
    };
    let (here, there) = (of(&skus[0]), of(&skus[1]));
    // Both settlements have looked for earlier orders, found none, and stand before their writes.
    let mut gate = shop.database.begin().await?;
    sqlx::raw_sql("lock table inventory_ledger in share mode")
        .execute(&mut *gate)
        .await?;
    shop.publish(&here).await?;
    shop.publish(&there).await?;
    shop.waits_for_a_lock(2).await?;
    gate.rollback().await?;

    shop.settled(&here, A_WHILE).await?;
    let verdict = wait::until("the second settlement to be done", A_WHILE, async || {
        shop.books(&here).await.ok()
    })
    .await?;
    assert_eq!(verdict.outcomes.confirmed, 50);
    let left = shop.left(&skus[0]).await? + shop.left(&skus[1]).await?;
    assert_eq!(left, 2_000 - 50);
    Ok(())
}

#[tokio::test]
async fn a_key_repeated_after_midnight_is_another_name_of_the_first_order() -> anyhow::Result<()> {
    let shop = Shop::open(1).await?;
    shop.stock("chair", 3).await?;
    let today = Day::today();
    let (yesterday, tomorrow) = (Day(today.0 - 1), Day(today.0 + 1));
    let (worker, ingest) = (shop.worker(), shop.ingest());
    let (worker, ingest) = tokio::try_join!(worker.start(), ingest.start())?;
    let keyed =
        |customer: &str, quantity, day| shop.keyed(customer, &[("chair", quantity)], "key", day);

    // Settled yesterday and repeated today; repeated tomorrow within the same batch; and a refusal,
    // which stays one though the repeat would fit.
    let first = [keyed("a", 1, yesterday), keyed("c", 3, yesterday)];
    shop.publish(&first).await?;
    shop.settled(&first, A_WHILE).await?;
    let second = [
        keyed("a", 1, today),
        keyed("b", 1, today),
        keyed("b", 1, tomorrow),
        keyed("c", 1, today),
    ];
    shop.publish(&second).await?;
    shop.settled(&second, A_WHILE).await?;
    // The repeat of the day after overtook the order of the day before.
    let third = [keyed("d", 1, today), keyed("d", 1, yesterday)];
    shop.publish(&third).await?;
    shop.settled(&third, A_WHILE).await?;

    for (alias, original) in [
        (&second[0], &first[0]),
        (&second[2], &second[1]),
        (&second[3], &first[1]),
        (&third[1], &third[0]),
    ] {
        assert_ne!(alias.id, original.id);
        let (row, outcome) = (shop.row(alias).await?, shop.row(original).await?);
        assert_eq!(row.alias_of, Some(original.id.uuid()));
        assert_eq!(row.outcome(), outcome.outcome());
    }
    let all = [&first[..], &second, &third].concat();
    let verdict = shop.books(&all).await?;
    assert_eq!(
        (verdict.outcomes.confirmed, verdict.outcomes.sold_out),
        (3, 1)
    );
    assert_eq!(shop.left("chair").await?, 0);
    let (name, kind) = ("hotrow_orders_duplicate_total", [("kind", "repeated_key")]);
    counts(&worker, name, &kind, 4).await?;

    // A client that asks for either name reads the first outcome.
    let client = ingest.client()?;
    let mut told = client
        .status(second[0].id.uuid())
        .await?
        .expect(200)?
        .json()?;
    let original = client
        .status(first[0].id.uuid())
        .await?
        .expect(200)?
        .json()?;
    assert_eq!(told["order_id"], second[0].id.to_string());
    assert_eq!(told["alias_of"], first[0].id.to_string());
    told["order_id"] = json!(first[0].id);
    told["alias_of"] = json!(null);
    assert_eq!(told, original);
    assert_eq!(told["status"], "confirmed");
    assert_eq!(told["total_minor"], 1_000);
    Ok(())
}

#[tokio::test]
async fn a_key_repeated_after_the_secret_was_rotated_has_one_effect() -> anyhow::Result<()> {
    let shop = Shop::open(1).await?;
    shop.stock("chair", 3).await?;
    let today = Day::today();
    let new_secret = "another-secret-for-tests-of-more-than-32";
    let rotated = IdMint::new(new_secret, Some(ORDER_ID_SECRET));
    let before = shop.keyed("c", &[("chair", 1)], "key", today);
    let mut after = before.clone();
    if let Some(key) = &before.key {
        after.id = rotated.derive(&before.customer_id, key, today.start_ms());
    }
    assert_ne!(before.id, after.id);
    let _worker = shop
        .worker()
        .set("ORDER_ID_SECRET", new_secret)
        .set("ORDER_ID_SECRET_PREVIOUS", ORDER_ID_SECRET)
        .start()
        .await?;
    let orders = [before, after];
    shop.publish_each(&orders).await?;
    shop.settled(&orders, A_WHILE).await?;
    let alias = shop.row(&orders[1]).await?;
    assert_eq!(alias.alias_of, Some(orders[0].id.uuid()));
    assert_eq!(shop.left("chair").await?, 2);
    shop.books(&orders).await?;
    Ok(())
}

#[tokio::test]
async fn a_key_sent_with_two_bodies_on_both_sides_of_midnight_at_once_has_one_effect()
-> anyhow::Result<()> {
    let shop = Shop::open(2).await?;
    let skus = shop.sku_of_each_partition();
    for sku in &skus {
        shop.stock(sku, 10).await?;
    }
    let today = Day::today();
    let before = shop.keyed("c", &[(&skus[0], 1)], "key", Day(today.0 - 1));
    let after = shop.keyed("c", &[(&skus[1], 1)], "key", today);
    let worker = shop.worker();
    let (_first, _second) = tokio::try_join!(worker.start(), worker.start())?;
    let mut gate = shop.database.begin().await?;
    sqlx::raw_sql("lock table inventory_ledger in share mode")
        .execute(&mut *gate)
        .await?;
    let orders = [before, after];
    shop.publish_each(&orders).await?;
    shop.waits_for_a_lock(2).await?;
    gate.rollback().await?;
    shop.settled(&orders, A_WHILE).await?;
    let verdict = shop.books(&orders).await?;
    assert_eq!(verdict.outcomes.confirmed, 1);
    Ok(())
}

#[tokio::test]
async fn a_key_repeated_every_day_is_a_new_purchase_from_the_second_midnight_on()
-> anyhow::Result<()> {
    let shop = Shop::open(2).await?;
    let skus = shop.sku_of_each_partition();
    for sku in &skus {
        shop.stock(sku, 10).await?;
    }
    let today = Day::today().0;
    let _worker = shop.worker().start().await?;
    // Each day it comes in by another queue.
    let mut orders = Vec::new();
    for (ago, sku) in [(4, 0), (3, 1), (2, 0), (1, 1), (0, 0)] {
        let order = shop.keyed("c", &[(&skus[sku], 1)], "key", Day(today - ago));
        make_day(&shop, order.id.day()).await?;
        shop.publish(std::slice::from_ref(&order)).await?;
        shop.settled(std::slice::from_ref(&order), A_WHILE).await?;
        orders.push(order);
    }
    let mut firsts = Vec::new();
    for order in &orders {
        firsts.push(shop.row(order).await?.alias_of);
    }
    let id = |at: usize| Some(orders[at].id.uuid());
    assert_eq!(firsts, [None, id(0), None, id(2), None]);
    let left = shop.left(&skus[0]).await? + shop.left(&skus[1]).await?;
    assert_eq!(left, 20 - 3);
    shop.books(&orders).await?;
    Ok(())
}

/// Makes the table of a day in the past, unless it is there.
async fn make_day(shop: &Shop, day: Day) -> anyhow::Result<()> {
    let date = chrono::NaiveDate::default() + chrono::Days::new(day.0);
    let name = date.format("orders_%Y%m%d");
    let (from, to) = (day.first_id(), Day(day.0 + 1).first_id());
    let make = format!(
        "create table if not exists {name} partition of orders for values from ('{from}') to ('{to}')"
    );
    sqlx::raw_sql(sqlx::AssertSqlSafe(make))
        .execute(&shop.database)
        .await?;
    Ok(())
}
