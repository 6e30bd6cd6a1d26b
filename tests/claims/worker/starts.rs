//! Claims about the start: the schema, the settings, and what a worker says when it cannot work.

use hotrow_tests::{Place, Settings};

use super::shop::{A_WHILE, Shop};

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
async fn a_worker_that_disagrees_about_the_partitions_does_not_start() -> anyhow::Result<()> {
    let shop = Shop::open(3).await?;
    for partitions in ["2", "4"] {
        let refused = failure(&shop.worker().set("PARTITIONS", partitions), &[]).await?;
        assert!(refused.contains("PARTITIONS"), "{refused}");
        assert!(refused.contains(partitions), "{refused}");
    }
    Ok(())
}

/// What a worker says that does not start.
async fn failure(settings: &Settings, arguments: &[&str]) -> anyhow::Result<String> {
    let output = settings.run(arguments).await?;
    assert!(!output.status.success(), "it should not have started");
    Ok(String::from_utf8_lossy(&output.stderr).into_owned())
}
