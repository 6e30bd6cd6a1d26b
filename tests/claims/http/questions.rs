//! Claims about questions: each ends in time, whatever the database does, and none keeps another from
//! its answer.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use futures_util::future::{join_all, try_join_all};
use hotrow_shared::id::IdMint;
use hotrow_tests::{Client, Mode, Place, Process, Proxy, processes::ORDER_ID_SECRET, wait};
use sqlx::Connection;
use tokio::time::{Instant, timeout};
use uuid::Uuid;

use super::{
    CHAIR, SOON, assert_accepted, assert_refused, envelopes, ingest, place, put_up, settled, worker,
};

/// A question ends within two seconds. The rest is for a machine that does other things, too; without a
/// bound a question would take five seconds or more.
const QUESTION_MAX: Duration = Duration::from_secs(4);

/// Ids of orders that nobody placed, as this installation would mint them.
fn minted(count: usize) -> Vec<Uuid> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let now_ms = now.map_or(0, |now| u64::try_from(now.as_millis()).unwrap_or_default());
    let mint = IdMint::new(ORDER_ID_SECRET, None);
    (0..count).map(|_| mint.mint(now_ms).uuid()).collect()
}

/// An ingest process whose database can be taken away.
async fn ingest_behind_proxy(place: &Place) -> anyhow::Result<(Process, Proxy)> {
    let database = Proxy::in_front_of(&place.database_url).await?;
    let ingest = ingest(place)
        .set("DATABASE_URL", database.url(&place.database_url)?)
        .set("CONNECTIONS_PER_ADDRESS_MAX", "10000");
    Ok((ingest.start().await?, database))
}

async fn poll(client: &Client, id: Uuid) -> anyhow::Result<()> {
    let answer = client.status(id).await?;
    assert_refused(&answer, 503, "unavailable");
    Ok(())
}

#[tokio::test]
async fn a_poll_ends_in_time_when_the_database_is_gone_and_when_it_hangs() -> anyhow::Result<()> {
    let place = place().await?;
    let (ingest, database) = ingest_behind_proxy(&place).await?;
    let client = ingest.client()?;
    let ids = minted(2);
    for mode in [Mode::Refuse, Mode::Stall] {
        client.status(ids[0]).await?.expect(200)?;
        database.set(mode).await?;
        timeout(QUESTION_MAX, poll(&client, ids[0])).await??;
        let several = timeout(QUESTION_MAX, client.statuses(&ids)).await??;
        assert_refused(&several, 503, "unavailable");
        database.set(Mode::Pass).await?;
        wait::until("the database to be asked again", SOON, async || {
            let answer = client.status(ids[0]).await.ok()?;
            (answer.status == 200).then_some(())
        })
        .await?;
    }
    Ok(())
}

#[tokio::test]
async fn five_thousand_polls_at_once_end_together_when_the_database_hangs() -> anyhow::Result<()> {
    /// For a machine that does other things, too.
    const ALL_MAX: Duration = Duration::from_mins(1);
    let place = place().await?;
    let (ingest, database) = ingest_behind_proxy(&place).await?;
    database.set(Mode::Stall).await?;
    let client = ingest.client()?;
    let polls = minted(5_000).into_iter().map(|id| {
        let client = client.clone();
        async move { poll(&client, id).await }
    });
    timeout(ALL_MAX, try_join_all(polls)).await??;
    // One after the other, a thousand in a query, most would take longer by far.
    let in_time = ingest.metrics().await?.sum(
        "hotrow_http_request_duration_seconds_bucket",
        &[("status", "503"), ("le", "5")],
    );
    assert!(in_time > 4_500.0, "{in_time}");
    database.set(Mode::Pass).await?;
    let other = minted(1)[0];
    wait::until("the next poll to be answered", SOON, async || {
        let answer = client.status(other).await.ok()?;
        (answer.status == 200).then_some(())
    })
    .await
}

#[tokio::test]
async fn a_wait_ends_a_second_after_its_time_when_the_database_hangs() -> anyhow::Result<()> {
    let place = place().await?;
    let (ingest, database) = ingest_behind_proxy(&place).await?;
    let client = ingest.client()?;
    let id = minted(1)[0];
    database.set(Mode::Stall).await?;
    for seconds in [0, 1, 3] {
        let path = format!("/v1/orders/{id}?wait={seconds}");
        let started = Instant::now();
        let answer = timeout(
            QUESTION_MAX + Duration::from_secs(seconds),
            client.get(&path),
        );
        assert_refused(&answer.await??, 503, "unavailable");
        assert!(
            started.elapsed() >= Duration::from_secs(seconds),
            "{seconds}"
        );
    }
    Ok(())
}

#[tokio::test]
async fn a_keyed_purchase_of_a_sold_out_product_waits_outside_while_its_past_is_not_known()
-> anyhow::Result<()> {
    let place = place().await?;
    let (ingest, database) = ingest_behind_proxy(&place).await?;
    let client = ingest.client()?;
    put_up(&ingest, CHAIR, 0).await?;
    for mode in [Mode::Refuse, Mode::Stall] {
        database.set(mode).await?;
        let keyed = client.order_with_key("c-1", &[(CHAIR, 1)], "never-seen");
        let refused = timeout(QUESTION_MAX, keyed).await??;
        assert_refused(&refused, 503, "unavailable");
        let unkeyed = client.order("c-1", &[(CHAIR, 1)]).await?;
        assert_refused(&unkeyed, 409, "sold_out");
        database.set(Mode::Pass).await?;
    }
    assert_eq!(envelopes(&place).await?, 0);
    wait::until("the past to be looked up", SOON, async || {
        let keyed = client.order_with_key("c-1", &[(CHAIR, 1)], "never-seen");
        (keyed.await.ok()?.status == 409).then_some(())
    })
    .await
}

#[tokio::test]
async fn readers_of_the_inventory_and_administrators_do_not_keep_polls_from_their_answers()
-> anyhow::Result<()> {
    let place = place().await?;
    let ingest = ingest(&place).start().await?;
    let client = ingest.client()?;
    put_up(&ingest, CHAIR, 1).await?;
    let mut database = place.database().await?;
    let mut lock = database.begin().await?;
    sqlx::query("lock table inventory in access exclusive mode")
        .execute(&mut *lock)
        .await?;
    // More than the process may have connections.
    let reads = (0..30).map(|number| {
        let client = client.clone();
        async move { client.inventory(&format!("product-{number}")).await }
    });
    let reads = tokio::spawn(join_all(reads));
    wait::until("the readers to wait for the lock", SOON, async || {
        let mut database = place.database().await.ok()?;
        let waiting = "select count(*) from pg_locks where not granted and locktype = 'relation'
                       and database = (select oid from pg_database where datname = current_database())";
        let waiting: i64 = sqlx::query_scalar(waiting).fetch_one(&mut database).await.ok()?;
        (waiting >= 5).then_some(())
    })
    .await?;
    for id in minted(5) {
        let answer = timeout(QUESTION_MAX, client.status(id)).await??;
        assert_eq!(answer.json()?["status"], "queued");
    }
    lock.rollback().await?;
    reads.await?;
    Ok(())
}

#[tokio::test]
async fn many_who_wait_for_one_order_hear_of_it_together() -> anyhow::Result<()> {
    let place = place().await?;
    let ingest = ingest(&place).start().await?;
    put_up(&ingest, CHAIR, 10).await?;
    let client = ingest.client()?;
    let id = assert_accepted(&client.order("c-1", &[(CHAIR, 1)]).await?);
    let waits = (0..500).map(|_| {
        let client = client.clone();
        async move { client.settled(id, 20).await }
    });
    let waits = tokio::spawn(try_join_all(waits));
    let worker = worker(&place).start().await?;
    for answer in waits.await?? {
        assert_eq!(answer.json()?["status"], "confirmed");
    }
    drop(worker);
    Ok(())
}

#[tokio::test]
async fn a_wait_for_several_orders_ends_when_all_of_them_are_settled_or_the_time_is_over()
-> anyhow::Result<()> {
    let place = place().await?;
    let ingest = ingest(&place).start().await?;
    put_up(&ingest, CHAIR, 2).await?;
    let client = ingest.client()?;
    let mut ids = Vec::new();
    for _ in 0..3 {
        ids.push(assert_accepted(&client.order("c-1", &[(CHAIR, 1)]).await?));
    }
    let statuses = |answer: &hotrow_tests::client::Answer| -> anyhow::Result<Vec<String>> {
        let orders = answer.json()?["orders"].clone();
        let orders = orders.as_array().cloned().unwrap_or_default();
        Ok(orders
            .iter()
            .map(|order| order["status"].as_str().unwrap_or_default().to_owned())
            .collect())
    };
    let path = |seconds| {
        let ids: Vec<_> = ids.iter().map(Uuid::to_string).collect();
        format!("/v1/orders?ids={}&wait={seconds}", ids.join(","))
    };
    let in_vain = client.get(&path(1)).await?.expect(200)?;
    assert_eq!(statuses(&in_vain)?, ["queued"; 3]);

    let waiting = tokio::spawn({
        let (client, path) = (client.clone(), path(20));
        async move { client.get(&path).await }
    });
    let _worker = worker(&place).start().await?;
    let all = waiting.await??.expect(200)?;
    assert_eq!(statuses(&all)?, ["confirmed", "confirmed", "rejected"]);
    settled(&client, ids[0]).await?;
    Ok(())
}

#[tokio::test]
async fn a_wait_or_a_parameter_that_cannot_be_read_is_refused() -> anyhow::Result<()> {
    let place = place().await?;
    let ingest = ingest(&place).start().await?;
    let client = ingest.client()?;
    let id = minted(1)[0];
    for query in ["wait=soon", "wait=", "wait=-1", "wait=1&wait=1", "weight=1"] {
        for path in [
            format!("/v1/orders/{id}?{query}"),
            format!("/v1/orders?ids={id}&{query}"),
        ] {
            assert_refused(&client.get(&path).await?, 400, "malformed");
        }
    }
    let twice = client.get(&format!("/v1/orders?ids={id}&ids={id}")).await?;
    assert_refused(&twice, 400, "malformed");
    Ok(())
}
