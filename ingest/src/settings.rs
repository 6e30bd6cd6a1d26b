//! The ingest process's settings: what both processes have, and what only the front door needs.

use std::{num::NonZeroU32, str::FromStr, time::Duration};

use axum::http::HeaderValue;
use clap::Parser;
use hotrow_shared::{
    descriptors::allowed,
    id::SECRET_LENGTH_MIN,
    settings::{Common, CommonArgs, ListenAddr, Problems},
};
use ipnet::IpNet;

use crate::http::server::{connections::ConnectionLimits, descriptors};

/// Accepts purchases over HTTP and makes them durable in RabbitMQ.
///
/// Every flag can be given by the environment variable of the same name. The process runs until SIGTERM or Ctrl-C.
#[derive(Debug, Parser)]
#[command(name = "hotrow-ingest", version)]
pub struct Cli {
    #[command(flatten)]
    common: CommonArgs,

    /// Where clients send purchases and ask for outcomes
    #[arg(long, env, default_value = "127.0.0.1:8080", value_name = "ADDRESS")]
    listen_addr: String,

    /// Where Prometheus finds `/metrics`; probes may ask here, too
    #[arg(long, env, default_value = "127.0.0.1:9464", value_name = "ADDRESS")]
    metrics_addr: String,

    /// Bearer token of the routes that change the inventory; without one they answer 401
    #[arg(long, env, hide_env_values = true, value_name = "TOKEN")]
    admin_token: Option<String>,

    /// Signing secret of the webhook endpoint by which Stripe tells of payments, `whsec_…`; without one
    /// `/v1/payments/stripe` is 404
    #[arg(long, env, hide_env_values = true, value_name = "SECRET")]
    stripe_webhook_secret: Option<String>,

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

    /// Purchases per customer id
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

    /// Reads (`GET`) per client address, probes not counted; a poll that waits counts once
    #[arg(long, env, default_value = "1000/s burst 5000", value_name = "LIMIT")]
    rate_limit_reads: String,

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
    /// The bearer token of administrators.
    pub admin_token: Option<String>,
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
    /// Orders in all queues above which purchases are refused.
    pub queued_orders_max: u64,
    /// Most orders in one message.
    pub envelope_orders_max: usize,
    /// One of so many answers is logged; 0 for none.
    pub log_sample: u64,
}

/// How Stripe tells of payments.
#[derive(Clone)]
pub struct StripeSettings {
    /// What its events are signed with.
    pub webhook_secret: String,
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

/// The limits of purchases and reads; none is off.
#[derive(Debug, Clone, Copy)]
pub struct RateLimits {
    /// Per client address.
    pub ip: Option<RateLimit>,
    /// Per customer id.
    pub customer: Option<RateLimit>,
    /// Altogether.
    pub global: Option<RateLimit>,
    /// Reads per client address.
    pub reads: Option<RateLimit>,
}

/// A limit: so many per period on average, and so many at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RateLimit {
    /// How many in a period.
    pub count: NonZeroU32,
    /// The period.
    pub period: Duration,
    /// How many at once.
    pub burst: NonZeroU32,
}

impl RateLimit {
    /// How long it takes until a used-up burst is whole again.
    pub(crate) fn window(self) -> Duration {
        // 2^32 hours, at most, are far from what a duration can hold.
        self.period * self.burst.get() / self.count.get()
    }

    /// So many times the limit.
    pub(crate) fn times(self, factor: NonZeroU32) -> Self {
        Self {
            count: self.count.saturating_mul(factor),
            period: self.period,
            burst: self.burst.saturating_mul(factor),
        }
    }
}

impl Cli {
    /// Checks every setting.
    ///
    /// # Errors
    /// All that is wrong, in one message.
    pub fn check(&self) -> Result<Settings, Problems> {
        let mut problems = Problems::of_environment();
        let common = self.common.check(&mut problems);
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
        let reads = limit("RATE_LIMIT_READS", &self.rate_limit_reads);
        let queued_orders_max = problems.count(
            "QUEUED_ORDERS_MAX",
            &self.queued_orders_max,
            1..=1_000_000_000,
        );
        let envelope_orders_max =
            problems.count("ENVELOPE_ORDERS_MAX", &self.envelope_orders_max, 1..=4_096);
        let log_sample = problems.count("LOG_SAMPLE", &self.log_sample, 0..=1_000_000_000);
        let admin_token = given(self.admin_token.as_deref()).map(str::to_owned);
        if admin_token
            .as_ref()
            .is_some_and(|token| !token.bytes().all(|b| b.is_ascii_graphic()))
        {
            problems.add(
                "ADMIN_TOKEN: must be visible ASCII characters, because it travels in a header",
            );
        } else if let Some(token) = &admin_token
            && !self.common.is_development()
        {
            problems.secret("ADMIN_TOKEN", token);
        }
        let stripe = self.stripe(&mut problems);
        let settings = || {
            Some(Settings {
                common: common?,
                listen_addr: listen_addr?,
                metrics_addr: metrics_addr?,
                admin_token,
                stripe,
                cors_origins,
                trusted_proxies,
                connections: connections?,
                rate_limits: RateLimits {
                    ip: ip?,
                    customer: customer?,
                    global: global?,
                    reads: reads?,
                },
                queued_orders_max: queued_orders_max?,
                envelope_orders_max: usize::try_from(envelope_orders_max?).ok()?,
                log_sample: log_sample?,
            })
        };
        problems.or(settings())
    }
}

impl Cli {
    fn stripe(&self, problems: &mut Problems) -> Option<StripeSettings> {
        let is_live = problems.switch("STRIPE_LIVEMODE", &self.stripe_livemode);
        let secret = given(self.stripe_webhook_secret.as_deref())?;
        let is_visible = secret.bytes().all(|b| b.is_ascii_graphic());
        // Stripe makes it, so that none is too short or published, not in development either.
        if !secret.starts_with("whsec_") || secret.len() < SECRET_LENGTH_MIN || !is_visible {
            problems.add(
                "STRIPE_WEBHOOK_SECRET: must be the signing secret that Stripe shows for the endpoint, which begins with whsec_",
            );
        }
        Some(StripeSettings {
            webhook_secret: secret.to_owned(),
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

/// An empty value, as a file of settings may have it, counts as none.
fn given(text: Option<&str>) -> Option<&str> {
    text.map(str::trim).filter(|text| !text.is_empty())
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

/// The longest that a burst may take to be whole again: for as long a caller is remembered.
const WINDOW_MAX: Duration = Duration::from_hours(30 * 24);

struct Limit(Option<RateLimit>);

impl FromStr for Limit {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const FORM: &str = "must be off, or a limit such as 100/s burst 200 (s, m or h)";
        if text.trim() == "off" {
            return Ok(Self(None));
        }
        let (rate, burst) = text
            .split_once("burst")
            .map_or((text, None), |(rate, burst)| (rate, Some(burst)));
        let (count, unit) = rate.trim().split_once('/').ok_or(FORM)?;
        let period = match unit.trim() {
            "s" => 1,
            "m" => 60,
            "h" => 3_600,
            _ => return Err(FORM),
        };
        let count = count.trim().parse().map_err(|_| FORM)?;
        let burst = burst
            .map_or(Ok(count), |burst| burst.trim().parse())
            .map_err(|_| FORM)?;
        let limit = RateLimit {
            count,
            period: Duration::from_secs(period),
            burst,
        };
        if limit.window() > WINDOW_MAX {
            return Err("must let a burst be whole again within 30 days");
        }
        Ok(Self(Some(limit)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limit(text: &str) -> Result<Option<(u32, u64, u32)>, &'static str> {
        text.parse::<Limit>().map(|limit| {
            limit
                .0
                .map(|l| (l.count.get(), l.period.as_secs(), l.burst.get()))
        })
    }

    #[test]
    fn a_limit_is_a_rate_with_a_burst_or_off() {
        assert_eq!(limit("100/s burst 200"), Ok(Some((100, 1, 200))));
        assert_eq!(limit("30/m"), Ok(Some((30, 60, 30))));
        assert_eq!(limit("1/h burst 720"), Ok(Some((1, 3_600, 720))));
        assert_eq!(limit("off"), Ok(None));
        for wrong in [
            "",
            "0/s",
            "10",
            "10/d",
            "10/s burst 0",
            "-1/s",
            "10/s burst",
            "1/h burst 721",
            "1/h burst 4294967295",
        ] {
            assert!(limit(wrong).is_err(), "{wrong:?}");
        }
    }
}
