//! The transaction: lock, look for what is settled already, decide, write, commit.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use chrono::{DateTime, TimeDelta, Utc};
use hotrow_shared::{change::Ask, id::OrderId, order::Sku, outcome::Reason, request_id::RequestId};
use metrics::Histogram;
use sqlx::{Connection, PgConnection};
use tokio::time::Instant;
use uuid::Uuid;

use super::{
    candidates::Candidates,
    decision::{Books, Candidate, Counted, Decision, GoodsMoved, Verdict, decide},
    told::{Told, is_told, turned},
};
use crate::{
    deliveries::Arrived,
    document::{PricedItems, accepted_at},
    standing::Standing,
    stock::{Moved, Stock},
    store::{
        StoreError,
        changes::{self, ChangeRows},
        customers::{self, Counts, CustomerRows},
        holds,
        inventory::{self, Locked},
        orders::{self, Known},
        outbox,
        settlement::{self, OrderRows},
        switch,
        unmatched::{self, PaymentName, UnmatchedRows},
    },
    telling::Telling,
};

/// What was committed.
#[derive(Debug)]
pub(crate) struct Committed {
    /// One verdict for each command, in the same sequence.
    pub(crate) verdicts: Vec<Verdict>,
    /// The stock of every known SKU of the commands, after this settlement.
    pub(crate) stock: BTreeMap<Sku, Stock>,
    /// Inventory rows that were written.
    pub(crate) row_writes: u64,
    /// The time that every row of the settlement carries, by the database's clock.
    pub(crate) at: DateTime<Utc>,
    /// What it tells by events, if it has any.
    pub(crate) told: Option<Told>,
}

/// Settles commands in one transaction, behind the locks of all SKUs that they may touch. Holds expire `grace` after their end, and not at all without it.
///
/// If the process dies or the connection breaks in here, either all of it happened or nothing. Which of the two is
/// found out by whoever settles the same commands again.
pub(crate) async fn settle(
    connection: &mut PgConnection,
    commands: &[Arrived],
    candidates: &Candidates<'_>,
    grace: Option<TimeDelta>,
    telling: Option<Telling>,
    row_lock_seconds: &Histogram,
) -> Result<Committed, StoreError> {
    let skus = commands.iter().flat_map(|arrived| arrived.command.skus());
    let skus: BTreeSet<_> = skus.map(Sku::as_str).collect();
    let skus: Vec<_> = skus.into_iter().collect();

    let mut transaction = connection.begin().await?;
    let Locked { mut stock, at } = inventory::lock(&mut transaction, &skus).await?;
    let locked = Instant::now();
    let known = known(&mut transaction, candidates).await?;
    let Asked {
        standings,
        unmatched,
    } = asked(&mut transaction, candidates).await?;
    let books = Books {
        known: &known.first,
        replayed: &known.replayed,
        counts: counts(&mut transaction, candidates, &standings, &stock).await?,
        standings,
        unmatched,
        stock: &stock,
        at,
        grace: unless_kept(&mut transaction, candidates, grace).await?,
    };
    let decision = decide(&candidates.0, books);
    let verdicts = &decision.verdicts;
    if !known.replayed.is_empty() {
        let ids: Vec<_> = known.replayed.keys().map(|id| id.uuid()).collect();
        orders::remove_replayed(&mut transaction, &ids).await?;
    }
    let rows = order_rows(candidates, verdicts, &stock, at);
    if !rows.ids.is_empty() || !decision.moved.is_empty() {
        settlement::write(&mut transaction, at, &decision.moved, &rows).await?;
    }
    write_what_is_rare(&mut transaction, candidates, verdicts, &known, at).await?;
    write_counts(&mut transaction, &decision.counted).await?;
    let told = match telling {
        Some(telling) => tell(&mut transaction, telling, &decision, &stock, at).await?,
        None => None,
    };
    transaction.commit().await?;
    row_lock_seconds.record(locked.elapsed());

    let row_writes = decision.moved.len() as u64;
    let moved: Vec<_> = decision
        .moved
        .into_iter()
        .map(|(sku, moved)| (sku.clone(), moved))
        .collect();
    let verdicts = decision.verdicts;
    apply(&mut stock, &moved);
    Ok(Committed {
        verdicts,
        stock,
        row_writes,
        at,
        told,
    })
}

/// Notes that the settlement has events, if it has any.
async fn tell(
    connection: &mut PgConnection,
    telling: Telling,
    decision: &Decision<'_>,
    stock: &BTreeMap<Sku, Stock>,
    at: DateTime<Utc>,
) -> Result<Option<Told>, StoreError> {
    let inventory = turned(&decision.moved, stock);
    if inventory.is_empty() && !decision.verdicts.iter().any(|it| is_told(it, telling)) {
        return Ok(None);
    }
    let since = Instant::now();
    let outbox_id = outbox::write(connection, at, &inventory).await?;
    Ok(Some(Told {
        outbox_id,
        since,
        inventory,
    }))
}

/// Which of the new orders are settled already.
async fn known(
    connection: &mut PgConnection,
    candidates: &Candidates<'_>,
) -> Result<Known, StoreError> {
    let ids: Vec<_> = candidates.names().map(|id| id.uuid()).collect();
    if ids.is_empty() {
        return Ok(Known::default());
    }
    orders::known(connection, &ids).await
}

/// What changes rest on.
#[derive(Default)]
struct Asked {
    /// How the orders stand that something is asked of.
    standings: HashMap<OrderId, Standing>,
    /// The payments that were found unmatched before.
    unmatched: HashSet<PaymentName>,
}

async fn asked(
    connection: &mut PgConnection,
    candidates: &Candidates<'_>,
) -> Result<Asked, StoreError> {
    let ids: BTreeSet<_> = candidates.changes().map(|it| it.order_id.uuid()).collect();
    if ids.is_empty() {
        return Ok(Asked::default());
    }
    let ids: Vec<_> = ids.into_iter().collect();
    let standings = changes::standings(connection, &ids).await?;
    let payments: Vec<_> = candidates
        .changes()
        .filter_map(|change| match &change.ask {
            Ask::Confirm(payment) => Some((change.order_id.uuid(), payment.reference.as_str())),
            _ => None,
        })
        .collect();
    let unmatched = if payments.is_empty() {
        HashSet::new()
    } else {
        unmatched::known(connection, &payments).await?
    };
    Ok(Asked {
        standings,
        unmatched,
    })
}

/// What the customers of these commands have of SKUs with a limit per customer.
async fn counts(
    connection: &mut PgConnection,
    candidates: &Candidates<'_>,
    standings: &HashMap<OrderId, Standing>,
    stock: &BTreeMap<Sku, Stock>,
) -> Result<Counts, StoreError> {
    let since = |sku: &Sku| stock.get(sku)?.rules.limit.map(|limit| limit.since);
    if stock.values().all(|row| row.rules.limit.is_none()) {
        return Ok(Counts::new());
    }
    let ordered = candidates.orders().flat_map(|order| {
        let items = order.items.as_slice().iter();
        items.map(|item| (&item.sku, order.customer_id.as_str()))
    });
    let standing = standings.values().flat_map(|standing| {
        let goods = standing.goods.iter();
        goods.map(|goods| (&goods.sku, standing.customer_id.as_str()))
    });
    let asked: BTreeSet<_> = ordered.chain(standing).collect();
    let mut rows = CustomerRows::default();
    for (sku, customer) in asked {
        if let Some(since) = since(sku) {
            rows.skus.push(sku.as_str());
            rows.customers.push(customer);
            rows.since.push(since);
        }
    }
    customers::counts(connection, &rows).await
}

async fn write_counts(
    connection: &mut PgConnection,
    counted: &[Counted<'_>],
) -> Result<(), StoreError> {
    if counted.is_empty() {
        return Ok(());
    }
    let rows = CustomerRows {
        skus: counted.iter().map(|it| it.sku.as_str()).collect(),
        customers: counted.iter().map(|it| it.customer.as_str()).collect(),
        since: counted.iter().map(|it| it.since).collect(),
    };
    let pieces: Vec<_> = counted.iter().map(|it| it.pieces).collect();
    customers::write(connection, &rows, &pieces).await
}

/// The grace of holds, unless the switch for all purchases keeps them.
async fn unless_kept(
    connection: &mut PgConnection,
    candidates: &Candidates<'_>,
    grace: Option<TimeDelta>,
) -> Result<Option<TimeDelta>, StoreError> {
    let mut changes = candidates.changes();
    let expires = changes.any(|change| matches!(change.ask, Ask::Expire(_)));
    if expires && grace.is_some() && switch::keeps_holds(connection).await? {
        return Ok(None);
    }
    Ok(grace)
}

/// Writes what most settlements have none of: second names, holds, changes, unmatched payments.
async fn write_what_is_rare(
    connection: &mut PgConnection,
    candidates: &Candidates<'_>,
    verdicts: &[Verdict],
    known: &Known,
    at: DateTime<Utc>,
) -> Result<(), StoreError> {
    let revisions = revisions(candidates, verdicts);
    if !revisions.is_empty() {
        orders::write_revisions(connection, &revisions).await?;
    }
    let aliases = aliases(candidates, verdicts, known);
    if !aliases.is_empty() {
        orders::write_aliases(connection, at, &aliases).await?;
    }
    let new_holds = new_holds(candidates, verdicts, at);
    if !new_holds.is_empty() {
        holds::write(connection, &new_holds).await?;
    }
    let changed = change_rows(candidates, verdicts);
    if !changed.ids.is_empty() {
        changes::write(connection, at, &changed).await?;
    }
    let unmatched = unmatched_rows(candidates, verdicts);
    if !unmatched.ids.is_empty() {
        unmatched::write(connection, at, &unmatched).await?;
    }
    Ok(())
}

/// The new rows of the orders table.
fn order_rows<'a>(
    candidates: &Candidates<'a>,
    verdicts: &[Verdict],
    stock: &'a BTreeMap<Sku, Stock>,
    at: DateTime<Utc>,
) -> OrderRows<'a> {
    let mut rows = OrderRows::default();
    for (candidate, verdict) in candidates.0.iter().zip(verdicts) {
        let (Candidate::Place { order, .. }, Verdict::Settled(outcome)) = (candidate, verdict)
        else {
            continue;
        };
        let items = PricedItems {
            items: &order.items,
            stock,
        };
        let ends = outcome.ends(at);
        rows.ids.push(order.id.uuid());
        rows.statuses.push(outcome.status.as_str());
        rows.reasons.push(outcome.reason.map(Reason::as_str));
        rows.customers.push(order.customer_id.as_str());
        rows.items.push(items.json());
        rows.totals.push(outcome.total_minor);
        rows.currencies
            .push(outcome.total_minor.and_then(|_| items.currency()));
        rows.accepted.push(accepted_at(order));
        rows.expire.push(ends.map(|(expires_at, _)| expires_at));
        rows.extend_max
            .push(ends.map(|(_, extend_max_at)| extend_max_at));
    }
    rows
}

/// The revisions of orders that were dead letters before they were settled.
fn revisions(candidates: &Candidates<'_>, verdicts: &[Verdict]) -> Vec<(Uuid, i32)> {
    let settled = candidates.settled(verdicts);
    settled
        .filter(|(_, outcome)| outcome.revision > 1)
        .map(|(order, outcome)| (order.id.uuid(), outcome.revision))
        .collect()
}

/// The holds of newly reserved orders.
fn new_holds(
    candidates: &Candidates<'_>,
    verdicts: &[Verdict],
    at: DateTime<Utc>,
) -> Vec<(Uuid, DateTime<Utc>)> {
    let settled = candidates.settled(verdicts);
    settled
        .filter_map(|(order, outcome)| {
            let (expires_at, _) = outcome.ends(at)?;
            Some((order.id.uuid(), expires_at))
        })
        .collect()
}

/// The new rows of the history.
fn change_rows<'a>(candidates: &Candidates<'a>, verdicts: &'a [Verdict]) -> ChangeRows<'a> {
    let mut rows = ChangeRows::default();
    for (change, verdict) in candidates.changes_with(verdicts) {
        let Verdict::Changed(standing, goods) = verdict else {
            continue;
        };
        rows.ids.push(standing.id.uuid());
        rows.revisions.push(standing.revision);
        rows.statuses.push(standing.status.as_str());
        rows.reasons.push(standing.reason.as_deref());
        rows.goods.push(goods.map(GoodsMoved::as_str));
        rows.expire.push(standing.expires_at);
        rows.payment_references
            .push(standing.payment_reference.as_deref());
        rows.restocked.push(standing.restocked);
        rows.actors.push(change.by.name.as_deref());
        rows.roles.push(change.by.role.as_str());
        rows.request_ids
            .push(change.request_id.as_ref().map(RequestId::as_str));
    }
    rows
}

/// The new rows of payments that did not pay.
fn unmatched_rows<'a>(candidates: &Candidates<'a>, verdicts: &[Verdict]) -> UnmatchedRows<'a> {
    let mut rows = UnmatchedRows::default();
    for (change, verdict) in candidates.changes_with(verdicts) {
        let (Ask::Confirm(payment), Verdict::Unmatched(why)) = (&change.ask, verdict) else {
            continue;
        };
        rows.ids.push(change.order_id.uuid());
        rows.references.push(&payment.reference);
        rows.amounts.push(payment.amount_minor);
        rows.currencies.push(payment.currency.as_deref());
        rows.whys.push(why.as_str());
    }
    rows
}

/// The names that this settlement adds to orders: those of the repeats in it and, where an order has outlived its day,
/// the one that a repeat of the next day has.
///
/// That repeat may ask for other products, and be settled at this moment behind other locks. Whoever takes the
/// name first stops the other, who then finds the purchase settled.
fn aliases(candidates: &Candidates<'_>, verdicts: &[Verdict], known: &Known) -> Vec<(Uuid, Uuid)> {
    let mut aliases = BTreeMap::new();
    for (candidate, verdict) in candidates.0.iter().zip(verdicts) {
        let Candidate::Place { order, twins } = candidate else {
            continue;
        };
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
            _ => {}
        }
    }
    aliases.into_iter().collect()
}

/// The stock as it is afterwards.
fn apply(stock: &mut BTreeMap<Sku, Stock>, moved: &[(Sku, Moved)]) {
    for (sku, moved) in moved {
        if let Some(row) = stock.get_mut(sku) {
            row.available += moved.released - moved.taken;
            row.held += moved.held;
            row.version += 1;
        }
    }
}
