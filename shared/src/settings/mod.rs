//! The settings that both processes have, and the rule that one start reports every mistake.
//!
//! clap reads flags and environment and writes `--help`; the doc comment of a field is its manual.
//! Values are read as text and checked here, because clap would stop at the first wrong one.

mod problems;
mod secrets;

use std::{net::SocketAddr, str::FromStr, time::Duration};

use bytesize::ByteSize;
use clap::Args;
use sqlx::postgres::PgConnectOptions;

pub use self::{
    problems::Problems,
    secrets::{Noted, Rotating, Secret, SecretFiles, Secrets, help},
};
use crate::{
    addresses::{Brokers, DatabaseUrl},
    database,
    id::IdMint,
    seal::SealKeys,
    sealed::SealingKeys,
    telemetry::LogFormat,
    tls,
    topology::{Plan, StreamLimits},
    webhook::AllowedNetworks,
};

/// The most partitions: each is a quorum queue, and names have two digits.
const PARTITIONS_MAX: u16 = 100;

/// The shortest time that a stream may keep events.
const RETENTION_MIN: Duration = Duration::from_mins(1);
/// The least that a stream may keep.
const STREAM_BYTES_MIN: ByteSize = ByteSize::mib(10);

/// Where PostgreSQL is.
const DATABASE_URL: Secret = Secret {
    name: database::DATABASE_URL,
    help: "PostgreSQL, as `postgres://user:password@host:port/database`. Connect to the server itself and not \
           through a pooler in transaction mode: workers hold advisory locks. Required",
};
/// Where RabbitMQ is.
const AMQP_URL: Secret = Secret {
    name: "AMQP_URL",
    help: "RabbitMQ, as `amqp://user:password@host:port/vhost` or `amqps://…`; the default virtual host is \
           written `%2f`. Several addresses, separated by commas, are the nodes of one cluster. Required",
};
/// What signs order ids.
const ORDER_ID_SECRET: Secret = Secret {
    name: "ORDER_ID_SECRET",
    help: "Signs order ids, seals messages to the workers, and encrypts the secrets of webhooks; at least 16 \
           characters, the same in every process. Required",
};
/// What signed them before.
const ORDER_ID_SECRET_PREVIOUS: Secret = Secret {
    name: "ORDER_ID_SECRET_PREVIOUS",
    help: "A second secret whose ids and seals are still recognised. To rotate: first give every process the new \
           secret here, then swap the two, and drop the old one when no order that it signed is asked for any more, \
           at the latest after `RETENTION_DAYS`. Keep it for 48 hours at least, and while a message that it sealed \
           is in a queue or in `hotrow.dead`",
};
/// The secrets of both processes.
pub const COMMON_SECRETS: [&Secret; 4] = [
    &DATABASE_URL,
    &AMQP_URL,
    &ORDER_ID_SECRET,
    &ORDER_ID_SECRET_PREVIOUS,
];

/// Settings of both processes, as they were given, but for the secrets.
#[derive(Debug, Args)]
pub struct CommonArgs {
    /// Number of intake queues, 1 to 100. It must agree in every process and is checked against the broker;
    /// to change it, drain the queues, stop everything and delete them
    #[arg(long, env, global = true, default_value = "16", value_name = "COUNT")]
    partitions: String,

    /// Most connections to PostgreSQL of this process, 4 or more
    #[arg(long, env, global = true, default_value = "20", value_name = "COUNT")]
    database_connections: String,

    /// `on` tells other programs what becomes of orders and stock, by the stream `hotrow.events`; `off` does without.
    /// The same in every process
    #[arg(long, env, global = true, default_value = "on", value_name = "SWITCH")]
    events: String,

    /// How long the stream of events keeps them. Counts when the stream is made
    #[arg(long, env, global = true, default_value = "7d", value_name = "TIME")]
    events_retention: String,

    /// Most bytes that the stream of events keeps, such as `10GiB`. Counts when the stream is made
    #[arg(
        long,
        env,
        global = true,
        default_value = "10GiB",
        value_name = "BYTES"
    )]
    events_bytes_max: String,

    /// The `source` of every event: a name or URI of this installation, where several share consumers. The same in
    /// every process
    #[arg(
        long,
        env,
        global = true,
        default_value = "hotrow",
        value_name = "NAME"
    )]
    events_source: String,

    /// Networks that webhooks may reach although they are private, and by plain `http`, separated by commas, such as
    /// `10.1.0.0/16`. The same in every process
    #[arg(long, env, global = true, value_name = "CIDRS")]
    webhook_allowed_networks: Option<String>,

    /// How long a stop may take to bring accepted work to its end, such as `15s`
    #[arg(long, env, global = true, default_value = "15s", value_name = "TIME")]
    shutdown_grace: String,

    /// `json` for machines, `pretty` for people. `RUST_LOG` chooses what is logged, such as `info` or `hotrow_worker=debug`
    #[arg(
        long,
        env,
        global = true,
        default_value = "json",
        value_name = "FORMAT"
    )]
    log_format: String,

    /// `true` accepts secrets that are short or published, holds from 1 s on, and another `HOLD_GRACE`. For development, where nobody else can reach the process
    #[arg(
        long,
        env,
        global = true,
        default_value = "false",
        value_name = "BOOLEAN"
    )]
    development: String,
}

/// Settings of both processes, checked.
#[derive(Clone)]
pub struct Common {
    /// Where PostgreSQL is.
    pub database: PgConnectOptions,
    /// Where RabbitMQ is.
    pub amqp: Brokers,
    /// What is at the broker.
    pub plan: Plan,
    /// Signs and recognises order ids.
    pub mint: IdMint,
    /// Seal envelopes.
    pub seals: SealKeys,
    /// Encrypt the secrets that have to be read again.
    pub sealing: SealingKeys,
    /// The name of the installation in its events.
    pub events_source: String,
    /// Networks that webhooks may reach although they are private.
    pub webhook_networks: AllowedNetworks,
    /// Most connections to PostgreSQL.
    pub database_connections: u32,
    /// How long a stop may take.
    pub shutdown_grace: Duration,
    /// The form of the log.
    pub log_format: LogFormat,
    /// Whether weak and published secrets are accepted.
    pub development: bool,
}

impl Common {
    /// Says so in the log where secrets are not checked.
    pub fn warn_of_development(&self) {
        if self.development {
            tracing::warn!(
                "DEVELOPMENT=true: secrets may be short or published, and holds short; unset it before anybody else can reach this process"
            );
        }
    }

    /// Says so in the log where what is said to a server can be read on the way. `more` are settings of the process
    /// itself that say how it comes to the database.
    pub fn warn_of_plain_text(&self, more: &[(&str, &PgConnectOptions)]) {
        let mut plain: Vec<_> = [(DATABASE_URL.name, &self.database)]
            .iter()
            .chain(more)
            .filter(|(_, database)| tls::is_plain(database))
            .map(|(name, _)| format!("{name}: write sslmode=verify-full"))
            .collect();
        if let Some(node) = self.amqp.plain() {
            plain.push(format!("{}, {node}: write amqps://", AMQP_URL.name));
        }
        if !plain.is_empty() {
            tracing::warn!(
                settings = plain.join("; "),
                "servers on other machines are reached without TLS, or without insisting on it: whoever is on the way \
                 reads passwords and orders, and may change them"
            );
        }
    }
}

impl CommonArgs {
    /// The checked settings, if none of them is wrong; what is wrong goes to `problems`.
    #[must_use]
    pub fn check(&self, secrets: &Secrets, problems: &mut Problems) -> Option<Common> {
        let database = secrets.require::<DatabaseUrl>(&DATABASE_URL, problems);
        let amqp = secrets.require(&AMQP_URL, problems);
        let partitions = problems.count(
            "PARTITIONS",
            &self.partitions,
            1..=u64::from(PARTITIONS_MAX),
        );
        let keys = self.keys(secrets, problems);
        let has_events = self.has_events(problems);
        let stream_limits = self.stream_limits(problems);
        let source = problems.read::<Source>("EVENTS_SOURCE", &self.events_source);
        let networks = given(self.webhook_allowed_networks.as_deref());
        let networks = problems.networks("WEBHOOK_ALLOWED_NETWORKS", networks);
        let connections = problems.count(
            "DATABASE_CONNECTIONS",
            &self.database_connections,
            4..=10_000,
        );
        let shutdown_grace = problems.duration("SHUTDOWN_GRACE", &self.shutdown_grace);
        let log_format = problems.read("LOG_FORMAT", &self.log_format);
        let development = problems.switch("DEVELOPMENT", &self.development);
        let Keys {
            mint,
            seals,
            sealing,
        } = keys?;
        Some(Common {
            database: database?.0,
            amqp: amqp?,
            plan: Plan {
                partitions: u16::try_from(partitions?).ok()?,
                events: has_events?.then_some(stream_limits?),
            },
            mint,
            seals,
            sealing,
            events_source: source?.0,
            webhook_networks: AllowedNetworks::new(networks),
            database_connections: u32::try_from(connections?).ok()?,
            shutdown_grace: shutdown_grace?,
            log_format: log_format?,
            development: development?,
        })
    }

    /// Whether secrets need not be checked. A switch that cannot be read is a problem of its own.
    #[must_use]
    pub fn is_development(&self) -> bool {
        self.development != "false"
    }

    fn has_events(&self, problems: &mut Problems) -> Option<bool> {
        match self.events.as_str() {
            "on" => Some(true),
            "off" => Some(false),
            _ => {
                problems.add("EVENTS: must be on or off");
                None
            }
        }
    }

    fn stream_limits(&self, problems: &mut Problems) -> Option<StreamLimits> {
        let retention = problems.duration("EVENTS_RETENTION", &self.events_retention);
        if retention.is_some_and(|time| time < RETENTION_MIN) {
            problems.add(format!(
                "EVENTS_RETENTION: must be at least {RETENTION_MIN:?}"
            ));
        }
        let bytes_max = problems.read::<ByteSize>("EVENTS_BYTES_MAX", &self.events_bytes_max);
        if bytes_max.is_some_and(|bytes| bytes < STREAM_BYTES_MIN) {
            problems.add(format!(
                "EVENTS_BYTES_MAX: must be at least {STREAM_BYTES_MIN}"
            ));
        }
        Some(StreamLimits {
            retention: retention?,
            bytes_max: bytes_max?.as_u64(),
        })
    }

    /// What is derived from the secrets.
    fn keys(&self, secrets: &Secrets, problems: &mut Problems) -> Option<Keys> {
        let current: Option<String> = secrets.require(&ORDER_ID_SECRET, problems);
        let previous: Option<String> = secrets
            .optional(&ORDER_ID_SECRET_PREVIOUS, problems)
            .unwrap_or_default();
        let previous = previous.as_deref();
        if !self.is_development() {
            let secrets = [
                (ORDER_ID_SECRET.name, current.as_deref()),
                (ORDER_ID_SECRET_PREVIOUS.name, previous),
            ];
            for (name, secret) in secrets {
                if let Some(secret) = secret {
                    problems.secret(name, secret);
                }
            }
        }
        if previous.is_some() && previous == current.as_deref() {
            problems.add(format!(
                "{}: must differ from {}",
                ORDER_ID_SECRET_PREVIOUS.name, ORDER_ID_SECRET.name
            ));
        }
        let current = current?;
        Some(Keys {
            mint: IdMint::new(&current, previous),
            seals: SealKeys::new(&current, previous),
            sealing: SealingKeys::new(&current, previous),
        })
    }
}

/// The text of a setting, if it has any: an empty value, as a file of settings may have it, counts as none.
#[must_use]
pub fn given(text: Option<&str>) -> Option<&str> {
    text.map(str::trim).filter(|text| !text.is_empty())
}

/// What is derived from `ORDER_ID_SECRET` and the one before.
struct Keys {
    mint: IdMint,
    seals: SealKeys,
    sealing: SealingKeys,
}

/// The longest name of an installation, in characters.
const SOURCE_LENGTH_MAX: usize = 255;

/// A URI reference without spaces. (`CloudEvents` 1.0, `source`.)
struct Source(String);

impl FromStr for Source {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let is_fit = (1..=SOURCE_LENGTH_MAX).contains(&text.len())
            && text.bytes().all(|byte| byte.is_ascii_graphic());
        is_fit.then(|| Self(text.to_owned())).ok_or_else(|| {
            format!("must be 1 to {SOURCE_LENGTH_MAX} visible ASCII characters without spaces")
        })
    }
}

/// An address to listen on, with a message that shows the form.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ListenAddr(pub SocketAddr);

impl FromStr for ListenAddr {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse()
            .map(Self)
            .map_err(|_| "must be an address and a port such as 127.0.0.1:8080")
    }
}
