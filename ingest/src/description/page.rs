//! `GET /docs`: a page that shows the description, from files that are in the program (Swagger UI).

use std::{collections::HashMap, sync::Arc};

use anyhow::{Context, anyhow};
use axum::{
    extract::{Path, State, rejection::PathRejection},
    http::{HeaderMap, HeaderName, HeaderValue, Uri, header},
    response::Response,
};
use bytes::Bytes;
use utoipa_swagger_ui::{Config, SwaggerFile};

use super::parameters::IfNoneMatchHeader;
use crate::http::{problem::Problem, query, stored::Stored};

/// What the page needs. The rest of Swagger UI is for other ways of using it.
const FILES: [&str; 4] = [
    "swagger-ui.css",
    "swagger-ui-bundle.js",
    "swagger-ui-standalone-preset.js",
    "swagger-initializer.js",
];

/// The page. All it names is below its own path, so that it works behind a proxy that puts a prefix before it.
const PAGE: &str = r#"<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Hotrow: the HTTP interface</title>
<link rel="icon" href="data:,">
<link rel="stylesheet" href="docs/swagger-ui.css">
</head>
<body>
<div id="swagger-ui"></div>
<noscript>This page needs JavaScript. The description itself is <a href="openapi.json">openapi.json</a>.</noscript>
<script src="docs/swagger-ui-bundle.js"></script>
<script src="docs/swagger-ui-standalone-preset.js"></script>
<script src="docs/swagger-initializer.js"></script>
</body>
</html>
"#;

/// What the page may do: load from this origin and ask it, and nothing else. Swagger UI has its icons in `data:` URLs.
const POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; \
     connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
);

/// The page and its files.
pub(crate) struct Files {
    page: Stored,
    files: HashMap<&'static str, Stored>,
}

impl Files {
    /// Reads the files once.
    ///
    /// # Errors
    /// The program was built without one of them.
    pub(crate) fn new() -> anyhow::Result<Self> {
        let html = HeaderValue::from_static("text/html; charset=utf-8");
        let page = Stored::new(Bytes::from_static(PAGE.as_bytes()), html);
        let files = FILES.map(|name| Ok((name, file(name)?)));
        Ok(Self {
            page,
            files: files.into_iter().collect::<anyhow::Result<_>>()?,
        })
    }
}

fn file(name: &'static str) -> anyhow::Result<Stored> {
    // The address is relative to the page.
    let config = Config::new(["openapi.json"])
        .validator_url("none")
        .deep_linking(true)
        .use_base_layout();
    let read = utoipa_swagger_ui::serve(name, Arc::new(config));
    let read = read.map_err(|error| anyhow!("the file {name} of /docs: {error}"))?;
    let SwaggerFile {
        bytes,
        content_type,
        gzpipped: is_compressed,
        ..
    } = read.with_context(|| format!("the file {name} of /docs is not in the program"))?;
    let content_type = HeaderValue::try_from(content_type)?;
    let stored = Stored::new(bytes.into_owned().into(), content_type);
    Ok(if is_compressed {
        stored.compressed()
    } else {
        stored
    })
}

/// `GET /docs`: the page.
///
/// # Errors
/// 400 for a parameter.
#[utoipa::path(
    get,
    path = "/docs",
    operation_id = "showDescription",
    tag = "operations",
    summary = "A page that shows this description",
    params(IfNoneMatchHeader),
    responses(
        (status = 200, description = "The page.", body = String, content_type = "text/html; charset=utf-8", headers(("ETag"), ("Cache-Control"), ("Content-Security-Policy"))),
        (status = 304, description = "It is the one that the client has.", headers(("ETag"), ("Cache-Control"), ("Content-Security-Policy"))),
    ),
)]
pub(crate) async fn show(
    State(files): State<Arc<Files>>,
    uri: Uri,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    query::refuse(&uri)?;
    Ok(guarded(files.page.answer(&headers)))
}

/// `GET /docs/{file}`: what the page is made of.
///
/// # Errors
/// 400 for a parameter, 404 for another file.
#[utoipa::path(
    get,
    path = "/docs/{file}",
    operation_id = "showDescriptionFile",
    tag = "operations",
    summary = "A file of that page",
    params(("file" = String, Path, description = "Its name.", example = "swagger-ui.css"), IfNoneMatchHeader),
    responses(
        (
            status = 200, description = "The file, compressed with gzip.",
            content((String = "text/css"), (String = "text/javascript")),
            headers(("ETag"), ("Cache-Control"), ("Content-Security-Policy")),
        ),
        (status = 304, description = "It is the one that the client has.", headers(("ETag"), ("Cache-Control"), ("Content-Security-Policy"))),
    ),
)]
pub(crate) async fn show_file(
    State(files): State<Arc<Files>>,
    path: Result<Path<String>, PathRejection>,
    uri: Uri,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    query::refuse(&uri)?;
    let Path(name) = path?;
    let stored = files.files.get(name.as_str());
    let stored = stored.ok_or(Problem::NotFound("there is no such file"))?;
    Ok(guarded(stored.answer(&headers)))
}

/// Adds what keeps the page to this origin.
fn guarded(mut response: Response) -> Response {
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_SECURITY_POLICY, POLICY);
    headers.insert(
        header::X_CONTENT_TYPE_OPTIONS,
        HeaderValue::from_static("nosniff"),
    );
    headers.insert(
        header::REFERRER_POLICY,
        HeaderValue::from_static("no-referrer"),
    );
    let own = HeaderName::from_static("cross-origin-opener-policy");
    headers.insert(own, HeaderValue::from_static("same-origin"));
    response
}
