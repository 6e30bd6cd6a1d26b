//! The orders on live streams: what news says of those that somebody listens to, and what the database says of those
//! of which news may have been lost.

use std::sync::Arc;

use hotrow_shared::id::OrderId;
use metrics::Counter;
use tokio::{sync::watch, time::sleep};
use tokio_util::sync::CancellationToken;

use super::{
    frame::Frame,
    topics::{Fate, Told, Topics},
};
use crate::{
    auth::Caller,
    status::{
        LOOK_INTERVAL, StatusDesk,
        outcomes::Outcome,
        owner::may_see,
        reader::{Found, NoAnswer},
    },
};

/// Orders that are looked up at once.
const LOOKED_UP_MAX: usize = 500;

/// An order at a revision, as it is told.
#[derive(Debug, Clone)]
pub(super) struct OrderTold {
    /// 0 while it is queued.
    revision: i32,
    is_final: bool,
    frame: Frame,
}

impl OrderTold {
    fn queued(document: &str) -> Self {
        Self {
            revision: 0,
            is_final: false,
            frame: Frame::new("order", document.as_bytes()),
        }
    }

    /// Returns whether a caller may see it. What is not settled shows nothing of its customer.
    pub(super) fn may_be_seen_by(&self, caller: &Caller) -> bool {
        self.revision == 0 || may_see(caller, self.frame.data())
    }

    fn settled(outcome: &Outcome) -> Self {
        Self {
            revision: outcome.revision,
            is_final: outcome.is_final,
            frame: Frame::new("order", &outcome.document),
        }
    }
}

impl Told for OrderTold {
    fn follows(&self, before: &Self) -> bool {
        self.revision > before.revision
    }
}

impl AsRef<Frame> for OrderTold {
    fn as_ref(&self) -> &Frame {
        &self.frame
    }
}

/// The orders that somebody listens to.
pub(crate) struct LiveOrders {
    topics: Topics<OrderId, OrderTold>,
    told: Counter,
}

impl LiveOrders {
    pub(super) fn new(told: Counter) -> Self {
        Self {
            topics: Topics::default(),
            told,
        }
    }

    /// Listens to an order. Its first state is what is told of it next.
    pub(super) fn listen(&self, id: OrderId) -> watch::Receiver<Option<OrderTold>> {
        self.topics.subscribe(id)
    }

    /// Takes in what news says. An outcome is made only of an order that somebody listens to.
    pub(crate) fn hear(&self, outcomes: impl Iterator<Item = (OrderId, impl FnOnce() -> Outcome)>) {
        let told = outcomes.map(|(id, outcome)| {
            let told = || {
                self.told.increment(1);
                OrderTold::settled(&outcome())
            };
            (id, told)
        });
        self.topics.offer_all(told);
    }

    /// Takes in what was found of an order. `queued` is its document while it is not settled.
    pub(super) fn tell(&self, id: OrderId, found: &Found, queued: impl FnOnce() -> String) {
        match found {
            Found::Settled(outcome) => self.topics.offer(&id, OrderTold::settled(outcome)),
            Found::Queued | Found::Replayed => {
                self.topics.offer(&id, OrderTold::queued(&queued()));
            }
            Found::Dropped => {}
        }
    }

    /// Looks up orders that may still change, in case news of them is lost, until `shutdown`.
    pub(super) async fn look_forever(
        self: Arc<Self>,
        status: Arc<StatusDesk>,
        shutdown: CancellationToken,
    ) {
        let forever = async {
            loop {
                sleep(LOOK_INTERVAL).await;
                for ids in self.open().chunks(LOOKED_UP_MAX) {
                    if let Err(NoAnswer) = self.look(&status, ids).await {
                        break;
                    }
                }
            }
        };
        shutdown.run_until_cancelled(forever).await;
    }

    async fn look(&self, status: &StatusDesk, ids: &[OrderId]) -> Result<(), NoAnswer> {
        let found = status.finder.read(ids).await?;
        for (id, found) in ids.iter().zip(found) {
            if let Found::Settled(outcome) = found {
                self.hear([(*id, || outcome)].into_iter());
            }
        }
        Ok(())
    }

    /// The orders that may still change.
    fn open(&self) -> Vec<OrderId> {
        let mut open = Vec::new();
        self.topics.review(|id, topic| {
            if !topic.borrow().as_ref().is_some_and(|told| told.is_final) {
                open.push(*id);
            }
            Fate::GoesOn
        });
        open
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use hotrow_shared::id::IdMint;
    use tokio::time::Instant;

    use super::*;

    fn outcome(revision: i32) -> Outcome {
        Outcome {
            revision,
            is_final: revision > 2,
            known_at: Instant::now(),
            document: Bytes::from(format!(r#"{{"revision":{revision}}}"#)),
        }
    }

    #[test]
    fn an_order_is_told_revision_by_revision_whatever_the_sequence_of_what_is_heard() {
        let orders = LiveOrders::new(Counter::noop());
        let mint = IdMint::new("a secret of a test", None);
        let (id, other) = (mint.mint(1), mint.mint(2));
        let mut listener = orders.listen(id);
        let mut data = || {
            let told = listener.borrow_and_update().clone().expect("a state");
            String::from_utf8(told.frame.data().to_vec()).expect("text")
        };
        let queued = || "queued".to_owned();
        orders.tell(id, &Found::Queued, queued);
        assert_eq!(data(), "queued");
        orders.hear([(id, || outcome(2))].into_iter());
        orders.hear([(id, || outcome(1))].into_iter());
        orders.tell(id, &Found::Queued, queued);
        assert_eq!(data(), r#"{"revision":2}"#);
        assert_eq!(orders.open(), [id]);
        orders.hear([(id, || outcome(3))].into_iter());
        assert_eq!(orders.open(), [], "it is final");
        orders.hear([(other, || outcome(1))].into_iter());
        assert_eq!(orders.open(), [], "nobody listens to it");
    }
}
