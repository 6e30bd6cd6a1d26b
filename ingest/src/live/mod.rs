//! Live streams: the stock of products and the orders of a page, told as they change, so that thousands of pages need
//! not ask again and again.
//!
//! `topics` has the last state of everything that somebody listens to. `stock` fills it from the board, a few times a
//! second, and `orders` from the news; both look again for what news may have missed. A `stream` is one page's: it
//! begins with the state of everything asked for, and ends after a minute or two, so that pages spread over the
//! processes again.

mod frame;
pub(crate) mod handler;
mod metrics;
pub(crate) mod orders;
mod stock;
mod stream;
mod topics;

use std::sync::Arc;

use tokio::{runtime::Handle, sync::Semaphore};
use tokio_util::sync::CancellationToken;

use self::{metrics::LiveMetrics, orders::LiveOrders, stock::LiveStock};
use crate::{
    inventory::InventoryDesk,
    status::{StatusDesk, reader::Reader},
};

/// Answers with streams.
pub(crate) struct LiveDesk {
    status: Arc<StatusDesk>,
    stock: Arc<LiveStock>,
    orders: Arc<LiveOrders>,
    /// As many places as there may be streams.
    places: Arc<Semaphore>,
    /// Whether callers may see orders without a token.
    is_open_shop: bool,
    metrics: Arc<LiveMetrics>,
    /// Where the streams run.
    threads: Handle,
    /// Ends every stream.
    shutdown: CancellationToken,
}

/// What is needed before there are desks, because news is heard from the start.
pub(crate) struct Live {
    /// Takes in what news says of orders.
    pub(crate) orders: Arc<LiveOrders>,
    metrics: Arc<LiveMetrics>,
}

impl Live {
    /// Nobody listens yet.
    #[must_use]
    pub(crate) fn new() -> Self {
        let metrics = Arc::new(LiveMetrics::new());
        let orders = LiveOrders::new(metrics.orders.clone());
        Self {
            orders: Arc::new(orders),
            metrics,
        }
    }

    /// A desk for at most `streams_max` streams, and the tasks that tell until `shutdown`. The looks at orders have a
    /// reader of their own, so that polls do not wait for them. Streams run on `threads` of their own, and so does what tells them
    /// of the stock.
    #[must_use]
    pub(crate) fn start(
        self,
        (status, reader): (Arc<StatusDesk>, Reader),
        inventory: Arc<InventoryDesk>,
        streams_max: usize,
        is_open_shop: bool,
        threads: &Handle,
        shutdown: &CancellationToken,
    ) -> LiveDesk {
        let Self { orders, metrics } = self;
        let stock = Arc::new(LiveStock::new(inventory, metrics.stock.clone()));
        threads.spawn(Arc::clone(&stock).tell_forever(shutdown.clone()));
        tokio::spawn(Arc::clone(&stock).look_forever(shutdown.clone()));
        tokio::spawn(Arc::clone(&orders).look_forever(reader, shutdown.clone()));
        LiveDesk {
            status,
            stock,
            orders,
            places: Arc::new(Semaphore::new(streams_max)),
            is_open_shop,
            metrics,
            threads: threads.clone(),
            shutdown: shutdown.clone(),
        }
    }
}
