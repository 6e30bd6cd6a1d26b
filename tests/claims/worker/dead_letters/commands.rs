//! Claims about what a person does with dead letters.

use std::process::Output;

use hotrow_shared::{envelope::Order, request_id::RequestId};
use serde_json::{Value, json};

use super::{CURSE, all_back, command, list, out};
use crate::worker::shop::{A_WHILE, Shop, counts};

#[tokio::test]
async fn dead_letters_stay_however_often_they_are_listed_and_go_only_on_a_clear_word()
-> anyhow::Result<()> {
    let shop = Shop::open(1).await?;
    shop.publish_bytes(0, b"one").await?;
    shop.publish_bytes(0, b"two").await?;
    let worker = shop.worker().start().await?;
    let malformed = [("reason", "malformed")];
    counts(&worker, "hotrow_dead_letters_total", &malformed, 2).await?;

    let listed = list(&shop, &[]).await?;
    assert_eq!(listed.len(), 2);
    // More often than a quorum queue of RabbitMQ 4 lets a message come back by default.
    for _ in 0..25 {
        assert_eq!(list(&shop, &[]).await?, listed);
    }
    for action in ["replay", "discard"] {
        let vague = command(&shop, &[action]).await?;
        assert!(!vague.status.success(), "{action} of nothing in particular");
        let error = String::from_utf8_lossy(&vague.stderr);
        for option in ["--order-id", "--reason", "--all"] {
            assert!(error.contains(option), "{error}");
        }
        let contradictory = command(&shop, &[action, "--all", "--reason", "malformed"]).await?;
        assert!(!contradictory.status.success());
        let unheard_of = shop.order("c", &[("chair", 1)]).id.to_string();
        let missing = command(&shop, &[action, "--order-id", &unheard_of]).await?;
        assert!(
            !missing.status.success(),
            "{action} of a letter that is not there"
        );
    }
    assert_eq!(list(&shop, &[]).await?, listed);

    // What is no envelope comes straight back from a replay.
    let replayed = command(&shop, &["replay", "--reason", "malformed"]).await?;
    assert_eq!(out(&replayed), "replayed: 2\n");
    counts(&worker, "hotrow_dead_letters_total", &malformed, 4).await?;
    assert_eq!(list(&shop, &[]).await?, listed);
    let discarded = command(&shop, &["discard", "--all"]).await?;
    assert_eq!(out(&discarded), "discarded: 2\n");
    assert_eq!(list(&shop, &[]).await?.len(), 0);
    let none = command(&shop, &["discard", "--all"]).await?;
    assert!(none.status.success());
    assert_eq!(out(&none), "discarded: 0\n");
    Ok(())
}

#[tokio::test]
async fn what_a_person_does_with_a_letter_is_on_record_with_its_request_or_not_done()
-> anyhow::Result<()> {
    let shop = Shop::open(1).await?;
    shop.stock("chair", 10).await?;
    shop.sql(CURSE).await?;
    let mut orders = ["one", "two"].map(|request| {
        let request = RequestId::try_from(request.to_owned().into_boxed_str());
        let mut order = shop.order("cursed", &[("chair", 1)]);
        order.request_id = request.ok();
        order
    });
    orders.sort_by_key(|order| order.id.uuid());
    shop.publish(&orders).await?;
    let (worker, ingest) = (shop.worker(), shop.ingest());
    let (worker, ingest) = tokio::try_join!(worker.start(), ingest.start())?;
    shop.settled(&orders, A_WHILE).await?;
    let client = ingest.client()?;
    let record = async || -> anyhow::Result<Vec<Value>> {
        let mut rows = Vec::new();
        for order in &orders {
            let path = format!("/v1/audit?subject={}", order.id);
            let mut page = client.get(&path).await?.expect(200)?.json()?;
            rows.extend(page["audit"].take().as_array().cloned().unwrap_or_default());
        }
        Ok(rows)
    };
    let reasons = async || -> anyhow::Result<Vec<Option<String>>> {
        let reasons = sqlx::query_scalar("select reason from orders order by order_id");
        Ok(reasons.fetch_all(&shop.database).await?)
    };
    let failed = vec![Some("dead_lettered".to_owned()); 2];
    assert_eq!(reasons().await?, failed);

    // What cannot be recorded is not done.
    shop.sql(
        "create function refuse_record() returns trigger language plpgsql as
             $$ begin raise exception 'no record'; end $$;
         create trigger unrecorded before insert on audit_log for each row execute function refuse_record();
         update orders set reason = 'replayed'",
    )
    .await?;
    let replayed = [Some("replayed".to_owned()), Some("replayed".to_owned())];
    let discarded = command(&shop, &["discard", "--all"]).await?;
    assert!(!discarded.status.success());
    assert_eq!(reasons().await?, replayed);
    shop.sql("update orders set reason = 'dead_lettered'")
        .await?;
    all_back(&shop, 2).await?;
    let refused = command(&shop, &["replay", "--all"]).await?;
    assert!(!refused.status.success());
    assert_eq!(reasons().await?, failed);
    all_back(&shop, 2).await?;
    assert_eq!(record().await?, Vec::<Value>::new());

    shop.sql("drop trigger unrecorded on audit_log; update orders set reason = 'replayed'")
        .await?;
    let [first, second] = orders.each_ref().map(|order| order.id.to_string());
    let discarded = command(&shop, &["discard", "--order-id", &first]).await?;
    assert_eq!(out(&discarded), "discarded: 1\n");
    assert_eq!(reasons().await?, [failed[0].clone(), replayed[1].clone()]);
    all_back(&shop, 1).await?;
    let again = command(&shop, &["replay", "--order-id", &second]).await?;
    assert_eq!(out(&again), "replayed: 1\n");
    let rows = record().await?;
    let shown: Vec<_> = rows
        .iter()
        .map(|row| (&row["action"], &row["subject"], &row["request_id"]))
        .collect();
    let request = |order: &Order| json!(order.request_id.as_ref().map(RequestId::as_str));
    assert_eq!(
        shown,
        [
            (
                &json!("dead_letter.discard"),
                &json!(first),
                &request(&orders[0])
            ),
            (
                &json!("dead_letter.replay"),
                &json!(second),
                &request(&orders[1])
            ),
        ]
    );
    for row in &rows {
        assert_eq!(row["role"], "admin");
        assert!(row["actor"].is_string(), "{row}");
        assert_eq!(row["before"]["reason"], "refused");
    }
    drop(worker);
    Ok(())
}

#[tokio::test]
async fn a_filter_that_matches_nothing_or_nothing_known_says_so() -> anyhow::Result<()> {
    let shop = Shop::open(1).await?;
    let said = |output: &Output| String::from_utf8_lossy(&output.stderr).into_owned();
    for action in ["list", "replay", "discard"] {
        let unknown = command(&shop, &[action, "--reason", "refusd"]).await?;
        assert!(!unknown.status.success());
        for known in ["refusd", "malformed", "refused", "delivery_limit"] {
            assert!(said(&unknown).contains(known), "{}", said(&unknown));
        }
        let no_id = command(&shop, &[action, "--order-id", "42"]).await?;
        assert!(!no_id.status.success());
        assert!(
            said(&no_id).contains("not the id of an order"),
            "{}",
            said(&no_id)
        );
        let none = command(&shop, &[action, "--reason", "refused"]).await?;
        assert!(none.status.success());
        assert!(
            said(&none).contains("no dead letter matches"),
            "{}",
            said(&none)
        );
    }
    Ok(())
}
