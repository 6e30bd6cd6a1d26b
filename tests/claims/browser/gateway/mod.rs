//! An HTTP proxy in front of the API that behaves as badly as those on the way to a customer do.

mod body;
mod record;
mod route;

use std::{
    collections::{HashMap, VecDeque},
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use anyhow::{Context, bail};
use axum::body::{Body, to_bytes};
use hyper::{
    Request, Response, StatusCode, body::Incoming, server::conn::http1, service::service_fn,
};
use hyper_util::rt::TokioIo;
use reqwest::header::{self, HeaderMap, HeaderValue};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Notify,
    task::{JoinHandle, JoinSet},
};

pub(super) use self::{record::Seen, route::Route};

/// More than any request of the client has.
const BODY_BYTES_MAX: usize = 64 * 1024;

/// What goes wrong with a request.
#[derive(Debug, Clone, Copy)]
pub(super) enum Mishap {
    /// The connection is lost before the API has heard of it.
    LoseRequest,
    /// The API answers, and the connection is lost.
    LoseAnswer,
    /// The connection is lost in the middle of the answer's body.
    CutAnswer,
    /// The answer goes on, and is cut after that time.
    CutAfter(Duration),
    /// The answer is held back until it is complete.
    Buffer,
    /// The API's own word that it is overloaded, for so many seconds.
    Overloaded(u32),
    /// A refusal that this release does not know.
    NewRefusal,
    /// Orders that are reserved are something else that this release does not know.
    NewStatus,
    /// A gateway's page of an error, which no other origin may read.
    BadGateway,
    /// A page, and the word that all is well.
    WrongType,
}

/// A running proxy. It ends, and cuts all connections, when it is dropped.
pub(super) struct Gateway {
    address: SocketAddr,
    desk: Arc<Desk>,
    server: JoinHandle<()>,
}

/// What the connections share.
struct Desk {
    http: reqwest::Client,
    api: SocketAddr,
    plan: Mutex<Plan>,
    record: record::Record,
    cut: Notify,
}

#[derive(Default)]
struct Plan {
    /// For the next requests, the first first.
    next: HashMap<Route, VecDeque<Mishap>>,
    /// For those that nothing is planned for.
    habits: HashMap<Route, Mishap>,
}

impl Gateway {
    /// A proxy that passes everything on until it is told otherwise.
    pub(super) async fn in_front_of(api: SocketAddr) -> anyhow::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let desk = Arc::new(Desk {
            http: reqwest::Client::builder().no_proxy().build()?,
            api,
            plan: Mutex::default(),
            record: record::Record::default(),
            cut: Notify::new(),
        });
        Ok(Self {
            address: listener.local_addr()?,
            server: tokio::spawn(serve(listener, Arc::clone(&desk))),
            desk,
        })
    }

    /// Where it listens.
    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// What pages take for the API.
    pub(super) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Has the next requests of a route, so many of them, meet with a mishap.
    pub(super) fn next(&self, route: Route, mishap: Mishap, count: usize) {
        let mut plan = self.desk.plan();
        let next = plan.next.entry(route).or_default();
        next.extend(std::iter::repeat_n(mishap, count));
    }

    /// Has all requests of a route meet with a mishap, or with none.
    pub(super) fn always(&self, route: Route, mishap: impl Into<Option<Mishap>>) {
        let mut plan = self.desk.plan();
        match mishap.into() {
            Some(mishap) => plan.habits.insert(route, mishap),
            None => plan.habits.remove(&route),
        };
    }

    /// Has all requests meet with a mishap, or with none.
    pub(super) fn everywhere(&self, mishap: impl Into<Option<Mishap>>) {
        let mishap = mishap.into();
        for route in Route::ALL {
            self.always(route, mishap);
        }
    }

    /// Cuts all connections that are open.
    pub(super) fn cut(&self) {
        self.desk.cut.notify_waiters();
    }

    /// The requests that have come so far.
    pub(super) fn seen(&self) -> Vec<Seen> {
        self.desk.record.seen()
    }

    /// How many requests of a route have come so far.
    pub(super) fn count(&self, route: Route) -> usize {
        let seen = self.seen();
        seen.iter().filter(|seen| seen.route == route).count()
    }

    /// How many requests are not answered to their end.
    pub(super) fn open(&self) -> usize {
        self.desk.record.open()
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl Desk {
    fn plan(&self) -> MutexGuard<'_, Plan> {
        self.plan.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn mishap(&self, route: Route) -> Option<Mishap> {
        let mut plan = self.plan();
        let next = plan.next.get_mut(&route).and_then(VecDeque::pop_front);
        next.or_else(|| plan.habits.get(&route).copied())
    }

    /// Answers a request. An error cuts the connection.
    async fn answer(&self, request: Request<Incoming>) -> anyhow::Result<Response<Body>> {
        let route = Route::of(&request);
        let under_way = self.record.begin(route, &request);
        let origin = request.headers().get(header::ORIGIN).cloned();
        let mishap = self.mishap(route);
        match mishap {
            Some(Mishap::LoseRequest) => bail!("the request is lost"),
            Some(Mishap::Overloaded(seconds)) => Ok(overloaded(origin, seconds)),
            Some(Mishap::NewRefusal) => Ok(new_refusal(origin)),
            Some(Mishap::BadGateway) => Ok(page(None, StatusCode::BAD_GATEWAY)),
            Some(Mishap::WrongType) => Ok(page(origin, StatusCode::OK)),
            mishap => {
                let answer = self.forward(request).await?;
                let (status, headers) = (answer.status(), passed_on(answer.headers()));
                let body = match mishap {
                    Some(Mishap::LoseAnswer) => {
                        answer.bytes().await?;
                        bail!("the answer is lost");
                    }
                    Some(Mishap::CutAnswer) => body::half(&answer.bytes().await?),
                    Some(Mishap::Buffer) => body::whole(answer.bytes().await?),
                    Some(Mishap::CutAfter(time)) => body::cut_after(answer, time, under_way),
                    Some(Mishap::NewStatus) => body::in_new_words(answer, under_way),
                    _ => body::stream(answer, under_way),
                };
                let mut response = Response::new(body);
                *response.status_mut() = status;
                *response.headers_mut() = headers;
                Ok(response)
            }
        }
    }

    async fn forward(&self, request: Request<Incoming>) -> anyhow::Result<reqwest::Response> {
        let (head, body) = request.into_parts();
        let body = to_bytes(Body::new(body), BODY_BYTES_MAX).await?;
        let url = format!("http://{}{}", self.api, head.uri);
        let request = self.http.request(head.method, url);
        let request = request.headers(passed_on(&head.headers)).body(body);
        request.send().await.context("the API is away")
    }
}

async fn serve(listener: TcpListener, desk: Arc<Desk>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                // An error here is the client's: it went away before it was accepted.
                let Ok((connection, _)) = accepted else { continue };
                connections.spawn(answer_all(connection, Arc::clone(&desk)));
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn answer_all(connection: TcpStream, desk: Arc<Desk>) {
    let answer = service_fn(|request| desk.answer(request));
    let connection = http1::Builder::new().serve_connection(TokioIo::new(connection), answer);
    tokio::select! {
        // It may end with an error, because claims cut connections.
        _ = connection => {}
        () = desk.cut.notified() => {}
    }
}

/// The headers that are not about the connection itself. A length stays with its body, also if that is cut.
fn passed_on(headers: &HeaderMap) -> HeaderMap {
    let mut headers = headers.clone();
    for name in [header::CONNECTION, header::HOST, header::TRANSFER_ENCODING] {
        headers.remove(name);
    }
    headers
}

/// A page of HTML, which an origin may read if it is named.
fn page(origin: Option<HeaderValue>, status: StatusCode) -> Response<Body> {
    let mut page = Response::new(Body::from("<!doctype html><title>Welcome</title>"));
    *page.status_mut() = status;
    let html = HeaderValue::from_static("text/html");
    page.headers_mut().insert(header::CONTENT_TYPE, html);
    if let Some(origin) = origin {
        page.headers_mut()
            .insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
    }
    page
}

fn overloaded(origin: Option<HeaderValue>, seconds: u32) -> Response<Body> {
    let status = StatusCode::SERVICE_UNAVAILABLE;
    let mut answer = problem(origin, status, "overloaded", "Nothing was queued.");
    let headers = answer.headers_mut();
    headers.insert(header::RETRY_AFTER, seconds.into());
    let exposed = HeaderValue::from_static("retry-after");
    headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, exposed);
    answer
}

fn new_refusal(origin: Option<HeaderValue>) -> Response<Body> {
    let detail = "It is not sold on Sundays.";
    problem(origin, StatusCode::CONFLICT, "not_on_sundays", detail)
}

fn problem(
    origin: Option<HeaderValue>,
    status: StatusCode,
    code: &str,
    detail: &str,
) -> Response<Body> {
    let problem = serde_json::json!({
        "type": format!("urn:hotrow:problem:{code}"), "title": code, "status": status.as_u16(),
        "detail": detail, "code": code, "request_id": "r-1",
    });
    let mut answer = page(origin, status);
    let json = HeaderValue::from_static("application/problem+json");
    answer.headers_mut().insert(header::CONTENT_TYPE, json);
    *answer.body_mut() = Body::from(problem.to_string());
    answer
}
