//! Delivers what is due, endpoint by endpoint: each that has something due gets a task of its own, so that a dead or slow
//! one delays nobody else.
//!
//! Writes are batches without a timer: what ends while a write is under way goes into the next one.

use std::{
    collections::BTreeMap,
    sync::{Arc, Once},
    time::Duration,
};

use bytes::Bytes;
use chrono::{DateTime, Utc};
use hotrow_shared::{
    event::write_to_outbox,
    metrics::{WEBHOOK_ATTEMPTS, WEBHOOK_GIVEN_UP, WEBHOOK_REQUEST},
    retry::Pauses,
    sealed::SealingKeys,
    shutdown,
    telemetry::Readiness,
    webhook::REQUESTS_MAX,
};
use hyper::Uri;
use metrics::{Counter, Histogram};
use sqlx::PgPool;
use tokio::{
    task::JoinSet,
    time::{Instant, sleep, timeout_at},
};
use tokio_util::{sync::CancellationToken, task::JoinMap};
use uuid::Uuid;

use super::{
    attempt::{Next, Outcome, next, pause},
    client::{Answer, Client},
    sign::{SignError, Signer},
    store::{self, Claimed, Effect, Ended},
};
use crate::{
    metrics::Labelled,
    store::{silence, within},
};

/// How often it is asked who has something due.
const LOOK_INTERVAL: Duration = Duration::from_millis(250);
/// How long the database may take.
const DATABASE_MAX: Duration = Duration::from_secs(5);
/// How long it is tried to write what became of attempts: then their leases are over.
const FINISH_MAX: Duration = Duration::from_secs(30);
/// The pause of an endpoint to which nothing can be sent until a person acts.
const UNFIT_PAUSE: Duration = Duration::from_mins(1);

/// Delivers, until it is told to stop.
pub(super) struct Deliverer {
    pub(super) pool: PgPool,
    pub(super) client: Client,
    pub(super) keys: SealingKeys,
    /// The `source` of events.
    pub(super) source: String,
    /// Most requests of this process to one endpoint at a time.
    pub(super) requests_max: usize,
    pub(super) shutdown: CancellationToken,
    /// How long requests that are under way at a stop are waited for.
    pub(super) patience: Duration,
    /// Turns when they have been waited for that long.
    pub(super) overdue: CancellationToken,
    pub(super) metrics: DeliverMetrics,
}

/// The series of deliveries, created at zero.
pub(super) struct DeliverMetrics {
    attempts: Labelled<Outcome, Counter>,
    request: Histogram,
    given_up: Counter,
}

impl DeliverMetrics {
    pub(super) fn new() -> Self {
        Self {
            attempts: Labelled::new(Outcome::ALL, |it| {
                WEBHOOK_ATTEMPTS.counter(&[("outcome", it.as_str())])
            }),
            request: WEBHOOK_REQUEST.histogram(&[]),
            given_up: WEBHOOK_GIVEN_UP.counter(&[]),
        }
    }
}

/// Why nothing is claimed.
#[derive(Debug, thiserror::Error)]
enum ClaimError {
    #[error(transparent)]
    Database(#[from] sqlx::Error),
    #[error(transparent)]
    Sign(#[from] SignError),
    #[error("the URL cannot be read")]
    Url,
}

/// What is needed to send to an endpoint.
struct Target {
    /// The URL as it is written.
    name: Arc<str>,
    url: Uri,
    signer: Signer,
}

impl Deliverer {
    /// Delivers until the stop, and then waits for what is under way.
    pub(super) async fn run(self: Arc<Self>, readiness: &Readiness) {
        let work = self.deliver(readiness);
        shutdown::hurry(&self.shutdown, self.patience, &self.overdue, work).await;
    }

    async fn deliver(self: &Arc<Self>, readiness: &Readiness) {
        let mut rounds = JoinMap::new();
        let mut is_well = true;
        while !self.shutdown.is_cancelled() {
            let due = self.in_time(store::due_endpoints(&self.pool)).await;
            readiness.set("database", due.is_ok());
            match due {
                Ok(due) => {
                    is_well = true;
                    for endpoint in due {
                        if !rounds.contains_key(&endpoint) {
                            let round = Round::new(Arc::clone(self), endpoint);
                            rounds.spawn(endpoint, round.run());
                        }
                    }
                }
                Err(error) => {
                    if std::mem::take(&mut is_well) {
                        tracing::warn!(%error, "the database cannot be asked what is due");
                    }
                }
            }
            while rounds.try_join_next().is_some() {}
            self.shutdown
                .run_until_cancelled(sleep(LOOK_INTERVAL))
                .await;
        }
        while rounds.join_next().await.is_some() {}
    }

    /// Waits for the database. After a stop there is less time, also for what began before it: what is not written is
    /// sent again.
    async fn in_time<T, E: From<sqlx::Error>>(
        &self,
        asked: impl Future<Output = Result<T, E>>,
    ) -> Result<T, E> {
        tokio::select! {
            answer = within(DATABASE_MAX, asked) => answer,
            () = shutdown::out_of_time(&self.shutdown, self.patience / 4) => Err(silence().into()),
        }
    }
}

/// The deliveries of one endpoint, as long as some are due.
struct Round {
    engine: Arc<Deliverer>,
    endpoint: Uuid,
    attempts: JoinSet<(Ended, Option<Duration>)>,
    /// What is claimed and has not ended.
    claimed: BTreeMap<i64, DateTime<Utc>>,
    is_failing: bool,
}

impl Round {
    fn new(engine: Arc<Deliverer>, endpoint: Uuid) -> Self {
        Self {
            engine,
            endpoint,
            attempts: JoinSet::new(),
            claimed: BTreeMap::new(),
            is_failing: false,
        }
    }

    async fn run(mut self) {
        loop {
            let room = self.engine.requests_max.saturating_sub(self.attempts.len());
            // A claim costs the same for one delivery and for many.
            let is_worth_it = room >= self.engine.requests_max.div_ceil(2);
            if is_worth_it
                && !self.engine.shutdown.is_cancelled()
                && let Err(error) = self.claim(room).await
            {
                let endpoint = self.endpoint;
                tracing::warn!(%endpoint, %error, "nothing is sent to an endpoint");
                // What is under way has to be written when it ends.
                if !matches!(error, ClaimError::Database(_)) && self.attempts.is_empty() {
                    let pause = sleep(UNFIT_PAUSE);
                    self.engine.shutdown.run_until_cancelled(pause).await;
                }
            }
            if self.attempts.is_empty() {
                return;
            }
            let Some(ended) = self.ended().await else {
                self.give_up().await;
                return;
            };
            self.finish(ended).await;
        }
    }

    /// Claims what there is room for, and begins to send it.
    async fn claim(&mut self, room: usize) -> Result<(), ClaimError> {
        let engine = &self.engine;
        let claiming = async {
            let mut transaction = engine.pool.begin().await?;
            let Some(locked) = store::lock(&mut transaction, self.endpoint).await? else {
                return Ok(None);
            };
            let previous = locked.previous_secret.as_deref();
            let target = Target {
                name: locked.url.as_str().into(),
                url: locked.url.parse().map_err(|_| ClaimError::Url)?,
                signer: Signer::open(&engine.keys, self.endpoint, &locked.secret, previous)?,
            };
            let room = i64::try_from(room).unwrap_or_default();
            let all_max = i64::try_from(REQUESTS_MAX).unwrap_or_default();
            let claimed = store::claim(&mut transaction, self.endpoint, room, all_max).await?;
            transaction.commit().await?;
            Ok::<_, ClaimError>(Some((target, locked.is_failing, claimed)))
        };
        let Some((target, is_failing, claimed)) = engine.in_time(claiming).await? else {
            return Ok(());
        };
        self.is_failing = is_failing;
        let target = Arc::new(target);
        for claimed in claimed {
            self.claimed.insert(claimed.id, claimed.lease);
            let attempt = attempt(Arc::clone(engine), Arc::clone(&target), claimed);
            self.attempts.spawn(attempt);
        }
        Ok(())
    }

    /// Waits for the end of an attempt, and takes along what else has ended. After a stop it waits for a while only.
    async fn ended(&mut self) -> Option<Vec<(Ended, Option<Duration>)>> {
        let first = tokio::select! {
            first = self.attempts.join_next() => first?,
            () = self.engine.overdue.cancelled() => return None,
        };
        let mut ended: Vec<_> = first.into_iter().collect();
        while let Some(more) = self.attempts.try_join_next() {
            ended.extend(more);
        }
        Some(ended)
    }

    /// Writes what became of attempts, however long the database takes within their leases.
    async fn finish(&mut self, ended: Vec<(Ended, Option<Duration>)>) {
        // What was sent to another URL, before it was changed, says nothing of the endpoint.
        let url = ended.last().map(|(it, _)| Arc::clone(&it.url));
        let is_of_it = |it: &Ended| url.as_ref() == Some(&it.url);
        let pause = ended.iter().filter(|(it, _)| is_of_it(it));
        let pause = pause.filter_map(|(_, pause)| *pause).max();
        let ended: Vec<_> = ended.into_iter().map(|(ended, _)| ended).collect();
        let given_up = ended.iter().filter(|it| it.next == Next::GivenUp).count();
        self.engine.metrics.given_up.increment(given_up as u64);
        for it in &ended {
            self.claimed.remove(&it.id);
        }
        let effect = Effect {
            has_delivered: ended.iter().any(|it| it.next == Next::Delivered),
            given_up: i64::try_from(given_up).unwrap_or_default(),
            pause_seconds: pause.map(|it| it.as_secs_f64()),
            is_gone: ended
                .iter()
                .any(|it| it.outcome == Outcome::Gone && is_of_it(it)),
            url: url.unwrap_or_default(),
        };
        let deadline = Instant::now() + FINISH_MAX;
        let mut pauses = Pauses::new();
        let said = Once::new();
        loop {
            let engine = Arc::clone(&self.engine);
            let written = engine.in_time(self.write(&ended, &effect)).await;
            let Err(error) = written else { return };
            said.call_once(
                || tracing::warn!(%error, "what became of deliveries cannot be written"),
            );
            let is_over = tokio::select! {
                biased;
                () = engine.overdue.cancelled() => true,
                waited = timeout_at(deadline, pauses.pause()) => waited.is_err(),
            };
            if is_over {
                tracing::warn!("deliveries that ended are sent again: what became of them is lost");
                return;
            }
        }
    }

    async fn write(&mut self, ended: &[Ended], effect: &Effect) -> Result<(), sqlx::Error> {
        let Deliverer { pool, source, .. } = &*self.engine;
        let all_is_well = ended.iter().all(|it| it.next == Next::Delivered) && !self.is_failing;
        // An endpoint that is known to be failing, and fails on, stays as it is.
        let nothing_new = self.is_failing
            && !effect.has_delivered
            && effect.given_up == 0
            && effect.pause_seconds.is_none();
        if all_is_well || nothing_new {
            return store::finish(pool, self.endpoint, ended).await;
        }
        let mut transaction = pool.begin().await?;
        store::finish(&mut *transaction, self.endpoint, ended).await?;
        let disabled = store::note(&mut transaction, self.endpoint, effect).await?;
        if let Some(endpoint) = &disabled {
            let at = endpoint.disabled_at.unwrap_or_else(Utc::now);
            let event = endpoint.disabled_event(source, at);
            let event = event.map_err(|error| sqlx::Error::Encode(error.into()))?;
            write_to_outbox(&mut transaction, at, &event).await?;
        }
        transaction.commit().await?;
        self.is_failing = !effect.has_delivered;
        if let Some(endpoint) = disabled {
            let reason = endpoint.disabled_reason.unwrap_or_default();
            tracing::warn!(endpoint = %endpoint.id, reason, "an endpoint is disabled");
        }
        Ok(())
    }

    /// Gives back what is under way: whoever claims it next sends it again.
    async fn give_up(mut self) {
        self.attempts.abort_all();
        // Some have ended by themselves meanwhile.
        let mut ended = Vec::new();
        while let Some(attempt) = self.attempts.join_next().await {
            ended.extend(attempt);
        }
        if !ended.is_empty() {
            self.finish(ended).await;
        }
        let claimed: Vec<_> = std::mem::take(&mut self.claimed).into_iter().collect();
        tracing::info!(
            endpoint = %self.endpoint,
            requests = claimed.len(),
            "requests were under way at the stop, and are sent again"
        );
        let released = store::release(&self.engine.pool, self.endpoint, &claimed);
        if let Err(error) = self.engine.in_time(released).await {
            tracing::warn!(%error, "deliveries wait for their leases to end");
        }
    }
}

/// Sends one delivery. Returns what came of it, and how long the endpoint asks to be left alone.
async fn attempt(
    engine: Arc<Deliverer>,
    target: Arc<Target>,
    claimed: Claimed,
) -> (Ended, Option<Duration>) {
    let began = std::time::Instant::now();
    let Claimed {
        id,
        event_id,
        event,
        attempts,
        lease,
    } = claimed;
    let now = Utc::now().timestamp();
    let Answer {
        outcome,
        status,
        retry_after,
    } = match target.signer.sign(&event_id, now, &event) {
        Ok(signed) => {
            engine
                .client
                .post(&target.url, &signed, Bytes::from(event))
                .await
        }
        Err(error) => {
            tracing::error!(%error, event_id, "an event cannot be signed");
            Answer {
                outcome: Outcome::ClientError,
                status: None,
                retry_after: None,
            }
        }
    };
    engine.metrics.request.record(began.elapsed());
    if let Some(count) = engine.metrics.attempts.of(outcome) {
        count.increment(1);
    }
    tracing::debug!(event_id, outcome = outcome.as_str(), status, "sent");
    let failed_before = usize::try_from(attempts).unwrap_or_default();
    let ended = Ended {
        id,
        lease,
        url: Arc::clone(&target.name),
        outcome,
        status,
        next: next(outcome, failed_before, retry_after, rand::random()),
    };
    (ended, pause(status, retry_after))
}
