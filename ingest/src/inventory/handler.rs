//! The routes below `/v1/inventory`.

use std::{sync::Arc, time::Instant};

use axum::{
    Json,
    body::Body,
    extract::{Path, State, rejection::PathRejection},
    http::{HeaderMap, HeaderValue, StatusCode, Uri, header},
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use hotrow_shared::order::Sku;
use serde::Serialize;
use utoipa::ToSchema;

use super::{
    InventoryDesk, SHOWN_FOR, UNKNOWN_SKU,
    bodies::{self, AVAILABLE_MAX, PatchBody, PutBody},
    requests::{PatchRequest, PutRequest, RestockRequest},
    shown::Shown,
    store::{ChangeError, Changed, Restocked},
};
use crate::{
    audit::By,
    board::store as rows,
    description::parameters::{AfterSku, IfMatchHeader, KeyHeader, LimitQuery, SkuPath},
    http::{body, entity_tag::etag, json::Faults, precondition::IfMatch, problem::Problem, query},
    page::{self, in_time},
};

/// A page of products.
#[derive(Serialize, ToSchema)]
#[schema(as = Products)]
struct Page<'a> {
    /// By SKU.
    inventory: Vec<Shown<'a>>,
    /// What to ask for as `after` to get the next page; none on the last.
    #[schema(required)]
    next_after: Option<String>,
}

/// `GET /v1/inventory/{sku}`.
///
/// # Errors
/// 404 for an unknown SKU, 503 without a database.
#[utoipa::path(
    get,
    path = "/v1/inventory/{sku}",
    operation_id = "readProduct",
    tag = "inventory",
    summary = "Look at a product",
    description = "At most a second old.",
    params(SkuPath),
    responses((status = 200, description = "The product.", body = Shown, headers(("ETag"), ("Cache-Control")), example = json!({"sku": "chair-123", "title": "Chair", "unit_price_minor": 4900, "currency": "EUR", "available": 7, "held": 3, "sale": {"hold_seconds": 600, "hold_seconds_max": 3600, "max_per_order": 2, "max_per_customer": 4, "opens_at": "2026-12-01T10:00:00.000Z", "closes_at": null, "paused": false}, "sold_out": false, "state": "open", "version": 12, "as_of": "2026-12-01T10:00:03.141Z"}))),
)]
pub(crate) async fn show(
    State(desk): State<Arc<InventoryDesk>>,
    path: Result<Path<String>, PathRejection>,
    uri: Uri,
) -> Result<Response, Problem> {
    query::refuse(&uri)?;
    let sku = sku_of(path)?;
    let row = in_time("a product", desk.show(&sku)).await?;
    let row = row.ok_or(UNKNOWN_SKU)?;
    let edition = [etag(row.edition)];
    Ok((public(), edition, Json(desk.shown(&row))).into_response())
}

/// `GET /v1/inventory?limit=&after=`.
///
/// # Errors
/// 400 for another parameter, 422 for a page that cannot be, 503 without a database.
#[utoipa::path(
    get,
    path = "/v1/inventory",
    operation_id = "listProducts",
    tag = "inventory",
    summary = "Look at all products",
    params(LimitQuery, AfterSku),
    responses((status = 200, description = "A page of products, by SKU.", body = Page, headers(("Cache-Control")), example = json!({"inventory": [{"sku": "chair-123", "title": "Chair", "unit_price_minor": 4900, "currency": "EUR", "available": 7, "held": 3, "sale": {"hold_seconds": 600, "hold_seconds_max": 3600, "max_per_order": 2, "max_per_customer": 4, "opens_at": "2026-12-01T10:00:00.000Z", "closes_at": null, "paused": false}, "sold_out": false, "state": "open", "version": 12, "as_of": "2026-12-01T10:00:03.141Z"}], "next_after": "chair-123"}))),
)]
pub(crate) async fn page(
    State(desk): State<Arc<InventoryDesk>>,
    uri: Uri,
) -> Result<Response, Problem> {
    let [limit, after] = query::read(&uri, ["limit", "after"])?;
    let limit = page::limit(limit.as_deref())?;
    let after = after.filter(|text| !text.is_empty());
    let after = after
        .map(|text| {
            Sku::try_from(text.as_str())
                .map_err(|error| Problem::Invalid(format!("after: {error}")))
        })
        .transpose()?;
    let after = after.as_ref().map_or("", Sku::as_str);
    let rows = rows::page(&desk.reads, after, page::read(limit));
    let mut rows = in_time("a page of the inventory", rows).await?;
    let next_after = page::cut(&mut rows, limit, |row| row.sku.clone());
    let page = Page {
        inventory: rows.iter().map(|row| desk.shown(row)).collect(),
        next_after,
    };
    Ok((public(), Json(page)).into_response())
}

/// `PUT /v1/inventory/{sku}`: 201 for a new product, 200 for a replaced one.
///
/// # Errors
/// 412 for a product that is not as the caller has seen it, 422 for what a product cannot be, 503
/// without a database.
#[utoipa::path(
    put,
    path = "/v1/inventory/{sku}",
    operation_id = "putProduct",
    tag = "inventory",
    summary = "Put a product up for sale, or replace it",
    description = "Sets the stock that is free to sell to a number, also during a sale; held goods come on top. An absent `sale` keeps the rules of the sale, null removes them, and an object replaces all of them.",
    params(SkuPath, IfMatchHeader),
    request_body(content = PutRequest, example = json!({"title": "Chair", "unit_price_minor": 4900, "currency": "EUR", "available": 10, "sale": {"hold_seconds": 600, "max_per_order": 2}})),
    responses(
        (status = 200, description = "The product was replaced.", body = Shown, headers(("ETag")), example = json!({"sku": "chair-123", "title": "Chair", "unit_price_minor": 4900, "currency": "EUR", "available": 7, "held": 3, "sale": {"hold_seconds": 600, "hold_seconds_max": 3600, "max_per_order": 2, "max_per_customer": 4, "opens_at": "2026-12-01T10:00:00.000Z", "closes_at": null, "paused": false}, "sold_out": false, "state": "open", "version": 12, "as_of": "2026-12-01T10:00:03.141Z"})),
        (status = 201, description = "The product is new.", body = Shown, headers(("ETag")), example = json!({"sku": "chair-123", "title": "Chair", "unit_price_minor": 4900, "currency": "EUR", "available": 7, "held": 3, "sale": {"hold_seconds": 600, "hold_seconds_max": 3600, "max_per_order": 2, "max_per_customer": 4, "opens_at": "2026-12-01T10:00:00.000Z", "closes_at": null, "paused": false}, "sold_out": false, "state": "open", "version": 12, "as_of": "2026-12-01T10:00:03.141Z"})),
    ),
)]
pub(crate) async fn put(
    State(desk): State<Arc<InventoryDesk>>,
    path: Result<Path<String>, PathRejection>,
    by: By,
    uri: Uri,
    headers: HeaderMap,
    content: Body,
) -> Result<Response, Problem> {
    let read = |content: &Bytes| {
        body::parse_by_hand(content, |body, faults| {
            PutBody::examine(body, desk.shortest_hold, faults)
        })
    };
    let content = body::read(&headers, content);
    let (sku, product) = read_change(path, &uri, content, read).await?;
    let changes = desk.changes(&by, IfMatch::read(&headers)?);
    let began = Instant::now();
    answer(&desk, &sku, changes.put(&sku, &product).await, began).await
}

/// `PATCH /v1/inventory/{sku}`: a merge patch (RFC 7396) of title, price and the rules of the sale.
///
/// # Errors
/// 404 for an unknown SKU, 412 for a product that is not as the caller has seen it, 422 for what a
/// product cannot be, 503 without a database.
#[utoipa::path(
    patch,
    path = "/v1/inventory/{sku}",
    operation_id = "patchProduct",
    tag = "inventory",
    summary = "Change the title, the price or the rules of the sale of a product",
    description = "A merge patch (RFC 7396): what is not named stays. In `sale`, null removes a rule, and a null `sale` removes all.",
    params(SkuPath, IfMatchHeader),
    request_body(content(
        (PatchRequest = "application/merge-patch+json", example = json!({"sale": {"paused": true}})),
        (PatchRequest = "application/json", example = json!({"sale": {"paused": true}})),
    )),
    responses((status = 200, description = "The product since.", body = Shown, headers(("ETag")), example = json!({"sku": "chair-123", "title": "Chair", "unit_price_minor": 4900, "currency": "EUR", "available": 7, "held": 3, "sale": {"hold_seconds": 600, "hold_seconds_max": 3600, "max_per_order": 2, "max_per_customer": 4, "opens_at": "2026-12-01T10:00:00.000Z", "closes_at": null, "paused": false}, "sold_out": false, "state": "open", "version": 12, "as_of": "2026-12-01T10:00:03.141Z"}))),
)]
pub(crate) async fn patch(
    State(desk): State<Arc<InventoryDesk>>,
    path: Result<Path<String>, PathRejection>,
    by: By,
    uri: Uri,
    headers: HeaderMap,
    content: Body,
) -> Result<Response, Problem> {
    let read = |content: &Bytes| {
        body::parse_by_hand(content, |body, faults| {
            PatchBody::examine(body, desk.shortest_hold, faults)
        })
    };
    let content = body::read_patch(&headers, content);
    let (sku, change) = read_change(path, &uri, content, read).await?;
    let changes = desk.changes(&by, IfMatch::read(&headers)?);
    let began = Instant::now();
    answer(&desk, &sku, changes.patch(&sku, &change).await, began).await
}

/// Makes a change that began then known, and answers who asked for it.
async fn answer(
    desk: &InventoryDesk,
    sku: &Sku,
    changed: Result<Changed, ChangeError>,
    began: Instant,
) -> Result<Response, Problem> {
    let (status, row) = match changed.map_err(|error| unchanged(&error))? {
        Changed::Done(row) => (StatusCode::OK, row),
        Changed::Created(row) => (StatusCode::CREATED, row),
        Changed::UnknownSku => return Err(UNKNOWN_SKU),
        Changed::Outdated => return Err(Problem::PreconditionFailed),
        Changed::Contradiction(contradiction) => {
            let faults = Faults::one(&contradiction.place(), contradiction.detail);
            return Err(Problem::InvalidBody(faults));
        }
    };
    desk.tell(sku, &row, began).await;
    let edition = [etag(row.edition)];
    Ok((status, edition, Json(desk.shown(&row))).into_response())
}

/// `POST /v1/inventory/{sku}/restock`.
///
/// # Errors
/// 404 for an unknown SKU, 422 for a quantity that cannot be or a key that was used for
/// another, 503 without a database.
#[utoipa::path(
    post,
    path = "/v1/inventory/{sku}/restock",
    operation_id = "restockProduct",
    tag = "inventory",
    summary = "Add to the stock of a product, or take from it",
    description = "A request with the same `Idempotency-Key` takes effect once.",
    params(SkuPath, KeyHeader),
    request_body(content = RestockRequest, example = json!({"quantity": 10})),
    responses((status = 200, description = "The product since.", body = Shown, headers(("ETag")), example = json!({"sku": "chair-123", "title": "Chair", "unit_price_minor": 4900, "currency": "EUR", "available": 7, "held": 3, "sale": {"hold_seconds": 600, "hold_seconds_max": 3600, "max_per_order": 2, "max_per_customer": 4, "opens_at": "2026-12-01T10:00:00.000Z", "closes_at": null, "paused": false}, "sold_out": false, "state": "open", "version": 12, "as_of": "2026-12-01T10:00:03.141Z"}))),
)]
pub(crate) async fn restock(
    State(desk): State<Arc<InventoryDesk>>,
    path: Result<Path<String>, PathRejection>,
    by: By,
    uri: Uri,
    headers: HeaderMap,
    content: Body,
) -> Result<Response, Problem> {
    let read = |content: &Bytes| body::parse_by_hand(content, bodies::examine_restock);
    let content = body::read(&headers, content);
    let (sku, quantity) = read_change(path, &uri, content, read).await?;
    let key = body::idempotency_key(&headers)?;
    let key = key.as_ref().map(hotrow_shared::id::IdempotencyKey::as_str);
    let changes = desk.changes(&by, IfMatch::Anything);
    let began = Instant::now();
    let restocked = changes.restock(&sku, quantity, key).await;
    match restocked.map_err(|error| unchanged(&error))? {
        Restocked::Done(row) => answer(&desk, &sku, Ok(Changed::Done(row)), began).await,
        Restocked::UnknownSku => Err(UNKNOWN_SKU),
        Restocked::OutOfBounds(available) => Err(Problem::InvalidBody(Faults::one(
            &bodies::QUANTITY,
            format_args!("the stock of {available} would leave the bounds 0 to {AVAILABLE_MAX}"),
        ))),
        Restocked::Mismatch => Err(Problem::IdempotencyMismatch),
    }
}

/// What every change begins with: a product, and what is to become of it.
async fn read_change<T>(
    path: Result<Path<String>, PathRejection>,
    uri: &Uri,
    content: impl Future<Output = Result<Bytes, Problem>>,
    read: impl FnOnce(&Bytes) -> Result<T, Problem>,
) -> Result<(Sku, T), Problem> {
    query::refuse(uri)?;
    let content = content.await?;
    Ok((sku_of(path)?, read(&content)?))
}

fn sku_of(path: Result<Path<String>, PathRejection>) -> Result<Sku, Problem> {
    let Path(text) = path?;
    Sku::try_from(text.as_str()).map_err(|error| Problem::Invalid(format!("sku: {error}")))
}

/// What a failed change means to the one who asked for it.
fn unchanged(error: &ChangeError) -> Problem {
    tracing::warn!(%error, "the inventory cannot be changed");
    match error {
        ChangeError::NotMade(_) => Problem::Unavailable("the database"),
        ChangeError::Unknown(_) => Problem::ChangeUnknown,
    }
}

fn public() -> [(header::HeaderName, HeaderValue); 1] {
    let value = format!("public, max-age={}", SHOWN_FOR.as_secs());
    [(
        header::CACHE_CONTROL,
        HeaderValue::try_from(value).unwrap_or_else(|_| HeaderValue::from_static("no-store")),
    )]
}
