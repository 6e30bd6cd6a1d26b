//! Claims about the days of orders and ledger: there ahead of time, gone when they are old, and never
//! in the way of a settlement.

use std::collections::BTreeSet;

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
    let worker = shop.worker().start().await?;
    for ahead in 0..=7 {
        let day = today + Days::new(ahead);
        assert!(is_attached(&shop, day).await?, "{day} has no table");
    }
    wait::until("the days ahead to be told", A_WHILE, async || {
        let metrics = worker.metrics().await.ok()?;
        let ahead = metrics.value("hotrow_days_ahead", &[])?;
        ahead.total_cmp(&7.0).is_eq().then_some(())
    })
    .await?;
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
    let [kept, old, held, left_detached, half_detached] =
        [10, 11, 12, 200, 300].map(|ago| today - Days::new(ago));
    for day in [kept, old, held, left_detached, half_detached] {
        make_day(&shop, day).await?;
    }
    // Somebody still waits for the payment of an order.
    let awaited = format!(
        "insert into holds select order_id, now() from {}",
        table(held)
    );
    run(&shop, &awaited).await?;
    cancel_late(&shop, old).await?;
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
    for kept in [kept, held] {
        assert!(tables.contains(&table(kept)), "{tables:?}");
    }
    let orders: i64 = sqlx::query_scalar("select count(*) from orders where order_id < $1")
        .bind(first_id(today - Days::new(1)))
        .fetch_one(&shop.database)
        .await?;
    assert_eq!(orders, 2, "those of the days that are kept");
    let moves = "select items::text, goods from dropped_changes";
    let moves: Vec<(String, String)> = sqlx::query_as(moves).fetch_all(&shop.database).await?;
    let expected = [("[]".to_owned(), "released".to_owned())];
    assert_eq!(moves, expected, "the ledger has the other side of it");
    let metrics = running.metrics().await?;
    assert_eq!(metrics.count("hotrow_settle_retries_total", &[]), 0);
    Ok(())
}

#[tokio::test]
async fn old_days_of_the_ledger_leave_their_sums_behind_and_the_law_holds_at_every_moment()
-> anyhow::Result<()> {
    let shop = Shop::open(1).await?;
    let today = Utc::now().date_naive();
    ledger_of_the_last_days(&shop, today).await?;
    // Three days that are old with ten, and one that is not. The lamp is sold out, and the sofa was
    // restocked around a midnight about which the clocks disagreed.
    run(
        &shop,
        "insert into inventory (sku, title, unit_price_minor, currency, available) values
             ('desk', 'Desk', 1, 'EUR', 70), ('lamp', 'Lamp', 1, 'EUR', 0), ('sofa', 'Sofa', 1, 'EUR', 12),
             ('idle', 'Idle', 1, 'EUR', 4);
         insert into inventory_ledger (sku, kind, delta, balance, at)
         select sku, kind, delta, balance, date_trunc('day', now() at time zone 'UTC') at time zone 'UTC' + at::interval
         from (values
             ('desk', 'put', 100, 100, '-13 days 5 hours'), ('desk', 'restock', -30, 70, '-12 days 5 hours'),
             ('desk', 'restock', 5, 75, '-11 days 5 hours'), ('desk', 'restock', -5, 70, '-10 days 5 hours'),
             ('lamp', 'put', 5, 5, '-13 days 6 hours'), ('lamp', 'restock', -5, 0, '-12 days 6 hours'),
             ('sofa', 'put', 10, 10, '-11 days'), ('sofa', 'restock', 1, 11, '-10 days 1 second'),
             ('sofa', 'restock', 1, 12, '-10 days -1 second'), ('idle', 'put', 4, 4, '-13 days')
         ) as entry (sku, kind, delta, balance, at);
         insert into restock_keys (sku, idempotency_key, delta, at) values
             ('desk', 'old', 5, now() - interval '12 days'), ('desk', 'young', -5, now() - interval '9 days')",
    )
    .await?;
    // Somebody has detached a day with an entry in it.
    let detached = ledger_table(today - Days::new(20));
    let detach = format!(
        "create table {detached} (like inventory_ledger including defaults);
         insert into {detached} (sku, kind, delta, balance) values ('desk', 'put', 1, 1)"
    );
    run(&shop, &detach).await?;
    let running = shop.worker().set("RETENTION_DAYS", "1000").start().await?;
    let stream = Stream::start(&shop).await?;
    stream.flows(200).await?;

    let next = shop.worker().set("RETENTION_DAYS", "10").start().await?;
    let mut watcher = shop.place.database().await?;
    wait::until("the old entries to be summed up", A_WHILE, async || {
        // In one statement, and again and again while it happens.
        let broken: Result<Vec<String>, _> = sqlx::query_scalar(
            "select sku from inventory
             left join (select sku, sum(delta) as sum from inventory_ledger group by sku) as ledger using (sku)
             where available <> coalesce(sum, 0)",
        )
        .fetch_all(&mut watcher)
        .await;
        match broken {
            Ok(broken) if broken.is_empty() => {}
            broken => return Some(Err(anyhow::anyhow!("the law is broken: {broken:?}"))),
        }
        let old = [11, 12, 13].map(|ago| ledger_table(today - Days::new(ago)));
        let left = "select (select count(*) from pg_class where relname = any($1))
                + (select count(*) from restock_keys)";
        let left: i64 = sqlx::query_scalar(left)
            .bind(&old[..])
            .fetch_one(&mut watcher)
            .await
            .ok()?;
        // The young key.
        (left == 1).then_some(Ok(()))
    })
    .await??;
    let entries: Vec<(String, String, i64, i64)> = sqlx::query_as(
        "select sku, kind, delta, balance from inventory_ledger
         where sku in ('desk', 'lamp', 'sofa', 'idle') order by sku, id",
    )
    .fetch_all(&shop.database)
    .await?;
    let expected = [
        ("desk", "opening", 75, 75),
        ("desk", "restock", -5, 70),
        ("idle", "opening", 4, 4),
        ("sofa", "opening", 10, 10),
        ("sofa", "restock", 1, 11),
        ("sofa", "restock", 1, 12),
    ]
    .map(|(sku, kind, delta, balance)| (sku.to_owned(), kind.to_owned(), delta, balance));
    assert_eq!(entries, expected);
    let detached = sqlx::query_scalar(sqlx::AssertSqlSafe(format!(
        "select count(*) from {detached}"
    )));
    let detached: i64 = detached.fetch_one(&shop.database).await?;
    assert_eq!(detached, 1, "what is not summed up stays");
    assert!(next.has_logged("entries that are not summed up"));

    stream.flows(200).await?;
    // The law and the sequence of balances, by the judge of all claims.
    stream.settles_in_sequence(&shop).await?;
    for worker in [running, next] {
        let metrics = worker.metrics().await?;
        assert_eq!(metrics.count("hotrow_inventory_mismatch", &[]), 0);
        assert_eq!(metrics.count("hotrow_settle_retries_total", &[]), 0);
    }
    Ok(())
}

#[tokio::test]
async fn nothing_is_dropped_that_is_young_by_one_of_the_clocks_and_the_offset_is_told()
-> anyhow::Result<()> {
    let shop = Shop::open(1).await?;
    let today = Utc::now().date_naive();
    let [young_by_ours, old] = [5, 50].map(|ago| today - Days::new(ago));
    for day in [young_by_ours, old] {
        make_day(&shop, day).await?;
    }
    run(
        &shop,
        "create function public.clock_timestamp() returns timestamptz language sql volatile as
             $$ select pg_catalog.clock_timestamp() + interval '20 days' $$;
         do $$ begin
             execute format('alter database %I set search_path = public, pg_catalog', current_database());
         end $$;
         insert into restock_keys (sku, idempotency_key, delta, at)
         values ('chair', 'old', 1, now() - interval '60 days')",
    )
    .await?;
    let worker = shop.worker().set("RETENTION_DAYS", "10").start().await?;
    // Keys come after the days.
    wait::until("the days to be looked after", A_WHILE, async || {
        let keys = sqlx::query_scalar("select count(*) from restock_keys");
        let keys: i64 = keys.fetch_one(&shop.database).await.ok()?;
        (keys == 0).then_some(())
    })
    .await?;
    let tables = tables(&shop).await?;
    assert!(tables.contains(&table(young_by_ours)), "{tables:?}");
    assert!(!tables.contains(&table(old)), "{tables:?}");
    // Days begin by the database's clock.
    assert!(is_attached(&shop, today + Days::new(27)).await?);
    // An order of its day is sound, though it is far ahead by ours.
    drop_day(&shop, today + Days::new(20)).await?;
    let mut order = shop.order("c", &[("chair", 1)]);
    let their_today = Day(Day::today().0 + 20);
    order.id = shop.mint.mint(their_today.start_ms() + 1);
    let orders = [order];
    shop.publish(&orders).await?;
    shop.settled(&orders, A_WHILE).await?;
    let refused = worker.metrics().await?;
    assert_eq!(refused.count("hotrow_dead_letters_total", &[]), 0);

    let offset = wait::until("the offset to be measured", A_WHILE, async || {
        let metrics = worker.metrics().await.ok()?;
        let offset = metrics.value("hotrow_clock_offset_seconds", &[])?;
        (offset < -1.0).then_some(offset)
    })
    .await?;
    let twenty_days = -20.0 * 86_400.0;
    assert!((offset - twenty_days).abs() < 5.0, "{offset}");
    assert!(worker.has_logged("differs from the database's"));
    Ok(())
}

#[tokio::test]
async fn missing_days_are_made_on_the_spot_by_many_at_once() -> anyhow::Result<()> {
    let shop = Shop::open(1).await?;
    let today = Utc::now().date_naive();
    let missing = [0, 3, 30].map(|ahead| today + Days::new(ahead));
    for day in &missing[..2] {
        drop_day(&shop, *day).await?;
    }
    let days: BTreeSet<_> = [0, 3, 30, 36_500]
        .map(|ahead| Day(Day::today().0 + ahead))
        .into();
    let make = || hotrow_worker::days::make_for(&shop.database, &days);
    tokio::try_join!(make(), make(), make(), make())?;
    for day in missing {
        assert!(is_attached(&shop, day).await?, "{day} has no table");
    }
    let without_a_date = today + Days::new(36_500);
    assert!(!is_attached(&shop, without_a_date).await?);
    // Orders are dated when they are accepted, and entries when they are written.
    let ledger = ledger_table(today + Days::new(30));
    let is_made: bool = sqlx::query_scalar("select to_regclass($1) is not null")
        .bind(&ledger)
        .fetch_one(&shop.database)
        .await?;
    assert!(!is_made, "{ledger} is of no use");
    Ok(())
}

/// Gives the ledger a part for each of the last days, as it has when it has run for that long.
async fn ledger_of_the_last_days(shop: &Shop, today: NaiveDate) -> anyhow::Result<()> {
    let first: String = sqlx::query_scalar(
        "select inhrelid::regclass::text from pg_inherits
         where inhparent = 'inventory_ledger'::regclass order by 1 limit 1",
    )
    .fetch_one(&shop.database)
    .await?;
    let away = format!("alter table inventory_ledger detach partition {first}; drop table {first}");
    run(shop, &away).await?;
    for ago in -1..=15 {
        let day = today - chrono::TimeDelta::days(ago);
        let (table, next) = (ledger_table(day), day + Days::new(1));
        let make = format!(
            "create table if not exists {table} partition of inventory_ledger
             for values from ('{day} 00:00:00+00') to ('{next} 00:00:00+00')"
        );
        run(shop, &make).await?;
    }
    Ok(())
}

fn ledger_table(day: NaiveDate) -> String {
    day.format("inventory_ledger_%Y%m%d").to_string()
}

/// Makes the table of a day, with an order in it.
async fn make_day(shop: &Shop, day: NaiveDate) -> anyhow::Result<()> {
    let (table, next) = (table(day), day + Days::new(1));
    let (from, to) = (first_id(day), first_id(next));
    let make =
        format!("create table {table} partition of orders for values from ('{from}') to ('{to}')");
    run(shop, &make).await?;
    let start = day.and_hms_opt(0, 0, 0).unwrap_or_default().and_utc();
    sqlx::query(
        "insert into orders (order_id, status, reason, customer_id, items, accepted_at)
         values ($1, 'rejected', 'sold_out', 'c', '[]', $2)",
    )
    .bind(
        shop.mint
            .mint(start.timestamp_millis().unsigned_abs())
            .uuid(),
    )
    .bind(start)
    .execute(&shop.database)
    .await?;
    Ok(())
}

/// Has the order of a day cancelled now.
async fn cancel_late(shop: &Shop, day: NaiveDate) -> anyhow::Result<()> {
    let (part, next) = (day.format("order_changes_%Y%m%d"), day + Days::new(1));
    let (from, to, orders) = (first_id(day), first_id(next), table(day));
    let cancel = format!(
        "create table {part} partition of order_changes for values from ('{from}') to ('{to}');
         insert into order_changes (order_id, revision, status, goods, role, at)
         select order_id, 2, 'cancelled', 'released', 'admin', now() from {orders}"
    );
    run(shop, &cancel).await
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
