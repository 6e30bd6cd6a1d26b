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

use std::{
    cell::RefCell,
    collections::BTreeMap,
    net::{SocketAddr, TcpStream},
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};
use chrono::{TimeDelta, Utc};
use tokio::{
    runtime,
    sync::oneshot,
    task::{JoinSet, LocalSet},
};
use uuid::Uuid;

use self::buyer::{Buyer, Templates};
pub use self::{
    limits::allow_open_files,
    order::{Basket, Choice, customer_id},
    report::{Refusal, Report, Times, Window},
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
        limits::allow_open_files(self.connections)?;
        let connections = (0..self.connections)
            .map(|number| connect(self.targets[number % self.targets.len()]))
            .collect::<anyhow::Result<Vec<_>>>()?;

        let threads = self.threads.min(self.connections);
        // After the connections, which take their time.
        let shared = Arc::new(Shared::new(self));
        let mut parts: Vec<Vec<_>> = (0..threads).map(|_| Vec::new()).collect();
        for (number, connection) in connections.into_iter().enumerate() {
            parts[number % threads].push(connection);
        }
        let tallies = parts
            .into_iter()
            .map(|share| {
                let (tally, finished) = oneshot::channel();
                let shared = Arc::clone(&shared);
                thread::Builder::new()
                    .name("buyers".into())
                    .spawn(move || {
                        // Nobody receives it when the load was dropped.
                        let _ = tally.send(drive(share, &shared));
                    })?;
                Ok(finished)
            })
            .collect::<anyhow::Result<_>>()?;
        Ok(Running { shared, tallies })
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

/// A load under way. Dropped, it stops.
pub struct Running {
    shared: Arc<Shared>,
    tallies: Vec<oneshot::Receiver<anyhow::Result<Report>>>,
}

/// How far a load is; for a display, so the numbers may be of slightly different moments.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Progress {
    /// Orders with a 202.
    pub accepted: u64,
    /// Orders with another answer.
    pub refused: u64,
    /// Orders whose connection broke before they had an answer.
    pub unanswered: u64,
}

impl Running {
    /// A view of the load that lasts longer than it.
    #[must_use]
    pub fn view(&self) -> View {
        View(Arc::clone(&self.shared))
    }

    /// Sends no further orders; those under way are still answered.
    pub fn stop(&self) {
        self.shared.stop.store(true, Ordering::Relaxed);
    }

    /// Waits for the last answer.
    ///
    /// # Errors
    /// When a target cannot be reached any more.
    pub async fn finish(mut self) -> anyhow::Result<Report> {
        let mut sum = Report::new(self.shared.window)?;
        for tally in &mut self.tallies {
            sum.add(tally.await.context("a thread of the load panicked")??)?;
        }
        Ok(sum)
    }
}

/// A view of a load, for a display beside it.
#[derive(Clone)]
pub struct View(Arc<Shared>);

impl View {
    /// How far the load is.
    #[must_use]
    pub fn progress(&self) -> Progress {
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Progress {
            accepted: count(&self.0.accepted),
            refused: count(&self.0.refused),
            unanswered: count(&self.0.unanswered),
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop();
    }
}

/// What the threads share: what there is to ask for, and the counters of the display.
struct Shared {
    load: Load,
    started: Instant,
    window: Option<Window>,
    /// When the orders of an open loop are due, after the start.
    arrivals: Option<Vec<Duration>>,
    next: AtomicU64,
    stop: AtomicBool,
    accepted: AtomicU64,
    refused: AtomicU64,
    unanswered: AtomicU64,
}

/// One request to send.
struct Turn {
    /// Its number.
    number: u64,
    /// When it is due, in an open loop.
    due: Option<Instant>,
}

impl Shared {
    fn new(load: Load) -> Self {
        let arrivals = load
            .per_second
            .zip(load.length())
            .map(|(rate, length)| arrivals::draw(rate, length));
        Self {
            arrivals,
            started: Instant::now(),
            window: load.window(),
            next: AtomicU64::new(0),
            stop: AtomicBool::new(false),
            accepted: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            unanswered: AtomicU64::new(0),
            load,
        }
    }

    /// The next request to send, while there is one.
    fn next_turn(&self) -> Option<Turn> {
        if self.stop.load(Ordering::Relaxed) {
            return None;
        }
        let turn = self.next.fetch_add(1, Ordering::Relaxed);
        let due = match (&self.arrivals, self.load.length()) {
            (Some(arrivals), _) => {
                let due = arrivals.get(usize::try_from(turn).ok()?)?;
                Some(self.started + *due)
            }
            (None, Some(length)) if self.started.elapsed() >= length => return None,
            (None, _) => None,
        };
        (turn < self.load.requests()).then(|| Turn {
            number: self.load.first_order.wrapping_add(turn),
            due,
        })
    }
}

fn connect(target: SocketAddr) -> anyhow::Result<(SocketAddr, TcpStream)> {
    let stream = TcpStream::connect(target).with_context(|| format!("connect to {target}"))?;
    stream.set_nodelay(true)?;
    stream.set_nonblocking(true)?;
    Ok((target, stream))
}

/// One thread's part: its connections on a runtime of its own, counted in one tally.
fn drive(part: Vec<(SocketAddr, TcpStream)>, shared: &Arc<Shared>) -> anyhow::Result<Report> {
    let runtime = runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let tally = Rc::new(RefCell::new(Report::new(shared.window)?));
    let mut buyers = JoinSet::new();
    LocalSet::new().block_on(&runtime, async {
        let mut templates = BTreeMap::new();
        for (target, stream) in part {
            let stream = tokio::net::TcpStream::from_std(stream)?;
            let templates = templates
                .entry(target)
                .or_insert_with(|| Rc::new(Templates::new(shared, target)));
            let buyer = Buyer::new(
                target,
                stream,
                Rc::clone(templates),
                Arc::clone(shared),
                Rc::clone(&tally),
            );
            buyers.spawn_local(buyer.buy());
        }
        while let Some(finished) = buyers.join_next().await {
            finished??;
        }
        anyhow::Ok(())
    })?;
    let tally = Rc::into_inner(tally).context("a buyer is still there")?;
    Ok(tally.into_inner())
}
