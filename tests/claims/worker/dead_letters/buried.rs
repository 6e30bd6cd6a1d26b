//! Claims about what becomes a dead letter: it is kept with its reason, and holds up nobody else.

use futures_util::StreamExt;
use hotrow_shared::{
    id::Day,
    request_id::RequestId,
    topology::{self, DEAD_QUEUE},
};
use hotrow_tests::wait;
use lapin::{
    BasicProperties,
    options::{
        BasicConsumeOptions, BasicGetOptions, BasicNackOptions, BasicPublishOptions,
        ConfirmSelectOptions,
    },
    types::{AMQPValue, FieldTable},
};
use serde_json::json;

use super::{CURSE, LIFT_THE_CURSE, RESTOCK, command, list, out};
use crate::worker::{
    shop::{A_WHILE, Shop, counts, envelope_of},
    stream::in_sequence,
};

#[tokio::test]
async fn what_is_no_envelope_and_no_order_is_dead_lettered_and_its_neighbours_settle_in_sequence()
-> anyhow::Result<()> {
    let shop = Shop::open(1).await?;
    shop.stock("scarce", 20).await?;
    let orders: Vec<_> = (0..12)
        .map(|number| shop.order("c", &[("scarce", 1 + number * 3 % 4)]))
        .collect();
    let envelope = |range: std::ops::Range<usize>| envelope_of(&orders[range]);
    let broken_between = |range| {
        let body = String::from_utf8(envelope(range)).unwrap_or_default();
        body.replacen(
            "},{\"place\"",
            "},{\"place\":{\"customer_id\":\"nobody\",\"items\":7}},{\"place\"",
            1,
        )
    };
    shop.send(0, &envelope(0..3)).await?;
    shop.publish_bytes(0, b"\xff\x00 neither JSON nor text")
        .await?;
    shop.send(0, &envelope(3..6)).await?;
    shop.send(0, broken_between(6..9).as_bytes()).await?;
    shop.publish_bytes(0, br#"{"v":7,"orders":[]}"#).await?;
    shop.send(0, &envelope(9..12)).await?;
    let worker = shop.worker().start().await?;
    shop.settled(&orders, A_WHILE).await?;
    in_sequence(&shop, &orders, 20).await?;
    shop.books(&orders).await?;
    let malformed = [("reason", "malformed")];
    counts(&worker, "hotrow_dead_letters_total", &malformed, 3).await?;

    let listed = list(&shop, &[]).await?;
    assert_eq!(listed.len(), 3, "{listed:?}");
    for letter in &listed {
        assert_eq!(letter["reason"], "malformed");
        assert_eq!(letter["partition"], 0);
        assert_eq!(letter["order_ids"], json!([]));
    }
    let detail = |at: usize| listed[at]["detail"].as_str().unwrap_or_default();
    assert!(detail(0).contains("not an envelope"), "{}", detail(0));
    let text = listed[0]["text"].as_str().unwrap_or_default();
    assert!(text.contains("neither JSON nor text"), "{text}");
    assert!(detail(1).contains("not a command"), "{}", detail(1));
    let piece = json!({ "customer_id": "nobody", "items": 7 });
    assert_eq!(
        listed[1]["body"],
        json!({ "v": 2, "commands": [{ "place": piece }] })
    );
    assert!(detail(2).contains("version 7"), "{}", detail(2));
    Ok(())
}

#[tokio::test]
async fn an_order_that_the_database_refuses_fails_alone_and_settles_once_it_is_replayed()
-> anyhow::Result<()> {
    let shop = Shop::open(1).await?;
    shop.stock("scarce", 30).await?;
    shop.sql(CURSE).await?;
    let order = |number: u32| {
        let customer = if [5, 6, 13].contains(&number) {
            "cursed"
        } else {
            "c"
        };
        shop.order(customer, &[("scarce", 1 + number * 3 % 4)])
    };
    let orders: Vec<_> = (0..18).map(order).collect();
    let (cursed, sound): (Vec<_>, Vec<_>) = orders
        .iter()
        .cloned()
        .partition(|order| order.customer_id.as_str() == "cursed");
    // One batch of three envelopes.
    for gathered in orders.chunks(6) {
        shop.publish(gathered).await?;
    }
    let (worker, ingest) = (shop.worker(), shop.ingest());
    let (worker, ingest) = tokio::try_join!(worker.start(), ingest.start())?;
    shop.settled(&orders, A_WHILE).await?;

    // The neighbours are settled as if the refused ones had never come.
    in_sequence(&shop, &sound, 30).await?;
    let verdict = shop.books(&orders).await?;
    assert_eq!(verdict.outcomes.failed, 3);
    let refused = [("reason", "refused")];
    counts(&worker, "hotrow_dead_letters_total", &refused, 3).await?;
    let failed = [("status", "failed"), ("reason", "dead_lettered")];
    counts(&worker, "hotrow_orders_settled_total", &failed, 3).await?;
    let told = ingest.client()?.status(cursed[0].id.uuid()).await?;
    let told = told.expect(200)?.json()?;
    assert_eq!(
        (&told["status"], &told["reason"], &told["total_minor"]),
        (&json!("failed"), &json!("dead_lettered"), &json!(null))
    );

    // A person sees them in the sequence of their failure, and finds one by its id.
    let listed = list(&shop, &[]).await?;
    let ids: Vec<_> = listed
        .iter()
        .map(|letter| &letter["order_ids"][0])
        .collect();
    assert_eq!(
        ids,
        cursed
            .iter()
            .map(|order| json!(order.id))
            .collect::<Vec<_>>()
            .iter()
            .collect::<Vec<_>>()
    );
    for letter in &listed {
        assert_eq!(letter["reason"], "refused");
        let detail = letter["detail"].as_str().unwrap_or_default();
        assert!(detail.contains("orders of cursed are refused"), "{detail}");
    }
    let (first, last) = (cursed[0].id.to_string(), cursed[2].id.to_string());
    assert_eq!(list(&shop, &["--order-id", &last]).await?, listed[2..]);
    assert_eq!(list(&shop, &["--reason", "malformed"]).await?.len(), 0);

    // Replayed too early, it comes back.
    let replayed = command(&shop, &["replay", "--order-id", &first]).await?;
    assert_eq!(out(&replayed), "replayed: 1\n");
    counts(&worker, "hotrow_dead_letters_total", &refused, 4).await?;
    shop.settled(&orders, A_WHILE).await?;

    // One is given up; the others are replayed when the trouble is gone.
    let discarded = command(&shop, &["discard", "--order-id", &last]).await?;
    assert_eq!(out(&discarded), "discarded: 1\n");
    shop.sql(LIFT_THE_CURSE).await?;
    shop.sql(RESTOCK).await?;
    let replayed = command(&shop, &["replay", "--all"]).await?;
    assert_eq!(out(&replayed), "replayed: 2\n");
    shop.settled(&orders, A_WHILE).await?;
    assert_eq!(
        shop.outcomes(&cursed).await?,
        ["confirmed", "confirmed", "dead_lettered"]
    );
    assert_eq!(list(&shop, &[]).await?.len(), 0);
    shop.books(&orders).await?;
    wait::until("the client to read the new outcome", A_WHILE, async || {
        let told = ingest.client().ok()?.status(cursed[0].id.uuid()).await;
        (told.ok()?.json().ok()?["status"] == "confirmed").then_some(())
    })
    .await
}

#[tokio::test]
async fn an_envelope_that_comes_back_too_often_is_kept_by_the_broker_and_can_be_replayed()
-> anyhow::Result<()> {
    let shop = Shop::open(1).await?;
    shop.stock("chair", 5).await?;
    let orders = [
        shop.order("a", &[("chair", 1)]),
        shop.order("b", &[("chair", 9)]),
    ];
    shop.publish(&orders).await?;
    // A worker that it kills again and again, in short.
    let channel = shop.channel().await?;
    let mut deliveries = channel
        .basic_consume(
            topology::queue(0).into(),
            "".into(),
            BasicConsumeOptions::default(),
            FieldTable::default(),
        )
        .await?;
    let give_back = async {
        while let Some(delivery) = deliveries.next().await {
            let again = BasicNackOptions {
                requeue: true,
                ..Default::default()
            };
            delivery?.acker.nack(again).await?;
        }
        anyhow::Ok(())
    };
    let is_dead = wait::until("the broker to give up", A_WHILE, async || {
        (shop.depth(DEAD_QUEUE).await.ok()? == (1, 0)).then_some(())
    });
    tokio::select! {
        dead = is_dead => dead?,
        ended = give_back => ended?,
    }
    channel.close(200, "done".into()).await?;

    let ids = json!([orders[0].id, orders[1].id]);
    let listed = list(&shop, &[]).await?;
    assert_eq!(
        (
            &listed[0]["reason"],
            &listed[0]["partition"],
            &listed[0]["order_ids"]
        ),
        (&json!("delivery_limit"), &json!(0), &ids)
    );
    let _worker = shop.worker().start().await?;
    let replayed = command(&shop, &["replay", "--reason", "delivery_limit"]).await?;
    assert_eq!(out(&replayed), "replayed: 1\n");
    shop.settled(&orders, A_WHILE).await?;
    assert_eq!(shop.outcomes(&orders).await?, ["confirmed", "sold_out"]);
    assert_eq!(list(&shop, &[]).await?.len(), 0);
    shop.books(&orders).await?;
    Ok(())
}

#[tokio::test]
async fn a_replayed_order_settles_although_a_repeat_of_its_key_is_another_name_of_it()
-> anyhow::Result<()> {
    let shop = Shop::open(1).await?;
    shop.stock("chair", 3).await?;
    shop.sql(CURSE).await?;
    let (worker, ingest) = (shop.worker(), shop.ingest());
    let (_worker, ingest) = tokio::try_join!(worker.start(), ingest.start())?;
    let today = Day::today();
    let keyed = |day| shop.keyed("cursed", &[("chair", 1)], "key", day);
    let orders = [keyed(Day(today.0 - 1)), keyed(today)];
    for order in orders.chunks(1) {
        shop.publish(order).await?;
        shop.settled(order, A_WHILE).await?;
    }
    let [first, repeat] = &orders;
    assert_eq!(shop.row(repeat).await?.alias_of, Some(first.id.uuid()));

    shop.sql(LIFT_THE_CURSE).await?;
    let replayed = command(&shop, &["replay", "--all"]).await?;
    assert_eq!(out(&replayed), "replayed: 1\n");
    shop.settled(&orders, A_WHILE).await?;
    assert_eq!(shop.outcomes(&orders[..1]).await?, ["confirmed"]);
    assert_eq!(shop.left("chair").await?, 2);
    shop.books(&orders).await?;
    let told = ingest.client()?.settled(repeat.id.uuid(), 10).await?;
    assert_eq!(told.expect(200)?.json()?["status"], "confirmed");
    Ok(())
}

#[tokio::test]
async fn an_order_of_a_day_that_is_no_longer_kept_is_dead_lettered_and_its_neighbours_settle()
-> anyhow::Result<()> {
    let shop = Shop::open(1).await?;
    shop.stock("chair", 5).await?;
    let mut orders: Vec<_> = (0..5).map(|_| shop.order("c", &[("chair", 2)])).collect();
    let long_ago = Day(Day::today().0 - 400);
    orders[1].id = shop.mint.mint(long_ago.start_ms());
    shop.publish(&orders).await?;
    let worker = shop.worker().start().await?;
    let old = orders.remove(1);
    shop.settled(&orders, A_WHILE).await?;
    assert_eq!(
        shop.outcomes(&orders).await?,
        ["confirmed", "confirmed", "sold_out", "sold_out"]
    );
    let refused = [("reason", "refused")];
    counts(&worker, "hotrow_dead_letters_total", &refused, 1).await?;
    let listed = list(&shop, &["--order-id", &old.id.to_string()]).await?;
    let detail = listed[0]["detail"].as_str().unwrap_or_default();
    assert!(detail.contains("no partition"), "{detail}");
    shop.books(&orders).await?;
    Ok(())
}

#[tokio::test]
async fn a_foreign_message_however_ugly_ends_as_a_dead_letter_and_blocks_nobody()
-> anyhow::Result<()> {
    let shop = Shop::open(1).await?;
    shop.stock("chair", 10).await?;
    let worker = shop.worker().start().await?;
    let text = |text: &[u8]| AMQPValue::LongString(text.to_vec().into());
    let mut headers = FieldTable::default();
    headers.insert("not-text".into(), text(b"\xff\xfe\x00"));
    headers.insert("large".into(), text(&vec![b'x'; 60_000]));
    headers.insert("x-death".into(), text(b"no table"));
    headers.insert("x-hotrow-reason".into(), AMQPValue::Boolean(true));
    headers.insert("x-hotrow-partition".into(), AMQPValue::Double(0.5));
    let ugly = BasicProperties::default()
        .with_headers(headers)
        .with_content_type("x/y".into())
        .with_expiration("3600000".into())
        .with_priority(255)
        .with_message_id("\u{fffd}".into());
    let large = vec![b'{'; 10 * 1024 * 1024];
    // What a parser says of it is long, too, and no character ends where it is cut.
    let wordy = format!(
        r#"{{"v":2,"commands":[{{"{}":{{}}}}]}}"#,
        "ü".repeat(50_000)
    );
    // The headers are larger than the frames of Hotrow's own publishers.
    let foreign = shop.place.broker().await?;
    let channel = foreign.create_channel().await?;
    channel
        .confirm_select(ConfirmSelectOptions::default())
        .await?;
    let bodies: [&[u8]; 4] = [b"", b"\xff", &large, wordy.as_bytes()];
    for body in bodies {
        let key = topology::routing_key(0);
        let options = BasicPublishOptions::default();
        channel
            .basic_publish(
                topology::ORDERS_EXCHANGE.into(),
                key.into(),
                options,
                body,
                ugly.clone(),
            )
            .await?
            .await?;
    }
    foreign.close(200, "done".into()).await?;
    let orders = [shop.order("c", &[("chair", 1)])];
    shop.publish(&orders).await?;
    shop.settled(&orders, A_WHILE).await?;
    let malformed = [("reason", "malformed")];
    counts(&worker, "hotrow_dead_letters_total", &malformed, 4).await?;

    let listed = list(&shop, &[]).await?;
    assert_eq!(listed.len(), 4);
    for letter in &listed {
        assert_eq!(
            (&letter["reason"], &letter["partition"]),
            (&json!("malformed"), &json!(0))
        );
        assert!(letter["detail"].as_str().unwrap_or_default().len() <= 1024);
    }
    let replayed = command(&shop, &["replay", "--all"]).await?;
    assert_eq!(out(&replayed), "replayed: 4\n");
    counts(&worker, "hotrow_dead_letters_total", &malformed, 8).await?;
    let discarded = command(&shop, &["discard", "--all"]).await?;
    assert_eq!(out(&discarded), "discarded: 4\n");
    Ok(())
}

#[tokio::test]
async fn the_id_of_a_request_leads_from_the_worker_to_the_dead_letter() -> anyhow::Result<()> {
    let shop = Shop::open(1).await?;
    shop.stock("chair", 10).await?;
    shop.sql(CURSE).await?;
    let request = |name: &str| RequestId::try_from(name.to_owned().into_boxed_str());
    let mut orders = [
        shop.order("c", &[("chair", 1)]),
        shop.order("cursed", &[("chair", 1)]),
    ];
    orders[0].request_id = Some(request("request-of-the-sound-one")?);
    let longest = "r".repeat(128);
    orders[1].request_id = Some(request(&longest)?);
    shop.publish(&orders).await?;
    let worker = shop
        .worker()
        .set("RUST_LOG", "info,hotrow_worker=debug")
        .start()
        .await?;
    shop.settled(&orders, A_WHILE).await?;
    for id in ["request-of-the-sound-one", &longest] {
        wait::until("the log to name the request", A_WHILE, async || {
            worker.has_logged(id).then_some(())
        })
        .await?;
    }
    let listed = list(&shop, &[]).await?;
    assert_eq!(listed[0]["request_ids"], json!([longest]));
    let channel = shop.channel().await?;
    let got = channel
        .basic_get(DEAD_QUEUE.into(), BasicGetOptions::default())
        .await?;
    let headers = got.and_then(|got| got.delivery.properties.headers().clone());
    let header = headers.and_then(|headers| {
        let value = headers.inner().get("x-hotrow-request-id")?.clone();
        Some(value)
    });
    let expected = AMQPValue::LongString(longest.as_str().into());
    assert_eq!(header, Some(expected));
    Ok(())
}

#[tokio::test]
async fn an_order_that_cannot_be_written_down_as_it_is_still_reads_failed_for_its_customer()
-> anyhow::Result<()> {
    let shop = Shop::open(1).await?;
    shop.stock("chair", 10).await?;
    // The database takes neither the items of one customer nor the name of another.
    shop.sql(
        "create function refuse() returns trigger language plpgsql as
             $$ begin raise exception 'refused'; end $$;
         create trigger items before insert on orders for each row
             when (new.customer_id = 'items' and new.items::text <> '[]') execute function refuse();
         create trigger named before insert on orders for each row
             when (new.customer_id = 'name') execute function refuse()",
    )
    .await?;
    let orders = ["items", "name"].map(|customer| shop.order(customer, &[("chair", 1)]));
    shop.publish(&orders).await?;
    let _worker = shop.worker().start().await?;
    shop.settled(&orders, A_WHILE).await?;
    for (order, customer) in orders.iter().zip(["items", ""]) {
        let row = shop.row(order).await?;
        assert_eq!(row.outcome(), "dead_lettered");
        assert_eq!(
            (row.customer_id.as_str(), row.items.to_string().as_str()),
            (customer, "[]")
        );
    }
    // The same once more, in the transaction of a person's word.
    shop.sql("update orders set reason = 'replayed'").await?;
    let discarded = command(&shop, &["discard", "--all"]).await?;
    assert_eq!(out(&discarded), "discarded: 2\n");
    assert_eq!(shop.outcomes(&orders).await?, ["dead_lettered"; 2]);
    Ok(())
}
