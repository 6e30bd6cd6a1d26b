//! All SQL that changes the inventory.

use std::{io, time::Duration};

use hotrow_shared::{event::Cause, order::Sku};
use sqlx::{PgPool, Postgres, Transaction, error::DatabaseError};
use tokio::time::timeout;

use super::bodies::{Change, PatchBody, PutBody, Sale};
use crate::{
    board::store::{Row, read},
    outbox::Outbox,
};

/// How long a change may take until it is committed. Its row may be locked by others.
const CHANGE_TIME_MAX: Duration = Duration::from_secs(10);
/// How long the database may take to say that it has committed.
const COMMIT_TIME_MAX: Duration = Duration::from_secs(5);

/// A change did not come to a good end.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ChangeError {
    /// It was not made: the database has not been asked to commit it, or has refused to.
    #[error("the inventory was not changed: {0}")]
    NotMade(sqlx::Error),
    /// It may or may not be made: the answer to the commit was lost.
    #[error("the inventory may or may not be changed: {0}")]
    Unknown(sqlx::Error),
}

impl From<sqlx::Error> for ChangeError {
    fn from(error: sqlx::Error) -> Self {
        Self::NotMade(error)
    }
}

/// Creates or replaces a product, and enters the difference of the stock in the ledger. Also tells whether it is new.
///
/// # Errors
/// See [`ChangeError`].
pub(crate) async fn put(
    pool: &PgPool,
    outbox: Outbox,
    sku: &Sku,
    product: &PutBody,
) -> Result<(Row, bool), ChangeError> {
    let putting = begin_put(pool, outbox, sku, product);
    let (transaction, put) = in_time(CHANGE_TIME_MAX, putting).await?;
    commit(transaction).await?;
    Ok(put)
}

async fn begin_put(
    pool: &PgPool,
    outbox: Outbox,
    sku: &Sku,
    product: &PutBody,
) -> Result<(Transaction<'static, Postgres>, (Row, bool)), sqlx::Error> {
    let mut transaction = pool.begin().await?;
    // An empty row first: then there is always one to lock, and two who create it wait for each other.
    let created = sqlx::query!(
        r#"
        insert into inventory (sku, title, unit_price_minor, currency, available, version)
        values ($1, '', 0, '', 0, 0)
        on conflict on constraint inventory_pkey do nothing
        "#,
        sku.as_str(),
    )
    .execute(&mut *transaction)
    .await?;
    let keeps_sale = product.sale == Change::Keep;
    let sale = product.sale.applied_to(None).unwrap_or_default();
    let row = sqlx::query_as!(
        Row,
        r#"
        with before as (
            select sku, available from inventory where sku = $1 for no key update
        ),
        replaced as (
            update inventory
            set title = $2, unit_price_minor = $3, currency = $4, available = $5,
                hold_seconds = case when $6 then inventory.hold_seconds else $7 end,
                hold_seconds_max = case when $6 then inventory.hold_seconds_max else $8 end,
                version = inventory.version + 1, updated_at = now()
            from before
            where inventory.sku = before.sku
            returning inventory.*, $5 - before.available as delta
        ),
        entry as (
            insert into inventory_ledger (sku, kind, delta, balance) select sku, 'put', delta, available from replaced
        )
        select sku, title, unit_price_minor, currency, available, held, hold_seconds, hold_seconds_max, version,
               clock_timestamp() as "as_of!" from replaced
        "#,
        sku.as_str(),
        product.title,
        product.unit_price_minor,
        product.currency,
        product.available,
        keeps_sale,
        sale.hold_seconds,
        sale.hold_seconds_max,
    )
    .fetch_one(&mut *transaction)
    .await?;
    outbox.tell(&mut transaction, &row, Cause::Put).await?;
    Ok((transaction, (row, created.rows_affected() == 1)))
}

/// What became of a patch.
#[derive(Debug)]
pub(crate) enum Patched {
    /// It was made.
    Done(Row),
    /// There is no such product.
    UnknownSku,
    /// The rules of the sale would contradict each other, and so.
    Contradiction(&'static str),
}

/// Changes what of a product is named, and leaves its stock alone.
///
/// # Errors
/// See [`ChangeError`].
pub(crate) async fn patch(
    pool: &PgPool,
    outbox: Outbox,
    sku: &Sku,
    change: &PatchBody,
) -> Result<Patched, ChangeError> {
    let patching = begin_patch(pool, outbox, sku, change);
    let (transaction, patched) = in_time(CHANGE_TIME_MAX, patching).await?;
    if matches!(patched, Patched::Done(_)) {
        commit(transaction).await?;
    }
    Ok(patched)
}

async fn begin_patch(
    pool: &PgPool,
    outbox: Outbox,
    sku: &Sku,
    change: &PatchBody,
) -> Result<(Transaction<'static, Postgres>, Patched), sqlx::Error> {
    let mut transaction = pool.begin().await?;
    let locked = sqlx::query!(
        "select hold_seconds, hold_seconds_max from inventory where sku = $1 for no key update",
        sku.as_str()
    );
    let Some(before) = locked.fetch_optional(&mut *transaction).await? else {
        return Ok((transaction, Patched::UnknownSku));
    };
    let before = Sale {
        hold_seconds: before.hold_seconds,
        hold_seconds_max: before.hold_seconds_max,
    };
    let sale = match change.sale {
        Change::Keep => before,
        Change::Remove => Sale::default(),
        Change::Set(change) => change.applied_to(before),
    };
    if let Some(contradiction) = sale.contradiction() {
        return Ok((transaction, Patched::Contradiction(contradiction)));
    }
    sqlx::query!(
        r#"
        update inventory
        set title = coalesce($2, title), unit_price_minor = coalesce($3, unit_price_minor), hold_seconds = $4,
            hold_seconds_max = $5, version = version + 1, updated_at = now()
        where sku = $1
        "#,
        sku.as_str(),
        change.title,
        change.unit_price_minor,
        sale.hold_seconds,
        sale.hold_seconds_max,
    )
    .execute(&mut *transaction)
    .await?;
    let Some(row) = read(&mut *transaction, sku).await? else {
        return Ok((transaction, Patched::UnknownSku));
    };
    outbox.tell(&mut transaction, &row, Cause::Patch).await?;
    Ok((transaction, Patched::Done(row)))
}

/// What became of a restock.
#[derive(Debug)]
pub(crate) enum Restocked {
    /// It was applied, now or when the same key came first.
    Done(Row),
    /// There is no such product.
    UnknownSku,
    /// The stock would fall below zero, or above what a number can hold. This is the stock.
    OutOfBounds(i64),
    /// The key was used for another quantity.
    Mismatch,
}

/// Adds to the stock, or takes from it, and enters it in the ledger; with a key, once for as long as orders are kept.
///
/// # Errors
/// See [`ChangeError`].
pub(crate) async fn restock(
    pool: &PgPool,
    outbox: Outbox,
    sku: &Sku,
    quantity: i64,
    key: Option<&str>,
    available_max: i64,
) -> Result<Restocked, ChangeError> {
    let restock = begin_restock(pool, outbox, sku, quantity, key, available_max);
    let (transaction, restocked) = in_time(CHANGE_TIME_MAX, restock).await?;
    // Nothing to commit where nothing was changed, and then nothing is unknown.
    if matches!(restocked, Restocked::Done(_)) {
        commit(transaction).await?;
    }
    Ok(restocked)
}

async fn begin_restock(
    pool: &PgPool,
    outbox: Outbox,
    sku: &Sku,
    quantity: i64,
    key: Option<&str>,
    available_max: i64,
) -> Result<(Transaction<'static, Postgres>, Restocked), sqlx::Error> {
    let mut transaction = pool.begin().await?;
    let locked = sqlx::query!(
        "select available from inventory where sku = $1 for no key update",
        sku.as_str()
    );
    let Some(before) = locked.fetch_optional(&mut *transaction).await? else {
        return Ok((transaction, Restocked::UnknownSku));
    };
    // Behind the lock: whoever brought the same key first has committed. The release before writes
    // keys into the ledger alone.
    let first = sqlx::query_scalar!(
        r#"
        select delta as "delta!" from restock_keys where sku = $1 and idempotency_key = $2
        union all
        select delta from inventory_ledger where sku = $1 and idempotency_key = $2 and idempotency_key is not null
        limit 1
        "#,
        sku.as_str(),
        key,
    );
    let first = first.fetch_optional(&mut *transaction).await?;
    match first {
        Some(delta) if delta != quantity => return Ok((transaction, Restocked::Mismatch)),
        Some(_) => {}
        None if !(0..=available_max).contains(&(before.available + quantity)) => {
            return Ok((transaction, Restocked::OutOfBounds(before.available)));
        }
        None => {
            sqlx::query!(
                r#"
                with restocked as (
                    update inventory
                    set available = available + $2, version = version + 1, updated_at = now()
                    where sku = $1
                    returning sku, available
                ),
                named as (
                    insert into restock_keys (sku, idempotency_key, delta)
                    select sku, $3, $2 from restocked where $3::text is not null
                )
                insert into inventory_ledger (sku, kind, delta, balance, idempotency_key)
                select sku, 'restock', $2, available, $3 from restocked
                "#,
                sku.as_str(),
                quantity,
                key,
            )
            .execute(&mut *transaction)
            .await?;
        }
    }
    let Some(row) = read(&mut *transaction, sku).await? else {
        return Ok((transaction, Restocked::UnknownSku));
    };
    if first.is_none() {
        outbox.tell(&mut transaction, &row, Cause::Restock).await?;
    }
    Ok((transaction, Restocked::Done(row)))
}

/// Bounds the time of work that is undone if it is given up.
async fn in_time<T>(
    limit: Duration,
    work: impl Future<Output = Result<T, sqlx::Error>>,
) -> Result<T, sqlx::Error> {
    let done = timeout(limit, work).await;
    done.unwrap_or_else(|_| Err(io::Error::from(io::ErrorKind::TimedOut).into()))
}

/// Commits. An answer that does not come, or that says that the server is going away, says nothing about
/// the change.
async fn commit(transaction: Transaction<'static, Postgres>) -> Result<(), ChangeError> {
    let committed = in_time(COMMIT_TIME_MAX, transaction.commit()).await;
    committed.map_err(|error| {
        let code = error.as_database_error().and_then(DatabaseError::code);
        let is_refusal = code.is_some_and(|code| !matches!(code.get(..2), Some("08" | "57")));
        if is_refusal {
            ChangeError::NotMade(error)
        } else {
            ChangeError::Unknown(error)
        }
    })
}
