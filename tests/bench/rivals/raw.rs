//! The database alone: what one connection settles of one product when nothing else costs anything.
//!
//! The statements are a settlement's: lock the row, look for known ids, and write stock, ledger and
//! orders at once. Nothing is decided, nothing is read from a queue, and the same customers and
//! items are sent again and again.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use sqlx::{Connection, PgConnection, postgres::PgConnectOptions};
use uuid::Uuid;

use super::store::SESSION;
use crate::goods::HOT;

/// Orders in one transaction.
const BATCH: usize = 1_000;

const LOCK: &str = "
    select available, unit_price_minor, currency, version from inventory where sku = any($1) order by sku
    for no key update";
const KNOWN: &str = "
    select asked.order_id
    from unnest($1::uuid[]) as asked (order_id)
    cross join lateral (
        select from orders where orders.order_id = asked.order_id limit 1
    ) as found";
const WRITE: &str = "
    with stock as (
        update inventory set available = available - $2, version = version + 1, updated_at = now()
        where sku = $1
        returning available
    ),
    ledger as (
        insert into inventory_ledger (sku, kind, delta, balance, orders)
        select $1, 'settlement', -$2, available, $2 from stock
    )
    insert into orders (order_id, status, customer_id, items, total_minor, currency, accepted_at, settled_at)
    select order_id, 'confirmed', customer_id, items::json, 4990, 'EUR', now(), now()
    from unnest($3::uuid[], $4::text[], $5::text[]) as settled (order_id, customer_id, items)";

/// What was settled.
pub(crate) struct Settled {
    /// Orders per second of the measured part.
    pub(crate) per_second: f64,
    /// Every order.
    pub(crate) orders: Vec<Uuid>,
}

/// Settles batches on one connection, in a database with Hotrow's tables and plenty of the hot product.
pub(crate) async fn settle(
    database_url: &str,
    warm_up: Duration,
    measured: Duration,
) -> anyhow::Result<Settled> {
    let options: PgConnectOptions = database_url.parse()?;
    let mut database = PgConnection::connect_with(&options.options(SESSION)).await?;
    let customers: Vec<_> = (0..BATCH)
        .map(|number| format!("c-{number:016x}"))
        .collect();
    let item = format!(r#"[{{"sku":"{HOT}","quantity":1,"unit_price_minor":4990}}]"#);
    let items = vec![item; BATCH];

    let mut orders = Vec::new();
    let mut counted = 0;
    let started = Instant::now();
    loop {
        let ids: Vec<_> = (0..BATCH).map(|_| order_id()).collect();
        settle_batch(&mut database, &ids, &customers, &items).await?;
        orders.extend(ids);
        let at = started.elapsed();
        if at >= warm_up + measured {
            break;
        }
        if at >= warm_up {
            counted += BATCH;
        }
    }
    database.close().await?;
    #[expect(clippy::cast_precision_loss, reason = "a rate for people to read")]
    let per_second = counted as f64 / measured.as_secs_f64();
    Ok(Settled { per_second, orders })
}

async fn settle_batch(
    database: &mut PgConnection,
    ids: &[Uuid],
    customers: &[String],
    items: &[String],
) -> sqlx::Result<()> {
    let mut transaction = database.begin().await?;
    let lock = sqlx::query(LOCK).bind([HOT]);
    lock.fetch_all(&mut *transaction).await?;
    let known = sqlx::query(KNOWN).bind(ids);
    known.fetch_all(&mut *transaction).await?;
    sqlx::query(WRITE)
        .bind(HOT)
        .bind(i32::try_from(ids.len()).unwrap_or(i32::MAX))
        .bind(ids)
        .bind(customers)
        .bind(items)
        .execute(&mut *transaction)
        .await?;
    transaction.commit().await
}

/// A new id of today.
fn order_id() -> Uuid {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let now_ms = now.unwrap_or_default().as_millis();
    Uuid::from_u128(now_ms << 80 | Uuid::new_v4().as_u128() >> 48)
}
