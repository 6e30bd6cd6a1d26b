//! Claims about outages while goods are held and paid for: no payment that was answered is lost, and what nobody paid
//! comes back.

use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use anyhow::ensure;
use chrono::{DateTime, Utc};
use futures_util::future::try_join_all;
use hotrow_tests::{
    Client, Place,
    servers::{Postgres, RabbitMq, Servers},
    wait,
};
use tokio::time::sleep;
use uuid::Uuid;

use super::{CHAIR, chairs, pay};
use crate::worker::shop::Shop;

/// How long a server is away.
const AWAY: Duration = Duration::from_secs(20);
/// How long everything works before and after.
const UNDISTURBED: Duration = Duration::from_secs(8);
/// How long it may take until everything is settled that was left over.
const SETTLED_WITHIN: Duration = Duration::from_mins(3);
const BUYERS: usize = 40;
const UNITS: i64 = 5_000;
const HOLD_SECONDS: u32 = 3;

/// A payment that was answered.
#[derive(Debug, Clone)]
struct Paid {
    order_id: Uuid,
    reference: String,
    /// When it was sent first.
    sent_at: DateTime<Utc>,
    /// Whether the answer was that it did not pay.
    is_unmatched: bool,
}

/// A sale with buyers who do not give up.
struct Sale {
    clients: Vec<Client>,
    is_over: AtomicBool,
    payments: AtomicUsize,
    paid: Mutex<Vec<Paid>>,
}

impl Sale {
    fn of(clients: Vec<Client>) -> Self {
        Self {
            clients,
            is_over: AtomicBool::new(false),
            payments: AtomicUsize::new(0),
            paid: Mutex::default(),
        }
    }

    /// Buys one chair after the other until the sale is over. Some are paid at once, some late, some never.
    async fn buy(&self, buyer: usize) -> anyhow::Result<()> {
        let client = &self.clients[buyer % self.clients.len()];
        while !self.is_over.load(Ordering::Relaxed) {
            let Some(order_id) = self.reserve(client, buyer).await else {
                sleep(Duration::from_millis(200)).await;
                continue;
            };
            if rand::random_range(0..3) == 0 {
                continue;
            }
            sleep(Duration::from_millis(rand::random_range(0..6_000))).await;
            self.pay(client, order_id).await?;
            if rand::random_range(0..4) == 0 {
                self.pay(client, order_id).await?;
            }
        }
        Ok(())
    }

    /// Returns an order that is held; none if nobody says that there is one.
    async fn reserve(&self, client: &Client, buyer: usize) -> Option<Uuid> {
        let order = client.order(&format!("c-{buyer}"), &[(CHAIR, 1)]).await;
        let order_id = order.ok()?.expect(202).ok()?.order_id().ok()?;
        let what = "an order to be settled";
        let is_held = wait::until(what, SETTLED_WITHIN, async || {
            let document = client.settled(order_id, 20).await.ok()?.expect(200).ok()?;
            let status = document.json().ok()?["status"].clone();
            (status != "queued").then(|| status == "reserved")
        });
        is_held.await.ok()?.then_some(order_id)
    }

    /// Pays by a payment of its own, and repeats it until there is an answer.
    async fn pay(&self, client: &Client, order_id: Uuid) -> anyhow::Result<()> {
        let number = self.payments.fetch_add(1, Ordering::Relaxed);
        let (reference, sent_at) = (format!("pi_{number}"), Utc::now());
        // Half of them wait for what becomes of it.
        let wait_seconds = if number.is_multiple_of(2) { 5 } else { 0 };
        let what = format!("an answer to the payment {reference}");
        let answer = wait::until(&what, SETTLED_WITHIN, async || {
            let answer = pay(client, order_id, &reference, wait_seconds).await;
            let answered = answer.ok().filter(|answer| answer.status != 503);
            if answered.is_none() {
                sleep(Duration::from_millis(200)).await;
            }
            answered
        });
        let answer = answer.await?;
        let is_unmatched = match answer.status.as_u16() {
            200 | 202 => false,
            409 => {
                let body = answer.json()?;
                ensure!(body["unmatched"] == true, "{body}");
                true
            }
            _ => return answer.expect(200).map(drop),
        };
        let paid = Paid {
            order_id,
            reference,
            sent_at,
            is_unmatched,
        };
        self.paid().push(paid);
        Ok(())
    }

    fn paid(&self) -> std::sync::MutexGuard<'_, Vec<Paid>> {
        self.paid.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What the tables say of a payment: how many orders it paid, and how often it is unmatched.
async fn ends(shop: &Shop, paid: &Paid) -> anyhow::Result<(i64, i64)> {
    let ends = "select (select count(*) from orders_now
                        where order_id = $1 and status = 'confirmed' and payment_reference = $2),
                       (select count(*) from unmatched_payments where order_id = $3 and payment_reference = $2)";
    let ends = sqlx::query_as(ends)
        .bind(paid.order_id)
        .bind(&paid.reference)
        .bind(paid.order_id.to_string());
    Ok(ends.fetch_one(&shop.database).await?)
}

/// Waits until no goods are held and every payment has come to its end, and checks each.
async fn everything_ends(shop: &Shop, paid: &[Paid]) -> anyhow::Result<()> {
    for paid in paid {
        let what = format!("the end of {paid:?}");
        let (confirmed, unmatched) = wait::until(&what, SETTLED_WITHIN, async || {
            ends(shop, paid).await.ok().filter(|ends| *ends != (0, 0))
        })
        .await?;
        ensure!(
            confirmed + unmatched == 1,
            "{paid:?}: {confirmed}, {unmatched}"
        );
        ensure!(!paid.is_unmatched || unmatched == 1, "{paid:?}");
    }
    wait::until(
        "everything that is over to be back",
        SETTLED_WITHIN,
        async || {
            let held = sqlx::query_scalar::<_, i64>("select count(*) from holds");
            let held = held.fetch_one(&shop.database).await.ok()?;
            (held == 0 && shop.shelf(CHAIR).await.ok()?.1 == 0).then_some(())
        },
    )
    .await
}

/// How many holds that were over between these moments came back.
async fn came_back(shop: &Shop, [from, until]: [DateTime<Utc>; 2]) -> anyhow::Result<i64> {
    let came_back = "select count(*) from order_changes join orders using (order_id)
                     where order_changes.status = 'expired' and orders.expires_at between $1 and $2";
    let came_back = sqlx::query_scalar(came_back).bind(from).bind(until);
    Ok(came_back.fetch_one(&shop.database).await?)
}

#[tokio::test]
#[ignore = "the broker and then the database are away for 20 s each"]
async fn no_answered_payment_is_lost_and_what_is_over_comes_back_after_20_s_without_broker_or_database()
-> anyhow::Result<()> {
    let (postgres, rabbitmq) = tokio::try_join!(Postgres::start(), RabbitMq::start())?;
    let servers = Servers {
        postgres: postgres.clone(),
        rabbitmq: rabbitmq.clone(),
    };
    let shop = Shop::open_at(Place::on(servers).await?, 2).await?;
    let (worker, ingest) = (shop.worker().set("HOLD_GRACE", "1s"), shop.ingest());
    let (_first, _second, here, there) = tokio::try_join!(
        worker.start(),
        worker.start(),
        ingest.start(),
        ingest.start()
    )?;
    let clients = vec![here.client()?, there.client()?];
    chairs(&clients[0], UNITS, HOLD_SECONDS).await?;
    let sale = Sale::of(clients);
    let buyers = try_join_all((0..BUYERS).map(|buyer| sale.buy(buyer)));
    let outages = async {
        sleep(UNDISTURBED).await;
        let broker = [Utc::now(), {
            rabbitmq.stop().await?;
            sleep(AWAY).await;
            rabbitmq.start_again().await?;
            Utc::now()
        }];
        sleep(UNDISTURBED).await;
        let database = [Utc::now(), {
            postgres.stop().await?;
            sleep(AWAY).await;
            postgres.start_again().await?;
            Utc::now()
        }];
        sleep(UNDISTURBED).await;
        sale.is_over.store(true, Ordering::Relaxed);
        anyhow::Ok([broker, database])
    };
    let (_, outages) = tokio::try_join!(buyers, outages)?;
    let paid = sale.paid().clone();
    everything_ends(&shop, &paid).await?;
    for [from, until] in outages {
        let sent = paid.iter().filter(|it| (from..until).contains(&it.sent_at));
        let (sent, came_back) = (sent.count(), came_back(&shop, [from, until]).await?);
        println!(
            "in an outage: {sent} payments were sent, {came_back} holds were over and came back"
        );
        assert!(sent > 0 && came_back > 0, "{sent}, {came_back}");
    }
    let unmatched = shop.unmatched().await?.len();
    println!("{} payments, {unmatched} of them unmatched", paid.len());
    assert!(paid.iter().any(|paid| paid.is_unmatched));
    shop.books(&[]).await?;
    let confirmed: i64 =
        sqlx::query_scalar("select count(*) from orders_now where status = 'confirmed'")
            .fetch_one(&shop.database)
            .await?;
    assert_eq!(shop.shelf(CHAIR).await?, (UNITS - confirmed, 0));
    Ok(())
}
