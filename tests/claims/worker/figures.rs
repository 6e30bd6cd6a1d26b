//! Claims about what a worker tells of itself: figures and probes.

use hotrow_tests::{Mode, Proxy, wait};
use serde_json::json;

use super::shop::{A_WHILE, Shop, counts};

/// The labels of one series.
type Labels = &'static [(&'static str, &'static str)];

/// Every series of the contract that is a worker's, with its label values.
const SERIES: [(&str, &[Labels]); 18] = [
    (
        "hotrow_orders_settled_total",
        &[
            &[("status", "confirmed"), ("reason", "")],
            &[("status", "rejected"), ("reason", "sold_out")],
            &[("status", "rejected"), ("reason", "unknown_sku")],
            &[("status", "rejected"), ("reason", "currency_mismatch")],
            &[("status", "rejected"), ("reason", "price_changed")],
            &[("status", "rejected"), ("reason", "closed")],
            &[("status", "rejected"), ("reason", "not_open")],
            &[("status", "rejected"), ("reason", "limit_reached")],
            &[("status", "failed"), ("reason", "dead_lettered")],
        ],
    ),
    ("hotrow_order_age_seconds_count", &[&[]]),
    (
        "hotrow_batch_orders_count",
        &[
            &[("closed_by", "full")],
            &[("closed_by", "drained")],
            &[("closed_by", "waited")],
            &[("closed_by", "shutdown")],
        ],
    ),
    ("hotrow_settle_seconds_count", &[&[]]),
    (
        "hotrow_order_changes_total",
        &[
            &[("kind", "confirm"), ("answer", "changed")],
            &[("kind", "confirm"), ("answer", "unmatched")],
            &[("kind", "cancel"), ("answer", "conflict")],
            &[("kind", "extend"), ("answer", "unchanged")],
            &[("kind", "expire"), ("answer", "changed")],
        ],
    ),
    ("hotrow_orders_held", &[&[]]),
    ("hotrow_hold_overdue_seconds", &[&[]]),
    ("hotrow_payments_unmatched", &[&[]]),
    ("hotrow_row_writes_total", &[&[]]),
    ("hotrow_row_lock_seconds_count", &[&[]]),
    (
        "hotrow_orders_duplicate_total",
        &[&[("kind", "redelivered")], &[("kind", "repeated_key")]],
    ),
    (
        "hotrow_dead_letters_total",
        &[
            &[("reason", "malformed")],
            &[("reason", "refused")],
            &[("reason", "unsealed")],
            &[("reason", "wrong_seal")],
        ],
    ),
    (
        "hotrow_envelopes_opened_total",
        &[
            &[("seal", "current")],
            &[("seal", "previous")],
            &[("seal", "missing")],
            &[("seal", "wrong")],
        ],
    ),
    (
        "hotrow_settle_retries_total",
        &[
            &[("cause", "connection")],
            &[("cause", "serialization")],
            &[("cause", "deadlock")],
            &[("cause", "lock_timeout")],
            &[("cause", "read_only")],
            &[("cause", "duplicate_key")],
            &[("cause", "timeout")],
            &[("cause", "other")],
        ],
    ),
    ("hotrow_inventory_mismatch", &[&[]]),
    // With an `le`, so that no histogram is exported as a summary.
    ("hotrow_order_age_seconds_bucket", &[&[("le", "+Inf")]]),
    ("hotrow_settle_seconds_bucket", &[&[("le", "+Inf")]]),
    ("hotrow_row_lock_seconds_bucket", &[&[("le", "+Inf")]]),
];

#[tokio::test]
async fn every_series_of_a_worker_is_there_from_the_start_at_zero() -> anyhow::Result<()> {
    let shop = Shop::open(1).await?;
    let worker = shop.worker().start().await?;
    let metrics = worker.metrics().await?;
    for (name, series) in SERIES {
        for labels in series {
            assert_eq!(metrics.value(name, labels), Some(0.0), "{name}{labels:?}");
        }
    }
    assert_eq!(
        metrics.samples("hotrow_orders_settled_total", &[]).count(),
        10
    );
    let owned = metrics.value("hotrow_partitions_owned", &[]);
    assert!(owned.is_some_and(|owned| owned <= 1.0), "{owned:?}");
    let version = [("version", env!("CARGO_PKG_VERSION"))];
    assert_eq!(metrics.value("hotrow_build_info", &version), Some(1.0));
    let mut builds = metrics.samples("hotrow_build_info", &[]);
    assert!(builds.all(|build| build.labels.contains_key("commit")));
    Ok(())
}

#[tokio::test]
async fn the_figures_add_up_to_what_was_settled() -> anyhow::Result<()> {
    let shop = Shop::open(1).await?;
    shop.stock("hot", 600).await?;
    shop.stock_at("dollars", 1, 100, "USD").await?;
    let orders: Vec<_> = (0..1_000)
        .map(|_| shop.order("c", &[("hot", 1)]))
        .chain([
            shop.order("c", &[("unheard-of", 1)]),
            shop.order("c", &[("hot", 1), ("dollars", 1)]),
        ])
        .collect();
    for gathered in orders.chunks(40) {
        shop.publish(gathered).await?;
    }
    let worker = shop.worker().set("BATCH_ORDERS_MAX", "200").start().await?;
    shop.settled(&orders, A_WHILE).await?;
    shop.books(&orders).await?;

    // What is committed is counted a moment later.
    counts(&worker, "hotrow_orders_settled_total", &[], 1_002).await?;
    let metrics = worker.metrics().await?;
    let settled = |status, reason| {
        let labels = [("status", status), ("reason", reason)];
        metrics.count("hotrow_orders_settled_total", &labels)
    };
    assert_eq!(settled("confirmed", ""), 600);
    assert_eq!(settled("rejected", "sold_out"), 400);
    assert_eq!(settled("rejected", "unknown_sku"), 1);
    assert_eq!(settled("rejected", "currency_mismatch"), 1);
    let count = |name| metrics.count(name, &[]);
    assert_eq!(count("hotrow_order_age_seconds_count"), 1_002);
    assert_eq!(count("hotrow_batch_orders_sum"), 1_002);
    let batches = count("hotrow_batch_orders_count");
    assert_eq!(count("hotrow_settle_seconds_count"), batches);
    assert_eq!(count("hotrow_row_lock_seconds_count"), batches);
    let row_writes = count("hotrow_row_writes_total");
    assert!(
        (3..=15).contains(&row_writes),
        "{row_writes} row writes for 600 confirmed orders of one SKU"
    );
    Ok(())
}

#[tokio::test]
async fn a_worker_is_live_while_it_runs_and_ready_while_it_has_its_servers() -> anyhow::Result<()> {
    let shop = Shop::open(1).await?;
    let database = Proxy::in_front_of(&shop.place.database_url).await?;
    let broker = Proxy::in_front_of(&shop.place.amqp_url).await?;
    let worker = shop
        .worker()
        .set("DATABASE_URL", database.url(&shop.place.database_url)?)
        .set("AMQP_URL", broker.url(&shop.place.amqp_url)?)
        .start()
        .await?;
    let client = worker.client()?;
    let ready = client.get("/readyz").await?.expect(200)?.json()?;
    assert_eq!(ready, json!({ "status": "ready" }));
    for (proxy, missing) in [(&database, "database"), (&broker, "broker")] {
        proxy.set(Mode::Refuse).await?;
        let what = format!("the {missing} to be missed");
        wait::until(&what, A_WHILE, async || {
            let answer = client.get("/readyz").await.ok()?.expect(503).ok()?;
            (answer.json().ok()?["missing"] == json!([missing])).then_some(())
        })
        .await?;
        client.get("/livez").await?.expect(200)?;
        proxy.set(Mode::Pass).await?;
        wait::until("the worker to be ready again", A_WHILE, async || {
            worker.is_ready().await.then_some(())
        })
        .await?;
    }
    let metrics = client.get("/metrics").await?.expect(200)?;
    let content_type = metrics.header("content-type").unwrap_or_default();
    assert!(content_type.starts_with("text/plain"), "{content_type}");
    client.get("/v1/orders").await?.expect(404)?;
    Ok(())
}
