//! The rivals' tables, their connections, and their conservation law.

use std::env;

use anyhow::{Context, ensure};
use sqlx::{
    Connection, Executor, FromRow, PgConnection, PgPool,
    postgres::{PgConnectOptions, PgPoolOptions},
};
use uuid::Uuid;

/// As small as such tables are, and no slower than they need be: room for HOT updates on the hot row's
/// page, one index on the orders.
const SCHEMA: &str = "
    create table stock (
        sku text collate \"C\" primary key,
        unit_price_minor bigint not null,
        available bigint not null check (available >= 0)
    ) with (fillfactor = 20);
    create table orders (
        order_id uuid primary key,
        status text not null,
        customer_id text not null,
        items json not null,
        quantity bigint not null,
        total_minor bigint not null,
        settled_at timestamptz not null default now()
    )";

/// The same settings as Hotrow's: plans are kept, and none was made for the empty table.
pub(super) const SESSION: [(&str, &str); 3] = [
    ("enable_seqscan", "off"),
    ("plan_cache_mode", "force_generic_plan"),
    ("jit", "off"),
];

const CONNECTIONS: u32 = 32;

/// What must be true of one product when all is answered.
const LAW: &str = "
    select (select sum(available) from stock)::bigint as available,
           (select coalesce(sum(quantity), 0) from orders where status = 'confirmed')::bigint as sold,
           (select count(*) from unnest($1::uuid[]) as accepted (order_id)
            where not exists (select from orders where orders.order_id = accepted.order_id)) as lost";

/// Makes the tables, and puts one product up for sale.
pub(crate) async fn open_shop(database_url: &str, sku: &str, stock: i64) -> anyhow::Result<()> {
    let mut database = PgConnection::connect(database_url).await?;
    database.execute(SCHEMA).await?;
    sqlx::query("insert into stock (sku, unit_price_minor, available) values ($1, 4990, $2)")
        .bind(sku)
        .bind(stock)
        .execute(&mut database)
        .await?;
    Ok(database.close().await?)
}

#[derive(Debug, FromRow)]
struct Books {
    available: i64,
    sold: i64,
    lost: i64,
}

/// Checks that every accepted order is there and confirmed, one piece each, and that what was sold is
/// what left the stock.
pub(crate) async fn check(database_url: &str, stock: i64, accepted: &[Uuid]) -> anyhow::Result<()> {
    let mut database = PgConnection::connect(database_url).await?;
    let law = sqlx::query_as(LAW).bind(accepted);
    let books: Books = law.fetch_one(&mut database).await?;
    database.close().await?;
    let orders = i64::try_from(accepted.len())?;
    ensure!(
        books.lost == 0 && books.sold == orders && books.available + books.sold == stock,
        "the conservation law is broken: {books:?} of {stock}, after {orders} orders"
    );
    Ok(())
}

/// The pool of a rival process.
pub(super) fn pool() -> anyhow::Result<PgPool> {
    let url = env::var("DATABASE_URL").context("a rival needs DATABASE_URL")?;
    let options: PgConnectOptions = url.parse()?;
    let pool = PgPoolOptions::new()
        .max_connections(CONNECTIONS)
        .min_connections(CONNECTIONS)
        // A ping before each use would double the round trips of the faster rival.
        .test_before_acquire(false);
    Ok(pool.connect_lazy_with(options.options(SESSION)))
}
