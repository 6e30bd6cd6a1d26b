//! The switch for all purchases: what this process knows of it, and the route by which an administrator turns it.
//!
//! News tells of a change at once, and a look twice a second finds what news missed. While neither the broker nor the
//! database can be reached, the last word counts.

mod bodies;
pub(crate) mod handler;
mod store;

use std::{
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use chrono::{DateTime, Utc};
use hotrow_shared::{metrics::SALE_PAUSED, news::News, sale::Switch};
use metrics::Gauge;
use sqlx::PgPool;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::{clock::DatabaseClock, http::problem::Problem, page::in_time, teller::Teller};

/// How often the switch is looked at.
const LOOK_INTERVAL: Duration = Duration::from_millis(500);
/// How long the database may take.
const ANSWER_MAX: Duration = Duration::from_secs(5);

/// The switch, as far as this process knows.
pub(crate) struct KnownSwitch {
    known: RwLock<Switch>,
    clock: DatabaseClock,
    paused: Gauge,
}

impl KnownSwitch {
    /// Reads the switch before anybody is served: a restart must not open a door that was shut.
    ///
    /// # Errors
    /// The database is out of reach.
    pub(crate) async fn read(pool: &PgPool, clock: DatabaseClock) -> Result<Self, sqlx::Error> {
        let switch = Self {
            known: RwLock::default(),
            clock,
            paused: SALE_PAUSED.gauge(&[]),
        };
        switch.learn(store::read(pool).await?.switch());
        Ok(switch)
    }

    /// Until when all purchases are stopped, if they are; without an end if nobody has said when they go on.
    #[must_use]
    pub(crate) fn stop(&self) -> Option<Stop> {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        if !known.is_paused {
            return None;
        }
        let now = self.clock.now();
        known.stops(now).then(|| Stop {
            until: known.until,
            wait: known.until.and_then(|until| (until - now).to_std().ok()),
        })
    }

    /// Takes in what the database or the news says. Of two words the one of the higher version counts.
    pub(crate) fn learn(&self, switch: Switch) {
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        if switch.version >= known.version {
            *known = switch;
        }
        let stops = known.stops(self.clock.now());
        self.paused.set(f64::from(u8::from(stops)));
    }

    /// Looks at the switch until `shutdown`.
    pub(crate) async fn look_forever(self: Arc<Self>, pool: PgPool, shutdown: CancellationToken) {
        let forever = async {
            loop {
                sleep(LOOK_INTERVAL).await;
                match timeout(ANSWER_MAX, store::read(&pool)).await {
                    Ok(Ok(read)) => self.learn(read.switch()),
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
    pub(crate) pool: PgPool,
    pub(crate) switch: Arc<KnownSwitch>,
    pub(crate) teller: Teller,
}

impl SaleDesk {
    /// Makes a change known, here at once and elsewhere by the news.
    async fn tell(&self, switch: Switch) {
        self.switch.learn(switch.clone());
        let news = News {
            switch: Some(switch),
            ..News::default()
        };
        self.teller.tell(&news).await;
    }

    async fn read(&self) -> Result<store::Read, Problem> {
        in_time("the switch for all purchases", store::read(&self.pool)).await
    }
}
