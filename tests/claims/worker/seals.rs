//! Claims about seals: what comes from somebody else sells nothing, and what is Hotrow's own is settled.

use hotrow_shared::{
    envelope::Order,
    publish,
    seal::{SEAL_HEADER, SealKeys},
    topology::{self, DEAD_EXCHANGE},
};
use hotrow_tests::{Process, processes::ORDER_ID_SECRET, wait};
use lapin::types::{AMQPValue, FieldTable};
use serde_json::{Value, json};

use super::{
    dead_letters::{CURSE, all_back, command, list, out},
    shop::{A_WHILE, Shop, counts, envelope_of, ids_of},
};

const DEAD: &str = "hotrow_dead_letters_total";
const OPENED: &str = "hotrow_envelopes_opened_total";

fn headers_of(keys: &SealKeys, body: &[u8]) -> FieldTable {
    let mut headers = FieldTable::default();
    keys.add(body, &mut headers);
    headers
}

fn header(value: AMQPValue) -> FieldTable {
    let mut headers = FieldTable::default();
    headers.insert(SEAL_HEADER.into(), value);
    headers
}

/// How many of these orders have an outcome of any kind.
async fn rows(shop: &Shop, orders: &[Order]) -> anyhow::Result<i64> {
    let rows = sqlx::query_scalar("select count(*) from orders where order_id = any($1)");
    let rows = rows.bind(ids_of(orders));
    Ok(rows.fetch_one(&shop.database).await?)
}

async fn buried(worker: &Process, reason: &str, count: u64) -> anyhow::Result<()> {
    counts(worker, DEAD, &[("reason", reason)], count).await
}

#[tokio::test]
async fn an_envelope_without_a_seal_is_settled_until_seals_are_required() -> anyhow::Result<()> {
    let shop = Shop::open(1).await?;
    shop.stock("chair", 10).await?;
    let foreign = |customer| [shop.order(customer, &[("chair", 1)])];
    let before = foreign("before");
    shop.publish_bytes(0, &envelope_of(&before)).await?;
    let mut lenient = shop.worker().start().await?;
    shop.settled(&before, A_WHILE).await?;
    counts(&lenient, OPENED, &[("seal", "missing")], 1).await?;
    counts(&lenient, DEAD, &[], 0).await?;
    lenient.terminate()?;
    lenient.ended(A_WHILE).await?;

    let strict = shop.worker().set("REQUIRE_SEALED", "true").start().await?;
    let (after, own) = (foreign("after"), foreign("own"));
    shop.publish_bytes(0, &envelope_of(&after)).await?;
    shop.publish(&own).await?;
    shop.settled(&own, A_WHILE).await?;
    buried(&strict, "unsealed", 1).await?;
    assert_eq!(rows(&shop, &after).await?, 0);
    assert_eq!(shop.left("chair").await?, 8);
    let listed = shop
        .worker()
        .set("REQUIRE_SEALED", "true")
        .run(&["dead-letters", "list"])
        .await?;
    let listed: serde_json::Value = serde_json::from_str(&out(&listed))?;
    assert_eq!(
        (&listed["reason"], &listed["seal"], &listed["order_ids"]),
        (&json!("unsealed"), &json!("missing"), &json!([after[0].id]))
    );
    Ok(())
}

#[tokio::test]
async fn a_changed_body_a_wrong_seal_and_that_of_another_secret_are_refused_as_a_whole()
-> anyhow::Result<()> {
    let shop = Shop::open(1).await?;
    shop.stock("chair", 20).await?;
    let order = |customer: &str| shop.order(customer, &[("chair", 1)]);
    let foreign = SealKeys::new("the secret of somebody else, as long", None);
    let mut forged = Vec::new();

    // One of two orders was changed on its way: both are refused.
    let changed = [order("c"), order("d")];
    let body = envelope_of(&changed);
    let seal = headers_of(&shop.seals, &body);
    let changed_body = String::from_utf8(body)?.replacen("\"quantity\":1", "\"quantity\":9", 1);
    shop.publish_with(0, changed_body.as_bytes(), seal).await?;
    forged.extend(changed);

    // The seal of another body.
    let (seen, copied) = ([order("seen")], [order("copied")]);
    let seal = headers_of(&shop.seals, &envelope_of(&seen));
    shop.publish_with(0, &envelope_of(&copied), seal).await?;
    forged.extend(copied);

    let other_secret = [order("e")];
    let body = envelope_of(&other_secret);
    let seal = headers_of(&foreign, &body);
    shop.publish_with(0, &body, seal).await?;
    forged.extend(other_secret);

    let no_seals = [
        AMQPValue::LongString("".into()),
        AMQPValue::LongString(vec![0xff; 300].into()),
        AMQPValue::Boolean(true),
    ];
    for value in no_seals {
        let order = [order("f")];
        shop.publish_with(0, &envelope_of(&order), header(value))
            .await?;
        forged.extend(order);
    }

    let own = [order("own")];
    shop.publish(&own).await?;
    let worker = shop.worker().start().await?;
    shop.settled(&own, A_WHILE).await?;
    buried(&worker, "wrong_seal", 6).await?;
    counts(&worker, OPENED, &[("seal", "wrong")], 6).await?;
    counts(&worker, OPENED, &[("seal", "current")], 1).await?;
    assert_eq!(rows(&shop, &forged).await?, 0, "none of them has a row");
    assert_eq!(shop.left("chair").await?, 19);

    let listed = list(&shop, &["--reason", "wrong_seal"]).await?;
    assert_eq!(listed.len(), 6);
    assert_eq!(listed[0]["order_ids"], json!([forged[0].id, forged[1].id]));
    assert_eq!(listed[0]["body"]["v"], 2, "a person can read it");
    for letter in &listed {
        assert_eq!(letter["seal"], "wrong");
        let detail = letter["detail"].as_str().unwrap_or_default();
        assert!(detail.contains("the seal is wrong"), "{detail}");
    }
    // Who gives them up says that they are forged: a real order of the same id is not to fail for it.
    let discarded = command(&shop, &["discard", "--all"]).await?;
    assert_eq!(out(&discarded), "discarded: 6\n");
    assert_eq!(rows(&shop, &forged).await?, 0);
    Ok(())
}

#[tokio::test]
async fn the_previous_secret_still_seals() -> anyhow::Result<()> {
    let shop = Shop::open(1).await?;
    shop.stock("chair", 10).await?;
    let orders = [shop.order("c", &[("chair", 1)])];
    shop.publish(&orders).await?;
    let rotated = shop
        .worker()
        .set("REQUIRE_SEALED", "true")
        .set("ORDER_ID_SECRET", "the secret that comes after it")
        .set("ORDER_ID_SECRET_PREVIOUS", ORDER_ID_SECRET);
    let worker = rotated.start().await?;
    shop.settled(&orders, A_WHILE).await?;
    counts(&worker, OPENED, &[("seal", "previous")], 1).await?;
    assert_eq!(shop.outcomes(&orders).await?, ["confirmed"]);
    Ok(())
}

#[tokio::test]
async fn a_replay_seals_what_was_sealed_and_what_a_person_vouches_for_by_its_reason_and_not_by_an_id()
-> anyhow::Result<()> {
    let shop = Shop::open(1).await?;
    shop.stock("chair", 10).await?;
    shop.sql(CURSE).await?;
    let strict = shop.worker().set("REQUIRE_SEALED", "true");
    let worker = strict.start().await?;
    let run = async |arguments: &[&str]| {
        let arguments = [&["dead-letters"], arguments].concat();
        strict.run(&arguments).await
    };
    let orders = ["cursed", "changed", "planted", "forged"]
        .map(|customer| shop.order(customer, &[("chair", 1)]));
    let [cursed, changed, planted, _] = &orders;
    shop.publish(std::slice::from_ref(cursed)).await?;
    let body = envelope_of(std::slice::from_ref(changed));
    let seal = headers_of(&shop.seals, b"another body");
    shop.publish_with(0, &body, seal).await?;
    buried(&worker, "refused", 1).await?;
    buried(&worker, "wrong_seal", 1).await?;
    // Somebody put it there without a worker, and says that one refused it. It names an order that a person may ask
    // for, and has one of its own beside it.
    let body = envelope_of(&orders[2..]);
    let channel = shop.channel().await?;
    channel
        .confirm_select(lapin::options::ConfirmSelectOptions::default())
        .await?;
    let mut headers = FieldTable::default();
    let refused = AMQPValue::LongString("refused".into());
    headers.insert("x-hotrow-reason".into(), refused);
    publish::confirmed(&channel, DEAD_EXCHANGE, "", &body, headers).await?;

    shop.sql("drop trigger cursed on orders").await?;
    let listed = run(&["list", "--reason", "unsealed"]).await?;
    let listed: serde_json::Value = serde_json::from_str(&out(&listed))?;
    let detail = listed["detail"].as_str().unwrap_or_default();
    assert!(detail.contains("It says of itself: refused"), "{detail}");

    all_back(&shop, 3).await?;
    let replayed = run(&["replay", "--all"]).await?;
    assert_eq!(out(&replayed), "replayed: 1\n");
    assert!(!replayed.status.success(), "not all of it was replayed");
    let said = String::from_utf8_lossy(&replayed.stderr);
    assert!(said.contains("2 left"), "{said}");
    shop.settled(&orders[..1], A_WHILE).await?;
    assert_eq!(shop.outcomes(&orders[..1]).await?, ["confirmed"]);
    assert_eq!(rows(&shop, &orders[1..]).await?, 0);

    // An id is read from the letter, and so is what it says of itself: neither shows who wrote it.
    let (id, planted_id) = (changed.id.to_string(), planted.id.to_string());
    for id in [&id, &planted_id] {
        all_back(&shop, 2).await?;
        let replayed = run(&["replay", "--order-id", id]).await?;
        assert_eq!(out(&replayed), "replayed: 0\n");
        assert!(!replayed.status.success());
        let said = String::from_utf8_lossy(&replayed.stderr);
        for part in ["1 left", "--reason wrong_seal", "--reason unsealed"] {
            assert!(said.contains(part), "{said}");
        }
    }
    all_back(&shop, 2).await?;
    let replayed = run(&["replay", "--order-id", &planted_id, "--reason", "refused"]).await?;
    assert_eq!(out(&replayed), "replayed: 0\n");
    assert!(!replayed.status.success());
    assert_eq!(rows(&shop, &orders[1..]).await?, 0);
    all_back(&shop, 2).await?;

    let replayed = run(&["replay", "--reason", "wrong_seal", "--order-id", &id]).await?;
    assert_eq!(out(&replayed), "replayed: 1\n");
    all_back(&shop, 1).await?;
    let replayed = run(&["replay", "--reason", "unsealed"]).await?;
    assert_eq!(out(&replayed), "replayed: 1\n");
    shop.settled(&orders, A_WHILE).await?;
    assert_eq!(shop.outcomes(&orders).await?, ["confirmed"; 4]);
    assert_eq!(shop.depth(topology::DEAD_QUEUE).await?, (0, 0));
    shop.books(&orders).await?;
    Ok(())
}

#[tokio::test]
async fn a_letter_of_an_envelope_without_a_seal_has_none_however_often_it_was_replayed_before_seals_were_required()
-> anyhow::Result<()> {
    let shop = Shop::open(1).await?;
    shop.stock("chair", 10).await?;
    shop.sql(CURSE).await?;
    let [foreign, own] = ["cursed", "cursed"].map(|name| [shop.order(name, &[("chair", 1)])]);
    let body = String::from_utf8(envelope_of(&foreign))?;
    let with_a_broken_piece = body.replacen("[{\"place\"", "[{\"paint\":{}},{\"place\"", 1);
    shop.publish_bytes(0, with_a_broken_piece.as_bytes())
        .await?;
    shop.publish(&own).await?;
    let mut lenient = shop.worker().start().await?;
    buried(&lenient, "refused", 2).await?;
    buried(&lenient, "malformed", 1).await?;
    let seals = async || -> anyhow::Result<Vec<(Value, Value)>> {
        all_back(&shop, 3).await?;
        let listed = list(&shop, &[]).await?;
        all_back(&shop, 3).await?;
        let mut seals: Vec<_> = listed
            .into_iter()
            .map(|mut letter| (letter["reason"].take(), letter["seal"].take()))
            .collect();
        seals.sort_by_key(|it| (it.0.to_string(), it.1.to_string()));
        Ok(seals)
    };
    let expected = [
        (json!("malformed"), json!("missing")),
        (json!("refused"), json!("current")),
        (json!("refused"), json!("missing")),
    ];
    assert_eq!(seals().await?, expected);
    // Whoever replays it now believes it as a worker would, and does not vouch for it.
    let replayed = command(&shop, &["replay", "--all"]).await?;
    assert_eq!(out(&replayed), "replayed: 3\n");
    buried(&lenient, "refused", 4).await?;
    buried(&lenient, "malformed", 2).await?;
    assert_eq!(seals().await?, expected);
    lenient.terminate()?;
    lenient.ended(A_WHILE).await?;

    shop.sql("drop trigger cursed on orders").await?;
    let strict = shop.worker().set("REQUIRE_SEALED", "true");
    let _worker = strict.start().await?;
    let replayed = strict.run(&["dead-letters", "replay", "--all"]).await?;
    assert_eq!(out(&replayed), "replayed: 1\n");
    let said = String::from_utf8_lossy(&replayed.stderr);
    assert!(said.contains("2 left"), "{said}");
    wait::until("the sealed one to be settled", A_WHILE, async || {
        (shop.outcomes(&own).await.ok()? == ["confirmed"]).then_some(())
    })
    .await?;
    assert_eq!(shop.outcomes(&foreign).await?, ["dead_lettered"]);
    assert_eq!(shop.left("chair").await?, 9);
    Ok(())
}

#[tokio::test]
async fn purchases_payments_and_expiries_are_sealed_by_whoever_sends_them() -> anyhow::Result<()> {
    let shop = Shop::open(2).await?;
    shop.stock_held("chair", 10, 5).await?;
    let worker = shop.hasty_worker().set("REQUIRE_SEALED", "true");
    let ingest = shop.ingest();
    let (worker, ingest) = tokio::try_join!(worker.start(), ingest.start())?;
    let client = ingest.client()?;
    let mut ids = Vec::new();
    for customer in ["pays", "does-not"] {
        let accepted = client.order(customer, &[("chair", 1)]).await?;
        let id = accepted.expect(202)?.order_id()?;
        client.settled(id, 10).await?.expect(200)?;
        ids.push(id);
    }
    let payment = json!({ "payment_reference": "pi_1" });
    client
        .ask(ids[0], "confirm", 10, payment)
        .await?
        .expect(200)?;
    wait::until("the other to expire", A_WHILE, async || {
        let told = client.status(ids[1]).await.ok()?.json().ok()?;
        (told["status"] == "expired").then_some(())
    })
    .await?;
    let metrics = worker.metrics().await?;
    assert_eq!(metrics.count(DEAD, &[]), 0);
    assert_eq!(metrics.count(OPENED, &[("seal", "missing")]), 0);
    assert!(metrics.count(OPENED, &[("seal", "current")]) >= 4);
    Ok(())
}
