//! A stream of numbered orders for scarce goods, published while something happens to the workers.
//!
//! Every product has less stock than is asked for and orders ask for different quantities, so an
//! order that was settled out of its turn, twice or not at all changes who gets the goods.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use anyhow::ensure;
use chrono::{DateTime, Utc};
use hotrow_shared::{
    envelope::Order,
    id::IdMint,
    order::{CustomerId, Item, Items, Quantity, Sku},
};
use hotrow_tests::wait;
use sqlx::{Postgres, Transaction};
use tokio::task::JoinHandle;
use uuid::Uuid;

use super::shop::{A_WHILE, Publisher, Shop, ids_of};

/// Products that are on sale at one time; then come the next ones.
const PRODUCTS_AT_ONCE: usize = 8;
/// Envelopes with orders of one product.
const ENVELOPES_PER_PRODUCT: usize = 20;
/// Orders in an envelope.
const ORDERS_PER_ENVELOPE: usize = 5;
/// Orders ask for 1 to 5, so a little more than half of them get something.
const QUANTITY_MAX: usize = 5;
/// What there is of each product: the orders of one ask for about 300.
const STOCK: i64 = 180;
/// More than any test sells.
const PRODUCTS: i32 = 4_000;

/// A stream under way.
pub struct Stream {
    task: JoinHandle<anyhow::Result<Vec<Order>>>,
    is_over: Arc<AtomicBool>,
    published: Arc<AtomicUsize>,
}

impl Stream {
    /// Fills the shelves and begins.
    pub async fn start(shop: &Shop) -> anyhow::Result<Self> {
        sqlx::query(
            "with stocked as (
                 insert into inventory (sku, title, unit_price_minor, currency, available)
                 select 'scarce-' || number, 'A scarce thing', 1000, 'EUR', $2
                 from generate_series(0, $1 - 1) as number
                 returning sku, available
             )
             insert into inventory_ledger (sku, kind, delta, balance)
             select sku, 'put', available, available from stocked",
        )
        .bind(PRODUCTS)
        .bind(STOCK)
        .execute(&shop.database)
        .await?;
        let is_over = Arc::new(AtomicBool::new(false));
        let published = Arc::new(AtomicUsize::new(0));
        let task = tokio::spawn(publish(
            shop.publisher(),
            shop.mint.clone(),
            Arc::clone(&is_over),
            Arc::clone(&published),
        ));
        Ok(Self {
            task,
            is_over,
            published,
        })
    }

    /// Waits until so many more orders are queued.
    pub async fn flows(&self, orders: usize) -> anyhow::Result<()> {
        let goal = self.published.load(Ordering::Relaxed) + orders;
        wait::until("the stream to flow", A_WHILE, async || {
            let published = self.published.load(Ordering::Relaxed);
            (published >= goal || self.task.is_finished()).then_some(())
        })
        .await?;
        ensure!(!self.task.is_finished(), "the stream has broken off");
        Ok(())
    }

    /// Locks everything that is for sale, as [`Shop::hold`] does.
    pub async fn hold(&self, shop: &Shop) -> anyhow::Result<Transaction<'static, Postgres>> {
        let skus: Vec<_> = (0..PRODUCTS)
            .map(|number| format!("scarce-{number}"))
            .collect();
        let skus: Vec<_> = skus.iter().map(String::as_str).collect();
        shop.hold(&skus).await
    }

    /// Ends the stream and waits until all of it is settled: nothing lost, nothing twice, and each
    /// product to those who came first.
    pub async fn settles_in_sequence(self, shop: &Shop) -> anyhow::Result<Vec<Order>> {
        self.is_over.store(true, Ordering::Relaxed);
        let orders = self.task.await??;
        shop.settled(&orders, A_WHILE).await?;
        shop.books(&orders).await?;
        in_sequence(shop, &orders, STOCK).await?;
        Ok(orders)
    }
}

/// Checks that orders, in the sequence in which the broker took them, got what they get when each is
/// served in turn, from `stock` of each product; and that none was settled before an earlier one of its
/// partition.
pub async fn in_sequence(shop: &Shop, orders: &[Order], stock: i64) -> anyhow::Result<()> {
    let rows: Vec<(Uuid, String, DateTime<Utc>)> =
        sqlx::query_as("select order_id, status, settled_at from orders where order_id = any($1)")
            .bind(ids_of(orders))
            .fetch_all(&shop.database)
            .await?;
    let rows: BTreeMap<_, _> = rows
        .into_iter()
        .map(|(id, status, at)| (id, (status, at)))
        .collect();
    ensure!(rows.len() == orders.len(), "orders have no row");

    let entitled = served_in_turn(orders, stock);
    let publisher = shop.publisher();
    let mut latest: BTreeMap<u16, DateTime<Utc>> = BTreeMap::new();
    for (number, order) in orders.iter().enumerate() {
        let (status, settled_at) = &rows[&order.id.uuid()];
        let expected = if entitled.contains(&order.id.uuid()) {
            "confirmed"
        } else {
            "rejected"
        };
        ensure!(
            status == expected,
            "order {number} of {}: {:?} is {status} and should be {expected}",
            orders.len(),
            order.items
        );
        let latest = latest.entry(publisher.partition(order)).or_default();
        ensure!(
            settled_at >= latest,
            "order {number} of {} was settled before an earlier one",
            orders.len()
        );
        *latest = *settled_at;
    }
    Ok(())
}

/// The rule of the contract, order by order.
fn served_in_turn(orders: &[Order], stock: i64) -> BTreeSet<Uuid> {
    let mut left: BTreeMap<&str, i64> = BTreeMap::new();
    let mut entitled = BTreeSet::new();
    for order in orders {
        let items = order.items.as_slice();
        let fits = items.iter().all(|item| {
            let left = left.get(item.sku.as_str()).copied().unwrap_or(stock);
            i64::from(item.quantity) <= left
        });
        if fits {
            for item in items {
                *left.entry(item.sku.as_str()).or_insert(stock) -= i64::from(item.quantity);
            }
            entitled.insert(order.id.uuid());
        }
    }
    entitled
}

async fn publish(
    hand: Publisher,
    mint: IdMint,
    is_over: Arc<AtomicBool>,
    published: Arc<AtomicUsize>,
) -> anyhow::Result<Vec<Order>> {
    let mut orders = Vec::new();
    for envelope in 0.. {
        if is_over.load(Ordering::Relaxed) {
            break;
        }
        let round = envelope / (PRODUCTS_AT_ONCE * ENVELOPES_PER_PRODUCT);
        let product = round * PRODUCTS_AT_ONCE + envelope % PRODUCTS_AT_ONCE;
        let gathered = (0..ORDERS_PER_ENVELOPE)
            .map(|_| order(&mint, product, orders.len()))
            .collect::<anyhow::Result<Vec<_>>>()?;
        hand.publish(&gathered).await?;
        published.fetch_add(gathered.len(), Ordering::Relaxed);
        orders.extend(gathered);
    }
    Ok(orders)
}

fn order(mint: &IdMint, product: usize, number: usize) -> anyhow::Result<Order> {
    let now_ms = Utc::now().timestamp_millis();
    let item = Item {
        sku: Sku::try_from(format!("scarce-{product}").as_str())?,
        quantity: Quantity::try_from(1 + rand::random_range(0..u32::try_from(QUANTITY_MAX)?))?,
        unit_price_minor: None,
    };
    Ok(Order {
        id: mint.mint(now_ms.unsigned_abs()),
        customer_id: CustomerId::try_from(format!("c-{number}").as_str())?,
        items: Items::try_from(vec![item])?,
        accepted_ms: now_ms,
        key: None,
        request_id: None,
    })
}
