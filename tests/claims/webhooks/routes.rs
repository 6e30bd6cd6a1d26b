//! Claims about the routes below `/v1/webhooks`.

use anyhow::{Context, ensure};
use hotrow_tests::{Client, Place, client::Answer, processes};
use reqwest::Method;
use serde_json::{Value, json};
use uuid::Uuid;

use super::{CONFIRMED, Stage, ingest, webhooks};

/// Every route, of an endpoint that need not exist.
fn routes() -> Vec<(Method, String, Option<Value>)> {
    let one = format!("/v1/webhooks/{}", Uuid::nil());
    vec![
        (Method::POST, "/v1/webhooks".to_owned(), Some(json!({}))),
        (Method::GET, "/v1/webhooks".to_owned(), None),
        (Method::GET, one.clone(), None),
        (Method::PATCH, one.clone(), Some(json!({}))),
        (Method::DELETE, one.clone(), None),
        (Method::POST, format!("{one}/test"), None),
        (Method::POST, format!("{one}/rotate-secret"), None),
        (Method::GET, format!("{one}/deliveries"), None),
        (
            Method::POST,
            format!("{one}/replay"),
            Some(json!({ "since": "2026-12-01T10:00:00Z" })),
        ),
    ]
}

#[track_caller]
fn assert_invalid(answer: &Answer, pointer: &str, part: &str) {
    let body = answer.json().expect("a problem");
    let found = (answer.status.as_u16(), body["code"].as_str());
    assert_eq!(found, (422, Some("invalid")), "{body}");
    let errors = body["errors"].as_array().expect("errors");
    let fault = errors.iter().find(|it| it["pointer"] == pointer);
    let detail = fault.and_then(|it| it["detail"].as_str());
    assert!(detail.is_some_and(|it| it.contains(part)), "{part}: {body}");
}

#[tokio::test]
async fn the_routes_are_for_administrators_and_know_no_other_endpoint() -> anyhow::Result<()> {
    let stage = Stage::set().await?;
    let stranger = Client::new(stage.ingest.address()?)?;
    for (method, path, body) in routes() {
        let answer = stranger
            .send(method.clone(), &path, &[], body.clone())
            .await?;
        assert_eq!(answer.status, 401, "{method} {path}");
        assert_eq!(answer.header("www-authenticate"), Some("Bearer"));
        let answer = stage.client.send(method.clone(), &path, &[], body).await?;
        if path != "/v1/webhooks" {
            assert_eq!(answer.status, 404, "{method} {path}");
        }
    }
    Ok(())
}

#[tokio::test]
async fn without_events_there_are_no_routes_and_nothing_to_deliver() -> anyhow::Result<()> {
    let place = Place::new().await?;
    processes::migrate(&place).await?;
    let ingest = ingest(&place).set("EVENTS", "off").start().await?;
    let client = ingest.client()?;
    for (method, path, body) in routes() {
        let answer = client.send(method.clone(), &path, &[], body).await?;
        assert_eq!(answer.status, 404, "{method} {path}");
    }
    let output = webhooks(&place).set("EVENTS", "off").run(&[]).await?;
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(
        !output.status.success() && said.contains("EVENTS is off"),
        "{said}"
    );
    Ok(())
}

#[tokio::test]
async fn an_endpoint_is_registered_shown_changed_and_deleted() -> anyhow::Result<()> {
    let stage = Stage::set().await?;
    let body = json!({
        "url": stage.receiver.url("/ok"), "types": [CONFIRMED, "order.expired"], "description": "the warehouse",
    });
    let answer = stage.post("", body.clone()).await?.expect(201)?;
    let mut created = answer.json()?;
    let id = created["id"].as_str().context("no id")?.to_owned();
    let location = answer.header("location").map(str::to_owned);
    assert_eq!(location, Some(format!("/v1/webhooks/{id}")));
    let secret = created.as_object_mut().and_then(|it| it.remove("secret"));
    let secret = secret.context("no secret")?;
    ensure!(
        secret
            .as_str()
            .is_some_and(|it| it.starts_with("whsec_") && it.len() == 50)
    );
    let members = json!({
        "id": id, "url": body["url"], "types": body["types"], "description": "the warehouse", "enabled": true,
        "disabled_at": null, "disabled_reason": null, "previous_secret_until": null,
        "created_at": created["created_at"], "updated_at": created["updated_at"],
    });
    assert_eq!(created, members);
    assert_eq!(stage.get(&format!("/{id}")).await?, created);
    assert_eq!(
        stage.get("").await?,
        json!({ "webhooks": [created], "next_after": null })
    );

    let path = format!("/v1/webhooks/{id}");
    let change = json!({ "types": null, "description": null, "enabled": false });
    let patched = stage
        .client
        .send(Method::PATCH, &path, &[], Some(change))
        .await?;
    let patched = patched.expect(200)?.json()?;
    assert_eq!(
        patched["types"].as_array().map(Vec::len),
        Some(8),
        "{patched}"
    );
    assert!(patched["description"].is_null());
    assert_eq!(
        (&patched["enabled"], &patched["disabled_reason"]),
        (&json!(false), &json!("by_admin"))
    );
    assert_eq!(patched["url"], body["url"]);

    let deleted = stage.client.send(Method::DELETE, &path, &[], None).await?;
    deleted.expect(204)?;
    assert_eq!(stage.client.get(&path).await?.status, 404);
    assert_eq!(
        stage.get("").await?,
        json!({ "webhooks": [], "next_after": null })
    );
    Ok(())
}

#[tokio::test]
async fn what_cannot_be_an_endpoint_is_refused_with_its_place() -> anyhow::Result<()> {
    let stage = Stage::set().await?;
    let endpoint = stage.register("/ok").await?;
    let cases = [
        (json!({}), "/url", "is missing"),
        (
            json!({ "url": "https://127.0.0.1/", "types": ["order.paid"] }),
            "/types/0",
            "order.confirmed",
        ),
        (
            json!({ "url": "https://127.0.0.1/", "secret": "x" }),
            "/secret",
            "is not known",
        ),
        (
            json!({ "url": "https://user:word@127.0.0.1/" }),
            "/url",
            "user",
        ),
        (json!({ "url": "https://127.0.0.1/#x" }), "/url", "fragment"),
        (json!({ "url": "ftp://127.0.0.1/" }), "/url", "https://"),
        (
            json!({ "url": "https://nowhere.invalid/" }),
            "/url",
            "cannot be resolved",
        ),
        (
            json!({ "url": "https://10.0.0.1/" }),
            "/url",
            "not a public address",
        ),
        (
            json!({ "url": "https://169.254.169.254/" }),
            "/url",
            "not a public address",
        ),
        (
            json!({ "url": "https://[fd00::1]/" }),
            "/url",
            "not a public address",
        ),
        (
            json!({ "url": "https://[::ffff:10.0.0.1]/" }),
            "/url",
            "not a public address",
        ),
        (
            json!({ "url": "https://[64:ff9b::a00:1]/" }),
            "/url",
            "not a public address",
        ),
        (json!({ "url": "https://0x0a.1/" }), "/url", "10.0.0.1"),
        (json!({ "url": "http://1.1.1.1/" }), "/url", "must be https"),
    ];
    for (body, pointer, part) in cases {
        assert_invalid(&stage.post("", body.clone()).await?, pointer, part);
        if body.get("url").is_some() {
            let answer = stage.patch(&endpoint, body).await?;
            assert_invalid(&answer, pointer, part);
        }
    }
    let shown = stage.get(&format!("/{}", endpoint.id)).await?;
    assert_eq!(shown["url"], stage.receiver.url("/ok"));
    let replay = format!("/{}/replay", endpoint.id);
    let answer = stage.post(&replay, json!({ "since": "yesterday" })).await?;
    assert_invalid(&answer, "/since", "must be a time");
    for query in ["?limit=0", "?after=x"] {
        let path = format!("/v1/webhooks/{}/deliveries{query}", endpoint.id);
        assert_eq!(stage.client.get(&path).await?.status, 422, "{query}");
        let path = format!("/v1/webhooks{query}");
        assert_eq!(stage.client.get(&path).await?.status, 422, "{query}");
    }
    assert_eq!(stage.client.get("/v1/webhooks?page=1").await?.status, 400);
    Ok(())
}

#[tokio::test]
async fn there_are_a_hundred_endpoints_at_most_and_they_are_paged() -> anyhow::Result<()> {
    let stage = Stage::set().await?;
    for _ in 0..100 {
        stage.register("/ok").await?;
    }
    let body = json!({ "url": stage.receiver.url("/ok") });
    let refused = stage.post("", body).await?;
    let found = (refused.status.as_u16(), refused.code());
    assert_eq!(found, (409, Some("too_many_endpoints".to_owned())));
    let (mut seen, mut after) = (0, String::new());
    loop {
        let page = stage.get(&format!("?limit=30&after={after}")).await?;
        seen += page["webhooks"].as_array().map_or(0, Vec::len);
        match page["next_after"].as_str() {
            Some(next) => next.clone_into(&mut after),
            None => break,
        }
    }
    assert_eq!(seen, 100);
    Ok(())
}

#[tokio::test]
async fn deliveries_are_paged_from_the_latest_on_and_replayed_by_their_time() -> anyhow::Result<()>
{
    let stage = Stage::set().await?;
    let endpoint = stage.register("/ok").await?;
    let _webhooks = stage.webhooks().start().await?;
    for number in 0..5 {
        stage
            .publish(&[super::event(&format!("a-{number}/1"))])
            .await?;
        stage.reach(&endpoint, "delivered", number + 1).await?;
    }
    let path = format!("/{}/deliveries", endpoint.id);
    let (mut seen, mut after) = (Vec::new(), String::new());
    loop {
        let page = stage.get(&format!("{path}?limit=2&after={after}")).await?;
        let deliveries = page["deliveries"].as_array().context("no deliveries")?;
        seen.extend(deliveries.iter().map(|it| it["event_id"].clone()));
        match page["next_after"].as_i64() {
            Some(next) => after = next.to_string(),
            None => break,
        }
    }
    assert_eq!(seen, ["a-4/1", "a-3/1", "a-2/1", "a-1/1", "a-0/1"]);

    sqlx::query("update webhook_deliveries set event_time = now() - interval '1 hour' where event_id < 'a-3'")
        .execute(&stage.database)
        .await?;
    let replay = format!("/{}/replay", endpoint.id);
    let queued = async |body: Value| {
        let answer = stage.post(&replay, body).await?.expect(202)?.json()?;
        anyhow::Ok(answer["queued"].clone())
    };
    let hour_ago = chrono::Utc::now() - chrono::TimeDelta::minutes(59);
    let only_failed = json!({ "since": hour_ago.to_rfc3339(), "only_failed": true });
    assert_eq!(queued(only_failed).await?, 0);
    let lately = json!({ "since": hour_ago.to_rfc3339() });
    assert_eq!(queued(lately).await?, 2);
    let before = json!({ "since": "2020-01-01T00:00:00Z", "until": hour_ago.to_rfc3339() });
    assert_eq!(queued(before).await?, 3);
    hotrow_tests::wait::until("all to come again", super::A_WHILE, async || {
        (stage.receiver.received("/ok").len() == 10).then_some(())
    })
    .await?;
    assert_eq!(stage.receiver.ids("/ok").len(), 5);
    Ok(())
}
