//! The inventory: what clients see of it, and what administrators change.

mod bodies;
pub(crate) mod handler;
mod member;
mod requests;
mod rules;
mod shown;
mod store;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use hotrow_shared::{
    news::{News, StockNews},
    order::Sku,
    sale::Window,
};
use moka::future::Cache;
use sqlx::PgPool;

use self::{rules::HOLD_MIN, shown::Shown, store::Changes};
use crate::{
    audit::By,
    board::{
        Asked, Board,
        stock::{Moment, State, Stock},
        store::{self as rows, Row},
    },
    clock::DatabaseClock,
    http::{precondition::IfMatch, problem::Problem},
    outbox::Outbox,
    sale::KnownSwitch,
    teller::Teller,
};

/// What is said of a SKU that is no product's.
pub(crate) const UNKNOWN_SKU: Problem = Problem::NotFound("there is no such product");

/// How old a shown stock may be, the `max-age` of the contract.
pub(crate) const SHOWN_FOR: Duration = Duration::from_secs(1);
/// Reads that are remembered for that long: of products that the board has no room for, and of what is none.
const READS_MAX: u64 = 10_000;

/// Reads and changes the inventory.
pub(crate) struct InventoryDesk {
    /// For whoever looks.
    reads: PgPool,
    /// For administrators: a crowd of readers must not keep them out.
    changes: PgPool,
    /// Thousands look at the same product in the same second: what the board does not know for sure, one of them
    /// asks the database.
    lately_read: Cache<Sku, Option<Row>>,
    rooms: Rooms,
    outbox: Outbox,
    /// The shortest hold that a sale may have, in seconds.
    shortest_hold: i64,
}

/// What the inventory is shown with, and changes are told by.
pub(crate) struct Rooms {
    pub(crate) board: Arc<Board>,
    /// Stops all purchases.
    pub(crate) switch: Arc<KnownSwitch>,
    /// By which sales open and close.
    pub(crate) clock: DatabaseClock,
    pub(crate) teller: Teller,
}

impl InventoryDesk {
    /// A desk for whoever looks, and for administrators.
    #[must_use]
    pub(crate) fn new(
        reads: PgPool,
        changes: PgPool,
        rooms: Rooms,
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
            rooms,
            outbox,
            shortest_hold: if is_development { 1 } else { HOLD_MIN },
        }
    }

    /// What a change by somebody is made with.
    fn changes<'a>(&'a self, by: &'a By, if_match: IfMatch) -> Changes<'a> {
        Changes {
            pool: &self.changes,
            outbox: self.outbox,
            by,
            if_match,
        }
    }

    /// A product as it is shown now.
    fn shown<'a>(&self, row: &'a Row) -> Shown<'a> {
        Shown::of(row, self.state(row))
    }

    /// Whether a product is for sale now.
    pub(crate) fn state(&self, row: &Row) -> State {
        let window = Window {
            opens_at: row.opens_at,
            closes_at: row.closes_at,
        };
        State::of(row.stock(), window, row.paused, self.moment())
    }

    /// What the state of every product depends on now.
    pub(crate) fn moment(&self) -> Moment {
        Moment {
            now: self.rooms.clock.now(),
            is_stopped: self.rooms.switch.stop().is_some(),
        }
    }

    /// The stock and the state of a product that somebody watches, if this process knows them.
    pub(crate) fn watch(&self, sku: &Sku, moment: Moment) -> Option<(Stock, State)> {
        let (stock, window, is_paused) = self.rooms.board.watch(sku)?;
        Some((stock, State::of(stock, window, is_paused, moment)))
    }

    /// Reads a product, from the board if the database confirmed it lately.
    ///
    /// # Errors
    /// The database is out of reach.
    pub(crate) async fn show(&self, sku: &Sku) -> Result<Option<Row>, Arc<sqlx::Error>> {
        if let Some(row) = self.rooms.board.row(sku, SHOWN_FOR) {
            return Ok(Some(row));
        }
        let read = async {
            let asked = Instant::now();
            let row = rows::read(&self.reads, sku).await?;
            self.rooms.board.answer(sku, row.clone(), Asked::At(asked));
            Ok(row)
        };
        let row = self.lately_read.try_get_with_by_ref(sku, read).await?;
        // The board may have heard of a change while the row was read.
        Ok(self.rooms.board.row(sku, SHOWN_FOR).or(row))
    }

    /// Makes a change that began then known, here at once and elsewhere by the news. A process that misses the news
    /// reads the database soon.
    async fn tell(&self, sku: &Sku, row: &Row, began: Instant) {
        self.lately_read.invalidate(sku).await;
        let asked = Asked::Changing(began);
        self.rooms.board.answer(sku, Some(row.clone()), asked);
        let stock = StockNews {
            sku: sku.clone(),
            version: row.version,
            available: row.available,
            held: row.held,
        };
        let news = News {
            stock: vec![stock],
            ruled: vec![(sku.clone(), row.rules())],
            ..News::default()
        };
        self.rooms.teller.tell(&news).await;
    }
}
