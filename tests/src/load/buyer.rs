//! One buyer: a connection that sends a request, waits for its answer, and sends the next.

use std::{
    cell::RefCell,
    net::SocketAddr,
    rc::Rc,
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::sleep_until,
};
use uuid::Uuid;

use super::{
    Errand,
    answer::{self, Answer},
    order::{Form, ReadTemplate, Template, in_turn},
    payment::PaymentTemplate,
    report::{Moment, Report},
    shared::{Shared, Turn},
};
use crate::wait;

/// How long a target may be away, between the end of one process and the start of the next.
const AWAY_MAX: Duration = Duration::from_secs(30);
/// How often a buyer who waits asks again while the order is queued.
const ASKS_MAX: usize = 3;
/// The status of an order whose goods are held until it is paid.
const RESERVED: &str = "reserved";

/// What the buyers of one thread share who order at the same target.
pub(super) struct Templates {
    pub orders: Vec<Template>,
    pub read: ReadTemplate,
    /// Of those who pay.
    pub payment: Option<PaymentTemplate>,
}

impl Templates {
    pub(super) fn new(shared: &Shared, target: SocketAddr) -> Self {
        let load = &shared.load;
        let form = Form {
            customer_prefix: &load.customer_prefix,
            key_prefix: load.key_prefix.as_deref(),
            token_length: load.tokens.as_deref().map(|tokens| tokens[0].len()),
        };
        let order = |basket| Template::new(target, basket, form);
        Self {
            orders: load.baskets.iter().map(order).collect(),
            read: ReadTemplate::new(target, load.wait),
            payment: load
                .pay_token
                .as_deref()
                .map(|token| PaymentTemplate::new(target, token, load.wait)),
        }
    }
}

pub(super) struct Buyer {
    target: SocketAddr,
    stream: TcpStream,
    templates: Rc<Templates>,
    shared: Arc<Shared>,
    /// Shared by the buyers of one thread.
    tally: Rc<RefCell<Report>>,
    request: Vec<u8>,
    answer: Vec<u8>,
}

impl Buyer {
    pub(super) fn new(
        target: SocketAddr,
        stream: TcpStream,
        templates: Rc<Templates>,
        shared: Arc<Shared>,
        tally: Rc<RefCell<Report>>,
    ) -> Self {
        let (request, answer) = (Vec::with_capacity(1024), Vec::with_capacity(4096));
        Self {
            target,
            stream,
            templates,
            shared,
            tally,
            request,
            answer,
        }
    }

    /// Sends requests while there are any.
    pub(super) async fn buy(mut self) -> anyhow::Result<()> {
        while let Some(Turn { number, due }) = self.shared.next_turn() {
            let since = match due {
                None => Instant::now(),
                // Tokio's clock rings up to a millisecond late, which counts as waiting: an open
                // loop's times are too long by half a millisecond in the mean, and never too short.
                Some(due) => {
                    sleep_until(due.into()).await;
                    due
                }
            };
            let is_open = match &self.shared.load.errand {
                Errand::Orders => self.order(number, since).await?,
                Errand::Reads(ids) => {
                    let id = ids[in_turn(number, ids.len())];
                    self.templates.read.write(&mut self.request, id);
                    self.ask(number, since).await?
                }
                Errand::Payments(ids) => {
                    let id = ids[in_turn(number, ids.len())];
                    self.write_payment(id, number);
                    self.ask(number, since).await?
                }
            };
            if !is_open {
                self.connect_again().await?;
            }
        }
        Ok(())
    }

    /// Orders, and waits for the outcome if the load says so. Returns whether the connection is open.
    async fn order(&mut self, number: u64, since: Instant) -> anyhow::Result<bool> {
        let load = &self.shared.load;
        let basket = load.choice.basket(number, self.templates.orders.len());
        let customer = load
            .customers
            .map_or(number, |customers| number % customers);
        let token = load
            .tokens
            .as_deref()
            .map(|tokens| tokens[in_turn(customer, tokens.len())].as_str());
        self.templates.orders[basket].write(&mut self.request, number, customer, token);
        let Some((answer, is_open)) = self.exchange().await? else {
            self.give_up(number);
            return Ok(false);
        };
        self.count(&answer, since);
        match answer {
            Answer::Accepted(id) if is_open && self.shared.load.wait.is_some() => {
                self.await_outcome(number, id, since).await
            }
            _ => Ok(is_open),
        }
    }

    /// Asks for the outcome of an order until it is there.
    async fn await_outcome(
        &mut self,
        number: u64,
        id: Uuid,
        since: Instant,
    ) -> anyhow::Result<bool> {
        for asked in 1..=ASKS_MAX {
            self.templates.read.write(&mut self.request, id);
            let Some((answer, is_open)) = self.exchange().await? else {
                self.give_up(number);
                return Ok(false);
            };
            match answer {
                Answer::Shown(status) if status == RESERVED && self.templates.payment.is_some() => {
                    if !is_open {
                        self.connect_again().await?;
                    }
                    return self.pay(number, id, since).await;
                }
                Answer::Shown(status) if status != "queued" || asked == ASKS_MAX => {
                    self.tell(&status, since);
                    return Ok(is_open);
                }
                Answer::Shown(_) if is_open => {}
                other => {
                    self.count(&other, since);
                    return Ok(is_open);
                }
            }
        }
        Ok(true)
    }

    /// Pays a reserved order, and is told what it is then.
    async fn pay(&mut self, number: u64, id: Uuid, since: Instant) -> anyhow::Result<bool> {
        self.write_payment(id, number);
        let Some((answer, is_open)) = self.exchange().await? else {
            self.give_up(number);
            return Ok(false);
        };
        match &answer {
            Answer::Shown(status) => self.tell(status, since),
            // The wait is over, and the payment is not settled.
            Answer::Accepted(_) => self.tell(RESERVED, since),
            Answer::Refused { .. } => self.count(&answer, since),
        }
        Ok(is_open)
    }

    fn write_payment(&mut self, id: Uuid, number: u64) {
        if let Some(payment) = &self.templates.payment {
            payment.write(&mut self.request, id, number);
        }
    }

    /// Sends the request that is written, and counts its answer. Returns whether the connection is open.
    async fn ask(&mut self, number: u64, since: Instant) -> anyhow::Result<bool> {
        let Some((answer, is_open)) = self.exchange().await? else {
            self.give_up(number);
            return Ok(false);
        };
        self.count(&answer, since);
        Ok(is_open)
    }

    /// Sends the request and reads the answer, and whether the connection stays open. `None` when
    /// it broke: whether the order was accepted nobody knows.
    async fn exchange(&mut self) -> anyhow::Result<Option<(Answer, bool)>> {
        if self.stream.write_all(&self.request).await.is_err() {
            return Ok(None);
        }
        self.answer.clear();
        loop {
            match self.stream.read_buf(&mut self.answer).await {
                Ok(0) | Err(_) => return Ok(None),
                Ok(_) => {}
            }
            if let Some(answer) = answer::read(&self.answer)? {
                return Ok(Some(answer));
            }
        }
    }

    /// Counts an answer, for the display and for the report.
    fn count(&self, answer: &Answer, since: Instant) {
        let moment = self.moment(since);
        let counter = match answer {
            Answer::Accepted(_) => Some(&self.shared.accepted),
            Answer::Refused { .. } => Some(&self.shared.refused),
            Answer::Shown(_) => None,
        };
        if let Some(counter) = counter {
            counter.fetch_add(1, Ordering::Relaxed);
        }
        self.tally.borrow_mut().answer(answer, moment);
    }

    /// Counts what a buyer who waited is told.
    fn tell(&self, status: &str, since: Instant) {
        let moment = self.moment(since);
        self.tally.borrow_mut().tell(status, moment);
    }

    fn moment(&self, since: Instant) -> Moment {
        let answered = Instant::now();
        let Shared { started, load, .. } = &*self.shared;
        // In an open loop what was due then counts, however late it is answered; in a closed one,
        // where being late only delays the next order, what was answered then.
        let decisive = if load.per_second.is_some() {
            since
        } else {
            answered
        };
        Moment {
            took: answered.saturating_duration_since(since),
            at: answered - *started,
            is_measured: load.is_measured(decisive.saturating_duration_since(*started)),
        }
    }

    fn give_up(&self, number: u64) {
        self.tally.borrow_mut().unanswered.push(number);
        self.shared.unanswered.fetch_add(1, Ordering::Relaxed);
    }

    async fn connect_again(&mut self) -> anyhow::Result<()> {
        let what = format!("{} to take connections again", self.target);
        self.stream = wait::until(&what, AWAY_MAX, async || {
            let stream = TcpStream::connect(self.target).await.ok()?;
            stream.set_nodelay(true).ok()?;
            Some(stream)
        })
        .await?;
        Ok(())
    }
}
