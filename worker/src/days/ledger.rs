//! The end of the ledger: old days are summed up before they are dropped.

use std::time::Duration;

use hotrow_shared::id::Day;
use sqlx::{Connection, PgConnection};
use tokio::time::sleep;

use super::parts::{Table, attached, execute};

/// How long the entries of old days may take to be summed up. Nobody waits for its locks, but an open
/// transaction keeps every old version of the hot rows from being pruned, so it is not to be repeated for long.
const SUM_MAX: &str = "10min";

/// How long emptying old days may wait for their readers, and make later readers wait.
const EMPTY_WAIT_MAX: &str = "1s";

/// How often that is tried, with the same pause in between, before the sums are thrown away.
const EMPTY_ATTEMPTS: u32 = 5;

const EMPTY_PAUSE: Duration = Duration::from_secs(1);

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
pub(super) async fn sum_up(connection: &mut PgConnection, oldest: Day) -> Result<(), sqlx::Error> {
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
        insert into inventory_ledger (id, sku, kind, delta, balance, orders, idempotency_key, taken, released, at)
        select max(id), sku, 'opening', sum(delta)::bigint, (array_agg(balance order by id desc))[1], 0, null::text, null::bigint, null::bigint, {start}::timestamptz
        from gone
        where not is_between
        group by sku
        having sum(delta) <> 0 or (array_agg(balance order by id desc))[1] <> 0
        union all
        select id, sku, kind, delta, balance, orders, idempotency_key, taken, released, {start}::timestamptz from gone where is_between
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
