//! The outermost layer: request ids, the body of a refusal, the count of every answer, and the access
//! log.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use axum::{
    body::Body,
    extract::{MatchedPath, Request, State},
    http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header},
    middleware::Next,
    response::Response,
};
use hotrow_shared::{id::OrderId, metrics as list, request_id::RequestId};
use metrics::{Counter, Histogram};
use uuid::Uuid;

use super::{
    access_log::{AccessLog, Answer},
    peer::Peer,
    problem::Problem,
    problem_body::ProblemBody,
};

/// The header of the request id.
pub(crate) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// What matches no route is counted as this.
const UNMATCHED: &str = "unmatched";
/// Methods that have a series, and a name in the log. Clients can invent others of any length, and label
/// values are a closed set.
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
pub(crate) type CountedRoute = (String, Method, Vec<u16>);

type ByStatus = HashMap<u16, (Counter, Histogram)>;
type ByMethod = HashMap<Method, ByStatus>;

/// Counts answers by route, method and status.
struct HttpMetrics {
    series: HashMap<String, ByMethod>,
}

/// What sees every answer.
pub(crate) struct Observer {
    metrics: HttpMetrics,
    log: AccessLog,
}

impl Observer {
    /// Counts the answers of these routes, and logs those that `log` chooses.
    pub(crate) fn new(routes: impl IntoIterator<Item = CountedRoute>, log: AccessLog) -> Self {
        Self {
            metrics: HttpMetrics::new(routes),
            log,
        }
    }
}

/// Surrounds every request.
pub(crate) async fn observe(
    State(observer): State<Arc<Observer>>,
    mut request: Request,
    next: Next,
) -> Response {
    let started = Instant::now();
    let request_id = request_id(request.headers());
    request.extensions_mut().insert(request_id.clone());
    let method = request.method().clone();
    let peer = request.extensions().get().copied();
    let client = peer.map(|peer: Peer| observer.log.client(peer, request.headers()));
    let route = request.extensions().get::<MatchedPath>().cloned();
    let route = route.as_ref().map(MatchedPath::as_str);
    // To hold the path itself would hold the connection's buffer for as long as the request waits.
    let asked_for = route.and_then(|route| order_in(route, request.uri().path()));
    let mut response = next.run(request).await;
    let problem = response.extensions_mut().remove::<Problem>();
    if let Some(problem) = &problem {
        let methods = || observer.metrics.methods(route);
        let body = ProblemBody::of(problem, request_id.as_str(), methods);
        *response.body_mut() = Body::from(serde_json::to_vec(&body).unwrap_or_default());
    }
    if let Ok(value) = HeaderValue::try_from(request_id.as_str()) {
        response.headers_mut().insert(REQUEST_ID, value);
    }
    let (status, took) = (response.status(), started.elapsed());
    observer.metrics.answered(route, &method, status, took);
    if observer.log.chooses(status) {
        observer.log.write(&Answer {
            status,
            code: problem.as_ref().map(Problem::code),
            method: known_method(&method).map_or("other", Method::as_str),
            route: route.unwrap_or(UNMATCHED),
            took,
            client,
            request_id: request_id.as_str(),
            order_id: problem
                .as_ref()
                .and_then(Problem::order_id)
                .map(OrderId::uuid)
                .or(asked_for)
                .or_else(|| made_at(response.headers())),
        });
    }
    response
}

/// The order that a path names.
fn order_in(route: &str, path: &str) -> Option<Uuid> {
    let at = route.split('/').position(|part| part == "{order_id}")?;
    path.split('/').nth(at)?.parse().ok()
}

/// The order that was made, from the place that the answer gives it.
fn made_at(headers: &HeaderMap) -> Option<Uuid> {
    let location = headers.get(header::LOCATION)?.to_str().ok()?;
    location.rsplit('/').next()?.parse().ok()
}

impl HttpMetrics {
    /// Creates the series of every answer that a route is expected to give.
    fn new(routes: impl IntoIterator<Item = CountedRoute>) -> Self {
        let unmatched: CountedRoute = (UNMATCHED.to_owned(), Method::GET, vec![404]);
        let mut series: HashMap<_, ByMethod> = HashMap::new();
        for (route, method, statuses) in routes.into_iter().chain([unmatched]) {
            let by_status: ByStatus = statuses
                .iter()
                .map(|status| (*status, answer_series(&route, &method, *status)))
                .collect();
            let of_route = series.entry(route).or_default();
            of_route.entry(method).or_default().extend(by_status);
        }
        Self { series }
    }

    /// The methods that a route takes, as a list. A route that takes `GET` takes `HEAD`, too.
    fn methods(&self, route: Option<&str>) -> String {
        let taken = route.and_then(|route| self.series.get(route));
        let taken = taken.into_iter().flat_map(HashMap::keys);
        let mut names: Vec<_> = taken.map(Method::as_str).collect();
        if names.contains(&"GET") {
            names.push("HEAD");
        }
        names.sort_unstable();
        names.join(", ")
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
        let route = known.map_or(UNMATCHED, |(route, _)| route.as_str());
        let method = known_method(method).unwrap_or(&Method::GET);
        let (counter, histogram) = answer_series(route, method, status);
        counter.increment(1);
        histogram.record(took);
    }
}

/// The method, if it has a series of its own.
fn known_method(method: &Method) -> Option<&Method> {
    KNOWN_METHODS.contains(method).then_some(method)
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
