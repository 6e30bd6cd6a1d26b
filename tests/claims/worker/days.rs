//! Claims about the days of the orders table: there ahead of time, gone when they are old, and never
//! in the way of a settlement.

use chrono::{DateTime, Days, NaiveDate, Utc};
use hotrow_shared::id::Day;
use hotrow_tests::wait;
use sqlx::Connection;

use super::{
    shop::{A_WHILE, Shop},
    stream::Stream,
};

#[tokio::test]
async fn the_coming_days_have_a_table_before_they_begin() -> anyhow::Result<()> {
    let shop = Shop::open(1).await?;
    let today = Utc::now().date_naive();
    // As if every worker had been away for days: all that lies ahead is missing.
    for ahead in 0..=7 {
        drop_day(&shop, today + Days::new(ahead)).await?;
    }
    let _worker = shop.worker().start().await?;
    for ahead in 0..=7 {
        let day = today + Days::new(ahead);
        assert!(is_attached(&shop, day).await?, "{day} has no table");
    }
    // An order of tomorrow, by a clock that is ahead, settles like any other.
    shop.stock("chair", 1).await?;
    let mut order = shop.order("c", &[("chair", 1)]);
    let tomorrow = Day(Day::today().0 + 1);
    order.id = shop.mint.mint(tomorrow.start_ms() + 1);
    let orders = [order];
    shop.publish(&orders).await?;
    shop.settled(&orders, A_WHILE).await?;
    shop.books(&orders).await?;
    Ok(())
}

#[tokio::test]
async fn days_past_their_retention_are_dropped_with_their_orders_while_settling_goes_on()
-> anyhow::Result<()> {
    let shop = Shop::open(1).await?;
    // One worker that settles and keeps what it finds, and later one that does not.
    let running = shop.worker().set("RETENTION_DAYS", "1000").start().await?;
    let worker = shop.worker().set("RETENTION_DAYS", "10");
    let today = Utc::now().date_naive();
    let [kept, old, left_detached, half_detached] =
        [10, 11, 200, 300].map(|ago| today - Days::new(ago));
    for day in [kept, old, left_detached, half_detached] {
        make_day(&shop, day).await?;
    }
    let detach = format!(
        "alter table orders detach partition {}",
        table(left_detached)
    );
    run(&shop, &detach).await?;
    detach_by_half(&shop, half_detached).await?;

    // Whoever only migrates keeps what is there.
    let migrated = worker.run(&["migrate"]).await?;
    assert!(migrated.status.success());
    assert!(tables(&shop).await?.contains(&table(old)));

    let stream = Stream::start(&shop).await?;
    stream.flows(300).await?;
    // A worker looks after the days at its start, and from time to time.
    let _next = worker.start().await?;
    wait::until("the old days to be dropped", A_WHILE, async || {
        let tables = tables(&shop).await.ok()?;
        let dropped = |day| !tables.contains(&table(day));
        [old, left_detached, half_detached]
            .into_iter()
            .all(dropped)
            .then_some(())
    })
    .await?;
    stream.flows(300).await?;
    stream.settles_in_sequence(&shop).await?;
    let tables = tables(&shop).await?;
    assert!(tables.contains(&table(kept)), "{tables:?}");
    let orders: i64 = sqlx::query_scalar("select count(*) from orders where order_id < $1")
        .bind(first_id(today - Days::new(1)))
        .fetch_one(&shop.database)
        .await?;
    assert_eq!(orders, 1, "the order of the day that is kept");
    let metrics = running.metrics().await?;
    assert_eq!(metrics.count("hotrow_settle_retries_total", &[]), 0);
    Ok(())
}

/// Makes the table of a day, with an order in it.
async fn make_day(shop: &Shop, day: NaiveDate) -> anyhow::Result<()> {
    let (table, next) = (table(day), day + Days::new(1));
    let (from, to) = (first_id(day), first_id(next));
    let make =
        format!("create table {table} partition of orders for values from ('{from}') to ('{to}')");
    run(shop, &make).await?;
    sqlx::query(
        "insert into orders (order_id, status, reason, customer_id, items, accepted_at)
         values ($1, 'rejected', 'sold_out', 'c', '[]', $2)",
    )
    .bind(first_id(day))
    .bind(day.and_hms_opt(0, 0, 0).unwrap_or_default().and_utc())
    .execute(&shop.database)
    .await?;
    Ok(())
}

async fn drop_day(shop: &Shop, day: NaiveDate) -> anyhow::Result<()> {
    run(shop, &format!("drop table {}", table(day))).await
}

/// Leaves a day as a process does that is killed while it waits for a reader of the day.
async fn detach_by_half(shop: &Shop, day: NaiveDate) -> anyhow::Result<()> {
    let mut reader = shop.place.database().await?;
    let mut reading = reader.begin().await?;
    sqlx::query("select count(*) from orders")
        .execute(&mut *reading)
        .await?;
    let detach = format!(
        "set statement_timeout = '1s'; alter table orders detach partition {} concurrently",
        table(day)
    );
    let mut killed = shop.place.database().await?;
    let [timeout, detach] = detach
        .split_once("; ")
        .map(<[&str; 2]>::from)
        .unwrap_or_default();
    sqlx::raw_sql(sqlx::AssertSqlSafe(timeout.to_owned()))
        .execute(&mut killed)
        .await?;
    let cut_off = sqlx::raw_sql(sqlx::AssertSqlSafe(detach.to_owned()))
        .execute(&mut killed)
        .await;
    assert!(cut_off.is_err(), "the detach did not wait for the reader");
    let pending: bool = sqlx::query_scalar(
        "select inhdetachpending from pg_inherits where inhrelid = to_regclass($1)",
    )
    .bind(table(day))
    .fetch_one(&shop.database)
    .await?;
    assert!(pending, "the detach is not half done");
    Ok(())
}

async fn run(shop: &Shop, statement: &str) -> anyhow::Result<()> {
    sqlx::raw_sql(sqlx::AssertSqlSafe(statement.to_owned()))
        .execute(&shop.database)
        .await?;
    Ok(())
}

async fn tables(shop: &Shop) -> anyhow::Result<Vec<String>> {
    let tables =
        "select relname::text from pg_class where relkind = 'r' and relname like 'orders\\_%'";
    Ok(sqlx::query_scalar(tables).fetch_all(&shop.database).await?)
}

async fn is_attached(shop: &Shop, day: NaiveDate) -> anyhow::Result<bool> {
    let attached = "select exists (select from pg_inherits
         where inhrelid = to_regclass($1) and inhparent = 'orders'::regclass)";
    Ok(sqlx::query_scalar(attached)
        .bind(table(day))
        .fetch_one(&shop.database)
        .await?)
}

fn table(day: NaiveDate) -> String {
    day.format("orders_%Y%m%d").to_string()
}

fn first_id(day: NaiveDate) -> uuid::Uuid {
    let start: DateTime<Utc> = day.and_hms_opt(0, 0, 0).unwrap_or_default().and_utc();
    Day::of_ms(start.timestamp_millis().unsigned_abs()).first_id()
}
