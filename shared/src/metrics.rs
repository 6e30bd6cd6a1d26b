//! The list of metrics: every name, help text and set of buckets stands here and nowhere else.
//!
//! A process makes its handles from this list once, at start, with every label value that can
//! occur. That creates each series at zero, so that a rate over a restart is right, and leaves
//! nothing to look up while orders flow. Labels are small closed sets: never a SKU, a customer or
//! an order.

use std::sync::Arc;

use metrics::{Counter, Gauge, Histogram, Label};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};

/// One metric as Prometheus knows it.
pub struct Metric {
    name: &'static str,
    help: &'static str,
    kind: Kind,
}

enum Kind {
    Counter,
    Gauge,
    Histogram(&'static [f64]),
}

/// Label names and values of one series.
pub type Labels<'a> = &'a [(&'static str, &'a str)];

const fn counter(name: &'static str, help: &'static str) -> Metric {
    Metric {
        name,
        help,
        kind: Kind::Counter,
    }
}

const fn gauge(name: &'static str, help: &'static str) -> Metric {
    Metric {
        name,
        help,
        kind: Kind::Gauge,
    }
}

const fn histogram(name: &'static str, help: &'static str, buckets: &'static [f64]) -> Metric {
    Metric {
        name,
        help,
        kind: Kind::Histogram(buckets),
    }
}

/// Seconds, from half a millisecond to the longest `Prefer: wait`.
const SECONDS: &[f64] = &[
    0.0005, 0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.064, 0.125, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
    30.0,
];
/// Seconds that an order may wait in a queue, up to an hour.
const WAIT_SECONDS: &[f64] = &[
    0.002, 0.004, 0.008, 0.016, 0.032, 0.064, 0.125, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0,
    300.0, 3600.0,
];
/// Orders in an envelope or a batch.
const ORDERS: &[f64] = &[
    1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0, 2048.0, 4096.0, 8192.0,
];

/// `route`, `method`, `status`.
pub const HTTP_REQUESTS: Metric = counter("hotrow_http_requests_total", "HTTP requests answered");
/// `route`, `method`, `status`.
pub const HTTP_REQUEST_DURATION: Metric = histogram(
    "hotrow_http_request_duration_seconds",
    "Time from the head of a request to the head of its answer, Prefer: wait included",
    SECONDS,
);
/// Clients that are connected.
pub const CONNECTIONS: Metric = gauge("hotrow_connections", "Open connections of clients");
/// `reason`: `full`, `address`.
pub const CONNECTIONS_REFUSED: Metric = counter(
    "hotrow_connections_refused_total",
    "Connections closed at once, because CONNECTIONS_MAX (full) or CONNECTIONS_PER_ADDRESS_MAX (address) are open",
);
/// `reason`: `slow_head`, `slow_reader`.
pub const CONNECTIONS_ENDED: Metric = counter(
    "hotrow_connections_ended_total",
    "Connections ended because the client was too slow in sending the head of a request (slow_head) or did not read its answer (slow_reader)",
);
/// Pages that listen.
pub const LIVE_STREAMS: Metric = gauge("hotrow_live_streams", "Open live streams");
/// `of`: `stock`, `order`.
pub const LIVE_STATES: Metric = counter(
    "hotrow_live_states_total",
    "States of products and orders that somebody listens to, each counted once however many listen",
);
/// Orders that got a 202.
pub const ORDERS_ACCEPTED: Metric = counter(
    "hotrow_orders_accepted_total",
    "Orders that the broker has safely and that were answered with 202",
);
/// `code`.
pub const ORDERS_REFUSED: Metric = counter(
    "hotrow_orders_refused_total",
    "Purchases of callers who may buy that were not answered with 202, by problem code",
);
/// `reason`.
pub const TOKENS_REFUSED: Metric = counter(
    "hotrow_tokens_refused_total",
    "Bearer tokens that were refused, by why",
);
/// Since the keys were read last.
pub const JWKS_AGE: Metric = gauge(
    "hotrow_jwks_age_seconds",
    "Time since the keys of AUTH_JWKS were read last, or since the start if they never were; 0 where none are read",
);
/// `limit`: `ip`, `ip_48`, `customer`, `changes`, `global`, `reads`, `reads_48`, `logins`, `logins_48`.
pub const RATE_LIMITED: Metric = counter(
    "hotrow_rate_limited_total",
    "Requests refused with 429, by the limit that was reached; those that end in _48 are of IPv6 networks",
);
/// Orders in one published message.
pub const ENVELOPE_ORDERS: Metric =
    histogram("hotrow_envelope_orders", "Orders in one envelope", ORDERS);
/// Publish to confirm.
pub const PUBLISH_CONFIRM: Metric = histogram(
    "hotrow_publish_confirm_seconds",
    "Time from publishing an envelope to the broker's confirm",
    SECONDS,
);
/// `partition`.
pub const QUEUED_ORDERS: Metric = gauge(
    "hotrow_queued_orders",
    "Orders in a partition's queue, ready and unacknowledged: the broker's count of envelopes times their recent mean size",
);
/// `status`, `reason`.
pub const ORDERS_SETTLED: Metric = counter(
    "hotrow_orders_settled_total",
    "Orders whose outcome was committed",
);
/// Accept to settle.
pub const ORDER_AGE: Metric = histogram(
    "hotrow_order_age_seconds",
    "Time from accepting an order to settling it",
    WAIT_SECONDS,
);
/// `closed_by`.
pub const BATCH_ORDERS: Metric = histogram(
    "hotrow_batch_orders",
    "Orders in one batch, by what closed it",
    ORDERS,
);
/// One settle transaction.
pub const SETTLE: Metric = histogram(
    "hotrow_settle_seconds",
    "Time of one settle transaction, begin to committed",
    SECONDS,
);
/// `kind`, `answer`.
pub const ORDER_CHANGES: Metric = counter(
    "hotrow_order_changes_total",
    "Changes of settled orders that were settled, by what was asked and what came of it",
);
/// Reserved orders.
pub const ORDERS_HELD: Metric = gauge(
    "hotrow_orders_held",
    "Orders whose goods are held until they are paid, as the worker that looks for holds that are over saw them",
);
/// How long the oldest hold has been over.
pub const HOLD_OVERDUE: Metric = gauge(
    "hotrow_hold_overdue_seconds",
    "For how long the hold that is over longest has been over; 0 while none is",
);
/// Unmatched payments that are not resolved.
pub const PAYMENTS_UNMATCHED: Metric = gauge(
    "hotrow_payments_unmatched",
    "Payments that did not pay their order and that nobody has resolved",
);
/// `outcome`.
pub const STRIPE_EVENTS: Metric = counter(
    "hotrow_stripe_events_total",
    "Events that Stripe delivered, by what was done with them",
);
/// Events that the stream has.
pub const EVENTS_PUBLISHED: Metric = counter(
    "hotrow_events_published_total",
    "Events that the stream has taken, by type; after a crash some are published twice",
);
/// Settlements and changes whose events are not out.
pub const EVENTS_WAITING: Metric = gauge(
    "hotrow_events_waiting",
    "Settlements and administrative changes whose events the stream does not have yet, as the worker that looks for them counts",
);
/// How long the oldest of them has waited.
pub const EVENTS_OLDEST: Metric = gauge(
    "hotrow_events_oldest_seconds",
    "Age of the oldest events that the stream does not have yet; 0 while none wait",
);
/// Events of which deliveries were made.
pub const WEBHOOK_EVENTS_COPIED: Metric = counter(
    "hotrow_webhook_events_copied_total",
    "Events read from the stream, for which deliveries were made where an endpoint wants them",
);
/// `outcome`.
pub const WEBHOOK_ATTEMPTS: Metric = counter(
    "hotrow_webhook_attempts_total",
    "Requests to endpoints of webhooks, by what came of them",
);
/// From the address to the answer's head.
pub const WEBHOOK_REQUEST: Metric = histogram(
    "hotrow_webhook_request_seconds",
    "Time of one request to an endpoint of webhooks, from finding its address to the head of its answer",
    SECONDS,
);
/// Deliveries that ended without success.
pub const WEBHOOK_GIVEN_UP: Metric = counter(
    "hotrow_webhook_deliveries_given_up_total",
    "Deliveries that failed for good, because all attempts failed or the endpoint wants no more",
);
/// Deliveries that are not finished.
pub const WEBHOOK_WAITING: Metric = gauge(
    "hotrow_webhook_deliveries_waiting",
    "Deliveries that are not finished, as the process that copies events counts; the others export 0",
);
/// How long the delivery that is due longest has been due.
pub const WEBHOOK_OLDEST_DUE: Metric = gauge(
    "hotrow_webhook_oldest_due_seconds",
    "For how long the delivery that is due longest has been due, of endpoints that are not paused; 0 while none is",
);
/// `reason`.
pub const WEBHOOKS_DISABLED: Metric = gauge(
    "hotrow_webhooks_disabled",
    "Endpoints that nothing is sent to, by why, as the process that copies events counts",
);
/// Inventory rows written.
pub const ROW_WRITES: Metric = counter(
    "hotrow_row_writes_total",
    "Inventory rows written by settlements",
);
/// Lock to commit.
pub const ROW_LOCK: Metric = histogram(
    "hotrow_row_lock_seconds",
    "Time that a settlement held its inventory rows, lock to commit",
    SECONDS,
);
/// `kind`.
pub const ORDERS_DUPLICATE: Metric = counter(
    "hotrow_orders_duplicate_total",
    "Orders that were settled already and changed nothing",
);
/// `seal`: `current`, `previous`, `missing`, `wrong`.
pub const ENVELOPES_OPENED: Metric = counter(
    "hotrow_envelopes_opened_total",
    "Envelopes that a worker opened, by the secret that sealed them (current, previous), missing or wrong where it was none; those that come again count again",
);
/// `reason`: `malformed`, `refused`, `unsealed`, `wrong_seal`.
pub const DEAD_LETTERS: Metric = counter(
    "hotrow_dead_letters_total",
    "Messages sent to the dead-letter queue by a worker",
);
/// `cause`.
pub const SETTLE_RETRIES: Metric = counter(
    "hotrow_settle_retries_total",
    "Settle transactions that failed and are tried again",
);
/// Partitions of this worker.
pub const PARTITIONS_OWNED: Metric = gauge(
    "hotrow_partitions_owned",
    "Partitions that this worker consumes",
);
/// 1 while all purchases are stopped.
pub const SALE_PAUSED: Metric = gauge(
    "hotrow_sale_paused",
    "Whether the switch stops all purchases, as this process knows: 1 or 0",
);
/// SKUs that break the law.
pub const INVENTORY_MISMATCH: Metric = gauge(
    "hotrow_inventory_mismatch",
    "SKUs whose stock, ledger, holds and orders do not add up, as this worker's audit found them",
);
/// When the audit last came to the end of a round; 0 in a worker that has not audited yet.
pub const AUDIT_LAST_SUCCESS: Metric = gauge(
    "hotrow_audit_last_success_timestamp_seconds",
    "When this worker's audit last finished a round, as a Unix time; 0 for never. One worker at a time audits",
);
/// Whole days after today.
pub const DAYS_AHEAD: Metric = gauge(
    "hotrow_days_ahead",
    "Whole days after today that orders and ledger have a table for, as this worker saw it last",
);
/// Positive where this process is ahead.
pub const CLOCK_OFFSET: Metric = gauge(
    "hotrow_clock_offset_seconds",
    "How far this process's clock is ahead of the database's; negative behind",
);
/// Lines that standard error did not take.
pub const LOG_LINES_LOST: Metric = counter(
    "hotrow_log_lines_lost_total",
    "Log lines that were lost because standard error is closed or is not read fast enough",
);
/// `version`, `commit`.
pub const BUILD_INFO: Metric = gauge(
    "hotrow_build_info",
    "Always 1; the labels say what is running",
);

const ALL: &[&Metric] = &[
    &HTTP_REQUESTS,
    &HTTP_REQUEST_DURATION,
    &CONNECTIONS,
    &CONNECTIONS_REFUSED,
    &LIVE_STREAMS,
    &LIVE_STATES,
    &CONNECTIONS_ENDED,
    &ORDERS_ACCEPTED,
    &ORDERS_REFUSED,
    &TOKENS_REFUSED,
    &JWKS_AGE,
    &RATE_LIMITED,
    &ENVELOPE_ORDERS,
    &PUBLISH_CONFIRM,
    &QUEUED_ORDERS,
    &ORDERS_SETTLED,
    &ORDER_AGE,
    &BATCH_ORDERS,
    &SETTLE,
    &ORDER_CHANGES,
    &ORDERS_HELD,
    &HOLD_OVERDUE,
    &PAYMENTS_UNMATCHED,
    &STRIPE_EVENTS,
    &EVENTS_PUBLISHED,
    &EVENTS_WAITING,
    &EVENTS_OLDEST,
    &WEBHOOK_EVENTS_COPIED,
    &WEBHOOK_ATTEMPTS,
    &WEBHOOK_REQUEST,
    &WEBHOOK_GIVEN_UP,
    &WEBHOOK_WAITING,
    &WEBHOOK_OLDEST_DUE,
    &WEBHOOKS_DISABLED,
    &ROW_WRITES,
    &ROW_LOCK,
    &ORDERS_DUPLICATE,
    &ENVELOPES_OPENED,
    &DEAD_LETTERS,
    &SETTLE_RETRIES,
    &PARTITIONS_OWNED,
    &SALE_PAUSED,
    &INVENTORY_MISMATCH,
    &AUDIT_LAST_SUCCESS,
    &DAYS_AHEAD,
    &CLOCK_OFFSET,
    &LOG_LINES_LOST,
    &BUILD_INFO,
];

impl Metric {
    /// The series of a counter.
    pub fn counter(&self, labels: Labels<'_>) -> Counter {
        metrics::counter!(self.name, owned(labels))
    }

    /// The series of a gauge.
    pub fn gauge(&self, labels: Labels<'_>) -> Gauge {
        metrics::gauge!(self.name, owned(labels))
    }

    /// The series of a histogram.
    pub fn histogram(&self, labels: Labels<'_>) -> Histogram {
        metrics::histogram!(self.name, owned(labels))
    }
}

fn owned(labels: Labels<'_>) -> Vec<Label> {
    labels
        .iter()
        .map(|&(name, value)| Label::new(name, value.to_owned()))
        .collect()
}

/// Installs the recorder of this process and describes every metric.
///
/// # Errors
/// A recorder is installed already, or a list of buckets is empty.
pub fn install() -> anyhow::Result<Arc<PrometheusHandle>> {
    let mut builder = PrometheusBuilder::new();
    for metric in ALL {
        if let Kind::Histogram(buckets) = metric.kind {
            // Without buckets of its own a histogram would be exported as a summary.
            builder =
                builder.set_buckets_for_metric(Matcher::Full(metric.name.to_owned()), buckets)?;
        }
    }
    let handle = builder.install_recorder()?;
    for metric in ALL {
        match metric.kind {
            Kind::Counter => metrics::describe_counter!(metric.name, metric.help),
            Kind::Gauge => metrics::describe_gauge!(metric.name, metric.help),
            Kind::Histogram(_) => metrics::describe_histogram!(metric.name, metric.help),
        }
    }
    let commit = option_env!("HOTROW_COMMIT").unwrap_or("unknown");
    BUILD_INFO
        .gauge(&[("version", env!("CARGO_PKG_VERSION")), ("commit", commit)])
        .set(1.0);
    Ok(Arc::new(handle))
}
