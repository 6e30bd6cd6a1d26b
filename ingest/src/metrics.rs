//! The ingest process's series, made once at start so that each exists at zero.

use std::{collections::HashMap, time::Duration};

use axum::http::{Method, StatusCode};
use hotrow_shared::metrics as list;
use metrics::{Counter, Gauge, Histogram};

use crate::http::{problem::Problem, router::ROUTES};

/// Answers that a route is expected to give; others are created when they first occur.
const STATUSES: [u16; 13] = [
    200, 201, 202, 400, 401, 403, 404, 409, 413, 415, 422, 429, 503,
];

type ByStatus = HashMap<StatusCode, (Counter, Histogram)>;

/// Counts answers by route, method and status.
pub struct HttpMetrics {
    series: HashMap<(&'static str, Method), ByStatus>,
}

impl HttpMetrics {
    /// Creates the series of every route.
    #[must_use]
    pub fn new() -> Self {
        let mut series: HashMap<_, ByStatus> = HashMap::new();
        for (route, methods) in ROUTES {
            for method in methods {
                let statuses = STATUSES
                    .into_iter()
                    .filter_map(|status| StatusCode::from_u16(status).ok());
                let by_status =
                    statuses.map(|status| (status, answer_series(route, method, status)));
                series.insert((route, method.clone()), by_status.collect());
            }
        }
        Self { series }
    }

    /// Counts an answer.
    pub fn answered(&self, route: &str, method: &Method, status: StatusCode, took: Duration) {
        let known = ROUTES.iter().find(|(known, _)| *known == route);
        let (route, methods) = known.unwrap_or(&("unmatched", &[]));
        let method = if methods.contains(method) {
            method.clone()
        } else {
            Method::GET
        };
        let series = self
            .series
            .get(&(*route, method.clone()))
            .and_then(|by_status| by_status.get(&status))
            .cloned();
        let (counter, histogram) = series.unwrap_or_else(|| answer_series(route, &method, status));
        counter.increment(1);
        histogram.record(took);
    }
}

impl Default for HttpMetrics {
    fn default() -> Self {
        Self::new()
    }
}

fn answer_series(route: &str, method: &Method, status: StatusCode) -> (Counter, Histogram) {
    let labels = [
        ("route", route),
        ("method", method.as_str()),
        ("status", status.as_str()),
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
