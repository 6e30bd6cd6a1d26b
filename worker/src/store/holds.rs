//! Holds: one row for each reserved order, the only place to look for what is due.

use chrono::{DateTime, TimeDelta, Utc};
use hotrow_shared::{id::OrderId, order::Sku};
use serde_json::value::RawValue;
use sqlx::{PgConnection, postgres::types::PgInterval};
use uuid::Uuid;

use super::StoreError;
use crate::standing::goods;

/// Notes the holds of newly reserved orders.
pub(crate) async fn write(
    connection: &mut PgConnection,
    holds: &[(Uuid, DateTime<Utc>)],
) -> Result<(), StoreError> {
    let (ids, expire): (Vec<_>, Vec<_>) = holds.iter().copied().unzip();
    sqlx::query!(
        r#"
        insert into holds (order_id, expires_at)
        select order_id, expires_at from unnest($1::uuid[], $2::timestamptz[]) as reserved (order_id, expires_at)
        "#,
        &ids,
        &expire,
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// What is held at a moment.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Held {
    /// Reserved orders.
    pub(crate) orders: i64,
    /// For how long the oldest hold that is due has been due, in seconds; negative while none is.
    pub(crate) oldest_due_seconds: f64,
    /// Unmatched payments that nobody has resolved.
    pub(crate) unmatched: i64,
}

/// Looks at what is held.
pub(crate) async fn held(connection: &mut PgConnection) -> Result<Held, sqlx::Error> {
    sqlx::query_as!(
        Held,
        r#"
        select (select count(*) from holds) as "orders!",
               coalesce(extract(epoch from clock_timestamp() - (select min(expires_at) from holds)), -1)::float8 as "oldest_due_seconds!",
               (select count(*) from unmatched_payments where resolved_at is null) as "unmatched!"
        "#
    )
    .fetch_one(connection)
    .await
}

/// The orders whose holds are over since `grace`, by the database's clock, those that are due longest first.
pub(crate) async fn due(
    connection: &mut PgConnection,
    grace: TimeDelta,
    limit: i64,
) -> Result<Vec<OrderId>, sqlx::Error> {
    let grace = PgInterval {
        months: 0,
        days: 0,
        microseconds: grace.num_microseconds().unwrap_or(i64::MAX),
    };
    let ids = sqlx::query_scalar!(
        r#"
        select order_id from holds
        where expires_at <= clock_timestamp() - $1::interval
        order by expires_at
        limit $2
        "#,
        grace,
        limit,
    )
    .fetch_all(connection)
    .await?;
    Ok(ids.into_iter().map(OrderId::trusted).collect())
}

/// The SKUs of orders.
pub(crate) async fn skus(
    connection: &mut PgConnection,
    ids: &[OrderId],
) -> Result<Vec<(OrderId, Vec<Sku>)>, sqlx::Error> {
    let ids: Vec<_> = ids.iter().map(|id| id.uuid()).collect();
    let rows = sqlx::query!(
        r#"
        select asked.order_id as "order_id!", orders.items::text as "items!"
        from unnest($1::uuid[]) as asked (order_id)
        cross join lateral (select items from orders where orders.order_id = asked.order_id limit 1) as orders
        "#,
        &ids,
    )
    .fetch_all(connection)
    .await?;
    let order = |row: (Uuid, String)| {
        let order_id = OrderId::trusted(row.0);
        let goods = RawValue::from_string(row.1).and_then(|items| goods(&items));
        match goods {
            Ok(goods) => {
                let skus = goods.into_iter().map(|goods| goods.sku).collect();
                Some((order_id, skus))
            }
            Err(error) => {
                tracing::error!(%order_id, %error, "the items of an order cannot be read: its hold does not end");
                None
            }
        }
    };
    let rows = rows.into_iter();
    Ok(rows
        .filter_map(|row| order((row.order_id, row.items)))
        .collect())
}
