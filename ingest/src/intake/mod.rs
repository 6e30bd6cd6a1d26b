//! The intake: what a purchase has to pass before it is accepted.

pub(crate) mod handler;
pub(crate) mod metrics;
pub(crate) mod purchase;
pub(crate) mod repeats;

use std::{net::IpAddr, sync::Arc, time::Duration};

use futures_util::future::join_all;
use hotrow_shared::{
    envelope::{Command, Order},
    id::{IdMint, IdempotencyKey, OrderId},
    request_id::RequestId,
};

use self::{metrics::IntakeMetrics, purchase::Purchase, repeats::Repeats};
use crate::{
    backlog::Backlog,
    clock::Clock,
    http::{peer::TrustedProxies, problem::Problem},
    lanes::{Lanes, NotAccepted},
    limits::Limits,
    sold_out::SoldOut,
    status::{StatusDesk, reader::Found},
};

/// Everything that stands between a purchase and its lane.
pub(crate) struct Intake {
    /// Names orders.
    pub(crate) mint: IdMint,
    /// Tells the time.
    pub(crate) clock: Clock,
    /// Number of intake queues.
    pub(crate) partitions: u16,
    /// Whose `X-Forwarded-For` is believed.
    pub(crate) proxies: TrustedProxies,
    /// How many purchases.
    pub(crate) limits: Arc<Limits>,
    /// What is gone.
    pub(crate) sold_out: Arc<SoldOut>,
    /// What waits.
    pub(crate) backlog: Arc<Backlog>,
    /// What was asked with which key.
    pub(crate) repeats: Repeats,
    /// What became of earlier orders.
    pub(crate) status: Arc<StatusDesk>,
    /// The way to the broker.
    pub(crate) lanes: Lanes,
    /// What is counted.
    pub(crate) metrics: IntakeMetrics,
}

/// An order that is safely queued.
#[derive(Debug)]
pub(crate) struct Accepted {
    /// Its name.
    pub(crate) id: OrderId,
    /// How long it will wait.
    pub(crate) wait: Duration,
}

impl Intake {
    /// Counts a request before its body is read, so that a flood of nonsense counts, too.
    ///
    /// # Errors
    /// A limit is reached.
    pub(crate) fn admit(&self, client: IpAddr) -> Result<(), Problem> {
        self.limits
            .count_client(client)
            .map_err(Problem::RateLimited)
    }

    /// Accepts a purchase: when this returns well, the broker has it durable in a queue.
    ///
    /// # Errors
    /// Every refusal of the contract that concerns a purchase that could be read.
    pub(crate) async fn accept(
        &self,
        purchase: Purchase,
        key: Option<IdempotencyKey>,
        request_id: Option<RequestId>,
    ) -> Result<Accepted, Problem> {
        let Purchase { customer_id, items } = purchase;
        self.limits
            .count_customer(&customer_id)
            .map_err(Problem::RateLimited)?;
        let now_ms = self.clock.now_ms();
        let id = key.as_ref().map_or_else(
            || self.mint.mint(now_ms),
            |key| self.mint.derive(&customer_id, key, now_ms),
        );
        let fingerprint = key.is_some().then(|| repeats::fingerprint(&items));
        if let Some(fingerprint) = fingerprint
            && self.repeats.contradict(id, fingerprint)
        {
            return Err(Problem::IdempotencyMismatch);
        }
        let partition = items.partition(self.partitions);
        let mut order = Order {
            id,
            customer_id,
            items,
            accepted_ms: 0,
            key,
            request_id,
        };
        if let Some(sku) = self.sold_out.among(&order.items)
            && !self.may_be_a_repeat(&order).await
        {
            return Err(Problem::SoldOut(sku.to_string()));
        }
        let wait = self.backlog.wait(partition);
        if self.backlog.is_full() {
            return Err(Problem::Overloaded(wait));
        }
        // The looks before may have taken a while. An order counts as accepted when it enters its lane.
        order.accepted_ms = i64::try_from(self.clock.now_ms()).unwrap_or(i64::MAX);
        let published = self
            .lanes
            .publish(partition, Command::Place(order).encode())
            .await;
        if let (Some(fingerprint), Ok(()) | Err(NotAccepted::Unknown)) = (fingerprint, published) {
            self.repeats.remember(id, fingerprint);
        }
        match published {
            Ok(()) => Ok(Accepted { id, wait }),
            Err(NotAccepted::Overloaded) => Err(Problem::Overloaded(wait)),
            Err(NotAccepted::Unavailable) => Err(Problem::Unavailable("the broker")),
            Err(NotAccepted::Unknown) => Err(Problem::OutcomeUnknown(id)),
        }
    }

    /// Whether an order may have come in before.
    ///
    /// A buyer who got the last one and repeats the request must not hear `sold_out`. So a keyed order
    /// passes a sold-out SKU if it, or the same purchase of the day before, is known or cannot be
    /// looked up; the worker then finds the first one.
    async fn may_be_a_repeat(&self, order: &Order) -> bool {
        let Some(key) = &order.key else { return false };
        if self.repeats.remembers(order.id) {
            return true;
        }
        let twins = self
            .mint
            .twins(order.id, &order.customer_id, key, order.id.day());
        let names = [order.id].into_iter().chain(twins);
        let found = join_all(names.map(|id| self.status.find(id))).await;
        found
            .iter()
            .any(|found| !matches!(found, Ok(Found::Queued | Found::Dropped)))
    }
}
