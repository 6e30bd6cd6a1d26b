//! The ingest process: accepts purchases over HTTP and makes them durable in RabbitMQ.
//!
//! An order walks through the files in this sequence: [`http`] takes the connection and the
//! request, [`intake`] asks [`limits`], [`sold_out`] and [`backlog`], and one of the [`lanes`]
//! publishes it. What became of it comes back with the [`news`] and is told by [`status`].
//! [`inventory`] shows the stock and lets administrators change it.

pub mod backlog;
pub mod clock;
pub mod http;
pub mod intake;
pub mod inventory;
pub mod lanes;
pub mod limits;
pub mod metrics;
pub mod news;
pub mod settings;
pub mod sold_out;
pub mod status;

use std::sync::Arc;

use anyhow::Context;
use hotrow_shared::{
    broker::Broker, clock_offset, database, secret, settings::Common, telemetry::Readiness,
    topology,
};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::{
    backlog::Backlog,
    clock::Clock,
    http::{peer::TrustedProxies, router::router, server},
    intake::{Intake, repeats::Repeats},
    inventory::InventoryDesk,
    lanes::Lanes,
    limits::Limits,
    metrics::{HttpMetrics, IntakeMetrics, LaneMetrics},
    news::Listeners,
    settings::Settings,
    sold_out::SoldOut,
    status::{StatusDesk, outcomes::Outcomes, reader::Reader},
};

/// What an ingest process needs to accept orders. Without the database it still accepts them, and tells
/// lately settled outcomes; so a database that fails over does not take every process out of a balancer.
pub const NEEDS: [&str; 1] = ["broker"];

/// Serves clients until `shutdown`, then drains.
///
/// # Errors
/// The database or the broker is not fit for this release or these settings, or out of reach.
pub async fn run(
    settings: Settings,
    listener: TcpListener,
    clock: Clock,
    readiness: &Arc<Readiness>,
    shutdown: CancellationToken,
) -> anyhow::Result<()> {
    let common = &settings.common;
    let pool = database::pool(
        &common.database,
        common.database_connections,
        "hotrow-ingest",
    );
    require_database(common).await?;
    let publishing = Arc::new(Broker::new(&common.amqp, "hotrow-ingest publishing"));
    let listening = Arc::new(Broker::new(&common.amqp, "hotrow-ingest listening"));
    topology::ensure(&listening, &pool, common.partitions).await?;

    let backlog = Arc::new(Backlog::new(common.partitions, settings.queued_orders_max));
    let sold_out = Arc::new(SoldOut::default());
    let outcomes = Arc::new(Outcomes::default());
    let limits = Arc::new(Limits::new(settings.rate_limits));
    let (reader, read) = Reader::new(pool.clone());
    let orders_max = settings.envelope_orders_max;
    let (lanes, mut lane_tasks) = Lanes::start(
        &publishing,
        common.partitions,
        orders_max,
        &backlog,
        &LaneMetrics::new(),
    );

    let listeners = Listeners {
        outcomes: Arc::clone(&outcomes),
        sold_out: Arc::clone(&sold_out),
        backlog: Arc::clone(&backlog),
    };
    let mut lanes_open = lanes.open();
    let all_open = move |open: &usize| *open == usize::from(common.partitions);
    let broker_answers = {
        let (readiness, open, partitions) = (
            Arc::clone(readiness),
            lanes.open(),
            usize::from(common.partitions),
        );
        move |answers| readiness.set("broker", answers && *open.borrow() == partitions)
    };
    tokio::spawn(read);
    tokio::spawn(listeners.keep(Arc::clone(&listening), shutdown.clone()));
    // The first clients are not to find closed lanes.
    if shutdown
        .run_until_cancelled(lanes_open.wait_for(all_open))
        .await
        .is_none()
    {
        return Ok(());
    }
    tokio::spawn(Arc::clone(&backlog).keep(
        Arc::clone(&listening),
        broker_answers,
        shutdown.clone(),
    ));
    tokio::spawn(Arc::clone(&sold_out).keep(pool.clone(), shutdown.clone()));
    tokio::spawn(Arc::clone(&limits).sweep(shutdown.clone()));
    tokio::spawn(clock_offset::measure(pool.clone(), shutdown.clone()));

    let status = Arc::new(StatusDesk {
        mint: common.mint.clone(),
        outcomes,
        reader,
        backlog: Arc::clone(&backlog),
        shutdown: shutdown.clone(),
    });
    let inventory = InventoryDesk::new(
        pool.clone(),
        settings.admin_token,
        Arc::clone(&sold_out),
        Arc::clone(&publishing),
    );
    let intake = Intake {
        mint: common.mint.clone(),
        clock,
        partitions: common.partitions,
        proxies: TrustedProxies(settings.trusted_proxies),
        limits,
        sold_out,
        backlog,
        repeats: Repeats::new(),
        status: Arc::clone(&status),
        lanes,
        metrics: IntakeMetrics::new(),
    };
    let http_metrics = Arc::new(HttpMetrics::new());
    let router = router(
        Arc::new(intake),
        status,
        Arc::new(inventory),
        readiness,
        http_metrics,
        &settings.cors_origins,
    );
    tracing::info!(address = %listener.local_addr()?, "listening");
    server::serve(listener, router, shutdown).await;

    // With the last connection went the last handle on the lanes: they confirm what they have, and end.
    while let Some(ended) = lane_tasks.join_next().await {
        ended.context("a lane has failed")?;
    }
    tokio::join!(publishing.close(), listening.close());
    pool.close().await;
    Ok(())
}

/// Makes sure that the database is that of this release and of this installation.
async fn require_database(common: &Common) -> anyhow::Result<()> {
    database::require_schema(&common.database).await?;
    secret::require_secret(&common.database, &common.mint).await?;
    Ok(())
}
