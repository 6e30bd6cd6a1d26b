//! Claims about the stampede in the window.

use serde_json::{Value, json};

use super::{
    super::{SOON, in_browser, looks::look_well},
    Front, part, press, shows,
};

/// Name, what the processes counted and what the database had, of each row of the table.
const COMPARED: &str = "
    return [...document.querySelectorAll('[data-testid=compared]')]
        .map(({ dataset: { name, counted, database } }) => [name, Number(counted), Number(database)])";

#[tokio::test]
async fn the_stampedes_last_numbers_are_those_of_the_database() -> anyhow::Result<()> {
    let front = Front::open(5, json!({ "hold_seconds": 600 })).await?;
    in_browser("window-stampede", &[], async |browser| {
        front.enter(browser).await?;
        // A few, as many as a field of the page lets in.
        let few = format!(
            "const field = {};
             field.value = field.min;
             field.dispatchEvent(new Event('input', {{ bubbles: true }}));
             return Number(field.value)",
            part("buyers")
        );
        let buyers = browser.run(&few, json!([])).await?;
        let buyers = buyers.as_i64().unwrap_or_default();
        press(browser, "begin").await?;
        shows(browser, "stampede", "state", "running").await?;
        for _ in 0..2 {
            // Buyers come for eight seconds, and then everything is counted.
            let is_over = format!("{}.dataset.state !== 'running'", part("stampede"));
            if browser.until(&is_over, SOON).await.is_ok() {
                break;
            }
        }
        shows(browser, "stampede", "state", "over").await?;
        shows(browser, "stampede", "right", "true").await?;
        let rows = browser.run(COMPARED, json!([])).await?;
        let rows = rows.as_array().cloned().unwrap_or_default();
        let counted = |name: &str| {
            let row = rows.iter().find(|row| row[0] == name);
            row.and_then(|row| row[1].as_i64()).unwrap_or(-1)
        };
        for row in &rows {
            assert_eq!(row[1], row[2], "{row}");
        }
        let database: (i64, i64, i64) = sqlx::query_as(
            "select count(*), count(*) filter (where status = 'confirmed'),
                    (select count(*) from inventory_ledger where kind = 'settlement')
             from orders where alias_of is null",
        )
        .fetch_one(&front.shop.books.database)
        .await?;
        let shown = (
            counted("settled"),
            counted("confirmed"),
            counted("row_writes"),
        );
        assert_eq!(shown, database);
        assert!(shown.1 >= buyers, "each may have one: {shown:?}");
        let left = browser
            .run(&format!("return {}.dataset.value", part("left")), json!([]))
            .await?;
        let left: Option<i64> = left.as_str().and_then(|left| left.parse().ok());
        let stampede: i64 =
            sqlx::query_scalar("select available from inventory where sku like 'stampede-%'")
                .fetch_one(&front.shop.books.database)
                .await?;
        assert_eq!(left, Some(stampede));
        browser
            .run(
                "document.querySelector('details.points').open = true",
                Value::Null,
            )
            .await?;
        browser
            .until(
                "document.querySelectorAll('details.points tbody tr').length > 1",
                SOON,
            )
            .await?;
        look_well(browser, "window-stampede").await?;
        front.shop.books.books(&[]).await.map(drop)
    })
    .await
}
