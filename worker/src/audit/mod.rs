//! The audit: whether stock, ledger, holds and orders add up, asked again and again.
//!
//! The law, per SKU: the sum of the ledger is the stock; what settlements took from it and gave back is
//! what orders got and lost; and what is held is what reserved orders have. Everything that one settlement wrote carries one time and is read in one
//! snapshot, so the second half can be checked window by window without ever seeing half a
//! settlement. A round checks the last seconds and the next window of the past; when the past reaches
//! the present, it begins again. Nothing old is read faster than it costs, and no snapshot lasts long
//! enough to keep old versions of a hot row from being pruned.

mod limits;

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use chrono::{DateTime, TimeDelta, Utc};
use hotrow_shared::{
    database,
    metrics::{AUDIT_LAST_SUCCESS, INVENTORY_MISMATCH},
};
use sqlx::{ConnectOptions, PgConnection, postgres::PgConnectOptions};
use tokio_util::sync::CancellationToken;

use crate::{alone::Alone, settings::Settings, store::within};

/// The shortest pause between rounds.
const PAUSE_MIN: Duration = Duration::from_secs(2);
/// The audit rests this many times as long as it works.
const REST_PER_WORK: u32 = 10;
/// The longest stretch that counts as the last seconds.
const RECENT_MAX: TimeDelta = TimeDelta::seconds(10);
/// A window of the past is doubled when it took less than this, and halved when it took far more.
const WINDOW_WORK: Duration = Duration::from_millis(200);
/// The bounds of a window.
const WINDOW_MIN: TimeDelta = TimeDelta::seconds(1);
const WINDOW_MAX: TimeDelta = TimeDelta::days(1);
/// Days next to the end of the retention that are not audited: days are dropped by the time in the
/// ids, and an order that waited long was settled later than that.
const RETENTION_MARGIN_DAYS: i64 = 7;
/// How long a statement may take. A window that takes much longer than [`WINDOW_WORK`] is halved.
const STATEMENT_MAX: &str = "60s";
/// How long a round may take before its session counts as dead: more than its few statements may.
const ROUND_MAX: Duration = Duration::from_mins(5);
/// The longest pause after a round that did not finish.
const RETRY_PAUSE_MAX: Duration = Duration::from_mins(10);
/// One worker at a time audits.
const AUDIT_LOCK: i64 = 0x686f_7472_6f77_0003;

/// Audits until `shutdown`, whenever no other worker does.
pub(crate) async fn run(
    connect: PgConnectOptions,
    retention_days: u64,
    shutdown: CancellationToken,
) {
    let mismatch = INVENTORY_MISMATCH.gauge(&[]);
    let last_success = AUDIT_LAST_SUCCESS.gauge(&[]);
    let connect = connect.options([("statement_timeout", STATEMENT_MAX)]);
    let mut alone = Alone::under(AUDIT_LOCK, &connect, "hotrow-worker audit");
    let audited = audited(retention_days);
    let mut audit = Audit::new();
    let mut pause = PAUSE_MIN;
    while shutdown
        .run_until_cancelled(tokio::time::sleep(pause))
        .await
        .is_some()
    {
        let started = Instant::now();
        let mut pause_max = Duration::MAX;
        match within(ROUND_MAX, round(&mut alone, &mut audit, audited)).await {
            Ok(Some(broken)) => {
                mismatch.set(f64::from(u32::try_from(broken).unwrap_or(u32::MAX)));
                let now = TimeDelta::milliseconds(Utc::now().timestamp_millis());
                last_success.set(now.as_seconds_f64());
            }
            Ok(None) => mismatch.set(0.0),
            Err(error) => {
                tracing::warn!(%error, "a round of the audit did not finish");
                alone.give_up();
                audit = Audit::new();
                pause_max = RETRY_PAUSE_MAX;
            }
        }
        pause = (started.elapsed() * REST_PER_WORK).clamp(PAUSE_MIN, pause_max);
    }
}

/// How much of the past is audited.
fn audited(retention_days: u64) -> TimeDelta {
    let days = i64::try_from(retention_days).unwrap_or(i64::from(u32::MAX));
    TimeDelta::days((days - RETENTION_MARGIN_DAYS).max(1))
}

/// `hotrow-worker audit`: checks everything at once and prints what does not add up.
///
/// # Errors
/// The database is out of reach, or something does not add up.
pub async fn run_once(settings: &Settings) -> anyhow::Result<()> {
    let database = &settings.common.database;
    database::require_schema(database).await?;
    let connect = database::options(database, "hotrow-worker audit")
        .options([("statement_timeout", STATEMENT_MAX)]);
    let mut session = connect.connect().await?;
    let mut audit = Audit::new();
    // A settlement becomes visible a little after the time that it carries, all of it at once.
    let found = audit
        .check_all(&mut session, Utc::now(), audited(settings.retention_days))
        .await?;
    let mut said: BTreeSet<_> = found.into_iter().collect();
    if said.is_empty() {
        println!("stock, ledger, holds and orders add up");
        return Ok(());
    }
    let count = said.len();
    while let Some(line) = said.pop_first() {
        println!("{line}");
    }
    anyhow::bail!("{count} lines do not add up, or could not be checked")
}

/// One round: the number of SKUs that do not add up, none while another worker audits.
async fn round(
    alone: &mut Alone,
    audit: &mut Audit,
    audited: TimeDelta,
) -> Result<Option<usize>, sqlx::Error> {
    match alone.session().await? {
        None => Ok(None),
        Some(session) => audit.round(session, Utc::now(), audited).await.map(Some),
    }
}

/// The audit of one worker.
struct Audit {
    /// Until where the present is checked.
    present: DateTime<Utc>,
    /// Until where the current walk through the past has come; none before its first window.
    past: Option<DateTime<Utc>>,
    window: TimeDelta,
    /// SKUs that did not add up, in the current walk and in the one before: what is repaired is
    /// forgotten when a whole walk has not seen it.
    broken: BTreeSet<String>,
    broken_before: BTreeSet<String>,
    /// Everything that did not add up since this was read, and what could not be checked.
    said: Vec<String>,
    /// Whether there were too many orders to check limits per customer, when that was tried last.
    is_too_much: bool,
}

impl Audit {
    fn new() -> Self {
        Self {
            present: Utc::now() - RECENT_MAX,
            past: None,
            window: WINDOW_MIN,
            broken: BTreeSet::new(),
            broken_before: BTreeSet::new(),
            said: Vec::new(),
            is_too_much: false,
        }
    }

    async fn round(
        &mut self,
        session: &mut PgConnection,
        now: DateTime<Utc>,
        audited: TimeDelta,
    ) -> Result<usize, sqlx::Error> {
        // A settlement becomes visible a little after the time that it carries.
        let recently = (self.present - WINDOW_MIN * 2).max(now - RECENT_MAX);
        self.check_stock(session).await?;
        self.check_held(session).await?;
        self.check(session, recently, now).await?;
        self.present = now;

        let oldest = (now - audited).max(self.first_day(session).await?);
        let started = Instant::now();
        let mut past = self.past.map_or(oldest, |past| past.max(oldest));
        // Days without an entry cost next to nothing, so that many pass in a round.
        while past < now && started.elapsed() < WINDOW_WORK {
            let to = (past + self.window).min(now);
            let window_started = Instant::now();
            self.check(session, past, to).await?;
            self.window = next_window(self.window, window_started.elapsed());
            past = to;
        }
        self.past = Some(past);
        if self.past.is_none_or(|past| past >= now) {
            self.past = None;
            self.check_limits(session, limits::BESIDE_A_SALE).await?;
            self.broken_before = std::mem::take(&mut self.broken);
        }
        self.said.clear();
        let all = self.broken.union(&self.broken_before);
        Ok(all.count())
    }

    /// Checks everything that is kept, from end to end. Returns what does not add up, a line each.
    async fn check_all(
        &mut self,
        session: &mut PgConnection,
        now: DateTime<Utc>,
        audited: TimeDelta,
    ) -> Result<Vec<String>, sqlx::Error> {
        self.check_stock(session).await?;
        self.check_held(session).await?;
        self.check_limits(session, ROUND_MAX).await?;
        let mut from = (now - audited).max(self.first_day(session).await?);
        while from < now {
            let started = Instant::now();
            let to = (from + self.window).min(now);
            self.check(session, from, to).await?;
            self.window = next_window(self.window, started.elapsed());
            from = to;
        }
        Ok(std::mem::take(&mut self.said))
    }

    /// Where the first part of the ledger begins: nothing is older.
    async fn first_day(&self, session: &mut PgConnection) -> Result<DateTime<Utc>, sqlx::Error> {
        let first = sqlx::query_scalar!(
            r#"
            select min(to_date(substring(part.relname from '[0-9]{8}'), 'YYYYMMDD'))::timestamp at time zone 'UTC'
            from pg_inherits join pg_class as part on part.oid = pg_inherits.inhrelid
            where pg_inherits.inhparent = 'inventory_ledger'::regclass
            "#
        );
        Ok(first.fetch_one(&mut *session).await?.unwrap_or_default())
    }

    /// Checks what was settled in a stretch of time.
    async fn check(
        &mut self,
        session: &mut PgConnection,
        from: DateTime<Utc>,
        to: DateTime<Utc>,
    ) -> Result<(), sqlx::Error> {
        let found = sqlx::query_scalar!(
            r#"
            with entries as (
                select id, sku, kind, delta, balance, taken, released from inventory_ledger where at >= $1 and at < $2
            ),
            -- What settlements took and what they gave back, against the orders that have their goods since then and
            -- those that have them no more. The release before took only, and did not say it apart.
            taken as (
                select sku, sum(coalesce(taken, -delta)) as quantity, sum(coalesce(released, 0)) as released
                from entries
                where kind = 'settlement'
                group by sku
            ),
            moves as (
                select orders.items, 'taken' as goods
                from orders
                where orders.status in ('confirmed', 'reserved') and orders.alias_of is null
                  and orders.settled_at >= $1 and orders.settled_at < $2
                union all
                select orders.items, changes.goods
                from order_changes as changes
                cross join lateral (select items from orders where orders.order_id = changes.order_id limit 1) as orders
                where changes.goods is not null and changes.at >= $1 and changes.at < $2
                union all
                -- Of days that are gone.
                select dropped.items, dropped.goods
                from dropped_changes as dropped
                where dropped.at >= $1 and dropped.at < $2
                  and not exists (
                      select from order_changes as changes
                      where changes.order_id = dropped.order_id and changes.revision = dropped.revision
                  )
            ),
            bought as (
                select item.sku, coalesce(sum(item.quantity) filter (where moves.goods = 'taken'), 0) as quantity,
                       coalesce(sum(item.quantity) filter (where moves.goods = 'released'), 0) as released
                from moves
                cross join json_to_recordset(moves.items) as item (sku text, quantity bigint)
                group by item.sku
            ),
            -- Each balance is the one before it and the delta: then the last one is the sum.
            steps as (
                select sku, id, balance - delta as start, lag(balance) over (partition by sku order by id) as before
                from entries
            ),
            -- What is before may be of another window, which is asked for only where it has to be.
            jumps as (
                select steps.sku
                from steps
                where steps.start is distinct from steps.before
                  and steps.start <> coalesce((
                      select earlier.balance from inventory_ledger as earlier
                      where earlier.sku = steps.sku and earlier.id < steps.id
                      order by earlier.id desc
                      limit 1
                  ), 0)
            )
            select sku as "sku!" from taken full join bought using (sku)
            where coalesce(taken.quantity, 0) <> coalesce(bought.quantity, 0)
               or coalesce(taken.released, 0) <> coalesce(bought.released, 0)
            union select sku from jumps
            "#,
            from,
            to,
        )
        .fetch_all(&mut *session)
        .await?;
        self.note(found, "ledger and orders do not add up");
        Ok(())
    }

    /// The stock is the last balance of the ledger.
    async fn check_stock(&mut self, session: &mut PgConnection) -> Result<(), sqlx::Error> {
        let found = sqlx::query_scalar!(
            r#"
            select inventory.sku
            from inventory
            where inventory.available <> coalesce(
                -- A row and its entry are written at one time, so that the days before need no look.
                (
                    select last.balance from inventory_ledger as last
                    where last.sku = inventory.sku and last.at >= inventory.updated_at
                    order by last.id desc
                    limit 1
                ),
                (
                    select last.balance from inventory_ledger as last
                    where last.sku = inventory.sku
                    order by last.id desc
                    limit 1
                ),
                0
            )
            "#,
        )
        .fetch_all(&mut *session)
        .await?;
        self.note(found, "stock and ledger do not add up");
        Ok(())
    }

    /// What is held is what reserved orders have.
    async fn check_held(&mut self, session: &mut PgConnection) -> Result<(), sqlx::Error> {
        let found = sqlx::query_scalar!(
            r#"
            with reserved as (
                select item.sku, sum(item.quantity) as quantity
                from holds
                cross join lateral (
                    select items from orders_now
                    where orders_now.order_id = holds.order_id and orders_now.status = 'reserved'
                    limit 1
                ) as orders
                cross join json_to_recordset(orders.items) as item (sku text, quantity bigint)
                group by item.sku
            )
            select sku as "sku!"
            from inventory full join reserved using (sku)
            where coalesce(inventory.held, 0) <> coalesce(reserved.quantity, 0)
            "#,
        )
        .fetch_all(&mut *session)
        .await?;
        self.note(found, "what is held and reserved orders do not add up");
        Ok(())
    }

    /// What customers have of SKUs with a limit is what is counted.
    async fn check_limits(
        &mut self,
        session: &mut PgConnection,
        time_max: Duration,
    ) -> Result<(), sqlx::Error> {
        let Some(found) = limits::check(session, time_max).await? else {
            let why =
                format!("limits per customer are not checked: it takes longer than {time_max:?}");
            if !self.is_too_much {
                tracing::warn!("{why}: run `hotrow-worker audit`");
            }
            self.is_too_much = true;
            self.said.push(why);
            return Ok(());
        };
        self.is_too_much = false;
        let what = "what customers have and what is counted do not add up";
        for (sku, customer) in &found {
            self.said.push(format!("{sku}: {what}: {customer}"));
        }
        let skus: BTreeSet<_> = found.into_iter().map(|(sku, _)| sku).collect();
        for sku in skus {
            self.break_law(&sku, what);
        }
        Ok(())
    }

    fn note(&mut self, skus: Vec<String>, what: &str) {
        for sku in skus {
            self.said.push(format!("{sku}: {what}"));
            self.break_law(&sku, what);
        }
    }

    fn break_law(&mut self, sku: &str, what: &str) {
        if self.broken.insert(sku.to_owned()) && !self.broken_before.contains(sku) {
            tracing::error!(sku, "{what}");
        }
    }
}

fn next_window(window: TimeDelta, took: Duration) -> TimeDelta {
    if took < WINDOW_WORK {
        (window * 2).min(WINDOW_MAX)
    } else if took > WINDOW_WORK * 4 {
        (window / 2).max(WINDOW_MIN)
    } else {
        window
    }
}
