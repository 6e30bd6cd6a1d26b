//! Claims about trouble that is not the orders': they wait, keep their sequence, and lose nothing.

use std::time::Duration;

use hotrow_shared::{envelope::Order, topology};
use hotrow_tests::{
    Mode, Place, Process, Proxy,
    servers::{Postgres, RabbitMq},
    wait,
};
use lapin::options::QueueDeleteOptions;

use super::{
    shop::{A_WHILE, Shop, counts, counts_at_least},
    stream::Stream,
};

const RETRIES: &str = "hotrow_settle_retries_total";
const DEAD: &str = "hotrow_dead_letters_total";

/// Whatever happens to an order is what a table says.
const TROUBLE: &str = "
    create table trouble (state text);
    create function trouble() returns trigger language plpgsql as $$
        declare state text := (select max(trouble.state) from trouble);
        begin
            if state is not null then raise exception using errcode = state; end if;
            return new;
        end $$;
    create trigger trouble before insert on orders for each row execute function trouble()";

#[tokio::test]
async fn a_database_that_is_cut_off_under_load_costs_nothing_but_time() -> anyhow::Result<()> {
    let shop = Shop::open(2).await?;
    let proxy = Proxy::in_front_of(&shop.place.database_url).await?;
    let worker = shop
        .worker()
        .set("DATABASE_URL", proxy.url(&shop.place.database_url)?)
        .start()
        .await?;
    let stream = Stream::start(&shop).await?;
    stream.flows(500).await?;
    proxy.set(Mode::Refuse).await?;
    wait::until("the worker to notice", A_WHILE, async || {
        (!worker.is_ready().await).then_some(())
    })
    .await?;
    stream.flows(1_500).await?;
    counts_at_least(&worker, RETRIES, &[("cause", "connection")], 4).await?;
    proxy.set(Mode::Pass).await?;
    stream.flows(500).await?;
    // And once more, in the middle of answers this time.
    proxy.set(Mode::Stall).await?;
    stream.flows(500).await?;
    proxy.set(Mode::Refuse).await?;
    proxy.set(Mode::Pass).await?;
    stream.flows(300).await?;
    stream.settles_in_sequence(&shop).await?;
    assert_eq!(worker.metrics().await?.count(DEAD, &[]), 0);
    wait::until("the worker to be ready again", A_WHILE, async || {
        worker.is_ready().await.then_some(())
    })
    .await
}

#[tokio::test]
async fn a_database_that_crashes_and_restarts_under_load_costs_nothing_but_time()
-> anyhow::Result<()> {
    let postgres = Postgres::start().await?;
    let shop = Shop::open_at(Place::with_postgres(&postgres).await?, 2).await?;
    let worker = shop.worker().start().await?;
    let stream = Stream::start(&shop).await?;
    stream.flows(500).await?;
    postgres.crash().await?;
    stream.flows(500).await?;
    postgres.start_again().await?;
    stream.flows(500).await?;
    postgres.stop().await?;
    stream.flows(500).await?;
    postgres.start_again().await?;
    stream.settles_in_sequence(&shop).await?;
    let counted = worker.metrics().await?;
    assert!(counted.count(RETRIES, &[("cause", "connection")]) > 0);
    assert_eq!(counted.count(DEAD, &[]), 0);
    Ok(())
}

#[tokio::test]
async fn trouble_that_is_not_the_orders_is_tried_again_under_its_own_cause() -> anyhow::Result<()> {
    let shop = Shop::open(1).await?;
    shop.stock("chair", 100).await?;
    shop.sql(TROUBLE).await?;
    let worker = shop.worker().start().await?;
    let mut orders = Vec::new();
    for (state, cause) in [
        ("40001", "serialization"),
        ("40P01", "deadlock"),
        ("55P03", "lock_timeout"),
        ("25006", "read_only"),
        ("57014", "timeout"),
        ("57P01", "connection"),
        ("53100", "other"),
        ("42501", "other"),
        ("XX000", "other"),
    ] {
        sqlx::query("insert into trouble values ($1)")
            .bind(state)
            .execute(&shop.database)
            .await?;
        let before = worker.metrics().await?;
        let order = shop.order("c", &[("chair", 1)]);
        shop.publish(std::slice::from_ref(&order)).await?;
        let labels = [("cause", cause)];
        let retries = before.count(RETRIES, &labels) + 2;
        counts_at_least(&worker, RETRIES, &labels, retries).await?;
        shop.sql("truncate trouble").await?;
        shop.settled(std::slice::from_ref(&order), A_WHILE).await?;
        let after = worker.metrics().await?;
        assert_eq!(
            after.count(RETRIES, &[]) - before.count(RETRIES, &[]),
            after.count(RETRIES, &labels) - before.count(RETRIES, &labels),
            "{state} counts as {cause} and nothing else"
        );
        orders.push(order);
    }
    assert_eq!(worker.metrics().await?.count(DEAD, &[]), 0);
    let verdict = shop.books(&orders).await?;
    assert_eq!(verdict.outcomes.confirmed, 9);
    Ok(())
}

#[tokio::test]
async fn a_settlement_that_takes_too_long_is_tried_with_half_the_orders() -> anyhow::Result<()> {
    let shop = Shop::open(1).await?;
    shop.stock("chair", 1_000).await?;
    // The database takes 20 ms for an order and gives up after a second.
    shop.sql(
        "create function slow() returns trigger language plpgsql as
             $$ begin perform pg_sleep(0.02); return new; end $$;
         create trigger slow before insert on orders for each row execute function slow();
         do $$ begin execute format('alter database %I set statement_timeout = 1000', current_database()); end $$",
    )
    .await?;
    let orders: Vec<_> = (0..150).map(|_| shop.order("c", &[("chair", 1)])).collect();
    shop.publish(&orders).await?;
    let worker = shop.worker().start().await?;
    shop.settled(&orders, A_WHILE).await?;
    counts_at_least(&worker, RETRIES, &[("cause", "timeout")], 2).await?;
    assert_eq!(worker.metrics().await?.count(DEAD, &[]), 0);
    assert_eq!(shop.left("chair").await?, 850);

    // Once it is quick again, the parts grow again.
    shop.sql("drop trigger slow on orders").await?;
    let more: Vec<_> = (0..600).map(|_| shop.order("c", &[("chair", 1)])).collect();
    shop.publish(&more).await?;
    shop.settled(&more, A_WHILE).await?;
    let largest: i32 =
        sqlx::query_scalar("select max(orders) from inventory_ledger where kind = 'settlement'")
            .fetch_one(&shop.database)
            .await?;
    assert!(largest > 150, "{largest}");
    shop.books(&[orders, more].concat()).await?;
    Ok(())
}

#[tokio::test]
async fn the_victim_of_a_deadlock_is_settled_after_all() -> anyhow::Result<()> {
    let shop = Shop::open(1).await?;
    shop.stock("a-chair", 100).await?;
    shop.stock("b-table", 100).await?;
    let worker = shop.worker().start().await?;
    let cart = wait::until("the worker to be the victim", A_WHILE, async || {
        deadlock(&shop).await.transpose()
    })
    .await??;
    shop.settled(&cart, A_WHILE).await?;
    counts(&worker, RETRIES, &[("cause", "deadlock")], 1).await?;
    assert_eq!(shop.outcomes(&cart).await?, ["confirmed"]);
    shop.books(&cart).await?;
    Ok(())
}

/// Makes a cart wait for a row while the row that it has is waited for. Gives the cart, unless it was not
/// the worker that had to give way: the server looks for deadlocks a second after a wait began, and
/// the worker's began first, but this machine may be slow.
async fn deadlock(shop: &Shop) -> anyhow::Result<Option<[Order; 1]>> {
    let cart = [shop.order("c", &[("b-table", 1), ("a-chair", 1)])];
    let mut held = shop.hold(&["b-table"]).await?;
    shop.publish(&cart).await?;
    shop.waits_for_a_lock(1).await?;
    let crossed = sqlx::query("select from inventory where sku = 'a-chair' for update")
        .execute(&mut *held)
        .await;
    held.rollback().await?;
    if crossed.is_err() {
        shop.settled(&cart, A_WHILE).await?;
    }
    Ok(crossed.is_ok().then_some(cart))
}

#[tokio::test]
async fn a_row_that_somebody_holds_too_long_holds_up_only_its_own_partition() -> anyhow::Result<()>
{
    let shop = Shop::open(2).await?;
    let skus = shop.sku_of_each_partition();
    shop.stock(&skus[0], 5).await?;
    shop.stock(&skus[1], 100).await?;
    let worker = shop.worker().start().await?;
    let behind = [
        shop.order("a", &[(&skus[0], 3)]),
        shop.order("b", &[(&skus[0], 3)]),
    ];
    let held = shop.hold(&[&skus[0]]).await?;
    shop.publish_each(&behind).await?;
    shop.waits_for_a_lock(1).await?;
    // The others wait for it once, and not with every batch.
    let beside = async {
        for _ in 0..20 {
            let order = [shop.order("c", &[(&skus[1], 3)])];
            shop.publish(&order).await?;
            shop.settled(&order, A_WHILE).await?;
        }
        anyhow::Ok(())
    };
    tokio::time::timeout(Duration::from_secs(8), beside).await??;
    counts_at_least(&worker, RETRIES, &[("cause", "lock_timeout")], 1).await?;
    held.rollback().await?;
    shop.settled(&behind, A_WHILE).await?;
    assert_eq!(shop.outcomes(&behind).await?, ["confirmed", "sold_out"]);
    shop.books(&behind).await?;
    Ok(())
}

#[tokio::test]
async fn a_database_that_became_a_standby_is_waited_for() -> anyhow::Result<()> {
    let shop = Shop::open(1).await?;
    let worker = shop.worker().start().await?;
    let stream = Stream::start(&shop).await?;
    stream.flows(300).await?;
    switch(&shop, "on").await?;
    counts_at_least(&worker, RETRIES, &[("cause", "read_only")], 2).await?;
    stream.flows(300).await?;
    switch(&shop, "off").await?;
    stream.settles_in_sequence(&shop).await?;
    assert_eq!(worker.metrics().await?.count(DEAD, &[]), 0);
    Ok(())
}

#[tokio::test]
async fn a_table_that_is_missing_is_waited_for() -> anyhow::Result<()> {
    let shop = Shop::open(1).await?;
    let worker = shop.worker().start().await?;
    let stream = Stream::start(&shop).await?;
    stream.flows(300).await?;
    for (away, back) in [
        (
            "alter table orders rename to orders_away",
            "alter table orders_away rename to orders",
        ),
        (
            "alter table inventory rename to inventory_away",
            "alter table inventory_away rename to inventory",
        ),
    ] {
        let before = worker.metrics().await?.count(RETRIES, &[]);
        shop.sql(away).await?;
        counts_at_least(&worker, RETRIES, &[], before + 2).await?;
        shop.sql(back).await?;
        stream.flows(100).await?;
    }
    stream.settles_in_sequence(&shop).await?;
    let counted = worker.metrics().await?;
    assert_eq!(counted.count(DEAD, &[]), 0);
    assert_eq!(
        counted.count(RETRIES, &[]),
        counted.count(RETRIES, &[("cause", "other")])
    );
    Ok(())
}

#[tokio::test]
async fn a_day_that_is_missing_is_made_and_no_order_suffers() -> anyhow::Result<()> {
    let shop = Shop::open(1).await?;
    shop.stock("chair", 100).await?;
    let worker = shop.worker().start().await?;
    // The look at the days that every start takes would make what is dropped below.
    wait::until("the first look to be over", A_WHILE, async || {
        let ahead = worker.metrics().await.ok()?;
        ahead
            .value("hotrow_days_ahead", &[])
            .filter(|days| *days > 0.0)
    })
    .await?;
    let today = chrono::Utc::now();
    let run = async |statement: String| {
        let statement = sqlx::raw_sql(sqlx::AssertSqlSafe(statement));
        statement.execute(&shop.database).await
    };
    let wide: String = sqlx::query_scalar(
        "select inhrelid::regclass::text from pg_inherits
         where inhparent = 'inventory_ledger'::regclass and inhrelid::regclass::text ~ '_[0-9]{8}_[0-9]{8}$'",
    )
    .fetch_one(&shop.database)
    .await?;
    // The first part of the ledger holds many days, and the one that is made in its place holds one.
    let narrow = today.format("inventory_ledger_%Y%m%d").to_string();
    let detach = |part: &str, to: &str| {
        format!(
            "alter table inventory_ledger detach partition {part}; alter table {part} rename to {to}"
        )
    };
    let mut settled = Vec::new();
    for away in [
        today.format("drop table orders_%Y%m%d").to_string(),
        detach(&wide, "wide_away"),
        detach(&narrow, "narrow_away"),
    ] {
        let labels = [("cause", "missing_day")];
        let before = worker.metrics().await?.count(RETRIES, &labels);
        run(away).await?;
        let orders: Vec<_> = (0..20).map(|_| shop.order("c", &[("chair", 1)])).collect();
        shop.publish(&orders).await?;
        shop.settled(&orders, A_WHILE).await?;
        counts_at_least(&worker, RETRIES, &labels, before + 1).await?;
        settled.extend(orders);
    }
    assert_eq!(worker.metrics().await?.count(DEAD, &[]), 0);
    for away in ["wide_away", "narrow_away"] {
        run(format!("insert into inventory_ledger select * from {away}")).await?;
    }
    let verdict = shop.books(&settled).await?;
    assert_eq!(verdict.outcomes.confirmed, 60);
    Ok(())
}

#[tokio::test]
async fn a_broker_connection_that_is_cut_under_load_costs_nothing_but_time() -> anyhow::Result<()> {
    let shop = Shop::open(2).await?;
    let proxy = Proxy::in_front_of(&shop.place.amqp_url).await?;
    let worker = shop
        .worker()
        .set("AMQP_URL", proxy.url(&shop.place.amqp_url)?)
        .set("BATCH_ORDERS_MAX", "20")
        .start()
        .await?;
    let stream = Stream::start(&shop).await?;
    for _ in 0..3 {
        stream.flows(300).await?;
        proxy.set(Mode::Refuse).await?;
        interrupted(&worker).await?;
        stream.flows(300).await?;
        proxy.set(Mode::Pass).await?;
        wait::until("the worker to be ready again", A_WHILE, async || {
            worker.is_ready().await.then_some(())
        })
        .await?;
    }
    stream.settles_in_sequence(&shop).await?;
    assert_eq!(worker.metrics().await?.count(DEAD, &[]), 0);
    Ok(())
}

#[tokio::test]
async fn a_broker_that_falls_silent_is_left_and_found_again() -> anyhow::Result<()> {
    let shop = Shop::open(1).await?;
    let proxy = Proxy::in_front_of(&shop.place.amqp_url).await?;
    let url = proxy.url(&shop.place.amqp_url)?;
    let worker = shop
        .worker()
        .set("AMQP_URL", format!("{url}?heartbeat=1"))
        .start()
        .await?;
    let stream = Stream::start(&shop).await?;
    stream.flows(300).await?;
    proxy.set(Mode::Stall).await?;
    interrupted(&worker).await?;
    proxy.set(Mode::Pass).await?;
    stream.flows(300).await?;
    stream.settles_in_sequence(&shop).await?;
    Ok(())
}

#[tokio::test]
async fn a_broker_that_restarts_gives_back_what_was_not_acknowledged() -> anyhow::Result<()> {
    let rabbitmq = RabbitMq::start().await?;
    let shop = Shop::open_at(Place::with_rabbitmq(&rabbitmq).await?, 1).await?;
    shop.stock("hot", 25).await?;
    let worker = shop.worker().start().await?;
    let mut orders: Vec<_> = (0..20).map(|_| shop.order("c", &[("hot", 2)])).collect();
    let held = shop.hold(&["hot"]).await?;
    for gathered in orders.chunks(4) {
        shop.publish(gathered).await?;
    }
    shop.waits_for_a_lock(1).await?;
    rabbitmq.stop().await?;
    drop(held);
    shop.settled(&orders[..4], A_WHILE).await?;
    rabbitmq.start_again().await?;
    shop.settled(&orders, A_WHILE).await?;
    let redelivered = [("kind", "redelivered")];
    counts_at_least(&worker, "hotrow_orders_duplicate_total", &redelivered, 4).await?;
    let later = shop.order("c", &[("hot", 1)]);
    let again = shop.publisher_again().await?;
    again.publish(std::slice::from_ref(&later)).await?;
    shop.settled(std::slice::from_ref(&later), A_WHILE).await?;
    orders.push(later);
    let verdict = shop.books(&orders).await?;
    assert_eq!(verdict.outcomes.confirmed, 12 + 1);
    assert_eq!(shop.left("hot").await?, 0);
    Ok(())
}

#[tokio::test]
async fn queues_that_are_lost_are_made_again_by_a_worker_that_misses_them() -> anyhow::Result<()> {
    let shop = Shop::open(2).await?;
    let skus = shop.sku_of_each_partition();
    for sku in &skus {
        shop.stock(sku, 5).await?;
    }
    let _worker = shop.worker().start().await?;
    let channel = shop.channel().await?;
    // As a broker comes back that was set up anew.
    for partition in 0..2 {
        channel
            .queue_delete(
                topology::queue(partition).into(),
                QueueDeleteOptions::default(),
            )
            .await?;
    }
    let orders: Vec<_> = skus
        .iter()
        .map(|sku| shop.order("c", &[(sku, 1)]))
        .collect();
    wait::until("both queues to be back", A_WHILE, async || {
        shop.publish_each(&orders).await.ok()
    })
    .await?;
    shop.settled(&orders, A_WHILE).await?;
    shop.books(&orders).await?;
    Ok(())
}

/// Waits until a worker knows that it has no broker.
async fn interrupted(worker: &Process) -> anyhow::Result<()> {
    wait::until("the worker to miss its broker", A_WHILE, async || {
        (!worker.is_ready().await).then_some(())
    })
    .await
}

/// Lets new sessions read only, or write, and makes all of the worker's new.
async fn switch(shop: &Shop, read_only: &str) -> anyhow::Result<()> {
    let set = format!(
        "do $$ begin execute format('alter database %I set default_transaction_read_only = {read_only}', current_database()); end $$"
    );
    sqlx::raw_sql(sqlx::AssertSqlSafe(set))
        .execute(&shop.database)
        .await?;
    shop.end_sessions("hotrow-worker").await?;
    Ok(())
}
