//! Claims about selling out and restocking: the crowd is refused at the door, and let in again within
//! a second.

use std::time::{Duration, Instant};

use hotrow_tests::{Client, Mode, Proxy, wait};
use sqlx::{Connection, Executor, PgConnection};

use super::{
    CHAIR, SOON, assert_accepted, assert_refused, ingest, place, put_up, settled, stock, worker,
};

/// The contract of a restock.
const REOPENED_WITHIN: Duration = Duration::from_secs(1);

#[tokio::test]
async fn a_restock_reopens_a_sold_out_sku_at_every_process_within_a_second() -> anyhow::Result<()> {
    let place = place().await?;
    let settings = ingest(&place);
    let (here, there, _worker) = (
        settings.start().await?,
        settings.start().await?,
        worker(&place).start().await?,
    );
    put_up(&here, CHAIR, 1).await?;
    put_up(&here, "table", 5).await?;
    let (here, there) = (here.client()?, there.client()?);
    sell_out(&here, &there, 1).await?;
    // A cart is refused for one of its items, and the others are for sale.
    let cart = here.order("c-2", &[("table", 1), (CHAIR, 1)]).await?;
    let refused = assert_refused(&cart, 409, "sold_out");
    assert!(
        refused["detail"]
            .as_str()
            .is_some_and(|detail| detail.contains(CHAIR)),
        "{refused}"
    );
    assert_accepted(&there.order("c-2", &[("table", 1)]).await?);

    here.restock(CHAIR, 2, None).await?.expect(200)?;
    reopened(&here, &there).await?;
    sell_out(&here, &there, 0).await?;

    let product = hotrow_tests::client::Product::chairs(2);
    there.put_inventory(CHAIR, product).await?.expect(200)?;
    reopened(&here, &there).await?;
    sell_out(&here, &there, 0).await?;

    // By hand, so that there is no news of it.
    let mut database = place.database().await?;
    database
        .execute(
            "begin;
             update inventory set available = 2, version = version + 1 where sku = 'chair';
             insert into inventory_ledger (sku, kind, delta, balance) values ('chair', 'restock', 2, 2);
             commit",
        )
        .await?;
    reopened(&here, &there).await
}

#[tokio::test]
async fn a_restock_is_of_unknown_outcome_if_its_commit_was_not_answered_and_only_then()
-> anyhow::Result<()> {
    let place = place().await?;
    let proxy = Proxy::in_front_of(&place.database_url).await?;
    let database_url = proxy.url(&place.database_url)?;
    let ingest = ingest(&place)
        .set("DATABASE_URL", database_url)
        .start()
        .await?;
    put_up(&ingest, CHAIR, 1).await?;
    let client = ingest.client()?;
    let mut database = place.database().await?;

    // Cut off while it waits for its row: surely not made.
    let mut holder = place.database().await?;
    let mut held = holder.begin().await?;
    held.execute("select from inventory where sku = 'chair' for update")
        .await?;
    let cut = async {
        asked(&mut database, "%for no key update%").await?;
        proxy.set(Mode::Refuse).await
    };
    let (answer, ()) = tokio::try_join!(client.restock(CHAIR, 5, None), cut)?;
    assert_refused(&answer, 503, "unavailable");
    held.rollback().await?;
    assert_eq!(stock(&mut database, CHAIR).await?.available, 1);
    proxy.set(Mode::Pass).await?;

    // Cut off while it is being committed: that cannot be known.
    database
        .execute(
            "create function slowly() returns trigger language plpgsql as
                 $$ begin perform pg_sleep(3); return null; end $$;
             create constraint trigger slowly after update on inventory deferrable initially deferred
                 for each row execute function slowly()",
        )
        .await?;
    let cut = async {
        asked(&mut database, "COMMIT%").await?;
        proxy.set(Mode::Refuse).await
    };
    // A connection that the first cut has broken may come up once more, and then nothing was done.
    let restocked = wait::until("a restock to get so far", SOON, async || {
        let answer = client.restock(CHAIR, 5, None).await.ok()?;
        (answer.code().as_deref() != Some("unavailable")).then_some(answer)
    });
    let (answer, ()) = tokio::try_join!(restocked, cut)?;
    let body = answer.json()?;
    assert_eq!(answer.status, 503, "{body}");
    assert_eq!(body["code"], "outcome_unknown", "{body}");
    wait::until(
        "the change to be committed all the same",
        SOON,
        async || {
            let stock = stock(&mut database, CHAIR).await.ok()?;
            (stock.available == 6 && stock.ledger == 6).then_some(())
        },
    )
    .await
}

/// Waits until an ingest process's statement of that form is being worked on.
async fn asked(database: &mut PgConnection, like: &str) -> anyhow::Result<()> {
    let asked = "select exists (
            select from pg_stat_activity
            where datname = current_database() and application_name like 'hotrow-ingest%'
              and state = 'active' and query ilike $1
        )";
    wait::until(like, SOON, async || {
        let asked = sqlx::query_scalar(asked).bind(like);
        let asked = asked.fetch_one(&mut *database).await;
        asked.is_ok_and(|asked: bool| asked).then_some(())
    })
    .await
}

/// Buys what is left, and waits until both doors are closed.
async fn sell_out(here: &Client, there: &Client, left: u32) -> anyhow::Result<()> {
    if left > 0 {
        let last = assert_accepted(&here.order("c-1", &[(CHAIR, left)]).await?);
        settled(here, last).await?;
    }
    for client in [here, there] {
        wait::until("the door to be closed", SOON, async || {
            let late = client.order("c-1", &[(CHAIR, 1)]).await.ok()?;
            (late.code()? == "sold_out").then_some(())
        })
        .await?;
    }
    Ok(())
}

/// Checks that both doors are open within a second from now; one piece is bought at each.
async fn reopened(here: &Client, there: &Client) -> anyhow::Result<()> {
    let restocked = Instant::now();
    for client in [here, there] {
        let left = REOPENED_WITHIN.saturating_sub(restocked.elapsed());
        wait::until("the door to be open", left, async || {
            let answer = client.order("c-1", &[(CHAIR, 1)]).await.ok()?;
            (answer.status == 202).then_some(())
        })
        .await?;
    }
    Ok(())
}
