//! The ingest process: accepts purchases over HTTP and makes them durable in RabbitMQ.
//!
//! An order walks through the files in this sequence: `http` takes the connection and the request,
//! `routes` names its handler, `intake` asks `limits`, the `board` and `backlog`, and one of the `lanes`
//! publishes it. What became of it comes back with the `news`, and `status` tells it. `changes` confirms, cancels
//! and extends settled orders by the same lanes. `payments` hears of payments from Stripe, and lists what did not pay. `inventory`
//! shows the stock and lets administrators change it, `live` tells pages of stock and orders as they change, and `webhooks` registers endpoints for events.

mod audit;
mod auth;
mod backlog;
mod board;
mod changes;
pub mod clock;
mod cors;
mod description;
pub mod http;
mod intake;
mod inventory;
mod lanes;
mod limits;
mod live;
mod news;
mod outbox;
mod page;
mod payments;
mod probes;
mod routes;
mod sale;
pub mod settings;
mod status;
mod teller;
mod webhooks;

use std::sync::Arc;

use anyhow::Context;
use hotrow_shared::{
    broker::Broker,
    clock_offset::DatabaseTime,
    database, secret,
    settings::Common,
    telemetry::Readiness,
    topology::{self, Repairs, Rights},
};
use sqlx::PgPool;
use tokio::{net::TcpListener, sync::watch};
use tokio_util::sync::CancellationToken;

use crate::{
    audit::AuditDesk,
    auth::Auth,
    backlog::Backlog,
    board::Board,
    changes::{ChangesDesk, tickets::Tickets},
    clock::{Clock, DatabaseClock},
    description::page::Files,
    http::{
        access_log::AccessLog,
        peer::TrustedProxies,
        server::{self, streams::StreamThreads},
    },
    intake::{Intake, metrics::IntakeMetrics, repeats::Repeats},
    inventory::InventoryDesk,
    lanes::Lanes,
    limits::{Limits, reads::Reads},
    live::Live,
    news::Listeners,
    outbox::Outbox,
    payments::{
        PaymentsDesk,
        stripe::{StripeDesk, StripeMetrics},
    },
    routes::Desks,
    sale::{KnownSwitch, SaleDesk},
    settings::Settings,
    status::{
        Finder, Lately, StatusDesk,
        reader::{Expected, Reader},
    },
    teller::Teller,
    webhooks::WebhooksDesk,
};

/// What an ingest process needs to accept orders. Without the database it still accepts them, and tells
/// outcomes of the last seconds; so a database that fails over does not take every process out of a balancer.
pub const NEEDS: [&str; 1] = ["broker"];

/// The description of the HTTP interface with every route that a process can have, as OpenAPI 3.1 in JSON.
///
/// # Errors
/// It cannot be written as JSON.
pub fn openapi() -> anyhow::Result<String> {
    Ok(routes::description().to_pretty_json()?)
}

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
    let limits = Arc::new(Limits::new(settings.rate_limits));
    // Beside the servers: a file of keys that is missing is told whatever they do, and keys that take their time hold up
    // nothing else.
    let reached = Box::pin(async {
        tokio::try_join!(
            Auth::start(settings.auth.clone(), Arc::clone(&limits), &shutdown),
            Servers::reach(&settings.common, &shutdown),
        )
    });
    let Some(reached) = shutdown.run_until_cancelled(reached).await else {
        return Ok(());
    };
    let (auth, servers) = reached?;
    let callers = Callers { auth, limits };
    let work = work(
        settings, servers, callers, listener, clock, readiness, shutdown,
    );
    Box::pin(work).await
}

#[expect(
    clippy::too_many_lines,
    reason = "it makes every room, one after the other, and decides nothing"
)]
async fn work(
    settings: Settings,
    servers: Servers,
    Callers { auth, limits }: Callers,
    listener: TcpListener,
    clock: Clock,
    readiness: &Arc<Readiness>,
    shutdown: CancellationToken,
) -> anyhow::Result<()> {
    let common = &settings.common;
    let Servers {
        pools,
        publishing,
        listening,
        repairs,
        time,
    } = servers;
    let database_clock = DatabaseClock {
        clock: clock.clone(),
        time: time.clone(),
    };
    let switch = KnownSwitch::read(&pools.orders, database_clock.clone()).await?;
    let switch = Arc::new(switch);
    let backlog = Arc::new(Backlog::new(
        common.plan.partitions,
        settings.queued_orders_max,
    ));
    let board = Arc::new(Board::default());
    let lately = Arc::new(Lately::default());
    let (polled, read_for_polls) = Reader::new(pools.orders.clone(), Expected::Orders);
    let (earlier, read_for_the_door) = Reader::new(pools.orders.clone(), Expected::Nothing);
    let (settled, read_for_changes) = Reader::new(pools.orders.clone(), Expected::Orders);
    let (listened_to, read_for_streams) = Reader::new(pools.orders.clone(), Expected::Orders);
    let tickets = Arc::new(Tickets::default());
    let live = Live::new();
    let orders_max = settings.envelope_orders_max;
    let (lanes, mut lane_tasks) = Lanes::start(
        &publishing,
        &common.seals,
        common.plan.partitions,
        orders_max,
        &backlog,
        &repairs,
    );

    let listeners = Listeners {
        lately: Arc::clone(&lately),
        live: Arc::clone(&live.orders),
        tickets: Arc::clone(&tickets),
        board: Arc::clone(&board),
        switch: Arc::clone(&switch),
        backlog: Arc::clone(&backlog),
    };
    let broker_answers = note_broker(readiness, lanes.open(), common.plan.partitions);
    tokio::spawn(read_for_polls);
    tokio::spawn(read_for_the_door);
    tokio::spawn(read_for_changes);
    tokio::spawn(read_for_streams);
    tokio::spawn(listeners.run(Arc::clone(&listening), shutdown.clone()));
    let fill = board::refresh::fill(&board, &pools.orders);
    if shutdown.run_until_cancelled(fill).await.is_none() {
        return Ok(());
    }
    // The first clients are not to find closed lanes.
    let all_open = lanes.all_open();
    if shutdown.run_until_cancelled(all_open).await.is_none() {
        return Ok(());
    }
    tokio::spawn(Arc::clone(&backlog).sample_forever(
        Arc::clone(&listening),
        repairs,
        broker_answers,
        shutdown.clone(),
    ));
    tokio::spawn(board::refresh::refresh_forever(
        Arc::clone(&board),
        pools.orders.clone(),
        shutdown.clone(),
    ));
    tokio::spawn(time.follow(pools.orders.clone(), shutdown.clone()));
    let look = Arc::clone(&switch).look_forever(pools.orders.clone(), shutdown.clone());
    tokio::spawn(look);

    let status = Arc::new(StatusDesk {
        mint: common.mint.clone(),
        finder: Finder {
            lately: Arc::clone(&lately),
            reader: polled,
        },
        backlog: Arc::clone(&backlog),
        shutdown: shutdown.clone(),
    });
    let lanes = Arc::new(lanes);
    let changes = Arc::new(ChangesDesk {
        mint: common.mint.clone(),
        clock: database_clock.clone(),
        limits: Arc::clone(&limits),
        partitions: common.plan.partitions,
        finder: Finder {
            lately: Arc::clone(&lately),
            reader: settled,
        },
        backlog: Arc::clone(&backlog),
        lanes: Arc::clone(&lanes),
        tickets,
        pool: pools.changes.clone(),
        shutdown: shutdown.clone(),
    });
    let payments = PaymentsDesk {
        pool: pools.changes.clone(),
    };
    // Made where Stripe is not set up, too: every series exists at zero.
    let outbox = Outbox::new(common.plan.events.is_some());
    let stripe_metrics = StripeMetrics::new();
    let stripe = settings.stripe.map(|stripe| {
        Arc::new(StripeDesk::new(
            &stripe,
            Arc::clone(&changes),
            outbox,
            stripe_metrics,
        ))
    });
    let webhooks = WebhooksDesk::new(pools.changes.clone(), common);
    let teller = Teller::new(Arc::clone(&publishing));
    let rooms = inventory::Rooms {
        board: Arc::clone(&board),
        switch: Arc::clone(&switch),
        clock: database_clock.clone(),
        teller: teller.clone(),
    };
    let inventory = InventoryDesk::new(
        pools.inventory.clone(),
        pools.changes.clone(),
        rooms,
        outbox,
        common.development,
    );
    let inventory = Arc::new(inventory);
    let stream_threads = StreamThreads::start().context("start the threads of streams")?;
    let live = live.start(
        (Arc::clone(&status), listened_to),
        Arc::clone(&inventory),
        settings.live_streams_max,
        auth.is_open(),
        stream_threads.handle(),
        &shutdown,
    );
    let sale = SaleDesk {
        reads: pools.inventory.clone(),
        changes: pools.changes.clone(),
        switch: Arc::clone(&switch),
        teller,
    };
    let audit = AuditDesk {
        pool: pools.changes.clone(),
    };
    let proxies = TrustedProxies(settings.trusted_proxies);
    let log = AccessLog::new(proxies.clone(), settings.log_sample);
    let intake = Intake {
        mint: common.mint.clone(),
        clock,
        database_clock,
        partitions: common.plan.partitions,
        proxies: proxies.clone(),
        limits: Arc::clone(&limits),
        has_tokens: !auth.is_open(),
        switch,
        board,
        backlog,
        repeats: Repeats::new(),
        earlier: Finder {
            lately,
            reader: earlier,
        },
        lanes,
        metrics: IntakeMetrics::new(intake::REFUSALS),
    };
    let desks = Desks {
        intake: Some(Arc::new(intake)),
        status: Some(status),
        inventory: Some(inventory),
        live: Some(Arc::new(live)),
        changes: Some(changes),
        payments: Some(Arc::new(payments)),
        sale: Some(Arc::new(sale)),
        audit: Some(Arc::new(audit)),
        stripe,
        webhooks: webhooks.map(Arc::new),
        published: Some(Arc::default()),
        files: Some(Arc::new(Files::new()?)),
        readiness: Some(Arc::clone(readiness)),
    };
    let reads = Reads {
        limits,
        proxies: proxies.clone(),
    };
    let router = routes::router(
        &desks,
        &Arc::new(auth),
        &Arc::new(reads),
        &settings.cors_origins,
        log,
    )?;
    // The routes hold the lanes from here on, and nobody else may.
    drop(desks);
    tracing::info!(address = %listener.local_addr()?, "listening");
    server::serve(
        listener,
        router,
        settings.connections,
        proxies,
        stream_threads.handle(),
        shutdown,
    )
    .await;

    // With the last connection went the last handle on the lanes: they confirm what they have, and end.
    while let Some(ended) = lane_tasks.join_next().await {
        ended.context("a lane has failed")?;
    }
    tokio::join!(publishing.close(), listening.close());
    pools.close().await;
    Ok(())
}

/// Notes whether the broker can be used: it answers, and every lane has a channel.
fn note_broker(
    readiness: &Arc<Readiness>,
    open: watch::Receiver<usize>,
    partitions: u16,
) -> impl Fn(bool) + use<> {
    let readiness = Arc::clone(readiness);
    move |answers| {
        readiness.set(
            "broker",
            answers && *open.borrow() == usize::from(partitions),
        );
    }
}

/// Who may call, and how often.
struct Callers {
    auth: Auth,
    limits: Arc<Limits>,
}

/// What an ingest process works with.
struct Servers {
    pools: Pools,
    publishing: Arc<Broker>,
    listening: Arc<Broker>,
    repairs: Repairs,
    /// The database's.
    time: DatabaseTime,
}

impl Servers {
    /// Makes sure that database and broker are those of this release and of this installation.
    async fn reach(common: &Common, shutdown: &CancellationToken) -> anyhow::Result<Self> {
        let pools = Pools::new(common);
        database::require_schema(&common.database).await?;
        secret::require_secret(&common.database, &common.mint).await?;
        let time = DatabaseTime::measured(&pools.changes).await?;
        let publishing = Arc::new(Broker::new(&common.amqp, "hotrow-ingest publishing"));
        let listening = Arc::new(Broker::new(&common.amqp, "hotrow-ingest listening"));
        let rights = topology::ensure_or_find(&listening, &pools.changes, &common.plan).await?;
        let repairs = match rights {
            Rights::Declare => Repairs::start(&listening, &pools.changes, common.plan, shutdown),
            Rights::Use => Repairs::by_others(),
        };
        Ok(Self {
            pools,
            publishing,
            listening,
            repairs,
            time,
        })
    }
}

/// Connections to the database, shared out so that no kind of question starves another.
struct Pools {
    /// Orders, for polls, the door and changes, and the board.
    orders: PgPool,
    /// Reads of the inventory.
    inventory: PgPool,
    /// Changes by administrators, histories and payments, and the lock under which queues are declared.
    changes: PgPool,
}

impl Pools {
    /// Half of the connections for orders, and a quarter each for the two others.
    fn new(common: &Common) -> Self {
        let all = common.database_connections;
        let pool = |connections: u32, name| {
            database::pool(&common.database, connections, name, database::ACQUIRE_MAX)
        };
        Self {
            orders: pool(all - all / 4 * 2, "hotrow-ingest orders"),
            inventory: pool(all / 4, "hotrow-ingest inventory"),
            changes: pool(all / 4, "hotrow-ingest changes"),
        }
    }

    async fn close(&self) {
        for pool in [&self.orders, &self.inventory, &self.changes] {
            pool.close().await;
        }
    }
}
