//! How far this machine's clock is from the database's, by which orders are settled and days begin.

use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::{Duration, Instant},
};

use chrono::{DateTime, TimeDelta, Utc};
use sqlx::PgPool;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::metrics::CLOCK_OFFSET;

/// How often it is measured.
const INTERVAL: Duration = Duration::from_secs(10);
/// How long the database may take to say its time. The answer is right to half of what it took.
const ANSWER_MAX: Duration = Duration::from_secs(1);
/// How often the database is asked each time.
const QUESTIONS: usize = 5;
/// More than this is worth a warning.
const TOLERATED: TimeDelta = TimeDelta::seconds(1);

/// The database's time, as this process measured it last, and since then by a clock that never steps.
#[derive(Debug, Clone)]
pub struct DatabaseTime {
    /// When this was made.
    base: Instant,
    /// The database's time at that moment, in microseconds since 1970.
    at_base_us: Arc<AtomicI64>,
}

impl DatabaseTime {
    /// Measures it once.
    ///
    /// # Errors
    /// The database is out of reach.
    pub async fn measured(pool: &PgPool) -> Result<Self, sqlx::Error> {
        let time = Self {
            base: Instant::now(),
            at_base_us: Arc::default(),
        };
        time.set(&measured(pool).await?);
        Ok(time)
    }

    /// In milliseconds since 1970.
    #[must_use]
    pub fn now_ms(&self) -> i64 {
        let since_us = i64::try_from(self.base.elapsed().as_micros()).unwrap_or(i64::MAX);
        let at_base_us = self.at_base_us.load(Ordering::Relaxed);
        at_base_us.saturating_add(since_us) / 1_000
    }

    fn set(&self, measured: &Measured) {
        let since = measured.at.saturating_duration_since(self.base);
        let since_us = i64::try_from(since.as_micros()).unwrap_or(i64::MAX);
        let at_base_us = measured.theirs.timestamp_micros().saturating_sub(since_us);
        self.at_base_us.store(at_base_us, Ordering::Relaxed);
    }

    /// Measures it again and again until `shutdown`, and what [`measure`] does.
    pub async fn follow(self, pool: PgPool, shutdown: CancellationToken) {
        watch(pool, |measured| self.set(measured), shutdown).await;
    }
}

/// Measures how far this machine's clock is ahead until `shutdown`, exports it, and warns when it becomes more than a
/// second.
pub async fn measure(pool: PgPool, shutdown: CancellationToken) {
    watch(pool, |_| {}, shutdown).await;
}

async fn watch(pool: PgPool, note: impl Fn(&Measured), shutdown: CancellationToken) {
    let exported = CLOCK_OFFSET.gauge(&[]);
    let mut was_off = false;
    loop {
        // Who cannot reach the database says so elsewhere.
        if let Ok(measured) = measured(&pool).await {
            note(&measured);
            let offset_seconds = measured.offset.as_seconds_f64();
            exported.set(offset_seconds);
            let is_off = measured.offset.abs() > TOLERATED;
            if is_off && !was_off {
                tracing::warn!(
                    offset_seconds,
                    "this machine's clock differs from the database's: see that both are synchronised"
                );
            } else if was_off && !is_off {
                tracing::info!(
                    offset_seconds,
                    "this machine's clock agrees with the database's again"
                );
            }
            was_off = is_off;
        }
        if shutdown
            .run_until_cancelled(sleep(INTERVAL))
            .await
            .is_none()
        {
            return;
        }
    }
}

/// What the database's clock read at a moment.
struct Measured {
    /// How far this machine's clock is ahead.
    offset: TimeDelta,
    /// The moment, and what the database's clock read then.
    at: Instant,
    theirs: DateTime<Utc>,
}

/// Asks the database for its time. The quickest of a few answers is the one that is off by the least.
async fn measured(pool: &PgPool) -> Result<Measured, sqlx::Error> {
    // First, so that waiting for a connection is not taken for a long way.
    let mut connection = pool.acquire().await?;
    let mut quickest: Option<(Duration, Measured)> = None;
    for _ in 0..QUESTIONS {
        let (asked_at, asked) = (Utc::now(), Instant::now());
        let question = sqlx::query_scalar!(r#"select clock_timestamp() as "now!""#);
        let Ok(answer) = timeout(ANSWER_MAX, question.fetch_one(&mut *connection)).await else {
            connection.close_on_drop();
            return Err(sqlx::Error::PoolTimedOut);
        };
        let (theirs, answered_at, took) = (answer?, Utc::now(), asked.elapsed());
        if quickest.as_ref().is_none_or(|(least, _)| took < *least) {
            let measured = Measured {
                offset: between(asked_at, theirs, answered_at),
                at: asked + took / 2,
                theirs,
            };
            quickest = Some((took, measured));
        }
    }
    let (_, measured) = quickest.ok_or(sqlx::Error::PoolTimedOut)?;
    Ok(measured)
}

/// The offset of a clock that read `asked_at` before and `answered_at` after the other one read `theirs`.
fn between(
    asked_at: DateTime<Utc>,
    theirs: DateTime<Utc>,
    answered_at: DateTime<Utc>,
) -> TimeDelta {
    let half_way = (answered_at - asked_at) / 2;
    asked_at + half_way - theirs
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_of_the_way_there_and_back_is_no_offset() {
        let at =
            |ms: i64| DateTime::from_timestamp_millis(1_800_000_000_000 + ms).unwrap_or_default();
        assert_eq!(between(at(0), at(200), at(400)), TimeDelta::zero());
        assert_eq!(between(at(0), at(-800), at(400)), TimeDelta::seconds(1));
        assert_eq!(between(at(0), at(3_200), at(400)), TimeDelta::seconds(-3));
    }
}
