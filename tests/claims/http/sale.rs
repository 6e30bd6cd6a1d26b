//! Claims about the rules of a sale: set with the product, changed one by one, and seen at the door.

use hotrow_tests::{Client, client::Answer};
use reqwest::Method;
use serde_json::{Value, json};

use super::{CHAIR, assert_refused, ingest, patch_chairs, place, put_up, send};

async fn change(client: &Client, method: Method, body: Value) -> anyhow::Result<Answer> {
    let path = format!("/v1/inventory/{CHAIR}");
    client.send(method, &path, &[], Some(body)).await
}

async fn patch(client: &Client, body: Value) -> anyhow::Result<Value> {
    patch_chairs(client, body).await?.expect(200)?.json()
}

fn product(sale: Option<Value>) -> Value {
    let mut product =
        json!({ "title": "Chair", "unit_price_minor": 4990, "currency": "EUR", "available": 5 });
    if let Some(sale) = sale {
        product["sale"] = sale;
    }
    product
}

/// The rules of a sale as they are shown: those that are not named are off.
pub fn rules(named: Value) -> Value {
    let mut rules = json!({
        "hold_seconds": null,
        "hold_seconds_max": null,
        "max_per_order": null,
        "max_per_customer": null,
        "opens_at": null,
        "closes_at": null,
        "paused": false,
    });
    if let (Some(rules), Value::Object(named)) = (rules.as_object_mut(), named) {
        rules.extend(named);
    }
    rules
}

#[tokio::test]
async fn a_stock_feed_keeps_the_rules_of_a_sale_and_null_removes_them() -> anyhow::Result<()> {
    let place = place().await?;
    let ingest = ingest(&place).start().await?;
    let client = ingest.client()?;
    let put = async |sale| {
        let answer = change(&client, Method::PUT, product(sale)).await?;
        anyhow::Ok(answer.expect_success()?.json()?["sale"].clone())
    };
    assert_eq!(put(None).await?, Value::Null);
    let rules = rules(json!({ "hold_seconds": 600, "hold_seconds_max": 3600 }));
    assert_eq!(put(Some(json!({ "hold_seconds": 600 }))).await?, rules);
    assert_eq!(put(None).await?, rules, "kept");
    let long = json!({ "hold_seconds": 7200 });
    assert_eq!(put(Some(long)).await?["hold_seconds_max"], 7200);
    assert_eq!(put(Some(json!({}))).await?, Value::Null, "all are off");
    put(Some(rules)).await?;
    assert_eq!(put(Some(Value::Null)).await?, Value::Null);
    Ok(())
}

#[tokio::test]
async fn a_patch_changes_what_it_names_and_leaves_the_stock_alone() -> anyhow::Result<()> {
    let place = place().await?;
    let ingest = ingest(&place).start().await?;
    let client = ingest.client()?;
    put_up(&ingest, CHAIR, 5).await?;
    let patched = patch(&client, json!({ "title": "A better chair" })).await?;
    assert_eq!(
        (&patched["title"], &patched["available"]),
        (&json!("A better chair"), &json!(5))
    );
    patch(&client, json!({ "sale": { "hold_seconds": 60 } })).await?;
    let patched = patch(&client, json!({ "sale": { "hold_seconds_max": 90 } })).await?;
    let rules = rules(json!({ "hold_seconds": 60, "hold_seconds_max": 90 }));
    assert_eq!(patched["sale"], rules, "rule by rule");
    let contradiction = json!({ "sale": { "hold_seconds": 91 } });
    let answer = patch_chairs(&client, contradiction).await?;
    let problem = assert_refused(&answer, 422, "invalid");
    assert_eq!(problem["errors"][0]["pointer"], "/sale/hold_seconds_max");
    let shown = client.inventory(CHAIR).await?.json()?;
    assert_eq!(shown["sale"], rules);
    let patched = patch(&client, json!({ "sale": null, "unit_price_minor": 1 })).await?;
    assert_eq!(
        (&patched["sale"], &patched["unit_price_minor"]),
        (&Value::Null, &json!(1))
    );

    let body = r#"{"title":"Chair"}"#;
    let path = format!("/v1/inventory/{CHAIR}");
    let token = ("authorization", &b"Bearer an-admin-token-for-tests"[..]);
    for (content_type, status) in [
        ("application/merge-patch+json", 200),
        ("application/json; charset=utf-8", 200),
        ("text/plain", 415),
    ] {
        let headers = [("content-type", content_type.as_bytes()), token];
        let answer = send(&ingest, Method::PATCH, &path, &headers, body).await?;
        assert_eq!(answer.status, status, "{content_type}");
    }
    let unknown = client.send(Method::PATCH, "/v1/inventory/no-such", &[], Some(json!({})));
    assert_refused(&unknown.await?, 404, "not_found");
    Ok(())
}

#[tokio::test]
async fn all_faults_of_the_rules_of_a_sale_are_listed_at_once() -> anyhow::Result<()> {
    let place = place().await?;
    // Without DEVELOPMENT a hold has 30 s at least.
    let ingest = ingest(&place)
        .set("DEVELOPMENT", "false")
        .set("ORDER_ID_SECRET", "a secret that nobody has published")
        .start()
        .await?;
    let client = ingest.client()?;
    let sale = json!({
        "hold_seconds": 29, "hold_seconds_max": "90", "max_per_order": 0, "max_per_customer": 1_000_001,
        "opens_at": "2026-12-01 10:00", "closes_at": 7, "paused": "yes", "opens": true,
    });
    for body in [
        product(Some(sale.clone())),
        json!({ "sale": sale, "available": 3, "title": null }),
    ] {
        let method = if body["currency"].is_string() {
            Method::PUT
        } else {
            Method::PATCH
        };
        let answer = change(&client, method, body).await?;
        let problem = assert_refused(&answer, 422, "invalid");
        let errors = problem["errors"].as_array().into_iter().flatten();
        let pointers: Vec<_> = errors
            .filter_map(|error| error["pointer"].as_str())
            .collect();
        for pointer in [
            "/sale/hold_seconds",
            "/sale/hold_seconds_max",
            "/sale/max_per_order",
            "/sale/max_per_customer",
            "/sale/opens_at",
            "/sale/closes_at",
            "/sale/paused",
            "/sale/opens",
        ] {
            assert!(pointers.contains(&pointer), "{problem}");
        }
    }
    Ok(())
}
