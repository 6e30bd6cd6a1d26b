//! Who comes to the window: each visitor is a customer of its own, with a token, so that limits per customer are real.
//! A real shop asks people to log in first.

use std::sync::Arc;

use axum::{Json, extract::State};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{Room, refusal::Refusal};

const PREFIX: &str = "visitor-";
/// So long before it expires the page should ask for another one.
const TOKEN_SECONDS: u32 = 540;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Visit {
    /// The name from the last visit.
    visitor: Option<String>,
}

#[derive(Serialize)]
pub(super) struct Admitted {
    visitor: String,
    token: String,
    good_for_seconds: u32,
}

/// A token, for the visitor of before or for a new one.
pub(super) async fn token(
    State(room): State<Arc<Room>>,
    Json(visit): Json<Visit>,
) -> Result<Json<Admitted>, Refusal> {
    let open = room.open()?;
    let visitor = match visit.visitor {
        Some(visitor) if is_visitor(&visitor) => visitor,
        Some(_) => return Err(Refusal::Invalid("visitor: nobody is called so".to_owned())),
        None => format!("{PREFIX}{}", Uuid::new_v4().simple()),
    };
    Ok(Json(Admitted {
        token: open.issuer.token(&visitor, "customer"),
        visitor,
        good_for_seconds: TOKEN_SECONDS,
    }))
}

/// Only names that were given here: a page must not choose another.
fn is_visitor(name: &str) -> bool {
    let id = name.strip_prefix(PREFIX);
    id.is_some_and(|id| id.len() == 32 && Uuid::try_parse(id).is_ok())
}
