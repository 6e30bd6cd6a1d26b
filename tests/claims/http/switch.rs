//! Claims about the switch for all purchases.

use std::time::Duration;

use chrono::{SecondsFormat, TimeDelta, Utc};
use hotrow_tests::{Client, Process, client::Answer, wait};
use reqwest::Method;
use serde_json::{Value, json};

use super::{
    CHAIR, SOON, assert_accepted, assert_refused, hold_chairs, ingest, place, put_up, settled,
    worker,
};

/// The contract of the switch.
const KNOWN_WITHIN: Duration = Duration::from_secs(1);

async fn turn(client: &Client, switch: Value) -> anyhow::Result<Value> {
    let answer = client
        .send(Method::PUT, "/v1/sale", &[], Some(switch))
        .await?;
    answer.expect(200)?.json()
}

/// Waits until a door answers a purchase with that status.
async fn door(client: &Client, status: u16) -> anyhow::Result<Answer> {
    wait::until(
        &format!("the door to answer {status}"),
        KNOWN_WITHIN,
        async || {
            let answer = client.order("c-1", &[(CHAIR, 1)]).await.ok()?;
            (answer.status == status).then_some(answer)
        },
    )
    .await
}

fn clients(processes: &[Process]) -> anyhow::Result<Vec<Client>> {
    processes.iter().map(Process::client).collect()
}

#[tokio::test]
async fn the_switch_stops_every_process_within_a_second_and_survives_a_restart()
-> anyhow::Result<()> {
    let place = place().await?;
    let settings = ingest(&place);
    let mut processes = [settings.start().await?, settings.start().await?];
    put_up(&processes[0], CHAIR, 100).await?;
    let mut doors = clients(&processes)?;
    let before = assert_accepted(&doors[1].order("c-1", &[(CHAIR, 1)]).await?);
    let keyed = doors[0].order_with_key("c-1", &[(CHAIR, 1)], "k-1").await?;
    let keyed = assert_accepted(&keyed);
    let turned = turn(&doors[0], json!({ "paused": true, "note": "a fire" })).await?;
    let expected = json!({ "paused": true, "holds": "run", "until": null, "note": "a fire" });
    for (name, value) in expected.as_object().into_iter().flatten() {
        assert_eq!(&turned[name], value, "{turned}");
    }
    for client in &doors {
        let refused = door(client, 503).await?;
        assert_refused(&refused, 503, "paused");
        assert_eq!(client.inventory(CHAIR).await?.json()?["state"], "paused");
        assert_eq!(client.get("/v1/sale").await?.expect(200)?.json()?, turned);
    }

    let _worker = worker(&place).start().await?;
    assert_eq!(settled(&doors[0], before).await?["status"], "confirmed");
    settled(&doors[0], keyed).await?;
    processes = [settings.start().await?, settings.start().await?];
    doors = clients(&processes)?;
    for client in &doors {
        let refused = client.order("c-1", &[(CHAIR, 1)]).await?;
        assert_refused(&refused, 503, "paused");
        let again = client.order_with_key("c-1", &[(CHAIR, 1)], "k-1").await?;
        assert_eq!(assert_accepted(&again), keyed);
    }
    turn(&doors[1], json!({ "paused": false })).await?;
    for client in &doors {
        door(client, 202).await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_switch_that_nobody_tells_of_is_found_and_ends_by_itself() -> anyhow::Result<()> {
    let place = place().await?;
    let settings = ingest(&place);
    let processes = [settings.start().await?, settings.start().await?];
    put_up(&processes[0], CHAIR, 100).await?;
    let [client, other] = &clients(&processes)?[..] else {
        unreachable!("two")
    };
    let mut database = place.database().await?;
    sqlx::query("update sale_switch set paused = true, version = version + 1")
        .execute(&mut database)
        .await?;
    for client in [client, other] {
        let refused = door(client, 503).await?;
        assert_refused(&refused, 503, "paused");
    }
    let until = Utc::now() + TimeDelta::seconds(3);
    let text = until.to_rfc3339_opts(SecondsFormat::Millis, true);
    turn(client, json!({ "paused": true, "until": text })).await?;
    let refused = client.order("c-1", &[(CHAIR, 1)]).await?;
    let problem = assert_refused(&refused, 503, "paused");
    assert_eq!(problem["until"], text);
    let left = (until - Utc::now()).to_std().unwrap_or_default();
    for client in [client, other] {
        wait::until("purchases to go on", left + KNOWN_WITHIN, async || {
            let answer = client.order("c-1", &[(CHAIR, 1)]).await.ok()?;
            (answer.status == 202).then_some(())
        })
        .await?;
        assert!(Utc::now() > until - TimeDelta::milliseconds(100));
    }
    assert_eq!(client.get("/v1/sale").await?.json()?["paused"], false);
    Ok(())
}

#[tokio::test]
async fn holds_that_are_kept_do_not_expire_and_are_paid_meanwhile() -> anyhow::Result<()> {
    let place = place().await?;
    let ingest = ingest(&place).set("DEVELOPMENT", "true").start().await?;
    let hasty = worker(&place)
        .set("DEVELOPMENT", "true")
        .set("HOLD_GRACE", "0s");
    let _worker = hasty.start().await?;
    let client = ingest.client()?;
    put_up(&ingest, CHAIR, 5).await?;
    hold_chairs(&client, 5).await?;
    let mut orders = Vec::new();
    for customer in ["c-1", "c-2"] {
        orders.push(assert_accepted(
            &client.order(customer, &[(CHAIR, 1)]).await?,
        ));
    }
    for id in &orders {
        client.settled(*id, 20).await?.expect(200)?;
    }
    turn(&client, json!({ "paused": true, "holds": "keep" })).await?;
    let begun = Utc::now();
    let [paid, left] = orders[..] else {
        unreachable!("two")
    };
    let status = async |id| anyhow::Ok(client.status(id).await?.expect(200)?.json()?);
    let over = begun + TimeDelta::seconds(8);
    while Utc::now() < over {
        for id in [paid, left] {
            assert_eq!(status(id).await?["status"], "reserved");
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    let payment = json!({ "payment_reference": "pi_1" });
    let confirmed = client.ask(paid, "confirm", 20, payment).await?;
    assert_eq!(confirmed.expect(200)?.json()?["status"], "confirmed");
    turn(&client, json!({ "paused": false })).await?;
    wait::until("the other hold to expire", SOON, async || {
        (status(left).await.ok()?["status"] == "expired").then_some(())
    })
    .await
}

#[tokio::test]
async fn who_turns_the_switch_has_the_token_and_says_what_it_can_be() -> anyhow::Result<()> {
    let place = place().await?;
    let ingest = ingest(&place).start().await?;
    let nobody = Client::new(ingest.address()?)?;
    let switch = json!({ "paused": true });
    let refused = nobody
        .send(Method::PUT, "/v1/sale", &[], Some(switch))
        .await?;
    assert_refused(&refused, 401, "unauthorized");
    assert_eq!(
        nobody.get("/v1/sale").await?.expect(200)?.json()?["paused"],
        false
    );
    let client = ingest.client()?;
    for wrong in [json!({}), json!({ "paused": true, "holds": "stop" })] {
        let refused = client
            .send(Method::PUT, "/v1/sale", &[], Some(wrong))
            .await?;
        assert_refused(&refused, 422, "invalid");
    }
    Ok(())
}
