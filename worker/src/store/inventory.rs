//! The inventory: its rows are locked before anything is decided. The settlement's statement writes them.

use std::collections::BTreeMap;

use hotrow_shared::order::Sku;
use sqlx::PgConnection;

use super::StoreError;
use crate::stock::Stock;

/// Locks the rows of the given SKUs, in their order, and reads them.
pub(crate) async fn lock(
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
