//! Days: the parts of the orders and of the ledger, one per UTC day, made ahead and dropped when they are old.
//!
//! Both happen without a lock that would stop settlements: a new day is attached, and an old one is
//! detached concurrently before it is dropped. A day of the ledger leaves its sums behind: see
//! `sum_up`.
//!
//! Days are dated by the database's clock. Nothing is dropped before it is old by this machine's, too.

mod forgotten;
mod ledger;
mod parts;

use std::{collections::BTreeSet, time::Duration};

use chrono::{DateTime, Utc};
use hotrow_shared::{
    id::{Day, OrderId},
    metrics::DAYS_AHEAD,
};
use metrics::Gauge;
use sqlx::{PgConnection, PgPool, Postgres, pool::PoolConnection};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use self::{
    forgotten::Forgotten,
    ledger::sum_up,
    parts::{
        Part, Table, attached, covers, date_of, detach, drop_part, execute, make_missing, parts,
    },
};
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
/// How long all missing days may take to be made before the session counts as dead. What was made stays.
const MAKE_MAX: Duration = Duration::from_mins(2);
/// The same for dropping all old days.
const DROP_MAX: Duration = Duration::from_mins(30);
/// One process at a time drops them, which takes longer.
const DROP_LOCK: i64 = 0x686f_7472_6f77_0004;

/// For how many days things are kept.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Kept {
    pub(crate) orders_days: u64,
    /// The audit log.
    pub(crate) audit_days: u64,
}

/// Looks after the days until `shutdown`.
pub(crate) async fn run(pool: PgPool, kept: Kept, shutdown: CancellationToken) {
    let ahead = DAYS_AHEAD.gauge(&[]);
    let mut covered = None;
    loop {
        let looked = look(&pool, kept, &ahead, &mut covered).await;
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
    kept: Kept,
    ahead: &Gauge,
    covered: &mut Option<Day>,
) -> Result<(), sqlx::Error> {
    let made = make_coming(pool, kept.orders_days).await;
    if let Ok(last) = &made {
        *covered = Some(*last);
    }
    if let Some(last) = covered {
        // Without a database the days still go by.
        let days = last.0.saturating_sub(Day::today().0);
        ahead.set(f64::from(u32::try_from(days).unwrap_or(u32::MAX)));
    }
    made?;
    within(DROP_MAX, drop_old(pool, kept)).await
}

/// Whether the user of these connections owns the tables, or acts for their owner.
///
/// # Errors
/// The database is out of reach.
pub(crate) async fn owns_tables(pool: &PgPool) -> Result<bool, sqlx::Error> {
    let owns = sqlx::query_scalar(
        "select pg_has_role(current_user, relowner, 'usage') from pg_class where oid = 'orders'::regclass",
    );
    within(MAKE_MAX, owns.fetch_one(pool)).await
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
            Table::Orders | Table::Changes => days.range(..=last).copied().collect(),
            // Entries are dated when they are written.
            Table::Ledger => vec![today],
        };
        make_missing(&mut connection, table, &parts, wanted.into_iter()).await?;
    }
    Ok(())
}

/// Drops what is kept no longer by the database's clock and by this machine's.
async fn drop_old(pool: &PgPool, kept: Kept) -> Result<(), sqlx::Error> {
    let mut connection = session(pool).await?;
    let locked = sqlx::query_scalar!(r#"select pg_try_advisory_lock($1) as "locked!""#, DROP_LOCK);
    if !locked.fetch_one(&mut *connection).await? {
        // Another process is at it.
        return Ok(());
    }
    if events_wait(&mut connection).await? {
        tracing::warn!(
            "no day is dropped while events wait in the outbox: they are made from its rows"
        );
        return Ok(());
    }
    let today = today(&mut connection).await?.min(Day::today());
    let oldest = Day(today.0.saturating_sub(kept.orders_days));
    sum_up(&mut connection, oldest).await?;
    let held = held_days(&mut connection, oldest).await?;
    for table in Table::ALL {
        for mut part in parts(&mut connection, table).await? {
            let is_held =
                table.holds_goods() && held.range(part.first..=part.last).next().is_some();
            if part.last < oldest && !is_held {
                if table == Table::Changes {
                    // Before, so that the audit finds them at every moment, and again when none can be added.
                    keep_moves(&mut connection, &part, oldest).await?;
                    detach(&mut connection, table, &mut part).await?;
                    keep_moves(&mut connection, &part, oldest).await?;
                }
                drop_part(&mut connection, table, &mut part).await?;
            }
        }
    }
    let forgotten = Forgotten {
        orders_before: start_of(oldest),
        audit_before: start_of(Day(today.0.saturating_sub(kept.audit_days))),
    };
    forgotten.forget(&mut connection).await
}

/// A session that is given up with its value, and its locks with it.
async fn session(pool: &PgPool) -> Result<PoolConnection<Postgres>, sqlx::Error> {
    let mut connection = pool.acquire().await?;
    connection.close_on_drop();
    let limit = format!("set statement_timeout = '{STATEMENT_MAX}'");
    execute(&mut connection, limit).await?;
    Ok(connection)
}

/// Keeps what late changes of a day's orders did to the stock, for as long as the ledger has their entries.
async fn keep_moves(
    connection: &mut PgConnection,
    part: &Part,
    oldest: Day,
) -> Result<(), sqlx::Error> {
    let (name, start) = (&part.name, start_of(oldest).to_rfc3339());
    let keep = format!(
        "
        insert into dropped_changes (order_id, revision, goods, items, at)
        select changes.order_id, changes.revision, changes.goods, orders.items, changes.at
        from {name} as changes join orders on orders.order_id = changes.order_id
        where changes.goods is not null and changes.at >= '{start}'
        on conflict on constraint dropped_changes_pkey do nothing
        "
    );
    execute(connection, keep).await
}

fn start_of(day: Day) -> DateTime<Utc> {
    date_of(day).and_time(chrono::NaiveTime::MIN).and_utc()
}

/// Old days with an order that goods are held for. They stay, orders and changes alike: both are asked for at once,
/// or the hold could end in between, and an order would lose its changes alone.
async fn held_days(
    connection: &mut PgConnection,
    oldest: Day,
) -> Result<BTreeSet<Day>, sqlx::Error> {
    let held = sqlx::query_scalar!(
        "select order_id from holds where order_id < $1",
        oldest.first_id()
    );
    let held = held.fetch_all(connection).await?;
    Ok(held
        .into_iter()
        .map(|id| OrderId::trusted(id).day())
        .collect())
}

/// Whether events have waited so long that something is wrong.
async fn events_wait(connection: &mut PgConnection) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar!(
        r#"select exists (select from event_outbox where at < clock_timestamp() - interval '5 minutes') as "waits!""#
    )
    .fetch_one(connection)
    .await
}

async fn today(connection: &mut PgConnection) -> Result<Day, sqlx::Error> {
    let ms = sqlx::query_scalar!(
        r#"select (extract(epoch from clock_timestamp()) * 1000)::bigint as "ms!""#
    )
    .fetch_one(connection)
    .await?;
    Ok(Day::of_ms(u64::try_from(ms).unwrap_or_default()))
}
