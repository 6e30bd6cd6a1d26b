//! What waits in a lane: which commands go into the next envelope, and which have waited too long.

use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use hotrow_shared::envelope::{ENVELOPE_BYTES_MAX, EncodedCommand};
use tokio::{sync::oneshot, time::Instant};

/// Full envelopes that may wait in a lane: at its usual pace some 100 ms of work, and what a client
/// would wait for at most. Beyond, the lane is overloaded.
pub(super) const INBOX_ENVELOPES: usize = 16;
/// The longest that a command waits for its envelope to be sent. Together with the time that the broker
/// has for its confirm, this bounds how long after its acceptance a client hears that it is accepted.
pub(crate) const WAIT_MAX: Duration = Duration::from_secs(2);
/// The most purchases that may wait in one lane, in bytes of commands: as many full envelopes as in commands.
pub(super) const PURCHASES_BYTES_MAX: usize = INBOX_ENVELOPES * ENVELOPE_BYTES_MAX;
/// Changes that may wait in a lane, in commands and in bytes: more than a shop's payments of a second. It is room of
/// their own, so that a lane full of purchases never refuses a payment.
pub(super) const CHANGES_MAX: usize = 1_024;
pub(super) const CHANGES_BYTES_MAX: usize = 512 * 1024;

/// Why a command was not accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NotAccepted {
    /// The lane is full, or the broker takes no messages now. The command is not queued.
    Overloaded,
    /// The broker is out of reach, or refused the command. The command is not queued.
    Unavailable,
    /// The broker did not answer. The command may be queued.
    Unknown,
}

/// A command, and the way to answer its caller.
pub(super) struct Parcel {
    pub(super) command: EncodedCommand,
    reply: oneshot::Sender<Result<(), NotAccepted>>,
    since: Instant,
    _space: Space,
}

impl Parcel {
    /// A parcel and its answer to come, or none if `taken` would exceed `bytes_max` with it.
    pub(super) fn new(
        command: EncodedCommand,
        taken: &Arc<AtomicUsize>,
        bytes_max: usize,
    ) -> Option<(Self, oneshot::Receiver<Result<(), NotAccepted>>)> {
        let space = Space::take(taken, command.size_bytes(), bytes_max)?;
        let (reply, answer) = oneshot::channel();
        let parcel = Self {
            command,
            reply,
            since: Instant::now(),
            _space: space,
        };
        Some((parcel, answer))
    }

    /// Tells the caller. One that went away does not hear it.
    pub(super) fn answer(self, outcome: Result<(), NotAccepted>) {
        let _ = self.reply.send(outcome);
    }
}

/// A share of the bytes that may wait in a lane, given back with this value.
struct Space {
    taken: Arc<AtomicUsize>,
    bytes: usize,
}

impl Space {
    fn take(taken: &Arc<AtomicUsize>, bytes: usize, bytes_max: usize) -> Option<Self> {
        let before = taken.fetch_add(bytes, Ordering::Relaxed);
        let space = Self {
            taken: Arc::clone(taken),
            bytes,
        };
        (before + bytes <= bytes_max).then_some(space)
    }
}

impl Drop for Space {
    fn drop(&mut self) {
        self.taken.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// What waits for the next envelopes: changes before purchases, each in order of arrival.
#[derive(Default)]
pub(super) struct Waiting {
    pub(super) changes: VecDeque<Parcel>,
    pub(super) purchases: VecDeque<Parcel>,
}

impl Waiting {
    pub(super) fn is_empty(&self) -> bool {
        self.changes.is_empty() && self.purchases.is_empty()
    }

    /// Takes the next envelope: changes, then purchases, up to its bounds, but always something.
    pub(super) fn next_envelope(&mut self, commands_max: usize) -> Vec<Parcel> {
        let mut bytes = 0;
        let all = self.changes.iter().chain(&self.purchases);
        let fitting = all.take(commands_max).take_while(|parcel| {
            bytes += parcel.command.size_bytes();
            bytes <= ENVELOPE_BYTES_MAX
        });
        let count = fitting.count().max(1);
        let changes = count.min(self.changes.len());
        let purchases = (count - changes).min(self.purchases.len());
        let changes = self.changes.drain(..changes);
        changes.chain(self.purchases.drain(..purchases)).collect()
    }

    /// Takes what has waited too long.
    pub(super) fn too_late(&mut self, now: Instant) -> impl Iterator<Item = Parcel> {
        let late = |parcel: &&Parcel| now.duration_since(parcel.since) >= WAIT_MAX;
        let changes = self.changes.iter().take_while(late).count();
        let purchases = self.purchases.iter().take_while(late).count();
        let changes = self.changes.drain(..changes);
        changes.chain(self.purchases.drain(..purchases))
    }

    /// Takes everything.
    pub(super) fn all(&mut self) -> impl Iterator<Item = Parcel> {
        self.changes.drain(..).chain(self.purchases.drain(..))
    }
}

#[cfg(test)]
mod tests {
    use hotrow_shared::{
        envelope::{Command, Order},
        id::IdMint,
        order::{CustomerId, Items},
    };

    use super::*;

    fn command(sku_length: usize) -> EncodedCommand {
        let items: Items = serde_json::from_value(serde_json::json!(
            (0..20)
                .map(|number| {
                    let sku = format!("{number:0>sku_length$}");
                    serde_json::json!({ "sku": sku, "quantity": 1 })
                })
                .collect::<Vec<_>>()
        ))
        .expect("items");
        let order = Order {
            id: IdMint::new("a secret of a test", None).mint(1),
            customer_id: CustomerId::try_from("c").expect("a name"),
            items,
            accepted_ms: 1,
            key: None,
            request_id: None,
        };
        Command::Place(order).encode()
    }

    fn parcel(sku_length: usize, taken: &Arc<AtomicUsize>) -> Parcel {
        let parcel = Parcel::new(command(sku_length), taken, PURCHASES_BYTES_MAX);
        parcel.expect("space").0
    }

    fn waiting(count: usize, sku_length: usize) -> Waiting {
        let lane = Arc::default();
        Waiting {
            changes: VecDeque::new(),
            purchases: (0..count).map(|_| parcel(sku_length, &lane)).collect(),
        }
    }

    #[test]
    fn an_envelope_is_bounded_in_commands() {
        let mut waiting = waiting(10, 2);
        assert_eq!(waiting.next_envelope(4).len(), 4);
        assert_eq!(waiting.next_envelope(4).len(), 4);
        assert_eq!(waiting.next_envelope(4).len(), 2);
        assert!(waiting.next_envelope(4).is_empty());
    }

    #[test]
    fn an_envelope_is_bounded_in_bytes() {
        let size = command(64).size_bytes();
        let mut waiting = waiting(ENVELOPE_BYTES_MAX / size + 3, 64);
        assert_eq!(
            waiting.next_envelope(4_096).len(),
            ENVELOPE_BYTES_MAX / size
        );
        assert_eq!(waiting.purchases.len(), 3);
    }

    #[test]
    fn a_lane_has_space_for_so_many_bytes_and_gets_it_back() {
        let lane = Arc::default();
        let size = command(64).size_bytes();
        let mut parcels: Vec<_> = (0..PURCHASES_BYTES_MAX / size)
            .map(|_| parcel(64, &lane))
            .collect();
        let next = || Parcel::new(command(64), &lane, PURCHASES_BYTES_MAX);
        assert!(next().is_none());
        parcels.pop();
        assert!(next().is_some());
    }

    #[test]
    fn what_has_waited_too_long_is_taken_out_and_the_rest_stays() {
        let mut waiting = waiting(5, 2);
        let later = Instant::now() + WAIT_MAX / 2;
        for parcel in waiting.purchases.iter_mut().skip(2) {
            parcel.since = later;
        }
        assert_eq!(waiting.too_late(later).count(), 0);
        assert_eq!(waiting.too_late(Instant::now() + WAIT_MAX).count(), 2);
        assert_eq!(waiting.purchases.len(), 3);
    }

    #[test]
    fn changes_go_before_purchases_and_share_the_bounds_of_an_envelope() {
        let mut waiting = waiting(6, 2);
        let lane = Arc::default();
        let sizes = [3, 4, 5].map(|length| command(length).size_bytes());
        waiting.changes = [3, 4, 5].map(|length| parcel(length, &lane)).into();
        let size_of = |parcel: &Parcel| parcel.command.size_bytes();
        let first: Vec<_> = waiting.next_envelope(2).iter().map(size_of).collect();
        assert_eq!(first, sizes[..2], "in order of arrival");
        let second: Vec<_> = waiting.next_envelope(4).iter().map(size_of).collect();
        assert_eq!((second.len(), second[0]), (4, sizes[2]));
        assert_eq!((waiting.changes.len(), waiting.purchases.len()), (0, 3));
    }

    #[test]
    fn a_lane_full_of_purchases_has_space_for_changes() {
        let (purchases, changes) = (Arc::default(), Arc::default());
        let size = command(64).size_bytes();
        let full: Vec<_> = (0..PURCHASES_BYTES_MAX / size)
            .map(|_| parcel(64, &purchases))
            .collect();
        assert!(Parcel::new(command(64), &purchases, PURCHASES_BYTES_MAX).is_none());
        let change = || Parcel::new(command(64), &changes, CHANGES_BYTES_MAX);
        let held: Vec<_> = (0..CHANGES_BYTES_MAX / size)
            .map(|_| change().expect("space of its own"))
            .collect();
        assert!(change().is_none(), "which is bounded, too");
        drop((full, held));
    }

    #[test]
    fn a_change_that_has_waited_too_long_is_taken_out_like_a_purchase() {
        let mut waiting = waiting(2, 2);
        waiting.changes = [parcel(3, &Arc::default())].into();
        assert_eq!(waiting.too_late(Instant::now() + WAIT_MAX).count(), 3);
        assert!(waiting.is_empty());
    }
}
