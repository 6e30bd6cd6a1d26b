//! How long accepted orders waited for their outcome, read from the orders table.

use std::time::Duration;

use chrono::{DateTime, Utc};
use sqlx::{FromRow, PgConnection};

use crate::load::Window;

/// The lag of the orders that were accepted within a window, and how many were settled within it.
/// Without a window: of all orders, and from the first accept to the last settle.
const LAG: &str = "
    select coalesce(percentile_cont(0.5) within group (order by lag), 0) as p50_ms,
           coalesce(percentile_cont(0.99) within group (order by lag), 0) as p99_ms,
           coalesce(percentile_cont(0.999) within group (order by lag), 0) as p999_ms,
           coalesce(max(lag), 0) as max_ms,
           (select count(*) from orders
            where alias_of is null and settled_at >= coalesce($1, '-infinity')
              and settled_at < coalesce($2, 'infinity')) as orders,
           coalesce(extract(epoch from coalesce($2, max(settled_at)) - coalesce($1, min(accepted_at))), 0)::float8
               as seconds
    from (select accepted_at, settled_at,
                 (extract(epoch from settled_at - accepted_at) * 1000)::float8 as lag
          from orders
          where alias_of is null and accepted_at >= coalesce($1, '-infinity')
            and accepted_at < coalesce($2, 'infinity')) as settled";

/// The times from accept to settle of the orders in a database, by the clocks of the machines that
/// accepted and settled them.
#[derive(Debug, Clone, Copy, PartialEq, FromRow)]
pub struct Lag {
    /// Half of the orders waited no longer.
    pub p50_ms: f64,
    /// 99 of 100 orders waited no longer.
    pub p99_ms: f64,
    /// 999 of 1,000 orders waited no longer.
    pub p999_ms: f64,
    /// No order waited longer.
    pub max_ms: f64,
    orders: i64,
    seconds: f64,
}

impl Lag {
    /// Reads it of all orders.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn read(database: &mut PgConnection) -> anyhow::Result<Self> {
        Self::between(database, None, None).await
    }

    /// Reads it of the orders that were accepted within a window.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn read_within(database: &mut PgConnection, window: Window) -> anyhow::Result<Self> {
        Self::between(database, Some(window.from), Some(window.to)).await
    }

    async fn between(
        database: &mut PgConnection,
        from: Option<DateTime<Utc>>,
        to: Option<DateTime<Utc>>,
    ) -> anyhow::Result<Self> {
        let lag = sqlx::query_as(LAG).bind(from).bind(to);
        Ok(lag.fetch_one(database).await?)
    }

    /// The window; of all orders, from the first accept to the last settle.
    #[must_use]
    pub fn span(&self) -> Duration {
        Duration::try_from_secs_f64(self.seconds).unwrap_or_default()
    }

    /// Orders settled within [`Lag::span`], per second of it; 0 over no time.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "a rate for people to read")]
    pub fn settled_per_second(&self) -> f64 {
        if self.seconds > 0.0 {
            self.orders as f64 / self.seconds
        } else {
            0.0
        }
    }
}
