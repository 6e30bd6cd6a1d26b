//! The probes, as this process's clients and balancers ask for them. The listener of the metrics has the same.

use std::sync::Arc;

use axum::{Json, extract::State, http::StatusCode};
use hotrow_shared::telemetry::{self, Fitness, Liveness, Readiness};

/// `GET /livez`.
#[utoipa::path(
    get,
    path = "/livez",
    operation_id = "askWhetherLive",
    tag = "operations",
    summary = "Ask whether the process lives",
    responses((status = 200, description = "It does.", body = Liveness, example = json!({"status": "live"}))),
)]
pub(crate) async fn live() -> Json<Liveness> {
    telemetry::live()
}

/// `GET /readyz`.
#[utoipa::path(
    get,
    path = "/readyz",
    operation_id = "askWhetherReady",
    tag = "operations",
    summary = "Ask whether the process can take purchases",
    responses(
        (status = 200, description = "It can.", body = Fitness, example = json!({"status": "ready"})),
        (status = 503, description = "It cannot, and this is missing.", body = Fitness, example = json!({"status": "unready", "missing": ["broker"]})),
    ),
)]
pub(crate) async fn ready(State(readiness): State<Arc<Readiness>>) -> (StatusCode, Json<Fitness>) {
    readiness.answer()
}
