//! The one statement that writes a settlement: stock, ledger and orders together.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use hotrow_shared::order::Sku;
use sqlx::PgConnection;
use uuid::Uuid;

use super::StoreError;
use crate::stock::Sold;

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
}

/// Writes what was decided: each sold SKU's row once, a ledger entry with the balance after it, and the orders.
pub(crate) async fn write(
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
