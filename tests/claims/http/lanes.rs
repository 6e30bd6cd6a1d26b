//! Claims about lanes: an order does not wait for ever behind an envelope that the broker does not
//! confirm.

use std::time::Duration;

use hotrow_tests::{Mode, Proxy, wait};
use tokio::time::timeout;

use super::{
    CHAIR, SOON, assert_accepted, assert_refused, envelopes, ingest, place, put_up, settled, worker,
};

#[tokio::test]
async fn an_order_behind_an_envelope_that_is_not_confirmed_is_refused_before_its_confirm_is_overdue()
-> anyhow::Result<()> {
    let place = place().await?;
    let broker = Proxy::in_front_of(&place.amqp_url).await?;
    let ingest = ingest(&place)
        .set("AMQP_URL", broker.url(&place.amqp_url)?)
        .start()
        .await?;
    put_up(&ingest, CHAIR, 10).await?;
    let client = ingest.client()?;
    assert_accepted(&client.order("c-0", &[(CHAIR, 1)]).await?);

    broker.set(Mode::Stall).await?;
    let mut on_its_way = tokio::spawn({
        let client = client.clone();
        async move { client.order("c-1", &[(CHAIR, 1)]).await }
    });
    // The envelope has left when this much has passed; one that had not would be refused below, too.
    let none = timeout(Duration::from_millis(500), &mut on_its_way).await;
    assert!(none.is_err(), "the broker has confirmed nothing");
    let behind = client.order("c-2", &[(CHAIR, 1)]).await?;
    assert!(!on_its_way.is_finished(), "the confirm is not overdue yet");
    assert_refused(&behind, 503, "overloaded");
    assert_refused(&on_its_way.await??, 503, "outcome_unknown");

    // What was refused reaches no queue, however late.
    broker.set(Mode::Pass).await?;
    let last = wait::until("an order to be accepted", SOON, async || {
        let answer = client.order("c-3", &[(CHAIR, 1)]).await.ok()?;
        (answer.status == 202).then(|| assert_accepted(&answer))
    })
    .await?;
    let queued = envelopes(&place).await?;
    assert!((2..=3).contains(&queued), "{queued}");
    let _worker = worker(&place).start().await?;
    settled(&client, last).await?;
    let mut database = place.database().await?;
    assert_eq!(super::orders_of(&mut database, "c-2").await?, 0);
    Ok(())
}
