//! Reads of orders from PostgreSQL: whatever was asked while the last query ran goes into the next.
//!
//! Every question ends within [`ANSWER_MAX`], whatever the database does, and one that nobody waits for
//! any more is not asked.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use hotrow_shared::{
    id::{Day, OrderId},
    outcome::{OrderDocument, Status},
};
use serde_json::value::RawValue;
use sqlx::{PgConnection, PgPool, Postgres, pool::PoolConnection};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot},
    time::{Instant, timeout},
};

use super::outcomes::Outcome;

/// Most orders in one query.
const IDS_MAX: usize = 1_000;
/// Questions that may wait, and the orders in all of them; beyond, the database counts as out of reach.
const INBOX: usize = 50_000;
const WAITING_IDS_MAX: usize = 100_000;
/// How long a question may take, the wait for the query before it included.
pub(crate) const ANSWER_MAX: Duration = Duration::from_millis(1_800);
/// How long one query may take, its connection included. Shorter than a question, so that those which
/// were asked during a query that came to nothing are asked once more.
const QUERY_MAX: Duration = Duration::from_millis(1_200);
/// An order this old that is not found may lie in a day that is no longer kept.
const KEPT_DAYS_SURELY: u64 = 2;

/// What the database knows of an order. A [`super::Finder`] tells [`Found::Replayed`] as queued.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Found {
    /// It is settled, and this is what it is now.
    Settled(Outcome),
    /// It is not settled yet.
    Queued,
    /// It could not be settled, and is queued again.
    Replayed,
    /// Its day is no longer kept.
    Dropped,
}

/// The database did not answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the database does not answer")]
pub(crate) struct NoAnswer;

/// What a reader is mostly asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Expected {
    /// Orders that are settled, or soon will be.
    Orders,
    /// Names that no order has: to find that out costs a quarter of reading an order.
    Nothing,
}

struct Question {
    ids: Vec<OrderId>,
    reply: oneshot::Sender<Result<Vec<Found>, NoAnswer>>,
    /// As many as there are ids.
    _room: OwnedSemaphorePermit,
}

/// Asks the database for orders, many in one query.
#[derive(Clone)]
pub(crate) struct Reader {
    inbox: mpsc::Sender<Question>,
    room: Arc<Semaphore>,
}

impl Reader {
    /// A reader, and the task that reads for it until the last clone is dropped. It uses one connection
    /// of the pool at a time.
    pub(crate) fn new(pool: PgPool, expected: Expected) -> (Self, impl Future<Output = ()>) {
        let (inbox, questions) = mpsc::channel(INBOX);
        let room = Arc::new(Semaphore::new(WAITING_IDS_MAX));
        (Self { inbox, room }, answer_all(pool, expected, questions))
    }

    /// Reads orders, in one look-up and in the order asked.
    ///
    /// # Errors
    /// The database does not answer within [`ANSWER_MAX`], or more is asked than it can.
    pub(crate) async fn read(&self, ids: Vec<OrderId>) -> Result<Vec<Found>, NoAnswer> {
        let (reply, answer) = oneshot::channel();
        let room = Arc::clone(&self.room)
            .try_acquire_many_owned(u32::try_from(ids.len()).unwrap_or(u32::MAX))
            .map_err(|_| NoAnswer)?;
        self.inbox
            .try_send(Question {
                ids,
                reply,
                _room: room,
            })
            .map_err(|_| NoAnswer)?;
        let answered = timeout(ANSWER_MAX, answer).await;
        answered.map_err(|_| NoAnswer)?.unwrap_or(Err(NoAnswer))
    }
}

async fn answer_all(pool: PgPool, expected: Expected, mut inbox: mpsc::Receiver<Question>) {
    while let Some(first) = inbox.recv().await {
        let questions = gather(first, &mut inbox);
        if questions.is_empty() {
            continue;
        }
        let ids: HashSet<_> = questions.iter().flat_map(|it| &it.ids).copied().collect();
        let ids: Vec<_> = ids.into_iter().collect();
        let found = query(&pool, expected, &ids).await;
        for question in questions {
            // A client that went away does not hear it.
            let _ = question.reply.send(answer(&question.ids, found.as_ref()));
        }
    }
}

/// The questions of one query: the first, and what waits behind it as far as it fits. An order that is
/// asked for many times counts once.
fn gather(first: Question, inbox: &mut mpsc::Receiver<Question>) -> Vec<Question> {
    let mut ids = HashSet::new();
    let mut questions: Vec<Question> = Vec::new();
    let mut next = Some(first);
    while let Some(question) = next {
        if !question.reply.is_closed() {
            ids.extend(question.ids.iter().copied());
            questions.push(question);
        }
        next = if ids.len() < IDS_MAX {
            inbox.try_recv().ok()
        } else {
            None
        };
    }
    questions
}

fn answer(
    ids: &[OrderId],
    found: Option<&HashMap<OrderId, Found>>,
) -> Result<Vec<Found>, NoAnswer> {
    let found = found.ok_or(NoAnswer)?;
    let answers = ids
        .iter()
        .map(|id| found.get(id).cloned().unwrap_or(Found::Queued));
    Ok(answers.collect())
}

/// Reads orders in time, or says in the log why not.
async fn query(
    pool: &PgPool,
    expected: Expected,
    ids: &[OrderId],
) -> Option<HashMap<OrderId, Found>> {
    let mut lent: Option<PoolConnection<Postgres>> = None;
    let reading = async {
        let connection = lent.insert(pool.acquire().await?);
        match expected {
            Expected::Orders => read(connection, ids).await,
            Expected::Nothing => {
                let there = there(connection, ids).await?;
                read(connection, &there).await
            }
        }
    };
    let error = match timeout(QUERY_MAX, reading).await {
        Ok(Ok(found)) => return Some(found),
        Ok(Err(error)) => error.to_string(),
        Err(_) => {
            // The pool would wait for the rest of the answer before it lends the connection again.
            if let Some(connection) = &mut lent {
                connection.close_on_drop();
            }
            format!("no answer within {QUERY_MAX:?}")
        }
    };
    tracing::warn!(error, "orders cannot be read");
    None
}

/// Which of these ids have a row.
async fn there(
    connection: &mut PgConnection,
    ids: &[OrderId],
) -> Result<Vec<OrderId>, sqlx::Error> {
    let uuids: Vec<_> = ids.iter().map(|id| id.uuid()).collect();
    let (Some(first), Some(last)) = (uuids.iter().min(), uuids.iter().max()) else {
        return Ok(Vec::new());
    };
    // The bounds leave only the tables of these days to look into.
    let there = sqlx::query_scalar!(
        "select order_id from orders where order_id = any($1) and order_id between $2 and $3",
        &uuids,
        first,
        last,
    )
    .fetch_all(connection)
    .await?;
    Ok(there.into_iter().map(OrderId::trusted).collect())
}

async fn read(
    connection: &mut PgConnection,
    ids: &[OrderId],
) -> Result<HashMap<OrderId, Found>, sqlx::Error> {
    if ids.is_empty() {
        return Ok(HashMap::new());
    }
    let uuids: Vec<_> = ids.iter().map(|id| id.uuid()).collect();
    let began = Instant::now();
    // One index look-up each, in the one partition of the id's day, and one for its changes. An alias
    // shows the order that it is another name of.
    let rows = sqlx::query!(
        r#"
        select asked.order_id as "order_id!", named.alias_of, outcome.is_replayed as "is_replayed!",
               outcome.revision as "revision!", outcome.status as "status!", outcome.reason,
               outcome.customer_id as "customer_id!", outcome.items::text as "items!", outcome.total_minor,
               outcome.currency, outcome.accepted_at as "accepted_at!", outcome.settled_at as "settled_at!",
               outcome.updated_at as "updated_at!", outcome.expires_at, outcome.payment_reference, outcome.restocked
        from unnest($1::uuid[]) as asked (order_id)
        cross join lateral (
            select orders.alias_of, coalesce(orders.alias_of, orders.order_id) as first_id
            from orders
            where orders.order_id = asked.order_id
            limit 1
        ) as named
        cross join lateral (
            select * from orders_now where orders_now.order_id = named.first_id limit 1
        ) as outcome
        "#,
        &uuids,
    )
    .fetch_all(&mut *connection)
    .await?;
    let mut found = HashMap::with_capacity(rows.len());
    for row in rows {
        let order_id = OrderId::trusted(row.order_id);
        if row.is_replayed {
            found.insert(order_id, Found::Replayed);
            continue;
        }
        let items =
            RawValue::from_string(row.items).map_err(|error| sqlx::Error::Decode(error.into()))?;
        let is_reserved = row.status == Status::Reserved.as_str();
        let document = OrderDocument {
            order_id,
            alias_of: row.alias_of.map(OrderId::trusted),
            status: &row.status,
            revision: row.revision,
            reason: row.reason.as_deref(),
            customer_id: &row.customer_id,
            items,
            total_minor: row.total_minor,
            currency: row.currency.as_deref(),
            accepted_at: row.accepted_at,
            settled_at: row.settled_at,
            updated_at: row.updated_at,
            expires_at: row.expires_at.filter(|_| is_reserved),
            payment_reference: row.payment_reference.as_deref(),
            restocked: row.restocked,
        };
        let document =
            serde_json::to_vec(&document).map_err(|error| sqlx::Error::Encode(error.into()))?;
        let outcome = Outcome {
            revision: row.revision,
            is_final: row.status.parse().is_ok_and(Status::is_final),
            known_at: began,
            document: document.into(),
        };
        found.insert(order_id, Found::Settled(outcome));
    }
    note_dropped(connection, ids, &mut found).await?;
    Ok(found)
}

/// Tells orders that wait from those whose day is gone.
async fn note_dropped(
    connection: &mut PgConnection,
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
    .fetch_all(connection)
    .await?;
    found.extend(
        old.into_iter()
            .zip(kept)
            .filter(|(_, kept)| !kept)
            .map(|(id, _)| (id, Found::Dropped)),
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use hotrow_shared::id::IdMint;

    use super::*;

    type Answer = oneshot::Receiver<Result<Vec<Found>, NoAnswer>>;

    fn ask(ids: &[OrderId]) -> (Question, Answer) {
        let (reply, answer) = oneshot::channel();
        let room = Arc::new(Semaphore::new(ids.len()));
        let many = u32::try_from(ids.len()).expect("a few");
        let question = Question {
            ids: ids.to_vec(),
            reply,
            _room: room.try_acquire_many_owned(many).expect("room"),
        };
        (question, answer)
    }

    fn orders(count: u64) -> Vec<OrderId> {
        let mint = IdMint::new("a secret of a test", None);
        (0..count).map(|ms| mint.mint(ms)).collect()
    }

    #[tokio::test]
    async fn an_order_that_many_ask_for_counts_once_in_a_query() -> anyhow::Result<()> {
        let orders = orders(2);
        let (sender, mut inbox) = mpsc::channel(5_000);
        let mut answers = Vec::new();
        for number in 0..5_000 {
            let (question, answer) = ask(&[orders[number % 2]]);
            sender.try_send(question)?;
            answers.push(answer);
        }
        let first = inbox.recv().await.expect("asked");
        assert_eq!(gather(first, &mut inbox).len(), 5_000, "all in one query");
        Ok(())
    }

    #[tokio::test]
    async fn a_question_that_nobody_waits_for_is_not_asked() -> anyhow::Result<()> {
        let orders = orders(3);
        let (sender, mut inbox) = mpsc::channel(3);
        let ((first, gone), (second, waits), (third, gone_too)) =
            (ask(&orders[..1]), ask(&orders[1..2]), ask(&orders[2..]));
        sender.try_send(second)?;
        sender.try_send(third)?;
        drop((gone, gone_too));
        let questions = gather(first, &mut inbox);
        let asked: Vec<_> = questions
            .iter()
            .flat_map(|question| &question.ids)
            .collect();
        assert_eq!(asked, [&orders[1]]);
        drop(waits);
        Ok(())
    }

    #[tokio::test]
    async fn a_query_has_room_for_so_many_orders() -> anyhow::Result<()> {
        let orders = orders(IDS_MAX as u64 * 2);
        let (sender, mut inbox) = mpsc::channel(100);
        let (questions, answers): (Vec<_>, Vec<_>) = orders.chunks(100).map(ask).unzip();
        let mut questions = questions.into_iter();
        let first = questions.next().expect("twenty");
        questions.try_for_each(|question| sender.try_send(question))?;
        assert_eq!(gather(first, &mut inbox).len(), IDS_MAX / 100);
        drop(answers);
        Ok(())
    }
}
