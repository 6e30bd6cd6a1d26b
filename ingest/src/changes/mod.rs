//! Changes of settled orders: they are paid, cancelled and held for longer by commands, which go through the queue of
//! the order's partition like purchases, and are decided by the worker alone.
//!
//! The door refuses for shape, authority, an unknown order and one that is not settled. Whatever else is
//! wrong with a payment, it is queued: it ends as a confirmed order or as an unmatched payment.

mod bodies;
pub(crate) mod handler;
mod parts;
mod store;
pub(crate) mod tickets;

use std::{sync::Arc, time::Duration};

use hotrow_shared::{
    change::{Answer, Ask, Change},
    envelope::Command,
    id::{IdMint, OrderId},
    request_id::RequestId,
};
use sqlx::PgPool;
use tokio::time::{Instant, sleep_until, timeout_at};
use tokio_util::sync::CancellationToken;

use self::{parts::Parts, tickets::TicketWaiter};
use crate::{
    auth::Caller,
    backlog::Backlog,
    changes::tickets::Tickets,
    clock::DatabaseClock,
    http::problem::Problem,
    lanes::{Lanes, NotAccepted},
    limits::Limits,
    status::{
        Finder, LAST_LOOK_MAX, LOOK_INTERVAL,
        handler::DROPPED_ORDER,
        outcomes::Outcome,
        owner::require_own,
        reader::{Found, NoAnswer},
    },
};

/// Queues changes of settled orders, and tells their history.
pub(crate) struct ChangesDesk {
    /// Tells our ids from made-up ones.
    pub(crate) mint: IdMint,
    pub(crate) clock: DatabaseClock,
    /// Of the changes that customers ask for.
    pub(crate) limits: Arc<Limits>,
    /// Number of intake queues.
    pub(crate) partitions: u16,
    /// Finds the orders. Its reader is its own, so that a crowd of polls does not hold up payments.
    pub(crate) finder: Finder,
    pub(crate) backlog: Arc<Backlog>,
    pub(crate) lanes: Arc<Lanes>,
    pub(crate) tickets: Arc<Tickets>,
    /// For histories and unmatched payments.
    pub(crate) pool: PgPool,
    /// Ends every wait.
    pub(crate) shutdown: CancellationToken,
}

/// What became of a change by the time that its caller is answered.
pub(crate) enum Taken {
    /// It is safely queued, and will be settled in about `wait`. This is the order as it was known before.
    Queued { order: Outcome, wait: Duration },
    /// It is settled, and this is the order since.
    Done(Outcome),
}

/// A settled order, found by any of its names.
struct Settled {
    id: OrderId,
    outcome: Outcome,
    parts: Parts,
}

impl ChangesDesk {
    /// Queues a change: when this returns well, the broker has it durable in a queue. A caller that waits hears how
    /// it was settled.
    ///
    /// # Errors
    /// Every refusal of the contract that concerns a command that could be read.
    pub(crate) async fn take(
        &self,
        id: OrderId,
        ask: Ask,
        caller: &Caller,
        request_id: Option<RequestId>,
        wait: Duration,
    ) -> Result<Taken, Problem> {
        let end = Instant::now() + wait;
        let by = caller.actor()?;
        let order = self.settled(id, caller).await?;
        let ticket = if wait.is_zero() {
            None
        } else {
            self.tickets.register_waiter()
        };
        let change = Change {
            order_id: order.parts.first_id(),
            skus: order.parts.skus(),
            // Now, and not before the look above, which may have taken a while.
            accepted_ms: self.clock.accepted_ms(),
            by,
            request_id,
            ticket: ticket.as_ref().map(TicketWaiter::number),
            ask,
        };
        let command = Command::Change(change.clone());
        let partition = command.partition(self.partitions);
        match self.lanes.publish_change(partition, command.encode()).await {
            Ok(()) => {}
            // Changes go before all purchases, so their room is soon free again.
            Err(NotAccepted::Overloaded) => return Err(Problem::Overloaded(Duration::ZERO)),
            Err(NotAccepted::Unavailable) => return Err(Problem::Unavailable("the broker")),
            Err(NotAccepted::Unknown) => return Err(Problem::CommandUnknown(Some(id))),
        }
        let answered = match ticket {
            Some(mut ticket) => self.answer(&order, &change, &mut ticket, end).await,
            None => None,
        };
        match answered {
            None => Ok(Taken::Queued {
                order: order.outcome,
                wait: self.backlog.wait(partition),
            }),
            Some((Answer::Done, outcome)) => Ok(Taken::Done(outcome)),
            Some((answer, outcome)) => Err(Problem::Conflict {
                order: outcome.document,
                unmatched: answer == Answer::Unmatched,
            }),
        }
    }

    /// Finds a settled order. For a customer who did not place it, there is none.
    async fn settled(&self, id: OrderId, caller: &Caller) -> Result<Settled, Problem> {
        let mut found = self.finder.find(&[id]).await?;
        require_own(caller, &found)?;
        match found.pop() {
            Some(Found::Settled(outcome)) => {
                // Of a newer release, perhaps. Another process may be able to, so the order is not unknown.
                let parts = Parts::read(&outcome.document).map_err(|error| {
                    tracing::error!(order_id = %id, %error, "the document of an order cannot be read");
                    Problem::from(NoAnswer)
                })?;
                Ok(Settled { id, outcome, parts })
            }
            Some(Found::Queued | Found::Replayed) => {
                Err(Problem::NotSettled(self.backlog.longest_wait()))
            }
            Some(Found::Dropped) => Err(DROPPED_ORDER),
            None => Err(NoAnswer.into()),
        }
    }

    /// How a change was settled and the order since, or none if that is not known when the wait is over.
    async fn answer(
        &self,
        order: &Settled,
        change: &Change,
        ticket: &mut TicketWaiter,
        end: Instant,
    ) -> Option<(Answer, Outcome)> {
        loop {
            let next_look = end.min(Instant::now() + LOOK_INTERVAL);
            let news = tokio::select! {
                answer = ticket.news() => Some(answer),
                () = sleep_until(next_look) => None,
                () = self.shutdown.cancelled() => return None,
            };
            let is_over = Instant::now() >= end;
            let look_max = Instant::now().max(end) + LAST_LOOK_MAX;
            let look = timeout_at(look_max, self.look(order.id, change, news)).await;
            if let (Ok(Err(NoAnswer)) | Err(_), Some(answer)) = (&look, news) {
                let remembered = self.finder.remembered(order.id);
                return unseen(answer, &order.outcome, remembered);
            }
            if let Ok(Ok(Some(answered))) = look {
                return Some(answered);
            }
            if is_over {
                return None;
            }
        }
    }

    /// Looks at the database for the order behind a change, and without news for what became of the change.
    async fn look(
        &self,
        id: OrderId,
        change: &Change,
        news: Option<Answer>,
    ) -> Result<Option<(Answer, Outcome)>, NoAnswer> {
        let Some(Found::Settled(outcome)) = self.finder.read(&[id]).await?.pop() else {
            return Ok(None);
        };
        let answer = match (news, &change.ask) {
            (Some(answer), _) => Some(answer),
            (None, ask) => {
                let done = Parts::read(&outcome.document)
                    .is_ok_and(|parts| parts.show(ask, change.accepted_ms));
                match ask {
                    _ if done => Some(Answer::Done),
                    Ask::Confirm(payment) => {
                        let unmatched =
                            store::is_unmatched(&self.pool, change.order_id, &payment.reference);
                        let unmatched = unmatched.await.map_err(|_| NoAnswer)?;
                        unmatched.then_some(Answer::Unmatched)
                    }
                    _ => None,
                }
            }
        };
        Ok(answer.map(|answer| (answer, outcome)))
    }
}

/// What to tell of a change that is settled while the database cannot be read. A document that does not show the change
/// is not told as the one behind it.
fn unseen(
    answer: Answer,
    before: &Outcome,
    remembered: Option<Outcome>,
) -> Option<(Answer, Outcome)> {
    let newest = remembered.unwrap_or_else(|| before.clone());
    let shows = answer != Answer::Done || newest.revision > before.revision;
    shows.then_some((answer, newest))
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn outcome(revision: i32) -> Outcome {
        Outcome {
            revision,
            is_final: false,
            known_at: Instant::now(),
            document: Bytes::from_static(b"{}"),
        }
    }

    #[test]
    fn without_the_database_no_old_document_is_told_as_the_new_one() {
        let before = outcome(1);
        assert!(unseen(Answer::Done, &before, None).is_none());
        assert!(unseen(Answer::Done, &before, Some(outcome(1))).is_none());
        let told = unseen(Answer::Done, &before, Some(outcome(2)));
        assert!(told.is_some_and(|(_, order)| order.revision == 2));
        let told = unseen(Answer::Unmatched, &before, None);
        assert!(told.is_some_and(|(answer, _)| answer == Answer::Unmatched));
    }
}
