//! All SQL of the inventory routes.

use chrono::{DateTime, Utc};
use hotrow_shared::order::Sku;
use sqlx::{PgExecutor, PgPool};

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
    /// What is left.
    pub(crate) available: i64,
    /// Counts the writes of the row.
    pub(crate) version: i64,
    /// When it was read.
    pub(crate) as_of: DateTime<Utc>,
}

/// What an administrator says of a product.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Product<'a> {
    /// Its name for people.
    pub(crate) title: &'a str,
    /// The price of one, in the currency's smallest unit.
    pub(crate) unit_price_minor: i64,
    /// ISO 4217.
    pub(crate) currency: &'a str,
    /// What is left.
    pub(crate) available: i64,
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
        select sku, title, unit_price_minor, currency, available, version, clock_timestamp() as "as_of!"
        from inventory
        where sku = $1
        "#,
        sku.as_str(),
    )
    .fetch_optional(executor)
    .await
}

/// Reads up to `limit` rows behind a SKU, by SKU.
///
/// # Errors
/// The database is out of reach.
pub(crate) async fn page(
    pool: &PgPool,
    after: Option<&Sku>,
    limit: i64,
) -> Result<Vec<Row>, sqlx::Error> {
    sqlx::query_as!(
        Row,
        r#"
        select sku, title, unit_price_minor, currency, available, version, clock_timestamp() as "as_of!"
        from inventory
        where sku > $1
        order by sku
        limit $2
        "#,
        after.map_or("", Sku::as_str),
        limit,
    )
    .fetch_all(pool)
    .await
}

/// Creates or replaces a product, and enters the difference of the stock in the ledger. Also tells whether it is new.
///
/// # Errors
/// The database is out of reach.
pub(crate) async fn put(
    pool: &PgPool,
    sku: &Sku,
    product: Product<'_>,
) -> Result<(Row, bool), sqlx::Error> {
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
    let row = sqlx::query_as!(
        Row,
        r#"
        with before as (
            select sku, available from inventory where sku = $1 for no key update
        ),
        replaced as (
            update inventory
            set title = $2, unit_price_minor = $3, currency = $4, available = $5,
                version = inventory.version + 1, updated_at = now()
            from before
            where inventory.sku = before.sku
            returning inventory.*, $5 - before.available as delta
        ),
        entry as (
            insert into inventory_ledger (sku, kind, delta, balance) select sku, 'put', delta, available from replaced
        )
        select sku, title, unit_price_minor, currency, available, version, clock_timestamp() as "as_of!" from replaced
        "#,
        sku.as_str(),
        product.title,
        product.unit_price_minor,
        product.currency,
        product.available,
    )
    .fetch_one(&mut *transaction)
    .await?;
    transaction.commit().await?;
    Ok((row, created.rows_affected() == 1))
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

/// Adds to the stock, or takes from it, and enters it in the ledger; with a key, once.
///
/// # Errors
/// The database is out of reach.
pub(crate) async fn restock(
    pool: &PgPool,
    sku: &Sku,
    quantity: i64,
    key: Option<&str>,
    available_max: i64,
) -> Result<Restocked, sqlx::Error> {
    let mut transaction = pool.begin().await?;
    let locked = sqlx::query!(
        "select available from inventory where sku = $1 for no key update",
        sku.as_str()
    );
    let Some(before) = locked.fetch_optional(&mut *transaction).await? else {
        return Ok(Restocked::UnknownSku);
    };
    // Behind the lock: whoever brought the same key first has committed.
    let first = sqlx::query_scalar!(
        "select delta from inventory_ledger where sku = $1 and idempotency_key = $2 and idempotency_key is not null",
        sku.as_str(),
        key,
    );
    match first.fetch_optional(&mut *transaction).await? {
        Some(delta) if delta != quantity => return Ok(Restocked::Mismatch),
        Some(_) => {}
        None if !(0..=available_max).contains(&(before.available + quantity)) => {
            return Ok(Restocked::OutOfBounds(before.available));
        }
        None => {
            sqlx::query!(
                r#"
                with restocked as (
                    update inventory
                    set available = available + $2, version = version + 1, updated_at = now()
                    where sku = $1
                    returning sku, available
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
    let row = read(&mut *transaction, sku).await?;
    transaction.commit().await?;
    Ok(row.map_or(Restocked::UnknownSku, Restocked::Done))
}
