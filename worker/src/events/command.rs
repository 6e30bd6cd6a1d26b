//! `hotrow-worker events`: publishes again what happened in a span of time.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context, bail, ensure};
use chrono::{SecondsFormat, TimeDelta, Utc};
use hotrow_shared::{broker::Broker, database, event::EventType, topology};
use sqlx::ConnectOptions;

use super::{
    sender::Sender,
    tables::{self, TellError},
};
use crate::{
    settings::{EventAction, Replay, Settings},
    store::told::Span,
};

/// The span of one step through the tables. Each is published to its end before the next begins.
const STEP: TimeDelta = TimeDelta::minutes(5);
/// How often the way is told.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(5);

/// Runs one command.
///
/// # Errors
/// A server is out of reach, events are off, or the span is empty.
pub async fn run(action: &EventAction, settings: &Settings) -> anyhow::Result<()> {
    match action {
        EventAction::Replay(replay) => self::replay(replay, settings).await,
    }
}

async fn replay(replay: &Replay, settings: &Settings) -> anyhow::Result<()> {
    let Some(telling) = settings.events else {
        bail!("EVENTS is off: there is no stream to publish to");
    };
    ensure!(
        replay.since < replay.until,
        "--since must be before --until"
    );
    ensure!(
        !replay.types.contains(&EventType::WebhookDisabled),
        "webhook.disabled cannot be published again: no table has it"
    );
    let common = &settings.common;
    database::require_schema(&common.database).await?;
    let pool = database::pool(
        &common.database,
        common.database_connections,
        "hotrow-worker events",
        database::ACQUIRE_MAX,
    );
    let broker = Arc::new(Broker::new(&common.amqp, "hotrow-worker events"));
    topology::ensure(&broker, &pool, &common.plan).await?;
    let mut connection = database::options(&common.database, "hotrow-worker events")
        .connect()
        .await?;
    let wants = |it: EventType| {
        if replay.types.is_empty() {
            telling.wants(it)
        } else {
            replay.types.contains(&it)
        }
    };
    let mut sender = Sender::new(broker, &common.events_source);
    // Nothing older is kept, and nothing later has happened.
    let kept = TimeDelta::days(i64::try_from(settings.retention_days)?.saturating_add(8));
    let first = replay.since.max(Utc::now() - kept);
    let end = replay.until.min(Utc::now() + STEP);
    let mut since = first;
    let mut told = Instant::now();
    while since < end {
        let until = end.min(since + STEP);
        let span = Span::between(since, until);
        let step = async {
            tables::write(&mut connection, &span, wants, &mut sender).await?;
            sender.flush().await?;
            Ok::<_, TellError>(())
        };
        let done = tokio::select! {
            done = step => done.map_err(anyhow::Error::from),
            _ = tokio::signal::ctrl_c() => Err(anyhow::anyhow!("stopped")),
        };
        let since_text = since.to_rfc3339_opts(SecondsFormat::Secs, true);
        done.with_context(|| {
            format!(
                "everything before {since_text} is published again: go on with --since {since_text}"
            )
        })?;
        since = until;
        if told.elapsed() >= PROGRESS_INTERVAL {
            eprintln!("{} events, up to {since}", sender.count());
            told = Instant::now();
        }
    }
    println!("{} events were published again", sender.count());
    Ok(())
}
