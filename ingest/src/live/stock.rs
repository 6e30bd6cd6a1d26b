//! The stock on live streams: what the board knows of the products that somebody listens to, a few times a second.
//!
//! A look at the board tells more than its news would: a sale opens by the clock, and all are stopped by the switch.
//! It bounds how often a hot product is told, and the board's own refresh finds what news has missed.

use std::{sync::Arc, time::Duration};

use hotrow_shared::order::Sku;
use metrics::Counter;
use serde::Serialize;
use tokio::{
    sync::watch,
    time::{MissedTickBehavior, interval, sleep},
};
use tokio_util::sync::CancellationToken;

use super::{
    frame::Frame,
    topics::{Fate, Told, Topics, tell},
};
use crate::{
    board::stock::{Moment, State, Stock},
    inventory::InventoryDesk,
    status::LOOK_INTERVAL,
};

/// How often a product is told: with the first state of a stream, never more than four times in a second.
const TELL_INTERVAL: Duration = Duration::from_millis(350);

/// A product at a moment, as it is told.
#[derive(Debug, Clone)]
pub(super) struct StockTold {
    stock: Stock,
    state: State,
    frame: Frame,
}

#[derive(Serialize)]
struct Document<'a> {
    sku: &'a Sku,
    available: i64,
    held: i64,
    state: &'static str,
    version: i64,
}

impl StockTold {
    fn new(sku: &Sku, stock: Stock, state: State) -> Self {
        let Stock {
            version,
            available,
            held,
        } = stock;
        let document = Document {
            sku,
            available,
            held,
            state: state.as_str(),
            version,
        };
        let data = serde_json::to_vec(&document).expect("numbers and names");
        Self {
            stock,
            state,
            frame: Frame::new("stock", &data),
        }
    }
}

impl Told for StockTold {
    fn follows(&self, before: &Self) -> bool {
        let is_other = (self.stock, self.state) != (before.stock, before.state);
        is_other && self.stock.version >= before.stock.version
    }
}

impl AsRef<Frame> for StockTold {
    fn as_ref(&self) -> &Frame {
        &self.frame
    }
}

/// The products that somebody listens to.
pub(super) struct LiveStock {
    topics: Topics<Sku, StockTold>,
    inventory: Arc<InventoryDesk>,
    told: Counter,
}

impl LiveStock {
    pub(super) fn new(inventory: Arc<InventoryDesk>, told: Counter) -> Self {
        Self {
            topics: Topics::default(),
            inventory,
            told,
        }
    }

    /// Listens to a product, beginning with its state now. None if there is no such product.
    ///
    /// # Errors
    /// Neither the board knows it nor does the database answer.
    pub(super) async fn listen(
        &self,
        sku: Sku,
    ) -> Result<Option<watch::Receiver<Option<StockTold>>>, Arc<sqlx::Error>> {
        // First, so that nothing is missed between the look and the wait.
        let topic = self.topics.subscribe(sku.clone());
        Ok(self.look_up(&sku).await?.then_some(topic))
    }

    /// Looks a product up and tells what it is. Returns whether there is such a product.
    async fn look_up(&self, sku: &Sku) -> Result<bool, Arc<sqlx::Error>> {
        let row = self.inventory.show(sku).await?;
        let Some(row) = row else { return Ok(false) };
        let state = self.inventory.state(&row);
        let told = StockTold::new(sku, row.stock(), state);
        self.topics.offer(sku, told);
        Ok(true)
    }

    /// Tells what changes, until `shutdown`.
    pub(super) async fn tell_forever(self: Arc<Self>, shutdown: CancellationToken) {
        let mut ticks = interval(TELL_INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while shutdown.run_until_cancelled(ticks.tick()).await.is_some() {
            self.tell_changes();
        }
    }

    fn tell_changes(&self) {
        let moment = self.inventory.moment();
        self.topics
            .review(|sku, topic| self.review(sku, topic, moment));
    }

    fn review(&self, sku: &Sku, topic: &watch::Sender<Option<StockTold>>, moment: Moment) -> Fate {
        let Some((stock, state)) = self.inventory.watch(sku, moment) else {
            return Fate::GoesOn;
        };
        let last = topic.borrow().as_ref().map(|told| (told.stock, told.state));
        match last {
            // Whoever listens first tells the first state.
            None => Fate::GoesOn,
            Some(last) if last == (stock, state) => Fate::GoesOn,
            // After a fail-over to a server that missed the last writes. Nobody is to see stock go back on a stream,
            // so another stream begins with the truth.
            Some((last, _)) if stock.version < last.version => Fate::Ends,
            Some(_) => {
                tell(topic, StockTold::new(sku, stock, state));
                self.told.increment(1);
                Fate::GoesOn
            }
        }
    }

    /// Looks up the products of which the board knows nothing, because it has no room for more, until `shutdown`.
    pub(super) async fn look_forever(self: Arc<Self>, shutdown: CancellationToken) {
        let forever = async {
            loop {
                sleep(LOOK_INTERVAL).await;
                for sku in self.unknown() {
                    if let Err(error) = self.look_up(&sku).await {
                        tracing::debug!(%error, "a product cannot be looked up");
                        break;
                    }
                }
            }
        };
        shutdown.run_until_cancelled(forever).await;
    }

    fn unknown(&self) -> Vec<Sku> {
        let moment = self.inventory.moment();
        let mut unknown = Vec::new();
        self.topics.review(|sku, _| {
            if self.inventory.watch(sku, moment).is_none() {
                unknown.push(sku.clone());
            }
            Fate::GoesOn
        });
        unknown
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(version: i64, available: i64, state: State) -> StockTold {
        let sku = Sku::try_from("chair").expect("a valid name");
        let stock = Stock {
            version,
            available,
            held: 2,
        };
        StockTold::new(&sku, stock, state)
    }

    #[test]
    fn a_product_is_told_as_the_contract_says() {
        let data = r#"{"sku":"chair","available":7,"held":2,"state":"open","version":3}"#;
        assert_eq!(told(3, 7, State::Open).frame.data(), data.as_bytes());
    }

    #[test]
    fn a_state_may_change_without_a_write_of_the_row_and_a_version_never_goes_back() {
        let last = told(3, 7, State::NotOpen);
        assert!(told(3, 7, State::Open).follows(&last));
        assert!(told(4, 6, State::NotOpen).follows(&last));
        assert!(!told(3, 7, State::NotOpen).follows(&last), "the same");
        assert!(!told(2, 8, State::Open).follows(&last));
    }
}
