//! The stock on live streams: what the board knows of the products that somebody listens to, a few times a second.
//!
//! A look at the board tells more than its news would: a sale opens by the clock, and all are stopped by the switch.
//! It bounds how often a hot product is told, and the board's own refresh finds what news has missed.
//!
//! Thousands who were told in the same moment would keep the process busy while somebody buys. So they are told in
//! waves: each stream is in one of them, and each wave has its turn in every round.

use std::{
    collections::{HashMap, HashSet},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use hotrow_shared::order::Sku;
use metrics::Counter;
use serde::Serialize;
use tokio::{
    sync::watch,
    time::{MissedTickBehavior, interval, sleep, timeout},
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
/// Streams are spread over so many waves. More of them are shorter, and look at each product more often.
const WAVES: u32 = 64;
/// How long a look at a product may take.
const LOOK_TIME_MAX: Duration = Duration::from_secs(5);
/// Products whose last state is kept as it was encoded, at some 300 bytes each.
const ENCODED_MAX: usize = 20_000;

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
    waves: Vec<Topics<Sku, StockTold>>,
    next_wave: AtomicUsize,
    /// Each wave is told the same state.
    encoded: Mutex<HashMap<Sku, StockTold>>,
    inventory: Arc<InventoryDesk>,
    told: Counter,
}

impl LiveStock {
    pub(super) fn new(inventory: Arc<InventoryDesk>, told: Counter) -> Self {
        Self {
            waves: (0..WAVES).map(|_| Topics::default()).collect(),
            next_wave: AtomicUsize::new(0),
            encoded: Mutex::default(),
            inventory,
            told,
        }
    }

    /// The wave of the next stream.
    pub(super) fn wave(&self) -> Wave<'_> {
        let number = self.next_wave.fetch_add(1, Ordering::Relaxed) % self.waves.len();
        Wave {
            of: self,
            topics: &self.waves[number],
        }
    }

    /// A state, encoded if it is new.
    fn encoded(&self, sku: &Sku, stock: Stock, state: State) -> StockTold {
        let mut encoded = self.encoded.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(told) = encoded.get(sku)
            && (told.stock, told.state) == (stock, state)
        {
            return told.clone();
        }
        if encoded.len() >= ENCODED_MAX {
            encoded.clear();
        }
        self.told.increment(1);
        let told = StockTold::new(sku, stock, state);
        encoded.insert(sku.clone(), told.clone());
        told
    }

    /// Looks a product up. None if there is no such product.
    async fn look_up(&self, sku: &Sku) -> Result<Option<StockTold>, Arc<sqlx::Error>> {
        let row = self.inventory.show(sku).await?;
        Ok(row.map(|row| self.encoded(sku, row.stock(), self.inventory.state(&row))))
    }

    /// Tells what changes, wave after wave, until `shutdown`.
    pub(super) async fn tell_forever(self: Arc<Self>, shutdown: CancellationToken) {
        let mut ticks = interval(TELL_INTERVAL / WAVES);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        for wave in self.waves.iter().cycle() {
            if shutdown.run_until_cancelled(ticks.tick()).await.is_none() {
                return;
            }
            let moment = self.inventory.moment();
            wave.review(|sku, topic| self.review(sku, topic, moment));
        }
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
                tell(topic, self.encoded(sku, stock, state));
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
                    match timeout(LOOK_TIME_MAX, self.look_up(&sku)).await {
                        Ok(Ok(None)) => {}
                        Ok(Ok(Some(told))) => {
                            for wave in &self.waves {
                                wave.offer(&sku, told.clone());
                            }
                        }
                        // The next round begins anew.
                        Ok(Err(_)) | Err(_) => break,
                    }
                }
            }
        };
        shutdown.run_until_cancelled(forever).await;
    }

    fn unknown(&self) -> HashSet<Sku> {
        let moment = self.inventory.moment();
        let mut unknown = HashSet::new();
        for wave in &self.waves {
            wave.review(|sku, _| {
                if self.inventory.watch(sku, moment).is_none() {
                    unknown.insert(sku.clone());
                }
                Fate::GoesOn
            });
        }
        unknown
    }
}

/// The streams that are told in the same moment. All products of a stream are in one wave, so that what changes of
/// them is one write.
pub(super) struct Wave<'a> {
    of: &'a LiveStock,
    topics: &'a Topics<Sku, StockTold>,
}

impl Wave<'_> {
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
        let told = self.of.look_up(&sku).await?;
        Ok(told.map(|told| {
            // Who listens already is told in the wave's turn.
            self.topics.begin(&sku, told, |_| false);
            topic
        }))
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
