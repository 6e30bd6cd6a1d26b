//! Growth: the same sale in a database that has settled ten million orders today.

use futures_util::future::try_join_all;
use hotrow_shared::id::{Day, IdMint};
use hotrow_tests::processes::ORDER_ID_SECRET;
use sqlx::{Connection, Executor, PgConnection};

use super::{
    Bench,
    sale::{Sale, at},
};
use crate::{report::figures::Round, shop::Shop};

/// Orders of today, evenly spread over its milliseconds, as buyers who came too late leave them: they
/// move no stock, so the books balance. New ids fall between theirs, which is harder for the index than
/// behind them.
const FILL: &str = "
    insert into orders (order_id, status, reason, customer_id, items, accepted_at, settled_at)
    select (lpad(to_hex(midnight.ms + number * 86399999 / $3), 12, '0') || substr(md5(number::text), 13))::uuid,
           'rejected', 'sold_out', 'c-' || lpad(to_hex(number), 16, '0'),
           '[{\"sku\":\"chair-123\",\"quantity\":1,\"unit_price_minor\":4990}]', now(), now()
    from generate_series($1::bigint, $2::bigint - 1) as stored (number),
         (select extract(epoch from date_trunc('day', now() at time zone 'utc'))::bigint * 1000 as ms) as midnight";

/// Connections that fill at the same time.
const FILLERS: u32 = 4;

/// A shop that is filled when it is first needed.
#[derive(Default)]
pub(crate) struct Warehouse(Option<Shop>);

impl Warehouse {
    async fn open(&mut self, sale: Sale, stored: u32) -> anyhow::Result<&Shop> {
        let shop = if let Some(shop) = self.0.take() {
            shop
        } else {
            let shop = sale.shop().await?;
            fill(&shop, stored).await?;
            shop
        };
        Ok(self.0.insert(shop))
    }

    /// Removes the shop, if it was needed.
    pub(crate) async fn close(self) -> anyhow::Result<()> {
        match self.0 {
            Some(shop) => shop.close().await,
            None => Ok(()),
        }
    }
}

/// One round.
pub(super) async fn round(bench: &mut Bench) -> anyhow::Result<Round> {
    let sale = Sale::hot(1_024);
    let mut warehouse = std::mem::take(&mut bench.warehouse);
    let shop = warehouse.open(sale, bench.conditions.stored).await?;
    let (round, _) = at(shop, bench, sale, None).await?;
    bench.warehouse = warehouse;
    Ok(round)
}

async fn fill(shop: &Shop, stored: u32) -> anyhow::Result<()> {
    let share = |filler| i64::from(stored) * i64::from(filler) / i64::from(FILLERS);
    try_join_all((0..FILLERS).map(async |filler| {
        let mut database = shop.database().await?;
        sqlx::query(FILL)
            .bind(share(filler))
            .bind(share(filler + 1))
            .bind(i64::from(stored))
            .execute(&mut database)
            .await?;
        database.close().await.map_err(anyhow::Error::from)
    }))
    .await?;
    let mut database: PgConnection = shop.database().await?;
    // The newest order has an id that the processes can read: without one they would not start.
    let last_ms = Day(Day::today().0 + 1).start_ms() - 1;
    let newest = IdMint::new(ORDER_ID_SECRET, None).mint(last_ms);
    sqlx::query(
        "insert into orders (order_id, status, reason, customer_id, items, accepted_at)
         values ($1, 'rejected', 'sold_out', 'c-newest', '[]', now())",
    )
    .bind(newest.uuid())
    .execute(&mut database)
    .await?;
    // As a table of this size is found, and nothing of the filling is left to be done later.
    database.execute("vacuum (analyze) orders").await?;
    database.execute("checkpoint").await?;
    Ok(())
}
