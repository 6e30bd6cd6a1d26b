//! Fitness: whether this worker can do its work, asked of the broker and of the database again and again.
//!
//! Each is asked the way the work asks: the broker on the connection that consumes, the database through
//! the pool that settles. A connection that is there and says nothing is found out like this, too.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use hotrow_shared::broker::{Broker, BrokerError};
use lapin::{Channel, options::BasicQosOptions};
use sqlx::PgPool;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::task::AbortOnDropHandle;

/// The pause between questions.
const INTERVAL: Duration = Duration::from_millis(500);
/// How long an answer may take.
const ANSWER_MAX: Duration = Duration::from_secs(5);
/// How long the broker may be away before the partitions are better off elsewhere.
const BROKER_AWAY_MAX: Duration = Duration::from_secs(5);
/// The same of a database that takes writes: a fail-over is the same for everybody, and takes seconds.
const DATABASE_AWAY_MAX: Duration = Duration::from_secs(30);

/// What a worker knows of its own fitness. It stops asking when it is dropped.
pub(crate) struct Fitness {
    broker: Arc<Answers>,
    database: Arc<Answers>,
    _asking: [AbortOnDropHandle<()>; 2],
}

impl Fitness {
    /// Begins to ask. Until it turns out otherwise, a worker is fit.
    pub(crate) fn watch(broker: Arc<Broker>, pool: PgPool) -> Self {
        let [of_broker, of_database] = [(); 2].map(|()| Arc::new(Answers::default()));
        let asking = [
            tokio::spawn(ask_broker(broker, Arc::clone(&of_broker))),
            tokio::spawn(ask_database(pool, Arc::clone(&of_database))),
        ];
        Self {
            broker: of_broker,
            database: of_database,
            _asking: asking.map(AbortOnDropHandle::new),
        }
    }

    /// Whether this worker can settle what is queued, or could until a moment ago.
    pub(crate) fn is_fit(&self) -> bool {
        self.has_broker() && self.database.missing_for() < DATABASE_AWAY_MAX
    }

    /// Whether the broker answers, or did until a moment ago.
    pub(crate) fn has_broker(&self) -> bool {
        self.broker.missing_for() < BROKER_AWAY_MAX
    }
}

/// When a server began to owe an answer. A question that hangs counts from its beginning.
#[derive(Default)]
struct Answers(Mutex<Option<Instant>>);

impl Answers {
    fn ask(&self) {
        self.missing_since().get_or_insert_with(Instant::now);
    }

    fn hear(&self) {
        *self.missing_since() = None;
    }

    fn missing_for(&self) -> Duration {
        let since = *self.missing_since();
        since.map_or(Duration::ZERO, |since| since.elapsed())
    }

    fn missing_since(&self) -> std::sync::MutexGuard<'_, Option<Instant>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn ask_broker(broker: Arc<Broker>, answers: Arc<Answers>) {
    let mut channel = None;
    loop {
        answers.ask();
        // On one channel, because opening one each time would cost the broker a process each.
        let answer = timeout(ANSWER_MAX, ask_broker_once(&broker, &mut channel)).await;
        if matches!(answer, Ok(Ok(()))) {
            answers.hear();
        } else {
            channel = None;
        }
        sleep(INTERVAL).await;
    }
}

async fn ask_broker_once(
    broker: &Broker,
    channel: &mut Option<Channel>,
) -> Result<(), BrokerError> {
    let channel = match channel {
        Some(channel) => channel,
        None => channel.insert(broker.channel().await?),
    };
    // Changes nothing, and is answered.
    Ok(channel.basic_qos(1, BasicQosOptions::default()).await?)
}

async fn ask_database(pool: PgPool, answers: Arc<Answers>) {
    loop {
        answers.ask();
        let answer = timeout(ANSWER_MAX, takes_writes(&pool)).await;
        if matches!(answer, Ok(Ok(true))) {
            answers.hear();
        }
        sleep(INTERVAL).await;
    }
}

/// Whether the database takes writes: a standby, or one that was made read-only, does not.
async fn takes_writes(pool: &PgPool) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar!(
        r#"select current_setting('transaction_read_only') = 'off' as "takes_writes!""#
    )
    .fetch_one(pool)
    .await
}
