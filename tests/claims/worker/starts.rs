//! Claims about the start: the schema, the settings, and what a worker says when it cannot work.

use std::path::Path;

use hotrow_tests::{
    Place, Settings,
    client::Product,
    processes::{self, ORDER_ID_SECRET},
};
use sqlx::{PgConnection, migrate::Migrator};
use tokio::{net::TcpListener, time::timeout};

use super::shop::{A_WHILE, Shop};

/// The statement of the release before, word for word but for what it is given.
const SETTLED_BEFORE: &str = "insert into inventory_ledger (sku, kind, delta, balance, orders, at)
    select 'chair', 'settlement', -1, $1, 1, now()";

#[tokio::test]
async fn migrating_twice_changes_nothing_and_keeps_what_is_there() -> anyhow::Result<()> {
    // The first time was when the shop was opened.
    let shop = Shop::open(1).await?;
    shop.stock("chair", 5).await?;
    let orders = [shop.order("c", &[("chair", 2)])];
    shop.publish(&orders).await?;
    let worker = shop.worker().start().await?;
    shop.settled(&orders, A_WHILE).await?;
    let again = shop.worker().run(&["migrate"]).await?;
    assert!(
        again.status.success(),
        "{}",
        String::from_utf8_lossy(&again.stderr)
    );
    let later = [shop.order("c", &[("chair", 3)])];
    shop.publish(&later).await?;
    shop.settled(&later, A_WHILE).await?;
    let verdict = shop.books(&[orders, later].concat()).await?;
    assert_eq!(verdict.outcomes.confirmed, 2);
    assert!(worker.is_ready().await);
    Ok(())
}

#[tokio::test]
async fn a_worker_refuses_an_empty_schema_and_says_what_to_do() -> anyhow::Result<()> {
    let place = Place::new().await?;
    let refused = failure(&Settings::worker(&place), &[]).await?;
    assert!(refused.contains("hotrow-worker migrate"), "{refused}");
    let refused = failure(&Settings::worker(&place), &["dead-letters", "list"]).await?;
    assert!(refused.contains("hotrow-worker migrate"), "{refused}");
    Ok(())
}

#[tokio::test]
async fn everything_that_is_wrong_with_the_settings_is_named_at_once() -> anyhow::Result<()> {
    let place = Place::new().await?;
    let wrong = Settings::worker(&place)
        .unset("DATABASE_URL")
        .set("AMQP_URL", "http://nowhere")
        .unset("DEVELOPMENT")
        .set("ORDER_ID_SECRET", "short")
        .set("PARTITIONS", "0")
        .set("METRICS_ADDR", "here")
        .set("BATCH_ORDERS_MAX", "many")
        .set("BATCH_WAIT", "soon")
        .set("BATCH_WHAIT", "1ms")
        .set("RETENTION_DAYS", "1")
        .set("DATABASE_CONNECTIONS", "-1")
        .set("SHUTDOWN_GRACE", "15")
        .set("LOG_FORMAT", "xml");
    let refused = failure(&wrong, &[]).await?;
    for name in [
        "DATABASE_URL is required",
        "AMQP_URL",
        "ORDER_ID_SECRET",
        "PARTITIONS",
        "METRICS_ADDR",
        "BATCH_ORDERS_MAX",
        "BATCH_WAIT",
        "BATCH_WHAIT is not a setting",
        "RETENTION_DAYS",
        "DATABASE_CONNECTIONS",
        "SHUTDOWN_GRACE",
        "LOG_FORMAT",
    ] {
        assert!(refused.contains(name), "{name} is not in:\n{refused}");
    }
    assert!(
        !refused.contains("short"),
        "a secret is not repeated:\n{refused}"
    );

    // What contradicts itself is wrong, too, and so is a batch that waits for an hour.
    let wrong = Settings::worker(&place)
        .set(
            "ORDER_ID_SECRET_PREVIOUS",
            hotrow_tests::processes::ORDER_ID_SECRET,
        )
        .set("BATCH_WAIT", "1h");
    let refused = failure(&wrong, &[]).await?;
    assert!(refused.contains("ORDER_ID_SECRET_PREVIOUS"), "{refused}");
    assert!(refused.contains("BATCH_WAIT"), "{refused}");
    Ok(())
}

#[tokio::test]
async fn a_start_that_waits_for_a_server_ends_well_when_it_is_asked_to() -> anyhow::Result<()> {
    let shop = Shop::open(1).await?;
    // It takes connections and says nothing.
    let silent = TcpListener::bind("127.0.0.1:0").await?;
    let address = silent.local_addr()?;
    let database = format!("postgres://nobody:nothing@{address}/nowhere");
    let broker = format!("amqp://nobody:nothing@{address}/nowhere");
    for (name, url) in [("DATABASE_URL", &database), ("AMQP_URL", &broker)] {
        for settings in [
            shop.worker(),
            Settings::webhooks(&shop.place).set("PARTITIONS", "1"),
            shop.ingest(),
        ] {
            // Shorter than the start waits for an answer.
            let settings = settings.set(name, url).set("SHUTDOWN_GRACE", "1s");
            let mut process = settings.spawn().await?;
            let connected = timeout(A_WHILE, silent.accept()).await??;
            process.terminate()?;
            let ended = process.ended(A_WHILE).await?;
            assert!(ended.success(), "{name}: {}", process.log_tail());
            drop(connected);
        }
    }
    Ok(())
}

#[tokio::test]
async fn a_worker_that_disagrees_about_the_partitions_does_not_start() -> anyhow::Result<()> {
    let shop = Shop::open(3).await?;
    for partitions in ["2", "4"] {
        let refused = failure(&shop.worker().set("PARTITIONS", partitions), &[]).await?;
        assert!(refused.contains("PARTITIONS"), "{refused}");
        assert!(refused.contains(partitions), "{refused}");
    }
    Ok(())
}

#[tokio::test]
async fn a_process_that_cannot_read_the_ids_of_the_newest_orders_does_not_start()
-> anyhow::Result<()> {
    const ANOTHER: &str = "another-secret-of-more-than-32-characters";
    let shop = Shop::open(1).await?;
    let worker = shop.worker().set("ORDER_ID_SECRET", ANOTHER);
    let ingest = shop.ingest().set("ORDER_ID_SECRET", ANOTHER);
    // Without orders any secret will do.
    drop(worker.start().await?);

    shop.stock("chair", 1).await?;
    let orders = [shop.order("c", &[("chair", 1)])];
    shop.publish(&orders).await?;
    let _right = shop.worker().start().await?;
    shop.settled(&orders, A_WHILE).await?;
    for settings in [&worker, &ingest] {
        let refused = failure(settings, &[]).await?;
        assert!(refused.contains("ORDER_ID_SECRET cannot read"), "{refused}");
        assert!(refused.contains("ORDER_ID_SECRET_PREVIOUS"), "{refused}");
        assert!(!refused.contains(ANOTHER), "{refused}");
    }
    for settings in [worker, ingest] {
        let rotated = settings.set("ORDER_ID_SECRET_PREVIOUS", ORDER_ID_SECRET);
        drop(rotated.start().await?);
    }
    Ok(())
}

#[tokio::test]
async fn a_filled_ledger_is_parted_by_day_beside_the_release_before() -> anyhow::Result<()> {
    let place = Place::new().await?;
    let mut before = place.database().await?;
    let mut migrations =
        Migrator::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("../migrations")).await?;
    let migrations_before = migrations.migrations.iter().filter(|it| it.version < 3);
    migrations.migrations = migrations_before.cloned().collect::<Vec<_>>().into();
    migrations.run(&mut before).await?;
    sqlx::raw_sql(
        "insert into inventory (sku, title, unit_price_minor, currency, available) values ('chair', 'Chair', 1, 'EUR', 9);
         insert into inventory_ledger (sku, kind, delta, balance, idempotency_key, at) values
             ('chair', 'put', 3, 3, null, now() - interval '40 days'),
             ('chair', 'restock', 7, 10, 'monday', now() - interval '1 day');
         -- Of a clock that is ahead.
         insert into inventory_ledger (sku, kind, delta, balance, at)
         values ('lamp', 'put', 1, 1, now() + interval '3 days')",
    )
    .execute(&mut before)
    .await?;
    settle_before(&mut before, 9).await?;
    let clerk = "do $$ declare clerk text := current_database() || '_clerk';
         begin
             execute format('create role %I', clerk);
             execute format('grant select, insert on inventory_ledger to %I with grant option', clerk);
         end $$";
    sqlx::raw_sql(clerk).execute(&mut before).await?;

    processes::migrate(&place).await?;
    // Its statements are prepared already.
    settle_before(&mut before, 8).await?;
    let ingest = Settings::ingest(&place)
        .set("PARTITIONS", "1")
        .start()
        .await?;
    let client = ingest.client()?;
    assert_eq!(client.inventory("chair").await?.json()?["available"], 8);
    may_go_on(&mut before).await?;
    // A key from before, and one that the release before writes only now.
    client
        .restock("chair", 7, Some("monday"))
        .await?
        .expect(200)?;
    sqlx::raw_sql(
        "update inventory set available = available + 5;
         insert into inventory_ledger (sku, kind, delta, balance, idempotency_key) values ('chair', 'restock', 5, 13, 'tuesday')",
    )
    .execute(&mut before)
    .await?;
    client
        .restock("chair", 5, Some("tuesday"))
        .await?
        .expect(200)?;
    client
        .restock("chair", 2, Some("friday"))
        .await?
        .expect(200)?;
    let known_before: i64 = sqlx::query_scalar(
        "select delta from inventory_ledger where sku = 'chair' and idempotency_key = 'friday'",
    )
    .fetch_one(&mut before)
    .await?;
    assert_eq!(
        known_before, 2,
        "the release before finds what this one wrote"
    );

    let entries: Vec<(i64, i64, i64)> = sqlx::query_as(
        "select id, delta, balance from inventory_ledger where sku = 'chair' order by id",
    )
    .fetch_all(&mut before)
    .await?;
    // The third is the lamp's.
    let expected = [
        (1, 3, 3),
        (2, 7, 10),
        (4, -1, 9),
        (5, -1, 8),
        (6, 5, 13),
        (7, 2, 15),
    ];
    assert_eq!(entries, expected);
    let left = client.put_inventory("chair", Product::chairs(15)).await?;
    left.expect(200)?;
    let moved: i64 =
        sqlx::query_scalar("select delta from inventory_ledger order by id desc limit 1")
            .fetch_one(&mut before)
            .await?;
    assert_eq!(moved, 0, "the stock was 15");
    Ok(())
}

/// Makes sure that a role that is not the owner can use the ledger as before, and dismisses it.
async fn may_go_on(database: &mut PgConnection) -> anyhow::Result<()> {
    let granted: bool = sqlx::query_scalar(
        "with may as (
             select current_database() || '_clerk' as clerk
         )
         select has_table_privilege(clerk, 'inventory_ledger', 'select with grant option')
            and has_table_privilege(clerk, 'inventory_ledger', 'insert with grant option')
            and has_table_privilege(clerk, 'restock_keys', 'insert')
            and not has_table_privilege(clerk, 'inventory_ledger', 'update')
            and has_sequence_privilege(clerk, 'inventory_ledger_id', 'usage')
         from may",
    )
    .fetch_one(&mut *database)
    .await?;
    assert!(granted, "who might write the ledger may write its parts");
    sqlx::raw_sql(
        "do $$ declare clerk text := current_database() || '_clerk';
         begin
             execute format('drop owned by %I cascade', clerk);
             execute format('drop role %I', clerk);
         end $$",
    )
    .execute(database)
    .await?;
    Ok(())
}

/// What a settlement of one chair writes.
async fn settle_before(database: &mut PgConnection, left: i64) -> anyhow::Result<()> {
    sqlx::query("update inventory set available = $1")
        .bind(left)
        .execute(&mut *database)
        .await?;
    sqlx::query(SETTLED_BEFORE)
        .bind(left)
        .execute(database)
        .await?;
    Ok(())
}

/// What a worker says that does not start.
async fn failure(settings: &Settings, arguments: &[&str]) -> anyhow::Result<String> {
    let output = settings.run(arguments).await?;
    assert!(!output.status.success(), "it should not have started");
    Ok(String::from_utf8_lossy(&output.stderr).into_owned())
}
