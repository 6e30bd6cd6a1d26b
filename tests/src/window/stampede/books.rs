//! What the database says of a stampede, and whether that is what the processes counted.

use serde::Serialize;
use sqlx::{FromRow, PgConnection};

/// All orders by what settling made of them, and all rows that settling wrote. Aliases are no orders.
const TOTALS: &str = "
    select count(*) as settled,
           count(*) filter (where status = 'confirmed') as confirmed,
           count(*) filter (where reason = 'limit_reached') as limit_reached,
           count(*) filter (where reason = 'sold_out') as sold_out,
           (select count(*) from inventory_ledger where kind = 'settlement') as row_writes
    from orders where alias_of is null";

/// What became of a product.
const SOLD: &str = "
    with bought as (
        select customer_id, sum((item ->> 'quantity')::bigint) as pieces
        from orders cross join lateral jsonb_array_elements(items::jsonb) as item
        where alias_of is null and status = 'confirmed' and item ->> 'sku' = $1
        group by customer_id
    )
    select coalesce(sum(pieces), 0)::bigint as pieces,
           (select available from inventory where sku = $1) as \"left\",
           coalesce(max(pieces), 0)::bigint as most_per_customer,
           count(*) as customers
    from bought";

/// Orders by their outcome, and rows written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, FromRow)]
pub(super) struct Totals {
    pub(super) settled: i64,
    pub(super) confirmed: i64,
    pub(super) limit_reached: i64,
    pub(super) sold_out: i64,
    pub(super) row_writes: i64,
}

/// A product after its stampede.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, FromRow)]
pub(super) struct Sold {
    pub(super) pieces: i64,
    pub(super) left: i64,
    pub(super) most_per_customer: i64,
    /// How many have any.
    pub(super) customers: i64,
}

/// One number, counted twice.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Compared {
    name: &'static str,
    /// By the processes.
    counted: i64,
    /// In the database.
    database: i64,
}

impl Totals {
    pub(super) async fn read(database: &mut PgConnection) -> anyhow::Result<Self> {
        Ok(sqlx::query_as(TOTALS).fetch_one(database).await?)
    }

    /// What was added since.
    pub(super) fn since(&self, before: &Self) -> Self {
        Self {
            settled: self.settled - before.settled,
            confirmed: self.confirmed - before.confirmed,
            limit_reached: self.limit_reached - before.limit_reached,
            sold_out: self.sold_out - before.sold_out,
            row_writes: self.row_writes - before.row_writes,
        }
    }
}

impl Sold {
    pub(super) async fn read(database: &mut PgConnection, sku: &str) -> anyhow::Result<Self> {
        Ok(sqlx::query_as(SOLD).bind(sku).fetch_one(database).await?)
    }
}

impl Compared {
    pub(super) const fn of(name: &'static str, counted: i64, database: i64) -> Self {
        Self {
            name,
            counted,
            database,
        }
    }

    /// What the processes counted beside what the database has, number by number.
    pub(super) fn all(counted: &Totals, database: &Totals) -> Vec<Self> {
        vec![
            Self::of("settled", counted.settled, database.settled),
            Self::of("confirmed", counted.confirmed, database.confirmed),
            Self::of(
                "limit_reached",
                counted.limit_reached,
                database.limit_reached,
            ),
            Self::of("sold_out", counted.sold_out, database.sold_out),
            Self::of("row_writes", counted.row_writes, database.row_writes),
        ]
    }

    pub(super) const fn is_equal(&self) -> bool {
        self.counted == self.database
    }
}
