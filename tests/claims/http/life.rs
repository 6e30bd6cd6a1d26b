//! Claims about the life of an order as a shop sees it: real processes from the door to the table.

use std::collections::{BTreeMap, BTreeSet};

use futures_util::future::try_join_all;
use hotrow_tests::{Client, Place, client::Answer, law::Verdict, wait};
use serde_json::{Value, json};
use sqlx::PgConnection;
use uuid::Uuid;

use super::{
    CHAIR, SOON, assert_accepted, assert_refused, hold_chairs, ingest, place, put_up, settled,
    worker,
};

async fn order(client: &Client, customer: &str) -> anyhow::Result<Uuid> {
    Ok(assert_accepted(
        &client.order(customer, &[(CHAIR, 1)]).await?,
    ))
}

async fn pay(client: &Client, id: Uuid, reference: &str) -> anyhow::Result<Answer> {
    let payment =
        json!({ "payment_reference": reference, "amount_minor": 4990, "currency": "EUR" });
    client.ask(id, "confirm", 20, payment).await
}

/// Where an order stands, in the words of its document.
fn stands(document: &Value) -> (&str, i64) {
    let status = document["status"].as_str().unwrap_or_default();
    (status, document["revision"].as_i64().unwrap_or_default())
}

async fn books(place: &Place) -> anyhow::Result<Verdict> {
    let verdict = Verdict::read(&mut place.database().await?, &[]).await?;
    anyhow::ensure!(verdict.holds(), "{verdict}");
    Ok(verdict)
}

#[tokio::test]
async fn an_order_is_held_paid_and_told_at_each_step() -> anyhow::Result<()> {
    let place = place().await?;
    let ingest = ingest(&place).start().await?;
    let _worker = worker(&place).start().await?;
    let client = ingest.client()?;
    put_up(&ingest, CHAIR, 2).await?;
    hold_chairs(&client, 600).await?;
    let id = order(&client, "c-1").await?;
    let reserved = settled(&client, id).await?;
    assert_eq!(stands(&reserved), ("reserved", 1));
    assert!(reserved["expires_at"].is_string(), "{reserved}");

    let answer = pay(&client, id, "pi_1").await?.expect(200)?;
    assert_eq!(answer.header("etag"), Some("\"2\""));
    let paid = answer.json()?;
    assert_eq!(stands(&paid), ("confirmed", 2));
    assert_eq!(paid["payment_reference"], "pi_1");
    assert_eq!(paid["expires_at"], Value::Null);
    let again = pay(&client, id, "pi_1").await?.expect(200)?.json()?;
    assert_eq!(again, paid, "the same again changes nothing");

    let second = pay(&client, id, "pi_2").await?;
    let problem = assert_refused(&second, 409, "conflict");
    assert_eq!(
        (&problem["unmatched"], &problem["order"]),
        (&json!(true), &paid)
    );
    let listed = client.get("/v1/payments/unmatched").await?.expect(200)?;
    let listed = listed.json()?;
    let lines = listed["payments"].as_array().map(Vec::len);
    assert_eq!(lines, Some(1), "{listed}");
    assert_eq!(listed["payments"][0]["why"], "paid_by_another");

    let damaged = json!({ "reason": "damaged", "restock": false });
    let cancelled = client.ask(id, "cancel", 20, damaged);
    let cancelled = cancelled.await?.expect(200)?.json()?;
    assert_eq!(stands(&cancelled), ("cancelled", 3));
    assert_eq!(
        (&cancelled["reason"], &cancelled["restocked"]),
        (&json!("damaged"), &json!(false))
    );
    let late = client
        .ask(id, "extend", 20, json!({ "seconds": 60 }))
        .await?;
    let problem = assert_refused(&late, 409, "conflict");
    assert_eq!(stands(&problem["order"]), ("cancelled", 3));
    let history = client.get(&format!("/v1/orders/{id}/changes")).await?;
    let history = history.expect(200)?.json()?;
    let lines = history["changes"].as_array().into_iter().flatten();
    let lines: Vec<_> = lines.map(stands).collect();
    assert_eq!(lines, [("reserved", 1), ("confirmed", 2), ("cancelled", 3)]);
    assert_eq!(history["changes"][1]["actor"], "admin-token");
    books(&place).await?;
    Ok(())
}

#[tokio::test]
async fn confirm_and_cancel_at_the_same_instant_from_50_clients_at_two_processes_leave_one_history()
-> anyhow::Result<()> {
    const ORDERS: usize = 10;
    const CLIENTS: usize = 50;
    let place = place().await?;
    let (first, second) = (ingest(&place).start().await?, ingest(&place).start().await?);
    let _worker = worker(&place).start().await?;
    put_up(&first, CHAIR, ORDERS.try_into()?).await?;
    hold_chairs(&first.client()?, 600).await?;
    let processes = [first, second];
    let clients = (0..CLIENTS).map(|number| processes[number % 2].client());
    let clients: Vec<_> = clients.collect::<anyhow::Result<_>>()?;
    let mut database = place.database().await?;
    for _ in 0..ORDERS {
        let id = order(&clients[0], "c-1").await?;
        assert_eq!(stands(&settled(&clients[1], id).await?), ("reserved", 1));
        let race = clients.iter().enumerate().map(async |(number, client)| {
            // At each process 12 or 13 pay and as many cancel, and there are two payments.
            let reference = (number / 2 % 2 == 0).then_some(["pi_1", "pi_2"][number / 4 % 2]);
            let answer = match reference {
                Some(reference) => pay(client, id, reference).await?,
                None => client.ask(id, "cancel", 20, json!({})).await?,
            };
            anyhow::Ok((reference, answer))
        });
        let answers = try_join_all(race).await?;
        let history = clients[0].get(&format!("/v1/orders/{id}/changes")).await?;
        assert_one_history(&history.expect(200)?.json()?, &answers)?;
        assert_unmatched(&mut database, id, &answers).await?;
    }
    // All are cancelled with their goods, so each came back once.
    let verdict = books(&place).await?;
    assert_eq!(verdict.accounts[0].available, i64::try_from(ORDERS)?);
    let released = "select sum(released)::bigint from inventory_ledger";
    let released: i64 = sqlx::query_scalar(released)
        .fetch_one(&mut database)
        .await?;
    assert_eq!(released, i64::try_from(ORDERS)?);
    Ok(())
}

/// What was asked, a payment by its reference or a cancellation, and the answer.
type Asked = (Option<&'static str>, Answer);

/// Checks that each answer shows an order that existed, and all of one revision the same.
fn assert_one_history(history: &Value, answers: &[Asked]) -> anyhow::Result<()> {
    let lines: Vec<_> = history["changes"]
        .as_array()
        .into_iter()
        .flatten()
        .collect();
    let ends: Vec<_> = lines.iter().map(|line| stands(line)).collect();
    let paid = [("reserved", 1), ("confirmed", 2), ("cancelled", 3)];
    let unpaid = [("reserved", 1), ("cancelled", 2)];
    assert!(ends == paid || ends == unpaid, "{history}");
    let mut shown = BTreeMap::new();
    for (reference, answer) in answers {
        let body = answer.json()?;
        let document = if answer.status == 200 {
            body.clone()
        } else {
            assert_refused(answer, 409, "conflict")["order"].clone()
        };
        let (status, revision) = stands(&document);
        let line = lines.iter().find(|line| line["revision"] == revision);
        let line = line.unwrap_or_else(|| panic!("{document} is not of {history}"));
        assert_eq!(
            [&line["status"], &line["reason"], &line["at"]],
            [
                &document["status"],
                &document["reason"],
                &document["updated_at"]
            ]
        );
        match reference {
            Some(reference) if answer.status == 200 => {
                assert_eq!(document["payment_reference"], *reference, "{document}");
            }
            Some(_) => assert_eq!(body["unmatched"], true, "{body}"),
            None => assert_eq!((answer.status.as_u16(), status), (200, "cancelled")),
        }
        let first = shown.entry(revision).or_insert_with(|| document.clone());
        assert_eq!(*first, document);
    }
    Ok(())
}

/// Checks that a payment either paid for all who told of it, or is unmatched for all of them, once.
async fn assert_unmatched(
    database: &mut PgConnection,
    id: Uuid,
    answers: &[Asked],
) -> anyhow::Result<()> {
    let references = "select payment_reference from unmatched_payments where order_id = $1
                      order by payment_reference";
    let unmatched: Vec<String> = sqlx::query_scalar(references)
        .bind(id.to_string())
        .fetch_all(database)
        .await?;
    let told = answers
        .iter()
        .filter_map(|(reference, answer)| Some(((*reference)?, answer.status.as_u16())));
    let told: BTreeSet<_> = told.collect();
    let mut expected: Vec<_> = ["pi_1", "pi_2"].map(|it| (it, 200)).into();
    for told in &mut expected {
        if unmatched.iter().any(|reference| reference == told.0) {
            told.1 = 409;
        }
    }
    assert_eq!(told.into_iter().collect::<Vec<_>>(), expected);
    assert!(unmatched.len() <= 2, "{unmatched:?}");
    Ok(())
}

#[tokio::test]
async fn held_goods_go_round_until_they_are_paid_and_never_to_more_buyers_than_there_are()
-> anyhow::Result<()> {
    const UNITS: i64 = 40;
    const BUYERS: usize = 120;
    let place = place().await?;
    let ingest = ingest(&place).start().await?;
    let worker = worker(&place)
        .set("DEVELOPMENT", "true")
        .set("HOLD_GRACE", "0s");
    let _workers = (worker.start().await?, worker.start().await?);
    let client = ingest.client()?;
    put_up(&ingest, CHAIR, UNITS).await?;
    hold_chairs(&client, 2).await?;
    let mut database = place.database().await?;
    let mut confirmed = 0;
    // Nobody pays in the first round, half of them in the second, and all in the third.
    for paid_of_ten in [0, 5, 10] {
        let buyers = (0..BUYERS).map(|_| buy(&client));
        let got: Vec<_> = try_join_all(buyers).await?.into_iter().flatten().collect();
        assert_eq!(
            i64::try_from(got.len())?,
            UNITS - confirmed,
            "each unit is held once"
        );
        books(&place).await?;
        let payers = got
            .iter()
            .enumerate()
            .filter(|(number, _)| number % 10 < paid_of_ten);
        let payments = payers.map(|(_, id)| pay(&client, *id, "pi_1"));
        for answer in try_join_all(payments).await? {
            answer.expect(200)?;
            confirmed += 1;
        }
        wait::until("what was not paid to come back", SOON, async || {
            let left = "select available from inventory where held = 0";
            let left: Option<i64> = sqlx::query_scalar(left)
                .fetch_optional(&mut database)
                .await
                .ok()?;
            (left == Some(UNITS - confirmed)).then_some(())
        })
        .await?;
        // An order of more than there is passes a door that is open, and gets nothing.
        let too_many = u32::try_from(UNITS)? + 1;
        wait::until("the door to open again", SOON, async || {
            let answer = client.order("c-1", &[(CHAIR, too_many)]).await.ok()?;
            (confirmed == UNITS || answer.status == 202).then_some(())
        })
        .await?;
    }
    assert_eq!(confirmed, UNITS);
    books(&place).await?;
    Ok(())
}

/// Buys a chair; none if there is none.
async fn buy(client: &Client) -> anyhow::Result<Option<Uuid>> {
    let answer = client.order("c-1", &[(CHAIR, 1)]).await?;
    if answer.status == 409 {
        return Ok(None);
    }
    let id = assert_accepted(&answer);
    let document = settled(client, id).await?;
    Ok((document["status"] == "reserved").then_some(id))
}
