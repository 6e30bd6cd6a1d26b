//! Claims about who consumes which partition: shared evenly, handed over soon, and never at the cost
//! of a sequence.

use std::time::Duration;

use anyhow::Context;
use hotrow_shared::topology;
use hotrow_tests::{Mode, Process, Proxy, Settings, wait};

use super::{
    shop::{A_WHILE, Shop},
    stream::Stream,
};

/// The time of the contract for sharing and for taking over.
const HANDED_OVER: Duration = Duration::from_secs(5);
/// The same for a worker that has to find out first that it has no broker.
const FOUND_OUT_AND_HANDED_OVER: Duration = Duration::from_secs(15);
/// The same for one whose database takes no writes.
const WAITED_FOR_AND_HANDED_OVER: Duration = Duration::from_secs(45);
/// Two looks of a worker, on a busy machine.
const AT_ONCE: Duration = Duration::from_secs(3);

#[tokio::test]
async fn workers_share_the_partitions_evenly_within_five_seconds_of_coming_and_going()
-> anyhow::Result<()> {
    let shop = Shop::open(16).await?;
    let worker = shop.worker();
    let first = worker.start().await?;
    share(&[&first], &[16], HANDED_OVER).await?;
    let second = worker.start().await?;
    share(&[&first, &second], &[8, 8], HANDED_OVER).await?;
    let mut third = worker.start().await?;
    share(&[&first, &second, &third], &[5, 5, 6], HANDED_OVER).await?;
    every_queue_has_one_consumer(&shop).await?;

    second.kill()?;
    share(&[&first, &third], &[8, 8], HANDED_OVER).await?;
    third.terminate()?;
    let ended = third.ended(A_WHILE).await?;
    assert!(ended.success(), "{ended}");
    share(&[&first], &[16], AT_ONCE).await?;
    every_queue_has_one_consumer(&shop).await
}

#[tokio::test]
async fn the_orders_of_a_killed_and_of_a_stopped_worker_are_settled_by_the_next_at_once()
-> anyhow::Result<()> {
    let shop = Shop::open(4).await?;
    let skus = shop.sku_of_each_partition();
    for sku in &skus {
        shop.stock(sku, 100).await?;
    }
    let orders = || {
        let order = |sku: &String| shop.order("c", &[(sku, 1)]);
        skus.iter().map(order).collect::<Vec<_>>()
    };
    let worker = shop.worker();
    let (last, mut stopped, killed) =
        tokio::try_join!(worker.start(), worker.start(), worker.start())?;
    share(&[&last, &stopped, &killed], &[1, 1, 2], HANDED_OVER).await?;

    killed.kill()?;
    let while_killed = orders();
    shop.publish_each(&while_killed).await?;
    shop.settled(&while_killed, HANDED_OVER).await?;

    stopped.terminate()?;
    let while_stopped = orders();
    shop.publish_each(&while_stopped).await?;
    shop.settled(&while_stopped, AT_ONCE).await?;
    let ended = stopped.ended(A_WHILE).await?;
    assert!(ended.success(), "{ended}");
    shop.books(&[while_killed, while_stopped].concat()).await?;
    Ok(())
}

#[tokio::test]
async fn no_sequence_is_broken_while_workers_come_and_go() -> anyhow::Result<()> {
    let shop = Shop::open(8).await?;
    let worker = shop.worker().set("BATCH_ORDERS_MAX", "50");
    let first = worker.start().await?;
    let stream = Stream::start(&shop).await?;
    stream.flows(300).await?;
    let mut second = worker.start().await?;
    share(&[&first, &second], &[4, 4], A_WHILE).await?;
    stream.flows(300).await?;
    first.kill()?;
    let third = worker.start().await?;
    share(&[&second, &third], &[4, 4], A_WHILE).await?;
    second.terminate()?;
    stream.flows(300).await?;
    let fourth = worker.start().await?;
    share(&[&third, &fourth], &[4, 4], A_WHILE).await?;
    assert!(second.ended(A_WHILE).await?.success());
    stream.flows(300).await?;
    stream.settles_in_sequence(&shop).await?;
    Ok(())
}

#[tokio::test]
async fn a_worker_that_loses_the_session_of_its_locks_goes_on() -> anyhow::Result<()> {
    let shop = Shop::open(4).await?;
    let worker = shop.worker();
    let (first, second) = tokio::try_join!(worker.start(), worker.start())?;
    share(&[&first, &second], &[2, 2], A_WHILE).await?;
    let stream = Stream::start(&shop).await?;
    for _ in 0..3 {
        stream.flows(200).await?;
        let lost = sessions(&shop).await?;
        assert_eq!(lost.len(), 2);
        shop.end_sessions("hotrow-worker ownership").await?;
        wait::until("two new sessions", A_WHILE, async || {
            let sessions = sessions(&shop).await.ok()?;
            let new = |pid| !lost.contains(pid);
            (sessions.len() == 2 && sessions.iter().all(new)).then_some(())
        })
        .await?;
    }
    share(&[&first, &second], &[2, 2], A_WHILE).await?;
    stream.settles_in_sequence(&shop).await?;
    Ok(())
}

#[tokio::test]
async fn a_worker_that_is_cut_off_from_the_broker_gives_its_partitions_up_and_comes_back()
-> anyhow::Result<()> {
    let shop = Shop::open(4).await?;
    let (proxy, settings) = behind_a_proxy(&shop).await?;
    let (cut_off, healthy) = (settings.start().await?, shop.worker().start().await?);
    share(&[&cut_off, &healthy], &[2, 2], A_WHILE).await?;
    let stream = Stream::start(&shop).await?;
    stream.flows(200).await?;

    proxy.set(Mode::Refuse).await?;
    let both = [&cut_off, &healthy];
    share(&both, &[0, 4], FOUND_OUT_AND_HANDED_OVER).await?;
    assert!(!cut_off.is_ready().await);
    stream.flows(200).await?;
    proxy.set(Mode::Pass).await?;
    share(&both, &[2, 2], A_WHILE).await?;
    stream.settles_in_sequence(&shop).await?;
    Ok(())
}

#[tokio::test]
async fn a_worker_whose_broker_says_nothing_gives_its_partitions_up_and_stops_in_time()
-> anyhow::Result<()> {
    let shop = Shop::open(4).await?;
    let (proxy, settings) = behind_a_proxy(&shop).await?;
    let (mut stalled, healthy) = (settings.start().await?, shop.worker().start().await?);
    share(&[&stalled, &healthy], &[2, 2], A_WHILE).await?;
    let stream = Stream::start(&shop).await?;
    stream.flows(200).await?;

    proxy.set(Mode::Stall).await?;
    let both = [&stalled, &healthy];
    share(&both, &[0, 4], FOUND_OUT_AND_HANDED_OVER).await?;
    stalled.terminate()?;
    let ended = stalled.ended(A_WHILE).await?;
    assert!(ended.success(), "{ended}");
    // The broker delivers what that worker had to the next once the connection is gone.
    drop(proxy);
    stream.settles_in_sequence(&shop).await?;
    Ok(())
}

#[tokio::test]
async fn a_worker_without_a_broker_keeps_its_partitions_while_there_is_no_other()
-> anyhow::Result<()> {
    let shop = Shop::open(2).await?;
    let (proxy, settings) = behind_a_proxy(&shop).await?;
    let lonely = settings.start().await?;
    share(&[&lonely], &[2], A_WHILE).await?;
    proxy.set(Mode::Refuse).await?;
    wait::until("the worker to give up its presence", A_WHILE, async || {
        lonely.has_logged("others may take over").then_some(())
    })
    .await?;
    share(&[&lonely], &[2], AT_ONCE).await?;
    proxy.set(Mode::Pass).await?;
    let stream = Stream::start(&shop).await?;
    stream.flows(100).await?;
    stream.settles_in_sequence(&shop).await?;
    share(&[&lonely], &[2], A_WHILE).await
}

#[tokio::test]
#[ignore = "takes a minute: a database may be read-only for 30 s before anything is given up"]
async fn a_worker_whose_database_takes_no_writes_gives_its_partitions_up_and_comes_back()
-> anyhow::Result<()> {
    let shop = Shop::open(4).await?;
    let (role, settings) = with_a_role_of_its_own(&shop).await?;
    let (read_only, healthy) = (settings.start().await?, shop.worker().start().await?);
    let both = [&read_only, &healthy];
    share(&both, &[2, 2], A_WHILE).await?;
    let stream = Stream::start(&shop).await?;
    stream.flows(200).await?;

    let set = format!("alter role {role} set default_transaction_read_only = on");
    run(&shop, &set).await?;
    end_sessions_of(&shop, &role).await?;
    share(&both, &[0, 4], WAITED_FOR_AND_HANDED_OVER).await?;
    stream.flows(200).await?;
    let reset = format!("alter role {role} reset default_transaction_read_only");
    run(&shop, &reset).await?;
    end_sessions_of(&shop, &role).await?;
    share(&both, &[2, 2], A_WHILE).await?;
    stream.settles_in_sequence(&shop).await?;

    drop(read_only);
    let gone = format!("drop owned by {role}; drop role {role}");
    run(&shop, &gone).await
}

#[tokio::test]
#[ignore = "takes a minute: a database may be away for 30 s before anything is given up"]
async fn a_worker_that_is_cut_off_from_the_database_gives_its_partitions_up_and_comes_back()
-> anyhow::Result<()> {
    let shop = Shop::open(4).await?;
    let skus = shop.sku_of_each_partition();
    for sku in &skus {
        shop.stock(sku, 100).await?;
    }
    let proxy = Proxy::in_front_of(&shop.place.database_url).await?;
    let url = proxy.url(&shop.place.database_url)?;
    let settings = shop.worker().set("DATABASE_URL", url);
    let (cut_off, healthy) = (settings.start().await?, shop.worker().start().await?);
    let both = [&cut_off, &healthy];
    share(&both, &[2, 2], A_WHILE).await?;

    proxy.set(Mode::Refuse).await?;
    let order = |sku: &String| shop.order("c", &[(sku, 1)]);
    let orders: Vec<_> = skus.iter().map(order).collect();
    // Half of them are delivered to the one that cannot settle them.
    shop.publish_each(&orders).await?;
    share(&both, &[0, 4], WAITED_FOR_AND_HANDED_OVER).await?;
    shop.settled(&orders, A_WHILE).await?;
    assert!(!cut_off.is_ready().await);
    proxy.set(Mode::Pass).await?;
    share(&both, &[2, 2], A_WHILE).await?;
    let later: Vec<_> = skus.iter().map(order).collect();
    shop.publish_each(&later).await?;
    shop.settled(&later, A_WHILE).await?;
    shop.books(&[orders, later].concat()).await?;
    Ok(())
}

/// A worker with a proxy between it and the broker.
async fn behind_a_proxy(shop: &Shop) -> anyhow::Result<(Proxy, Settings)> {
    let proxy = Proxy::in_front_of(&shop.place.amqp_url).await?;
    let url = proxy.url(&shop.place.amqp_url)?;
    Ok((proxy, shop.worker().set("AMQP_URL", url)))
}

/// A worker with a role that may do what the owner of the tables may.
async fn with_a_role_of_its_own(shop: &Shop) -> anyhow::Result<(String, Settings)> {
    let mut url = url::Url::parse(&shop.place.database_url)?;
    let role = format!("{}_worker", url.path().trim_start_matches('/'));
    run(
        shop,
        &format!(
            "create role {role} login password 'worker' in role {}",
            url.username()
        ),
    )
    .await?;
    let changed = url
        .set_username(&role)
        .and(url.set_password(Some("worker")));
    changed.ok().context("the URL takes no user")?;
    Ok((role, shop.worker().set("DATABASE_URL", url)))
}

async fn end_sessions_of(shop: &Shop, role: &str) -> anyhow::Result<()> {
    let end = "select pg_terminate_backend(pid) from pg_stat_activity
         where usename = $1 and application_name = 'hotrow-worker'";
    sqlx::query(end).bind(role).execute(&shop.database).await?;
    Ok(())
}

async fn run(shop: &Shop, statements: &str) -> anyhow::Result<()> {
    let statements = sqlx::raw_sql(sqlx::AssertSqlSafe(statements.to_owned()));
    statements.execute(&shop.database).await?;
    Ok(())
}

/// The sessions that hold the workers' locks.
async fn sessions(shop: &Shop) -> anyhow::Result<Vec<i32>> {
    let sessions = "select pid from pg_stat_activity
         where datname = current_database() and application_name = 'hotrow-worker ownership'";
    Ok(sqlx::query_scalar(sessions)
        .fetch_all(&shop.database)
        .await?)
}

/// Waits until the workers own these numbers of partitions, whoever has which.
async fn share(workers: &[&Process], shares: &[u64], within: Duration) -> anyhow::Result<()> {
    let mut owned = Vec::new();
    let settled_down = wait::until("fair shares", within, async || {
        owned.clear();
        for worker in workers {
            let metrics = worker.metrics().await.ok()?;
            owned.push(metrics.count("hotrow_partitions_owned", &[]));
        }
        owned.sort_unstable();
        (owned == shares).then_some(())
    });
    settled_down
        .await
        .with_context(|| format!("owned are {owned:?} instead of {shares:?}"))
}

/// Waits until nobody consumes beside the owner of a partition, and nobody is missing.
async fn every_queue_has_one_consumer(shop: &Shop) -> anyhow::Result<()> {
    for partition in 0..16 {
        let what = format!("queue {partition} to have one consumer");
        wait::until(&what, HANDED_OVER, async || {
            let (_, consumers) = shop.depth(&topology::queue(partition)).await.ok()?;
            (consumers == 1).then_some(())
        })
        .await?;
    }
    Ok(())
}
