//! Claims about the description: it says what the routes do, the committed copy is what a process tells, and the page
//! that shows it asks nobody else.
//!
//! That every answer of a claim is one that is described, the client of the tests sees to.

use std::collections::BTreeSet;

use hotrow_tests::{Process, client::Answer, described};
use reqwest::Method;
use serde_json::Value;

use super::{Headers, assert_refused, ingest, place, send};

const STRIPE_SECRET: &str = "whsec_a_secret_of_the_claims";
/// Of which a path with a name in it is asked.
const NAMED: &str = "made-up";

async fn get(process: &Process, path: &str, headers: Headers<'_>) -> anyhow::Result<Answer> {
    send(process, Method::GET, path, headers, "").await
}

#[tokio::test]
async fn every_route_is_described_and_every_described_route_answers() -> anyhow::Result<()> {
    let place = place().await?;
    let ingest = ingest(&place)
        .set("STRIPE_WEBHOOK_SECRET", STRIPE_SECRET)
        .start()
        .await?;
    let told = get(&ingest, "/openapi.json", &[]).await?;
    let told: Value = told.expect(200)?.json()?;
    let committed: Value = serde_json::from_str(include_str!("../../../docs/openapi.json"))?;
    assert!(told == committed, "docs/openapi.json is another one");

    let described: BTreeSet<_> = described::routes()
        .into_iter()
        .map(|(path, method)| (path, method.to_string()))
        .collect();
    // The series of answers are made from the routes that are registered.
    let metrics = ingest.metrics().await?;
    let counted = metrics.samples("hotrow_http_requests_total", &[]);
    let counted = counted.map(|sample| {
        let label = |name: &str| sample.labels.get(name).cloned().unwrap_or_default();
        (label("route"), label("method"))
    });
    let counted: BTreeSet<_> = counted.filter(|(route, _)| route != "unmatched").collect();
    assert_eq!(counted, described);

    for (path, method) in described::routes() {
        let parts = path
            .split('/')
            .map(|part| if part.starts_with('{') { NAMED } else { part });
        let path = parts.collect::<Vec<_>>().join("/");
        let answer = send(&ingest, method.clone(), &path, &[], "").await?;
        let body = String::from_utf8_lossy(&answer.body);
        assert!(
            answer.status != 405 && !body.contains("there is no such path"),
            "{method} {path}: {body}"
        );
    }
    Ok(())
}

#[tokio::test]
async fn a_route_that_is_not_set_up_is_not_described() -> anyhow::Result<()> {
    let place = place().await?;
    let ingest = ingest(&place).set("EVENTS", "off").start().await?;
    let told: Value = get(&ingest, "/openapi.json", &[]).await?.json()?;
    let paths = told["paths"].as_object().expect("paths");
    assert!(paths.contains_key("/v1/orders"));
    for path in paths.keys() {
        let is_missing = path.contains("stripe") || path.contains("webhooks");
        assert!(!is_missing, "{path}");
    }
    for path in ["/v1/payments/stripe", "/v1/webhooks"] {
        let answer = send(&ingest, Method::POST, path, &[], "{}").await?;
        assert_refused(&answer, 404, "not_found");
    }
    Ok(())
}

#[tokio::test]
async fn the_description_can_be_read_and_kept_and_nothing_else() -> anyhow::Result<()> {
    let place = place().await?;
    let ingest = ingest(&place).start().await?;
    for path in ["/openapi.json", "/docs", "/docs/swagger-ui.css"] {
        let answer = get(&ingest, path, &[]).await?.expect(200)?;
        let tag = answer.header("etag").expect("a tag").to_owned();
        assert!(answer.header("cache-control").is_some());
        let known = [("if-none-match", tag.as_bytes())];
        let unchanged = get(&ingest, path, &known).await?.expect(304)?;
        assert!(unchanged.body.is_empty());
        let changed = get(&ingest, path, &[("if-none-match", b"\"another\"")]).await?;
        assert_eq!(changed.expect(200)?.body, answer.body);

        let head = send(&ingest, Method::HEAD, path, &[], "").await?;
        assert_eq!(head.expect(200)?.header("etag"), Some(&*tag));
        let others = [
            Method::POST,
            Method::PUT,
            Method::PATCH,
            Method::DELETE,
            Method::OPTIONS,
            Method::TRACE,
        ];
        for method in others {
            let refused = send(&ingest, method.clone(), path, &[], "").await?;
            assert_refused(&refused, 405, "method_not_allowed");
            assert_eq!(refused.header("allow"), Some("GET,HEAD"), "{method}");
        }
        let asked = get(&ingest, &format!("{path}?version=1"), &[]).await?;
        assert_refused(&asked, 400, "malformed");
    }
    for path in ["/docs/", "/docs/index.html", "/docs/..%2fopenapi.json"] {
        assert_refused(&get(&ingest, path, &[]).await?, 404, "not_found");
    }
    Ok(())
}

#[tokio::test]
async fn the_page_loads_its_own_files_and_may_ask_its_own_origin_alone() -> anyhow::Result<()> {
    let place = place().await?;
    let ingest = ingest(&place).start().await?;
    let page = get(&ingest, "/docs", &[]).await?.expect(200)?;
    let text = String::from_utf8(page.body.to_vec())?;
    let named = ["src=\"", "href=\""].into_iter().flat_map(|attribute| {
        let after = text.split(attribute).skip(1);
        after.filter_map(|rest| rest.split('"').next())
    });
    let mut files = 0;
    for file in named {
        if file == "data:," || file == "openapi.json" {
            continue;
        }
        assert!(file.starts_with("docs/"), "{file}");
        let answer = get(&ingest, &format!("/{file}"), &[]).await?.expect(200)?;
        assert_guarded(&answer);
        files += 1;
    }
    assert_eq!(files, 4);
    assert!(
        !text.contains("<script>") && !text.contains("style="),
        "{text}"
    );
    assert_guarded(&page);

    let start = get(&ingest, "/docs/swagger-initializer.js", &[]).await?;
    let start = String::from_utf8(start.body.to_vec())?;
    assert!(start.contains("\"openapi.json\""), "{start}");
    assert!(start.contains("\"validatorUrl\": \"none\""), "{start}");
    assert!(
        !start.contains("//petstore") && !start.contains("https://"),
        "{start}"
    );
    Ok(())
}

/// Nothing of another origin, and no script in the page itself.
#[track_caller]
fn assert_guarded(answer: &Answer) {
    let policy = answer.header("content-security-policy");
    let policy = policy.unwrap_or_default();
    for part in [
        "default-src 'none'",
        "script-src 'self';",
        "connect-src 'self'",
        "frame-ancestors 'none'",
    ] {
        assert!(policy.contains(part), "{policy}");
    }
    assert!(
        !policy.contains("http") && !policy.contains('*'),
        "{policy}"
    );
    assert_eq!(answer.header("x-content-type-options"), Some("nosniff"));
}

#[tokio::test]
async fn anybody_may_read_the_description_and_only_pages_that_may_call_do() -> anyhow::Result<()> {
    let place = place().await?;
    let ingest = ingest(&place)
        .set(
            "AUTH_SECRET",
            "a-secret-for-tokens-of-more-than-32-characters",
        )
        .set("CORS_ORIGINS", "https://shop.example")
        .start()
        .await?;
    for path in ["/openapi.json", "/docs"] {
        let shop: Headers<'_> = &[("origin", b"https://shop.example")];
        let answer = get(&ingest, path, shop).await?.expect(200)?;
        let allowed = answer.header("access-control-allow-origin");
        assert_eq!(allowed, Some("https://shop.example"));
        let foreign: Headers<'_> = &[("origin", b"https://foreign.example")];
        let answer = get(&ingest, path, foreign).await?.expect(200)?;
        assert_eq!(answer.header("access-control-allow-origin"), None);
        let wrong: Headers<'_> = &[("authorization", b"Bearer made-up")];
        let refused = get(&ingest, path, wrong).await?;
        assert_refused(&refused, 401, "unauthorized");
    }
    Ok(())
}
