//! The claim about the upgrade of the changelog: migrate, then workers, then ingest.

use futures_util::future::try_join_all;
use hotrow_tests::{Client, Place, Process, Settings, client::Product, law::Verdict, processes};
use serde_json::json;
use uuid::Uuid;

use crate::worker::shop::A_WHILE;

const CHAIR: &str = "chair";
/// Orders at a time, and how often, between two steps.
const BUYERS: usize = 25;
const ROUNDS: usize = 12;

/// Sells chairs at these doors.
async fn sell(doors: &[Client]) -> anyhow::Result<Vec<Uuid>> {
    let mut sold = Vec::new();
    for round in 0..ROUNDS {
        let orders = (0..BUYERS).map(async |buyer| {
            let door = &doors[(round + buyer) % doors.len()];
            let customer = format!("c-{round}-{buyer}");
            door.order(&customer, &[(CHAIR, 1)])
                .await?
                .expect(202)?
                .order_id()
        });
        sold.extend(try_join_all(orders).await?);
    }
    Ok(sold)
}

async fn stop(mut process: Process) -> anyhow::Result<()> {
    process.terminate()?;
    let status = process.ended(A_WHILE).await?;
    anyhow::ensure!(status.success(), "{status}");
    Ok(())
}

#[tokio::test]
#[ignore = "builds the programs of the release before, which takes minutes"]
async fn the_documented_upgrade_from_the_release_before_settles_all_and_buries_nothing()
-> anyhow::Result<()> {
    let Some(before) = processes::before().await? else {
        eprintln!("this clone does not reach back to the release before: no upgrade is tried");
        return Ok(());
    };
    let place = Place::new().await?;
    let worker = Settings::worker(&place).set("PARTITIONS", "4");
    let ingest = Settings::ingest(&place).set("PARTITIONS", "4").unlimited();
    let migrated = worker.clone().built_in(&before).run(&["migrate"]).await?;
    anyhow::ensure!(migrated.status.success());
    let old_worker = worker.clone().built_in(&before).start().await?;
    // The release before has no such limits, and refuses to start with what it does not know.
    let as_before = ["RATE_LIMIT_READS", "RATE_LIMIT_LOGINS"]
        .into_iter()
        .fold(ingest.clone(), Settings::unset);
    let old_ingest = as_before.built_in(&before).start().await?;
    let old_door = old_ingest.client()?.of_another_server();
    let put = old_door.put_inventory(CHAIR, Product::chairs(10_000));
    put.await?.expect_success()?;
    let old_doors = [old_door.clone()];

    let mut sold = sell(&old_doors).await?;
    let (some, migrated) = tokio::join!(sell(&old_doors), processes::migrate(&place));
    sold.extend(some?);
    migrated?;
    let (some, new_worker) = tokio::join!(sell(&old_doors), worker.start());
    sold.extend(some?);
    let new_worker = new_worker?;
    let (some, stopped) = tokio::join!(sell(&old_doors), stop(old_worker));
    sold.extend(some?);
    stopped?;
    let (some, new_ingest) = tokio::join!(sell(&old_doors), ingest.start());
    sold.extend(some?);
    let new_ingest = new_ingest?;
    let doors = [old_door, new_ingest.client()?];
    sold.extend(sell(&doors).await?);
    let new_doors = [new_ingest.client()?];
    let (some, stopped) = tokio::join!(sell(&new_doors), stop(old_ingest));
    sold.extend(some?);
    stopped?;

    let client = new_ingest.client()?;
    for id in &sold {
        let document = client.settled(*id, 30).await?.expect(200)?.json()?;
        assert_eq!(document["status"], "confirmed", "{document}");
    }

    // Everything of the release before is settled, and everything since then is sealed.
    let strict = worker.set("REQUIRE_SEALED", "true");
    let (some, strict) = tokio::join!(sell(&new_doors), strict.start());
    let (late, _strict) = (some?, strict?);
    let (some, stopped) = tokio::join!(sell(&new_doors), stop(new_worker));
    let late = [late, some?].concat();
    stopped?;
    for id in &late {
        let document = client.settled(*id, 30).await?.expect(200)?.json()?;
        assert_eq!(document["status"], "confirmed", "{document}");
    }
    sold.extend(late);
    let mut database = place.database().await?;
    let verdict = Verdict::read(&mut database, &sold).await?;
    assert!(verdict.holds(), "{verdict}");
    let channel = place.broker().await?.create_channel().await?;
    let dead = channel.queue_declare(
        "hotrow.dead".into(),
        lapin::options::QueueDeclareOptions::default().passive(),
        lapin::types::FieldTable::default(),
    );
    assert_eq!(dead.await?.message_count(), 0, "dead letters");

    // And what the new release can do, it does with what the old one left.
    let rules = json!({ "sale": { "hold_seconds": 600 } });
    client.patch_inventory(CHAIR, rules).await?.expect(200)?;
    let id = client.order("c-1", &[(CHAIR, 1)]).await?.expect(202)?;
    let id = id.order_id()?;
    let reserved = client.settled(id, 30).await?.expect(200)?.json()?;
    assert_eq!(reserved["status"], "reserved");
    let payment = json!({ "payment_reference": "pi_1" });
    client.ask(id, "confirm", 30, payment).await?.expect(200)?;
    Ok(())
}
