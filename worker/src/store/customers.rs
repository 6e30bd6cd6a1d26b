//! What customers have of SKUs with a limit per customer. Read and written behind the locks of those SKUs' rows alone.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use hotrow_shared::order::Sku;
use sqlx::PgConnection;

use super::StoreError;

/// What customers have, by SKU and customer. Who is not there has nothing.
pub(crate) type Counts = HashMap<Sku, HashMap<String, i64>>;

/// Customers and SKUs, a column each: what `unnest` makes rows of.
#[derive(Debug, Default)]
pub(crate) struct CustomerRows<'a> {
    pub(crate) skus: Vec<&'a str>,
    pub(crate) customers: Vec<&'a str>,
    /// When the limit of the SKU began.
    pub(crate) since: Vec<DateTime<Utc>>,
}

/// What these customers have of these SKUs, as far as the limits that hold now count it.
pub(crate) async fn counts(
    connection: &mut PgConnection,
    asked: &CustomerRows<'_>,
) -> Result<Counts, StoreError> {
    let rows = sqlx::query!(
        r#"
        select asked.sku as "sku!", asked.customer_id as "customer_id!", goods.quantity
        from unnest($1::text[], $2::text[], $3::timestamptz[]) as asked (sku, customer_id, since)
        -- One look at the primary key each: a join would be planned once, while the table is empty.
        cross join lateral (
            select quantity from customer_goods
            where customer_goods.sku = asked.sku and customer_goods.customer_id = asked.customer_id
              and customer_goods.since = asked.since
            limit 1
        ) as goods
        "#,
        &asked.skus as &[&str],
        &asked.customers as &[&str],
        &asked.since,
    )
    .fetch_all(connection)
    .await?;
    let mut counts = Counts::new();
    for row in rows {
        if let Ok(sku) = Sku::try_from(row.sku.as_str()) {
            let customers = counts.entry(sku).or_default();
            customers.insert(row.customer_id, row.quantity);
        }
    }
    Ok(counts)
}

/// Adds to what customers have, or takes from it.
pub(crate) async fn write(
    connection: &mut PgConnection,
    counted: &CustomerRows<'_>,
    quantities: &[i64],
) -> Result<(), StoreError> {
    sqlx::query!(
        r#"
        insert into customer_goods as goods (sku, customer_id, since, quantity)
        select * from unnest($1::text[], $2::text[], $3::timestamptz[], $4::bigint[])
        on conflict on constraint customer_goods_pkey do update
        set quantity = case when goods.since = excluded.since then goods.quantity else 0 end + excluded.quantity,
            since = excluded.since
        "#,
        &counted.skus as &[&str],
        &counted.customers as &[&str],
        &counted.since,
        quantities,
    )
    .execute(connection)
    .await?;
    Ok(())
}
