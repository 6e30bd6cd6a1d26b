//! Claims about payments around the end of a hold: in time is what was accepted in time, and late is late once.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use anyhow::{Context, ensure};
use chrono::{DateTime, TimeDelta, Utc};
use hotrow_shared::{
    change::{Ask, Expiry},
    envelope::Order,
};
use hotrow_tests::{Client, Mode, Process, Proxy, wait};
use nix::sys::signal::Signal;
use serde_json::json;
use tokio::time::sleep;

use super::{CHAIR, chairs, pay, reserve, stands};
use crate::{
    events::reader::{Reader, everything_is_out},
    inside::{self, Inside},
    worker::shop::{A_WHILE, Shop},
};

/// How late the broker confirms: a lane takes 5 s for an answer.
const CONFIRM: Duration = Duration::from_millis(4_900);
/// How far the clock of the ingest process is behind the database's.
const BEHIND: TimeDelta = TimeDelta::seconds(1);
/// A payment may leave this much before its moment: it takes a while to its lane.
const AHEAD: TimeDelta = TimeDelta::milliseconds(20);
/// How long a worker stands still.
const STANDSTILL: Duration = Duration::from_mins(1);
/// How often a busy machine may miss the moment.
const ATTEMPTS: usize = 6;

/// A shop whose ingest process has a clock that is behind, and a broker that may be slow.
struct Till {
    shop: Shop,
    broker: Proxy,
    clock: Arc<AtomicU64>,
    ingest: Inside,
}

impl Till {
    async fn open() -> anyhow::Result<Self> {
        let shop = Shop::open(1).await?;
        shop.stock_held(CHAIR, 100, 2).await?;
        let broker = Proxy::in_front_of(&shop.place.amqp_url).await?;
        let url = broker.url(&shop.place.amqp_url)?;
        let clock = Arc::new(AtomicU64::new(Utc::now().timestamp_millis().unsigned_abs()));
        let ingest = inside::ingest(&shop.place, 1, &url, &clock).await?;
        Ok(Self {
            shop,
            broker,
            clock,
            ingest,
        })
    }

    /// Two orders that are held by one settlement, and the end of both.
    async fn two_holds(&self) -> anyhow::Result<([Order; 2], DateTime<Utc>)> {
        let order = |customer| self.shop.order(customer, &[(CHAIR, 1)]);
        let orders = [order("c-1"), order("c-2")];
        self.shop.publish(&orders).await?;
        let mut end = None;
        for order in &orders {
            end = self.shop.becomes(order, "reserved", 1).await?.expires_at;
        }
        Ok((orders, end.context("no end")?))
    }

    /// Pays a millisecond before the end, by the clock of the ingest process, which is behind; the broker confirms as
    /// late as it may. Returns whether the payment was accepted: on a busy machine the moment may be missed, and then
    /// nobody was promised anything.
    async fn pays_at_the_last_moment(
        &self,
        order: &Order,
        end: DateTime<Utc>,
    ) -> anyhow::Result<bool> {
        let last_ms = end.timestamp_millis() - 1;
        self.clock.store(last_ms.unsigned_abs(), Ordering::Relaxed);
        let moment = end + BEHIND - AHEAD;
        wait::until("the last moment", A_WHILE, async || {
            (Utc::now() >= moment).then_some(())
        })
        .await?;
        self.broker.set(Mode::Stall).await?;
        let is_in_time = Utc::now() < end + BEHIND;
        let confirm = async {
            sleep(CONFIRM).await;
            self.broker.set(Mode::Pass).await
        };
        let payment = pay(&self.ingest.client, order.id.uuid(), "pi_1", 0);
        let (answer, ()) = tokio::try_join!(payment, confirm)?;
        ensure!([202, 503].contains(&answer.status.as_u16()), "{answer:?}");
        Ok(is_in_time && answer.status == 202)
    }

    /// Checks that the one is paid and the other's hold is over.
    async fn paid_and_expired(&self, [paid, unpaid]: &[Order; 2]) -> anyhow::Result<()> {
        self.shop.becomes(paid, "confirmed", 2).await?;
        self.shop.becomes(unpaid, "expired", 2).await?;
        let stands = self.shop.now(paid).await?;
        assert_eq!(stands.stands(), ("confirmed", 2));
        assert_eq!(self.shop.unmatched().await?, []);
        Ok(())
    }
}

#[tokio::test]
async fn a_payment_accepted_a_millisecond_before_expiry_wins_with_a_slow_confirm_and_a_clock_behind()
-> anyhow::Result<()> {
    let till = Till::open().await?;
    let _worker = till.shop.worker().start().await?;
    for _ in 0..ATTEMPTS {
        let (orders, end) = till.two_holds().await?;
        if till.pays_at_the_last_moment(&orders[0], end).await? {
            till.paid_and_expired(&orders).await?;
            till.shop.books(&orders).await?;
            return Ok(());
        }
    }
    anyhow::bail!("the machine is too busy: no payment was accepted in time")
}

/// What becomes of a worker that has stood still.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Then {
    GoesOn,
    IsReplaced,
}

#[tokio::test]
#[ignore = "a worker stands still for a minute"]
async fn a_payment_accepted_a_millisecond_before_expiry_wins_though_the_worker_stands_still_for_a_minute()
-> anyhow::Result<()> {
    tokio::try_join!(stands_still(Then::GoesOn), stands_still(Then::IsReplaced))?;
    Ok(())
}

async fn stands_still(then: Then) -> anyhow::Result<()> {
    let till = Till::open().await?;
    let worker = till.shop.worker().start().await?;
    for _ in 0..ATTEMPTS {
        let (orders, end) = till.two_holds().await?;
        worker.signal(Signal::SIGSTOP)?;
        if till.pays_at_the_last_moment(&orders[0], end).await? {
            return goes_on(&till, worker, then, &orders).await;
        }
        worker.signal(Signal::SIGCONT)?;
    }
    anyhow::bail!("the machine is too busy: no payment was accepted in time")
}

async fn goes_on(
    till: &Till,
    worker: Process,
    then: Then,
    orders: &[Order; 2],
) -> anyhow::Result<()> {
    sleep(STANDSTILL).await;
    assert_eq!(till.shop.now(&orders[0]).await?.stands(), ("reserved", 1));
    // As another worker may have queued them meanwhile.
    let over = || Ask::Expire(Expiry {});
    let both = [(&orders[0], over()), (&orders[1], over())];
    till.shop.ask(&both).await?;
    let _worker = match then {
        Then::GoesOn => {
            worker.signal(Signal::SIGCONT)?;
            worker
        }
        Then::IsReplaced => {
            worker.kill()?;
            till.shop.worker().start().await?
        }
    };
    till.paid_and_expired(orders).await?;
    till.shop.books(orders).await?;
    Ok(())
}

#[tokio::test]
async fn a_payment_after_the_end_confirms_while_goods_remain_and_else_is_unmatched_once_everywhere()
-> anyhow::Result<()> {
    let shop = Shop::open(2).await?;
    let _worker = shop.hasty_worker().start().await?;
    let ingest = shop.ingest().start().await?;
    let client = ingest.client()?;
    chairs(&client, 2, 1).await?;
    let one = [(CHAIR, 1)];
    let lucky = reserve(&client, &one).await?;
    let late = reserve(&client, &one).await?;
    wait::until("both holds to be over", A_WHILE, async || {
        (shop.shelf(CHAIR).await.ok()? == (2, 0)).then_some(())
    })
    .await?;
    chairs_for_good(&shop, &client).await?;

    let paid = pay(&client, lucky, "pi_1", 20).await?.expect(200)?;
    assert_eq!(stands(&paid.json()?), ("confirmed", 3));
    // Five times, and goods come back in between.
    for attempt in 0..5 {
        if attempt == 2 {
            client.restock(CHAIR, 1, None).await?.expect_success()?;
        }
        let conflict = pay(&client, late, "pi_2", 20).await?.expect(409)?.json()?;
        assert_eq!(conflict["unmatched"], true, "{conflict}");
        assert_eq!(stands(&conflict["order"]), ("expired", 2));
    }
    assert_eq!(shop.shelf(CHAIR).await?, (1, 0));
    let row = ("pi_2".to_owned(), "expired".to_owned());
    assert_eq!(shop.unmatched().await?, [row]);
    let listed = client.get("/v1/payments/unmatched").await?.expect(200)?;
    let listed = listed.json()?;
    let lines = listed["payments"].as_array().map(Vec::len);
    assert_eq!(lines, Some(1), "{listed}");
    let mut reader = Reader::from_first(&shop.place).await?;
    everything_is_out(&shop.place).await?;
    reader.catch_up().await?;
    let told = reader.events.values();
    let told: Vec<_> = told
        .filter(|event| event["type"] == "payment.unmatched")
        .map(|event| (&event["subject"], &event["data"]["payment_reference"]))
        .collect();
    assert_eq!(told, [(&late.to_string().into(), &"pi_2".into())]);

    // Another payment is another matter, and there are goods.
    let paid = pay(&client, late, "pi_3", 20).await?.expect(200)?;
    assert_eq!(stands(&paid.json()?), ("confirmed", 3));
    assert_eq!(shop.shelf(CHAIR).await?, (0, 0));
    shop.books(&[]).await?;
    Ok(())
}

/// Sells one of the chairs to somebody who has it at once.
async fn chairs_for_good(shop: &Shop, client: &Client) -> anyhow::Result<()> {
    let rules = json!({ "sale": null });
    client.patch_inventory(CHAIR, rules).await?.expect(200)?;
    let order = shop.order("c-9", &[(CHAIR, 1)]);
    shop.publish(std::slice::from_ref(&order)).await?;
    shop.becomes(&order, "confirmed", 1).await.map(drop)
}
