//! All SQL of a settlement, and what its errors mean.
//!
//! The sequence matters and is the same for everybody: rows are locked in SKU order, and what is
//! settled already is read *after* the lock, in a statement of its own. Whoever held the lock
//! before us has committed by then, so two workers with the same envelope cannot both miss it.

use std::{
    collections::{BTreeMap, HashMap},
    time::Duration,
};

use chrono::{DateTime, Utc};
use hotrow_shared::{
    id::OrderId,
    order::Sku,
    outcome::{Reason, Status},
};
use sqlx::{PgConnection, PgExecutor};
use uuid::Uuid;

use super::decision::{Sold, Stock};

/// A settlement did not happen.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Nothing is wrong with the orders: the same again may work.
    #[error("not settled: {source}")]
    Transient {
        /// The kind of trouble, for the metric.
        cause: RetryCause,
        /// What the database said.
        source: sqlx::Error,
    },
    /// Whether it happened is not known: there was no answer in this time.
    #[error("no answer from the database within {0:?}")]
    NoAnswer(Duration),
    /// An order that a repeat is another name of was removed meanwhile.
    #[error("the order that a repeat names is gone")]
    Vanished,
    /// The database does not take one of the orders, and never will.
    #[error("refused by the database: {0}")]
    Refused(sqlx::Error),
}

/// Why a settlement is tried again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RetryCause {
    /// The connection broke or was not to be had.
    Connection,
    /// Two transactions could not be put in sequence.
    Serialization,
    /// Two transactions waited for each other.
    Deadlock,
    /// Somebody holds a row for too long.
    LockTimeout,
    /// The server is a standby now.
    ReadOnly,
    /// Another worker settled one of the orders at this moment.
    DuplicateKey,
    /// No answer in time.
    Timeout,
    /// Full disk, missing table, missing permission and the like: a person has to act.
    Other,
}

impl RetryCause {
    /// Every cause.
    pub const ALL: [Self; 8] = [
        Self::Connection,
        Self::Serialization,
        Self::Deadlock,
        Self::LockTimeout,
        Self::ReadOnly,
        Self::DuplicateKey,
        Self::Timeout,
        Self::Other,
    ];

    /// The value of the label.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Connection => "connection",
            Self::Serialization => "serialization",
            Self::Deadlock => "deadlock",
            Self::LockTimeout => "lock_timeout",
            Self::ReadOnly => "read_only",
            Self::DuplicateKey => "duplicate_key",
            Self::Timeout => "timeout",
            Self::Other => "other",
        }
    }
}

impl StoreError {
    /// Why the same again may work; none if it never will.
    #[must_use]
    pub fn retry_cause(&self) -> Option<RetryCause> {
        match self {
            Self::Transient { cause, .. } => Some(*cause),
            Self::NoAnswer(_) => Some(RetryCause::Timeout),
            Self::Vanished => Some(RetryCause::Serialization),
            Self::Refused(_) => None,
        }
    }
}

impl From<sqlx::Error> for StoreError {
    /// Only what PostgreSQL says *about the data* counts against an order: SQLSTATE classes 21, 22, 23, 44, 54
    /// and P0 (a trigger's `raise exception`). Anything unforeseen is tried again, because a dead letter for a
    /// sound order is worse than a batch that waits for a person.
    fn from(error: sqlx::Error) -> Self {
        let cause = match &error {
            sqlx::Error::Database(database) => match database.code().as_deref().unwrap_or_default()
            {
                "23505" => RetryCause::DuplicateKey,
                "40001" => RetryCause::Serialization,
                "40P01" => RetryCause::Deadlock,
                "55P03" => RetryCause::LockTimeout,
                "25006" => RetryCause::ReadOnly,
                "57014" => RetryCause::Timeout,
                code => match code.get(..2).unwrap_or_default() {
                    "21" | "22" | "23" | "44" | "54" | "P0" => return Self::Refused(error),
                    "08" | "57" => RetryCause::Connection,
                    _ => RetryCause::Other,
                },
            },
            sqlx::Error::Io(_)
            | sqlx::Error::PoolTimedOut
            | sqlx::Error::PoolClosed
            | sqlx::Error::Tls(_)
            | sqlx::Error::Protocol(_) => RetryCause::Connection,
            _ => RetryCause::Other,
        };
        Self::Transient {
            cause,
            source: error,
        }
    }
}

/// Locks the rows of the given SKUs, in their order, and reads them.
///
/// # Errors
/// See [`StoreError`].
pub async fn lock(
    connection: &mut PgConnection,
    skus: &[&str],
) -> Result<BTreeMap<Sku, Stock>, StoreError> {
    let rows = sqlx::query!(
        r#"
        select sku, available, unit_price_minor, currency, version
        from inventory
        where sku = any($1)
        order by sku
        for no key update
        "#,
        skus as &[&str],
    )
    .fetch_all(connection)
    .await?;
    let stock = rows.into_iter().filter_map(|row| {
        // A row with a name that no order can have was not written by us and cannot be asked for.
        let sku = Sku::try_from(row.sku.as_str()).ok()?;
        let stock = Stock {
            available: row.available,
            unit_price_minor: row.unit_price_minor,
            currency: row.currency,
            version: row.version,
        };
        Some((sku, stock))
    });
    Ok(stock.collect())
}

/// What is settled already.
#[derive(Debug, Default)]
pub struct Known {
    /// Which order each id names: itself, or the first order of an alias.
    pub first: HashMap<OrderId, OrderId>,
    /// Failed orders that were replayed: their rows are to be replaced.
    pub replayed: Vec<Uuid>,
}

/// Which of these ids are settled already.
///
/// # Errors
/// See [`StoreError`].
pub async fn known(connection: &mut PgConnection, ids: &[Uuid]) -> Result<Known, StoreError> {
    // One index look-up each, in the one partition of the id's day.
    let rows = sqlx::query!(
        r#"
        select asked.order_id as "order_id!", found.first_id as "first_id!", found.replayed as "replayed!"
        from unnest($1::uuid[]) as asked (order_id)
        cross join lateral (
            select case
                       when orders.alias_of is null then orders.order_id
                       -- The first order may be of a day that is no longer kept.
                       else coalesce(
                           (select first.order_id from orders as first where first.order_id = orders.alias_of),
                           orders.order_id
                       )
                   end as first_id,
                   orders.reason is not distinct from 'replayed' as replayed
            from orders
            where orders.order_id = asked.order_id
            limit 1
        ) as found
        "#,
        ids,
    )
    .fetch_all(connection)
    .await?;
    let mut known = Known::default();
    for row in rows {
        if row.replayed {
            known.replayed.push(row.order_id);
        } else {
            known.first.insert(
                OrderId::trusted(row.order_id),
                OrderId::trusted(row.first_id),
            );
        }
    }
    Ok(known)
}

/// Newly decided orders, a column each: what `unnest` makes rows of.
#[derive(Debug, Default)]
pub struct OrderRows<'a> {
    pub(super) ids: Vec<Uuid>,
    pub(super) statuses: Vec<&'static str>,
    pub(super) reasons: Vec<Option<&'static str>>,
    pub(super) customers: Vec<&'a str>,
    pub(super) items: Vec<String>,
    pub(super) totals: Vec<Option<i64>>,
    pub(super) currencies: Vec<Option<&'a str>>,
    pub(super) accepted: Vec<DateTime<Utc>>,
}

/// Writes what was decided: each sold SKU's row once, a ledger entry with the balance after it, and the orders.
///
/// # Errors
/// See [`StoreError`].
pub async fn write(
    connection: &mut PgConnection,
    settled_at: DateTime<Utc>,
    sold: &BTreeMap<&Sku, Sold>,
    rows: &OrderRows<'_>,
) -> Result<(), StoreError> {
    let skus: Vec<_> = sold.keys().map(|sku| sku.as_str()).collect();
    let quantities: Vec<_> = sold.values().map(|sold| sold.quantity).collect();
    let counts: Vec<_> = sold.values().map(|sold| sold.orders).collect();
    sqlx::query!(
        r#"
        with sold as (
            select * from unnest($1::text[], $2::bigint[], $3::integer[]) as sold (sku, quantity, orders)
        ),
        stock as (
            update inventory
            set available = inventory.available - sold.quantity, version = inventory.version + 1, updated_at = $4
            from sold
            where inventory.sku = sold.sku
            returning inventory.sku, sold.quantity, sold.orders, inventory.available
        ),
        ledger as (
            insert into inventory_ledger (sku, kind, delta, balance, orders, at)
            select sku, 'settlement', -quantity, available, orders, $4 from stock
        )
        insert into orders (order_id, status, reason, customer_id, items, total_minor, currency, accepted_at, settled_at)
        select order_id, status, reason, customer_id, items::json, total_minor, currency, accepted_at, $4
        from unnest($5::uuid[], $6::text[], $7::text[], $8::text[], $9::text[], $10::bigint[], $11::text[], $12::timestamptz[])
            as settled (order_id, status, reason, customer_id, items, total_minor, currency, accepted_at)
        "#,
        &skus as &[&str],
        &quantities,
        &counts,
        settled_at,
        &rows.ids,
        &rows.statuses as &[&str],
        &rows.reasons as &[Option<&str>],
        &rows.customers as &[&str],
        &rows.items,
        &rows.totals as &[Option<i64>],
        &rows.currencies as &[Option<&str>],
        &rows.accepted,
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Makes ids second names of orders that are settled, this transaction's own among them.
///
/// An alias has no items and no price of its own: it moves no stock and counts for nothing.
///
/// # Errors
/// See [`StoreError`]; among them that an order is gone, which is then decided anew.
pub async fn write_aliases(
    connection: &mut PgConnection,
    settled_at: DateTime<Utc>,
    aliases: &[(Uuid, Uuid)],
) -> Result<(), StoreError> {
    let (ids, firsts): (Vec<_>, Vec<_>) = aliases.iter().copied().unzip();
    let written = sqlx::query!(
        r#"
        insert into orders (order_id, status, reason, customer_id, items, accepted_at, settled_at, alias_of)
        select alias.order_id, orders.status, orders.reason, orders.customer_id, '[]', orders.accepted_at, $1, orders.order_id
        from unnest($2::uuid[], $3::uuid[]) as alias (order_id, first_id)
        join orders on orders.order_id = alias.first_id
        "#,
        settled_at,
        &ids,
        &firsts,
    )
    .execute(connection)
    .await?;
    if written.rows_affected() == aliases.len() as u64 {
        Ok(())
    } else {
        Err(StoreError::Vanished)
    }
}

/// Notes that an order is in the dead-letter queue, unless it is settled.
///
/// # Errors
/// See [`StoreError`].
pub async fn write_failed(
    executor: impl PgExecutor<'_>,
    id: Uuid,
    customer: &str,
    items: &str,
    accepted_at: DateTime<Utc>,
) -> Result<(), StoreError> {
    sqlx::query!(
        r#"
        insert into orders (order_id, status, reason, customer_id, items, accepted_at)
        values ($1, $2, $3, $4, $5::text::json, $6)
        on conflict on constraint orders_pkey do update set reason = excluded.reason where orders.status = 'failed'
        "#,
        id,
        Status::Failed.as_str(),
        Reason::DeadLettered.as_str(),
        customer,
        items,
        accepted_at,
    )
    .execute(executor)
    .await?;
    Ok(())
}

/// Notes that a failed order is queued again. Its row stays until it is settled, because later names
/// of the order may point at it.
///
/// # Errors
/// See [`StoreError`].
pub async fn mark_replayed(executor: impl PgExecutor<'_>, id: Uuid) -> Result<(), StoreError> {
    sqlx::query!(
        "update orders set reason = 'replayed' where order_id = $1 and status = 'failed'",
        id,
    )
    .execute(executor)
    .await?;
    Ok(())
}

/// Removes the rows of replayed orders that are being settled now.
///
/// # Errors
/// See [`StoreError`].
pub async fn remove_replayed(
    connection: &mut PgConnection,
    ids: &[Uuid],
) -> Result<(), StoreError> {
    sqlx::query!(
        "delete from orders where order_id = any($1) and reason = 'replayed'",
        ids
    )
    .execute(connection)
    .await?;
    Ok(())
}
