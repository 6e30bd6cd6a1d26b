//! `--stay`: the shop window, on a stage of its own. No act is played: a person is.

use std::time::Duration;

use hotrow_tests::{Settings, Window};
use serde_json::json;

use crate::{
    goods::{SPARE, SPARE_HOLD, SPARES},
    stage::Stage,
};

/// What is in the window, so many, and how many of them a customer may have.
const LAMP: &str = "lamp-9";
const LAMPS: u64 = 24;
const LAMPS_EACH: u64 = 2;
/// Long enough to look around, and short enough to see it end.
const HOLD: Duration = Duration::from_mins(1);
/// What the doors know tokens by.
const AUTH_SECRET: &str = "a-secret-for-tokens-of-the-window-of-more-than-32-bytes";

/// The window and what it sells through. Dropped, all of it ends.
pub(crate) struct Shop {
    _window: Window,
    _stage: Stage,
}

/// Serves the window, and starts what it sells through.
///
/// # Errors
/// When something does not start.
pub(crate) async fn open() -> anyhow::Result<Shop> {
    let window = Window::open().await?;
    println!("The shop window: {}/", window.origin());
    // Everybody comes from this machine, so a limit per address would be one for all.
    let doors = |ingest: Settings| {
        ingest
            .set("AUTH_SECRET", AUTH_SECRET)
            .set("CORS_ORIGINS", window.origin())
            .set("RATE_LIMIT_IP", "off")
    };
    let stage = Stage::set(doors).await?;
    let rules = json!({
        "hold_seconds": HOLD.as_secs(),
        "max_per_order": LAMPS_EACH,
        "max_per_customer": LAMPS_EACH,
    });
    stage.put_up(LAMP, "Desk lamp", LAMPS, Some(rules)).await?;
    let hold = json!({ "hold_seconds": SPARE_HOLD.as_secs() });
    stage.put_up(SPARE, "Table", SPARES, Some(hold)).await?;
    window.sell(stage.shop(LAMP, AUTH_SECRET)?)?;
    eprintln!("{}", stage.what_to_try(&window.origin())?);
    Ok(Shop {
        _window: window,
        _stage: stage,
    })
}
