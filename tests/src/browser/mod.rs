//! A real browser: Chromium without a screen, with a profile of its own, that reaches nothing but this machine.

mod trail;
mod webdriver;

use std::time::Duration;

use anyhow::{Context, ensure};
use base64::{Engine, prelude::BASE64_STANDARD};
use serde_json::{Value, json};

pub use self::trail::Trail;
use self::webdriver::Session;
use crate::servers::Chromedriver;

/// A page that is served on this machine loads in milliseconds.
const LOAD_MAX: Duration = Duration::from_secs(20);
/// A script may wait for something.
const SCRIPT_MAX: Duration = Duration::from_secs(30);
/// How often a script looks whether what it waits for is there, in milliseconds.
const LOOK_MS: u64 = 15;

const ARGUMENTS: [&str; 12] = [
    "--headless=new",
    // Root may not use the sandbox.
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-default-apps",
    // The browser ends with its driver, however that ends.
    "--remote-debugging-pipe",
    // No name but this machine's has an address, and no other address is reached.
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE localhost, EXCLUDE 127.0.0.1",
];

/// A browser.
pub struct Browser {
    session: Session,
}

/// One of its tabs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tab(String);

impl Browser {
    /// Starts a browser by the driver that all tests of this process share.
    ///
    /// # Errors
    /// When there is none, or it does not start.
    pub async fn start() -> anyhow::Result<Self> {
        Self::start_by(Chromedriver::shared().await?).await
    }

    /// Starts a browser that ends with this driver.
    ///
    /// # Errors
    /// When it does not start.
    pub async fn start_by(driver: &Chromedriver) -> anyhow::Result<Self> {
        let capabilities = json!({
            "browserName": "chrome",
            "unhandledPromptBehavior": "dismiss",
            "timeouts": {
                "implicit": 0,
                "pageLoad": millis(LOAD_MAX),
                "script": millis(SCRIPT_MAX),
            },
            "goog:loggingPrefs": { "browser": "ALL", "performance": "ALL" },
            "goog:chromeOptions": {
                "binary": driver.chromium(),
                "args": ARGUMENTS,
                "perfLoggingPrefs": { "enableNetwork": true, "enablePage": false },
            },
        });
        let session = Session::open(driver.address(), &capabilities)
            .await
            .context("start a browser")?;
        Ok(Self { session })
    }

    /// The id of its main process.
    ///
    /// # Errors
    /// When its driver did not say it.
    pub fn process_id(&self) -> anyhow::Result<u64> {
        self.session
            .process_id()
            .context("the driver does not say which process it started")
    }

    /// Opens a page in the current tab, and waits until it has loaded.
    ///
    /// # Errors
    /// When it does not load.
    pub async fn open(&self, url: &str) -> anyhow::Result<()> {
        self.command("/url", json!({ "url": url })).await
    }

    /// Loads the page again, as F5 does, and waits until it has loaded.
    ///
    /// # Errors
    /// When it does not load.
    pub async fn reload(&self) -> anyhow::Result<()> {
        self.command("/refresh", json!({})).await
    }

    /// Runs the body of a function in the page, with arguments in `arguments`. Returns what it returns; a promise is
    /// waited for.
    ///
    /// # Errors
    /// When it throws, or takes too long.
    pub async fn run(&self, body: &str, arguments: Value) -> anyhow::Result<Value> {
        let arguments = match arguments {
            Value::Array(all) => all,
            one => vec![one],
        };
        let script = json!({ "script": body, "args": arguments });
        self.session.post("/execute/sync", script).await
    }

    /// Waits until an expression is true in the page, and returns its value.
    ///
    /// # Errors
    /// When it is not `within` that time; the message has the page's text.
    pub async fn until(&self, condition: &str, within: Duration) -> anyhow::Result<Value> {
        let wait = format!(
            "const end = performance.now() + {};
             const look = async () => {{
                 for (;;) {{
                     const value = ({condition});
                     if (value || performance.now() > end) return value;
                     await new Promise((resume) => setTimeout(resume, {LOOK_MS}));
                 }}
             }};
             return look().then((value) => value || null);",
            millis(within),
        );
        let value = self.run(&wait, json!([])).await?;
        if value.is_null() {
            let page = self.text("body").await?;
            anyhow::bail!("waited {within:?} for {condition}; the page says: {page}");
        }
        Ok(value)
    }

    /// Waits until an element has a text, and returns all of its text.
    ///
    /// # Errors
    /// As [`Browser::until`].
    pub async fn reads(
        &self,
        selector: &str,
        text: &str,
        within: Duration,
    ) -> anyhow::Result<String> {
        let (selector, text) = (json!(selector), json!(text));
        let condition = format!(
            "[document.querySelector({selector})?.textContent].find((it) => it?.includes({text}))"
        );
        let found = self.until(&condition, within).await?;
        Ok(found.as_str().unwrap_or_default().to_owned())
    }

    /// The text of an element, as a person reads it.
    ///
    /// # Errors
    /// When there is no such element.
    pub async fn text(&self, selector: &str) -> anyhow::Result<String> {
        let read = "return document.querySelector(arguments[0]).innerText";
        let text = self.run(read, json!([selector])).await?;
        Ok(text.as_str().unwrap_or_default().to_owned())
    }

    /// Clicks on an element as a mouse does. One that is covered or not there cannot be clicked.
    ///
    /// # Errors
    /// When it cannot be clicked.
    pub async fn click(&self, selector: &str) -> anyhow::Result<()> {
        let wanted = json!({ "using": "css selector", "value": selector });
        let element = self.session.post("/element", wanted).await?;
        let id = element.as_object().and_then(|it| it.values().next());
        let id = id.and_then(Value::as_str).context("an element has an id")?;
        self.command(&format!("/element/{id}/click"), json!({}))
            .await
    }

    /// The current tab.
    ///
    /// # Errors
    /// When it was closed.
    pub async fn tab(&self) -> anyhow::Result<Tab> {
        handle(&self.session.get("/window").await?)
    }

    /// Opens an empty tab before all others, and makes it the current one.
    ///
    /// # Errors
    /// When the browser refuses.
    pub async fn new_tab(&self) -> anyhow::Result<Tab> {
        self.make("tab").await
    }

    /// Opens a window with an empty tab beside all others, and makes it the current one.
    ///
    /// # Errors
    /// When the browser refuses.
    pub async fn new_window(&self) -> anyhow::Result<Tab> {
        self.make("window").await
    }

    async fn make(&self, kind: &str) -> anyhow::Result<Tab> {
        let made = self.session.post("/window/new", json!({ "type": kind }));
        let tab = handle(&made.await?["handle"])?;
        self.look_into(&tab).await?;
        self.to_front().await?;
        Ok(tab)
    }

    /// Makes a tab the current one, for all that follows, without bringing it to the front.
    ///
    /// # Errors
    /// When it was closed.
    pub async fn look_into(&self, tab: &Tab) -> anyhow::Result<()> {
        self.command("/window", json!({ "handle": tab.0 })).await
    }

    /// Brings the current tab to the front, which hides the one that was there.
    ///
    /// # Errors
    /// When the browser refuses.
    pub async fn to_front(&self) -> anyhow::Result<()> {
        self.tool("Page.bringToFront", json!({})).await.map(drop)
    }

    /// Minimizes the window of the current tab, which hides its page.
    ///
    /// # Errors
    /// When the browser refuses.
    pub async fn minimize(&self) -> anyhow::Result<()> {
        self.session
            .post("/window/minimize", json!({}))
            .await
            .map(drop)
    }

    /// Brings a minimized window back.
    ///
    /// # Errors
    /// When the browser refuses.
    pub async fn restore(&self) -> anyhow::Result<()> {
        let size = json!({ "width": 900, "height": 700 });
        self.session.post("/window/rect", size).await.map(drop)
    }

    /// Sends a command of the Chrome `DevTools` Protocol to the current tab.
    ///
    /// # Errors
    /// When the browser refuses.
    pub async fn tool(&self, command: &str, parameters: Value) -> anyhow::Result<Value> {
        let command = json!({ "cmd": command, "params": parameters });
        self.session.post("/goog/cdp/execute", command).await
    }

    /// Gives the page of the current tab a width, and light or dark colours.
    ///
    /// # Errors
    /// When the browser refuses.
    pub async fn dress(&self, width: u32, is_dark: bool) -> anyhow::Result<()> {
        let metrics = json!({
            "width": width, "height": 900, "deviceScaleFactor": 1, "mobile": false,
        });
        self.tool("Emulation.setDeviceMetricsOverride", metrics)
            .await?;
        let scheme = if is_dark { "dark" } else { "light" };
        let features = json!([{ "name": "prefers-color-scheme", "value": scheme }]);
        let media = json!({ "features": features });
        self.tool("Emulation.setEmulatedMedia", media)
            .await
            .map(drop)
    }

    /// A picture of the current tab, as PNG.
    ///
    /// # Errors
    /// When the browser refuses.
    pub async fn screenshot(&self) -> anyhow::Result<Vec<u8>> {
        let picture = self.session.get("/screenshot").await?;
        let picture = picture.as_str().context("a picture is text")?;
        Ok(BASE64_STANDARD.decode(picture)?)
    }

    /// What the browser has left behind since it was asked last, in all tabs.
    ///
    /// # Errors
    /// When the browser is gone.
    pub async fn trail(&self) -> anyhow::Result<Trail> {
        let log = async |kind: &str| self.session.post("/se/log", json!({ "type": kind })).await;
        Ok(Trail::read(
            &log("browser").await?,
            &log("performance").await?,
        ))
    }

    /// Ends the browser.
    ///
    /// # Errors
    /// When it is gone.
    pub async fn close(self) -> anyhow::Result<()> {
        self.session.close().await
    }

    async fn command(&self, path: &str, body: Value) -> anyhow::Result<()> {
        let answer = self.session.post(path, body).await?;
        ensure!(answer.is_null(), "{path}: {answer}");
        Ok(())
    }
}

fn handle(value: &Value) -> anyhow::Result<Tab> {
    let handle = value.as_str().context("a tab has a handle")?;
    Ok(Tab(handle.to_owned()))
}

fn millis(duration: Duration) -> u64 {
    duration.as_millis().try_into().unwrap_or(u64::MAX)
}
