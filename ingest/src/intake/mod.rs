//! The intake: what a purchase has to pass before it is accepted.

mod buyer;
pub(crate) mod handler;
pub(crate) mod metrics;
pub(crate) mod purchase;
pub(crate) mod repeats;

use std::{net::IpAddr, sync::Arc, time::Duration};

use hotrow_shared::{
    envelope::{Command, Order},
    id::{IdMint, IdempotencyKey, OrderId},
    order::{CustomerId, Items},
    request_id::RequestId,
};

use self::{buyer::Buyer, metrics::IntakeMetrics, repeats::Repeats};
use crate::{
    backlog::Backlog,
    board::{Board, stock::State},
    clock::Clock,
    http::{peer::TrustedProxies, problem::Problem},
    lanes::{Lanes, NotAccepted},
    limits::Limits,
    status::{
        Finder,
        reader::{Found, NoAnswer},
    },
};

/// Everything that stands between a purchase and its lane.
pub(crate) struct Intake {
    pub(crate) mint: IdMint,
    pub(crate) clock: Clock,
    /// Number of intake queues.
    pub(crate) partitions: u16,
    /// Proxies whose `X-Forwarded-For` is believed.
    pub(crate) proxies: TrustedProxies,
    pub(crate) limits: Arc<Limits>,
    /// Whether callers prove who they are.
    pub(crate) has_tokens: bool,
    pub(crate) board: Arc<Board>,
    pub(crate) backlog: Arc<Backlog>,
    pub(crate) repeats: Repeats,
    pub(crate) earlier: Finder,
    pub(crate) lanes: Arc<Lanes>,
    pub(crate) metrics: IntakeMetrics,
}

/// An order that is safely queued.
#[derive(Debug)]
pub(crate) struct Accepted {
    pub(crate) id: OrderId,
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
        buyer: Buyer,
        items: Items,
        key: Option<IdempotencyKey>,
        request_id: Option<RequestId>,
    ) -> Result<Accepted, Problem> {
        let Buyer {
            customer_id,
            is_counted,
        } = buyer;
        if is_counted {
            let counted = self.limits.count_customer(&customer_id);
            counted.map_err(Problem::RateLimited)?;
        }
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
        if let Some((sku, state)) = self.board.closed(&items)
            && !self.may_be_a_repeat(id, &customer_id, key.as_ref()).await?
        {
            return Err(Problem::SoldOut {
                sku: sku.to_string(),
                is_held: state == State::AllHeld,
            });
        }
        let wait = self.backlog.wait(partition);
        if self.backlog.is_full() {
            return Err(Problem::Overloaded(wait));
        }
        let order = Command::Place(Order {
            id,
            customer_id,
            items,
            // Now, and not before the looks above, which may have taken a while.
            accepted_ms: i64::try_from(self.clock.now_ms()).unwrap_or(i64::MAX),
            key,
            request_id,
        });
        let published = self.lanes.publish(partition, order.encode()).await;
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

    /// Returns whether an order may have come in before.
    ///
    /// A buyer who got the last one and repeats the request must not hear `sold_out`. So a keyed order
    /// passes a sold-out SKU if it, or the same purchase of the day before, is known; the worker then
    /// finds the first one. All names of the purchase are one look-up.
    ///
    /// # Errors
    /// The names cannot be looked up. A door that does not know stays shut.
    async fn may_be_a_repeat(
        &self,
        id: OrderId,
        customer_id: &CustomerId,
        key: Option<&IdempotencyKey>,
    ) -> Result<bool, NoAnswer> {
        let Some(key) = key else {
            return Ok(false);
        };
        if self.repeats.remembers(id) {
            return Ok(true);
        }
        let twins = self.mint.twins(id, customer_id, key, id.day());
        let names: Vec<_> = [id].into_iter().chain(twins).collect();
        let found = self.earlier.find(&names).await?;
        Ok(found
            .iter()
            .any(|found| !matches!(found, Found::Queued | Found::Replayed | Found::Dropped)))
    }
}
