//! Claims about the inventory routes: what is shown, what an admin changes, and that every change is
//! a ledger row.

use std::collections::BTreeSet;

use hotrow_tests::{
    client::{Answer, Product},
    processes::ADMIN_TOKEN,
};
use reqwest::Method;
use serde_json::{Value, json};
use sqlx::PgConnection;

use super::{CHAIR, assert_refused, ingest, place, put_up, send};

#[tokio::test]
async fn every_admin_change_is_a_ledger_row_and_a_keyed_one_comes_once() -> anyhow::Result<()> {
    let place = place().await?;
    let ingest = ingest(&place).start().await?;
    let client = ingest.client()?;
    let mut database = place.database().await?;

    let created = client
        .put_inventory(CHAIR, Product::chairs(10))
        .await?
        .expect(201)?;
    assert_shown(&created, 10);
    let replacement = Product {
        title: "Armchair",
        unit_price_minor: 5_990,
        currency: "USD",
        available: 4,
    };
    let replaced = client
        .put_inventory(CHAIR, replacement)
        .await?
        .expect(200)?
        .json()?;
    assert_eq!(
        [
            &replaced["title"],
            &replaced["unit_price_minor"],
            &replaced["currency"],
            &replaced["available"]
        ],
        [&json!("Armchair"), &json!(5_990), &json!("USD"), &json!(4)]
    );
    client
        .put_inventory(CHAIR, Product::chairs(4))
        .await?
        .expect(200)?;
    assert_shown(&client.restock(CHAIR, 6, Some("monday")).await?, 10);
    assert_shown(&client.restock(CHAIR, 6, Some("monday")).await?, 10);
    assert_shown(&client.restock(CHAIR, 6, Some("\"monday\"")).await?, 10);
    assert_refused(
        &client.restock(CHAIR, 7, Some("monday")).await?,
        422,
        "idempotency_mismatch",
    );
    assert_shown(&client.restock(CHAIR, 6, Some("tuesday")).await?, 16);
    assert_shown(&client.restock(CHAIR, -16, None).await?, 0);
    assert_refused(&client.restock(CHAIR, -1, None).await?, 422, "invalid");
    assert_shown(&client.restock(CHAIR, 3, None).await?, 3);
    assert_refused(
        &client.restock(CHAIR, -4, Some("wednesday")).await?,
        422,
        "invalid",
    );
    // What was refused has not used up its key.
    assert_shown(&client.restock(CHAIR, -3, Some("wednesday")).await?, 0);
    // A key belongs to its product.
    put_up(&ingest, "table", 1).await?;
    client
        .restock("table", 5, Some("monday"))
        .await?
        .expect(200)?;
    assert_refused(&client.restock("no-such", 5, None).await?, 404, "not_found");

    let chairs: [(&str, i64, i64, Option<&str>); 8] = [
        ("put", 10, 10, None),
        ("put", -6, 4, None),
        ("put", 0, 4, None),
        ("restock", 6, 10, Some("monday")),
        ("restock", 6, 16, Some("tuesday")),
        ("restock", -16, 0, None),
        ("restock", 3, 3, None),
        ("restock", -3, 0, Some("wednesday")),
    ];
    let chairs = chairs.map(|(kind, delta, balance, key)| {
        (kind.to_owned(), delta, balance, key.map(str::to_owned))
    });
    assert_eq!(ledger(&mut database, CHAIR).await?, chairs);
    let tables = [
        ("put".to_owned(), 1, 1, None),
        ("restock".to_owned(), 5, 6, Some("monday".to_owned())),
    ];
    assert_eq!(ledger(&mut database, "table").await?, tables);
    Ok(())
}

#[tokio::test]
async fn an_admin_change_out_of_bounds_is_told_its_field_and_changes_nothing() -> anyhow::Result<()>
{
    let place = place().await?;
    let ingest = ingest(&place).start().await?;
    put_up(&ingest, CHAIR, 7).await?;
    let product =
        json!({ "title": "Chair", "unit_price_minor": 4_990, "currency": "EUR", "available": 8 });
    let with = |field: &str, value: Value| {
        let mut product = product.clone();
        product[field] = value;
        (product, field.to_owned())
    };
    let mut puts = vec![
        with("title", json!("")),
        with("title", json!("x".repeat(201))),
        with("title", json!("two\nlines")),
        with("title", json!(7)),
        with("unit_price_minor", json!(-1)),
        with("unit_price_minor", json!(49.9)),
        with("unit_price_minor", json!("4990")),
        with("currency", json!("eur")),
        with("currency", json!("EURO")),
        with("available", json!(-1)),
        with("available", json!(1e30)),
        with("available", json!(i64::MAX)),
        with("sku", json!("chair")),
    ];
    let mut lacking = product.clone();
    lacking
        .as_object_mut()
        .map(|product| product.remove("currency"));
    puts.push((lacking, "currency".to_owned()));
    let restocks = [
        json!({ "quantity": 0 }),
        json!({ "quantity": 1.5 }),
        json!({ "quantity": i64::MAX }),
        json!({ "quantity": i64::MIN }),
        json!({ "quantity": null }),
        json!({}),
        json!({ "quantity": 1, "note": "" }),
    ];
    let restocks = restocks.map(|body| {
        let field = if body.get("note").is_some() {
            "note"
        } else {
            "quantity"
        };
        (body, field.to_owned())
    });
    let authorization = format!("Bearer {ADMIN_TOKEN}");
    let headers: [(&str, &[u8]); 2] = [
        ("content-type", b"application/json"),
        ("authorization", authorization.as_bytes()),
    ];
    let put = (Method::PUT, "/v1/inventory/chair", puts);
    let restock = (Method::POST, "/v1/inventory/chair/restock", restocks.into());
    for (method, path, bodies) in [put, restock] {
        for (body, field) in bodies {
            let answer = send(&ingest, method.clone(), path, &headers, body.to_string()).await?;
            let detail = assert_refused(&answer, 422, "invalid")["detail"].to_string();
            assert!(
                detail.contains(&field),
                "{body}: {detail} should name {field}"
            );
        }
        let malformed = send(&ingest, method.clone(), path, &headers, "{").await?;
        assert_refused(&malformed, 400, "malformed");
        let huge = send(
            &ingest,
            method.clone(),
            path,
            &headers,
            " ".repeat(16 * 1024 + 1),
        )
        .await?;
        assert_refused(&huge, 413, "too_large");
        let form = [("content-type", &b"text/plain"[..]), headers[1]];
        assert_refused(
            &send(&ingest, method, path, &form, "{}").await?,
            415,
            "unsupported_media_type",
        );
    }
    let shown = ingest.client()?.inventory(CHAIR).await?;
    assert_shown(&shown, 7);
    assert_eq!(ledger(&mut place.database().await?, CHAIR).await?.len(), 1);
    Ok(())
}

#[tokio::test]
async fn all_faults_of_an_admin_change_are_listed_at_once() -> anyhow::Result<()> {
    let place = place().await?;
    let ingest = ingest(&place).start().await?;
    put_up(&ingest, CHAIR, 7).await?;
    let authorization = format!("Bearer {ADMIN_TOKEN}");
    let headers: [(&str, &[u8]); 2] = [
        ("content-type", b"application/json"),
        ("authorization", authorization.as_bytes()),
    ];
    let wrong = json!({ "title": "", "unit_price_minor": 49.9, "currency": "eur", "note": 1 });
    let answer = send(
        &ingest,
        Method::PUT,
        "/v1/inventory/chair",
        &headers,
        wrong.to_string(),
    )
    .await?;
    let refused = assert_refused(&answer, 422, "invalid");
    let errors = refused["errors"].as_array().into_iter().flatten();
    let pointers: BTreeSet<_> = errors
        .filter_map(|error| error["pointer"].as_str())
        .collect();
    let expected = [
        "/title",
        "/unit_price_minor",
        "/currency",
        "/available",
        "/note",
    ];
    assert_eq!(pointers, BTreeSet::from(expected), "all at once: {refused}");
    let answer = ingest.client()?.restock(CHAIR, -8, None).await?;
    let refused = assert_refused(&answer, 422, "invalid");
    assert_eq!(refused["errors"][0]["pointer"], "/quantity", "{refused}");
    assert_shown(&ingest.client()?.inventory(CHAIR).await?, 7);
    Ok(())
}

#[tokio::test]
async fn the_inventory_is_shown_product_by_product_and_page_by_page() -> anyhow::Result<()> {
    let place = place().await?;
    let ingest = ingest(&place).start().await?;
    let client = ingest.client()?;
    assert_eq!(
        client.get("/v1/inventory").await?.expect(200)?.json()?["inventory"],
        json!([])
    );
    // By bytes, and not as a dictionary would sort them.
    let skus = ["A-2", "Z", "a-1", "a-10", "a-2", "chair"];
    for sku in ["chair", "a-2", "A-2", "a-10", "Z", "a-1"] {
        put_up(&ingest, sku, i64::from(sku == "chair") * 5).await?;
    }
    for (sku, available) in [(CHAIR, 5), ("Z", 0)] {
        let shown = client.inventory(sku).await?.expect(200)?;
        assert_eq!(shown.header("cache-control"), Some("public, max-age=1"));
        let body = shown.json()?;
        assert_eq!(
            (&body["sku"], &body["available"]),
            (&json!(sku), &json!(available))
        );
        assert_eq!(body["sold_out"], available == 0);
        let as_of = body["as_of"].as_str().unwrap_or_default();
        chrono::DateTime::parse_from_rfc3339(as_of)?;
        assert_eq!(
            body.as_object().map(serde_json::Map::len),
            Some(11),
            "{body}"
        );
    }

    let pages = async |limit: &str| -> anyhow::Result<Vec<Vec<String>>> {
        let (mut pages, mut after) = (Vec::new(), String::new());
        loop {
            let answer = client
                .get(&format!("/v1/inventory?limit={limit}&after={after}"))
                .await?
                .expect(200)?;
            assert_eq!(answer.header("cache-control"), Some("public, max-age=1"));
            let page = answer.json()?;
            let shown = page["inventory"].as_array().into_iter().flatten();
            pages.push(
                shown
                    .filter_map(|shown| Some(shown["sku"].as_str()?.to_owned()))
                    .collect(),
            );
            let Some(next) = page["next_after"].as_str() else {
                assert_eq!(page["next_after"], Value::Null);
                return Ok(pages);
            };
            next.clone_into(&mut after);
        }
    };
    assert_eq!(pages("4").await?, [&skus[..4], &skus[4..]]);
    assert_eq!(
        pages("3").await?,
        [&skus[..3], &skus[3..]],
        "no empty last page"
    );
    assert_eq!(pages("1000").await?, [skus]);
    assert_eq!(pages("").await?, [skus]);
    let behind = client.get("/v1/inventory?after=a-10").await?.json()?;
    assert_eq!(behind["inventory"][0]["sku"], "a-2");
    for wrong in [
        "limit=0",
        "limit=-1",
        "limit=1001",
        "limit=many",
        "limit=1.5",
        "after=a%20b",
    ] {
        let answer = client.get(&format!("/v1/inventory?{wrong}")).await?;
        let detail = assert_refused(&answer, 422, "invalid")["detail"].to_string();
        assert!(
            detail.contains(wrong.split('=').next().unwrap_or_default()),
            "{detail}"
        );
    }
    Ok(())
}

#[track_caller]
fn assert_shown(answer: &Answer, available: i64) {
    let body = answer.json().unwrap_or_default();
    assert!(answer.status.is_success(), "{} {body}", answer.status);
    let mut expected = json!({
        "sku": CHAIR, "title": "Chair", "unit_price_minor": 4_990, "currency": "EUR",
        "available": available, "held": 0, "sold_out": available == 0,
        "state": if available == 0 { "sold_out" } else { "open" }, "sale": null,
    });
    expected["as_of"] = body["as_of"].clone();
    expected["version"] = body["version"].clone();
    assert_eq!(body, expected);
}

type Entry = (String, i64, i64, Option<String>);

/// Kind, delta, balance and key of a SKU's entries.
async fn ledger(database: &mut PgConnection, sku: &str) -> anyhow::Result<Vec<Entry>> {
    let entries = "select kind, delta, balance, idempotency_key from inventory_ledger where sku = $1 order by id";
    Ok(sqlx::query_as(entries)
        .bind(sku)
        .fetch_all(database)
        .await?)
}
