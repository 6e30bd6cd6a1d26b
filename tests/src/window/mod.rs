//! The shop window: a page on which a person buys as on any shop's page, and watches a stampede, and the server of that
//! page with what only a demo has beside it: tokens for whoever comes, a payment provider that always pays, an
//! operator's strip, and buyers by the thousand.
//!
//! The page is of one origin and Hotrow of another, as in a real shop. The server listens on this machine only, and
//! answers only to its own name and its own page.

mod assets;
mod guard;
mod operator;
mod payments;
mod refusal;
mod stampede;
mod visitors;

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, OnceLock},
};

use anyhow::Context;
use axum::{
    Json, Router,
    extract::{DefaultBodyLimit, State},
    middleware,
    routing::{get, post},
};
use serde_json::{Value, json};
use tokio::{
    net::TcpListener,
    sync::{Mutex, Semaphore},
    task::JoinHandle,
};

use self::{assets::Assets, refusal::Refusal, stampede::Stampedes};
use crate::{Client, Issuer};

/// The largest request of the page is an id and a few words.
const BODY_MAX: usize = 4 * 1024;
/// How many requests of the page may wait for Hotrow at a time.
const ASKING_MAX: usize = 64;

/// What the window sells, and through whom.
#[derive(Debug, Clone)]
pub struct Shop {
    /// Where Hotrow takes orders. The page buys at the first of them, and a stampede at all.
    pub doors: Vec<SocketAddr>,
    /// The metrics of everything that takes orders.
    pub door_metrics: Vec<String>,
    /// The metrics of everything that settles them.
    pub worker_metrics: Vec<String>,
    /// Where the books are read.
    pub database_url: String,
    /// The administrator's token.
    pub admin_token: String,
    /// What tokens are signed with: that of all doors.
    pub auth_secret: String,
    /// The product of the first panel.
    pub sku: String,
}

/// The window, open until it is dropped.
pub struct Window {
    address: SocketAddr,
    room: Arc<Room>,
    serving: JoinHandle<()>,
}

/// What the routes share.
struct Room {
    origin: guard::Origin,
    assets: Assets,
    /// Empty until Hotrow runs.
    open: OnceLock<Open>,
}

/// What is there once Hotrow runs.
struct Open {
    shop: Shop,
    issuer: Issuer,
    administrator: Client,
    /// Whose token goes along with each request.
    door: Client,
    /// The operator does one thing after the other.
    operator: Mutex<()>,
    asking: Semaphore,
    stampedes: Stampedes,
}

impl Window {
    /// Listens on a free port of this machine, and serves the page. It has nothing to sell yet, and says so.
    ///
    /// # Errors
    /// When there is no port.
    pub async fn open() -> anyhow::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await;
        let listener = listener.context("listen for the shop window")?;
        let address = listener.local_addr()?;
        let room = Arc::new(Room {
            origin: guard::Origin::of(address),
            assets: Assets::new()?,
            open: OnceLock::new(),
        });
        let router = router(Arc::clone(&room));
        let serving = tokio::spawn(async {
            // It ends when the window is dropped.
            let _ = axum::serve(listener, router).await;
        });
        Ok(Self {
            address,
            room,
            serving,
        })
    }

    /// The origin of the page, as `CORS_ORIGINS` wants it.
    #[must_use]
    pub fn origin(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Begins to sell.
    ///
    /// # Errors
    /// When it sells already, or has nobody to sell through.
    pub fn sell(&self, shop: Shop) -> anyhow::Result<()> {
        let door = Client::new(*shop.doors.first().context("no door to sell through")?)?;
        let open = Open {
            issuer: Issuer::secret(shop.auth_secret.as_bytes()),
            administrator: door.clone().admin(&shop.admin_token),
            door,
            operator: Mutex::default(),
            asking: Semaphore::new(ASKING_MAX),
            stampedes: Stampedes::default(),
            shop,
        };
        let opened = self.room.open.set(open);
        opened.map_err(|_| anyhow::anyhow!("the window sells already"))
    }
}

impl Drop for Window {
    fn drop(&mut self) {
        self.serving.abort();
        if let Some(open) = self.room.open.get() {
            open.stampedes.stop();
        }
    }
}

impl Room {
    fn open(&self) -> Result<&Open, Refusal> {
        self.open.get().ok_or(Refusal::NotReady)
    }
}

impl Open {
    /// The page's Hotrow.
    fn api(&self) -> String {
        format!("http://{}", self.door.address())
    }
}

fn router(room: Arc<Room>) -> Router {
    let origin = room.origin.clone();
    Router::new()
        .route("/demo/shop", get(shop))
        .route("/demo/token", post(visitors::token))
        .route("/demo/pay", post(payments::pay))
        .route("/demo/operator", post(operator::operate))
        .route("/demo/stampede", get(stampede::show).post(stampede::begin))
        .fallback(assets::serve)
        .layer(DefaultBodyLimit::max(BODY_MAX))
        .layer(middleware::from_fn_with_state(origin, guard::guard))
        .with_state(room)
}

/// Where Hotrow is, and what is sold there.
async fn shop(State(room): State<Arc<Room>>) -> Result<Json<Value>, Refusal> {
    let open = room.open()?;
    Ok(Json(json!({
        "api": open.api(),
        "sku": open.shop.sku,
        "buyers_min": stampede::BUYERS_MIN,
        "buyers_max": stampede::BUYERS_MAX,
    })))
}
