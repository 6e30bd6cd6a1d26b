//! A batch that has come to its end, and the short inboxes in which it waits to be told of.

use std::sync::Arc;

use hotrow_shared::id::OrderId;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

use crate::settle::Settlement;

/// A batch of which every command has come to its end.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) partition: u16,
    /// The bodies of its envelopes together.
    pub(crate) size_bytes: usize,
    pub(crate) settlements: Vec<Settlement>,
    /// Orders that went to the dead letters and are marked as failed.
    pub(crate) failed: Vec<OrderId>,
}

/// Where batches wait for one task, bounded in batches and in bytes. It never makes anybody wait: what has no
/// room is not taken.
#[derive(Clone)]
pub(crate) struct Inbox {
    waiting: mpsc::Sender<Waiting>,
    room: Arc<Semaphore>,
    bytes_max: usize,
}

/// A batch that waits, with the room that it takes up.
pub(crate) type Waiting = (Arc<Ended>, OwnedSemaphorePermit);

impl Inbox {
    /// An inbox for so many batches whose envelopes have so many bytes; a batch that is larger waits alone.
    pub(crate) fn bounded(batches_max: usize, bytes_max: usize) -> (Self, mpsc::Receiver<Waiting>) {
        let (waiting, inbox) = mpsc::channel(batches_max);
        let room = Arc::new(Semaphore::new(bytes_max));
        let sending = Self {
            waiting,
            room,
            bytes_max,
        };
        (sending, inbox)
    }

    /// Puts a batch in, and returns whether there was room.
    pub(crate) fn offer(&self, ended: Arc<Ended>) -> bool {
        let bytes = ended.size_bytes.min(self.bytes_max);
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        let room = Arc::clone(&self.room).try_acquire_many_owned(bytes);
        room.is_ok_and(|room| self.waiting.try_send((ended, room)).is_ok())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_no_room_is_not_taken_and_a_batch_larger_than_all_of_it_is_taken_alone() {
        let (inbox, mut batches) = Inbox::bounded(4, 1_000);
        let of_size = |size_bytes| {
            Arc::new(Ended {
                partition: 0,
                size_bytes,
                settlements: Vec::new(),
                failed: Vec::new(),
            })
        };
        assert!(inbox.offer(of_size(2_000)));
        assert!(!inbox.offer(of_size(1)));
        let (first, room) = batches.try_recv().expect("the large one");
        assert_eq!(first.size_bytes, 2_000);
        assert!(batches.try_recv().is_err());
        drop(room);
        assert!(inbox.offer(of_size(1)));
        assert!(batches.try_recv().is_ok());
    }
}
