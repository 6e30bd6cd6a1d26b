//! How a page looks: on a phone and on a wide screen, light and dark. In each look it is checked by axe
//! (<https://github.com/dequelabs/axe-core>) for what keeps people from using it, nothing may stick out, and a picture
//! is kept.

use anyhow::ensure;
use hotrow_tests::Browser;
use serde_json::json;

use super::{SOON, keep_picture};

const AXE: &str = include_str!("vendor/axe-4.14.1.min.js");
const WIDTHS: [u32; 2] = [360, 1_280];

/// What axe finds, each with where it is; all of its rules count.
const CHECK: &str = "
    return axe.run(document, { resultTypes: ['violations'] }).then(({ violations }) =>
        violations.map(({ id, help, nodes }) => [id, help, nodes.map((it) => it.target + ': ' + it.failureSummary)]))";

/// A colour on its way to another one is neither. What shows how time passes is never still.
const IS_STILL: &str = "document.getAnimations().every((it) => it.playState !== 'running' \
    || it.transitionProperty === 'width' \
    || it.effect.getComputedTiming().iterations === Infinity)";

const STICKS_OUT: &str = "
    const { scrollWidth, clientWidth } = document.documentElement;
    return scrollWidth > clientWidth ? `${scrollWidth} of ${clientWidth} px` : null";

/// Looks at the page from all sides.
pub(super) async fn look_well(browser: &Browser, name: &str) -> anyhow::Result<()> {
    let is_there = browser.run("return Boolean(window.axe)", json!([])).await?;
    if is_there != true {
        browser.run(AXE, json!([])).await?;
    }
    for width in WIDTHS {
        for (scheme, is_dark) in [("light", false), ("dark", true)] {
            browser.dress(width, is_dark).await?;
            browser.until(IS_STILL, SOON).await?;
            let look = format!("{name}-{width}-{scheme}");
            keep_picture(browser, &look).await?;
            let sticks_out = browser.run(STICKS_OUT, json!([])).await?;
            ensure!(sticks_out.is_null(), "{look}: {sticks_out}");
            let violations = browser.run(CHECK, json!([])).await?;
            ensure!(violations == json!([]), "{look}: {violations:#}");
        }
    }
    Ok(())
}
