//! The ingest process's settings: what both processes have, and what only the front door needs.

mod rates;
mod secrets;

use axum::http::HeaderValue;
use clap::Parser;
use hotrow_shared::{
    descriptors::allowed,
    settings::{
        Common, CommonArgs, ListenAddr, Problems, Rotating, SecretFiles, Secrets, given, help,
    },
};
use ipnet::IpNet;

pub use self::rates::{RateLimit, RateLimits};
use self::{
    rates::Limit,
    secrets::{SECRETS, STRIPE_WEBHOOK_SECRET, webhook_secret},
};
use crate::{
    auth::{AuthArgs, AuthSettings},
    http::server::{connections::ConnectionLimits, descriptors},
};

/// Accepts purchases over HTTP and makes them durable in RabbitMQ.
///
/// Every flag can be given by the environment variable of the same name, and secrets only so, or in files.
/// The process runs until SIGTERM or Ctrl-C.
#[derive(Debug, Parser)]
#[command(name = "hotrow-ingest", version, after_help = help(SECRETS))]
pub struct Cli {
    #[command(flatten)]
    common: CommonArgs,

    /// Where clients send purchases and ask for outcomes
    #[arg(long, env, default_value = "127.0.0.1:8080", value_name = "ADDRESS")]
    listen_addr: String,

    /// Where Prometheus finds `/metrics`; probes may ask here, too
    #[arg(long, env, default_value = "127.0.0.1:9464", value_name = "ADDRESS")]
    metrics_addr: String,

    #[command(flatten)]
    auth: AuthArgs,

    /// `true` follows Stripe's live events and ignores those of test mode; `false` is the reverse
    #[arg(long, env, default_value = "true", value_name = "BOOLEAN")]
    stripe_livemode: String,

    /// Origins whose pages may call the API, separated by commas, such as `https://shop.example`; `*` for all
    #[arg(long, env, value_name = "ORIGINS")]
    cors_origins: Option<String>,

    /// Networks of the proxies in front, separated by commas, such as `10.0.0.0/8`: from these the client's address
    /// is taken from `X-Forwarded-For`
    #[arg(long, env, value_name = "CIDRS")]
    trusted_proxies: Option<String>,

    /// Most client connections at a time; more are closed at once. The default is the number of file descriptors
    /// less 1,000
    #[arg(long, env, value_name = "COUNT")]
    connections_max: Option<String>,

    /// Most connections from one client address (an IPv6 client is its /64); trusted proxies have no such limit
    #[arg(long, env, default_value = "5000", value_name = "COUNT")]
    connections_per_address_max: String,

    /// Purchases per client address, such as `100/s burst 200`, or `off`. An IPv6 client is its /64, and the /48
    /// around it has 16 times the limit
    #[arg(long, env, default_value = "100/s burst 200", value_name = "LIMIT")]
    rate_limit_ip: String,

    /// Purchases per customer id; where tokens are checked, per customer who calls. Its cancellations are counted apart,
    /// with the same limit
    #[arg(long, env, default_value = "10/s burst 20", value_name = "LIMIT")]
    rate_limit_customer: String,

    /// Purchases of this process altogether
    #[arg(
        long,
        env,
        default_value = "100000/s burst 200000",
        value_name = "LIMIT"
    )]
    rate_limit_global: String,

    /// Refused tokens per client address. A token that is right always passes
    #[arg(long, env, default_value = "60/m burst 60", value_name = "LIMIT")]
    rate_limit_logins: String,
    /// Reads (`GET`) per client address, probes not counted; a poll that waits counts once
    #[arg(long, env, default_value = "1000/s burst 5000", value_name = "LIMIT")]
    rate_limit_reads: String,

    /// Most live streams (`GET /v1/live`) at a time; more are refused as `overloaded`
    #[arg(long, env, default_value = "10000", value_name = "COUNT")]
    live_streams_max: String,

    /// Orders in all queues above which purchases are refused as `overloaded`
    #[arg(long, env, default_value = "1000000", value_name = "COUNT")]
    queued_orders_max: String,

    /// Most orders in one message to the broker, 1 to 4096
    #[arg(long, env, default_value = "512", value_name = "COUNT")]
    envelope_orders_max: String,

    /// One of so many answers has a line in the log, 0 for none; answers of 500 and above have theirs
    /// without, up to 100 a second
    #[arg(long, env, default_value = "100", value_name = "COUNT")]
    log_sample: String,
}

/// The ingest process's settings, checked.
#[derive(Clone)]
pub struct Settings {
    /// What both processes have.
    pub common: Common,
    /// Where clients connect.
    pub listen_addr: ListenAddr,
    /// Where Prometheus does.
    pub metrics_addr: ListenAddr,
    /// How callers are known.
    pub auth: AuthSettings,
    /// How Stripe tells of payments, if it does.
    pub stripe: Option<StripeSettings>,
    /// Origins whose pages may call.
    pub cors_origins: Origins,
    /// Networks whose `X-Forwarded-For` is believed.
    pub trusted_proxies: Vec<IpNet>,
    /// The limits of connections.
    pub connections: ConnectionLimits,
    /// The limits of purchases.
    pub rate_limits: RateLimits,
    /// Most live streams at a time.
    pub live_streams_max: usize,
    /// Orders in all queues above which purchases are refused.
    pub queued_orders_max: u64,
    /// Most orders in one message.
    pub envelope_orders_max: usize,
    /// One of so many answers is logged; 0 for none.
    pub log_sample: u64,
    /// What a SIGHUP reads again.
    pub secret_files: SecretFiles,
}

/// How Stripe tells of payments.
#[derive(Clone)]
pub struct StripeSettings {
    /// What its events are signed with.
    pub webhook_secret: Rotating<String>,
    /// Whether live events are followed, and not those of test mode.
    pub is_live: bool,
}

/// Origins whose pages may call the API.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origins {
    /// Everybody's.
    Any,
    /// These.
    These(Vec<HeaderValue>),
}

impl Cli {
    /// Checks every setting.
    ///
    /// # Errors
    /// All that is wrong, in one message.
    pub fn check(&self, mut secrets: Secrets) -> Result<Settings, Problems> {
        let mut problems = Problems::of_environment();
        let common = self.common.check(&secrets, &mut problems);
        let listen_addr = problems.read::<ListenAddr>("LISTEN_ADDR", &self.listen_addr);
        let metrics_addr = problems.read::<ListenAddr>("METRICS_ADDR", &self.metrics_addr);
        if listen_addr.is_some_and(|listen| listen.0.port() != 0 && Some(listen) == metrics_addr) {
            problems.add("METRICS_ADDR: must differ from LISTEN_ADDR");
        }
        let cors_origins = origins(given(self.cors_origins.as_deref()), &mut problems);
        let proxies = given(self.trusted_proxies.as_deref());
        let trusted_proxies = problems.networks("TRUSTED_PROXIES", proxies);
        let database_connections = common.as_ref().map(|common| common.database_connections);
        let connections = self.connections(database_connections, &mut problems);
        let mut limit = |name, text: &str| problems.read::<Limit>(name, text).map(|limit| limit.0);
        let ip = limit("RATE_LIMIT_IP", &self.rate_limit_ip);
        let customer = limit("RATE_LIMIT_CUSTOMER", &self.rate_limit_customer);
        let global = limit("RATE_LIMIT_GLOBAL", &self.rate_limit_global);
        let logins = limit("RATE_LIMIT_LOGINS", &self.rate_limit_logins);
        let reads = limit("RATE_LIMIT_READS", &self.rate_limit_reads);
        let live_streams_max =
            problems.count("LIVE_STREAMS_MAX", &self.live_streams_max, 0..=1_000_000);
        let queued_orders_max = problems.count(
            "QUEUED_ORDERS_MAX",
            &self.queued_orders_max,
            1..=1_000_000_000,
        );
        let envelope_orders_max =
            problems.count("ENVELOPE_ORDERS_MAX", &self.envelope_orders_max, 1..=4_096);
        let log_sample = problems.count("LOG_SAMPLE", &self.log_sample, 0..=1_000_000_000);
        let is_development = self.common.is_development();
        let auth = self.auth.check(&mut secrets, is_development, &mut problems);
        let stripe = self.stripe(&mut secrets, &mut problems);
        let settings = || {
            Some(Settings {
                common: common?,
                listen_addr: listen_addr?,
                metrics_addr: metrics_addr?,
                auth,
                stripe,
                cors_origins,
                trusted_proxies,
                connections: connections?,
                rate_limits: RateLimits {
                    ip: ip?,
                    customer: customer?,
                    global: global?,
                    logins: logins?,
                    reads: reads?,
                },
                live_streams_max: usize::try_from(live_streams_max?).ok()?,
                queued_orders_max: queued_orders_max?,
                envelope_orders_max: usize::try_from(envelope_orders_max?).ok()?,
                log_sample: log_sample?,
                secret_files: secrets.files(),
            })
        };
        problems.or(settings())
    }
}

impl Cli {
    fn stripe(&self, secrets: &mut Secrets, problems: &mut Problems) -> Option<StripeSettings> {
        let is_live = problems.switch("STRIPE_LIVEMODE", &self.stripe_livemode);
        let webhook_secret =
            secrets.rotating([&STRIPE_WEBHOOK_SECRET], problems, |[secret], problems| {
                webhook_secret(secret, problems)
            });
        Some(StripeSettings {
            webhook_secret: webhook_secret?,
            is_live: is_live?,
        })
    }

    fn connections(
        &self,
        database_connections: Option<u32>,
        problems: &mut Problems,
    ) -> Option<ConnectionLimits> {
        const BOUNDS: std::ops::RangeInclusive<u64> = 1..=1_000_000;
        let per_address_max = problems.count(
            "CONNECTIONS_PER_ADDRESS_MAX",
            &self.connections_per_address_max,
            BOUNDS,
        );
        let asked = match given(self.connections_max.as_deref()) {
            Some(text) => Some(problems.count("CONNECTIONS_MAX", text, BOUNDS)?),
            None => None,
        };
        let max = descriptors::connections_max(asked, allowed(), database_connections?)
            .map_err(|why| problems.add(format!("CONNECTIONS_MAX: {why}")))
            .ok()?;
        Some(ConnectionLimits {
            max,
            per_address_max: usize::try_from(per_address_max?).ok()?,
        })
    }
}

fn origins(text: Option<&str>, problems: &mut Problems) -> Origins {
    let Some(text) = text else {
        return Origins::These(Vec::new());
    };
    if text == "*" {
        return Origins::Any;
    }
    let mut origins = Vec::new();
    for origin in text.split(',').map(str::trim) {
        let host = origin
            .strip_prefix("https://")
            .or_else(|| origin.strip_prefix("http://"));
        let is_origin =
            host.is_some_and(|host| !host.is_empty() && !host.contains(['/', '*', ' ']));
        match HeaderValue::from_str(origin) {
            Ok(value) if is_origin => origins.push(value),
            _ => problems.add(format!("CORS_ORIGINS: {origin:?} is not an origin such as https://shop.example, without a path")),
        }
    }
    Origins::These(origins)
}
