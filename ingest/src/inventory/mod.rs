//! The inventory: what clients see of it, and what administrators change.

mod bodies;
pub(crate) mod handler;
pub(crate) mod store;

use std::{sync::Arc, time::Duration};

use hotrow_shared::{
    broker::{Broker, BrokerError},
    news::{News, StockNews},
    order::Sku,
    publish,
    topology::SETTLED_EXCHANGE,
};
use moka::future::Cache;
use sqlx::PgPool;
use tokio::time::timeout;

use self::{bodies::HOLD_MIN, store::Row};
use crate::{auth::AdminToken, sold_out::SoldOut};

/// How old a shown stock may be, the `max-age` of the contract.
pub(crate) const SHOWN_FOR: Duration = Duration::from_secs(1);
/// Products whose stock is remembered for that long.
const SHOWN_MAX: u64 = 10_000;
/// How long telling the others of a change may hold up the answer to an administrator.
const TELL_MAX: Duration = Duration::from_secs(1);

/// Reads and changes the inventory.
pub(crate) struct InventoryDesk {
    /// For whoever looks.
    reads: PgPool,
    /// For administrators: a crowd of readers must not keep them out.
    changes: PgPool,
    /// Thousands look at the same product in the same second: one of them asks the database.
    shown: Cache<Sku, Option<Row>>,
    admin_token: AdminToken,
    sold_out: Arc<SoldOut>,
    broker: Arc<Broker>,
    /// The shortest hold that a sale may have, in seconds.
    shortest_hold: i64,
}

impl InventoryDesk {
    /// A desk that lets administrators with this token in.
    #[must_use]
    pub(crate) fn new(
        reads: PgPool,
        changes: PgPool,
        admin_token: AdminToken,
        sold_out: Arc<SoldOut>,
        broker: Arc<Broker>,
        is_development: bool,
    ) -> Self {
        let shown = Cache::builder()
            .max_capacity(SHOWN_MAX)
            .time_to_live(SHOWN_FOR)
            .build();
        Self {
            reads,
            changes,
            shown,
            admin_token,
            sold_out,
            broker,
            shortest_hold: if is_development { 1 } else { HOLD_MIN },
        }
    }

    async fn show(&self, sku: &Sku) -> Result<Option<Row>, Arc<sqlx::Error>> {
        self.shown
            .try_get_with_by_ref(sku, store::read(&self.reads, sku))
            .await
    }

    /// Makes a change known, here at once and elsewhere by the news. A process that misses the news
    /// reads the database soon.
    async fn tell(&self, sku: &Sku, row: &Row) {
        self.shown.invalidate(sku).await;
        let stock = StockNews {
            sku: sku.clone(),
            version: row.version,
            available: row.available,
            held: row.held,
        };
        self.sold_out.hear(&stock);
        let told = timeout(TELL_MAX, self.publish(stock)).await;
        if !matches!(told, Ok(Ok(()))) {
            tracing::debug!("the news of an inventory change is lost: others read the database");
        }
    }

    async fn publish(&self, stock: StockNews) -> Result<(), BrokerError> {
        let news = News::<()> {
            queue: None,
            stock: vec![stock],
            settled: Vec::new(),
            found: Vec::new(),
            answers: Vec::new(),
        };
        let body = serde_json::to_vec(&news).unwrap_or_default();
        let channel = self.broker.channel().await?;
        publish::unconfirmed(&channel, SETTLED_EXCHANGE, &body).await?;
        channel.close(200, "told".into()).await?;
        Ok(())
    }
}
