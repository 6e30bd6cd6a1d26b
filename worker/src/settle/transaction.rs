//! The transaction: lock, look for what is settled already, decide, write, commit.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, Utc};
use hotrow_shared::{order::Sku, outcome::Reason};
use metrics::Histogram;
use sqlx::{Connection, PgConnection};
use tokio::time::Instant;
use uuid::Uuid;

use super::decision::{Candidate, Verdict, decide};
use crate::{
    document::{PricedItems, accepted_at},
    stock::{Sold, Stock},
    store::{
        StoreError,
        inventory::{self, Locked},
        orders::{self, Known},
        settlement::{self, OrderRows},
    },
};

/// What was committed.
#[derive(Debug)]
pub(crate) struct Committed {
    /// One verdict for each order, in the same sequence.
    pub(crate) verdicts: Vec<Verdict>,
    /// The stock of every known SKU of the orders, after this settlement.
    pub(crate) stock: BTreeMap<Sku, Stock>,
    /// Inventory rows that were written.
    pub(crate) row_writes: u64,
    /// The time that every order and ledger entry of the settlement carries, by the database's clock.
    pub(crate) at: DateTime<Utc>,
}

/// Settles orders in one transaction.
///
/// If the process dies or the connection breaks in here, either all of it happened or nothing. Which of the two is
/// found out by whoever settles the same orders again.
pub(crate) async fn settle(
    connection: &mut PgConnection,
    candidates: &[Candidate<'_>],
    row_lock_seconds: &Histogram,
) -> Result<Committed, StoreError> {
    let skus: BTreeSet<_> = candidates
        .iter()
        .flat_map(|it| it.order.items.as_slice())
        .map(|item| item.sku.as_str())
        .collect();
    let skus: Vec<_> = skus.into_iter().collect();
    let ids: Vec<_> = candidates
        .iter()
        .flat_map(|it| it.twins.iter().chain([&it.order.id]))
        .map(|id| id.uuid())
        .collect();

    let mut transaction = connection.begin().await?;
    let Locked { mut stock, at } = inventory::lock(&mut transaction, &skus).await?;
    let locked = Instant::now();
    let known = orders::known(&mut transaction, &ids).await?;
    let decision = decide(candidates, &known.first, &stock);
    if !known.replayed.is_empty() {
        orders::remove_replayed(&mut transaction, &known.replayed).await?;
    }
    let rows = rows(candidates, &decision.verdicts, &stock);
    if !rows.ids.is_empty() {
        settlement::write(&mut transaction, at, &decision.sold, &rows).await?;
    }
    let aliases = aliases(candidates, &decision.verdicts, &known);
    if !aliases.is_empty() {
        orders::write_aliases(&mut transaction, at, &aliases).await?;
    }
    transaction.commit().await?;
    row_lock_seconds.record(locked.elapsed());

    let row_writes = decision.sold.len() as u64;
    take(&mut stock, &decision.sold);
    Ok(Committed {
        verdicts: decision.verdicts,
        stock,
        row_writes,
        at,
    })
}

/// The new rows of the orders table.
fn rows<'a>(
    candidates: &[Candidate<'a>],
    verdicts: &[Verdict],
    stock: &'a BTreeMap<Sku, Stock>,
) -> OrderRows<'a> {
    let mut rows = OrderRows::default();
    for (Candidate { order, .. }, verdict) in candidates.iter().zip(verdicts) {
        let Verdict::Settled(outcome) = verdict else {
            continue;
        };
        let items = PricedItems {
            items: &order.items,
            stock,
        };
        rows.ids.push(order.id.uuid());
        rows.statuses.push(outcome.status.as_str());
        rows.reasons.push(outcome.reason.map(Reason::as_str));
        rows.customers.push(order.customer_id.as_str());
        rows.items.push(items.json());
        rows.totals.push(outcome.total_minor);
        rows.currencies
            .push(outcome.total_minor.and_then(|_| items.currency()));
        rows.accepted.push(accepted_at(order));
    }
    rows
}

/// The names that this settlement adds to orders: those of the repeats in it and, where an order has outlived its day,
/// the one that a repeat of the next day has.
///
/// That repeat may ask for other products, and be settled at this moment behind other locks. Whoever takes the
/// name first stops the other, who then finds the purchase settled.
fn aliases(candidates: &[Candidate<'_>], verdicts: &[Verdict], known: &Known) -> Vec<(Uuid, Uuid)> {
    let mut aliases = BTreeMap::new();
    for (Candidate { order, twins }, verdict) in candidates.iter().zip(verdicts) {
        match verdict {
            Verdict::Alias(first) => {
                aliases.insert(order.id.uuid(), first.uuid());
            }
            Verdict::Settled(_) => {
                let later = twins.iter().filter(|twin| twin.day() > order.id.day());
                // A replayed order may have its later name already.
                let later = later.filter(|twin| !known.first.contains_key(twin));
                aliases.extend(later.map(|twin| (twin.uuid(), order.id.uuid())));
            }
            Verdict::Duplicate => {}
        }
    }
    aliases.into_iter().collect()
}

/// The stock as it is once the sold pieces are gone.
fn take(stock: &mut BTreeMap<Sku, Stock>, sold: &BTreeMap<&Sku, Sold>) {
    for (sku, sold) in sold {
        if let Some(row) = stock.get_mut(*sku) {
            row.available -= sold.quantity;
            row.version += 1;
        }
    }
}
