//! The routes below `/v1/webhooks`.

use std::{sync::Arc, time::Duration};

use axum::{
    Json,
    body::Body,
    extract::{Path, State, rejection::PathRejection},
    http::{HeaderMap, StatusCode, Uri, header},
    response::{IntoResponse, Response},
};
use base64::{Engine, prelude::BASE64_STANDARD};
use chrono::Utc;
use hotrow_shared::{
    sealed::SealError,
    webhook::{Endpoint, SECRET_PREFIX},
};
use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;

use super::{
    WebhooksDesk,
    bodies::{NewEndpoint, Patch, Replay, Target, URL},
    reach,
    requests::{NewEndpointRequest, PatchRequest, ReplayRequest},
    store,
};
use crate::{
    audit::By,
    description::parameters::{AfterNumber, AfterText, LimitQuery, WebhookPath},
    http::{NO_STORE, body, json::Faults, problem::Problem, query},
    page::{self, done_in_time, in_time},
};

/// How long a change may take.
const CHANGE_TIME_MAX: Duration = Duration::from_secs(10);
/// The same for a replay, which may be of many deliveries.
const REPLAY_TIME_MAX: Duration = Duration::from_secs(20);
/// Bytes of a secret. (Standard Webhooks 1.0: 24 to 64.)
const SECRET_LENGTH: usize = 32;

const UNKNOWN_ENDPOINT: Problem = Problem::NotFound("there is no such endpoint");

/// A page of endpoints.
#[derive(Serialize, ToSchema)]
#[schema(as = Webhooks)]
struct Page {
    /// By id.
    webhooks: Vec<Endpoint>,
    /// What to ask for as `after` to get the next page; none on the last.
    #[schema(required)]
    next_after: Option<Uuid>,
}

/// A page of deliveries.
#[derive(Serialize, ToSchema)]
#[schema(as = WebhookDeliveries)]
struct Deliveries {
    /// The latest first.
    deliveries: Vec<store::Delivery>,
    /// What to ask for as `after` to get the next page; none on the last.
    #[schema(required)]
    next_after: Option<i64>,
}

/// An endpoint whose secret is new. It is told once.
#[derive(Serialize, ToSchema)]
#[schema(as = WebhookWithSecret)]
struct WithSecret {
    #[serde(flatten)]
    endpoint: Endpoint,
    /// What deliveries are signed with: `whsec_` and base64.
    secret: String,
}

/// What a replay queued.
#[derive(Serialize, ToSchema)]
#[schema(as = WebhookReplayed)]
struct Replayed {
    /// How many deliveries are sent again.
    #[schema(minimum = 0)]
    queued: i64,
}

/// `POST /v1/webhooks`: 201, and the only answer with the secret.
///
/// # Errors
/// 409 if there are too many, 422 for what an endpoint cannot be, 503 without a database.
#[utoipa::path(
    post,
    path = "/v1/webhooks",
    operation_id = "createWebhook",
    tag = "administration",
    summary = "Register an endpoint of webhooks",
    description = "Each event of these types is sent to it as one request, signed as Standard Webhooks 1.0 says. Without types it gets all but `order.rejected` and `webhook.disabled`.",
    request_body(content = NewEndpointRequest, example = json!({"url": "https://shop.example/hotrow", "types": ["order.confirmed"], "description": "fulfilment"})),
    responses((status = 201, description = "The endpoint, with its secret: this is the only answer that has it.", body = WithSecret, headers(("Location"), ("Cache-Control")), example = json!({"id": "6f1c2b1e-9a3f-4d55-8c1a-0d6a5b7e9f10", "url": "https://shop.example/hotrow", "types": ["order.confirmed"], "description": "fulfilment", "enabled": true, "disabled_at": null, "disabled_reason": null, "previous_secret_until": null, "created_at": "2026-11-21T00:46:53.719Z", "updated_at": "2026-11-21T00:46:53.719Z", "secret": "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"}))),
)]
pub(crate) async fn create(
    State(desk): State<Arc<WebhooksDesk>>,
    by: By,
    uri: Uri,
    headers: HeaderMap,
    content: Body,
) -> Result<Response, Problem> {
    query::refuse(&uri)?;
    let content = body::read(&headers, content).await?;
    let endpoint = body::parse_by_hand(&content, NewEndpoint::examine)?;
    require_reach(&desk, &endpoint.target).await?;
    let id = Uuid::new_v4();
    let (secret, sealed) = new_secret(&desk, id)?;
    let created = store::create(&desk.pool, &by, id, &endpoint, &sealed);
    let created = changed(CHANGE_TIME_MAX, created).await?;
    let endpoint = created.ok_or(Problem::TooManyEndpoints)?;
    let location = [(header::LOCATION, format!("/v1/webhooks/{id}"))];
    let body = Json(WithSecret { endpoint, secret });
    Ok((StatusCode::CREATED, [NO_STORE], location, body).into_response())
}

/// `GET /v1/webhooks?limit=&after=`.
///
/// # Errors
/// 400 for another parameter, 422 for a page that cannot be, 503 without a database.
#[utoipa::path(
    get,
    path = "/v1/webhooks",
    operation_id = "listWebhooks",
    tag = "administration",
    summary = "List the endpoints of webhooks",
    params(LimitQuery, AfterText),
    responses((status = 200, description = "A page of endpoints, by id.", body = Page, headers(("Cache-Control")), example = json!({"webhooks": [{"id": "6f1c2b1e-9a3f-4d55-8c1a-0d6a5b7e9f10", "url": "https://shop.example/hotrow", "types": ["order.confirmed"], "description": "fulfilment", "enabled": true, "disabled_at": null, "disabled_reason": null, "previous_secret_until": null, "created_at": "2026-11-21T00:46:53.719Z", "updated_at": "2026-11-21T00:46:53.719Z"}], "next_after": null}))),
)]
pub(crate) async fn page(
    State(desk): State<Arc<WebhooksDesk>>,
    uri: Uri,
) -> Result<Response, Problem> {
    let [limit, after] = query::read(&uri, ["limit", "after"])?;
    let limit = page::limit(limit.as_deref())?;
    let after = after.filter(|text| !text.is_empty());
    let after = after.map_or(Ok(Uuid::nil()), |text| text.parse());
    let after = after.map_err(|_| {
        Problem::Invalid("after: must be the next_after of the page before".to_owned())
    })?;
    let webhooks = store::page(&desk.pool, after, page::read(limit));
    let mut webhooks = in_time("the endpoints of webhooks", webhooks).await?;
    let next_after = page::cut(&mut webhooks, limit, |it| it.id);
    let page = Page {
        webhooks,
        next_after,
    };
    Ok(([NO_STORE], Json(page)).into_response())
}

/// `GET /v1/webhooks/{id}`.
///
/// # Errors
/// 404 for an unknown endpoint, 503 without a database.
#[utoipa::path(
    get,
    path = "/v1/webhooks/{id}",
    operation_id = "readWebhook",
    tag = "administration",
    summary = "Look at an endpoint of webhooks",
    params(WebhookPath),
    responses((status = 200, description = "The endpoint without its secret.", body = Endpoint, headers(("Cache-Control")), example = json!({"id": "6f1c2b1e-9a3f-4d55-8c1a-0d6a5b7e9f10", "url": "https://shop.example/hotrow", "types": ["order.confirmed"], "description": "fulfilment", "enabled": true, "disabled_at": null, "disabled_reason": null, "previous_secret_until": null, "created_at": "2026-11-21T00:46:53.719Z", "updated_at": "2026-11-21T00:46:53.719Z"}))),
)]
pub(crate) async fn show(
    State(desk): State<Arc<WebhooksDesk>>,
    path: Result<Path<String>, PathRejection>,
    uri: Uri,
) -> Result<Response, Problem> {
    let id = named(path, &uri)?;
    let endpoint = known(&desk, id).await?;
    Ok(([NO_STORE], Json(endpoint)).into_response())
}

/// `PATCH /v1/webhooks/{id}`: a merge patch (RFC 7396) of URL, types, description and whether it is enabled.
///
/// # Errors
/// 404 for an unknown endpoint, 422 for what it cannot be, 503 without a database.
#[utoipa::path(
    patch,
    path = "/v1/webhooks/{id}",
    operation_id = "patchWebhook",
    tag = "administration",
    summary = "Change, disable or enable an endpoint of webhooks",
    description = "A merge patch (RFC 7396): what is not named stays. Enabling forgets failures and what happened while it was disabled.",
    params(WebhookPath),
    request_body(content(
        (PatchRequest = "application/merge-patch+json", example = json!({"enabled": true})),
        (PatchRequest = "application/json", example = json!({"enabled": true})),
    )),
    responses((status = 200, description = "The endpoint since.", body = Endpoint, headers(("Cache-Control")), example = json!({"id": "6f1c2b1e-9a3f-4d55-8c1a-0d6a5b7e9f10", "url": "https://shop.example/hotrow", "types": ["order.confirmed"], "description": "fulfilment", "enabled": true, "disabled_at": null, "disabled_reason": null, "previous_secret_until": null, "created_at": "2026-11-21T00:46:53.719Z", "updated_at": "2026-11-21T00:46:53.719Z"}))),
)]
pub(crate) async fn patch(
    State(desk): State<Arc<WebhooksDesk>>,
    path: Result<Path<String>, PathRejection>,
    by: By,
    uri: Uri,
    headers: HeaderMap,
    content: Body,
) -> Result<Response, Problem> {
    let id = named(path, &uri)?;
    let content = body::read_patch(&headers, content).await?;
    let change = body::parse_by_hand(&content, Patch::examine)?;
    if let Some(target) = &change.target {
        require_reach(&desk, target).await?;
    }
    let patched = store::patch(&desk.pool, &by, id, &change, &desk.source);
    let endpoint = changed(CHANGE_TIME_MAX, patched).await?;
    let endpoint = endpoint.ok_or(UNKNOWN_ENDPOINT)?;
    Ok(([NO_STORE], Json(endpoint)).into_response())
}

/// `DELETE /v1/webhooks/{id}`: 204.
///
/// # Errors
/// 404 for an unknown endpoint, 503 without a database.
#[utoipa::path(
    delete,
    path = "/v1/webhooks/{id}",
    operation_id = "deleteWebhook",
    tag = "administration",
    summary = "Remove an endpoint of webhooks",
    params(WebhookPath),
    responses((status = 204, description = "There is no such endpoint any more.")),
)]
pub(crate) async fn delete(
    State(desk): State<Arc<WebhooksDesk>>,
    path: Result<Path<String>, PathRejection>,
    by: By,
    uri: Uri,
) -> Result<Response, Problem> {
    let id = named(path, &uri)?;
    if changed(CHANGE_TIME_MAX, store::delete(&desk.pool, &by, id)).await? {
        Ok(StatusCode::NO_CONTENT.into_response())
    } else {
        Err(UNKNOWN_ENDPOINT)
    }
}

/// `POST /v1/webhooks/{id}/test`: 202 with the delivery of an event that is sent to this endpoint alone.
///
/// # Errors
/// 404 for an unknown endpoint, 409 for a disabled one, 503 without a database.
#[utoipa::path(
    post,
    path = "/v1/webhooks/{id}/test",
    operation_id = "testWebhook",
    tag = "administration",
    summary = "Send a test event to an endpoint of webhooks",
    params(WebhookPath),
    responses((status = 202, description = "The delivery of the event, which goes to this endpoint alone.", body = store::Delivery, headers(("Cache-Control")), example = json!({"id": 31, "event_id": "01a1fe23-4721-808d-a41e-5192f1f4fdd2/2", "webhook_id": "evt_9c1185a5c5e9fc54612808977ee8f548", "type": "order.confirmed", "state": "pending", "attempts": 0, "next_attempt_at": "2026-11-21T00:49:07.002Z", "outcome": null, "status": null, "event_time": "2026-11-21T00:49:07.002Z", "finished_at": null}))),
)]
pub(crate) async fn test(
    State(desk): State<Arc<WebhooksDesk>>,
    path: Result<Path<String>, PathRejection>,
    uri: Uri,
) -> Result<Response, Problem> {
    let id = named(path, &uri)?;
    let endpoint = known(&desk, id).await?;
    let at = Utc::now();
    let (event_id, event) = endpoint.test_event(&desk.source, at).map_err(|error| {
        tracing::error!(%error, "a test event cannot be written as JSON");
        Problem::Unavailable("the endpoint")
    })?;
    let queued = store::queue_test(&desk.pool, id, &event_id, &event, at);
    let queued = changed(CHANGE_TIME_MAX, queued).await?;
    let delivery = queued.ok_or(Problem::EndpointDisabled)?;
    Ok((StatusCode::ACCEPTED, [NO_STORE], Json(delivery)).into_response())
}

/// `POST /v1/webhooks/{id}/rotate-secret`: 200 with the new secret. The one before signs, too, for a day.
///
/// # Errors
/// 404 for an unknown endpoint, 503 without a database.
#[utoipa::path(
    post,
    path = "/v1/webhooks/{id}/rotate-secret",
    operation_id = "rotateWebhookSecret",
    tag = "administration",
    summary = "Give an endpoint of webhooks a new secret",
    description = "The secret before signs, too, for 24 hours.",
    params(WebhookPath),
    responses((status = 200, description = "The endpoint, with its new secret: this is the only answer that has it.", body = WithSecret, headers(("Cache-Control")), example = json!({"id": "6f1c2b1e-9a3f-4d55-8c1a-0d6a5b7e9f10", "url": "https://shop.example/hotrow", "types": ["order.confirmed"], "description": "fulfilment", "enabled": true, "disabled_at": null, "disabled_reason": null, "previous_secret_until": null, "created_at": "2026-11-21T00:46:53.719Z", "updated_at": "2026-11-21T00:46:53.719Z", "secret": "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"}))),
)]
pub(crate) async fn rotate_secret(
    State(desk): State<Arc<WebhooksDesk>>,
    path: Result<Path<String>, PathRejection>,
    by: By,
    uri: Uri,
) -> Result<Response, Problem> {
    let id = named(path, &uri)?;
    let (secret, sealed) = new_secret(&desk, id)?;
    let rotated = changed(CHANGE_TIME_MAX, store::rotate(&desk.pool, &by, id, &sealed)).await?;
    let endpoint = rotated.ok_or(UNKNOWN_ENDPOINT)?;
    Ok(([NO_STORE], Json(WithSecret { endpoint, secret })).into_response())
}

/// `GET /v1/webhooks/{id}/deliveries?after=&limit=`, the latest first.
///
/// # Errors
/// 400 for another parameter, 404 for an unknown endpoint, 422 for a page that cannot be, 503
/// without a database.
#[utoipa::path(
    get,
    path = "/v1/webhooks/{id}/deliveries",
    operation_id = "listDeliveries",
    tag = "administration",
    summary = "List what was sent to an endpoint of webhooks",
    params(WebhookPath, AfterNumber, LimitQuery),
    responses((status = 200, description = "A page of deliveries, the latest first.", body = Deliveries, headers(("Cache-Control")), example = json!({"deliveries": [{"id": 31, "event_id": "01a1fe23-4721-808d-a41e-5192f1f4fdd2/2", "webhook_id": "evt_9c1185a5c5e9fc54612808977ee8f548", "type": "order.confirmed", "state": "delivered", "attempts": 1, "next_attempt_at": null, "outcome": "delivered", "status": 204, "event_time": "2026-11-21T00:49:07.002Z", "finished_at": "2026-11-21T00:49:07.420Z"}], "next_after": null}))),
)]
pub(crate) async fn deliveries(
    State(desk): State<Arc<WebhooksDesk>>,
    path: Result<Path<String>, PathRejection>,
    uri: Uri,
) -> Result<Response, Problem> {
    let [after, limit] = query::read(&uri, ["after", "limit"])?;
    let limit = page::limit(limit.as_deref())?;
    // Without a number, the page begins with the latest.
    let after = match page::after(after.as_deref())? {
        0 => i64::MAX,
        after => after,
    };
    let id = id_of(path)?;
    known(&desk, id).await?;
    let deliveries = store::deliveries(&desk.pool, id, after, page::read(limit));
    let mut deliveries = in_time("the deliveries of an endpoint", deliveries).await?;
    let next_after = page::cut(&mut deliveries, limit, |it| it.id);
    let page = Deliveries {
        deliveries,
        next_after,
    };
    Ok(([NO_STORE], Json(page)).into_response())
}

/// `POST /v1/webhooks/{id}/replay`: 202 with the number of finished deliveries that are sent again.
///
/// # Errors
/// 404 for an unknown endpoint, 409 for a disabled one, 422 for a span that cannot be, 503 without
/// a database.
#[utoipa::path(
    post,
    path = "/v1/webhooks/{id}/replay",
    operation_id = "replayDeliveries",
    tag = "administration",
    summary = "Send events of a span of time again",
    description = "Finished deliveries, which are kept for three days.",
    params(WebhookPath),
    request_body(content = ReplayRequest, example = json!({"since": "2026-12-01T10:00:00Z", "until": null, "only_failed": true})),
    responses((status = 202, description = "How many deliveries are sent again.", body = Replayed, headers(("Cache-Control")), example = json!({"queued": 17}))),
)]
pub(crate) async fn replay(
    State(desk): State<Arc<WebhooksDesk>>,
    path: Result<Path<String>, PathRejection>,
    by: By,
    uri: Uri,
    headers: HeaderMap,
    content: Body,
) -> Result<Response, Problem> {
    let id = named(path, &uri)?;
    let content = body::read(&headers, content).await?;
    let replay = body::parse_by_hand(&content, Replay::examine)?;
    if !known(&desk, id).await?.enabled {
        return Err(Problem::EndpointDisabled);
    }
    let queued = store::replay(&desk.pool, &by, id, &replay);
    let queued = changed(REPLAY_TIME_MAX, queued).await?;
    Ok((StatusCode::ACCEPTED, [NO_STORE], Json(Replayed { queued })).into_response())
}

/// The endpoint that a route without parameters names.
fn named(path: Result<Path<String>, PathRejection>, uri: &Uri) -> Result<Uuid, Problem> {
    query::refuse(uri)?;
    id_of(path)
}

fn id_of(path: Result<Path<String>, PathRejection>) -> Result<Uuid, Problem> {
    let Path(id) = path?;
    id.parse().map_err(|_| UNKNOWN_ENDPOINT)
}

async fn known(desk: &WebhooksDesk, id: Uuid) -> Result<Endpoint, Problem> {
    let endpoint = in_time("an endpoint of webhooks", store::read(&desk.pool, id)).await?;
    endpoint.ok_or(UNKNOWN_ENDPOINT)
}

async fn require_reach(desk: &WebhooksDesk, target: &Target) -> Result<(), Problem> {
    let reached = reach::require(target, &desk.networks).await;
    reached.map_err(|detail| Problem::InvalidBody(Faults::one(&URL, detail)))
}

/// A new secret, as it is told and as it is kept.
fn new_secret(desk: &WebhooksDesk, endpoint: Uuid) -> Result<(String, Vec<u8>), Problem> {
    let secret: [u8; SECRET_LENGTH] = rand::random();
    let sealed = desk.keys.seal(&secret, endpoint.as_bytes());
    let sealed = sealed.map_err(|error: SealError| {
        tracing::error!(%error, "a secret cannot be kept");
        Problem::Unavailable("the cipher")
    })?;
    let told = format!("{SECRET_PREFIX}{}", BASE64_STANDARD.encode(secret));
    Ok((told, sealed))
}

/// Bounds the time of a change.
async fn changed<T>(
    limit: Duration,
    change: impl Future<Output = Result<T, sqlx::Error>>,
) -> Result<T, Problem> {
    let what = "a change of an endpoint of webhooks";
    done_in_time(limit, what, || Problem::EndpointUnknown, change).await
}
