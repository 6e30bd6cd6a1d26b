//! Days: the table partitions of the orders, one per UTC day, made ahead and dropped when they are old.
//!
//! Both happen without the lock that would stop settlements: a new day is attached, and an old one
//! is detached concurrently before it is dropped.

use std::{collections::BTreeSet, time::Duration};

use chrono::NaiveDate;
use hotrow_shared::id::Day;
use sqlx::{Connection, PgConnection, PgPool, Postgres, pool::PoolConnection};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

/// Days that exist ahead of today: how long every worker may be away before orders have no table.
const DAYS_AHEAD: u64 = 7;
/// How often the days are looked after.
const INTERVAL: Duration = Duration::from_mins(10);
/// How soon a failed look is repeated.
const RETRY_INTERVAL: Duration = Duration::from_secs(30);
/// One process at a time looks after the days.
const DAYS_LOCK: i64 = 0x686f_7472_6f77_0002;

/// Looks after the days until `shutdown`.
pub async fn keep(pool: PgPool, retention_days: u64, shutdown: CancellationToken) {
    loop {
        let looked = look_after(&pool, Day::today(), retention_days).await;
        let pause = if looked.is_ok() {
            INTERVAL
        } else {
            RETRY_INTERVAL
        };
        if let Err(error) = looked {
            tracing::warn!(%error, "the days of the orders table could not be looked after");
        }
        if shutdown.run_until_cancelled(sleep(pause)).await.is_none() {
            return;
        }
    }
}

/// Makes the coming days, and those that are missing since the last one: after a long pause
/// orders may still be queued that need them.
///
/// # Errors
/// The database is out of reach, or the user may not change the table.
pub async fn make_coming(
    pool: &PgPool,
    today: Day,
    retention_days: u64,
) -> Result<(), sqlx::Error> {
    let mut connection = locked(pool).await?;
    make_missing(&mut connection, today, oldest_kept(today, retention_days)).await
}

/// Makes days that orders need now, those of them that have no table.
pub(crate) async fn make_for(pool: &PgPool, needed: &BTreeSet<Day>) -> Result<(), sqlx::Error> {
    let mut connection = locked(pool).await?;
    let attached = days(&mut connection, true).await?;
    for day in needed.difference(&attached) {
        make(&mut connection, *day).await?;
    }
    Ok(())
}

/// Makes the coming days and drops those that are older than `retention_days`.
async fn look_after(pool: &PgPool, today: Day, retention_days: u64) -> Result<(), sqlx::Error> {
    let oldest = oldest_kept(today, retention_days);
    let mut connection = locked(pool).await?;
    make_missing(&mut connection, today, oldest).await?;
    let attached = days(&mut connection, true).await?;
    for day in days(&mut connection, false)
        .await?
        .into_iter()
        .filter(|day| *day < oldest)
    {
        drop_day(&mut connection, day, attached.contains(&day)).await?;
    }
    Ok(())
}

/// A connection that holds the lock for the days, and gives it up with its end.
async fn locked(pool: &PgPool) -> Result<PoolConnection<Postgres>, sqlx::Error> {
    let mut connection = pool.acquire().await?;
    connection.close_on_drop();
    sqlx::query!("select pg_advisory_lock($1)", DAYS_LOCK)
        .execute(&mut *connection)
        .await?;
    Ok(connection)
}

fn oldest_kept(today: Day, retention_days: u64) -> Day {
    Day(today.0.saturating_sub(retention_days))
}

async fn make_missing(
    connection: &mut PgConnection,
    today: Day,
    oldest: Day,
) -> Result<(), sqlx::Error> {
    let attached = days(connection, true).await?;
    let since = attached
        .last()
        .map_or(today.0.saturating_sub(1), |last| last.0 + 1);
    for day in (since.max(oldest.0)..=today.0 + DAYS_AHEAD).map(Day) {
        make(connection, day).await?;
    }
    Ok(())
}

/// The days that have a table: those that belong to the orders, or all, including one that a
/// crash left detached.
async fn days(
    connection: &mut PgConnection,
    attached_only: bool,
) -> Result<BTreeSet<Day>, sqlx::Error> {
    let names = sqlx::query_scalar!(
        r#"
        select table_class.relname as "name!"
        from pg_class as table_class
        left join pg_inherits on pg_inherits.inhrelid = table_class.oid
        where table_class.relkind = 'r'
          and table_class.relnamespace = (select relnamespace from pg_class where oid = 'orders'::regclass)
          and table_class.relname ~ '^orders_[0-9]{8}$'
          and (not $1 or pg_inherits.inhparent = 'orders'::regclass)
        "#,
        attached_only,
    )
    .fetch_all(connection)
    .await?;
    Ok(names.iter().filter_map(|name| day_of(name)).collect())
}

async fn make(connection: &mut PgConnection, day: Day) -> Result<(), sqlx::Error> {
    let (name, from, to) = (name_of(day), day.first_id(), Day(day.0 + 1).first_id());
    let mut transaction = connection.begin().await?;
    // Attaching takes a weaker lock than creating the table as a partition would.
    let create = format!("create table if not exists {name} (like orders including all)");
    let attach = format!(
        "alter table orders attach partition {name} for values from ('{from}') to ('{to}')"
    );
    for statement in [create, attach] {
        sqlx::raw_sql(sqlx::AssertSqlSafe(statement))
            .execute(&mut *transaction)
            .await?;
    }
    transaction.commit().await?;
    tracing::info!(table = name, "made a day of orders");
    Ok(())
}

async fn drop_day(
    connection: &mut PgConnection,
    day: Day,
    attached: bool,
) -> Result<(), sqlx::Error> {
    let name = name_of(day);
    if attached {
        let detach = format!("alter table orders detach partition {name} concurrently");
        let detached = sqlx::raw_sql(sqlx::AssertSqlSafe(detach))
            .execute(&mut *connection)
            .await;
        if detached.is_err() {
            // An earlier attempt was cut off half-way and has to be finished.
            let finalize = format!("alter table orders detach partition {name} finalize");
            sqlx::raw_sql(sqlx::AssertSqlSafe(finalize))
                .execute(&mut *connection)
                .await?;
        }
    }
    sqlx::raw_sql(sqlx::AssertSqlSafe(format!("drop table {name}")))
        .execute(&mut *connection)
        .await?;
    tracing::info!(table = name, "dropped a day of orders");
    Ok(())
}

fn name_of(day: Day) -> String {
    let date = NaiveDate::default() + chrono::Days::new(day.0);
    date.format("orders_%Y%m%d").to_string()
}

fn day_of(name: &str) -> Option<Day> {
    let date = NaiveDate::parse_from_str(name, "orders_%Y%m%d").ok()?;
    let days = date.signed_duration_since(NaiveDate::default()).num_days();
    u64::try_from(days).ok().map(Day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_is_found_again_by_the_name_of_its_table() {
        assert_eq!(name_of(Day(0)), "orders_19700101");
        for day in [0, 1, 20_000, 20_777].map(Day) {
            assert_eq!(day_of(&name_of(day)), Some(day));
        }
        assert_eq!(day_of("orders_2026"), None);
    }
}
