//! A shop's own web server: another origin than the API, with the client and its example page.

use std::net::Ipv4Addr;

use axum::{
    Router,
    http::header::CONTENT_TYPE,
    response::{Html, IntoResponse},
    routing::get,
};
use tokio::{net::TcpListener, task::JoinHandle};
use url::Url;

const CLIENT: &str = include_str!("../../../clients/javascript/hotrow.js");
const EXAMPLE: &str = include_str!("../../../clients/javascript/example.html");
/// A page that does nothing by itself.
const EMPTY: &str =
    "<!doctype html><html lang=\"en\"><title>A page</title><link rel=\"icon\" href=\"data:,\">";

/// A running web server. It ends when it is dropped.
pub(super) struct Site {
    origin: String,
    server: JoinHandle<()>,
}

impl Site {
    pub(super) async fn start() -> anyhow::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        // The API is at 127.0.0.1, so that this is another site, too, and not only another port.
        let origin = format!("http://localhost:{}", listener.local_addr()?.port());
        let client = || async { ([(CONTENT_TYPE, "text/javascript")], CLIENT).into_response() };
        let pages = Router::new()
            .route("/hotrow.js", get(client))
            .route("/example.html", get(|| async { Html(EXAMPLE) }))
            .route("/empty.html", get(|| async { Html(EMPTY) }));
        let server = tokio::spawn(async move {
            // It ends with the claim, which would notice the lack of a page.
            let _ = axum::serve(listener, pages).await;
        });
        Ok(Self { origin, server })
    }

    /// What `CORS_ORIGINS` has to name.
    pub(super) fn origin(&self) -> &str {
        &self.origin
    }

    /// The example page, which sells a product at an API to whom a token names.
    pub(super) fn example(&self, api: &str, sku: &str, token: &str) -> String {
        let mut page = self.page("example.html");
        page.query_pairs_mut()
            .extend_pairs([("url", api), ("sku", sku), ("token", token)]);
        page.into()
    }

    /// A page that does nothing, for scripts.
    pub(super) fn empty(&self) -> String {
        self.page("empty.html").into()
    }

    fn page(&self, name: &str) -> Url {
        let page = format!("{}/{name}", self.origin);
        Url::parse(&page).expect("the address of a page")
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        self.server.abort();
    }
}
