//! A load generator: buyers at keep-alive connections. In a closed loop each sends its next order when
//! the last one was answered; in an open one orders are due at their own times, whether or not the
//! earlier ones were answered, and their waiting counts from then.
//!
//! It parts the machine with what it measures, so it is made to need little of a processor: requests are
//! copied from templates, answers are searched rather than understood, and each thread has its own
//! connections, runtime and tally.

mod answer;
mod arrivals;
mod buyer;
mod limits;
mod order;
mod payment;
mod report;
mod running;
mod shared;

use std::{net::SocketAddr, sync::Arc, time::Duration};

use anyhow::ensure;
use chrono::{TimeDelta, Utc};
use uuid::Uuid;

pub use self::{
    limits::allow_open_files,
    order::{Basket, Choice, customer_id},
    report::{Refusal, Report, Times, Window},
    running::{Progress, Running, View},
};

/// How customer ids start unless told otherwise.
const CUSTOMER_PREFIX: &str = "c-";

/// A load to be: what is ordered where, how often, and by how many at once.
#[derive(Debug, Clone)]
pub struct Load {
    targets: Vec<SocketAddr>,
    baskets: Vec<Basket>,
    choice: Choice,
    orders: u64,
    first_order: u64,
    customers: Option<u64>,
    tokens: Option<Arc<[String]>>,
    customer_prefix: String,
    key_prefix: Option<String>,
    connections: usize,
    threads: usize,
    errand: Errand,
    wait: Option<Duration>,
    pay_token: Option<String>,
    span: Option<Span>,
    per_second: Option<f64>,
    are_most_early: bool,
}

/// What the buyers are there for.
#[derive(Debug, Clone)]
enum Errand {
    Orders,
    /// Of these orders, again from the first after the last.
    Reads(Arc<[Uuid]>),
    /// Of these orders, once each.
    Payments(Arc<[Uuid]>),
}

/// How long a load lasts.
#[derive(Debug, Clone, Copy)]
struct Span {
    warm_up: Duration,
    measured: Duration,
}

impl Load {
    /// Orders of one `basket` at `targets`, which share the connections evenly: 10,000 orders over
    /// 64 connections by 2 threads, each order by a customer of its own and without a key.
    #[must_use]
    pub fn of(basket: Basket, targets: &[SocketAddr]) -> Self {
        Self {
            targets: targets.to_vec(),
            baskets: vec![basket],
            choice: Choice::InTurn,
            orders: 10_000,
            first_order: 0,
            customers: None,
            tokens: None,
            customer_prefix: CUSTOMER_PREFIX.to_owned(),
            key_prefix: None,
            connections: 64,
            threads: 2,
            errand: Errand::Orders,
            wait: None,
            pay_token: None,
            span: None,
            per_second: None,
            are_most_early: false,
        }
    }

    /// Reads of `orders`, one after the other and again from the first, instead of orders.
    #[must_use]
    pub fn reads(orders: Vec<Uuid>, targets: &[SocketAddr]) -> Self {
        Self {
            baskets: Vec::new(),
            errand: Errand::Reads(orders.into()),
            ..Self::of(Basket::several(Vec::new()), targets)
        }
    }

    /// Payments of reserved `orders` by a shop with this token, each order once, instead of orders. A payment with a
    /// 202 counts as accepted. One that waits and gets a 200 counts as shown, with the status that it tells.
    #[must_use]
    pub fn payments(orders: Vec<Uuid>, token: &str, targets: &[SocketAddr]) -> Self {
        Self {
            baskets: Vec::new(),
            orders: u64::MAX,
            errand: Errand::Payments(orders.into()),
            pay_token: Some(token.to_owned()),
            ..Self::of(Basket::several(Vec::new()), targets)
        }
    }

    /// Each buyer whose order is accepted asks for its outcome with `Prefer: wait`, and buys again
    /// when it is told. Reads and payments wait in the same way.
    #[must_use]
    pub fn and_wait(mut self, wait: Duration) -> Self {
        self.wait = Some(wait);
        self
    }

    /// Each buyer who waits and is told that the order is reserved pays it with the shop's token, and waits for that,
    /// too: the outcome is what the payment made of the order.
    #[must_use]
    pub fn and_pay(mut self, token: &str) -> Self {
        self.pay_token = Some(token.to_owned());
        self
    }

    /// The load ends after this time, instead of after a number of orders. Times and rates are
    /// those of the measured part; what was answered before still counts as answered.
    #[must_use]
    pub fn lasting(mut self, warm_up: Duration, measured: Duration) -> Self {
        self.span = Some(Span { warm_up, measured });
        self.orders = u64::MAX;
        self
    }

    /// An open loop: in the mean so many orders are due per second, at random times. An order waits
    /// for a free connection if need be, and its time counts from when it was due. The load goes on
    /// until every order that was due is answered.
    #[must_use]
    pub fn per_second(mut self, orders: f64) -> Self {
        self.per_second = Some(orders);
        self
    }

    /// Most orders of an open loop are due early, and ever fewer towards its end, as when a sale begins: twice as many
    /// as in the mean at first.
    #[must_use]
    pub fn most_early(mut self) -> Self {
        self.are_most_early = true;
        self
    }

    /// Several baskets, and how each order gets one of them.
    #[must_use]
    pub fn baskets(mut self, baskets: Vec<Basket>, choice: Choice) -> Self {
        self.baskets = baskets;
        self.choice = choice;
        self
    }

    /// How many orders there are; `u64::MAX` for a load that is stopped by hand.
    #[must_use]
    pub fn orders(mut self, orders: u64) -> Self {
        self.orders = orders;
        self
    }

    /// The number of the first order. Customers and keys follow from the number, so the same
    /// numbers again are the same requests again.
    #[must_use]
    pub fn first_order(mut self, number: u64) -> Self {
        self.first_order = number;
        self
    }

    /// So many customers take turns, instead of one per order.
    #[must_use]
    pub fn customers(mut self, customers: u64) -> Self {
        self.customers = Some(customers);
        self
    }

    /// Each customer orders with a token of its own, and as many take turns as there are tokens. That of the n-th
    /// customer, counted from 0, has the subject of [`customer_id`]. All are equally long.
    #[must_use]
    pub fn tokens(mut self, tokens: Vec<String>) -> Self {
        self.customers = Some(tokens.len() as u64);
        self.tokens = Some(tokens.into());
        self
    }

    /// The ids of all customers start like this; 16 digits follow.
    #[must_use]
    pub fn customer_prefix(mut self, prefix: impl Into<String>) -> Self {
        self.customer_prefix = prefix.into();
        self
    }

    /// Each order has an idempotency key that starts like this; 16 digits follow.
    #[must_use]
    pub fn keys(mut self, prefix: impl Into<String>) -> Self {
        self.key_prefix = Some(prefix.into());
        self
    }

    /// How many connections there are over all targets.
    #[must_use]
    pub fn connections(mut self, connections: usize) -> Self {
        self.connections = connections;
        self
    }

    /// How many threads drive the connections.
    #[must_use]
    pub fn threads(mut self, threads: usize) -> Self {
        self.threads = threads;
        self
    }

    /// Opens all connections, then lets the buyers loose.
    ///
    /// # Errors
    /// When the load makes no sense, or its connections cannot be opened: the message says which
    /// limit to raise or who refused.
    pub fn start(self) -> anyhow::Result<Running> {
        ensure!(!self.targets.is_empty(), "a load needs a target");
        ensure!(
            match &self.errand {
                Errand::Orders => !self.baskets.is_empty(),
                Errand::Reads(orders) | Errand::Payments(orders) => !orders.is_empty(),
            },
            "a load needs something to ask for"
        );
        ensure!(
            self.per_second.is_none() || self.span.is_some(),
            "an open loop needs an end"
        );
        ensure!(
            self.connections > 0 && self.threads > 0,
            "a load needs a connection and a thread"
        );
        ensure!(
            self.tokens
                .as_deref()
                .is_none_or(|tokens| !tokens.is_empty() && order::are_equally_long(tokens)),
            "a load with tokens needs some, and all equally long"
        );
        Running::start(self)
    }

    /// Runs the load to its end.
    ///
    /// # Errors
    /// See [`Load::start`].
    pub async fn run(self) -> anyhow::Result<Report> {
        self.start()?.finish().await
    }

    /// Returns whether this time after the start is in the measured part.
    fn is_measured(&self, at: Duration) -> bool {
        self.span
            .is_none_or(|Span { warm_up, measured }| (warm_up..warm_up + measured).contains(&at))
    }

    /// How many requests there are at most.
    fn requests(&self) -> u64 {
        match &self.errand {
            Errand::Payments(orders) => self.orders.min(orders.len() as u64),
            Errand::Orders | Errand::Reads(_) => self.orders,
        }
    }

    /// When the load ends, after its start.
    fn length(&self) -> Option<Duration> {
        self.span.map(|span| span.warm_up + span.measured)
    }

    /// The measured part of a load that starts now.
    fn window(&self) -> Option<Window> {
        let Span { warm_up, measured } = self.span?;
        let from = Utc::now() + TimeDelta::from_std(warm_up).ok()?;
        let to = from + TimeDelta::from_std(measured).ok()?;
        Some(Window { from, to })
    }
}
