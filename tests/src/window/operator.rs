//! The operator's strip: what brings the product of the first panel into each state that a page has to show.

use std::sync::Arc;

use axum::{Json, extract::State};
use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};
use reqwest::Method;
use serde::Deserialize;
use serde_json::{Value, json};
use uuid::Uuid;

use super::{Open, Room, refusal::Refusal};
use crate::client::Answer;

/// How many come with a restock, and how many there may be.
const RESTOCK: i64 = 10;
const STOCK_MAX: i64 = 1_000;
/// More others than this do not come to have goods held.
const OTHERS_MAX: i64 = 100;
/// Others may buy meanwhile: so often it is tried.
const TRIES: usize = 5;
const OPENS_IN: TimeDelta = TimeDelta::seconds(10);
const CLOSED_SINCE: TimeDelta = TimeDelta::seconds(1);
/// What the price goes up by, and how high it may go.
const DEARER: i64 = 100;
const PRICE_MAX: i64 = 100_000;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Wish {
    action: Action,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Action {
    Restock,
    /// Takes everything out of the stock.
    Empty,
    /// Has others reserve everything that is left.
    HoldAll,
    Pause,
    /// Lets the sale go on, and forgets its times.
    Open,
    OpenSoon,
    Close,
    RaisePrice,
    /// The switch: all purchases stop.
    StopAll,
    GoOn,
}

/// Does it, and says how the product stands then.
pub(super) async fn operate(
    State(room): State<Arc<Room>>,
    Json(wish): Json<Wish>,
) -> Result<Json<Value>, Refusal> {
    let open = room.open()?;
    let _turn = open.operator.try_lock().map_err(|_| Refusal::TooMany)?;
    open.act(wish.action).await?;
    Ok(Json(open.product().await?))
}

impl Open {
    async fn act(&self, action: Action) -> Result<(), Refusal> {
        let now = Utc::now();
        match action {
            Action::Restock => self.restock().await,
            Action::Empty => self.empty().await,
            Action::HoldAll => self.hold_all().await,
            Action::Pause => self.patch(json!({ "sale": { "paused": true } })).await,
            Action::Open => {
                let open = json!({ "paused": false, "opens_at": null, "closes_at": null });
                self.patch(json!({ "sale": open })).await
            }
            Action::OpenSoon => {
                let soon =
                    json!({ "paused": false, "opens_at": text(now + OPENS_IN), "closes_at": null });
                self.patch(json!({ "sale": soon })).await
            }
            Action::Close => {
                let over = json!({ "opens_at": null, "closes_at": text(now - CLOSED_SINCE) });
                self.patch(json!({ "sale": over })).await
            }
            Action::RaisePrice => self.raise_price().await,
            Action::StopAll => {
                self.switch(json!({ "paused": true, "note": "the shop window" }))
                    .await
            }
            Action::GoOn => self.switch(json!({ "paused": false })).await,
        }
    }

    async fn restock(&self) -> Result<(), Refusal> {
        if available(&self.product().await?) + RESTOCK > STOCK_MAX {
            return Err(Refusal::Conflict(format!("there are {STOCK_MAX} at most")));
        }
        let sku = &self.shop.sku;
        told(self.administrator.restock(sku, RESTOCK, None).await).map(drop)
    }

    async fn empty(&self) -> Result<(), Refusal> {
        for _ in 0..TRIES {
            let left = available(&self.product().await?);
            if left == 0 {
                return Ok(());
            }
            let emptied = self
                .administrator
                .restock(&self.shop.sku, -left, None)
                .await;
            // Somebody may have bought meanwhile.
            if emptied.is_ok_and(|answer| answer.status.is_success()) {
                return Ok(());
            }
        }
        Err(Refusal::Conflict(
            "others buy at the same time: try again".to_owned(),
        ))
    }

    async fn hold_all(&self) -> Result<(), Refusal> {
        let product = self.product().await?;
        let each = product["sale"]["max_per_order"]
            .as_i64()
            .unwrap_or(1)
            .max(1);
        let mut left = available(&product).min(each * OTHERS_MAX);
        let bearer = format!("Bearer {}", self.issuer.token("the-shop", "shop"));
        while left > 0 {
            let quantity = left.min(each);
            left -= quantity;
            let body = json!({
                "customer_id": format!("other-{}", Uuid::new_v4().simple()),
                "items": [{ "sku": self.shop.sku, "quantity": quantity }],
            });
            let headers = [("authorization", bearer.as_str())];
            told(
                self.door
                    .send(Method::POST, "/v1/orders", &headers, Some(body))
                    .await,
            )?;
        }
        Ok(())
    }

    async fn raise_price(&self) -> Result<(), Refusal> {
        let price = self.product().await?["unit_price_minor"]
            .as_i64()
            .unwrap_or_default();
        let price = if price + DEARER > PRICE_MAX {
            DEARER
        } else {
            price + DEARER
        };
        self.patch(json!({ "unit_price_minor": price })).await
    }

    async fn patch(&self, change: Value) -> Result<(), Refusal> {
        let patched = self.administrator.patch_inventory(&self.shop.sku, change);
        told(patched.await).map(drop)
    }

    async fn switch(&self, switch: Value) -> Result<(), Refusal> {
        let turned = self
            .administrator
            .send(Method::PUT, "/v1/sale", &[], Some(switch));
        told(turned.await).map(drop)
    }

    async fn product(&self) -> Result<Value, Refusal> {
        let answer = told(self.administrator.inventory(&self.shop.sku).await)?;
        answer
            .json()
            .map_err(|error| Refusal::Unavailable(error.to_string()))
    }
}

fn available(product: &Value) -> i64 {
    product["available"].as_i64().unwrap_or_default()
}

fn told(answer: anyhow::Result<Answer>) -> Result<Answer, Refusal> {
    let answer = answer.map_err(|_| Refusal::Unavailable("Hotrow does not answer".to_owned()))?;
    if answer.status.is_success() {
        return Ok(answer);
    }
    let code = answer.code().unwrap_or_else(|| answer.status.to_string());
    if answer.status.is_server_error() {
        return Err(Refusal::Unavailable(format!("Hotrow said {code}")));
    }
    Err(Refusal::Conflict(format!("Hotrow said {code}")))
}

/// A time as bodies have it.
fn text(time: DateTime<Utc>) -> String {
    time.to_rfc3339_opts(SecondsFormat::Millis, true)
}
