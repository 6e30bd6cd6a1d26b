//! The worker: settles queued purchases in PostgreSQL, a batch at a time.
//!
//! An order walks through the files in this sequence: `ownership` takes its partition, `partition`
//! runs the loop over `deliveries`, `batch`, `settle` and `acknowledge`, and `announce` tells what
//! became of it. [`events`] tells programs beside Hotrow. `expiry` queues the end of holds that are over. [`dead_letters`] keeps what cannot be settled, [`days`] and `audit` look after the
//! tables, and `store` has the statements that all of them share. [`webhooks`] is a process of its own.

mod acknowledge;
mod alone;
mod announce;
pub mod audit;
mod batch;
pub mod days;
pub mod dead_letters;
mod deliveries;
mod document;
mod ended;
pub mod events;
mod expiry;
mod fitness;
mod metrics;
mod ownership;
mod partition;
pub mod roles;
mod seals;
pub mod settings;
mod settle;
mod standing;
mod standstill;
mod stock;
mod store;
mod telling;
pub mod webhooks;

use std::{sync::Arc, time::Duration};

use anyhow::{Context, ensure};
use hotrow_shared::{
    broker::Broker,
    clock_offset, database, secret,
    telemetry::Readiness,
    topology::{self, Repairs},
};
use sqlx::PgPool;
use tokio_util::sync::CancellationToken;

use crate::{
    announce::Announcer,
    batch::{BatchMetrics, Turns},
    days::Kept,
    dead_letters::DeadLetters,
    deliveries::Opener,
    events::{Publisher, Sender, Sweep},
    expiry::Expiry,
    ownership::Ownership,
    partition::Workshop,
    seals::Seals,
    settings::Settings,
    settle::Settler,
};

/// What a worker needs to do its work.
pub const NEEDS: [&str; 2] = ["database", "broker"];

/// Connections of the owner of the tables: one looks after the days, and one makes a day that an order needs now.
const OWNER_CONNECTIONS: u32 = 2;

/// How long the last news may take to get away, and the last connections to be closed.
const GOOD_BYE_MAX: Duration = Duration::from_secs(1);

/// Works until `shutdown`, then drains.
///
/// # Errors
/// The database or the broker is not fit for this release or these settings, or out of reach.
pub async fn run(
    settings: &Settings,
    readiness: &Arc<Readiness>,
    shutdown: CancellationToken,
) -> anyhow::Result<()> {
    let reached = Box::pin(Servers::reach(settings, &shutdown));
    let Some(servers) = shutdown.run_until_cancelled(reached).await else {
        return Ok(());
    };
    Box::pin(work(settings, servers?, readiness, shutdown)).await;
    Ok(())
}

/// What a worker works with.
struct Servers {
    pool: PgPool,
    /// The connections by which days are made and dropped.
    owner: PgPool,
    consuming: Arc<Broker>,
    publishing: Arc<Broker>,
    repairs: Repairs,
}

impl Servers {
    /// Makes sure that database and broker are those of this release and of this installation.
    async fn reach(settings: &Settings, shutdown: &CancellationToken) -> anyhow::Result<Self> {
        let common = &settings.common;
        let pool = database::pool(
            &common.database,
            common.database_connections,
            "hotrow-worker",
            database::ACQUIRE_MAX,
        );
        database::require_schema(&common.database).await?;
        secret::require_secret(&common.database, &common.mint).await?;
        let owner = days_of(settings, &pool).await?;
        let consuming = Arc::new(deliveries::broker(&common.amqp, "hotrow-worker consuming"));
        let publishing = Arc::new(Broker::new(&common.amqp, "hotrow-worker publishing"));
        topology::ensure(&consuming, &pool, &common.plan).await?;
        let repairs = Repairs::start(&consuming, &pool, common.plan, shutdown);
        Ok(Self {
            pool,
            owner,
            consuming,
            publishing,
            repairs,
        })
    }
}

async fn work(
    settings: &Settings,
    servers: Servers,
    readiness: &Arc<Readiness>,
    shutdown: CancellationToken,
) {
    let common = &settings.common;
    let Servers {
        pool,
        owner,
        consuming,
        publishing,
        repairs,
    } = servers;
    if settings.events.is_none() {
        tokio::spawn(events::forget_for_ever(pool.clone(), shutdown.clone()));
    }
    let (announcer, publish_news) = Announcer::new(Arc::clone(&publishing));
    let news = tokio::spawn(publish_news);
    // Events have a connection of their own: a backlog of them must not delay dead letters.
    let events_broker = Arc::new(Broker::new(&common.amqp, "hotrow-worker events"));
    let (publisher, publish_events) = tell(settings, &events_broker, &pool, &repairs, &shutdown);
    let told = tokio::spawn(publish_events);
    let settler = Settler::new(
        pool.clone(),
        owner.clone(),
        common.mint.clone(),
        settings.retention_days,
        settings.batch.orders_max,
        settings.events,
    );
    let seals = Seals::new(settings);
    if !settings.require_sealed && !common.development {
        tracing::warn!(
            "REQUIRE_SEALED=false: whoever can publish to the broker can have orders settled; set it to true once all ingest processes seal"
        );
    }
    let workshop = Arc::new(Workshop {
        broker: Arc::clone(&consuming),
        opener: Arc::new(Opener::new(seals)),
        pool: pool.clone(),
        settler,
        dead_letters: DeadLetters::new(
            publishing.clone(),
            pool.clone(),
            common.seals.clone(),
            settings.source_if_told(),
        ),
        announcer,
        publisher,
        limits: settings.batch,
        turns: Turns::default(),
        batch_metrics: BatchMetrics::new(),
        // The rest is for the good-byes.
        patience: common.shutdown_grace / 2,
        repairs,
        partitions: common.plan.partitions,
        hold_grace: settings.hold_grace,
    });

    let retention_days = settings.retention_days;
    let kept = Kept {
        orders_days: retention_days,
        audit_days: settings.audit_retention_days,
    };
    tokio::spawn(days::run(owner, kept, shutdown.clone()));
    tokio::spawn(audit::run(
        common.database.clone(),
        retention_days,
        shutdown.clone(),
    ));
    let expiry = Expiry::new(
        Arc::clone(&publishing),
        &common.database,
        common.seals.clone(),
        common.plan.partitions,
        settings.hold_grace,
    );
    tokio::spawn(expiry.run(shutdown.clone()));
    tokio::spawn(clock_offset::measure(pool.clone(), shutdown.clone()));
    tracing::info!("working");
    Ownership::new(workshop, &common.database, Arc::clone(readiness))
        .run(shutdown)
        .await;

    // The last announcer and publisher went with the workshop. News may be lost, and the events of what is committed
    // are in the outbox: a drain is not to wait for a broker that takes none.
    let _ = tokio::time::timeout(GOOD_BYE_MAX, async { tokio::join!(news, told) }).await;
    tokio::join!(consuming.close(), publishing.close(), events_broker.close());
    // Nor for a connection that somebody has not given back.
    let _ = tokio::time::timeout(GOOD_BYE_MAX, pool.close()).await;
}

/// Makes the coming days, and returns the connections by which days are made and dropped: those of the owner of the
/// tables, if that is somebody else than the worker.
async fn days_of(settings: &Settings, pool: &PgPool) -> anyhow::Result<PgPool> {
    let owner = match &settings.owner {
        None => pool.clone(),
        Some(owner) => {
            settings.reach_owner().await?;
            let name = "hotrow-worker days";
            database::pool(owner, OWNER_CONNECTIONS, name, database::ACQUIRE_MAX)
        }
    };
    // The coming days may be there already: then it would come out a week later.
    ensure!(
        days::owns_tables(&owner).await?,
        "cannot make the days of orders and ledger: the tables belong to another user: give it as OWNER_DATABASE_URL"
    );
    days::make_coming(&owner, settings.retention_days)
        .await
        .context("cannot make the days of orders and ledger")?;
    Ok(owner)
}

/// The publisher of events and its task, and the sweep of what was not published. Without events both do nothing.
fn tell(
    settings: &Settings,
    broker: &Arc<Broker>,
    pool: &PgPool,
    repairs: &Repairs,
    shutdown: &CancellationToken,
) -> (Publisher, impl Future<Output = ()> + use<>) {
    let common = &settings.common;
    let (publisher, task) = match settings.events {
        None => (Publisher::OFF, None),
        Some(telling) => {
            let sender = || Sender::new(Arc::clone(broker), &common.events_source);
            let sweep = Sweep::new(sender(), &common.database, repairs.clone(), telling);
            tokio::spawn(sweep.run(shutdown.clone()));
            let (publisher, task) =
                Publisher::new(sender(), pool.clone(), repairs.clone(), telling);
            (publisher, Some(task))
        }
    };
    let task = async move {
        if let Some(task) = task {
            task.await;
        }
    };
    (publisher, task)
}
