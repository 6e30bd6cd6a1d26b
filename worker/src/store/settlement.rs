//! The one statement that writes a settlement: stock, ledger and orders together.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use hotrow_shared::order::Sku;
use sqlx::PgConnection;
use uuid::Uuid;

use super::StoreError;
use crate::stock::Moved;

/// Newly decided orders, a column each: what `unnest` makes rows of.
#[derive(Debug, Default)]
pub(crate) struct OrderRows<'a> {
    pub(crate) ids: Vec<Uuid>,
    pub(crate) statuses: Vec<&'static str>,
    pub(crate) reasons: Vec<Option<&'static str>>,
    pub(crate) customers: Vec<&'a str>,
    pub(crate) items: Vec<String>,
    pub(crate) totals: Vec<Option<i64>>,
    pub(crate) currencies: Vec<Option<&'a str>>,
    pub(crate) accepted: Vec<DateTime<Utc>>,
    pub(crate) expire: Vec<Option<DateTime<Utc>>>,
    pub(crate) extend_max: Vec<Option<DateTime<Utc>>>,
}

/// Writes what was decided: each moved SKU's row once, a ledger entry with the balance after it, and the new orders.
///
/// Goods that were held and are now paid leave `held` alone: that is no entry of the ledger.
pub(crate) async fn write(
    connection: &mut PgConnection,
    settled_at: DateTime<Utc>,
    moved: &BTreeMap<&Sku, Moved>,
    rows: &OrderRows<'_>,
) -> Result<(), StoreError> {
    let skus: Vec<_> = moved.keys().map(|sku| sku.as_str()).collect();
    let taken: Vec<_> = moved.values().map(|moved| moved.taken).collect();
    let released: Vec<_> = moved.values().map(|moved| moved.released).collect();
    let held: Vec<_> = moved.values().map(|moved| moved.held).collect();
    let counts: Vec<_> = moved.values().map(|moved| moved.orders).collect();
    sqlx::query!(
        r#"
        with moved as (
            select * from unnest($1::text[], $2::bigint[], $3::bigint[], $4::bigint[], $5::integer[])
                as moved (sku, taken, released, held, orders)
        ),
        stock as (
            update inventory
            set available = inventory.available - moved.taken + moved.released, held = inventory.held + moved.held,
                version = inventory.version + 1, updated_at = $6
            from moved
            where inventory.sku = moved.sku
            returning inventory.sku, moved.taken, moved.released, moved.orders, inventory.available
        ),
        ledger as (
            insert into inventory_ledger (sku, kind, delta, balance, orders, taken, released, at)
            select sku, 'settlement', released - taken, available, orders, taken, released, $6
            from stock
            where taken > 0 or released > 0
        )
        insert into orders (order_id, status, reason, customer_id, items, total_minor, currency, accepted_at, settled_at, expires_at, extend_max_at)
        select order_id, status, reason, customer_id, items::json, total_minor, currency, accepted_at, $6, expires_at, extend_max_at
        from unnest($7::uuid[], $8::text[], $9::text[], $10::text[], $11::text[], $12::bigint[], $13::text[], $14::timestamptz[], $15::timestamptz[], $16::timestamptz[])
            as settled (order_id, status, reason, customer_id, items, total_minor, currency, accepted_at, expires_at, extend_max_at)
        "#,
        &skus as &[&str],
        &taken,
        &released,
        &held,
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
        &rows.expire as &[Option<DateTime<Utc>>],
        &rows.extend_max as &[Option<DateTime<Utc>>],
    )
    .execute(connection)
    .await?;
    Ok(())
}
