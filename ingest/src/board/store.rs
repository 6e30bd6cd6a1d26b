//! All SQL that reads the inventory.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use hotrow_shared::{
    order::Sku,
    sale::{Rules, Window},
};
use sqlx::{PgExecutor, PgPool};

use super::stock::Stock;

/// A row of the inventory as it was at a time.
#[derive(Debug, Clone)]
pub(crate) struct Row {
    /// The product.
    pub(crate) sku: String,
    /// Its name for people.
    pub(crate) title: String,
    /// The price of one, in the currency's smallest unit.
    pub(crate) unit_price_minor: i64,
    /// ISO 4217.
    pub(crate) currency: String,
    /// What is free to sell.
    pub(crate) available: i64,
    /// What is held for orders that are not paid yet.
    pub(crate) held: i64,
    /// How long an order is held; none is confirmed at once.
    pub(crate) hold_seconds: Option<i32>,
    /// The end of all extensions of a hold, from its beginning.
    pub(crate) hold_seconds_max: Option<i32>,
    /// Pieces that one order may have.
    pub(crate) max_per_order: Option<i32>,
    /// Pieces that one customer may hold and have bought.
    pub(crate) max_per_customer: Option<i32>,
    /// The first moment of the sale.
    pub(crate) opens_at: Option<DateTime<Utc>>,
    /// The first moment after it.
    pub(crate) closes_at: Option<DateTime<Utc>>,
    /// Whether it is not sold for the moment.
    pub(crate) paused: bool,
    /// Counts the changes by administrators.
    pub(crate) edition: i64,
    /// Counts the writes of the row.
    pub(crate) version: i64,
    /// When it was read.
    pub(crate) as_of: DateTime<Utc>,
}

impl Row {
    /// Its stock alone.
    #[must_use]
    pub(crate) fn stock(&self) -> Stock {
        Stock {
            version: self.version,
            available: self.available,
            held: self.held,
        }
    }

    /// What an administrator said of it.
    #[must_use]
    pub(crate) fn rules(&self) -> Rules {
        Rules {
            edition: self.edition,
            unit_price_minor: self.unit_price_minor,
            currency: self.currency.clone(),
            max_per_order: self.max_per_order,
            max_per_customer: self.max_per_customer,
            window: Window {
                opens_at: self.opens_at,
                closes_at: self.closes_at,
            },
            is_paused: self.paused,
        }
    }
}

/// Reads one row.
///
/// # Errors
/// The database is out of reach.
pub(crate) async fn read(
    executor: impl PgExecutor<'_>,
    sku: &Sku,
) -> Result<Option<Row>, sqlx::Error> {
    sqlx::query_as!(
        Row,
        r#"
        select sku, title, unit_price_minor, currency, available, held, hold_seconds, hold_seconds_max,
               max_per_order, max_per_customer, opens_at, closes_at, paused, edition, version,
               clock_timestamp() as "as_of!"
        from inventory
        where sku = $1
        "#,
        sku.as_str(),
    )
    .fetch_optional(executor)
    .await
}

/// Reads up to `limit` rows behind a SKU, by SKU; behind an empty text from the first on.
///
/// # Errors
/// The database is out of reach.
pub(crate) async fn page(pool: &PgPool, after: &str, limit: i64) -> Result<Vec<Row>, sqlx::Error> {
    sqlx::query_as!(
        Row,
        r#"
        select sku, title, unit_price_minor, currency, available, held, hold_seconds, hold_seconds_max,
               max_per_order, max_per_customer, opens_at, closes_at, paused, edition, version,
               clock_timestamp() as "as_of!"
        from inventory
        where sku > $1
        order by sku
        limit $2
        "#,
        after,
        limit,
    )
    .fetch_all(pool)
    .await
}

/// SKUs, and the stock that each had when it was read last.
#[derive(Debug, Default)]
pub(super) struct AsRead {
    skus: Vec<String>,
    versions: Vec<i64>,
    available: Vec<i64>,
    held: Vec<i64>,
}

impl AsRead {
    /// Adds a SKU. One that was not read yet counts as changed.
    pub(super) fn push(&mut self, sku: &Sku, stock: Option<Stock>) {
        const NEVER_READ: Stock = Stock {
            version: i64::MIN,
            available: i64::MIN,
            held: i64::MIN,
        };
        let stock = stock.unwrap_or(NEVER_READ);
        self.skus.push(sku.as_str().to_owned());
        self.versions.push(stock.version);
        self.available.push(stock.available);
        self.held.push(stock.held);
    }
}

/// Reads those of the SKUs that are not as they were, by name; none where there is no such row any more. It is one look
/// at the primary key for each, and an answer for few.
///
/// # Errors
/// The database is out of reach.
pub(super) async fn changed(
    pool: &PgPool,
    as_read: &AsRead,
) -> Result<HashMap<String, Option<Row>>, sqlx::Error> {
    let changed = sqlx::query!(
        r#"
        select as_read.sku as "sku!", title as "title?", unit_price_minor as "unit_price_minor?",
               currency as "currency?", inventory.available as "available?", inventory.held as "held?",
               hold_seconds as "hold_seconds?", hold_seconds_max as "hold_seconds_max?",
               max_per_order as "max_per_order?", max_per_customer as "max_per_customer?", opens_at as "opens_at?",
               closes_at as "closes_at?", paused as "paused?", edition as "edition?",
               inventory.version as "version?", clock_timestamp() as "as_of!"
        from unnest($1::text[], $2::bigint[], $3::bigint[], $4::bigint[]) as as_read (sku, version, available, held)
        left join inventory on inventory.sku = as_read.sku
        where (inventory.version, inventory.available, inventory.held)
              is distinct from (as_read.version, as_read.available, as_read.held)
        "#,
        &as_read.skus,
        &as_read.versions,
        &as_read.available,
        &as_read.held,
    )
    .fetch_all(pool)
    .await?;
    let changed = changed.into_iter().map(|found| {
        let row = || {
            Some(Row {
                sku: found.sku.clone(),
                title: found.title?,
                unit_price_minor: found.unit_price_minor?,
                currency: found.currency?,
                available: found.available?,
                held: found.held?,
                hold_seconds: found.hold_seconds,
                hold_seconds_max: found.hold_seconds_max,
                max_per_order: found.max_per_order,
                max_per_customer: found.max_per_customer,
                opens_at: found.opens_at,
                closes_at: found.closes_at,
                paused: found.paused?,
                edition: found.edition?,
                version: found.version?,
                as_of: found.as_of,
            })
        };
        let row = row();
        (found.sku, row)
    });
    Ok(changed.collect())
}

/// SKUs that administrators changed lately, the latest first: news of it may be lost. A change of a few seconds may
/// come to an end only now.
///
/// # Errors
/// The database is out of reach.
pub(super) async fn changed_by_administrators(pool: &PgPool) -> Result<Vec<String>, sqlx::Error> {
    sqlx::query_scalar!(
        r#"
        select distinct subject
        from (
            select subject, action from audit_log
            where at > clock_timestamp() - interval '20 seconds'
            order by at desc
            limit 5000
        ) as latest
        where action like 'inventory.%'
        "#
    )
    .fetch_all(pool)
    .await
}

#[cfg(test)]
impl Row {
    /// The row of the SKU `hot`, read in 1970.
    pub(super) fn hot(version: i64, available: i64) -> Self {
        Self {
            sku: "hot".to_owned(),
            title: format!("title {version}"),
            unit_price_minor: 1,
            currency: "EUR".to_owned(),
            available,
            held: 0,
            hold_seconds: None,
            hold_seconds_max: None,
            max_per_order: None,
            max_per_customer: None,
            opens_at: None,
            closes_at: None,
            paused: false,
            edition: version,
            version,
            as_of: DateTime::UNIX_EPOCH,
        }
    }
}
