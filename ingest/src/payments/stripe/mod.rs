//! Payments that Stripe tells of: signed events become commands on the orders that they name.
//!
//! Every event that says that money came ends as a command, which a worker settles, or as an unmatched payment; else
//! Stripe hears that it has to deliver the event again.

mod event;
pub(crate) mod handler;
mod outcome;
mod signature;

use std::{sync::Arc, time::Duration};

use hotrow_shared::{change::Ask, request_id::RequestId, settings::Rotating};
use tokio::sync::Semaphore;

pub(crate) use self::outcome::StripeMetrics;
use self::{
    event::{Meaning, NotAnEvent},
    outcome::Outcome,
    signature::{BadSignature, Signature, SigningSecret},
};
use super::store;
use crate::{
    auth::Caller, changes::ChangesDesk, http::problem::Problem, outbox::Outbox, page::done_in_time,
    settings::StripeSettings,
};

/// Events of more bytes than other bodies may have that are read at the same time: 32 MiB altogether. Whoever can
/// reach the route can send such bodies, and only a read one shows that it is not signed.
const LARGE_EVENTS_MAX: usize = 128;
/// How much of an order's name is kept of a payment whose order is not known, in characters.
const UNKNOWN_NAME_LENGTH_MAX: usize = 255;
/// How long it may take to note such a payment.
const NOTE_TIME_MAX: Duration = Duration::from_secs(5);

/// Follows what Stripe tells.
pub(crate) struct StripeDesk {
    secret: Rotating<String>,
    /// Whether live events count, and not those of test mode.
    is_live: bool,
    changes: Arc<ChangesDesk>,
    /// As whom it asks for changes. Its signature proves that it may.
    caller: Caller,
    outbox: Outbox,
    /// Places for large events.
    room: Semaphore,
    metrics: StripeMetrics,
}

/// An event that is not followed, or not yet.
struct Refused {
    /// How it is counted. What was not read to its end is not known to be an event.
    outcome: Option<Outcome>,
    problem: Problem,
}

impl Refused {
    fn because(outcome: Outcome, problem: Problem) -> Self {
        Self {
            outcome: Some(outcome),
            problem,
        }
    }

    /// There is no room for an event of this size.
    fn overloaded() -> Self {
        Self::because(Outcome::Unavailable, Problem::Overloaded(Duration::ZERO))
    }
}

impl From<BadSignature> for Refused {
    fn from(why: BadSignature) -> Self {
        Self::because(Outcome::BadSignature, Problem::Malformed(why.to_string()))
    }
}

impl From<NotAnEvent> for Refused {
    fn from(why: NotAnEvent) -> Self {
        Self::because(Outcome::Malformed, Problem::Malformed(why.to_string()))
    }
}

/// The body did not arrive, or is none that can be an event's.
impl From<Problem> for Refused {
    fn from(problem: Problem) -> Self {
        Self {
            outcome: None,
            problem,
        }
    }
}

impl StripeDesk {
    /// Follows events that are signed with the secret of `settings`.
    pub(crate) fn new(
        settings: &StripeSettings,
        changes: Arc<ChangesDesk>,
        outbox: Outbox,
        metrics: StripeMetrics,
    ) -> Self {
        Self {
            secret: settings.webhook_secret.clone(),
            is_live: settings.is_live,
            changes,
            caller: Caller::program("stripe"),
            outbox,
            room: Semaphore::new(LARGE_EVENTS_MAX),
            metrics,
        }
    }

    /// Reads a signed event.
    fn read(&self, signature: &Signature<'_>, body: &[u8]) -> Result<Meaning, Refused> {
        SigningSecret::new(&self.secret.current()).verify(signature, body)?;
        let meaning = event::read(body, self.is_live);
        if let Err(why) = meaning {
            // Stripe signed it, so a payment may be in it.
            let event = event::name(body);
            tracing::error!(event, %why, "an event of Stripe cannot be read");
        }
        Ok(meaning?)
    }

    /// Counts what was done with an event.
    fn counted(&self, followed: Result<Outcome, Refused>) -> Result<Outcome, Problem> {
        let (outcome, answer) = match followed {
            Ok(outcome) => (Some(outcome), Ok(outcome)),
            Err(Refused { outcome, problem }) => (outcome, Err(problem)),
        };
        if let Some(outcome) = outcome {
            self.metrics.count(outcome);
        }
        answer
    }

    /// Does what an event says. When this returns well, nothing of it can be lost any more.
    async fn follow(
        &self,
        meaning: Meaning,
        request_id: Option<RequestId>,
    ) -> Result<Outcome, Refused> {
        let (order, ask) = match meaning {
            Meaning::Nothing(outcome) => return Ok(outcome),
            Meaning::Change { order, ask } => (order, ask),
        };
        let Some(id) = self.changes.mint.recognise(&order) else {
            return self.leave_unmatched(&order, &ask).await;
        };
        let taken = self
            .changes
            .take(id, ask.clone(), &self.caller, request_id, Duration::ZERO)
            .await;
        match (taken, &ask) {
            (Ok(_), Ask::Confirm(_)) => Ok(Outcome::Confirm),
            (Ok(_), _) => Ok(Outcome::Extend),
            (Err(Problem::NotFound(_)), _) => self.leave_unmatched(&id.to_string(), &ask).await,
            (Err(Problem::NotSettled(wait)), _) => {
                let problem = Problem::EventTooEarly(wait);
                Err(Refused::because(Outcome::NotSettled, problem))
            }
            (Err(problem), _) => Err(Refused::because(Outcome::Unavailable, problem)),
        }
    }

    /// Notes the payment for an order that is not known. An intent that is only being processed has paid nothing yet.
    async fn leave_unmatched(&self, order: &str, ask: &Ask) -> Result<Outcome, Refused> {
        let Ask::Confirm(payment) = ask else {
            return Ok(Outcome::UnknownOrder);
        };
        let order = kept(order);
        let pool = &self.changes.pool;
        let noted = store::insert_of_unknown_order(pool, self.outbox, &order, payment);
        let unknown = || Problem::CommandUnknown(None);
        done_in_time(
            NOTE_TIME_MAX,
            "a payment for an unknown order",
            unknown,
            noted,
        )
        .await
        .map_err(|problem| Refused::because(Outcome::Unavailable, problem))?;
        Ok(Outcome::UnknownOrder)
    }
}

/// An order's name as PostgreSQL can keep it: Stripe lets the shop write any text of 500 characters.
fn kept(name: &str) -> String {
    let name = name.chars().take(UNKNOWN_NAME_LENGTH_MAX);
    name.map(|c| {
        if c == '\0' {
            char::REPLACEMENT_CHARACTER
        } else {
            c
        }
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_kept_as_far_as_it_can_be() {
        assert_eq!(kept("order 7"), "order 7");
        assert_eq!(kept("a\0b"), "a\u{fffd}b");
        assert_eq!(kept(&"ü".repeat(500)), "ü".repeat(255));
    }
}
