//! Reads of orders from PostgreSQL: whatever was asked while the last query ran goes into the next.

use std::{collections::HashMap, time::Duration};

use bytes::Bytes;
use hotrow_shared::{
    id::{Day, OrderId},
    outcome::{OrderDocument, Status},
};
use serde_json::value::RawValue;
use sqlx::PgPool;
use tokio::{
    sync::{mpsc, oneshot},
    time::timeout,
};

/// Most orders in one query.
const IDS_MAX: usize = 1_000;
/// Questions that may wait; beyond, the database counts as out of reach.
const INBOX: usize = 50_000;
/// How long the database may take.
const ANSWER_MAX: Duration = Duration::from_secs(5);
/// An order this old that is not found may lie in a day that is no longer kept.
const KEPT_DAYS_SURELY: u64 = 2;

/// What the database knows of an order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Found {
    /// It is settled for good, and this is its document.
    Settled(Bytes),
    /// It could not be settled, and may still be: this is its document for now.
    Failed(Bytes),
    /// It is not settled yet.
    Queued,
    /// Its day is no longer kept.
    Dropped,
}

/// The database did not answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the database does not answer")]
pub(crate) struct NoAnswer;

struct Question {
    id: OrderId,
    reply: oneshot::Sender<Result<Found, NoAnswer>>,
}

/// Asks the database for orders, many in one query.
#[derive(Clone)]
pub(crate) struct Reader {
    inbox: mpsc::Sender<Question>,
}

impl Reader {
    /// A reader, and the task that reads for it until the last clone is dropped.
    pub(crate) fn new(pool: PgPool) -> (Self, impl Future<Output = ()>) {
        let (inbox, questions) = mpsc::channel(INBOX);
        (Self { inbox }, answer_all(pool, questions))
    }

    /// Reads an order.
    ///
    /// # Errors
    /// The database does not answer, or more is asked than it can.
    pub(crate) async fn read(&self, id: OrderId) -> Result<Found, NoAnswer> {
        let (reply, answer) = oneshot::channel();
        self.inbox
            .try_send(Question { id, reply })
            .map_err(|_| NoAnswer)?;
        answer.await.unwrap_or(Err(NoAnswer))
    }
}

async fn answer_all(pool: PgPool, mut inbox: mpsc::Receiver<Question>) {
    let mut questions = Vec::with_capacity(IDS_MAX);
    while inbox.recv_many(&mut questions, IDS_MAX).await > 0 {
        let ids: Vec<_> = questions.iter().map(|question| question.id).collect();
        let found = match timeout(ANSWER_MAX, read(&pool, &ids)).await {
            Ok(Ok(found)) => Some(found),
            Ok(Err(error)) => {
                tracing::warn!(%error, "orders cannot be read");
                None
            }
            Err(_) => {
                tracing::warn!("orders cannot be read: no answer within {ANSWER_MAX:?}");
                None
            }
        };
        for Question { id, reply } in questions.drain(..) {
            let answer = found
                .as_ref()
                .map(|found| found.get(&id).cloned().unwrap_or(Found::Queued));
            let _ = reply.send(answer.ok_or(NoAnswer));
        }
    }
}

async fn read(pool: &PgPool, ids: &[OrderId]) -> Result<HashMap<OrderId, Found>, sqlx::Error> {
    let uuids: Vec<_> = ids.iter().map(|id| id.uuid()).collect();
    // One index look-up each, in the one partition of the id's day. An alias shows the order that it
    // is another name of.
    let rows = sqlx::query!(
        r#"
        select asked.order_id as "order_id!", outcome.status as "status!", outcome.reason,
               outcome.customer_id as "customer_id!", outcome.items::text as "items!", outcome.total_minor,
               outcome.currency, outcome.accepted_at as "accepted_at!", outcome.settled_at as "settled_at!"
        from unnest($1::uuid[]) as asked (order_id)
        cross join lateral (
            select coalesce(orders.alias_of, orders.order_id) as first_id
            from orders
            where orders.order_id = asked.order_id
            limit 1
        ) as named
        cross join lateral (
            -- A replayed order is queued again.
            select * from orders
            where orders.order_id = named.first_id and orders.reason is distinct from 'replayed'
            limit 1
        ) as outcome
        "#,
        &uuids,
    )
    .fetch_all(pool)
    .await?;
    let mut found = HashMap::with_capacity(rows.len());
    for row in rows {
        let order_id = OrderId::trusted(row.order_id);
        let items =
            RawValue::from_string(row.items).map_err(|error| sqlx::Error::Decode(error.into()))?;
        let document = OrderDocument {
            order_id,
            status: &row.status,
            reason: row.reason.as_deref(),
            customer_id: &row.customer_id,
            items,
            total_minor: row.total_minor,
            currency: row.currency.as_deref(),
            accepted_at: row.accepted_at,
            settled_at: row.settled_at,
        };
        let document =
            serde_json::to_vec(&document).map_err(|error| sqlx::Error::Encode(error.into()))?;
        let settled = if row.status == Status::Failed.as_str() {
            Found::Failed
        } else {
            Found::Settled
        };
        found.insert(order_id, settled(document.into()));
    }
    note_dropped(pool, ids, &mut found).await?;
    Ok(found)
}

/// Tells orders that wait from those whose day is gone.
async fn note_dropped(
    pool: &PgPool,
    ids: &[OrderId],
    found: &mut HashMap<OrderId, Found>,
) -> Result<(), sqlx::Error> {
    let surely = Day::today().0.saturating_sub(KEPT_DAYS_SURELY);
    let old = ids
        .iter()
        .filter(|id| id.day().0 < surely && !found.contains_key(id))
        .copied();
    let old: Vec<_> = old.collect();
    if old.is_empty() {
        return Ok(());
    }
    // The bounds of a day are in the definition of its table; its name is made of the same day.
    let days: Vec<_> = old
        .iter()
        .map(|id| i64::try_from(id.day().0).unwrap_or_default())
        .collect();
    let kept = sqlx::query_scalar!(
        r#"
        select to_regclass('orders_' || to_char(date '1970-01-01' + day::integer, 'YYYYMMDD')) is not null as "kept!"
        from unnest($1::bigint[]) with ordinality as asked (day, place)
        order by place
        "#,
        &days,
    )
    .fetch_all(pool)
    .await?;
    found.extend(
        old.into_iter()
            .zip(kept)
            .filter(|(_, kept)| !kept)
            .map(|(id, _)| (id, Found::Dropped)),
    );
    Ok(())
}
