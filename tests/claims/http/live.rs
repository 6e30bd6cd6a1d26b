//! Claims about live streams: what a page hears of stock and orders, and what nobody hears.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use chrono::{SecondsFormat, TimeDelta, Utc};
use futures_util::{StreamExt, TryStreamExt, stream};
use hotrow_tests::{Client, Place, Process, Stream, client::Answer, stream::Heard, wait};
use lapin::options::ExchangeDeleteOptions;
use reqwest::Method;
use serde_json::{Value, json};

use super::{
    CHAIR, SOON, assert_accepted, assert_refused, changes, hold_chairs, ingest,
    issuer::{Issuer, SECRET},
    patch_chairs, place, put_up, send, settled, worker,
};

/// Longer than a stream may be silent.
const SILENCE: Duration = Duration::from_secs(15);

async fn listen(ingest: &Process, query: &str) -> anyhow::Result<Stream> {
    Stream::open(ingest.address()?, query, None).await
}

/// What the stream says of a product.
fn stock(version: &Value, available: i64, held: i64, state: &str) -> (String, Value) {
    let data = json!({
        "sku": CHAIR, "available": available, "held": held, "state": state, "version": version,
    });
    ("stock".to_owned(), data)
}

#[tokio::test]
async fn a_stream_begins_with_everything_asked_for_and_tells_each_change() -> anyhow::Result<()> {
    let place = place().await?;
    let (ingest, _worker) = tokio::try_join!(async { ingest(&place).start().await }, async {
        worker(&place).start().await
    })?;
    put_up(&ingest, CHAIR, 5).await?;
    put_up(&ingest, "table", 1).await?;
    let client = ingest.client()?;
    hold_chairs(&client, 600).await?;

    let mut page = listen(&ingest, &format!("skus={CHAIR},table,{CHAIR}")).await?;
    let header = |name| page.headers().get(name).and_then(|it| it.to_str().ok());
    assert_eq!(header("cache-control"), Some("no-store"));
    assert_eq!(header("x-accel-buffering"), Some("no"));
    assert_eq!(header("content-encoding"), None);
    let mut first = HashMap::new();
    for _ in 0..2 {
        let (event, data) = page.state(SOON).await?;
        first.insert(data["sku"].to_string(), (event, data));
    }
    let chairs = &first["\"chair\""];
    assert_eq!(chairs, &stock(&chairs.1["version"], 5, 0, "open"));
    assert_eq!(first["\"table\""].1["available"], 1);

    let order = assert_accepted(&client.order("c-1", &[(CHAIR, 2)]).await?);
    let mut buyer = listen(&ingest, &format!("orders={order}")).await?;
    let reserved = buyer
        .state_where(SOON, |order| order["status"] == "reserved")
        .await?;
    assert_eq!(reserved, client.status(order).await?.json()?);
    let left = page.state_where(SOON, |stock| stock["held"] == 2).await?;
    assert_eq!(
        ("stock".to_owned(), left.clone()),
        stock(&left["version"], 3, 2, "open")
    );
    let polled = client.inventory(CHAIR).await?.json()?;
    assert_eq!(polled["version"], left["version"], "{polled}");

    let cancel = format!("/v1/orders/{order}/cancel");
    client
        .send(Method::POST, &cancel, &[], None)
        .await?
        .expect_success()?;
    let cancelled = buyer.state(SOON).await?;
    assert_eq!(cancelled.0, "order");
    assert_eq!(cancelled.1["status"], "cancelled");
    assert_eq!(cancelled.1["revision"], 2);
    page.state_where(SOON, |stock| stock["available"] == 5)
        .await?;
    Ok(())
}

#[tokio::test]
async fn an_order_that_waits_is_told_as_queued_and_then_as_it_is_settled() -> anyhow::Result<()> {
    let place = place().await?;
    let ingest = ingest(&place).start().await?;
    put_up(&ingest, CHAIR, 5).await?;
    let client = ingest.client()?;
    let order = assert_accepted(&client.order("c-1", &[(CHAIR, 1)]).await?);
    let mut pages = Vec::new();
    for _ in 0..3 {
        let mut page = listen(&ingest, &format!("orders={order}&skus={CHAIR}")).await?;
        let mut first = [page.state(SOON).await?, page.state(SOON).await?];
        first.sort_by(|a, b| a.0.cmp(&b.0));
        let [(event, queued), (_, stock)] = first;
        assert_eq!((&*event, &queued["status"]), ("order", &json!("queued")));
        assert_eq!(queued["order_id"], json!(order));
        assert!(queued["estimated_wait_ms"].is_u64(), "{queued}");
        assert_eq!(stock["available"], 5);
        pages.push(page);
    }
    let _worker = worker(&place).start().await?;
    for page in &mut pages {
        let confirmed = page
            .state_where(SOON, |state| state["status"] == "confirmed")
            .await?;
        assert_eq!(confirmed["revision"], 1);
    }
    // What the page knows already is told once.
    let told = ingest.metrics().await?;
    let told = told.count("hotrow_live_states_total", &[("of", "order")]);
    assert_eq!(told, 1, "for three pages");
    Ok(())
}

#[tokio::test]
async fn a_sale_that_opens_by_the_clock_or_stops_by_the_switch_is_told_without_a_write()
-> anyhow::Result<()> {
    let place = place().await?;
    let (here, there) = tokio::try_join!(async { ingest(&place).start().await }, async {
        ingest(&place).start().await
    })?;
    put_up(&here, CHAIR, 5).await?;
    let client = here.client()?;
    let mut page = listen(&there, &format!("skus={CHAIR}")).await?;
    let opens_at = Utc::now() + TimeDelta::seconds(5);
    let opens_at = opens_at.to_rfc3339_opts(SecondsFormat::Millis, true);
    let rules = json!({ "sale": { "opens_at": opens_at } });
    patch_chairs(&client, rules).await?.expect(200)?;
    let is = |state: &'static str| move |stock: &Value| stock["state"] == state;
    let closed = page.state_where(SOON, is("not_open")).await?;
    let open = page.state_where(SOON, is("open")).await?;
    assert_eq!(closed["version"], open["version"], "nothing was written");
    let turn = async |paused: bool| {
        let body = Some(json!({ "paused": paused }));
        client
            .send(Method::PUT, "/v1/sale", &[], body)
            .await?
            .expect(200)
    };
    turn(true).await?;
    page.state_where(SOON, is("paused")).await?;
    turn(false).await?;
    page.state_where(SOON, is("open")).await?;
    Ok(())
}

#[tokio::test]
async fn what_news_has_lost_is_told_by_a_look() -> anyhow::Result<()> {
    let place = place().await?;
    let ingest = ingest(&place).start().await?;
    put_up(&ingest, CHAIR, 5).await?;
    // No worker runs here: who writes by hand tells no news.
    let mut database = place.database().await?;
    let order = changes::settle(&mut database, "reserved", None).await?;
    let query = format!("orders={order}&skus={CHAIR}");
    let mut page = listen(&ingest, &query).await?;
    page.state_where(SOON, |state| state["status"] == "reserved")
        .await?;
    changes::change(&mut database, order, 2, "cancelled", None).await?;
    let set = "update inventory set available = 3, version = version + 1 where sku = 'chair'";
    sqlx::query(set).execute(&mut database).await?;
    let (mut is_cancelled, mut is_fewer) = (false, false);
    while !(is_cancelled && is_fewer) {
        let (_, state) = page.state(SOON).await?;
        is_cancelled |= state["status"] == "cancelled";
        is_fewer |= state["available"] == 3;
    }
    Ok(())
}

#[tokio::test]
async fn a_hot_product_is_told_at_most_four_times_a_second() -> anyhow::Result<()> {
    const LISTENED: Duration = Duration::from_secs(4);
    let place = place().await?;
    let (ingest, _worker) = tokio::try_join!(async { ingest(&place).start().await }, async {
        worker(&place).start().await
    })?;
    put_up(&ingest, CHAIR, 1_000_000).await?;
    let client = ingest.client()?;
    let query = format!("skus={CHAIR}");
    let mut page = listen(&ingest, &query).await?;
    let began = Instant::now();
    // Whoever comes later begins with the last state, and the others are told no more often for it.
    let come = async {
        let mut pages = Vec::new();
        while began.elapsed() < LISTENED {
            pages.push(listen(&ingest, &query).await?);
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        anyhow::Ok(pages)
    };
    let buy = async {
        while began.elapsed() < LISTENED {
            let orders = (0..20).map(|_| client.order("c-1", &[(CHAIR, 1)]));
            let orders: Vec<_> = stream::iter(orders)
                .buffer_unordered(20)
                .try_collect()
                .await?;
            for order in &orders {
                assert_accepted(order);
            }
        }
        anyhow::Ok(())
    };
    let hear = async {
        let mut versions = Vec::new();
        while began.elapsed() < LISTENED {
            versions.push(page.state(SOON).await?.1["version"].as_i64());
        }
        anyhow::Ok(versions)
    };
    let ((), _, versions) = tokio::try_join!(buy, come, hear)?;
    assert!(versions.is_sorted() && versions.len() > 4, "{versions:?}");
    let most = 4.0 * began.elapsed().as_secs_f64();
    #[expect(clippy::cast_precision_loss, reason = "a few dozen")]
    let told = versions.len() as f64;
    assert!(told <= most, "{told} in {:?}", began.elapsed());
    Ok(())
}

/// What a page asks for that it does not get.
async fn refused(
    ingest: &Process,
    query: &str,
    token: Option<&str>,
    status: u16,
    code: &str,
) -> anyhow::Result<Answer> {
    let path = format!("/v1/live?{query}");
    let bearer = token.map(|token| format!("Bearer {token}"));
    let headers: Vec<_> = bearer
        .iter()
        .map(|bearer| ("authorization", bearer.as_bytes()))
        .collect();
    let answer = send(ingest, Method::GET, &path, &headers, "").await?;
    assert_refused(&answer, status, code);
    Ok(answer)
}

#[tokio::test]
async fn a_stream_that_cannot_be_is_refused_clearly() -> anyhow::Result<()> {
    let place = place().await?;
    let ingest = ingest(&place).set("LIVE_STREAMS_MAX", "1").start().await?;
    put_up(&ingest, CHAIR, 5).await?;
    let many = |count: usize| {
        let names: Vec<_> = (0..count).map(|number| format!("sku-{number}")).collect();
        names.join(",")
    };
    for (query, status, code) in [
        (String::new(), 422, "invalid"),
        ("orders=&skus=".to_owned(), 422, "invalid"),
        (format!("skus={}", many(21)), 422, "invalid"),
        (format!("orders={}", many(21)), 422, "invalid"),
        (format!("skus={}", many(20)), 404, "not_found"),
        (format!("skus={CHAIR},nothing"), 404, "not_found"),
        ("skus=what%20is%20this".to_owned(), 422, "invalid"),
        ("orders=made-up".to_owned(), 404, "not_found"),
        (
            "orders=0190f3a0-0000-7000-8000-000000000000".to_owned(),
            404,
            "not_found",
        ),
        (format!("sku={CHAIR}"), 400, "malformed"),
        (format!("skus={CHAIR}&skus={CHAIR}"), 400, "malformed"),
    ] {
        refused(&ingest, &query, None, status, code).await?;
    }
    let answer = send(&ingest, Method::POST, "/v1/live?skus=chair", &[], "").await?;
    assert_refused(&answer, 405, "method_not_allowed");
    let head = send(&ingest, Method::HEAD, "/v1/live?skus=chair", &[], "").await?;
    assert_eq!(head.status, 200);
    // The only place is free.
    wait::until("a stream", SOON, async || {
        listen(&ingest, "skus=chair,chair").await.ok()
    })
    .await?;
    Ok(())
}

#[tokio::test]
async fn nobody_listens_to_orders_of_others() -> anyhow::Result<()> {
    let place = place().await?;
    let ingest = ingest(&place).set("AUTH_SECRET", SECRET).start().await?;
    put_up(&ingest, CHAIR, 5).await?;
    let issuer = Issuer::secret(SECRET.as_bytes());
    let token = |name: &str, role: &str| issuer.token(name, role);
    let (own, other) = (token("c-1", "customer"), token("c-2", "customer"));
    let owner = Client::new(ingest.address()?)?.admin(own.clone());
    let order = assert_accepted(&owner.order("c-1", &[(CHAIR, 1)]).await?);
    let query = format!("orders={order}");
    let open = async |token: &str| Stream::open(ingest.address()?, &query, Some(token)).await;

    // What waits shows nothing of its customer; what is settled ends the stream of anybody else.
    let mut strangers = open(&other).await?;
    assert_eq!(strangers.state(SOON).await?.1["status"], "queued");
    let mut owners = open(&own).await?;
    let mut supports = open(&token("s-1", "support")).await?;
    let _worker = worker(&place).start().await?;
    for page in [&mut owners, &mut supports] {
        page.state_where(SOON, |order| order["status"] == "confirmed")
            .await?;
    }
    let mut last = strangers.next(SOON).await?;
    while last == Heard::Comment {
        last = strangers.next(SOON).await?;
    }
    assert!(matches!(last, Heard::Retry(_)), "{last:?}");
    assert_eq!(strangers.next(SOON).await?, Heard::End);

    refused(&ingest, &query, Some(&other), 404, "not_found").await?;
    for query in [&*query, "orders=made-up"] {
        refused(&ingest, query, None, 401, "unauthorized").await?;
    }
    refused(&ingest, &query, Some("nonsense"), 401, "unauthorized").await?;
    refused(&ingest, "skus=chair", Some("nonsense"), 401, "unauthorized").await?;
    let mut products = listen(&ingest, "skus=chair").await?;
    assert_eq!(products.state(SOON).await?.1["available"], 4);
    Ok(())
}

#[tokio::test]
async fn beyond_the_limit_a_stream_is_overload_until_another_ends() -> anyhow::Result<()> {
    let place = place().await?;
    let ingest = ingest(&place).set("LIVE_STREAMS_MAX", "2").start().await?;
    put_up(&ingest, CHAIR, 5).await?;
    let mut first = listen(&ingest, "skus=chair").await?;
    let second = listen(&ingest, "skus=chair").await?;
    first.state(SOON).await?;
    let answer = refused(&ingest, "skus=chair", None, 503, "overloaded").await?;
    assert_eq!(answer.header("retry-after"), Some("10"));
    // Everything else is served as before.
    ingest.client()?.inventory(CHAIR).await?.expect(200)?;
    drop(second);
    wait::until("a free place", SOON, async || {
        listen(&ingest, "skus=chair").await.ok()
    })
    .await?;
    Ok(())
}

/// Opens so many streams at a process, a few at a time.
async fn crowd(ingest: &Process, count: usize) -> anyhow::Result<Vec<Stream>> {
    let streams = (0..count).map(|_| async {
        let mut page = listen(ingest, "skus=chair").await?;
        page.state(SOON).await?;
        anyhow::Ok(page)
    });
    stream::iter(streams)
        .buffer_unordered(64)
        .try_collect()
        .await
}

#[tokio::test]
async fn a_stop_ends_every_stream_within_the_grace_and_spreads_their_return() -> anyhow::Result<()>
{
    const CROWD: usize = 1_000;
    let place = place().await?;
    let mut ingest = ingest(&place).start().await?;
    put_up(&ingest, CHAIR, 5).await?;
    let mut pages = crowd(&ingest, CROWD).await?;
    ingest.terminate()?;
    let status = ingest.ended(SOON).await?;
    assert!(status.success(), "{status} {}", ingest.log_tail());
    let mut returns = Vec::new();
    for page in &mut pages {
        loop {
            match page.next(SOON).await? {
                Heard::Retry(after) => returns.push(after),
                Heard::End => break,
                Heard::Comment | Heard::Event(..) => {}
            }
        }
    }
    assert_eq!(returns.len(), CROWD, "each is told when to come back");
    returns.sort_unstable();
    let (early, late) = (returns[CROWD / 10], returns[CROWD * 9 / 10]);
    assert!(late - early > 2_000, "from {early} to {late} ms");
    Ok(())
}

#[tokio::test]
#[ignore = "takes two minutes: a stream lasts so long"]
async fn a_stream_is_never_silent_for_15_seconds_and_ends_after_one_or_two_minutes()
-> anyhow::Result<()> {
    let place = place().await?;
    let ingest = ingest(&place).start().await?;
    put_up(&ingest, CHAIR, 5).await?;
    let began = Instant::now();
    let pages = crowd(&ingest, 20)
        .await?
        .into_iter()
        .map(|mut page| async move {
            let mut comments = 0;
            loop {
                match page.next(SILENCE).await? {
                    Heard::Comment => comments += 1,
                    Heard::Retry(_) => return anyhow::Ok((comments, began.elapsed())),
                    other => anyhow::bail!("{other:?}"),
                }
            }
        });
    let lasted: Vec<_> = stream::iter(pages)
        .buffer_unordered(20)
        .try_collect()
        .await?;
    for (comments, lasted) in &lasted {
        assert!((60.0..125.0).contains(&lasted.as_secs_f64()), "{lasted:?}");
        assert!(*comments >= 4, "{comments} in {lasted:?}");
    }
    let seconds = |it: &(i32, Duration)| it.1.as_secs();
    let (first, last) = (
        lasted.iter().map(seconds).min(),
        lasted.iter().map(seconds).max(),
    );
    assert!(
        last > first.map(|first| first + 10),
        "{first:?} to {last:?}"
    );
    Ok(())
}

/// What one page has heard, for as long as it listens, at whichever process.
#[derive(Default)]
struct Memory {
    versions: HashMap<String, i64>,
    states: usize,
}

impl Memory {
    /// Takes in a state of one stream. `seen` is what this stream has said before.
    fn take(&mut self, seen: &mut HashMap<String, i64>, event: &str, data: &Value) {
        let (name, number) = match event {
            "stock" => (data["sku"].to_string(), data["version"].as_i64()),
            _ => (data["order_id"].to_string(), data["revision"].as_i64()),
        };
        let number = number.unwrap_or(0);
        let before = seen.insert(name.clone(), number);
        assert!(
            before.is_none_or(|before| before <= number),
            "{data} after {before:?}"
        );
        let newest = self.versions.entry(name).or_default();
        *newest = number.max(*newest);
        self.states += 1;
    }
}

/// Listens at two processes in turns, as a page does whose streams end, until everything is as it should be.
async fn follow(
    settings: &[std::net::SocketAddr],
    query: &str,
    until: impl Fn(&Memory) -> bool,
) -> anyhow::Result<Memory> {
    let mut memory = Memory::default();
    let deadline = Instant::now() + 2 * SOON;
    for address in settings.iter().cycle() {
        anyhow::ensure!(Instant::now() < deadline, "{:?}", memory.versions);
        let Ok(mut page) = Stream::open(*address, query, None).await else {
            // It restarts.
            tokio::time::sleep(Duration::from_millis(50)).await;
            continue;
        };
        let mut seen = HashMap::new();
        while let Ok(Heard::Event(event, data)) = page.next(Duration::from_secs(3)).await {
            memory.take(&mut seen, &event, &data);
            if until(&memory) {
                return Ok(memory);
            }
        }
    }
    anyhow::bail!("no process")
}

#[tokio::test]
async fn no_stream_goes_back_through_a_restart_lost_news_and_two_processes() -> anyhow::Result<()> {
    const ORDERS: usize = 300;
    let place = place().await?;
    let (mut here, there) = tokio::try_join!(async { ingest(&place).start().await }, async {
        ingest(&place).start().await
    })?;
    put_up(&there, CHAIR, 100_000).await?;
    hold_chairs(&there.client()?, 600).await?;
    let client = there.client()?;
    let first = assert_accepted(&client.order("c-1", &[(CHAIR, 1)]).await?);
    let workers = [worker(&place).start().await?, worker(&place).start().await?];
    let settings = ingest(&place).set("LISTEN_ADDR", here.address()?.to_string());
    let addresses = [here.address()?, there.address()?];
    let query = format!("skus={CHAIR}&orders={first}");
    let sell = async {
        for number in 0..ORDERS {
            assert_accepted(&client.order("c-2", &[(CHAIR, 1)]).await?);
            match number {
                60 => lose_news(&place).await?,
                120 => here.kill()?,
                130 => here = settings.start().await?,
                200 => workers[0].kill()?,
                _ => {}
            }
        }
        let cancel = format!("/v1/orders/{first}/cancel");
        client
            .send(Method::POST, &cancel, &[], None)
            .await?
            .expect_success()?;
        anyhow::Ok(())
    };
    let cancelled = |memory: &Memory| {
        let revision = memory.versions.get(&json!(first).to_string());
        revision.is_some_and(|revision| *revision >= 2)
    };
    let pages = (0..8).map(|_| follow(&addresses, &query, cancelled));
    let pages = stream::iter(pages)
        .buffer_unordered(8)
        .try_collect::<Vec<_>>();
    let ((), memories) = tokio::try_join!(sell, pages)?;
    // On a slow machine a page may come late, and its stream begins with the last states.
    for memory in &memories {
        assert!(memory.states > 2, "{}", memory.states);
    }
    // The other process may have heard of it a moment before.
    wait::until("a poll to show it, too", SOON, async || {
        let order = settled(&client, first).await.ok()?;
        (order["status"] == "cancelled").then_some(())
    })
    .await?;
    Ok(())
}

/// Deletes the exchange of news, which whoever misses it makes anew.
async fn lose_news(place: &Place) -> anyhow::Result<()> {
    let channel = place.broker().await?.create_channel().await?;
    let delete = channel.exchange_delete("hotrow.settled".into(), ExchangeDeleteOptions::default());
    delete.await?;
    Ok(())
}
