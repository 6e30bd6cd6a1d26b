//! `GET /v1/live?orders=&skus=`.

use std::sync::Arc;

use axum::{
    body::Body,
    extract::State,
    http::{HeaderName, HeaderValue, Uri, header},
    response::{IntoResponse, Response},
};
use hotrow_shared::{id::OrderId, order::Sku};

use super::{
    LiveDesk,
    stream::{self, Listening, listen},
};
use crate::{
    auth::{Caller, Who},
    http::{NO_STORE, problem::Problem, query},
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

/// Everything that a page asked for: first as it is, then each change.
///
/// # Errors
/// 400 for a query that cannot be read, 401 for orders without a token where one is needed, 404 for a product or an
/// order that is not there or is another customer's, 422 for none or too many, 503 without a database, and when too
/// many listen already.
pub(crate) async fn listen_to(
    State(desk): State<Arc<LiveDesk>>,
    caller: Caller,
    uri: Uri,
) -> Result<Response, Problem> {
    let [orders, skus] = query::read(&uri, ["orders", "skus"])?;
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
    // Products are for everybody, and every role may read orders.
    let is_unknown = matches!(caller, Caller::Unknown);
    if !ids.is_empty() && is_unknown && !Who::READERS.admits_unknown(desk.is_open_shop) {
        return Err(Problem::Unauthorized);
    }
    let place = Arc::clone(&desk.places).try_acquire_owned();
    let place = place.map_err(|_| Problem::TooManyStreams)?;

    let mut listening = Listening::new();
    listen_to_products(&desk, skus, &mut listening).await?;
    listen_to_orders(&desk, ids, caller, &mut listening).await?;
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
    Ok((headers, Body::from_stream(stream)).into_response())
}

async fn listen_to_products(
    desk: &LiveDesk,
    skus: Vec<Sku>,
    listening: &mut Listening,
) -> Result<(), Problem> {
    let wave = desk.stock.wave();
    for sku in skus {
        let topic = in_time("a product", wave.listen(sku)).await?;
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
        let queued = || status::handler::queued(id, wait);
        desk.orders.tell(id, found, queued);
        // Whose order it is shows when it is settled.
        let caller = caller.clone();
        listen(listening, topic, move |told| told.may_be_seen_by(&caller));
    }
    Ok(())
}

/// Reads a list of names, separated by commas; each counts once.
fn list<T: PartialEq>(
    name: &str,
    text: Option<&str>,
    read: impl Fn(&str) -> Result<T, Problem>,
) -> Result<Vec<T>, Problem> {
    let names = text.unwrap_or_default().split(',').map(str::trim);
    let names: Vec<_> = names.filter(|name| !name.is_empty()).collect();
    if names.len() > EACH_MAX {
        return Err(Problem::Invalid(format!(
            "{name}: must name at most {EACH_MAX}"
        )));
    }
    let mut all = Vec::with_capacity(names.len());
    for name in names {
        let it = read(name)?;
        if !all.contains(&it) {
            all.push(it);
        }
    }
    Ok(all)
}
