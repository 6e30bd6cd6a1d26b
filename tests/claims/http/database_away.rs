//! Claims about a database that is gone: the sale goes on, what is known is told, and what is not is
//! said to be unavailable.

use hotrow_tests::{Mode, Proxy, client::Product, wait};
use serde_json::json;

use super::{
    CHAIR, SOON, assert_accepted, assert_refused, ingest, place, put_up, readiness, settled, worker,
};

#[tokio::test]
async fn without_the_database_purchases_are_accepted_and_known_outcomes_told() -> anyhow::Result<()>
{
    let place = place().await?;
    let database = Proxy::in_front_of(&place.database_url).await?;
    let ingest = ingest(&place).set("DATABASE_URL", database.url(&place.database_url)?);
    let (ingest, worker) = (ingest.start().await?, worker(&place).start().await?);
    put_up(&ingest, CHAIR, 10).await?;
    let client = ingest.client()?;
    let known = assert_accepted(&client.order("c-1", &[(CHAIR, 1)]).await?);
    let document = settled(&client, known).await?;

    database.set(Mode::Refuse).await?;
    assert_eq!(client.status(known).await?.expect(200)?.json()?, document);
    // The worker has its database, and the news come over the broker.
    let bought = assert_accepted(&client.order_with_key("c-2", &[(CHAIR, 1)], "k").await?);
    wait::until("news of an order", SOON, async || {
        let answer = client.status(bought).await.ok()?;
        (answer.status == 200 && answer.json().ok()?["status"] == "confirmed").then_some(())
    })
    .await?;
    worker.terminate()?;
    readiness(&ingest, 200).await?;

    // Nobody settles this one: only the database could say so.
    let waiting = {
        let mut worker = worker;
        worker.ended(SOON).await?;
        assert_accepted(&client.order("c-3", &[(CHAIR, 1)]).await?)
    };
    let ids = format!("/v1/orders?ids={known},{waiting}");
    let status = format!("/v1/orders/{waiting}");
    let (unknown, several, shown, listed, put) = tokio::try_join!(
        client.get(&status),
        client.get(&ids),
        client.inventory("never-looked-at"),
        client.get("/v1/inventory"),
        client.put_inventory("table", Product::chairs(1)),
    )?;
    for answer in [unknown, several, shown, listed, put] {
        assert_refused(&answer, 503, "unavailable");
    }

    database.set(Mode::Pass).await?;
    wait::until("the database to be asked again", SOON, async || {
        let answer = client.get(&status).await.ok()?;
        (answer.status == 200).then_some(())
    })
    .await?;
    let several = client.get(&ids).await?.expect(200)?.json()?;
    assert_eq!(several["orders"][0], document);
    assert_eq!(several["orders"][1]["status"], json!("queued"));
    put_up(&ingest, "table", 1).await
}
