//! How far this machine's clock is from the database's, by which orders are settled and days begin.

use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
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

/// How far this machine's clock is ahead of the database's, as it was measured last.
#[derive(Debug, Clone, Default)]
pub struct ClockOffset(Arc<AtomicI64>);

impl ClockOffset {
    /// Measures it once.
    ///
    /// # Errors
    /// The database is out of reach.
    pub async fn measured(pool: &PgPool) -> Result<Self, sqlx::Error> {
        let known = Self::default();
        known.set(offset(pool).await?);
        Ok(known)
    }

    /// In milliseconds; negative behind.
    #[must_use]
    pub fn ms(&self) -> i64 {
        self.0.load(Ordering::Relaxed)
    }

    fn set(&self, offset: TimeDelta) {
        self.0.store(offset.num_milliseconds(), Ordering::Relaxed);
    }
}

/// Measures the offset until `shutdown`, exports it, and warns when it becomes more than a second.
pub async fn measure(pool: PgPool, known: ClockOffset, shutdown: CancellationToken) {
    let exported = CLOCK_OFFSET.gauge(&[]);
    let mut was_off = false;
    loop {
        // Who cannot reach the database says so elsewhere.
        if let Ok(offset) = offset(&pool).await {
            known.set(offset);
            exported.set(offset.as_seconds_f64());
            let is_off = offset.abs() > TOLERATED;
            let offset_seconds = offset.as_seconds_f64();
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

/// How far this machine's clock is ahead, by the quickest of a few answers: it is the one that is off by the least.
async fn offset(pool: &PgPool) -> Result<TimeDelta, sqlx::Error> {
    // First, so that waiting for a connection is not taken for a long way.
    let mut connection = pool.acquire().await?;
    let mut quickest: Option<(TimeDelta, TimeDelta)> = None;
    for _ in 0..QUESTIONS {
        let asked_at = Utc::now();
        let asked = sqlx::query_scalar!(r#"select clock_timestamp() as "now!""#);
        let Ok(answer) = timeout(ANSWER_MAX, asked.fetch_one(&mut *connection)).await else {
            connection.close_on_drop();
            return Err(sqlx::Error::PoolTimedOut);
        };
        let (theirs, answered_at) = (answer?, Utc::now());
        let took = answered_at - asked_at;
        if quickest.is_none_or(|(least, _)| took < least) {
            quickest = Some((took, between(asked_at, theirs, answered_at)));
        }
    }
    let offset = quickest.map(|(_, offset)| offset);
    Ok(offset.unwrap_or_default())
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
