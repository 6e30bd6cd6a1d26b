//! `GET /openapi.json`.

use std::sync::{Arc, OnceLock};

use axum::{
    extract::State,
    http::{HeaderMap, HeaderValue, Uri},
    response::Response,
};
use bytes::Bytes;
use utoipa::openapi::OpenApi;

use super::parameters::IfNoneMatchHeader;
use crate::http::{problem::Problem, query, stored::Stored};

/// The description as it is served. It is made from the routes, of which this one is one, so it is set when all are
/// known.
#[derive(Default)]
pub(crate) struct Published(OnceLock<Stored>);

impl Published {
    /// Encodes the description, once for all readers.
    ///
    /// # Errors
    /// It cannot be written as JSON.
    pub(crate) fn set(&self, document: &OpenApi) -> Result<(), serde_json::Error> {
        let bytes = Bytes::from(document.to_json()?);
        self.0
            .get_or_init(|| Stored::new(bytes, HeaderValue::from_static("application/json")));
        Ok(())
    }
}

/// `GET /openapi.json`: this description.
///
/// # Errors
/// 400 for a parameter.
#[utoipa::path(
    get,
    path = "/openapi.json",
    operation_id = "readDescription",
    tag = "operations",
    summary = "This description",
    description = "OpenAPI 3.1 of the routes that this process has: those of Stripe and of webhooks are missing where they are not set up.",
    params(IfNoneMatchHeader),
    responses(
        (status = 200, description = "The description.", body = Object, headers(("ETag"), ("Cache-Control"))),
        (status = 304, description = "It is the one that the client has.", headers(("ETag"), ("Cache-Control"))),
    )
)]
pub(crate) async fn show(
    State(published): State<Arc<Published>>,
    uri: Uri,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    query::refuse(&uri)?;
    let stored = published.0.get();
    let stored = stored.ok_or(Problem::Unavailable("the description"))?;
    Ok(stored.answer(&headers))
}
