//! Topics: the last state of each thing that somebody listens to, shared by all its listeners.
//!
//! A state is encoded once, however many listen. A listener that is slow finds the last state when it comes back, so it
//! skips those between and costs no memory. A topic has only states that follow each other, so no listener sees a
//! thing go back.

use std::{
    collections::HashMap,
    hash::Hash,
    sync::{Mutex, MutexGuard, PoisonError},
};

use tokio::sync::watch;

/// A state that listeners are told.
pub(super) trait Told {
    /// Returns whether it comes after another state of the same thing, and says something else.
    fn follows(&self, before: &Self) -> bool;
}

/// Everything that somebody listens to. A topic has no state until one is offered.
pub(super) struct Topics<K, S> {
    senders: Mutex<Senders<K, S>>,
}

type Senders<K, S> = HashMap<K, watch::Sender<Option<S>>>;

impl<K, S> Default for Topics<K, S> {
    fn default() -> Self {
        Self {
            senders: Mutex::default(),
        }
    }
}

impl<K: Clone + Eq + Hash, S: Told> Topics<K, S> {
    /// Listens to a thing from now on. The first state that the receiver has is the last that was offered.
    pub(super) fn subscribe(&self, key: K) -> watch::Receiver<Option<S>> {
        let mut senders = self.senders();
        let sender = senders
            .entry(key)
            .or_insert_with(|| watch::Sender::new(None));
        sender.subscribe()
    }

    /// Tells a state to those who listen to the thing, unless they have been told it or a later one.
    pub(super) fn offer(&self, key: &K, state: S) {
        if let Some(sender) = self.senders().get(key) {
            tell(sender, state);
        }
    }

    /// Sets the state that a thing begins with. Those who listen already are told nothing: what `replaces` the last
    /// state takes its place for whoever comes later.
    pub(super) fn begin(&self, key: &K, state: S, replaces: impl FnOnce(&S) -> bool) {
        let senders = self.senders();
        let Some(sender) = senders.get(key) else {
            return;
        };
        sender.send_if_modified(|last| {
            let is_first = last.is_none();
            if last.as_ref().is_none_or(replaces) {
                *last = Some(state);
            }
            is_first
        });
    }

    /// Tells many states, as [`Topics::offer`] does. Nothing is encoded of what nobody listens to. Returns how many
    /// were told.
    pub(super) fn offer_all<F: FnOnce() -> S>(&self, states: impl Iterator<Item = (K, F)>) -> u64 {
        let senders = self.senders();
        if senders.is_empty() {
            return 0;
        }
        let told = |(key, state): (K, F)| {
            let sender = senders.get(&key);
            u64::from(sender.is_some_and(|sender| tell(sender, state())))
        };
        states.map(told).sum()
    }

    /// Returns whether somebody listens to one of these.
    pub(super) fn has_any(&self, keys: &[K]) -> bool {
        let senders = self.senders();
        !senders.is_empty() && keys.iter().any(|key| senders.contains_key(key))
    }

    /// Looks at every thing that somebody listens to, with its last state, and forgets the others. `look` may say that
    /// the streams of a thing have to end.
    pub(super) fn review(&self, mut look: impl FnMut(&K, &watch::Sender<Option<S>>) -> Fate) {
        self.senders()
            .retain(|key, sender| sender.receiver_count() > 0 && look(key, sender) == Fate::GoesOn);
    }

    fn senders(&self) -> MutexGuard<'_, Senders<K, S>> {
        self.senders.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What becomes of a topic.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Fate {
    GoesOn,
    /// Its streams end, and their clients begin anew.
    Ends,
}

/// Tells a state, if it follows the last one. Returns whether it does.
pub(super) fn tell<S: Told>(sender: &watch::Sender<Option<S>>, state: S) -> bool {
    sender.send_if_modified(|last| {
        let is_new = last.as_ref().is_none_or(|last| state.follows(last));
        if is_new {
            *last = Some(state);
        }
        is_new
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    impl Told for i64 {
        fn follows(&self, before: &Self) -> bool {
            self > before
        }
    }

    #[test]
    fn a_listener_hears_the_last_state_first_and_none_that_comes_before_it() {
        let topics = Topics::default();
        let mut early = topics.subscribe("a");
        assert_eq!(*early.borrow_and_update(), None);
        topics.offer(&"a", 2);
        topics.offer(&"a", 1);
        let late = topics.subscribe("a");
        assert_eq!(
            (*early.borrow_and_update(), *late.borrow()),
            (Some(2), Some(2))
        );
        topics.offer(&"a", 2);
        assert!(!early.has_changed().expect("the topic goes on"));
    }

    #[test]
    fn nothing_is_made_of_what_nobody_listens_to_and_nothing_is_kept_of_it() {
        let topics = Topics::default();
        let listener = topics.subscribe(1);
        let states = [(1, 7), (2, 8)].map(|(key, state)| {
            (key, move || {
                assert_eq!(key, 1, "the other has no listener");
                state
            })
        });
        assert_eq!(topics.offer_all(states.into_iter()), 1);
        assert_eq!(*listener.borrow(), Some(7));
        drop(listener);
        topics.review(|_, _| panic!("nobody listens"));
        assert!(topics.senders().is_empty());
    }

    #[test]
    fn whoever_comes_later_begins_with_the_last_state_and_tells_the_others_nothing() {
        let topics = Topics::default();
        let mut early = topics.subscribe(1);
        topics.begin(&1, 7, |_| false);
        assert_eq!(*early.borrow_and_update(), Some(7));
        let late = topics.subscribe(1);
        topics.begin(&1, 8, |_| false);
        assert_eq!(*late.borrow(), Some(7));
        topics.begin(&1, 9, |last| *last == 7);
        assert_eq!(*topics.subscribe(1).borrow(), Some(9));
        assert!(!early.has_changed().expect("the topic goes on"));
    }

    #[test]
    fn streams_of_a_topic_that_ends_hear_of_it() {
        let topics: Topics<_, i64> = Topics::default();
        let listener = topics.subscribe(1);
        topics.review(|_, _| Fate::Ends);
        assert!(listener.has_changed().is_err());
    }
}
