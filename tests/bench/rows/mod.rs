//! The rows of the report: what is measured under which name.

mod ceiling;
mod drain;
mod expire;
mod growth;
mod largest_carts;
mod life;
pub(crate) mod listen;
mod pay;
mod poll;
mod reserved;
mod rival;
mod sale;
mod slow_clients;
mod sold_out;

use std::time::Duration;

use futures_util::future::{FutureExt, LocalBoxFuture};

pub(crate) use self::growth::Warehouse;
use self::sale::Sale;
use crate::{report::figures::Round, rivals::Rival, shop::Distance, tokens::Signature};

/// How long and how much is measured in one round.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Conditions {
    /// Load whose answers are not counted: connections, caches, allocators and plans warm up.
    pub(crate) warm_up: Duration,
    /// Load whose answers are counted.
    pub(crate) measured: Duration,
    /// Orders that wait before a drain.
    pub(crate) backlog: u64,
    /// Orders of [`largest_carts`] that wait before a worker comes.
    pub(crate) largest_carts: u64,
    /// Holds that are over at the same moment.
    pub(crate) holds: u64,
    /// Pages that listen to the stock.
    pub(crate) listeners: usize,
    /// Orders that are stored before [`growth`].
    pub(crate) stored: u32,
}

/// What the rounds of a run know of each other.
pub(crate) struct Bench {
    /// How much is measured.
    pub(crate) conditions: Conditions,
    /// The most orders per second that [`sale`] accepted in this pass, from a closed loop.
    pub(crate) best: Option<f64>,
    /// Filled once, used in every pass.
    pub(crate) warehouse: Warehouse,
}

type Measure = for<'a> fn(&'a mut Bench) -> LocalBoxFuture<'a, anyhow::Result<Round>>;

/// One row to be.
pub(crate) struct Entry {
    /// What `--only` names it by.
    pub(crate) name: &'static str,
    /// Which of several under that name.
    pub(crate) variant: &'static str,
    /// Measures one round of it.
    pub(crate) measure: Measure,
}

const fn entry(name: &'static str, variant: &'static str, measure: Measure) -> Entry {
    Entry {
        name,
        variant,
        measure,
    }
}

/// Every row, in the sequence of the report. A pass goes through all of them once, and what is compared lies
/// side by side in it, so that it sees the same machine.
pub(crate) const PLAN: [Entry; 37] = [
    entry("row-lock", "64 connections", |bench| {
        rival::round(bench, Rival::RowLock, Distance::Near, 64).boxed_local()
    }),
    entry("one-statement", "64 connections", |bench| {
        rival::round(bench, Rival::OneStatement, Distance::Near, 64).boxed_local()
    }),
    entry("one-statement", "256 connections", |bench| {
        rival::round(bench, Rival::OneStatement, Distance::Near, 256).boxed_local()
    }),
    // As many as its lane has room for: more would only be refused.
    entry("queue-per-order", "16 connections", |bench| {
        sale::round(bench, Sale::hot(16).one_by_one()).boxed_local()
    }),
    entry("hotrow", "64 connections", |bench| {
        sale::round(bench, Sale::hot(64)).boxed_local()
    }),
    entry("hotrow", "256 connections", |bench| {
        sale::round(bench, Sale::hot(256)).boxed_local()
    }),
    entry("pay", "256 connections", |bench| {
        pay::closed_loop(bench).boxed_local()
    }),
    entry("hotrow", "1,024 connections", |bench| {
        sale::round(bench, Sale::hot(1_024)).boxed_local()
    }),
    entry("hold", "1,024 connections", |bench| {
        sale::round(bench, Sale::hot(1_024).held()).boxed_local()
    }),
    entry("quiet", "1,024 connections", |bench| {
        sale::round(bench, Sale::hot(1_024).quiet()).boxed_local()
    }),
    entry("tokens", "HS256", |bench| {
        sale::round(bench, Sale::hot(1_024).with_tokens(Signature::Hs256)).boxed_local()
    }),
    entry("tokens", "ES256", |bench| {
        sale::round(bench, Sale::hot(1_024).with_tokens(Signature::Es256)).boxed_local()
    }),
    entry("limited", "100,000 customers", |bench| {
        sale::round(bench, Sale::hot(1_024).limited()).boxed_local()
    }),
    entry("keyed", "1,024 connections", |bench| {
        sale::round(bench, Sale::hot(1_024).keyed()).boxed_local()
    }),
    entry("growth", "full table", |bench| {
        growth::round(bench).boxed_local()
    }),
    entry("many-skus", "10,000 SKUs", |bench| {
        sale::round(bench, Sale::popular(1_024)).boxed_local()
    }),
    entry("many-skus", "carts of three", |bench| {
        sale::round(bench, Sale::carts(1_024)).boxed_local()
    }),
    entry("open-loop", "80 % of hotrow", |bench| {
        sale::open_loop(bench).boxed_local()
    }),
    entry("drain", "one SKU", |bench| {
        drain::round(bench, Sale::hot(1_024)).boxed_local()
    }),
    entry("ceiling", "raw batches of 1,000", |bench| {
        ceiling::raw(bench).boxed_local()
    }),
    entry("drain", "10,000 SKUs", |bench| {
        drain::round(bench, Sale::popular(1_024)).boxed_local()
    }),
    entry("poll", "cached", |bench| poll::cached(bench).boxed_local()),
    entry("ceiling", "empty handler, GET", |bench| {
        ceiling::empty_get(bench).boxed_local()
    }),
    entry("poll", "not cached", |bench| {
        poll::not_cached(bench).boxed_local()
    }),
    entry("poll", "5,000 waiting", |bench| {
        poll::waiting(bench).boxed_local()
    }),
    entry("life", "1,000 clients", |bench| {
        life::round(bench).boxed_local()
    }),
    entry("pay", "in a stampede", |bench| {
        pay::in_a_stampede(bench).boxed_local()
    }),
    entry("expire", "all at once", |bench| {
        expire::round(bench).boxed_local()
    }),
    entry("sold-out", "refusals", |bench| {
        sold_out::round(bench, sold_out::Keys::None).boxed_local()
    }),
    entry("sold-out", "keyed refusals", |bench| {
        sold_out::round(bench, sold_out::Keys::Fresh).boxed_local()
    }),
    entry("ceiling", "empty handler, POST", |bench| {
        ceiling::empty_post(bench).boxed_local()
    }),
    entry("far-database", "row-lock", |bench| {
        rival::round(bench, Rival::RowLock, Distance::Far, 64).boxed_local()
    }),
    entry("far-database", "one-statement", |bench| {
        rival::round(bench, Rival::OneStatement, Distance::Far, 256).boxed_local()
    }),
    entry("far-database", "hotrow", |bench| {
        sale::round(bench, Sale::hot(1_024).far()).boxed_local()
    }),
    entry("largest-carts", "4,096 connections", |bench| {
        largest_carts::round(bench).boxed_local()
    }),
    entry("slow-clients", "17,000 beside 256", |bench| {
        slow_clients::round(bench).boxed_local()
    }),
    entry("listen", "20,000 pages", |bench| {
        listen::round(bench).boxed_local()
    }),
];
