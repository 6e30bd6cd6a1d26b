//! Claims about midnight: a key's day ends, and the purchase is still one. The ingest processes run
//! within the test, which sets their clocks.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{SystemTime, UNIX_EPOCH},
};

use clap::Parser;
use hotrow_ingest::{
    NEEDS,
    clock::Clock,
    settings::{Cli, Settings},
};
use hotrow_shared::{id::Day, telemetry::Readiness};
use hotrow_tests::{Client, Place, client::Product, processes, wait};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::{
    CHAIR, PARTITIONS, SOON, Stock, assert_accepted, orders_of, place, settled, stock, worker,
};

#[tokio::test]
async fn a_key_repeated_after_midnight_is_one_order_with_two_names() -> anyhow::Result<()> {
    let place = place().await?;
    let midnight = midnight_ms()?;
    let clocks = [midnight - 1_000, midnight + 1_000].map(|now| Arc::new(AtomicU64::new(now)));
    let [before, after] = &clocks;
    let evening = ingest(&place, before).await?;
    let morning = ingest(&place, after).await?;
    let admin = evening.client.clone().admin(processes::ADMIN_TOKEN);
    let product = Product::chairs(1_000);
    admin.put_inventory(CHAIR, product).await?.expect(201)?;
    let one = [(CHAIR, 1)];

    // Both are in the queue when the worker comes: they may be of one batch.
    let queued = [
        assert_accepted(&evening.client.order_with_key("c-1", &one, "k").await?),
        assert_accepted(&morning.client.order_with_key("c-1", &one, "k").await?),
    ];
    // And the other way round, as clocks of two machines differ.
    let swapped = [
        assert_accepted(&morning.client.order_with_key("c-2", &one, "k").await?),
        assert_accepted(&evening.client.order_with_key("c-2", &one, "k").await?),
    ];
    let _worker = worker(&place).start().await?;
    same_order(&evening, &morning, queued).await?;
    same_order(&evening, &morning, swapped).await?;

    // The one of the new day is settled when that of the old day comes, with the worker's own clock
    // far from midnight.
    let ahead = assert_accepted(&morning.client.order_with_key("c-4", &one, "k").await?);
    settled(&evening.client, ahead).await?;
    let behind = assert_accepted(&evening.client.order_with_key("c-4", &one, "k").await?);
    same_order(&evening, &morning, [ahead, behind]).await?;

    // The first is settled when the second comes, at a process that sees midnight pass.
    let first = assert_accepted(&evening.client.order_with_key("c-3", &one, "k").await?);
    settled(&evening.client, first).await?;
    before.store(midnight, Ordering::Relaxed);
    let second = assert_accepted(&evening.client.order_with_key("c-3", &one, "k").await?);
    same_order(&evening, &morning, [first, second]).await?;
    let again = assert_accepted(&morning.client.order_with_key("c-3", &one, "k").await?);
    assert_eq!(again, second, "the new day has one name, too");

    let last = assert_accepted(&morning.client.order("c-last", &one).await?);
    settled(&morning.client, last).await?;
    let mut database = place.database().await?;
    for customer in ["c-1", "c-2", "c-3", "c-4"] {
        assert_eq!(orders_of(&mut database, customer).await?, 1, "{customer}");
    }
    let left = Stock {
        available: 995,
        ledger: 995,
        sold: 5,
    };
    assert_eq!(stock(&mut database, CHAIR).await?, left);
    Ok(())
}

/// Checks that two names of an order tell of one outcome, at both processes.
async fn same_order(here: &Ingest, there: &Ingest, names: [uuid::Uuid; 2]) -> anyhow::Result<()> {
    assert_ne!(names[0], names[1]);
    let mut outcomes = Vec::new();
    for (client, name) in [
        (&here.client, names[0]),
        (&here.client, names[1]),
        (&there.client, names[0]),
        (&there.client, names[1]),
    ] {
        let mut document = settled(client, name).await?;
        assert_eq!(document["order_id"], json!(name));
        let first = (name != names[0]).then_some(names[0]);
        assert_eq!(document["alias_of"], json!(first));
        document["order_id"] = Value::Null;
        document["alias_of"] = Value::Null;
        assert_eq!(document["status"], "confirmed");
        outcomes.push(document);
    }
    assert!(
        outcomes.iter().all(|outcome| *outcome == outcomes[0]),
        "{outcomes:#?}"
    );
    Ok(())
}

/// An ingest process within this one; it drains when it is dropped.
struct Ingest {
    client: Client,
    _stop: DropGuard,
}

async fn ingest(place: &Place, clock: &Arc<AtomicU64>) -> anyhow::Result<Ingest> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address: SocketAddr = listener.local_addr()?;
    let (settings, stop) = (settings(place)?, CancellationToken::new());
    let (clock, token) = (Clock::Set(Arc::clone(clock)), stop.clone());
    let readiness = Readiness::of(&NEEDS);
    tokio::spawn(async move {
        if let Err(error) = hotrow_ingest::run(settings, listener, clock, &readiness, token).await {
            eprintln!("the ingest process ended: {error:#}");
        }
    });
    let client = Client::new(address)?;
    wait::until("an ingest process to be ready", SOON, async || {
        let answer = client.get("/readyz").await.ok()?;
        (answer.status == 200).then_some(())
    })
    .await?;
    Ok(Ingest {
        client,
        _stop: stop.drop_guard(),
    })
}

fn settings(place: &Place) -> anyhow::Result<Settings> {
    let partitions = PARTITIONS.to_string();
    let flags = [
        ("--database-url", &*place.database_url),
        ("--amqp-url", &place.amqp_url),
        ("--order-id-secret", processes::ORDER_ID_SECRET),
        ("--admin-token", processes::ADMIN_TOKEN),
        ("--partitions", &partitions),
        ("--rate-limit-ip", "off"),
        ("--rate-limit-customer", "off"),
    ];
    let flags = flags.into_iter().flat_map(|(flag, value)| [flag, value]);
    Ok(Cli::try_parse_from(["hotrow-ingest"].into_iter().chain(flags))?.check()?)
}

/// The next UTC midnight: the worker has made tables for the days on both sides of it.
fn midnight_ms() -> anyhow::Result<u64> {
    let now_ms = SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis();
    Ok(Day(Day::of_ms(u64::try_from(now_ms)?).0 + 1).start_ms())
}
