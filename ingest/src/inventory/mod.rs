//! The inventory: what clients see of it, and what administrators change.

mod bodies;
pub(crate) mod handler;
mod store;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

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

use self::bodies::HOLD_MIN;
use crate::{
    board::{
        Asked, Board,
        store::{self as rows, Row},
    },
    outbox::Outbox,
};

/// How old a shown stock may be, the `max-age` of the contract.
pub(crate) const SHOWN_FOR: Duration = Duration::from_secs(1);
/// Reads that are remembered for that long: of products that the board has no room for, and of what is none.
const READS_MAX: u64 = 10_000;
/// How long telling the others of a change may hold up the answer to an administrator.
const TELL_MAX: Duration = Duration::from_secs(1);

/// Reads and changes the inventory.
pub(crate) struct InventoryDesk {
    /// For whoever looks.
    reads: PgPool,
    /// For administrators: a crowd of readers must not keep them out.
    changes: PgPool,
    /// Thousands look at the same product in the same second: what the board does not know for sure, one of them
    /// asks the database.
    lately_read: Cache<Sku, Option<Row>>,
    board: Arc<Board>,
    broker: Arc<Broker>,
    outbox: Outbox,
    /// The shortest hold that a sale may have, in seconds.
    shortest_hold: i64,
}

impl InventoryDesk {
    /// A desk for whoever looks, and for administrators.
    #[must_use]
    pub(crate) fn new(
        reads: PgPool,
        changes: PgPool,
        board: Arc<Board>,
        broker: Arc<Broker>,
        outbox: Outbox,
        is_development: bool,
    ) -> Self {
        let lately_read = Cache::builder()
            .max_capacity(READS_MAX)
            .time_to_live(SHOWN_FOR)
            .build();
        Self {
            reads,
            changes,
            lately_read,
            board,
            broker,
            outbox,
            shortest_hold: if is_development { 1 } else { HOLD_MIN },
        }
    }

    async fn show(&self, sku: &Sku) -> Result<Option<Row>, Arc<sqlx::Error>> {
        if let Some(row) = self.board.row(sku, SHOWN_FOR) {
            return Ok(Some(row));
        }
        let read = async {
            let asked = Instant::now();
            let row = rows::read(&self.reads, sku).await?;
            self.board.answer(sku, row.clone(), Asked::At(asked));
            Ok(row)
        };
        let row = self.lately_read.try_get_with_by_ref(sku, read).await?;
        // The board may have heard of a change while the row was read.
        Ok(self.board.row(sku, SHOWN_FOR).or(row))
    }

    /// Makes a change that began then known, here at once and elsewhere by the news. A process that misses the news
    /// reads the database soon.
    async fn tell(&self, sku: &Sku, row: &Row, began: Instant) {
        self.lately_read.invalidate(sku).await;
        let stock = StockNews {
            sku: sku.clone(),
            version: row.version,
            available: row.available,
            held: row.held,
        };
        let asked = Asked::Changing(began);
        self.board.answer(sku, Some(row.clone()), asked);
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
