//! Waiters: who wants to hear of an order as soon as it is settled.
//!
//! All who wait for one order share one signal, so a wait costs the same however many there are, and
//! whoever stops waiting leaves nothing behind.

use std::{
    collections::{HashMap, hash_map::Entry},
    sync::{Arc, Mutex, PoisonError},
};

use hotrow_shared::id::OrderId;
use tokio_util::sync::CancellationToken;

/// Clients that may wait at the same time; beyond, an order is answered as it is.
const WAITING_MAX: usize = 100_000;

/// Everybody who waits for an order.
#[derive(Default)]
pub(crate) struct Waiters {
    waiting: Mutex<Waiting>,
}

#[derive(Default)]
struct Waiting {
    count: usize,
    /// The number of the next signal.
    next_signal: u64,
    signals: HashMap<OrderId, Signal>,
}

/// What wakes all who wait for one order.
struct Signal {
    number: u64,
    news: CancellationToken,
    waiters: usize,
}

/// One wait. It ends with this value.
pub(crate) struct Waiter {
    of: Arc<Waiters>,
    id: OrderId,
    signal: u64,
    news: CancellationToken,
}

impl Waiter {
    /// The order that it waits for.
    pub(crate) fn id(&self) -> OrderId {
        self.id
    }

    /// Returns when there is news of the order.
    pub(crate) async fn news(&self) {
        self.news.cancelled().await;
    }
}

impl Drop for Waiter {
    fn drop(&mut self) {
        let mut waiting = self
            .of
            .waiting
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        waiting.leave(self.id, self.signal);
    }
}

impl Waiters {
    /// Waits for news of an order, from now on. `None` if too many wait already.
    pub(crate) fn register_waiter(self: &Arc<Self>, id: OrderId) -> Option<Waiter> {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if waiting.count >= WAITING_MAX {
            return None;
        }
        let (signal, news) = waiting.join(id);
        Some(Waiter {
            of: Arc::clone(self),
            id,
            signal,
            news,
        })
    }

    /// Wakes everybody who waits for one of these orders.
    pub(crate) fn wake(&self, ids: impl IntoIterator<Item = OrderId>) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if waiting.signals.is_empty() {
            return;
        }
        for id in ids {
            if let Some(signal) = waiting.signals.remove(&id) {
                waiting.count -= signal.waiters;
                signal.news.cancel();
            }
        }
    }
}

impl Waiting {
    fn join(&mut self, id: OrderId) -> (u64, CancellationToken) {
        self.count += 1;
        let signal = self.signals.entry(id).or_insert_with(|| {
            self.next_signal += 1;
            Signal {
                number: self.next_signal,
                news: CancellationToken::new(),
                waiters: 0,
            }
        });
        signal.waiters += 1;
        (signal.number, signal.news.clone())
    }

    /// Takes a waiter off its signal, unless that was given already: then its waiters are counted no more.
    fn leave(&mut self, id: OrderId, number: u64) {
        let Entry::Occupied(mut entry) = self.signals.entry(id) else {
            return;
        };
        if entry.get().number != number {
            return;
        }
        self.count -= 1;
        entry.get_mut().waiters -= 1;
        if entry.get().waiters == 0 {
            entry.remove();
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;
    use hotrow_shared::id::IdMint;

    use super::*;

    fn two_orders() -> (OrderId, OrderId) {
        let mint = IdMint::new("a secret of a test", None);
        (mint.mint(1), mint.mint(2))
    }

    fn counted(waiters: &Waiters) -> (usize, usize) {
        let waiting = waiters
            .waiting
            .lock()
            .expect("no test panics with the lock");
        (waiting.count, waiting.signals.len())
    }

    #[test]
    fn news_wakes_everybody_who_waits_for_the_order_and_nobody_else() {
        let waiters = Arc::new(Waiters::default());
        let (one, other) = two_orders();
        let woken: Vec<_> = (0..1_000)
            .map(|_| waiters.register_waiter(one).expect("room"))
            .collect();
        let asleep = waiters.register_waiter(other).expect("room");
        waiters.wake([one]);
        assert!(
            woken
                .iter()
                .all(|waiter| waiter.news().now_or_never().is_some())
        );
        assert!(asleep.news().now_or_never().is_none());
        assert_eq!(counted(&waiters), (1, 1));
        drop((woken, asleep));
        assert_eq!(counted(&waiters), (0, 0));
    }

    #[test]
    fn a_waiter_that_was_woken_does_not_end_the_wait_of_one_that_came_later() {
        let waiters = Arc::new(Waiters::default());
        let (one, _) = two_orders();
        let woken = waiters.register_waiter(one).expect("room");
        waiters.wake([one]);
        let later = waiters.register_waiter(one).expect("room");
        drop(woken);
        assert_eq!(counted(&waiters), (1, 1));
        assert!(later.news().now_or_never().is_none());
    }

    #[test]
    fn beyond_the_bound_nobody_waits_and_whoever_leaves_makes_room() {
        let waiters = Arc::new(Waiters::default());
        let (one, _) = two_orders();
        let mut all: Vec<_> = (0..WAITING_MAX)
            .map(|_| waiters.register_waiter(one).expect("room"))
            .collect();
        assert!(waiters.register_waiter(one).is_none());
        all.pop();
        assert!(waiters.register_waiter(one).is_some());
    }
}
