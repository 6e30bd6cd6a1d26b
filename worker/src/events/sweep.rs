//! Publishes what is left in the outbox: events of workers that ended or could not publish them, and those of
//! administrators' changes. One worker at a time looks.

use std::time::Duration;

use hotrow_shared::{
    event::EventType,
    metrics::{EVENTS_OLDEST, EVENTS_WAITING},
    publish::PublishError,
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
    tables::{self, Span, TellError},
};
use crate::{
    alone::Alone,
    store::outbox::{self, Waiting},
};

/// How often the outbox is looked at while it has nothing that is due.
const LOOK_INTERVAL: Duration = Duration::from_millis(500);
/// Rows of one look.
const ROWS_MAX: i64 = 64;
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
    tells_rejected: bool,
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
        tells_rejected: bool,
    ) -> Self {
        Self {
            alone: Alone::under(SWEEP_LOCK, connect, "hotrow-worker events"),
            sender,
            repairs,
            tells_rejected,
            counted_at: None,
            waiting: EVENTS_WAITING.gauge(&[]),
            oldest: EVENTS_OLDEST.gauge(&[]),
        }
    }

    /// Looks until `shutdown`, whenever no other worker does.
    pub(crate) async fn run(mut self, shutdown: CancellationToken) {
        loop {
            let looked = timeout(LOOK_MAX, self.look());
            let has_more = match shutdown.run_until_cancelled(looked).await {
                None => return,
                Some(Ok(Ok(has_more))) => has_more,
                Some(Ok(Err(error))) => {
                    self.note(&error);
                    false
                }
                Some(Err(_)) => {
                    tracing::warn!("events cannot be swept: no answer within {LOOK_MAX:?}");
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

    fn note(&mut self, error: &TellError) {
        tracing::warn!(%error, "events cannot be swept");
        match error {
            TellError::Publish(PublishError::NotTaken) => self.repairs.request(),
            TellError::Publish(_) => {}
            TellError::Database(_) => self.alone.give_up(),
        }
    }

    /// Publishes what has waited longest. Returns whether more may be due.
    async fn look(&mut self) -> Result<bool, TellError> {
        self.sender.forget();
        let Some(session) = self.alone.session().await? else {
            self.waiting.set(0.0);
            self.oldest.set(0.0);
            return Ok(false);
        };
        if self
            .counted_at
            .is_none_or(|at| at.elapsed() >= COUNT_INTERVAL)
        {
            let backlog = outbox::backlog(session).await?;
            let rows = u32::try_from(backlog.rows).unwrap_or(u32::MAX);
            self.waiting.set(f64::from(rows));
            self.oldest.set(backlog.oldest_seconds.max(0.0));
            self.counted_at = Some(Instant::now());
        }
        let due = outbox::due(session, ROWS_MAX).await?;
        for row in &due {
            if let Some(event) = &row.event {
                write_as_it_is(row, event, &mut self.sender).await?;
            } else {
                let wants = |it| it != EventType::OrderRejected || self.tells_rejected;
                let span = Span::moment(row.at);
                tables::write(session, span, wants, &mut self.sender).await?;
            }
            self.sender.flush().await?;
            outbox::remove(&mut *session, &[row.id]).await?;
        }
        Ok(i64::try_from(due.len()) == Ok(ROWS_MAX))
    }
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
