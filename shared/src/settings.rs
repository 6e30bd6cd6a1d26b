//! The settings that both processes have, and the rule that one start reports every mistake.
//!
//! clap reads flags and environment and writes `--help`; the doc comment of a field is its manual.
//! Values are read as text and checked here, because clap would stop at the first wrong one.

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
    str::FromStr,
    time::Duration,
};

use bytesize::ByteSize;
use clap::Args;
use ipnet::IpNet;
use sqlx::postgres::PgConnectOptions;

use crate::{
    addresses::{Brokers, DatabaseUrl},
    id::{IdMint, SECRET_LENGTH_MIN},
    sealed::SealingKeys,
    telemetry::LogFormat,
    topology::{Plan, StreamLimits},
    webhook::AllowedNetworks,
};

/// Every environment variable of Hotrow. Both processes may share one file of settings, so both
/// know all names.
const VARIABLES: &[&str] = &[
    "DATABASE_URL",
    "AMQP_URL",
    "LISTEN_ADDR",
    "METRICS_ADDR",
    "PARTITIONS",
    "ORDER_ID_SECRET",
    "ORDER_ID_SECRET_PREVIOUS",
    "ADMIN_TOKEN",
    "STRIPE_WEBHOOK_SECRET",
    "STRIPE_LIVEMODE",
    "CORS_ORIGINS",
    "TRUSTED_PROXIES",
    "CONNECTIONS_MAX",
    "CONNECTIONS_PER_ADDRESS_MAX",
    "RATE_LIMIT_IP",
    "RATE_LIMIT_CUSTOMER",
    "RATE_LIMIT_GLOBAL",
    "QUEUED_ORDERS_MAX",
    "ENVELOPE_ORDERS_MAX",
    "LOG_SAMPLE",
    "BATCH_ORDERS_MAX",
    "BATCH_WAIT",
    "RETENTION_DAYS",
    "HOLD_GRACE",
    "EVENTS",
    "EVENTS_RETENTION",
    "EVENTS_BYTES_MAX",
    "EVENTS_REJECTED",
    "EVENTS_SOURCE",
    "WEBHOOK_ALLOWED_NETWORKS",
    "DATABASE_CONNECTIONS",
    "SHUTDOWN_GRACE",
    "LOG_FORMAT",
    "DEVELOPMENT",
    "RUST_LOG",
    "RUST_BACKTRACE",
    "RUST_LOG_STYLE",
];

/// Beginnings that nobody but Hotrow uses: a variable with one of them and an unknown end is a
/// spelling mistake that would silently leave a default in force.
const PREFIXES: &[&str] = &[
    "PARTITION",
    "ORDER_ID_",
    "RATE_LIMIT_",
    "QUEUED_ORDER",
    "ENVELOPE_",
    "LOG_SAMPL",
    "BATCH_",
    "RETENTION_",
    "HOLD_",
    "EVENTS_",
    "WEBHOOK_",
    "SHUTDOWN_",
    "LISTEN_ADDR",
    "METRICS_ADDR",
    "ADMIN_TOKEN",
    "STRIPE_WEBHOOK_SECRET",
    "STRIPE_LIVEMODE",
    "CORS_ORIGIN",
    "TRUSTED_PROX",
    "CONNECTIONS_",
    "DATABASE_CONNECTION",
];

/// How every secret begins that stands in this repository for development, in `.env.example` and
/// `deploy/compose.yaml`: everybody can read it there.
const PUBLISHED: &str = "development-only";

/// The most partitions: each is a quorum queue, and names have two digits.
const PARTITIONS_MAX: u16 = 100;

/// The shortest time that a stream may keep events.
const RETENTION_MIN: Duration = Duration::from_mins(1);
/// The least that a stream may keep.
const STREAM_BYTES_MIN: ByteSize = ByteSize::mib(10);

/// Settings of both processes, as they were given.
#[derive(Debug, Args)]
pub struct CommonArgs {
    /// PostgreSQL, as `postgres://user:password@host:port/database`. Connect to the server itself and not
    /// through a pooler in transaction mode: workers hold advisory locks. Required
    #[arg(long, env, global = true, hide_env_values = true, value_name = "URL")]
    database_url: Option<String>,

    /// RabbitMQ, as `amqp://user:password@host:port/vhost` or `amqps://…`; the default virtual host is
    /// written `%2f`. Several addresses, separated by commas, are the nodes of one cluster. Required
    #[arg(long, env, global = true, hide_env_values = true, value_name = "URL")]
    amqp_url: Option<String>,

    /// Number of intake queues, 1 to 100. It must agree in every process and is checked against the broker;
    /// to change it, drain the queues, stop everything and delete them
    #[arg(long, env, global = true, default_value = "16", value_name = "COUNT")]
    partitions: String,

    /// Secret that signs order ids, at least 16 characters, the same in every process. Required
    #[arg(
        long,
        env,
        global = true,
        hide_env_values = true,
        value_name = "SECRET"
    )]
    order_id_secret: Option<String>,

    /// A second secret whose ids are still recognised. To rotate: first give every process the new secret here,
    /// then swap the two, and drop the old one
    /// when no order that it signed is asked for any more, at the latest after `RETENTION_DAYS`
    #[arg(
        long,
        env,
        global = true,
        hide_env_values = true,
        value_name = "SECRET"
    )]
    order_id_secret_previous: Option<String>,

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

    /// `true` accepts secrets that are short or published. For development, where nobody else can reach the process
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
                "DEVELOPMENT=true: secrets may be short or published; unset it before anybody else can reach this process"
            );
        }
    }
}

/// Everything that is wrong with the settings of one start.
#[derive(Debug, Default)]
pub struct Problems(Vec<String>);

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "the settings do not fit ({} found; see --help):",
            self.0.len()
        )?;
        self.0
            .iter()
            .try_for_each(|problem| write!(f, "\n  {problem}"))
    }
}

impl std::error::Error for Problems {}

impl Problems {
    /// Problems so far: variables that look like ours and are not.
    #[must_use]
    pub fn of_environment() -> Self {
        let unknown = |name: &String| {
            // What Kubernetes says of a service that happens to be called like one of ours.
            let of_a_service = name.contains("_SERVICE_") || name.contains("_PORT");
            !of_a_service
                && PREFIXES.iter().any(|prefix| name.starts_with(prefix))
                && !VARIABLES.contains(&name.as_str())
        };
        let names = std::env::vars_os().filter_map(|(name, _)| name.into_string().ok());
        Self(
            names
                .filter(unknown)
                .map(|name| format!("{name} is not a setting of Hotrow"))
                .collect(),
        )
    }

    /// Notes one more problem.
    pub fn add(&mut self, problem: impl Into<String>) {
        self.0.push(problem.into());
    }

    /// Reads one value, or notes why it cannot be read. The value itself may be a secret and is
    /// not repeated.
    pub fn read<T: FromStr>(&mut self, name: &str, text: &str) -> Option<T>
    where
        T::Err: fmt::Display,
    {
        text.parse()
            .map_err(|error| self.add(format!("{name}: {error}")))
            .ok()
    }

    /// Reads one value that must be there.
    pub fn require<T: FromStr>(&mut self, name: &str, text: Option<&str>) -> Option<T>
    where
        T::Err: fmt::Display,
    {
        let Some(text) = text.filter(|text| !text.is_empty()) else {
            self.add(format!("{name} is required"));
            return None;
        };
        self.read(name, text)
    }

    /// Reads a whole number within bounds.
    pub fn count(
        &mut self,
        name: &str,
        text: &str,
        bounds: std::ops::RangeInclusive<u64>,
    ) -> Option<u64> {
        let count = text.parse().ok().filter(|count| bounds.contains(count));
        if count.is_none() {
            self.add(format!(
                "{name}: must be a whole number from {} to {}",
                bounds.start(),
                bounds.end()
            ));
        }
        count
    }

    /// Reads a time such as `15s` or `250ms`.
    pub fn duration(&mut self, name: &str, text: &str) -> Option<Duration> {
        let duration = humantime::parse_duration(text).ok();
        if duration.is_none() {
            self.add(format!("{name}: must be a time such as 15s or 250ms"));
        }
        duration
    }

    /// Reads `true` or `false`.
    pub fn switch(&mut self, name: &str, text: &str) -> Option<bool> {
        let switch = text.parse().ok();
        if switch.is_none() {
            self.add(format!("{name}: must be true or false"));
        }
        switch
    }

    /// Reads networks, separated by commas; a single address is a network of one.
    pub fn networks(&mut self, name: &str, text: Option<&str>) -> Vec<IpNet> {
        let mut networks = Vec::new();
        let texts = text.into_iter().flat_map(|text| text.split(','));
        for text in texts.map(str::trim) {
            let address = || text.parse().map(|address: IpAddr| IpNet::from(address));
            match text.parse().or_else(|_| address()) {
                Ok(network) => networks.push(network),
                Err(_) => self.add(format!(
                    "{name}: {text:?} is not a network such as 10.0.0.0/8"
                )),
            }
        }
        networks
    }

    /// Refuses a secret that others know or can guess.
    pub fn secret(&mut self, name: &str, secret: &str) {
        if secret.starts_with(PUBLISHED) {
            self.add(format!(
                "{name}: this secret is published with Hotrow: make your own, for example with `openssl rand -hex 32`, \
                 or set DEVELOPMENT=true where nobody else can reach the process"
            ));
        } else if secret.len() < SECRET_LENGTH_MIN {
            self.add(format!(
                "{name}: must be at least {SECRET_LENGTH_MIN} characters, for example from `openssl rand -hex 32`"
            ));
        }
    }

    /// The settings, if nothing was wrong with them.
    ///
    /// # Errors
    /// Everything that was noted.
    pub fn or<T>(self, settings: Option<T>) -> Result<T, Self> {
        match settings {
            Some(settings) if self.0.is_empty() => Ok(settings),
            _ => Err(self),
        }
    }
}

impl CommonArgs {
    /// The checked settings, if none of them is wrong; what is wrong goes to `problems`.
    #[must_use]
    pub fn check(&self, problems: &mut Problems) -> Option<Common> {
        let database =
            problems.require::<DatabaseUrl>("DATABASE_URL", self.database_url.as_deref());
        let amqp = problems.require("AMQP_URL", self.amqp_url.as_deref());
        let partitions = problems.count(
            "PARTITIONS",
            &self.partitions,
            1..=u64::from(PARTITIONS_MAX),
        );
        let keys = self.keys(problems);
        let has_events = self.has_events(problems);
        let stream_limits = self.stream_limits(problems);
        let source = problems.read::<Source>("EVENTS_SOURCE", &self.events_source);
        let networks = self.webhook_allowed_networks.as_deref().map(str::trim);
        let networks = networks.filter(|text| !text.is_empty());
        let networks = problems.networks("WEBHOOK_ALLOWED_NETWORKS", networks);
        let connections = problems.count(
            "DATABASE_CONNECTIONS",
            &self.database_connections,
            4..=10_000,
        );
        let shutdown_grace = problems.duration("SHUTDOWN_GRACE", &self.shutdown_grace);
        let log_format = problems.read("LOG_FORMAT", &self.log_format);
        let development = problems.switch("DEVELOPMENT", &self.development);
        let (mint, sealing) = keys?;
        Some(Common {
            database: database?.0,
            amqp: amqp?,
            plan: Plan {
                partitions: u16::try_from(partitions?).ok()?,
                events: has_events?.then_some(stream_limits?),
            },
            mint,
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
    fn keys(&self, problems: &mut Problems) -> Option<(IdMint, SealingKeys)> {
        let current =
            problems.require::<String>("ORDER_ID_SECRET", self.order_id_secret.as_deref());
        let previous = self
            .order_id_secret_previous
            .as_deref()
            .filter(|text| !text.is_empty());
        if !self.is_development() {
            let secrets = [
                ("ORDER_ID_SECRET", current.as_deref()),
                ("ORDER_ID_SECRET_PREVIOUS", previous),
            ];
            for (name, secret) in secrets {
                if let Some(secret) = secret {
                    problems.secret(name, secret);
                }
            }
        }
        if previous.is_some() && previous == current.as_deref() {
            problems.add("ORDER_ID_SECRET_PREVIOUS: must differ from ORDER_ID_SECRET");
        }
        let current = current?;
        let sealing = SealingKeys::new(&current, previous);
        Some((IdMint::new(&current, previous), sealing))
    }
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
