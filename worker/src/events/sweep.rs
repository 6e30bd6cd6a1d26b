//! Publishes what is left in the outbox: events of workers that ended or could not publish them, and those of
//! administrators' changes. One worker at a time looks.

use std::time::Duration;

use chrono::TimeDelta;
use hotrow_shared::{
    event::EventType,
    metrics::{EVENTS_OLDEST, EVENTS_WAITING},
    publish::PublishError,
    retry::Pauses,
    topology::Repairs,
};
use metrics::Gauge;
use serde::Deserialize;
use serde_json::value::RawValue;
use sqlx::postgres::PgConnectOptions;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::{
    sender::Sender,
    tables::{self, TellError},
};
use crate::{
    alone::Alone,
    store::{
        outbox::{self, Waiting},
        told::Span,
    },
    telling::Telling,
};

/// How often the outbox is looked at while it has nothing that is due.
const LOOK_INTERVAL: Duration = Duration::from_millis(500);
/// Rows of one look, unless the last one took too long: what a look has not brought out is published again by the next.
const ROWS_MAX: i64 = 256;
/// How far apart rows may be that are read together.
const GAP: TimeDelta = TimeDelta::seconds(1);
/// How long a look may take.
const LOOK_MAX: Duration = Duration::from_mins(1);
/// How often what waits is counted.
const COUNT_INTERVAL: Duration = Duration::from_secs(5);
/// One worker at a time looks.
const SWEEP_LOCK: i64 = 0x686f_7472_6f77_0006;

/// Looks for events that nobody else publishes.
pub(crate) struct Sweep {
    alone: Alone,
    sender: Sender,
    repairs: Repairs,
    telling: Telling,
    rows_max: i64,
    counted_at: Option<Instant>,
    waiting: Gauge,
    oldest: Gauge,
}

impl Sweep {
    /// Publishes with this sender. Creates every series.
    pub(crate) fn new(
        sender: Sender,
        connect: &PgConnectOptions,
        repairs: Repairs,
        telling: Telling,
    ) -> Self {
        Self {
            alone: Alone::under(SWEEP_LOCK, connect, "hotrow-worker events"),
            sender,
            repairs,
            telling,
            rows_max: ROWS_MAX,
            counted_at: None,
            waiting: EVENTS_WAITING.gauge(&[]),
            oldest: EVENTS_OLDEST.gauge(&[]),
        }
    }

    /// Looks until `shutdown`, whenever no other worker does.
    pub(crate) async fn run(mut self, shutdown: CancellationToken) {
        let mut pauses = Pauses::new();
        loop {
            let looked = timeout(LOOK_MAX, self.look());
            let has_more = match shutdown.run_until_cancelled(looked).await {
                None => return,
                Some(Ok(Ok(has_more))) => {
                    pauses = Pauses::new();
                    self.rows_max = (self.rows_max * 2).min(ROWS_MAX);
                    has_more
                }
                Some(Ok(Err(error))) => {
                    tracing::warn!(%error, "events cannot be swept");
                    if let TellError::Publish(PublishError::NotTaken) = error {
                        self.repairs.request();
                    }
                    // Another worker may be better off.
                    self.alone.give_up();
                    shutdown.run_until_cancelled(pauses.pause()).await;
                    false
                }
                Some(Err(_)) => {
                    tracing::warn!("events cannot be swept: no answer within {LOOK_MAX:?}");
                    self.rows_max = (self.rows_max / 2).max(1);
                    self.alone.give_up();
                    false
                }
            };
            let pause = if has_more {
                Duration::ZERO
            } else {
                LOOK_INTERVAL
            };
            if shutdown.run_until_cancelled(sleep(pause)).await.is_none() {
                return;
            }
        }
    }

    /// Publishes what has waited longest. Returns whether more may be due.
    async fn look(&mut self) -> Result<bool, TellError> {
        let Some(session) = self.alone.session().await? else {
            self.waiting.set(0.0);
            self.oldest.set(0.0);
            return Ok(false);
        };
        let is_counted = self
            .counted_at
            .is_some_and(|at| at.elapsed() < COUNT_INTERVAL);
        if !is_counted {
            let backlog = outbox::backlog(session).await?;
            let rows = u32::try_from(backlog.rows).unwrap_or(u32::MAX);
            self.waiting.set(f64::from(rows));
            self.oldest.set(backlog.oldest_seconds.max(0.0));
            self.counted_at = Some(Instant::now());
        }
        let rows_max = self.rows_max;
        let due = outbox::due(session, rows_max).await?;
        for rows in together(&due) {
            let published = self.publish(rows).await;
            let alone = rows.len() == 1;
            match published {
                Ok(()) => {}
                Err(error) if error.is_about_the_row() && alone => {
                    self.postpone(&rows[0], &error).await?;
                }
                Err(error) if error.is_about_the_row() => {
                    for row in rows {
                        match self.publish(std::slice::from_ref(row)).await {
                            Ok(()) => {}
                            Err(error) if error.is_about_the_row() => {
                                self.postpone(row, &error).await?;
                            }
                            Err(error) => return Err(error),
                        }
                    }
                }
                Err(error) => return Err(error),
            }
        }
        Ok(i64::try_from(due.len()) == Ok(rows_max))
    }

    /// Publishes the events of rows, and removes these.
    async fn publish(&mut self, rows: &[Waiting]) -> Result<(), TellError> {
        self.sender.forget();
        let Some(session) = self.alone.session().await? else {
            return Ok(());
        };
        let before = self.sender.count();
        for row in rows {
            if let Some(event) = &row.event {
                write_as_it_is(row, event, &mut self.sender).await?;
            }
        }
        let moments = rows.iter().filter(|row| row.event.is_none());
        let moments: Vec<_> = moments.map(|row| row.at).collect();
        if !moments.is_empty() {
            let wants = |it| self.telling.wants(it);
            let span = Span::moments(moments);
            tables::write(session, &span, wants, &mut self.sender).await?;
        }
        self.sender.flush().await?;
        let ids: Vec<_> = rows.iter().map(|row| row.id).collect();
        if self.sender.count() == before {
            // Their day was dropped, or EVENTS_REJECTED was turned off meanwhile.
            tracing::error!(rows = ?ids, "rows of event_outbox have no events in the tables any more");
        }
        outbox::remove(&mut *session, &ids).await?;
        Ok(())
    }

    /// Leaves a row alone for a while, so that the others do not wait for it.
    async fn postpone(&mut self, row: &Waiting, error: &TellError) -> Result<(), TellError> {
        tracing::error!(row = row.id, %error, "a row of event_outbox is tried again in a minute");
        if let Some(session) = self.alone.session().await? {
            outbox::postpone(session, row.id).await?;
        }
        Ok(())
    }
}

/// Cuts rows, which are sorted by time, where there is a gap: what lies close together is read at once.
fn together(rows: &[Waiting]) -> impl Iterator<Item = &[Waiting]> {
    rows.chunk_by(|one, next| next.at - one.at < GAP)
}

/// Writes an event that only its row has.
async fn write_as_it_is(
    row: &Waiting,
    event: &str,
    sender: &mut Sender,
) -> Result<(), PublishError> {
    #[derive(Deserialize)]
    struct Typed<'a> {
        r#type: &'a str,
    }
    let typed = serde_json::from_str::<Typed>(event).ok();
    let r#type = typed.and_then(|it| it.r#type.parse::<EventType>().ok());
    if let (Some(r#type), Ok(event)) = (r#type, serde_json::from_str::<&RawValue>(event)) {
        return sender.push(r#type, &event).await;
    }
    tracing::error!(
        row = row.id,
        "a row of event_outbox has no event that can be read"
    );
    Ok(())
}
