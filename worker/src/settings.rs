//! The worker's settings: what both processes have, and what only batches and retention need.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use clap::{Args, Parser, Subcommand};
use hotrow_shared::{
    addresses::DatabaseUrl,
    database::{self, Unusable},
    event::EventType,
    settings::{COMMON_SECRETS, Common, CommonArgs, ListenAddr, Problems, Secret, Secrets, help},
};
use sqlx::postgres::PgConnectOptions;

use crate::telling::Telling;

/// Where PostgreSQL is for whoever owns the tables.
const OWNER_DATABASE_URL: Secret = Secret {
    name: "OWNER_DATABASE_URL",
    help: "PostgreSQL as the owner of the tables, in the form of `DATABASE_URL`: makes and drops the days, and \
           migrates. Without it the user of `DATABASE_URL` has to own them",
};

/// Settles queued purchases in PostgreSQL, a batch at a time.
///
/// Every flag can be given by the environment variable of the same name, and secrets only so, or in files.
/// Without a command the worker runs until SIGTERM or Ctrl-C.
#[derive(Debug, Parser)]
#[command(name = "hotrow-worker", version, after_help = help(COMMON_SECRETS.into_iter().chain([&OWNER_DATABASE_URL])))]
pub struct Cli {
    /// What to do instead of working.
    #[command(subcommand)]
    pub command: Option<Command>,
    /// The settings.
    #[command(flatten)]
    pub settings: SettingsArgs,
}

/// What a worker can be told to do instead of working.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Bring the schema of the database up to date
    Migrate {
        /// Also make the database roles of the processes, give them their rights, and print what their users may do at
        /// the broker. Again after each upgrade
        #[arg(long)]
        roles: bool,
    },
    /// Check at once that stock, ledger, holds and orders add up; exits 1 and says what does not
    Audit,
    /// Publish events again
    Events {
        /// What to do with them.
        #[command(subcommand)]
        action: EventAction,
    },
    /// Send events to the endpoints that administrators have registered, until SIGTERM
    Webhooks,
    /// Look at orders that could not be settled, try them again or give them up
    DeadLetters {
        /// What to do with them.
        #[command(subcommand)]
        action: DeadLetterAction,
    },
}

/// What can be done with events.
#[derive(Debug, Clone, Subcommand)]
pub enum EventAction {
    /// Publish what happened in a span of time again, made from the tables, with the ids that it had
    Replay(Replay),
}

/// Which events are published again.
#[derive(Debug, Clone, Args)]
pub struct Replay {
    /// The first moment, as `2026-12-01T10:00:00Z`
    #[arg(long, value_name = "TIME")]
    pub since: DateTime<Utc>,
    /// The moment before which the last one was, in the same form
    #[arg(long, value_name = "TIME")]
    pub until: DateTime<Utc>,
    /// Only events of this type, such as `order.confirmed`; may be given several times
    #[arg(long = "type", value_name = "TYPE")]
    pub types: Vec<EventType>,
}

/// What can be done with dead letters.
#[derive(Debug, Clone, Subcommand)]
pub enum DeadLetterAction {
    /// Show dead letters, one JSON object a line, and leave them where they are
    List(Selection),
    /// Send dead letters back to their queue, to be settled as if they came in now. `--all` leaves those whose seal
    /// is wrong or missing, and so does `--order-id`: they may say anything. Whoever names them by
    /// `--reason wrong_seal` or `--reason unsealed` vouches for all that they say; `--order-id` narrows that down
    Replay(Selection),
    /// Remove dead letters; their orders stay `failed`
    Discard(Selection),
}

/// Which dead letters are meant.
#[derive(Debug, Clone, Default, Args)]
pub struct Selection {
    /// Only the dead letter of this order
    #[arg(long, value_name = "ORDER_ID")]
    pub order_id: Option<String>,
    /// Only dead letters of this reason: malformed, refused, unsealed, `wrong_seal` or `delivery_limit`
    #[arg(long)]
    pub reason: Option<String>,
    /// Every dead letter; replay and discard need this or another selection
    #[arg(long, conflicts_with_all = ["order_id", "reason"])]
    pub all: bool,
}

/// Settings as they were given.
#[derive(Debug, Args)]
pub struct SettingsArgs {
    #[command(flatten)]
    common: CommonArgs,

    /// Where Prometheus finds `/metrics`, and probes find `/livez` and `/readyz`
    #[arg(
        long,
        env,
        global = true,
        default_value = "127.0.0.1:9465",
        value_name = "ADDRESS"
    )]
    metrics_addr: String,

    /// Most orders settled in one transaction, 1 to 100000
    #[arg(long, env, global = true, default_value = "4000", value_name = "COUNT")]
    batch_orders_max: String,

    /// How long a batch waits for company after its first order; 0ms settles what is there at once
    #[arg(long, env, global = true, default_value = "0ms", value_name = "TIME")]
    batch_wait: String,

    /// Days that orders are kept, 2 or more; older days are dropped from the database
    #[arg(long, env, global = true, default_value = "30", value_name = "DAYS")]
    retention_days: String,

    /// Days that the record of what people changed is kept
    #[arg(long, env, global = true, default_value = "365", value_name = "DAYS")]
    audit_retention_days: String,

    /// How long after its end a hold expires: a payment that was accepted in time has reached its queue by then.
    /// Another time than 8s needs `DEVELOPMENT=true`
    #[arg(long, env, global = true, default_value = "8s", value_name = "TIME")]
    hold_grace: String,

    /// `true` sends envelopes without a seal to the dead letters, as it does with a wrong seal in any case. To be set
    /// once every ingest process of the installation seals: from the upgrade on, or at once in a new installation
    #[arg(
        long,
        env,
        global = true,
        default_value = "false",
        value_name = "BOOLEAN"
    )]
    require_sealed: String,

    /// `true` tells of rejected orders, too. In a sale they are many times as many as all others
    #[arg(
        long,
        env,
        global = true,
        default_value = "false",
        value_name = "BOOLEAN"
    )]
    events_rejected: String,
}

/// How long a payment that was accepted may take to be in its queue: 2 s in its lane, 5 s for the confirm, and
/// 1 s for clocks that differ.
const HOLD_GRACE: Duration = Duration::from_secs(8);
/// The longest grace that makes sense.
const HOLD_GRACE_MAX: Duration = Duration::from_mins(10);

/// The longest that a batch may wait for company: longer would only make every order late.
const BATCH_WAIT_MAX: Duration = Duration::from_secs(10);

/// Most bytes of envelopes in one batch: 4,000 orders of one item, keys and request ids included, and 500 of
/// the largest carts.
pub(crate) const BATCH_BYTES_MAX: usize = 1536 * 1024;

/// The worker's settings, checked.
#[derive(Clone)]
pub struct Settings {
    /// What both processes have.
    pub common: Common,
    /// The database as the owner of the tables, if that is somebody else.
    pub owner: Option<PgConnectOptions>,
    /// Where metrics and probes are.
    pub metrics_addr: ListenAddr,
    /// When a batch is closed.
    pub batch: BatchLimits,
    /// Days that orders are kept.
    pub retention_days: u64,
    /// Days that the audit log is kept.
    pub audit_retention_days: u64,
    /// How long after its end a hold expires.
    pub hold_grace: TimeDelta,
    /// Whether envelopes without a seal are refused.
    pub require_sealed: bool,
    /// What is told of by events, unless they are off.
    pub events: Option<Telling>,
}

impl Settings {
    /// The name of the installation in its events, if there are any.
    pub(crate) fn source_if_told(&self) -> Option<String> {
        self.events.map(|_| self.common.events_source.clone())
    }

    /// How the database is reached by whoever changes its schema.
    #[must_use]
    pub fn owner(&self) -> &PgConnectOptions {
        self.owner.as_ref().unwrap_or(&self.common.database)
    }

    /// Makes sure that the database can be reached by whoever changes its schema.
    ///
    /// # Errors
    /// It cannot.
    pub async fn reach_owner(&self) -> Result<(), Unusable> {
        let setting = match &self.owner {
            Some(_) => OWNER_DATABASE_URL.name,
            None => database::DATABASE_URL,
        };
        database::reach(self.owner(), setting).await
    }

    /// Says so in the log where what is said to a server can be read on the way.
    pub fn warn_of_plain_text(&self) {
        let owner = self.owner.as_ref();
        let owner = owner.map(|owner| (OWNER_DATABASE_URL.name, owner));
        self.common.warn_of_plain_text(owner.as_slice());
    }
}

/// When a batch is closed.
#[derive(Debug, Clone, Copy)]
pub struct BatchLimits {
    /// Most orders in one.
    pub orders_max: usize,
    /// Most bytes of envelopes in one.
    pub bytes_max: usize,
    /// How long it waits for company after its first order.
    pub wait: Duration,
}

impl SettingsArgs {
    /// Checks every setting.
    ///
    /// # Errors
    /// All that is wrong, in one message.
    pub fn check(&self, secrets: &Secrets) -> Result<Settings, Problems> {
        let mut problems = Problems::of_environment();
        let common = self.common.check(secrets, &mut problems);
        let owner: Option<DatabaseUrl> = secrets
            .optional(&OWNER_DATABASE_URL, &mut problems)
            .unwrap_or_default();
        let metrics_addr = problems.read("METRICS_ADDR", &self.metrics_addr);
        let orders_max = problems.count("BATCH_ORDERS_MAX", &self.batch_orders_max, 1..=100_000);
        let wait = problems.duration("BATCH_WAIT", &self.batch_wait);
        if wait.is_some_and(|wait| wait > BATCH_WAIT_MAX) {
            problems.add(format!("BATCH_WAIT: must be at most {BATCH_WAIT_MAX:?}"));
        }
        let retention_days = problems.count("RETENTION_DAYS", &self.retention_days, 2..=36_500);
        let audit_retention_days = problems.count(
            "AUDIT_RETENTION_DAYS",
            &self.audit_retention_days,
            1..=36_500,
        );
        let hold_grace = problems.duration("HOLD_GRACE", &self.hold_grace);
        if hold_grace.is_some_and(|grace| grace > HOLD_GRACE_MAX) {
            problems.add(format!("HOLD_GRACE: must be at most {HOLD_GRACE_MAX:?}"));
        }
        if hold_grace.is_some_and(|grace| grace != HOLD_GRACE)
            && common.as_ref().is_some_and(|common| !common.development)
        {
            problems.add("HOLD_GRACE: must be 8s, unless DEVELOPMENT=true".to_owned());
        }
        let require_sealed = problems.switch("REQUIRE_SEALED", &self.require_sealed);
        let rejected = problems.switch("EVENTS_REJECTED", &self.events_rejected);
        let settings = || {
            let common = common?;
            let telling = Telling {
                rejected: rejected?,
            };
            let batch = BatchLimits {
                orders_max: usize::try_from(orders_max?).ok()?,
                bytes_max: BATCH_BYTES_MAX,
                wait: wait?,
            };
            Some(Settings {
                events: common.plan.events.map(|_| telling),
                common,
                owner: owner.map(|url| url.0),
                metrics_addr: metrics_addr?,
                batch,
                retention_days: retention_days?,
                audit_retention_days: audit_retention_days?,
                require_sealed: require_sealed?,
                hold_grace: TimeDelta::from_std(hold_grace?).ok()?,
            })
        };
        problems.or(settings())
    }
}
