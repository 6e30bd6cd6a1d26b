//! `hotrow-worker events`: publishes again what happened in a span of time.

use std::sync::Arc;

use anyhow::{Context, bail, ensure};
use chrono::TimeDelta;
use hotrow_shared::{broker::Broker, database, event::EventType, topology};
use sqlx::ConnectOptions;

use super::{
    sender::Sender,
    tables::{self, Span},
};
use crate::settings::{EventAction, Replay, Settings};

/// The span of one walk through the tables, so that what is read stays small.
const STEP: TimeDelta = TimeDelta::minutes(1);

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
    let Some(events) = &settings.events else {
        bail!("EVENTS is off: there is no stream to publish to");
    };
    ensure!(
        replay.since < replay.until,
        "--since must be before --until"
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
            it != EventType::OrderRejected || events.tells_rejected
        } else {
            replay.types.contains(&it)
        }
    };
    let mut sender = Sender::new(broker, &events.source);
    let mut since = replay.since;
    while since < replay.until {
        let until = replay.until.min(since + STEP);
        let span = Span { since, until };
        tables::write(&mut connection, span, wants, &mut sender)
            .await
            .with_context(|| format!("everything before {since} was published again"))?;
        since = until;
    }
    let flushed = sender.flush().await;
    flushed.context("the last events were not published again")?;
    println!("{} events were published again", sender.count());
    Ok(())
}
