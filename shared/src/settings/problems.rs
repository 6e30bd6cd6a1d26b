//! Everything that is wrong with the settings of one start, and the ways to read a value and note why it cannot be.

use std::{fmt, net::IpAddr, str::FromStr, time::Duration};

use ipnet::IpNet;

use crate::id::SECRET_LENGTH_MIN;

/// Every environment variable of Hotrow. Both processes may share one file of settings, so both
/// know all names.
const VARIABLES: &[&str] = &[
    "LISTEN_ADDR",
    "METRICS_ADDR",
    "PARTITIONS",
    "AUTH_JWKS",
    "AUTH_ISSUER",
    "AUTH_AUDIENCE",
    "AUTH_ROLE_CLAIM",
    "STRIPE_LIVEMODE",
    "CORS_ORIGINS",
    "TRUSTED_PROXIES",
    "CONNECTIONS_MAX",
    "CONNECTIONS_PER_ADDRESS_MAX",
    "LIVE_STREAMS_MAX",
    "RATE_LIMIT_IP",
    "RATE_LIMIT_CUSTOMER",
    "RATE_LIMIT_GLOBAL",
    "RATE_LIMIT_LOGINS",
    "RATE_LIMIT_READS",
    "QUEUED_ORDERS_MAX",
    "ENVELOPE_ORDERS_MAX",
    "LOG_SAMPLE",
    "BATCH_ORDERS_MAX",
    "BATCH_WAIT",
    "RETENTION_DAYS",
    "AUDIT_RETENTION_DAYS",
    "REQUIRE_SEALED",
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

/// Those that are secrets, and may stand in a file instead.
const SECRETS: &[&str] = &[
    "DATABASE_URL",
    "OWNER_DATABASE_URL",
    "AMQP_URL",
    "ORDER_ID_SECRET",
    "ORDER_ID_SECRET_PREVIOUS",
    "ADMIN_TOKEN",
    "ADMIN_TOKEN_PREVIOUS",
    "AUTH_SECRET",
    "STRIPE_WEBHOOK_SECRET",
];

/// The end of the variable that names the file of a secret.
pub(super) const FILE: &str = "_FILE";

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
    "OWNER_",
    "REQUIRE_",
    "HOLD_",
    "EVENTS_",
    "WEBHOOK_",
    "SHUTDOWN_",
    "LISTEN_ADDR",
    "METRICS_ADDR",
    "ADMIN_TOKEN",
    "AUDIT_",
    "AUTH_",
    "STRIPE_WEBHOOK_SECRET",
    "STRIPE_LIVEMODE",
    "CORS_ORIGIN",
    "TRUSTED_PROX",
    "CONNECTIONS_",
    "LIVE_STREAM",
    "DATABASE_CONNECTION",
];

/// How every secret begins that stands in this repository for development, in `.env.example`: everybody can read it
/// there.
const PUBLISHED: &str = "development-only";

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

/// Whether a variable is one of the secrets.
pub(super) fn is_secret(name: &str) -> bool {
    SECRETS.contains(&name)
}

fn is_known(name: &str) -> bool {
    let secret = name.strip_suffix(FILE).unwrap_or(name);
    VARIABLES.contains(&name) || is_secret(secret)
}

impl Problems {
    /// Problems so far: variables that look like ours and are not.
    #[must_use]
    pub fn of_environment() -> Self {
        let unknown = |name: &String| {
            // What Kubernetes says of a service that happens to be called like one of ours.
            let of_a_service = name.contains("_SERVICE_") || name.contains("_PORT");
            !of_a_service
                && PREFIXES.iter().any(|prefix| name.starts_with(prefix))
                && !is_known(name)
        };
        let names = std::env::vars_os().filter_map(|(name, _)| name.into_string().ok());
        Self(
            names
                .filter(unknown)
                .map(|name| format!("{name} is not a setting of Hotrow"))
                .collect(),
        )
    }

    /// All of them on one line.
    pub(super) fn sentence(&self) -> String {
        self.0.join("; ")
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
