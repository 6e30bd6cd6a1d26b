//! Copies events from the stream into deliveries: one process at a time, from where the last one stopped.
//!
//! Rows and place are one transaction, so no event is left out and none makes two deliveries. A place counts within one
//! generation of the stream: when the stream is made anew, reading begins at its first message. What is read a second
//! time then finds its delivery, unless that is removed already; so events that are older than finished deliveries are
//! kept are skipped until news comes.

use std::{sync::Arc, time::Duration};

use chrono::{DateTime, Utc};
use hotrow_shared::{
    broker::{Broker, BrokerError},
    metrics::WEBHOOK_EVENTS_COPIED,
    telemetry::Readiness,
    topology::Repairs,
    webhook::FINISHED_KEPT,
};
use metrics::Counter;
use sqlx::{Connection, PgConnection};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::{
    stream::{self, CopiedEvent, Message, Reading, Start},
    upkeep::Upkeep,
};
use crate::{alone::Alone, store::within};

/// One process at a time copies.
pub(super) const COPY_LOCK: i64 = 0x686f_7472_6f77_0007;
/// Events that are copied together, and more only as far as the last message has more.
const EVENTS_MAX: usize = 2_000;
/// How long is waited for a message before the rest is looked after.
const WAIT_MAX: Duration = Duration::from_secs(1);
/// How long a step may take.
const STEP_MAX: Duration = Duration::from_mins(1);
/// How long a transaction may take.
const COPY_MAX: Duration = Duration::from_secs(30);
/// The pause while another process copies, or a server is away.
const PAUSE: Duration = Duration::from_secs(1);

/// Copies whenever no other process does.
pub(super) struct Copier {
    alone: Alone,
    broker: Arc<Broker>,
    repairs: Repairs,
    readiness: Arc<Readiness>,
    upkeep: Upkeep,
    reading: Option<Place>,
    copied: Counter,
}

/// Where the stream is being read.
struct Place {
    reading: Reading,
    generation: i64,
    /// The next message to be copied.
    next_offset: Option<i64>,
    /// The first event of the message before it.
    last_event_id: Option<String>,
    /// Set while old events may be repeats of deliveries that are removed already.
    catching_up_since: Option<DateTime<Utc>>,
}

/// Why a step came to nothing.
#[derive(Debug, thiserror::Error)]
enum CopyError {
    #[error(transparent)]
    Broker(#[from] BrokerError),
    #[error("database: {0}")]
    Database(#[from] sqlx::Error),
    #[error("no answer within {STEP_MAX:?}")]
    Silent,
    #[error("the stream is being made anew")]
    Moved,
}

impl Copier {
    pub(super) fn new(
        alone: Alone,
        broker: Arc<Broker>,
        repairs: Repairs,
        readiness: Arc<Readiness>,
        upkeep: Upkeep,
    ) -> Self {
        Self {
            alone,
            broker,
            repairs,
            readiness,
            upkeep,
            reading: None,
            copied: WEBHOOK_EVENTS_COPIED.counter(&[]),
        }
    }

    /// Copies until `shutdown`.
    pub(super) async fn run(mut self, shutdown: CancellationToken) {
        loop {
            // What a stop cuts off is rolled back, and the next process does it again.
            let step = timeout(STEP_MAX, self.step());
            let Some(ended) = shutdown.run_until_cancelled(step).await else {
                return;
            };
            if let Err(error) = ended.unwrap_or(Err(CopyError::Silent)) {
                self.note(&error);
                if shutdown.run_until_cancelled(sleep(PAUSE)).await.is_none() {
                    return;
                }
            }
        }
    }

    fn note(&mut self, error: &CopyError) {
        tracing::warn!(%error, "events are not copied to webhooks");
        self.reading = None;
        match error {
            CopyError::Broker(_) => {
                self.readiness.set("broker", false);
                self.repairs.request();
            }
            CopyError::Database(_) | CopyError::Silent => self.alone.give_up(),
            CopyError::Moved => {}
        }
    }

    /// Copies what is there, or waits for it for a moment.
    async fn step(&mut self) -> Result<(), CopyError> {
        let Some(session) = self.alone.session().await? else {
            self.upkeep.rest();
            if let Some(place) = self.reading.take() {
                place.reading.close().await;
            }
            return self.rest().await;
        };
        self.upkeep.look(session).await?;
        if self.upkeep.is_too_much_waiting() {
            return self.rest().await;
        }
        let place = match &mut self.reading {
            Some(place) => place,
            none => none.insert(begin(&self.broker, session).await?),
        };
        self.readiness.set("broker", true);
        let Ok(first) = timeout(WAIT_MAX, place.reading.next()).await else {
            // A stream that was deleted says nothing any more.
            return match generation(session).await? {
                same if same == place.generation => Ok(()),
                _ => Err(CopyError::Moved),
            };
        };
        let copied = copy(place, first?, session, self.upkeep.overflowing()).await?;
        self.copied.increment(copied);
        Ok(())
    }

    /// Pauses where there is nothing to copy, and sees that the broker is there.
    async fn rest(&mut self) -> Result<(), CopyError> {
        if !self.broker.connected() {
            let channel = self.broker.channel().await?;
            drop(channel.close(200, "seen".into()).await);
        }
        self.readiness.set("broker", true);
        sleep(PAUSE).await;
        Ok(())
    }
}

/// Begins to read where the last process stopped. The generation is asked before and after: then the stream that is
/// read is of this generation, because a new one is counted before it is made.
async fn begin(broker: &Broker, session: &mut PgConnection) -> Result<Place, CopyError> {
    let stored = sqlx::query!(
        r#"
        select event_stream.generation, webhook_position.generation as copied, next_offset, last_event_id,
               catching_up_since, now() as "now!"
        from event_stream cross join webhook_position
        "#
    )
    .fetch_one(&mut *session)
    .await?;
    let (next_offset, catching_up_since) = match stored.copied {
        Some(copied) if copied == stored.generation => {
            (stored.next_offset, stored.catching_up_since)
        }
        Some(_) => (None, Some(stored.now)),
        // No delivery was ever removed.
        None => (None, None),
    };
    let (next_offset, catching_up_since) = match next_offset {
        Some(next) if lost_its_end(broker, next, stored.last_event_id.as_deref()).await? => {
            (None, Some(stored.now))
        }
        _ => (next_offset, catching_up_since),
    };
    let start = next_offset.map_or(Start::First, Start::At);
    let reading = Reading::from(broker, start).await?;
    if generation(session).await? != stored.generation {
        return Err(CopyError::Moved);
    }
    let generation = stored.generation;
    tracing::info!(generation, next_offset, "copying events to webhooks");
    Ok(Place {
        reading,
        generation,
        next_offset,
        last_event_id: stored.last_event_id,
        catching_up_since,
    })
}

/// Whether the stream has lost what was copied last. A power cut of a broker that is alone can lose the last messages
/// that it confirmed, and whoever restores one from a backup loses more. New messages then get offsets that were copied
/// before, so reading begins again at the first one; what was copied finds its delivery. A stream of which something
/// was copied has messages: if none comes, the broker is slow.
async fn lost_its_end(
    broker: &Broker,
    next_offset: i64,
    last_event_id: Option<&str>,
) -> Result<bool, CopyError> {
    let end = stream::end(broker).await?.ok_or(CopyError::Silent)?;
    let has_lost = end < next_offset || {
        let last = stream::message_from(broker, next_offset - 1).await?;
        let last = last.ok_or(CopyError::Silent)?;
        // What the retention has removed cannot be compared.
        let is_it = last.offset == next_offset - 1;
        is_it && last_event_id.is_some_and(|id| id != first_id(stream::events_of(&last).as_deref()))
    };
    if has_lost {
        tracing::warn!(
            end,
            next_offset,
            "the stream of events has lost what was copied last: it is read again from its first message"
        );
    }
    Ok(has_lost)
}

/// The id of the first event of a message, which tells it from others; empty if it has none.
fn first_id(events: Option<&[CopiedEvent]>) -> String {
    let first = events.and_then(<[_]>::first);
    first.map(|event| event.id.clone()).unwrap_or_default()
}

async fn generation(session: &mut PgConnection) -> Result<i64, sqlx::Error> {
    let generation = sqlx::query_scalar!("select generation from event_stream");
    within(COPY_MAX, generation.fetch_one(session)).await
}

/// Copies a message and what has come behind it. Returns how many events that were.
async fn copy(
    place: &mut Place,
    first: Message,
    session: &mut PgConnection,
    overflowing: &[uuid::Uuid],
) -> Result<u64, CopyError> {
    let mut events = Vec::new();
    let mut catching_up_since = place.catching_up_since;
    let mut last_event_id = place.last_event_id.clone();
    let mut last = first;
    loop {
        // A consumer begins with the chunk that its offset is in.
        let is_new = place.next_offset.is_none_or(|next| last.offset >= next);
        if is_new {
            last_event_id = Some(take(&last, &mut catching_up_since, &mut events));
        }
        if events.len() >= EVENTS_MAX {
            break;
        }
        match place.reading.next_if_here() {
            Some(next) => last = next?,
            None => break,
        }
    }
    let next_offset = (last.offset + 1).max(place.next_offset.unwrap_or_default());
    let written = async {
        let mut transaction = session.begin().await?;
        insert(&mut transaction, &events, overflowing).await?;
        sqlx::query!(
            r#"
            update webhook_position
            set generation = $1, next_offset = $2, last_event_id = $3, catching_up_since = $4
            "#,
            place.generation,
            next_offset,
            last_event_id,
            catching_up_since,
        )
        .execute(&mut *transaction)
        .await?;
        transaction.commit().await
    };
    within(COPY_MAX, written).await?;
    place.next_offset = Some(next_offset);
    place.last_event_id = last_event_id;
    place.catching_up_since = catching_up_since;
    place.reading.acknowledge(&last).await?;
    Ok(events.len() as u64)
}

/// Takes the events of a message that are to be copied. Returns the [`first_id`] of the message.
fn take(
    message: &Message,
    catching_up_since: &mut Option<DateTime<Utc>>,
    events: &mut Vec<CopiedEvent>,
) -> String {
    let read = stream::events_of(message);
    let id = first_id(read.as_deref());
    let Some(read) = read else {
        let offset = message.offset;
        tracing::warn!(
            offset,
            "a message of the stream is no batch of events, and is skipped"
        );
        return id;
    };
    for event in read {
        if let Some(since) = *catching_up_since {
            if event.time < since - FINISHED_KEPT {
                continue;
            }
            if event.time >= since {
                *catching_up_since = None;
            }
        }
        events.push(event);
    }
    id
}

/// Makes a delivery for each endpoint that wants an event. Those that overflow get one that has failed already.
async fn insert(
    connection: &mut PgConnection,
    events: &[CopiedEvent],
    overflowing: &[uuid::Uuid],
) -> Result<(), sqlx::Error> {
    let ids: Vec<_> = events.iter().map(|it| it.id.as_str()).collect();
    let types: Vec<_> = events.iter().map(|it| it.r#type.as_str()).collect();
    let times: Vec<_> = events.iter().map(|it| it.time).collect();
    let bodies: Vec<_> = events.iter().map(|it| it.json.as_str()).collect();
    sqlx::query!(
        r#"
        insert into webhook_deliveries
            (endpoint_id, event_id, type, event_time, event, next_at, state, outcome, finished_at)
        select webhooks.id, event.id, event.type, event.time, event.body::json, now(),
               case when overflows then 'failed' else 'pending' end,
               case when overflows then 'overflow' end,
               case when overflows then now() end
        from unnest($1::text[], $2::text[], $3::timestamptz[], $4::text[]) as event (id, type, time, body)
        join webhooks on event.type = any(webhooks.types) and event.time >= webhooks.events_since
        cross join lateral (select webhooks.id = any($5::uuid[]) as overflows) as room
        where webhooks.state = 'enabled'
        on conflict on constraint webhook_deliveries_once do nothing
        "#,
        &ids as &[&str],
        &types as &[&str],
        &times,
        &bodies as &[&str],
        overflowing,
    )
    .execute(connection)
    .await?;
    Ok(())
}
