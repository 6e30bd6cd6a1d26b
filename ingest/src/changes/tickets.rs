//! Tickets: who waits for one very change to be settled.

use std::{
    collections::HashMap,
    future::pending,
    sync::{Arc, Mutex, PoisonError},
};

use hotrow_shared::change::{Answer, Ticket};
use tokio::sync::oneshot;
use uuid::Uuid;

/// Callers that may wait for a change at the same time; beyond, a change is answered when it is queued.
const WAITING_MAX: usize = 10_000;

/// Everybody who waits for a change.
#[derive(Default)]
pub(crate) struct Tickets {
    waiting: Mutex<HashMap<Ticket, oneshot::Sender<Answer>>>,
}

/// One wait. It ends with this value.
pub(crate) struct TicketWaiter {
    of: Arc<Tickets>,
    number: Ticket,
    answer: oneshot::Receiver<Answer>,
}

impl TicketWaiter {
    /// What the change carries.
    pub(crate) fn number(&self) -> Ticket {
        self.number
    }

    /// Returns how the change was settled once there is news of it, once.
    pub(crate) async fn news(&mut self) -> Answer {
        match (&mut self.answer).await {
            Ok(answer) => answer,
            // The sender is dropped with this waiter or after it has sent.
            Err(_) => pending().await,
        }
    }
}

impl Drop for TicketWaiter {
    fn drop(&mut self) {
        self.of.locked().remove(&self.number);
    }
}

impl Tickets {
    /// Waits for a change that carries the ticket, from now on. `None` if too many wait already.
    pub(crate) fn register_waiter(self: &Arc<Self>) -> Option<TicketWaiter> {
        // Random, because the processes hear each other's.
        let number = Uuid::new_v4().as_u64_pair().1;
        let (sender, answer) = oneshot::channel();
        let mut waiting = self.locked();
        if waiting.len() >= WAITING_MAX {
            return None;
        }
        waiting.insert(number, sender);
        Some(TicketWaiter {
            of: Arc::clone(self),
            number,
            answer,
        })
    }

    /// Tells those who wait for one of these changes.
    pub(crate) fn hear(&self, answers: &[(Ticket, Answer)]) {
        if answers.is_empty() {
            return;
        }
        let mut waiting = self.locked();
        for (number, answer) in answers {
            if let Some(sender) = waiting.remove(number) {
                // A caller that went away does not hear it.
                let _ = sender.send(*answer);
            }
        }
    }

    fn locked(&self) -> std::sync::MutexGuard<'_, HashMap<Ticket, oneshot::Sender<Answer>>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[test]
    fn an_answer_reaches_the_one_who_waits_for_it_and_nobody_else() {
        let tickets = Arc::new(Tickets::default());
        let mut one = tickets.register_waiter().expect("room");
        let mut other = tickets.register_waiter().expect("room");
        tickets.hear(&[(one.number(), Answer::Conflict)]);
        assert_eq!(one.news().now_or_never(), Some(Answer::Conflict));
        assert_eq!(other.news().now_or_never(), None);
        tickets.hear(&[(other.number(), Answer::Done), (7, Answer::Done)]);
        assert_eq!(other.news().now_or_never(), Some(Answer::Done));
    }

    #[test]
    fn beyond_the_bound_nobody_waits_and_whoever_leaves_makes_room() {
        let tickets = Arc::new(Tickets::default());
        let mut all: Vec<_> = (0..WAITING_MAX)
            .map(|_| tickets.register_waiter().expect("room"))
            .collect();
        assert!(tickets.register_waiter().is_none());
        all.pop();
        assert!(tickets.register_waiter().is_some());
        drop(all);
        assert!(tickets.locked().is_empty());
    }
}
