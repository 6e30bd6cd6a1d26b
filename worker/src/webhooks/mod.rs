//! `hotrow-worker webhooks`: sends events to the endpoints that administrators have registered.
//!
//! One process at a time copies the stream of events into deliveries (`copy`, `stream`) and looks after the tables
//! (`upkeep`). All of them deliver: `deliver` claims what is due, `sign` signs it, `client` sends it, `attempt` says what
//! follows from the answer, and `store` has the statements.

mod attempt;
mod client;
mod copy;
mod deliver;
mod sign;
mod store;
mod stream;
mod upkeep;

use std::{sync::Arc, time::Duration};

use anyhow::{Context, bail};
use hotrow_shared::{
    broker::Broker,
    clock_offset, database, descriptors, secret,
    settings::Common,
    telemetry::Readiness,
    topology::{self, Repairs},
    webhook::{ENDPOINTS_MAX, REQUESTS_MAX},
};
use sqlx::{PgPool, postgres::PgConnectOptions};
use tokio_util::sync::CancellationToken;

use self::{
    client::Client,
    copy::{COPY_LOCK, Copier},
    deliver::{DeliverMetrics, Deliverer},
    upkeep::Upkeep,
};
use crate::{alone::Alone, settings::Settings};

/// What the process needs to do its work.
pub const NEEDS: [&str; 2] = ["database", "broker"];

/// How long the last connections may take to be closed.
const GOOD_BYE_MAX: Duration = Duration::from_secs(1);
/// File descriptors that are left for everything but requests.
const DESCRIPTORS_RESERVED: u64 = 200;

/// Delivers until `shutdown`, then waits for what is under way.
///
/// # Errors
/// Events are off, or the database or the broker is not fit for this release or these settings, or out of reach.
pub async fn run(
    settings: &Settings,
    readiness: &Arc<Readiness>,
    shutdown: CancellationToken,
) -> anyhow::Result<()> {
    let common = &settings.common;
    if common.plan.events.is_none() {
        bail!("EVENTS is off: there is nothing to deliver");
    }
    let client = Client::new(common.webhook_networks.clone())
        .context("the certificates of this system cannot be read")?;
    let reached = Box::pin(Servers::reach(common, &shutdown));
    let Some(servers) = shutdown.run_until_cancelled(reached).await else {
        return Ok(());
    };
    Box::pin(work(common, servers?, client, readiness, shutdown)).await;
    Ok(())
}

/// What the process works with.
struct Servers {
    connect: PgConnectOptions,
    pool: PgPool,
    broker: Arc<Broker>,
    repairs: Repairs,
}

impl Servers {
    /// Makes sure that database and broker are those of this release and of this installation.
    async fn reach(common: &Common, shutdown: &CancellationToken) -> anyhow::Result<Self> {
        database::require_schema(&common.database).await?;
        secret::require_secret(&common.database, &common.mint).await?;
        // A crash of the database may undo what was committed last, and then some events are copied or sent again. Nobody
        // waits for its disk here, least of all those who settle orders.
        let connect = common
            .database
            .clone()
            .options([("synchronous_commit", "off")]);
        let pool = database::pool(
            &connect,
            common.database_connections,
            "hotrow-worker webhooks",
            database::ACQUIRE_MAX,
        );
        let broker = Arc::new(Broker::new(&common.amqp, "hotrow-worker webhooks"));
        topology::ensure(&broker, &pool, &common.plan).await?;
        let repairs = Repairs::start(&broker, &pool, common.plan, shutdown);
        Ok(Self {
            connect,
            pool,
            broker,
            repairs,
        })
    }
}

async fn work(
    common: &Common,
    servers: Servers,
    client: Client,
    readiness: &Arc<Readiness>,
    shutdown: CancellationToken,
) {
    let Servers {
        connect,
        pool,
        broker,
        repairs,
    } = servers;
    let copier = Copier::new(
        Alone::under(COPY_LOCK, &connect, "hotrow-worker webhooks copy"),
        Arc::clone(&broker),
        repairs,
        Arc::clone(readiness),
        Upkeep::new(common.sealing.clone()),
    );
    let copying = tokio::spawn(copier.run(shutdown.clone()));
    tokio::spawn(clock_offset::measure(pool.clone(), shutdown.clone()));
    let deliverer = Deliverer {
        pool: pool.clone(),
        client,
        keys: common.sealing.clone(),
        source: common.events_source.clone(),
        requests_max: requests_max(),
        shutdown,
        // The rest is for the good-byes.
        patience: common.shutdown_grace / 2,
        overdue: CancellationToken::new(),
        metrics: DeliverMetrics::new(),
    };
    tracing::info!("delivering");
    Arc::new(deliverer).run(readiness).await;
    let _ = tokio::time::timeout(GOOD_BYE_MAX, copying).await;
    broker.close().await;
    let _ = tokio::time::timeout(GOOD_BYE_MAX, pool.close()).await;
}

/// Most requests to one endpoint at a time, by the file descriptors that this process may have: however few they are,
/// every endpoint has its share.
fn requests_max() -> usize {
    descriptors::raise();
    let allowed = descriptors::allowed();
    let share = usize::try_from(allowed.saturating_sub(DESCRIPTORS_RESERVED)).unwrap_or(usize::MAX)
        / ENDPOINTS_MAX;
    let requests_max = share.clamp(1, REQUESTS_MAX);
    if requests_max < REQUESTS_MAX {
        tracing::warn!(
            descriptors = allowed,
            requests_max,
            "few file descriptors, so few requests to an endpoint at a time: {}",
            descriptors::REMEDY
        );
    }
    requests_max
}
