//! `GET /v1/live?orders=&skus=`.

use std::sync::Arc;

use axum::{
    Extension,
    body::Body,
    extract::State,
    http::{HeaderName, HeaderValue, Uri, header},
    response::{IntoResponse, Response},
};
use hotrow_shared::{id::OrderId, order::Sku};
use utoipa::IntoParams;

use super::{
    LiveDesk,
    stream::{self, Listening, listen},
};
use crate::{
    auth::{Caller, Who},
    http::{NO_STORE, problem::Problem, query, server::streams::Streaming},
    inventory::UNKNOWN_SKU,
    page::in_time,
    status::{
        self,
        handler::{DROPPED_ORDER, recognise},
        owner::require_own,
        reader::Found,
    },
};

/// Most orders, and most products, on one stream.
const EACH_MAX: usize = 20;

/// What a page asks for. At least one of them names something.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(
    dead_code,
    reason = "it is described and never built: the handler reads it by hand"
)]
struct TopicsQuery {
    /// Up to 20 order ids, separated by commas.
    #[param(max_items = 20, style = Form, explode = false, nullable = false)]
    orders: Option<Vec<OrderId>>,
    /// Up to 20 products, separated by commas.
    #[param(max_items = 20, style = Form, explode = false, nullable = false)]
    skus: Option<Vec<Sku>>,
}

/// Everything that a page asked for: first as it is, then each change.
///
/// # Errors
/// 400 for a query that cannot be read, 401 for orders without a token where one is needed, 404 for a product or an
/// order that is not there or is another customer's, 422 for none or too many, 503 without a database, and when too
/// many listen already.
#[utoipa::path(
    get,
    path = "/v1/live",
    operation_id = "listen",
    tag = "orders",
    summary = "Hear of stock and orders as they change",
    description = "A stream of server-sent events for one page. First the state of everything asked for, then each change, always whole states: `event: stock` with `sku`, `available`, `held`, `state` and `version`, at most four a second for one product, and `event: order` with an order. Versions and revisions never go back. A comment comes at least every 15 s. The server ends a stream after one to two minutes, with `retry`; a client that asks again gets the state again. Orders may be asked for by whom `GET /v1/orders` is for.",
    params(TopicsQuery),
    responses((
        status = 200, description = "The stream.", body = String, content_type = "text/event-stream", headers(("Cache-Control")),
        example = json!("event: stock\ndata: {\"sku\":\"chair-123\",\"available\":7,\"held\":3,\"state\":\"open\",\"version\":12}\n\n"),
    )),
)]
pub(crate) async fn listen_to(
    State(desk): State<Arc<LiveDesk>>,
    caller: Caller,
    Extension(streaming): Extension<Streaming>,
    uri: Uri,
) -> Result<Response, Problem> {
    let [orders, skus] = query::read(&uri, ["orders", "skus"])?;
    let names_orders = orders.as_deref().is_some_and(|text| !text.is_empty());
    // Products are for everybody, and every role may read orders. Asked first, so that nobody learns here which ids
    // there are.
    let is_unknown = matches!(caller, Caller::Unknown);
    if names_orders && is_unknown && !Who::READERS.admits_unknown(desk.is_open_shop) {
        return Err(Problem::Unauthorized);
    }
    let ids = list("orders", orders.as_deref(), |id| {
        recognise(&desk.status, id)
    })?;
    let skus = list("skus", skus.as_deref(), |sku| {
        Sku::try_from(sku).map_err(|error| Problem::Invalid(format!("skus: {error}")))
    })?;
    drop(uri);
    if ids.is_empty() && skus.is_empty() {
        return Err(Problem::Invalid(
            "orders, skus: at least one of them must name something".to_owned(),
        ));
    }
    let place = Arc::clone(&desk.places).try_acquire_owned();
    let place = place.map_err(|_| Problem::TooManyStreams)?;

    let mut listening = Listening::new();
    listen_to_products(&desk, skus, &mut listening).await?;
    listen_to_orders(&desk, ids, caller, &mut listening).await?;
    // Its timers are not those of purchases.
    let _threads = desk.threads.enter();
    let stream = stream::begin(
        listening,
        place,
        Arc::clone(&desk.metrics),
        desk.shutdown.clone(),
    );
    let headers = [
        (
            header::CONTENT_TYPE,
            HeaderValue::from_static("text/event-stream"),
        ),
        NO_STORE,
        // nginx would keep events until its buffer is full.
        (
            HeaderName::from_static("x-accel-buffering"),
            HeaderValue::from_static("no"),
        ),
    ];
    streaming.begin();
    Ok((headers, Body::from_stream(stream)).into_response())
}

async fn listen_to_products(
    desk: &LiveDesk,
    skus: Vec<Sku>,
    listening: &mut Listening,
) -> Result<(), Problem> {
    let wave = desk.stock.wave();
    let topics = async {
        let mut topics = Vec::with_capacity(skus.len());
        for sku in skus {
            topics.push(wave.listen(sku).await?);
        }
        Ok::<_, Arc<sqlx::Error>>(topics)
    };
    for topic in in_time("products", topics).await? {
        listen(listening, topic.ok_or(UNKNOWN_SKU)?, |_| true);
    }
    Ok(())
}

async fn listen_to_orders(
    desk: &LiveDesk,
    ids: Vec<OrderId>,
    caller: Caller,
    listening: &mut Listening,
) -> Result<(), Problem> {
    if ids.is_empty() {
        return Ok(());
    }
    // First, so that nothing is missed between the look and the wait.
    let topics: Vec<_> = ids.iter().map(|id| desk.orders.listen(*id)).collect();
    let found = desk.status.finder.find(&ids).await?;
    require_own(&caller, &found)?;
    if found.contains(&Found::Dropped) {
        return Err(DROPPED_ORDER);
    }
    let wait = desk.status.backlog.longest_wait();
    for ((id, found), topic) in ids.into_iter().zip(&found).zip(topics) {
        let queued = || status::documents::queued(id, wait);
        desk.orders.tell(id, found, queued);
        // Whose order it is shows when it is settled.
        let caller = caller.clone();
        listen(listening, topic, move |told| told.may_be_seen_by(&caller));
    }
    Ok(())
}

/// Reads a list of names, separated by commas; each counts once.
fn list<T: PartialEq>(
    parameter: &str,
    text: Option<&str>,
    read: impl Fn(&str) -> Result<T, Problem>,
) -> Result<Vec<T>, Problem> {
    let names = text.unwrap_or_default().split(',').map(str::trim);
    let mut given = Vec::new();
    for name in names.filter(|name| !name.is_empty()) {
        if !given.contains(&name) {
            given.push(name);
        }
        // Before any of them is judged.
        if given.len() > EACH_MAX {
            return Err(Problem::Invalid(format!(
                "{parameter}: must name at most {EACH_MAX}"
            )));
        }
    }
    let mut all = Vec::with_capacity(given.len());
    for name in given {
        let it = read(name)?;
        if !all.contains(&it) {
            all.push(it);
        }
    }
    Ok(all)
}
