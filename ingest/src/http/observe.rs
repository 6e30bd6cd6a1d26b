//! The outermost layer: request ids, the body of a refusal, and the count of every answer.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use axum::{
    body::Body,
    extract::{MatchedPath, Request, State},
    http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode},
    middleware::Next,
    response::Response,
};
use hotrow_shared::{metrics as list, request_id::RequestId};
use metrics::{Counter, Histogram};

use super::problem::Problem;

/// The header of the request id.
pub(crate) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// What matches no route is counted as this.
const UNMATCHED: &str = "unmatched";
/// Methods that have a series of their own. Clients can invent others, and label values are a closed
/// set.
const KNOWN_METHODS: [Method; 7] = [
    Method::GET,
    Method::HEAD,
    Method::POST,
    Method::PUT,
    Method::DELETE,
    Method::PATCH,
    Method::OPTIONS,
];

/// A route as it is counted: its path, its method, and the statuses that it is expected to answer.
pub(crate) type CountedRoute = (&'static str, Method, &'static [u16]);

type ByStatus = HashMap<u16, (Counter, Histogram)>;
type ByMethod = HashMap<Method, ByStatus>;

/// Counts answers by route, method and status.
pub(crate) struct HttpMetrics {
    series: HashMap<&'static str, ByMethod>,
}

/// Surrounds every request.
pub(crate) async fn observe(
    State(metrics): State<Arc<HttpMetrics>>,
    mut request: Request,
    next: Next,
) -> Response {
    let started = Instant::now();
    let request_id = request_id(request.headers());
    request.extensions_mut().insert(request_id.clone());
    let method = request.method().clone();
    let route = request.extensions().get::<MatchedPath>().cloned();
    let mut response = next.run(request).await;
    if let Some(problem) = response.extensions_mut().remove::<Problem>() {
        let body = problem.body(request_id.as_str(), response.headers());
        *response.body_mut() = Body::from(body);
    }
    if let Ok(value) = HeaderValue::try_from(request_id.as_str()) {
        response.headers_mut().insert(REQUEST_ID, value);
    }
    let route = route.as_ref().map(MatchedPath::as_str);
    metrics.answered(route, &method, response.status(), started.elapsed());
    response
}

impl HttpMetrics {
    /// Creates the series of every answer that a route is expected to give.
    pub(crate) fn new(routes: impl IntoIterator<Item = CountedRoute>) -> Self {
        let unmatched: CountedRoute = (UNMATCHED, Method::GET, &[404]);
        let mut series: HashMap<_, ByMethod> = HashMap::new();
        for (route, method, statuses) in routes.into_iter().chain([unmatched]) {
            let by_status = statuses
                .iter()
                .map(|status| (*status, answer_series(route, &method, *status)))
                .collect();
            series.entry(route).or_default().insert(method, by_status);
        }
        Self { series }
    }

    /// Counts an answer. One that nobody expected is counted all the same.
    fn answered(&self, matched: Option<&str>, method: &Method, status: StatusCode, took: Duration) {
        let known = matched.and_then(|path| self.series.get_key_value(path));
        let status = status.as_u16();
        let expected = known
            .and_then(|(_, by_method)| by_method.get(method))
            .and_then(|by_status| by_status.get(&status));
        if let Some((counter, histogram)) = expected {
            counter.increment(1);
            histogram.record(took);
            return;
        }
        let route = known.map_or(UNMATCHED, |(route, _)| route);
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

/// The client's request id, if it is one, or a new one.
fn request_id(headers: &HeaderMap) -> RequestId {
    let given = headers
        .get(REQUEST_ID)
        .and_then(|value| value.to_str().ok());
    given
        .and_then(|text| RequestId::try_from(Box::from(text)).ok())
        .unwrap_or_else(RequestId::random)
}
