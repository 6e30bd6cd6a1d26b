//! What waits in a lane: which commands go into the next envelope, and which have waited too long.

use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use hotrow_shared::envelope::EncodedCommand;
use tokio::{sync::oneshot, time::Instant};

/// Full envelopes that may wait in a lane: at its usual pace some 100 ms of work, and what a client
/// would wait for at most. Beyond, the lane is overloaded.
pub(super) const INBOX_ENVELOPES: usize = 16;
/// The longest that a command waits for its envelope to be sent. Together with the time that the broker
/// has for its confirm, this bounds how long after its acceptance a client hears that it is accepted.
pub(crate) const WAIT_MAX: Duration = Duration::from_secs(2);
/// The largest envelope, in bytes of commands: more than a full one of usual orders, and 40 of the
/// largest. A worker holds many envelopes, and this bounds how much that is.
pub(super) const ENVELOPE_BYTES_MAX: usize = 128 * 1024;
/// The most that may wait in one lane, in bytes of commands: as many full envelopes as in commands.
const WAITING_BYTES_MAX: usize = INBOX_ENVELOPES * ENVELOPE_BYTES_MAX;

/// Why an order was not accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NotAccepted {
    /// The lane is full, or the broker takes no messages now. The order is not queued.
    Overloaded,
    /// The broker is out of reach, or refused the order. The order is not queued.
    Unavailable,
    /// The broker did not answer. The order may be queued.
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
    /// A parcel and its answer to come, or none if the lane has no space for it.
    pub(super) fn new(
        command: EncodedCommand,
        lane: &Arc<AtomicUsize>,
    ) -> Option<(Self, oneshot::Receiver<Result<(), NotAccepted>>)> {
        let space = Space::take(lane, command.size_bytes())?;
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
    fn take(taken: &Arc<AtomicUsize>, bytes: usize) -> Option<Self> {
        let before = taken.fetch_add(bytes, Ordering::Relaxed);
        let space = Self {
            taken: Arc::clone(taken),
            bytes,
        };
        (before + bytes <= WAITING_BYTES_MAX).then_some(space)
    }
}

impl Drop for Space {
    fn drop(&mut self) {
        self.taken.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// Parcels in order of arrival.
#[derive(Default)]
pub(super) struct Waiting(VecDeque<Parcel>);

impl Waiting {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn extend(&mut self, parcels: impl IntoIterator<Item = Parcel>) {
        self.0.extend(parcels);
    }

    /// Takes the next envelope: what waits at the front, up to its bounds, but always something.
    pub(super) fn next_envelope(&mut self, commands_max: usize) -> Vec<Parcel> {
        let mut bytes = 0;
        let fitting = self.0.iter().take(commands_max).take_while(|parcel| {
            bytes += parcel.command.size_bytes();
            bytes <= ENVELOPE_BYTES_MAX
        });
        let count = fitting.count().max(1).min(self.0.len());
        self.0.drain(..count).collect()
    }

    /// Takes what has waited too long.
    pub(super) fn too_late(&mut self, now: Instant) -> impl Iterator<Item = Parcel> {
        let late = |parcel: &Parcel| now.duration_since(parcel.since) >= WAIT_MAX;
        let count = self.0.iter().take_while(|parcel| late(parcel)).count();
        self.0.drain(..count)
    }

    /// Takes everything.
    pub(super) fn all(&mut self) -> impl Iterator<Item = Parcel> {
        self.0.drain(..)
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

    fn waiting(count: usize, sku_length: usize) -> Waiting {
        let lane = Arc::default();
        let mut waiting = Waiting::default();
        waiting.extend((0..count).map(|_| {
            let parcel = Parcel::new(command(sku_length), &lane);
            parcel.expect("space").0
        }));
        waiting
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
        assert_eq!(waiting.len(), 3);
    }

    #[test]
    fn a_lane_has_space_for_so_many_bytes_and_gets_it_back() {
        let lane = Arc::default();
        let size = command(64).size_bytes();
        let mut parcels: Vec<_> = (0..WAITING_BYTES_MAX / size)
            .map(|_| Parcel::new(command(64), &lane).expect("space"))
            .collect();
        assert!(Parcel::new(command(64), &lane).is_none());
        parcels.pop();
        assert!(Parcel::new(command(64), &lane).is_some());
    }

    #[test]
    fn what_has_waited_too_long_is_taken_out_and_the_rest_stays() {
        let mut waiting = waiting(5, 2);
        let later = Instant::now() + WAIT_MAX / 2;
        for parcel in waiting.0.iter_mut().skip(2) {
            parcel.since = later;
        }
        assert_eq!(waiting.too_late(later).count(), 0);
        assert_eq!(waiting.too_late(Instant::now() + WAIT_MAX).count(), 2);
        assert_eq!(waiting.len(), 3);
    }
}
