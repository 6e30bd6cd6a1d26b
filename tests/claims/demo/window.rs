//! Claims about the shop window, without a browser: what it serves, to whom, and that what it shows is so.

use std::{
    collections::BTreeSet,
    fs,
    io::{BufRead, BufReader},
    os::unix::fs::PermissionsExt,
    path::Path,
    time::Duration,
};

use anyhow::{Context, ensure};
use hotrow_tests::{
    Client, Place, Process, Settings, Window,
    client::{Answer, Product},
    law::Verdict,
    processes::{self, ADMIN_TOKEN},
    wait,
    window::Shop,
};
use reqwest::Method;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::{A_WHILE, Said, children, demo, interrupt, nothing_is_left};

/// What all files together may have, compressed, in bytes.
const COMPRESSED_MAX: usize = 150_000;
/// Names of things, at which nobody asks for anything: the namespace of SVG, and where a library comes from.
const NAMES: [&str; 2] = [
    "http://www.w3.org/2000/svg",
    "https://github.com/leeoniya/uPlot",
];
const AUTH_SECRET: &str = "a-secret-for-tokens-of-a-window-of-more-than-32-bytes";
const SKU: &str = "lamp-9";
const STAMPEDE_WITHIN: Duration = Duration::from_mins(1);

#[tokio::test]
async fn every_file_of_the_shop_window_has_a_tag_and_a_policy_and_all_are_small()
-> anyhow::Result<()> {
    let window = Window::open().await?;
    let client = client(&window)?;
    let mut compressed = 0;
    let files = files()?;
    ensure!(files.len() > 8, "{files:?}");
    for file in files {
        let get = async |headers: &[(&str, &str)]| {
            let path = format!("/{file}");
            client.send(Method::GET, &path, headers, None).await
        };
        let plain = get(&[]).await?.expect(200)?;
        let gzip = get(&[("accept-encoding", "br, gzip")]).await?.expect(200)?;
        assert_eq!(gzip.header("content-encoding"), Some("gzip"), "{file}");
        ensure!(
            gzip.body.starts_with(&[0x1f, 0x8b]),
            "{file} is not compressed"
        );
        compressed += gzip.body.len();
        for answer in [&plain, &gzip] {
            let tag = answer.header("etag").context("no tag")?;
            let coding = if answer.header("content-encoding").is_some() {
                "gzip"
            } else {
                "identity"
            };
            let known = [("if-none-match", tag), ("accept-encoding", coding)];
            let again = get(&known).await?.expect(304)?;
            assert_eq!(
                (again.header("etag"), again.body.len()),
                (Some(tag), 0),
                "{file}"
            );
            let other = [("if-none-match", "\"other\""), ("accept-encoding", coding)];
            get(&other).await?.expect(200)?;
            is_guarded(answer).with_context(|| file.clone())?;
            is_guarded(&again).with_context(|| file.clone())?;
        }
        assert_ne!(
            plain.header("etag"),
            gzip.header("etag"),
            "{file}: two forms, two tags"
        );
        asks_nobody_else(&file, std::str::from_utf8(&plain.body)?)?;
    }
    ensure!(
        compressed <= COMPRESSED_MAX,
        "{compressed} bytes compressed"
    );
    Ok(())
}

/// Every file by its path.
fn files() -> anyhow::Result<BTreeSet<String>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("window");
    let mut files = BTreeSet::from([String::new(), "hotrow.js".to_owned()]);
    let mut folders = vec![root.clone()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder)? {
            let path = entry?.path();
            if path.is_dir() {
                folders.push(path);
            } else {
                files.insert(path.strip_prefix(&root)?.display().to_string());
            }
        }
    }
    Ok(files)
}

fn is_guarded(answer: &Answer) -> anyhow::Result<()> {
    let policy = answer
        .header("content-security-policy")
        .context("no policy")?;
    ensure!(policy.starts_with("default-src 'none'; "), "{policy}");
    ensure!(
        !policy.contains("unsafe") && !policy.contains('*'),
        "{policy}"
    );
    ensure!(
        answer.header("x-content-type-options") == Some("nosniff"),
        "sniffs"
    );
    ensure!(
        answer.header("cache-control").is_some(),
        "no word on caching"
    );
    Ok(())
}

/// Checks that no address of somebody else is in a file, but for names and the text of licences.
fn asks_nobody_else(file: &str, text: &str) -> anyhow::Result<()> {
    if file.contains("LICENSE") {
        return Ok(());
    }
    let text = NAMES
        .iter()
        .fold(text.to_owned(), |text, name| text.replace(name, ""));
    for sign in [
        "http://", "https://", "ws://", "wss://", "\"//", "'//", "(//", "`//",
    ] {
        let found = text
            .find(sign)
            .map(|at| text[at..].chars().take(60).collect::<String>());
        ensure!(
            found.as_deref().is_none_or(is_made_up),
            "{file} names a foreign origin: {found:?}"
        );
    }
    Ok(())
}

/// Examples in comments end in a name that nobody can have. (RFC 2606.)
fn is_made_up(address: &str) -> bool {
    let host = address.split("//").nth(1).unwrap_or_default();
    let end = host.find(|letter: char| !letter.is_ascii_alphanumeric() && !".-".contains(letter));
    host[..end.unwrap_or(host.len())].ends_with(".example")
}

#[tokio::test]
async fn the_shop_window_answers_to_its_own_name_and_its_own_page_only() -> anyhow::Result<()> {
    let window = Window::open().await?;
    let origin = window.origin();
    let client = client(&window)?;
    ensure!(client.address().ip().is_loopback(), "{origin}");
    let port = client.address().port();
    for host in [
        "evil.example",
        &format!("evil.example:{port}"),
        &format!("localhost:{port}"),
    ] {
        let answer = client
            .send(Method::GET, "/", &[("host", host)], None)
            .await?;
        assert_eq!(answer.status, 421, "{host}");
    }
    let ask = async |headers: &[(&str, &str)], body: Value| {
        client
            .send(Method::POST, "/demo/token", headers, Some(body))
            .await
    };
    let visit = || json!({ "visitor": null });
    let origins = [
        "null",
        "http://evil.example",
        &format!("http://localhost:{port}"),
    ];
    for other in origins
        .map(|other| vec![("origin", other)])
        .into_iter()
        .chain([Vec::new()])
    {
        assert_eq!(ask(&other, visit()).await?.status, 403, "{other:?}");
    }
    let own = [("origin", origin.as_str())];
    let early = ask(&own, visit()).await?.expect(503)?;
    assert_eq!(early.header("retry-after"), Some("1"), "nothing runs yet");
    let large = json!({ "visitor": "x".repeat(5_000) });
    ask(&own, large).await?.expect(413)?;
    for path in [
        "/%2e%2e/Cargo.toml",
        "//window",
        "/window/index.html",
        "/index",
    ] {
        assert_eq!(client.get(path).await?.status, 404, "{path}");
    }
    Ok(())
}

#[tokio::test]
async fn a_visitor_buys_pays_and_sees_each_state_that_the_operator_makes() -> anyhow::Result<()> {
    let open = Open::new().await?;
    let admitted = open
        .post("token", json!({ "visitor": null }))
        .await?
        .expect(200)?
        .json()?;
    let again = open
        .post("token", json!({ "visitor": admitted["visitor"] }))
        .await?;
    assert_eq!(again.expect(200)?.json()?["visitor"], admitted["visitor"]);
    open.post("token", json!({ "visitor": "c-1" }))
        .await?
        .expect(422)?;

    let order = open.buy(&admitted, 2).await?.expect(202)?.order_id()?;
    let order = open.settled(&admitted, order).await?;
    assert_eq!(order["status"], "reserved", "{order}");
    let payment = |amount: &Value| json!({ "order_id": order["order_id"], "amount_minor": amount, "currency": order["currency"] });
    open.post("pay", payment(&json!(1))).await?.expect(409)?;
    for _ in 0..2 {
        let paid = open
            .post("pay", payment(&order["total_minor"]))
            .await?
            .expect(200)?
            .json()?;
        assert_eq!(paid["status"], "confirmed", "{paid}");
    }
    let more = open.buy(&admitted, 1).await?.expect(202)?.order_id()?;
    assert_eq!(
        open.settled(&admitted, more).await?["reason"],
        "limit_reached"
    );
    assert_eq!(
        open.buy(&admitted, 3).await?.code().as_deref(),
        Some("limit_reached")
    );

    for (action, state) in [
        ("pause", "paused"),
        ("open", "open"),
        ("open_soon", "not_open"),
        ("close", "closed"),
        ("open", "open"),
        ("stop_all", "paused"),
        ("go_on", "open"),
        ("hold_all", "all_held"),
        ("restock", "open"),
        ("empty", "all_held"),
    ] {
        let answer = open.post("operator", json!({ "action": action })).await?;
        answer.expect(200).with_context(|| action)?;
        let shown = async || open.door().inventory(SKU).await.ok()?.json().ok();
        let what = format!("{state} after {action}");
        wait::until(&what, A_WHILE, async || {
            (shown().await?["state"] == state).then_some(())
        })
        .await?;
    }
    open.post("operator", json!({ "action": "burn" }))
        .await?
        .expect(422)?;
    Ok(())
}

#[tokio::test]
async fn the_last_numbers_of_a_stampede_are_those_of_the_database() -> anyhow::Result<()> {
    let open = Open::new().await?;
    for buyers in [0, 99, 5_001] {
        open.post("stampede", json!({ "buyers": buyers }))
            .await?
            .expect(422)?;
    }
    // What was counted before is no part of it.
    let admitted = open
        .post("token", json!({ "visitor": null }))
        .await?
        .json()?;
    let before = open.buy(&admitted, 1).await?.order_id()?;
    open.settled(&admitted, before).await?;

    open.post("stampede", json!({ "buyers": 200 }))
        .await?
        .expect(202)?;
    open.post("stampede", json!({ "buyers": 200 }))
        .await?
        .expect(409)?;
    let over = wait::until("the stampede to be over", STAMPEDE_WITHIN, async || {
        let shown = open.window.get("/demo/stampede").await.ok()?.json().ok()?;
        (shown["phase"] != "running").then_some(shown)
    });
    let over = over.await?;
    assert_eq!(over["phase"], "over", "{over}");
    let end = &over["end"];
    assert_eq!(end["is_right"], true, "{over}");

    let mut database = open.place.database().await?;
    let outcomes: Vec<(String, Option<String>, i64)> = sqlx::query_as(
        "select status, reason, count(*) from orders
         where alias_of is null and items::text like '%stampede-1%' group by status, reason",
    )
    .fetch_all(&mut database)
    .await?;
    let of = |wanted: &str| -> i64 {
        let is_it = |(status, reason, _): &&(String, Option<String>, i64)| {
            status == wanted || reason.as_deref() == Some(wanted)
        };
        outcomes
            .iter()
            .filter(is_it)
            .map(|(_, _, count)| count)
            .sum()
    };
    let row_writes: i64 = sqlx::query_scalar(
        "select count(*) from inventory_ledger where sku = 'stampede-1' and kind = 'settlement'",
    )
    .fetch_one(&mut database)
    .await?;
    let expected = [
        ("settled", outcomes.iter().map(|(_, _, count)| count).sum()),
        ("confirmed", of("confirmed")),
        ("limit_reached", of("limit_reached")),
        ("sold_out", of("sold_out")),
        ("row_writes", row_writes),
        ("sold_and_left", 300),
    ];
    let compared = end["compared"].as_array().context("nothing is compared")?;
    assert_eq!(compared.len(), expected.len(), "{over}");
    for (name, count) in expected {
        let row = compared.iter().find(|row| row["name"] == name);
        let row = row.with_context(|| format!("no {name} in {over}"))?;
        assert_eq!(
            (&row["counted"], &row["database"]),
            (&json!(count), &json!(count)),
            "{name}"
        );
    }
    assert!(
        of("confirmed") > 0 && of("limit_reached") > 0,
        "{outcomes:?}"
    );
    let available: i64 =
        sqlx::query_scalar("select available from inventory where sku = 'stampede-1'")
            .fetch_one(&mut database)
            .await?;
    let last = over["points"]
        .as_array()
        .and_then(|points| points.last())
        .context("no points")?;
    assert_eq!(
        (&last["left"], &last["queued"]),
        (&json!(available), &json!(0)),
        "{over}"
    );
    assert_eq!(end["sold"]["left"], available);
    assert_eq!(end["sold"]["pieces"], 300 - available);
    assert_eq!(end["sold"]["most_per_customer"], 2, "{over}");
    assert!(Verdict::read(&mut database, &[]).await?.holds());
    Ok(())
}

#[tokio::test]
async fn ctrl_c_ends_the_shop_window_with_0_and_leaves_no_process() -> anyhow::Result<()> {
    let parent = TempDir::new()?;
    // As root, PostgreSQL runs as another user, who has to reach its folder in there.
    fs::set_permissions(parent.path(), fs::Permissions::from_mode(0o755))?;
    let mut demo = demo(&["--stay"])
        .env("TMPDIR", parent.path())
        .env_remove("DATABASE_URL")
        .env_remove("AMQP_URL")
        .spawn()?;
    let mut output = BufReader::new(demo.stdout.take().context("no standard output")?);
    let said = Said::by(&mut demo, |line| line.contains("until Ctrl-C"))?;
    let result = async {
        let mut first = String::new();
        output.read_line(&mut first)?;
        let address = first.trim().strip_prefix("The shop window: http://");
        let address = address
            .and_then(|rest| rest.strip_suffix('/'))
            .context(first.clone())?;
        // The page is there before anything else is.
        let window = Client::new(address.parse()?)?;
        window.get("/").await?.expect(200)?;
        said.until_then.await.context("it ended too early")?;
        window.get("/demo/shop").await?.expect(200)?;
        anyhow::Ok(children(&demo)?)
    };
    let result = result.await;
    let status = interrupt(&mut demo)?;
    let children = result?;
    assert_eq!(status, Some(0));
    ensure!(children.len() >= 6, "two servers and four processes");
    nothing_is_left(parent.path(), &children).await
}

fn client(window: &Window) -> anyhow::Result<Client> {
    let origin = window.origin();
    let address = origin.strip_prefix("http://").context("no http")?;
    Client::new(address.parse()?)
}

/// A window with something to sell.
struct Open {
    window: Client,
    origin: String,
    // Before the servers that they need: fields are dropped in this order.
    _page: Window,
    doors: Vec<Process>,
    _workers: Vec<Process>,
    place: Place,
}

impl Open {
    async fn new() -> anyhow::Result<Self> {
        let page = Window::open().await?;
        let place = Place::new().await?;
        processes::migrate(&place).await?;
        let door = Settings::ingest(&place)
            .unlimited()
            .set("AUTH_SECRET", AUTH_SECRET)
            .set("CORS_ORIGINS", page.origin());
        let worker = Settings::worker(&place);
        let (d1, d2, w1, w2) =
            tokio::try_join!(door.start(), door.start(), worker.start(), worker.start())?;
        let (doors, workers) = (vec![d1, d2], vec![w1, w2]);
        let administrator = doors[0].client()?;
        let lamps = Product::chairs(10);
        administrator
            .put_inventory(SKU, lamps)
            .await?
            .expect_success()?;
        let rules = json!({ "hold_seconds": 60, "max_per_order": 2, "max_per_customer": 2 });
        let change = json!({ "sale": rules });
        administrator
            .patch_inventory(SKU, change)
            .await?
            .expect_success()?;
        let metrics = |processes: &[Process]| -> anyhow::Result<Vec<_>> {
            processes.iter().map(Process::metrics_url).collect()
        };
        page.sell(Shop {
            doors: doors
                .iter()
                .map(Process::address)
                .collect::<anyhow::Result<_>>()?,
            door_metrics: metrics(&doors)?,
            worker_metrics: metrics(&workers)?,
            database_url: place.database_url.clone(),
            admin_token: ADMIN_TOKEN.to_owned(),
            auth_secret: AUTH_SECRET.to_owned(),
            sku: SKU.to_owned(),
        })?;
        Ok(Self {
            window: client(&page)?,
            origin: page.origin(),
            _page: page,
            doors,
            _workers: workers,
            place,
        })
    }

    fn door(&self) -> Client {
        self.doors[0].client().expect("it is ready")
    }

    /// Posts as the page does.
    async fn post(&self, what: &str, body: Value) -> anyhow::Result<Answer> {
        let path = format!("/demo/{what}");
        let headers = [("origin", self.origin.as_str())];
        self.window
            .send(Method::POST, &path, &headers, Some(body))
            .await
    }

    /// Buys as the visitor, from the page's origin, which the answer lets read it.
    async fn buy(&self, admitted: &Value, quantity: u32) -> anyhow::Result<Answer> {
        let bearer = bearer(admitted);
        let headers = [("authorization", bearer.as_str()), ("origin", &self.origin)];
        let body = json!({ "items": [{ "sku": SKU, "quantity": quantity }] });
        let door = Client::new(self.doors[0].address()?)?;
        let answer = door
            .send(Method::POST, "/v1/orders", &headers, Some(body))
            .await?;
        let allowed = answer.header("access-control-allow-origin");
        ensure!(allowed == Some(&self.origin), "{answer:?}");
        Ok(answer)
    }

    async fn settled(&self, admitted: &Value, id: uuid::Uuid) -> anyhow::Result<Value> {
        let bearer = bearer(admitted);
        let headers = [("authorization", bearer.as_str())];
        let door = Client::new(self.doors[0].address()?)?;
        let path = format!("/v1/orders/{id}?wait=20");
        door.send(Method::GET, &path, &headers, None)
            .await?
            .expect(200)?
            .json()
    }
}

fn bearer(admitted: &Value) -> String {
    format!("Bearer {}", admitted["token"].as_str().unwrap_or_default())
}
