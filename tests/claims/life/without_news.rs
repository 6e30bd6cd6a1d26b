//! Claims about processes that hear no news, or hear it before what they have read: what they show never goes back,
//! and is soon what is.

use std::{
    collections::HashMap,
    ops::Range,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, AtomicI64, Ordering},
    },
    time::Duration,
};

use anyhow::ensure;
use futures_util::future::try_join_all;
use hotrow_shared::{
    change::{Ask, Cancellation, Extension, Payment},
    envelope::Order,
};
use hotrow_tests::{Client, Mode, Place, Proxy, wait};
use serde_json::Value;
use tokio::time::{Instant, sleep};

use super::stands;
use crate::worker::shop::{A_WHILE, Shop};

/// How long what may change is shown after it was last known to be true.
const SHOWN_FOR: Duration = Duration::from_secs(2);
/// How much longer a wire to the database is in each direction: what was read is old when it comes.
const LONG_WIRE: Duration = Duration::from_millis(90);
/// How often an order is settled and changed.
const REVISIONS: i64 = 5;

/// An order, and what is known of it beside what is polled.
struct Life {
    order: Order,
    /// Revisions that were seen in the database, and when.
    committed: Mutex<Vec<(Instant, i64)>>,
    /// The one document of each revision.
    documents: Mutex<HashMap<i64, Value>>,
    /// The highest revision that each process has shown.
    shown: Vec<AtomicI64>,
}

impl Life {
    fn of(order: Order, processes: usize) -> Self {
        Self {
            order,
            committed: Mutex::default(),
            documents: Mutex::default(),
            shown: (0..processes).map(|_| AtomicI64::default()).collect(),
        }
    }

    fn note(&self, revision: i64) {
        locked(&self.committed).push((Instant::now(), revision));
    }

    /// The revision that was the order's for certain by then; 0 while it was queued.
    fn by(&self, then: Instant) -> i64 {
        let committed = locked(&self.committed);
        let before = committed.iter().filter(|(at, _)| *at <= then);
        before.map(|(_, revision)| *revision).max().unwrap_or(0)
    }

    /// Polls one process until it is over, in two ways in turn. A poll shows no less than every answer before it did,
    /// and no less than what was true 2 s before it was asked.
    async fn poll(
        &self,
        process: usize,
        client: &Client,
        ways: [Way; 2],
        is_over: &AtomicBool,
    ) -> anyhow::Result<()> {
        let shown = &self.shown[process];
        for way in ways.into_iter().cycle() {
            if is_over.load(Ordering::Relaxed) {
                break;
            }
            let shown_before = shown.load(Ordering::SeqCst);
            let asked = Instant::now();
            let true_before = asked.checked_sub(SHOWN_FOR).map_or(0, |it| self.by(it));
            if let Some((revision, document)) = way.ask(client, &self.order, shown_before).await? {
                ensure!(
                    revision >= shown_before.max(true_before),
                    "process {process} showed revision {revision} by {way:?} after it had shown {shown_before}, and \
                     {SHOWN_FOR:?} before it was {true_before}"
                );
                if let Some(document) = document {
                    let mut documents = locked(&self.documents);
                    let known = documents.entry(revision).or_insert(document.clone());
                    ensure!(*known == document, "{known} and {document}");
                }
                shown.fetch_max(revision, Ordering::SeqCst);
            }
            sleep(Duration::from_millis(40)).await;
        }
        Ok(())
    }

    /// The order is held, extended twice, paid and taken back; each time when all processes have shown the last, and
    /// after a pause of so many milliseconds.
    async fn lead(&self, shop: &Shop, pause_ms: Range<u64>) -> anyhow::Result<()> {
        let order = &self.order;
        shop.publish(std::slice::from_ref(order)).await?;
        shop.becomes(order, "reserved", 1).await?;
        self.note(1);
        self.shows(1).await?;
        let extend = |seconds| Ask::Extend(Extension { seconds });
        let payment = Ask::Confirm(Payment {
            reference: "pi_1".to_owned(),
            amount_minor: None,
            currency: None,
        });
        let cancellation = Ask::Cancel(Cancellation {
            reason: None,
            restock: true,
        });
        for (revision, ask, status) in [
            (2, extend(700), "reserved"),
            (3, extend(800), "reserved"),
            (4, payment, "confirmed"),
            (5, cancellation, "cancelled"),
        ] {
            sleep(Duration::from_millis(rand::random_range(pause_ms.clone()))).await;
            shop.ask(&[(order, ask)]).await?;
            shop.becomes(order, status, revision).await?;
            self.note(revision.into());
            self.shows(revision.into()).await?;
        }
        Ok(())
    }

    async fn shows(&self, revision: i64) -> anyhow::Result<()> {
        let what = format!("all processes to show revision {revision}");
        wait::until(&what, A_WHILE, async || {
            let is_shown = |shown: &AtomicI64| shown.load(Ordering::SeqCst) == revision;
            self.shown.iter().all(is_shown).then_some(())
        })
        .await
    }
}

/// How a poll asks.
#[derive(Debug, Clone, Copy)]
enum Way {
    Alone,
    ByList,
    UntilSettled,
    BehindRevision,
}

impl Way {
    /// The revision that is shown, 0 while it is queued, and the document of a settled order. None if there is no
    /// answer now.
    async fn ask(
        self,
        client: &Client,
        order: &Order,
        known: i64,
    ) -> anyhow::Result<Option<(i64, Option<Value>)>> {
        let id = order.id;
        let path = match self {
            Self::Alone => format!("/v1/orders/{id}"),
            Self::ByList => format!("/v1/orders?ids={id}"),
            Self::UntilSettled => format!("/v1/orders/{id}?wait=1"),
            Self::BehindRevision => format!("/v1/orders/{id}?after_revision={known}&wait=3"),
        };
        let answer = client.get(&path).await?;
        match answer.status.as_u16() {
            503 => return Ok(None),
            304 => {
                let tag = answer.header("etag").unwrap_or_default().trim_matches('"');
                return Ok(Some((tag.parse()?, None)));
            }
            _ => {}
        }
        let mut document = answer.expect(200)?.json()?;
        if matches!(self, Self::ByList) {
            document = document["orders"][0].take();
        }
        if document["status"] == "queued" {
            return Ok(Some((0, None)));
        }
        Ok(Some((stands(&document).1, Some(document))))
    }
}

#[tokio::test]
async fn a_poll_never_goes_back_and_shows_what_is_2_s_later_at_processes_that_hear_no_news()
-> anyhow::Result<()> {
    let shop = Shop::open(1).await?;
    // Where they listen, nobody ever tells anything.
    let elsewhere = Place::new().await?;
    let deaf = shop.ingest().set("AMQP_URL", &elsewhere.amqp_url);
    let worker = shop.worker();
    let (_worker, first, second) = tokio::try_join!(worker.start(), deaf.start(), deaf.start())?;
    polls_while_orders_live(&shop, &[first.client()?, second.client()?], 3, 0..200).await
}

#[tokio::test]
async fn a_read_that_comes_after_the_news_takes_nothing_back() -> anyhow::Result<()> {
    let shop = Shop::open(1).await?;
    let database = Proxy::in_front_of(&shop.place.database_url).await?;
    let url = database.url(&shop.place.database_url)?;
    let (ingest, worker) = (shop.ingest().set("DATABASE_URL", url), shop.worker());
    let (_worker, ingest) = tokio::try_join!(worker.start(), ingest.start())?;
    database.set(Mode::Delay(LONG_WIRE)).await?;
    // It reads an order 2 s after it has heard of it last: now it is changed meanwhile.
    polls_while_orders_live(&shop, &[ingest.client()?], 12, 2_000..2_250).await
}

/// Polls so many orders at these processes while they are changed again and again.
async fn polls_while_orders_live(
    shop: &Shop,
    clients: &[Client],
    orders: usize,
    pause_ms: Range<u64>,
) -> anyhow::Result<()> {
    shop.stock_held("hot", orders.try_into()?, 600).await?;
    let lives = (0..orders).map(|_| Life::of(shop.order("c-1", &[("hot", 1)]), clients.len()));
    let lives: Vec<_> = lives.collect();
    let is_over = AtomicBool::new(false);
    let mut polls = Vec::new();
    for life in &lives {
        for (process, client) in clients.iter().enumerate() {
            for ways in [
                [Way::Alone, Way::ByList],
                [Way::UntilSettled, Way::BehindRevision],
            ] {
                polls.push(life.poll(process, client, ways, &is_over));
            }
        }
    }
    let lead = async {
        let led = lives.iter().map(|life| life.lead(shop, pause_ms.clone()));
        let led = try_join_all(led).await;
        is_over.store(true, Ordering::Relaxed);
        led
    };
    tokio::try_join!(try_join_all(polls), lead)?;
    for life in &lives {
        let mut shown: Vec<_> = locked(&life.documents).keys().copied().collect();
        shown.sort_unstable();
        assert_eq!(shown, (1..=REVISIONS).collect::<Vec<_>>());
    }
    let orders: Vec<_> = lives.into_iter().map(|life| life.order).collect();
    shop.books(&orders).await?;
    Ok(())
}

fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
