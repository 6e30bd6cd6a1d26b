//! Days: the parts of the orders and of the ledger, one per UTC day, made ahead and dropped when they are old.
//!
//! Both happen without a lock that would stop settlements: a new day is attached, and an old one is
//! detached concurrently before it is dropped. A day of the ledger leaves its sums behind: see
//! `sum_up`.
//!
//! Days are dated by the database's clock. Nothing is dropped before it is old by this machine's, too.

use std::{collections::BTreeSet, time::Duration};

use chrono::NaiveDate;
use hotrow_shared::{id::Day, metrics::DAYS_AHEAD};
use metrics::Gauge;
use sqlx::{AssertSqlSafe, Connection, PgConnection, PgPool, Postgres, pool::PoolConnection};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::store::within;

/// Days that exist ahead of today: how long every worker may be away before a day is made on the spot.
const AHEAD: u64 = 7;
/// How far ahead a day may be made on the spot. A date beyond is no date of an order.
const ON_THE_SPOT_MAX: u64 = 366;
/// How often the days are looked after.
const INTERVAL: Duration = Duration::from_mins(10);
/// How soon a failed look is repeated.
const RETRY_INTERVAL: Duration = Duration::from_secs(30);
/// How long a statement may take, and so how long a reader of the tables can make the making of a day
/// wait that one more is being detached.
const STATEMENT_MAX: &str = "30s";
/// How long the entries of old days may take to be summed up. Nobody waits for its locks, but an open
/// transaction keeps every old version of the hot rows from being pruned, so it is not to be repeated for long.
const SUM_MAX: &str = "10min";
/// How long emptying old days may wait for their readers, and make later readers wait.
const EMPTY_WAIT_MAX: &str = "1s";
/// How often that is tried, with the same pause in between, before the sums are thrown away.
const EMPTY_ATTEMPTS: u32 = 5;
const EMPTY_PAUSE: Duration = Duration::from_secs(1);
/// How long all missing days may take to be made before the session counts as dead. What was made stays.
const MAKE_MAX: Duration = Duration::from_mins(2);
/// The same for dropping all old days.
const DROP_MAX: Duration = Duration::from_mins(30);
/// Most keys of restocks that one statement deletes.
const KEYS_AT_ONCE: i64 = 10_000;
/// One process at a time makes days.
const MAKE_LOCK: i64 = 0x686f_7472_6f77_0002;
/// One process at a time drops them, which takes longer.
const DROP_LOCK: i64 = 0x686f_7472_6f77_0004;

/// Looks after the days until `shutdown`.
pub(crate) async fn run(pool: PgPool, retention_days: u64, shutdown: CancellationToken) {
    let ahead = DAYS_AHEAD.gauge(&[]);
    let mut covered = None;
    loop {
        let looked = look(&pool, retention_days, &ahead, &mut covered).await;
        let pause = if looked.is_ok() {
            INTERVAL
        } else {
            RETRY_INTERVAL
        };
        if let Err(error) = looked {
            tracing::warn!(%error, "the days of orders and ledger could not be looked after");
        }
        if shutdown.run_until_cancelled(sleep(pause)).await.is_none() {
            return;
        }
    }
}

async fn look(
    pool: &PgPool,
    retention_days: u64,
    ahead: &Gauge,
    covered: &mut Option<Day>,
) -> Result<(), sqlx::Error> {
    let made = make_coming(pool, retention_days).await;
    if let Ok(last) = &made {
        *covered = Some(*last);
    }
    if let Some(last) = covered {
        // Without a database the days still go by.
        let days = last.0.saturating_sub(Day::today().0);
        ahead.set(f64::from(u32::try_from(days).unwrap_or(u32::MAX)));
    }
    made?;
    within(DROP_MAX, drop_old(pool, retention_days)).await
}

/// Makes the coming days, and those that are missing since the last one: after a long pause
/// orders may still be queued that need them. Returns the last day up to which none is missing.
///
/// # Errors
/// The database is out of reach, or the user may not change the tables.
pub async fn make_coming(pool: &PgPool, retention_days: u64) -> Result<Day, sqlx::Error> {
    within(MAKE_MAX, make_all_coming(pool, retention_days)).await
}

async fn make_all_coming(pool: &PgPool, retention_days: u64) -> Result<Day, sqlx::Error> {
    let mut connection = session(pool).await?;
    let today = today(&mut connection).await?;
    let oldest = Day(today.0.saturating_sub(retention_days));
    let mut last_of_all = Day(today.0 + AHEAD);
    for table in Table::ALL {
        let parts = attached(&mut connection, table).await?;
        // Yesterday's orders may still be queued.
        let yesterday = today.0.saturating_sub(1);
        let last = parts.last().map_or(yesterday, |part| part.last.0 + 1);
        let since = last.min(yesterday).max(oldest.0);
        let coming = (since..=today.0 + AHEAD).map(Day);
        make_missing(&mut connection, table, &parts, coming).await?;
        let beyond = attached(&mut connection, table).await?;
        let mut days = (today.0..=today.0 + AHEAD).map(Day);
        let gap = days.find(|day| !covers(&beyond, *day));
        last_of_all = gap.map_or(last_of_all, |gap| {
            Day(gap.0.saturating_sub(1)).min(last_of_all)
        });
    }
    Ok(last_of_all)
}

/// Today by the database's clock.
///
/// # Errors
/// The database is out of reach.
pub(crate) async fn database_today(pool: &PgPool) -> Result<Day, sqlx::Error> {
    let asked = async {
        let mut connection = session(pool).await?;
        today(&mut connection).await
    };
    within(MAKE_MAX, asked).await
}

/// Makes these days of orders on the spot, and today for the ledger, for a settlement that found one missing.
///
/// Days more than a year ahead are left out: their orders bear no date, and stay without a table.
///
/// # Errors
/// The database is out of reach, the user may not change the tables, or a reader of the tables holds
/// the change up for longer than a lock is waited for: the same again may work.
pub async fn make_for(pool: &PgPool, days: &BTreeSet<Day>) -> Result<(), sqlx::Error> {
    within(MAKE_MAX, make_all_for(pool, days)).await
}

async fn make_all_for(pool: &PgPool, days: &BTreeSet<Day>) -> Result<(), sqlx::Error> {
    let mut connection = session(pool).await?;
    let today = today(&mut connection).await?;
    let last = Day(today.0 + ON_THE_SPOT_MAX);
    for table in Table::ALL {
        let parts = attached(&mut connection, table).await?;
        let wanted = match table {
            Table::Orders => days.range(..=last).copied().collect(),
            // Entries are dated when they are written.
            Table::Ledger => vec![today],
        };
        make_missing(&mut connection, table, &parts, wanted.into_iter()).await?;
    }
    Ok(())
}

/// Drops what is older than `retention_days` by the database's clock and by this machine's.
async fn drop_old(pool: &PgPool, retention_days: u64) -> Result<(), sqlx::Error> {
    let mut connection = session(pool).await?;
    let locked = sqlx::query_scalar!(r#"select pg_try_advisory_lock($1) as "locked!""#, DROP_LOCK);
    if !locked.fetch_one(&mut *connection).await? {
        // Another process is at it.
        return Ok(());
    }
    let today = today(&mut connection).await?.min(Day::today());
    let oldest = Day(today.0.saturating_sub(retention_days));
    sum_up(&mut connection, oldest).await?;
    for table in Table::ALL {
        for part in parts(&mut connection, table).await? {
            if part.last < oldest {
                drop_part(&mut connection, table, &part).await?;
            }
        }
    }
    forget_keys(&mut connection, oldest).await
}

/// A table that is parted by day.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Table {
    Orders,
    Ledger,
}

impl Table {
    const ALL: [Self; 2] = [Self::Orders, Self::Ledger];

    const fn name(self) -> &'static str {
        match self {
            Self::Orders => "orders",
            Self::Ledger => "inventory_ledger",
        }
    }

    /// The smallest value of a day, as a literal.
    fn start_of(self, day: Day) -> String {
        match self {
            Self::Orders => format!("'{}'", day.first_id()),
            Self::Ledger => format!("'{} 00:00:00+00'", date_of(day)),
        }
    }

    fn part_of(self, day: Day) -> String {
        format!("{}_{}", self.name(), date_of(day).format("%Y%m%d"))
    }

    /// The first and the last day that the part of this name holds. The ledger's entries from before it had
    /// parts are one of many days.
    fn days_of(self, part: &str) -> Option<(Day, Day)> {
        let name = part.strip_prefix(self.name())?.strip_prefix('_')?;
        let (first, last) = name.split_once('_').unwrap_or((name, name));
        Some((day_of(first)?, day_of(last)?))
    }
}

fn date_of(day: Day) -> NaiveDate {
    NaiveDate::default() + chrono::Days::new(day.0)
}

fn day_of(date: &str) -> Option<Day> {
    let date = NaiveDate::parse_from_str(date, "%Y%m%d").ok()?;
    let days = date.signed_duration_since(NaiveDate::default()).num_days();
    u64::try_from(days).ok().map(Day)
}

/// A part of a table.
#[derive(Debug)]
struct Part {
    name: String,
    first: Day,
    last: Day,
    /// A crash may leave one that belongs to the table no more.
    is_attached: bool,
    /// An attempt to detach it was cut off half-way: it is invisible, and has to be finished first.
    is_pending: bool,
}

fn covers(parts: &[Part], day: Day) -> bool {
    parts
        .iter()
        .any(|part| (part.first..=part.last).contains(&day))
}

/// A session that is given up with its value, and its locks with it.
async fn session(pool: &PgPool) -> Result<PoolConnection<Postgres>, sqlx::Error> {
    let mut connection = pool.acquire().await?;
    connection.close_on_drop();
    let limit = format!("set statement_timeout = '{STATEMENT_MAX}'");
    execute(&mut connection, limit).await?;
    Ok(connection)
}

async fn today(connection: &mut PgConnection) -> Result<Day, sqlx::Error> {
    let ms = sqlx::query_scalar!(
        r#"select (extract(epoch from clock_timestamp()) * 1000)::bigint as "ms!""#
    )
    .fetch_one(connection)
    .await?;
    Ok(Day::of_ms(u64::try_from(ms).unwrap_or_default()))
}

/// The parts of a table, the oldest first.
async fn parts(connection: &mut PgConnection, table: Table) -> Result<Vec<Part>, sqlx::Error> {
    let rows = sqlx::query!(
        r#"
        select part.relname as "name!", pg_inherits.inhrelid is not null as "is_attached!",
               coalesce(pg_inherits.inhdetachpending, false) as "is_pending!"
        from pg_class as part
        left join pg_inherits on pg_inherits.inhrelid = part.oid and pg_inherits.inhparent = to_regclass($1)
        where part.relkind = 'r'
          and part.relnamespace = (select relnamespace from pg_class where oid = to_regclass($1))
          and part.relname ~ ('^' || $1 || '_[0-9]{8}(_[0-9]{8})?$')
        "#,
        table.name(),
    )
    .fetch_all(connection)
    .await?;
    let part = |(name, is_attached, is_pending): (String, bool, bool)| {
        let (first, last) = table.days_of(&name)?;
        Some(Part {
            name,
            first,
            last,
            is_attached,
            is_pending,
        })
    };
    let mut parts: Vec<_> = rows
        .into_iter()
        .filter_map(|row| part((row.name, row.is_attached, row.is_pending)))
        .collect();
    parts.sort_by_key(|part| part.last);
    Ok(parts)
}

async fn attached(connection: &mut PgConnection, table: Table) -> Result<Vec<Part>, sqlx::Error> {
    let mut parts = parts(connection, table).await?;
    parts.retain(|part| part.is_attached);
    Ok(parts)
}

async fn make_missing(
    connection: &mut PgConnection,
    table: Table,
    parts: &[Part],
    days: impl Iterator<Item = Day>,
) -> Result<(), sqlx::Error> {
    for day in days.filter(|day| !covers(parts, *day)) {
        make(connection, table, day).await?;
    }
    Ok(())
}

async fn make(connection: &mut PgConnection, table: Table, day: Day) -> Result<(), sqlx::Error> {
    let mut transaction = connection.begin().await?;
    sqlx::query!("select pg_advisory_xact_lock($1)", MAKE_LOCK)
        .execute(&mut *transaction)
        .await?;
    if covers(&attached(&mut transaction, table).await?, day) {
        // Another process was faster.
        return Ok(());
    }
    let (parent, part) = (table.name(), table.part_of(day));
    let (from, to) = (table.start_of(day), table.start_of(Day(day.0 + 1)));
    // Attaching takes a weaker lock than creating the table as a partition would.
    let create = format!("create table if not exists {part} (like {parent} including all)");
    execute(&mut transaction, create).await?;
    let attach =
        format!("alter table {parent} attach partition {part} for values from ({from}) to ({to})");
    execute(&mut transaction, attach).await?;
    transaction.commit().await?;
    tracing::info!(table = part, "made a day");
    Ok(())
}

/// Replaces the ledger's entries of old days by one opening for each SKU, in the oldest day that is kept.
///
/// An opening has the sum of what it stands for, and id and balance of the last of it: so the sum of the
/// ledger stays the stock, and each balance still follows from the one before. A stock of nothing needs
/// no opening. An entry that was dated before midnight behind one that was dated after it, by clocks that
/// disagree, is in the middle of what is kept, and is kept itself.
///
/// Readers see all of it or nothing. Emptying the old days is what needs their readers to be gone, and
/// comes last. A reader whose snapshot is older and who has not looked at the ledger so far finds them
/// empty: PostgreSQL's `truncate` does not keep them for it.
async fn sum_up(connection: &mut PgConnection, oldest: Day) -> Result<(), sqlx::Error> {
    let mut parts = attached(connection, Table::Ledger).await?;
    parts.retain(|part| !part.is_pending);
    let (old, kept): (Vec<_>, Vec<_>) = parts.iter().partition(|part| part.last < oldest);
    let Some(kept) = kept.first() else {
        return Ok(());
    };
    if old.is_empty() {
        return Ok(());
    }
    let names: Vec<_> = old.iter().map(|part| part.name.as_str()).collect();
    let (old, kept_part, start) = (
        names.join(", "),
        &kept.name,
        Table::Ledger.start_of(kept.first),
    );

    let mut transaction = connection.begin().await?;
    for limit in [
        format!("set local statement_timeout = '{SUM_MAX}'"),
        format!("set local lock_timeout = '{EMPTY_WAIT_MAX}'"),
        // All of the old days is read.
        "set local enable_seqscan = on".to_owned(),
        // What is summed up grows no more, and can still be read.
        format!("lock table {old} in share mode"),
    ] {
        execute(&mut transaction, limit).await?;
    }
    let sums = format!(
        "
        with first_kept as (
            select sku, min(id) as id from {kept_part} group by sku
        ),
        gone as (
            select entry.*, coalesce(entry.id > first_kept.id, false) as is_between
            from inventory_ledger as entry left join first_kept using (sku)
            where entry.at < {start}
        )
        insert into inventory_ledger (id, sku, kind, delta, balance, orders, idempotency_key, at)
        select max(id), sku, 'opening', sum(delta)::bigint, (array_agg(balance order by id desc))[1], 0, null::text, {start}::timestamptz
        from gone
        where not is_between
        group by sku
        having sum(delta) <> 0 or (array_agg(balance order by id desc))[1] <> 0
        union all
        select id, sku, kind, delta, balance, orders, idempotency_key, {start}::timestamptz from gone where is_between
        "
    );
    execute(&mut transaction, sums).await?;
    empty(&mut transaction, &old).await?;
    transaction.commit().await?;
    tracing::info!(
        tables = old,
        into = kept_part,
        "summed up old days of the ledger"
    );
    Ok(())
}

/// Empties old days as soon as nobody reads them.
async fn empty(connection: &mut PgConnection, parts: &str) -> Result<(), sqlx::Error> {
    let mut attempts_left = EMPTY_ATTEMPTS;
    loop {
        attempts_left -= 1;
        let mut attempted = connection.begin().await?;
        match execute(&mut attempted, format!("truncate {parts}")).await {
            Ok(()) => return attempted.commit().await,
            Err(error) if attempts_left > 0 && is_lock_timeout(&error) => {
                attempted.rollback().await?;
                sleep(EMPTY_PAUSE).await;
            }
            Err(error) => return Err(error),
        }
    }
}

fn is_lock_timeout(error: &sqlx::Error) -> bool {
    let error = error.as_database_error();
    error.is_some_and(|error| error.code().as_deref() == Some("55P03"))
}

/// Whether a part has rows, one that is attached no more, too.
async fn has_rows(connection: &mut PgConnection, part: &str) -> Result<bool, sqlx::Error> {
    let exists = format!("select exists (select from {part})");
    sqlx::query_scalar(AssertSqlSafe(exists))
        .fetch_one(connection)
        .await
}

async fn drop_part(
    connection: &mut PgConnection,
    table: Table,
    part: &Part,
) -> Result<(), sqlx::Error> {
    let (parent, name) = (table.name(), &part.name);
    if table == Table::Ledger && has_rows(connection, name).await? {
        // Somebody detached it, or put entries into the past: without them the ledger would not add up.
        tracing::error!(
            table = name,
            "an old day of the ledger has entries that are not summed up: it stays until a person has looked"
        );
        return Ok(());
    }
    if part.is_attached {
        // An earlier attempt that was cut off half-way has to be finished.
        let how = if part.is_pending {
            "finalize"
        } else {
            "concurrently"
        };
        let detach = format!("alter table {parent} detach partition {name} {how}");
        execute(connection, detach).await?;
    }
    execute(connection, format!("drop table {name}")).await?;
    tracing::info!(table = name, "dropped a day");
    Ok(())
}

/// Deletes the keys of restocks that are older than every order.
async fn forget_keys(connection: &mut PgConnection, oldest: Day) -> Result<(), sqlx::Error> {
    loop {
        let deleted = sqlx::query!(
            r#"
            delete from restock_keys
            where (sku, idempotency_key) in (
                select sku, idempotency_key from restock_keys where at < $1 limit $2
            )
            "#,
            date_of(oldest).and_time(chrono::NaiveTime::MIN).and_utc(),
            KEYS_AT_ONCE,
        );
        let deleted = deleted.execute(&mut *connection).await?.rows_affected();
        if deleted < KEYS_AT_ONCE.unsigned_abs() {
            return Ok(());
        }
    }
}

async fn execute(connection: &mut PgConnection, statement: String) -> Result<(), sqlx::Error> {
    let statement = sqlx::raw_sql(AssertSqlSafe(statement));
    statement.execute(connection).await.map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_is_found_again_by_the_name_of_its_table() {
        assert_eq!(Table::Orders.part_of(Day(0)), "orders_19700101");
        for table in Table::ALL {
            for day in [0, 1, 20_000, 20_777].map(Day) {
                let part = table.part_of(day);
                assert_eq!(table.days_of(&part), Some((day, day)), "{part}");
            }
        }
        assert_eq!(Table::Orders.days_of("orders_2026"), None);
        assert_eq!(Table::Orders.days_of("inventory_ledger_20260101"), None);
    }

    #[test]
    fn what_was_there_before_the_days_holds_all_until_its_last() {
        let name = "inventory_ledger_19700102_19700104".to_owned();
        let (first, last) = Table::Ledger.days_of(&name).unwrap_or((Day(0), Day(0)));
        let parts = [Part {
            name,
            first,
            last,
            is_attached: true,
            is_pending: false,
        }];
        let covered = [0, 1, 2, 3, 4].map(|day| covers(&parts, Day(day)));
        assert_eq!(covered, [false, true, true, true, false]);
    }
}
