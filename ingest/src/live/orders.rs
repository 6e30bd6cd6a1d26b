//! The orders on live streams: what news says of those that somebody listens to, and what the database says of those
//! of which news may have been lost.

use std::{sync::Arc, time::Duration};

use hotrow_shared::id::OrderId;
use metrics::Counter;
use tokio::{
    sync::{Notify, watch},
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use super::{
    frame::Frame,
    topics::{Fate, Told, Topics},
};
use crate::{
    auth::Caller,
    status::{
        LOOK_INTERVAL,
        outcomes::Outcome,
        owner::may_see,
        reader::{Found, NoAnswer, Reader},
    },
};

/// Orders that are looked up at once.
const LOOKED_UP_MAX: usize = 500;
/// In one of so many rounds settled orders are looked up, too. They may wait for minutes to be paid.
const SETTLED_EVERY: u64 = 5;
/// The pause before a look that news has asked for: it often asks for several.
const GATHER: Duration = Duration::from_millis(100);

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
    /// News says that orders are settled, and not how.
    look_soon: Notify,
    told: Counter,
}

impl LiveOrders {
    pub(super) fn new(told: Counter) -> Self {
        Self {
            topics: Topics::default(),
            look_soon: Notify::new(),
            told,
        }
    }

    /// Listens to an order. Its first state is what is told of it next.
    pub(super) fn listen(&self, id: OrderId) -> watch::Receiver<Option<OrderTold>> {
        self.topics.subscribe(id)
    }

    /// Takes in what news says. An outcome is made only of an order that somebody listens to.
    pub(crate) fn hear(&self, outcomes: impl Iterator<Item = (OrderId, impl FnOnce() -> Outcome)>) {
        let states = outcomes.map(|(id, outcome)| (id, || OrderTold::settled(&outcome())));
        self.told.increment(self.topics.offer_all(states));
    }

    /// Takes in which orders were found settled.
    pub(crate) fn hear_found(&self, ids: &[OrderId]) {
        if self.topics.has_any(ids) {
            self.look_soon.notify_one();
        }
    }

    /// Takes in what was found of an order. `queued` is its document while it is not settled.
    pub(super) fn tell(&self, id: OrderId, found: &Found, queued: impl FnOnce() -> String) {
        match found {
            Found::Settled(outcome) => self.topics.offer(&id, OrderTold::settled(outcome)),
            Found::Queued | Found::Replayed => {
                // How long it will wait is another time for whoever comes later.
                let is_queued = |last: &OrderTold| last.revision == 0;
                self.topics
                    .begin(&id, OrderTold::queued(&queued()), is_queued);
            }
            Found::Dropped => {}
        }
    }

    /// Looks up orders that may still change, in case news of them is lost, until `shutdown`.
    pub(super) async fn look_forever(self: Arc<Self>, reader: Reader, shutdown: CancellationToken) {
        let forever = async {
            let mut round: u64 = 0;
            loop {
                if timeout(LOOK_INTERVAL, self.look_soon.notified())
                    .await
                    .is_ok()
                {
                    sleep(GATHER).await;
                } else {
                    round += 1;
                }
                let with_settled = round.is_multiple_of(SETTLED_EVERY);
                for orders in self.open(with_settled).chunks(LOOKED_UP_MAX) {
                    if let Err(NoAnswer) = self.look(&reader, orders).await {
                        break;
                    }
                }
            }
        };
        shutdown.run_until_cancelled(forever).await;
    }

    async fn look(&self, reader: &Reader, orders: &[(OrderId, i32)]) -> Result<(), NoAnswer> {
        let ids = orders.iter().map(|(id, _)| *id).collect();
        let found = reader.read(ids).await?;
        let news = orders
            .iter()
            .zip(found)
            .filter_map(|((id, known), found)| match found {
                Found::Settled(outcome) if outcome.revision > *known => Some((*id, || outcome)),
                _ => None,
            });
        self.hear(news);
        Ok(())
    }

    /// The orders that may still change, with the revision that was told; the queued ones, or all.
    fn open(&self, with_settled: bool) -> Vec<(OrderId, i32)> {
        let mut open = Vec::new();
        self.topics.review(|id, topic| {
            let last = topic.borrow();
            let (revision, is_final) = last
                .as_ref()
                .map_or((0, false), |told| (told.revision, told.is_final));
            if !is_final && (with_settled || revision == 0) {
                open.push((*id, revision));
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
        assert_eq!(orders.open(true), [(id, 2)]);
        assert_eq!(orders.open(false), [], "it is settled");
        orders.hear([(id, || outcome(3))].into_iter());
        assert_eq!(orders.open(true), [], "it is final");
        orders.hear([(other, || outcome(1))].into_iter());
        assert_eq!(orders.open(true), [], "nobody listens to it");
    }
}
