//! The intake: what a purchase has to pass before it is accepted.

mod buyer;
pub(crate) mod handler;
pub(crate) mod metrics;
pub(crate) mod purchase;
mod receipt;
pub(crate) mod repeats;

use std::{net::IpAddr, sync::Arc, time::Duration};

use chrono::{DateTime, Utc};
use hotrow_shared::{
    envelope::{Command, Order},
    id::{IdMint, IdempotencyKey, OrderId},
    order::{CustomerId, Items},
    request_id::RequestId,
};

use self::{buyer::Buyer, metrics::IntakeMetrics, repeats::Repeats};
use crate::{
    backlog::Backlog,
    board::Board,
    clock::{Clock, DatabaseClock},
    http::{code::Code, peer::TrustedProxies, problem::Problem},
    lanes::{Lanes, NotAccepted},
    limits::Limits,
    sale::{KnownSwitch, Stop},
    status::{
        Finder,
        reader::{Found, NoAnswer},
    },
};

/// What a purchase may be refused with: the routes' table and the label values of `hotrow_orders_refused_total`.
pub(crate) const REFUSALS: &[Code] = &[
    Code::Malformed,
    Code::TooLarge,
    Code::RequestTimeout,
    Code::UnsupportedMediaType,
    Code::Forbidden,
    Code::Invalid,
    Code::IdempotencyMismatch,
    Code::UnknownSku,
    Code::CurrencyMismatch,
    Code::PriceChanged,
    Code::Closed,
    Code::NotOpen,
    Code::Paused,
    Code::LimitReached,
    Code::SoldOut,
    Code::RateLimited,
    Code::Stopped,
    Code::Overloaded,
    Code::Unavailable,
    Code::OutcomeUnknown,
];

/// Everything that stands between a purchase and its lane.
pub(crate) struct Intake {
    pub(crate) mint: IdMint,
    /// Names the day of an order.
    pub(crate) clock: Clock,
    /// By which sales open and close.
    pub(crate) database_clock: DatabaseClock,
    /// Number of intake queues.
    pub(crate) partitions: u16,
    /// Proxies whose `X-Forwarded-For` is believed.
    pub(crate) proxies: TrustedProxies,
    pub(crate) limits: Arc<Limits>,
    /// Stops all purchases.
    pub(crate) switch: Arc<KnownSwitch>,
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
        let seen_at = self.database_clock.now();
        if let Some(refusal) = self.refusal(&items, seen_at)
            && !(lets_repeats_pass(&refusal)
                && self.may_be_a_repeat(id, &customer_id, key.as_ref()).await?)
        {
            return Err(refusal);
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
            // Whoever the door let in comes after that, although the offset of the clock was measured anew.
            accepted_ms: (self.database_clock.accepted_ms()).max(seen_at.timestamp_millis()),
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

    /// Why nothing like this is sold now, if so. The switch for all purchases comes before the rules of each product.
    fn refusal(&self, items: &Items, now: DateTime<Utc>) -> Option<Problem> {
        if let Some(Stop { until, wait }) = self.switch.stop() {
            return Some(Problem::Stopped { until, wait });
        }
        let not_sold = self.board.refusal(items, now)?;
        Some(Problem::NotSold(not_sold))
    }

    /// Returns whether an order may have come in before.
    ///
    /// A buyer who got the last one and repeats the request must not hear `sold_out`. So a keyed order
    /// passes a closed door if it, or the same purchase of the day before, is known; the worker then
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

/// Whether an order of before may be asked for again although nothing new is sold. Before the sale there was none.
fn lets_repeats_pass(refusal: &Problem) -> bool {
    match refusal {
        Problem::NotSold(not_sold) => not_sold.why.lets_repeats_pass(),
        _ => true,
    }
}
