//! The inventory: its rows are locked before anything is decided. The settlement's statement writes them.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use hotrow_shared::{
    order::{Sku, longest_hold},
    sale::Window,
};
use sqlx::PgConnection;

use super::StoreError;
use crate::stock::{CustomerLimit, Hold, Rules, Stock};

/// Rows that are locked until the end of the transaction.
pub(crate) struct Locked {
    /// The rows of the known SKUs.
    pub(crate) stock: BTreeMap<Sku, Stock>,
    /// When the last of them was locked, by the database's clock: the time of whatever happens to them now.
    pub(crate) at: DateTime<Utc>,
}

/// Locks the rows of the given SKUs, in their order, and reads them and the time.
pub(crate) async fn lock(
    connection: &mut PgConnection,
    skus: &[&str],
) -> Result<Locked, StoreError> {
    // One row at least, so that the time comes for SKUs that nobody knows, too.
    let rows = sqlx::query!(
        r#"
        with locked as (
            select sku, available, held, unit_price_minor, currency, hold_seconds, hold_seconds_max, max_per_order,
                   max_per_customer, limited_since, opens_at, closes_at, version
            from inventory
            where sku = any($1)
            order by sku
            for no key update
        )
        select sku as "sku?", available as "available?", held as "held?", unit_price_minor as "unit_price_minor?",
               currency as "currency?", hold_seconds, hold_seconds_max, max_per_order, max_per_customer,
               limited_since, opens_at, closes_at, version as "version?", clock_timestamp() as "at!"
        from (values (1)) as always (one)
        left join locked on true
        "#,
        skus as &[&str],
    )
    .fetch_all(connection)
    .await?;
    let mut locked = Locked {
        stock: BTreeMap::new(),
        at: DateTime::default(),
    };
    for row in rows {
        locked.at = locked.at.max(row.at);
        let (
            Some(sku),
            Some(available),
            Some(held),
            Some(unit_price_minor),
            Some(currency),
            Some(version),
        ) = (
            row.sku,
            row.available,
            row.held,
            row.unit_price_minor,
            row.currency,
            row.version,
        )
        else {
            continue;
        };
        // A row with a name that no order can have was not written by us and cannot be asked for.
        let Ok(sku) = Sku::try_from(sku.as_str()) else {
            continue;
        };
        let stock = Stock {
            available,
            held,
            unit_price_minor,
            currency,
            hold: row.hold_seconds.map(|seconds| Hold {
                seconds,
                seconds_max: longest_hold(seconds, row.hold_seconds_max),
            }),
            rules: Rules {
                window: Window {
                    opens_at: row.opens_at,
                    closes_at: row.closes_at,
                },
                max_per_order: row.max_per_order,
                limit: row
                    .max_per_customer
                    .zip(row.limited_since)
                    .map(|(pieces, since)| CustomerLimit { pieces, since }),
            },
            version,
        };
        locked.stock.insert(sku, stock);
    }
    Ok(locked)
}
