//! Claims about the record of what people change.

use hotrow_tests::{Client, client::Product};
use reqwest::Method;
use serde_json::{Value, json};

use super::{CHAIR, assert_refused, ingest, patch_chairs, place};

async fn rows(client: &Client, query: &str) -> anyhow::Result<Vec<Value>> {
    let page = client
        .get(&format!("/v1/audit{query}"))
        .await?
        .expect(200)?;
    let page = page.json()?;
    Ok(page["audit"].as_array().cloned().unwrap_or_default())
}

#[tokio::test]
async fn every_change_by_an_administrator_is_on_record_and_one_that_was_not_made_is_not()
-> anyhow::Result<()> {
    let place = place().await?;
    let ingest = ingest(&place).start().await?;
    let client = ingest.client()?;
    client
        .put_inventory(CHAIR, Product::chairs(5))
        .await?
        .expect(201)?;
    let sale = json!({ "sale": { "max_per_customer": 2 } });
    patch_chairs(&client, sale).await?.expect(200)?;
    let restock = format!("/v1/inventory/{CHAIR}/restock");
    let more = json!({ "quantity": 3 });
    let headers = [("x-request-id", "the-truck"), ("idempotency-key", "r-1")];
    for _ in 0..2 {
        let restocked = client.send(Method::POST, &restock, &headers, Some(more.clone()));
        restocked.await?.expect(200)?;
    }
    let stop = json!({ "paused": true, "note": "a fire" });
    client
        .send(Method::PUT, "/v1/sale", &[], Some(stop))
        .await?
        .expect(200)?;
    let wrong = json!({ "sale": { "hold_seconds_max": 60 } });
    assert_refused(&patch_chairs(&client, wrong).await?, 422, "invalid");

    let all = rows(&client, "").await?;
    let actions: Vec<_> = all
        .iter()
        .filter_map(|row| row["action"].as_str())
        .collect();
    assert_eq!(
        actions,
        [
            "inventory.put",
            "inventory.patch",
            "inventory.restock",
            "sale.switch"
        ]
    );
    for row in &all {
        assert_eq!(
            (&row["actor"], &row["role"]),
            (&json!("admin-token"), &json!("admin"))
        );
        assert_eq!(row["client"], "127.0.0.1");
        assert!(
            row["at"].is_string() && row["request_id"].is_string(),
            "{row}"
        );
    }
    let [put, patch, restock, switch] = &all[..] else {
        unreachable!("four")
    };
    assert_eq!(
        (&put["before"], &put["after"]["available"]),
        (&Value::Null, &json!(5))
    );
    assert_eq!(patch["before"]["sale"], Value::Null);
    assert_eq!(patch["after"]["sale"]["max_per_customer"], 2);
    assert_eq!(restock["request_id"], "the-truck");
    let stock = (
        &restock["before"]["available"],
        &restock["after"]["available"],
    );
    assert_eq!(stock, (&json!(5), &json!(8)));
    assert_eq!(
        (&switch["subject"], &switch["after"]["note"]),
        (&json!("sale"), &json!("a fire"))
    );

    let mut database = place.database().await?;
    let actors: Vec<Option<String>> =
        sqlx::query_scalar("select actor from inventory_ledger order by id")
            .fetch_all(&mut database)
            .await?;
    assert_eq!(
        actors,
        [
            Some("admin-token".to_owned()),
            Some("admin-token".to_owned())
        ]
    );
    Ok(())
}

#[tokio::test]
async fn the_record_is_read_page_by_page_and_by_subject_and_by_administrators_alone()
-> anyhow::Result<()> {
    let place = place().await?;
    let ingest = ingest(&place).start().await?;
    let client = ingest.client()?;
    for sku in ["a", "b", "a", "c"] {
        client
            .put_inventory(sku, Product::chairs(5))
            .await?
            .expect_success()?;
    }
    let subjects = |rows: &[Value]| -> Vec<String> {
        let text = |row: &Value| row["subject"].as_str().unwrap_or_default().to_owned();
        rows.iter().map(text).collect()
    };
    assert_eq!(subjects(&rows(&client, "?subject=a").await?), ["a", "a"]);
    let first = client.get("/v1/audit?limit=3").await?.expect(200)?.json()?;
    let next = first["next_after"].as_i64().unwrap_or_default();
    assert_eq!(
        subjects(&rows(&client, &format!("?after={next}")).await?),
        ["c"]
    );
    assert_refused(&client.get("/v1/audit?who=me").await?, 400, "malformed");
    assert_refused(&client.get("/v1/audit?limit=0").await?, 422, "invalid");
    let nobody = Client::new(ingest.address()?)?;
    assert_refused(&nobody.get("/v1/audit").await?, 401, "unauthorized");
    Ok(())
}
