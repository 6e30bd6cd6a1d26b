//! How long accepted orders waited for their outcome, read from the orders table.

use std::time::Duration;

use sqlx::{FromRow, PgConnection};

const LAG: &str = "
    select coalesce(percentile_cont(0.5) within group (order by lag), 0) as p50_ms,
           coalesce(percentile_cont(0.99) within group (order by lag), 0) as p99_ms,
           coalesce(max(lag), 0) as max_ms,
           count(*) as orders,
           coalesce(extract(epoch from max(settled_at) - min(accepted_at)), 0)::float8 as seconds
    from (select accepted_at, settled_at,
                 (extract(epoch from settled_at - accepted_at) * 1000)::float8 as lag
          from orders where alias_of is null) as settled";

/// The times from accept to settle of all orders in a database, by the clocks of the machines that
/// accepted and settled them.
#[derive(Debug, Clone, Copy, PartialEq, FromRow)]
pub struct Lag {
    /// Half of the orders waited no longer.
    pub p50_ms: f64,
    /// 99 of 100 orders waited no longer.
    pub p99_ms: f64,
    /// No order waited longer.
    pub max_ms: f64,
    orders: i64,
    seconds: f64,
}

impl Lag {
    /// Reads it.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn read(database: &mut PgConnection) -> anyhow::Result<Self> {
        Ok(sqlx::query_as(LAG).fetch_one(database).await?)
    }

    /// From the first accept to the last settle.
    #[must_use]
    pub fn span(&self) -> Duration {
        Duration::try_from_secs_f64(self.seconds).unwrap_or_default()
    }

    /// Orders settled per second of [`Lag::span`]; 0 over no time.
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
