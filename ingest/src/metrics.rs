//! The ingest process's series, made once at start so that each exists at zero.

use std::{collections::HashMap, time::Duration};

use axum::http::{Method, StatusCode};
use hotrow_shared::metrics as list;
use metrics::{Counter, Gauge, Histogram};

use crate::http::{
    problem::Problem,
    router::{ROUTES, UNMATCHED},
};

type ByStatus = HashMap<u16, (Counter, Histogram)>;

/// Counts answers by route, method and status.
pub struct HttpMetrics {
    series: HashMap<(&'static str, Method), ByStatus>,
}

impl HttpMetrics {
    /// Creates the series of every answer that a route is expected to give.
    #[must_use]
    pub fn new() -> Self {
        let series = ROUTES.map(|(route, method, statuses)| {
            let by_status = statuses
                .iter()
                .map(|status| (*status, answer_series(route, &method, *status)));
            ((route, method.clone()), by_status.collect())
        });
        Self {
            series: series.into(),
        }
    }

    /// Counts an answer. One that nobody expected is counted all the same.
    pub fn answered(
        &self,
        route: &'static str,
        method: &Method,
        status: StatusCode,
        took: Duration,
    ) {
        let status = status.as_u16();
        let expected = self
            .series
            .get(&(route, method.clone()))
            .and_then(|by_status| by_status.get(&status));
        if let Some((counter, histogram)) = expected {
            counter.increment(1);
            histogram.record(took);
            return;
        }
        // Methods are the clients' to invent, and label values are a closed set.
        let method = if KNOWN_METHODS.contains(method) {
            method
        } else {
            &Method::GET
        };
        let (counter, histogram) = answer_series(route, method, status);
        counter.increment(1);
        histogram.record(took);
    }
}

impl Default for HttpMetrics {
    fn default() -> Self {
        Self::new()
    }
}

/// Methods that have a series of their own.
const KNOWN_METHODS: [Method; 7] = [
    Method::GET,
    Method::HEAD,
    Method::POST,
    Method::PUT,
    Method::DELETE,
    Method::PATCH,
    Method::OPTIONS,
];

/// The name under which a path is counted.
#[must_use]
pub fn counted_route(matched: Option<&str>) -> &'static str {
    ROUTES
        .iter()
        .map(|(route, ..)| *route)
        .find(|route| Some(*route) == matched)
        .unwrap_or(UNMATCHED)
}

fn answer_series(route: &str, method: &Method, status: u16) -> (Counter, Histogram) {
    let labels = [
        ("route", route),
        ("method", method.as_str()),
        ("status", &status.to_string()),
    ];
    (
        list::HTTP_REQUESTS.counter(&labels),
        list::HTTP_REQUEST_DURATION.histogram(&labels),
    )
}

/// Counts purchases.
pub struct IntakeMetrics {
    /// Orders that got a 202.
    pub accepted: Counter,
    refused: Vec<(&'static str, Counter)>,
}

impl IntakeMetrics {
    /// Creates the series.
    #[must_use]
    pub fn new() -> Self {
        let refused = Problem::PURCHASE_CODES
            .map(|code| (code, list::ORDERS_REFUSED.counter(&[("code", code)])));
        Self {
            accepted: list::ORDERS_ACCEPTED.counter(&[]),
            refused: refused.into(),
        }
    }

    /// Counts a refusal.
    pub fn refused(&self, code: &str) {
        if let Some((_, counter)) = self.refused.iter().find(|(known, _)| *known == code) {
            counter.increment(1);
        }
    }
}

impl Default for IntakeMetrics {
    fn default() -> Self {
        Self::new()
    }
}

/// Measures envelopes.
#[derive(Clone)]
pub struct LaneMetrics {
    /// Orders in one envelope.
    pub envelope_orders: Histogram,
    /// Publish to confirm.
    pub confirm: Histogram,
}

impl LaneMetrics {
    /// Creates the series.
    #[must_use]
    pub fn new() -> Self {
        Self {
            envelope_orders: list::ENVELOPE_ORDERS.histogram(&[]),
            confirm: list::PUBLISH_CONFIRM.histogram(&[]),
        }
    }
}

impl Default for LaneMetrics {
    fn default() -> Self {
        Self::new()
    }
}

/// The gauge of one partition's queue.
pub fn queued_orders(partition: u16) -> Gauge {
    list::QUEUED_ORDERS.gauge(&[("partition", &partition.to_string())])
}
