//! The switch for all purchases: what this process knows of it, and the route by which an administrator turns it.
//!
//! News tells of a change at once, and a look twice a second finds what news missed. While neither the broker nor the
//! database can be reached, the last word counts.

mod bodies;
pub(crate) mod handler;
mod store;

use std::{
    sync::{
        Arc, PoisonError, RwLock, RwLockReadGuard,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use chrono::{DateTime, Utc};
use hotrow_shared::{metrics::SALE_PAUSED, news::News, sale::Switch};
use metrics::Gauge;
use sqlx::PgPool;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::{
    board::Asked, clock::DatabaseClock, http::problem::Problem, page::in_time, teller::Teller,
};

/// How often the switch is looked at.
const LOOK_INTERVAL: Duration = Duration::from_millis(500);
/// How long the database may take.
const ANSWER_MAX: Duration = Duration::from_secs(5);

/// How old the row may be that is shown without another look at it.
const SHOWN_FOR: Duration = Duration::from_secs(1);

/// The switch, as far as this process knows.
pub(crate) struct KnownSwitch {
    /// Whether purchases are stopped, perhaps until a time: all that most purchases have to know.
    is_paused: AtomicBool,
    known: RwLock<Known>,
    clock: DatabaseClock,
    paused: Gauge,
}

/// What is known of the switch.
struct Known {
    switch: Switch,
    /// When it was taken in.
    since: Instant,
    /// The row as it was read, and when it was asked for.
    read: (store::Read, Instant),
}

impl KnownSwitch {
    /// Reads the switch before anybody is served: a restart must not open a door that was shut.
    ///
    /// # Errors
    /// The database is out of reach.
    pub(crate) async fn read(pool: &PgPool, clock: DatabaseClock) -> Result<Self, sqlx::Error> {
        let asked = Instant::now();
        let read = store::read(pool).await?;
        let switch = Self {
            is_paused: AtomicBool::new(false),
            known: RwLock::new(Known {
                switch: Switch::default(),
                since: asked,
                read: (read.clone(), asked),
            }),
            clock,
            paused: SALE_PAUSED.gauge(&[]),
        };
        switch.answer(read, Asked::At(asked));
        Ok(switch)
    }

    /// Until when all purchases are stopped, if they are; without an end if nobody has said when they go on.
    #[must_use]
    pub(crate) fn stop(&self) -> Option<Stop> {
        if !self.is_paused.load(Ordering::Relaxed) {
            return None;
        }
        let known = self.known();
        let now = self.clock.now();
        known.switch.stops(now).then(|| Stop {
            until: known.switch.until,
            wait: known
                .switch
                .until
                .and_then(|until| (until - now).to_std().ok()),
        })
    }

    /// Takes in what news says.
    pub(crate) fn hear(&self, switch: Switch) {
        self.change(|known| {
            if switch.version >= known.switch.version {
                known.switch = switch;
                known.since = Instant::now();
            }
        });
    }

    /// Takes in the row as the database has it. What it answers to a question that was asked after the last word was
    /// taken in is the truth whatever its version, as of a product: see [`Asked`].
    fn answer(&self, read: store::Read, asked: Asked) {
        self.change(|known| {
            let switch = read.switch();
            if asked.prevails(switch.version, known.switch.version, known.since) {
                known.switch = switch;
                known.since = Instant::now();
                known.read = (read, asked.at());
            }
        });
    }

    fn change(&self, change: impl FnOnce(&mut Known)) {
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        change(&mut known);
        let is_paused = known.switch.is_paused;
        self.is_paused.store(is_paused, Ordering::Relaxed);
        let stops = known.switch.stops(self.clock.now());
        self.paused.set(f64::from(u8::from(stops)));
    }

    /// The row, if it was read a moment ago and nothing newer was heard of.
    fn row(&self) -> Option<store::Read> {
        let known = self.known();
        let (read, asked) = &known.read;
        let is_fresh = asked.elapsed() < SHOWN_FOR && read.switch().version == known.switch.version;
        is_fresh.then(|| read.clone())
    }

    fn known(&self) -> RwLockReadGuard<'_, Known> {
        self.known.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Looks at the switch until `shutdown`.
    pub(crate) async fn look_forever(self: Arc<Self>, pool: PgPool, shutdown: CancellationToken) {
        let forever = async {
            loop {
                sleep(LOOK_INTERVAL).await;
                let asked = Instant::now();
                match timeout(ANSWER_MAX, store::read(&pool)).await {
                    Ok(Ok(read)) => self.answer(read, Asked::At(asked)),
                    Ok(Err(error)) => {
                        tracing::debug!(%error, "the switch for all purchases cannot be read");
                    }
                    Err(_) => {
                        tracing::debug!("the switch for all purchases cannot be read in time");
                    }
                }
            }
        };
        shutdown.run_until_cancelled(forever).await;
    }
}

/// A stop of all purchases.
#[derive(Debug, Clone)]
pub(crate) struct Stop {
    /// When they go on by themselves.
    pub(crate) until: Option<DateTime<Utc>>,
    /// How long that is.
    pub(crate) wait: Option<Duration>,
}

/// Shows the switch, and lets administrators turn it.
pub(crate) struct SaleDesk {
    /// For whoever looks.
    pub(crate) reads: PgPool,
    /// For administrators: a crowd of readers must not keep them out.
    pub(crate) changes: PgPool,
    pub(crate) switch: Arc<KnownSwitch>,
    pub(crate) teller: Teller,
}

impl SaleDesk {
    /// Makes a change that began then known, here at once and elsewhere by the news.
    async fn tell(&self, turned: &store::Read, began: Instant) {
        self.switch.answer(turned.clone(), Asked::Changing(began));
        let news = News {
            switch: Some(turned.switch()),
            ..News::default()
        };
        self.teller.tell(&news).await;
    }

    /// The switch as it is now. A crowd that looks at it costs the database nothing: this process does, twice a second.
    async fn shown(&self) -> Result<store::Shown, Problem> {
        let row = match self.switch.row() {
            Some(row) => row,
            None => in_time("the switch for all purchases", store::read(&self.reads)).await?,
        };
        Ok(row.shown(self.switch.clock.now()))
    }
}
