//! Claims about a crowd whose goods come back again and again.

use std::{
    collections::VecDeque,
    net::SocketAddr,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, AtomicI64, Ordering},
    },
    time::Duration,
};

use anyhow::ensure;
use futures_util::future::try_join_all;
use hotrow_tests::{
    Client, Load, Process,
    client::Answer,
    law::Verdict,
    load::{Basket, Refusal},
    wait,
};
use sqlx::{Connection, FromRow, PgConnection, PgPool};
use tokio::time::sleep;
use uuid::Uuid;

use super::pay;
use crate::worker::shop::Shop;

const HOT: &str = "hot";
const BUYERS: u64 = 20_000;
const UNITS: i64 = 5_000;
/// How often nobody pays.
const UNPAID_ROUNDS: i64 = 3;
const HOLD_SECONDS: i32 = 2;
/// Buyers who do something at the same time, in the last round.
const AT_ONCE: usize = 128;
/// Long for a crowd on a busy machine.
const LONG: Duration = Duration::from_mins(5);

/// How the goods stand at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromRow)]
struct Moment {
    available: i64,
    /// What the inventory row says is held.
    held: i64,
    /// Orders of one piece each.
    reserved: i64,
    confirmed: i64,
}

impl Moment {
    /// All statements see the tables as the first of them does.
    async fn read(database: &mut PgConnection) -> anyhow::Result<Self> {
        let mut moment = database
            .begin_with("begin isolation level repeatable read read only")
            .await?;
        let (available, held) =
            sqlx::query_as("select available, held from inventory where sku = $1")
                .bind(HOT)
                .fetch_one(&mut *moment)
                .await?;
        let (reserved, confirmed) = sqlx::query_as(
            "with latest as (
                 select distinct on (order_id) order_id, status from order_changes order by order_id, revision desc
             ),
             now as (
                 select coalesce(latest.status, orders.status) as status
                 from orders left join latest using (order_id)
                 where orders.status in ('reserved', 'confirmed')
             )
             select count(*) filter (where status = 'reserved'), count(*) filter (where status = 'confirmed') from now",
        )
        .fetch_one(&mut *moment)
        .await?;
        moment.commit().await?;
        Ok(Self {
            available,
            held,
            reserved,
            confirmed,
        })
    }

    fn holds(self) -> bool {
        self.available >= 0
            && self.held == self.reserved
            && self.available + self.reserved + self.confirmed == UNITS
    }
}

/// Looks at the goods again and again, in the database and at each process. Returns the most that were held and
/// confirmed together, and how often it looked.
async fn watch(
    database: &PgPool,
    clients: &[Client],
    is_over: &AtomicBool,
) -> anyhow::Result<(i64, usize)> {
    let mut connection = database.acquire().await?;
    let (mut most, mut looks) = (0, 0);
    while !is_over.load(Ordering::Relaxed) {
        let shown = shown(&clients[looks % clients.len()]).await?;
        let now = Moment::read(&mut connection).await?;
        ensure!(now.holds(), "{now:?}");
        if let Some((available, held)) = shown {
            // It was so at a moment before this one, and nothing that is paid comes back.
            let confirmed = UNITS - available - held;
            let is_possible = available >= 0 && held >= 0 && confirmed >= 0;
            ensure!(
                is_possible && confirmed <= now.confirmed,
                "{available} available, {held} held, then {now:?}"
            );
        }
        most = most.max(now.reserved + now.confirmed);
        looks += 1;
        sleep(Duration::from_millis(50)).await;
    }
    Ok((most, looks))
}

/// What `GET /v1/inventory/{sku}` shows of the goods; none while the process has no time.
async fn shown(client: &Client) -> anyhow::Result<Option<(i64, i64)>> {
    let answer = client.inventory(HOT).await?;
    if answer.status == 503 {
        return Ok(None);
    }
    let shown = answer.expect(200)?.json()?;
    let number = |name: &str| shown[name].as_i64().unwrap_or(-1);
    Ok(Some((number("available"), number("held"))))
}

/// Everybody orders, and nobody pays. Returns the accepted orders.
async fn everybody_orders(targets: &[SocketAddr]) -> anyhow::Result<Vec<Uuid>> {
    let load = Load::of(Basket::one(HOT, 1), targets);
    let report = load.orders(BUYERS).connections(AT_ONCE).run().await?;
    let sold_out = Refusal {
        status: 409,
        code: "sold_out".into(),
    };
    ensure!(report.unanswered.is_empty(), "{:?}", report.unanswered);
    ensure!(
        report.refused.keys().all(|refusal| *refusal == sold_out),
        "{:?}",
        report.refused
    );
    Ok(report.accepted)
}

/// Waits until all of these orders are settled and no goods are held.
async fn everything_is_back(shop: &Shop, accepted: &[Uuid]) -> anyhow::Result<()> {
    let unsettled = "select count(*) from unnest($1::uuid[]) as accepted (order_id)
                     where not exists (select from orders where orders.order_id = accepted.order_id)";
    wait::until("all goods to be back", LONG, async || {
        let unsettled = sqlx::query_scalar::<_, i64>(unsettled).bind(accepted);
        let unsettled = unsettled.fetch_one(&shop.database).await.ok()?;
        (unsettled == 0 && shop.shelf(HOT).await.ok()? == (UNITS, 0)).then_some(())
    })
    .await
}

/// The last round: who gets a hold pays, and who gets none tries again while there are goods.
struct LastRound {
    /// Buyers who have nothing yet.
    waiting: Mutex<VecDeque<u64>>,
    confirmed: AtomicI64,
    /// Ids of accepted orders.
    accepted: Mutex<Vec<Uuid>>,
}

impl LastRound {
    fn new() -> Self {
        Self {
            waiting: Mutex::new((0..BUYERS).collect()),
            confirmed: AtomicI64::new(0),
            accepted: Mutex::default(),
        }
    }

    /// One buyer after the other, until all goods are paid.
    async fn run(&self, client: &Client) -> anyhow::Result<()> {
        while self.confirmed.load(Ordering::Relaxed) < UNITS {
            let next = locked(&self.waiting).pop_front();
            let Some(buyer) = next else { break };
            if self.buys(client, buyer).await? {
                self.confirmed.fetch_add(1, Ordering::Relaxed);
            } else {
                locked(&self.waiting).push_back(buyer);
            }
        }
        Ok(())
    }

    /// Returns whether the buyer has paid for a piece.
    async fn buys(&self, client: &Client, buyer: u64) -> anyhow::Result<bool> {
        let answer = client.order(&format!("c-{buyer}"), &[(HOT, 1)]).await?;
        if answer.status == 409 {
            patience(&answer).await;
            return Ok(false);
        }
        let id = answer.expect(202)?.order_id()?;
        locked(&self.accepted).push(id);
        let is_held = wait::until("an order to be settled", LONG, async || {
            let document = client.settled(id, 20).await.ok()?.expect(200).ok()?;
            let document = document.json().ok()?;
            (document["status"] != "queued").then(|| document["status"] == "reserved")
        });
        if !is_held.await? {
            return Ok(false);
        }
        loop {
            // Whoever comes late and finds nothing has not paid.
            let answer = pay(client, id, &format!("pi_{id}"), 20).await?;
            match answer.status.as_u16() {
                200 => return Ok(true),
                409 => return Ok(false),
                202 | 503 => {}
                _ => return answer.expect(200).map(|_| false),
            }
        }
    }
}

fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Waits as long as a refusal says.
async fn patience(refusal: &Answer) {
    let seconds = refusal.header("retry-after").and_then(|it| it.parse().ok());
    sleep(Duration::from_secs(seconds.unwrap_or(0))).await;
}

#[tokio::test]
#[ignore = "80,000 orders: one to two minutes"]
async fn twenty_thousand_buyers_get_each_of_5_000_units_once_after_three_rounds_that_nobody_pays()
-> anyhow::Result<()> {
    let shop = Shop::open(4).await?;
    shop.stock_held(HOT, UNITS, HOLD_SECONDS).await?;
    let ingest = shop.ingest();
    let (here, there) = tokio::try_join!(ingest.start(), ingest.start())?;
    let targets = [here.address()?, there.address()?];
    let clients = [here.client()?, there.client()?];
    let is_over = AtomicBool::new(false);
    let sale = async {
        let sold = sell(&shop, &targets, &clients).await;
        is_over.store(true, Ordering::Relaxed);
        sold
    };
    let watch = watch(&shop.database, &clients, &is_over);
    let ((accepted, _workers), (most, looks)) = tokio::try_join!(sale, watch)?;
    println!(
        "{} orders; of {UNITS} units at most {most} were taken in {looks} looks",
        accepted.len()
    );
    let mut connection = shop.database.acquire().await?;
    let last = Moment::read(&mut connection).await?;
    let sold_out = Moment {
        available: 0,
        held: 0,
        reserved: 0,
        confirmed: UNITS,
    };
    assert_eq!(last, sold_out);
    let verdict = Verdict::read(&mut connection, &accepted).await?;
    assert!(verdict.holds(), "{verdict}");
    Ok(())
}

/// The rounds of the sale, until each unit is paid. Returns all accepted orders, and the workers.
async fn sell(
    shop: &Shop,
    targets: &[SocketAddr],
    clients: &[Client],
) -> anyhow::Result<(Vec<Uuid>, [Process; 2])> {
    // The first crowd is in the queue when the workers come: there are more orders than units at once.
    let mut all = everybody_orders(targets).await?;
    let worker = shop.worker().set("HOLD_GRACE", "500ms");
    let (first, second) = tokio::try_join!(worker.start(), worker.start())?;
    for round in 1..=UNPAID_ROUNDS {
        everything_is_back(shop, &all).await?;
        let held = "select count(*) from orders where status = 'reserved'";
        let held: i64 = sqlx::query_scalar(held).fetch_one(&shop.database).await?;
        ensure!(held >= UNITS * round, "{held} holds in {round} rounds");
        if round < UNPAID_ROUNDS {
            all.extend(everybody_orders(targets).await?);
        }
    }
    let last = LastRound::new();
    let buyers = (0..AT_ONCE).map(|number| last.run(&clients[number % clients.len()]));
    try_join_all(buyers).await?;
    ensure!(
        last.confirmed.load(Ordering::Relaxed) == UNITS,
        "{:?} paid",
        last.confirmed
    );
    all.extend(locked(&last.accepted).iter().copied());
    Ok((all, [first, second]))
}
