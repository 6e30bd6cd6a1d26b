//! One buyer: a connection that sends an order, waits for its answer, and sends the next.

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
};

use super::{
    Shared,
    answer::{self, Answer},
    order::Template,
    report::Report,
};
use crate::wait;

/// How long a target may be away, between the end of one process and the start of the next.
const AWAY_MAX: Duration = Duration::from_secs(30);

pub(super) struct Buyer {
    target: SocketAddr,
    stream: TcpStream,
    templates: Vec<Template>,
    shared: Arc<Shared>,
    /// Shared by the buyers of one thread.
    tally: Rc<RefCell<Report>>,
    started: Instant,
    request: Vec<u8>,
    answer: Vec<u8>,
}

impl Buyer {
    pub(super) fn new(
        target: SocketAddr,
        stream: TcpStream,
        shared: Arc<Shared>,
        tally: Rc<RefCell<Report>>,
        started: Instant,
    ) -> Self {
        let load = &shared.load;
        let templates = load
            .baskets
            .iter()
            .map(|basket| Template::new(target, basket, load.key_prefix.as_deref()))
            .collect();
        let (request, answer) = (Vec::with_capacity(1024), Vec::with_capacity(4096));
        Self {
            target,
            stream,
            templates,
            shared,
            tally,
            started,
            request,
            answer,
        }
    }

    /// Sends orders while there are any.
    pub(super) async fn buy(mut self) -> anyhow::Result<()> {
        while let Some(order) = self.shared.next_order() {
            let load = &self.shared.load;
            let basket = load.choice.basket(order, self.templates.len());
            let customer = load.customers.map_or(order, |customers| order % customers);
            self.templates[basket].write(&mut self.request, order, customer);

            let sent = Instant::now();
            let answer = self.exchange().await?;
            let is_open = self.count(order, sent, answer);
            if !is_open {
                self.connect_again().await?;
            }
        }
        Ok(())
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

    /// Counts an answer, for the display and for the report. Gives whether the connection is open.
    fn count(&self, order: u64, sent: Instant, answer: Option<(Answer, bool)>) -> bool {
        let answered = Instant::now();
        let mut tally = self.tally.borrow_mut();
        let (counter, is_open) = if let Some((answer, is_open)) = answer {
            let counter = match answer {
                Answer::Accepted(_) => &self.shared.accepted,
                Answer::Refused { .. } => &self.shared.refused,
            };
            tally.answer(answer, answered - sent, answered - self.started);
            (counter, is_open)
        } else {
            tally.unanswered.push(order);
            (&self.shared.unanswered, false)
        };
        counter.fetch_add(1, Ordering::Relaxed);
        is_open
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
