//! A sale over HTTP: purchases at Hotrow, one ingest process and one worker.

use std::net::SocketAddr;

use anyhow::ensure;
use hotrow_tests::{
    Load, Process, Settings,
    load::{Basket, Report},
    metrics::Metrics,
};

use super::Bench;
use crate::{
    costs::Payers,
    goods::{self, Goods, HOT, PLENTY},
    report::figures::{Figure, Round},
    shop::{Distance, Shop, settled},
    tokens::{Signature, Tokens},
};

/// Of what a closed loop got through, so much is asked for by an open one.
const OPEN_LOOP_SHARE: f64 = 0.8;
/// Enough that an order that is due finds a free one.
const OPEN_LOOP_CONNECTIONS: usize = 1_024;
/// Customers who take turns where there is a limit for each.
const LIMITED_CUSTOMERS: u64 = 100_000;

/// What is bought, by how many at once, and how Hotrow is set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Sale {
    demand: Demand,
    connections: usize,
    keyed: bool,
    held: bool,
    limited: bool,
    signature: Option<Signature>,
    setup: Setup,
    distance: Distance,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Demand {
    Hot,
    Popular,
    Carts,
}

/// How Hotrow is set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Setup {
    Default,
    OneByOne,
    Quiet,
}

impl Sale {
    /// Everybody wants one product.
    pub(crate) const fn hot(connections: usize) -> Self {
        Self {
            demand: Demand::Hot,
            connections,
            keyed: false,
            held: false,
            limited: false,
            signature: None,
            setup: Setup::Default,
            distance: Distance::Near,
        }
    }

    /// Everybody wants one of 10,000 products.
    pub(crate) const fn popular(connections: usize) -> Self {
        let mut sale = Self::hot(connections);
        sale.demand = Demand::Popular;
        sale
    }

    /// Everybody wants three of 10,000 products.
    pub(crate) const fn carts(connections: usize) -> Self {
        let mut sale = Self::hot(connections);
        sale.demand = Demand::Carts;
        sale
    }

    /// Each order has an idempotency key.
    pub(crate) const fn keyed(mut self) -> Self {
        self.keyed = true;
        self
    }

    /// The product's orders are reserved until they are paid.
    pub(crate) const fn held(mut self) -> Self {
        self.held = true;
        self
    }

    /// Envelopes and batches of one order: a queue without batching.
    pub(crate) const fn one_by_one(mut self) -> Self {
        self.setup = Setup::OneByOne;
        self
    }

    /// Nobody else is told: no events.
    pub(crate) const fn quiet(mut self) -> Self {
        self.setup = Setup::Quiet;
        self
    }

    /// The customers have tokens.
    pub(crate) const fn with_tokens(mut self, signature: Signature) -> Self {
        self.signature = Some(signature);
        self
    }

    /// The product has a limit per customer, and there are 100,000 customers who come again.
    pub(crate) const fn limited(mut self) -> Self {
        self.limited = true;
        self
    }

    /// The database is far away.
    pub(crate) const fn far(mut self) -> Self {
        self.distance = Distance::Far;
        self
    }

    /// Opens the shop that has what is wanted.
    pub(super) async fn shop(&self) -> anyhow::Result<Shop> {
        let goods = match self.demand {
            Demand::Hot if self.held => Goods::held(PLENTY),
            Demand::Hot if self.limited => Goods::limited(),
            Demand::Hot => Goods::one(),
            Demand::Popular | Demand::Carts => Goods::many(),
        };
        Shop::open(self.distance, &goods).await
    }

    /// The buyers.
    pub(super) fn load(&self, target: SocketAddr) -> anyhow::Result<Load> {
        let load = Load::of(Basket::one(HOT, 1), &[target]).connections(self.connections);
        let load = match self.demand {
            Demand::Hot => load,
            Demand::Popular => {
                let (baskets, choice) = goods::popular()?;
                load.baskets(baskets, choice)
            }
            Demand::Carts => {
                let (baskets, choice) = goods::carts()?;
                load.baskets(baskets, choice)
            }
        };
        let load = if self.limited {
            load.customers(LIMITED_CUSTOMERS)
        } else {
            load
        };
        Ok(if self.keyed {
            load.keys(goods::key_prefix())
        } else {
            load
        })
    }

    /// The settings of both processes.
    fn settings(&self, shop: &Shop) -> (Settings, Settings) {
        let (ingest, worker) = (shop.ingest(), shop.worker());
        match self.setup {
            Setup::Default => (ingest, worker),
            Setup::OneByOne => (
                ingest.set("ENVELOPE_ORDERS_MAX", "1"),
                worker.set("BATCH_ORDERS_MAX", "1"),
            ),
            Setup::Quiet => (ingest.set("EVENTS", "off"), worker.set("EVENTS", "off")),
        }
    }
}

/// One round of a closed loop.
pub(super) async fn round(bench: &mut Bench, sale: Sale) -> anyhow::Result<Round> {
    let shop = sale.shop().await?;
    let (round, report) = at(&shop, bench, sale, None).await?;
    shop.close().await?;
    let is_plain_hotrow = sale == Sale::hot(sale.connections);
    if is_plain_hotrow {
        let accepted = report.accepted_per_second();
        bench.best = Some(bench.best.map_or(accepted, |best| best.max(accepted)));
    }
    Ok(round)
}

/// The most orders per second that a closed loop of this pass got through, measured now if it is the first to be
/// asked for.
pub(super) async fn best(bench: &mut Bench, sale: Sale) -> anyhow::Result<f64> {
    if bench.best.is_none() {
        // The only row of a run.
        round(bench, sale).await?;
    }
    Ok(bench.best.unwrap_or_default())
}

/// One round of an open loop, at a share of what the closed loops of this pass got through.
pub(super) async fn open_loop(bench: &mut Bench) -> anyhow::Result<Round> {
    let sale = Sale::hot(OPEN_LOOP_CONNECTIONS);
    let rate = best(bench, sale).await? * OPEN_LOOP_SHARE;
    let shop = sale.shop().await?;
    let (round, _) = at(&shop, bench, sale, Some(rate)).await?;
    shop.close().await?;
    Ok(round)
}

/// Sells at a shop, and measures. `rate` is that of an open loop.
pub(super) async fn at(
    shop: &Shop,
    bench: &Bench,
    sale: Sale,
    rate: Option<f64>,
) -> anyhow::Result<(Round, Report)> {
    let (mut ingest, worker) = sale.settings(shop);
    let folder = tempfile::tempdir()?;
    let tokens = sale.signature.map(Tokens::make);
    if let Some(tokens) = &tokens {
        ingest = tokens.believed_by(ingest, folder.path())?;
    }
    let (ingest, worker) = tokio::try_join!(ingest.start(), worker.start())?;
    let payers = Payers {
        place: &shop.place,
        ingest: Some(&ingest),
        worker: Some(&worker),
    };
    let conditions = bench.conditions;
    let mut load = sale.load(ingest.address()?)?;
    let mut introduced = 0;
    if let Some(Tokens { all, .. }) = tokens {
        let customers = all.len();
        load = load.tokens(all);
        introduced = introduce(&load, customers, &worker).await?;
    }
    load = load.lasting(conditions.warm_up, conditions.measured);
    if let Some(rate) = rate {
        load = load.per_second(rate);
    }
    let before = payers.costs()?;
    let report = load.run().await?;
    settled(&worker, introduced + report.accepted.len()).await?;
    let round = payers.add(Round::default(), &before, report.accepted.len())?;
    ensure!(
        report.refusals() == 0,
        "orders were refused: {:?}",
        report.refused_by_code()
    );
    let outcome = if sale.held { "reserved" } else { "confirmed" };
    shop.check_settled(&report, outcome, report.accepted.len())
        .await?;

    let lag = shop.lag(&report).await?;
    let round = accepted(round, &report)
        .with(Figure::SettledPerSecond, lag.settled_per_second())
        .with(Figure::SettledP50Ms, lag.p50_ms)
        .with(Figure::SettledP99Ms, lag.p99_ms)
        .with(Figure::SettledP999Ms, lag.p999_ms)
        .with(
            Figure::OrdersPerRowWrite,
            orders_per_row_write(&worker.metrics().await?),
        );
    Ok((round, report))
}

/// Lets each customer buy once, so that its token is remembered by those who are measured. Returns how many did.
async fn introduce(load: &Load, customers: usize, worker: &Process) -> anyhow::Result<usize> {
    let report = load.clone().orders(customers as u64).run().await?;
    let accepted = report.accepted.len();
    ensure!(
        accepted == customers,
        "only {accepted} of {customers} customers were let in: {:?}",
        report.refused_by_code()
    );
    settled(worker, accepted).await?;
    Ok(accepted)
}

/// Adds what the buyers saw.
pub(super) fn accepted(round: Round, report: &Report) -> Round {
    round
        .with(Figure::AcceptedPerSecond, report.accepted_per_second())
        .with(Figure::P50Ms, report.accept_times.ms(0.5))
        .with(Figure::P99Ms, report.accept_times.ms(0.99))
        .with(Figure::P999Ms, report.accept_times.ms(0.999))
}

/// The product in one number.
pub(super) fn orders_per_row_write(worker: &Metrics) -> f64 {
    let [settled, writes] = ["hotrow_orders_settled_total", "hotrow_row_writes_total"]
        .map(|name| worker.sum(name, &[]));
    settled / writes.max(1.0)
}
