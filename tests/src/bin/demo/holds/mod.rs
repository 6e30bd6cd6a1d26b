//! The second act: a product whose goods are held until they are paid. Some buyers cancel or never pay, and others
//! get what they had.

mod buyer;
mod doors;
mod figures;
mod tally;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use hotrow_tests::{Client, load::allow_open_files};
use indicatif::HumanCount;
use serde::Deserialize;
use tokio::{
    sync::watch,
    task::JoinSet,
    time::{MissedTickBehavior, interval},
};

pub(crate) use self::figures::Figures;
use self::{
    buyer::{Buyer, Shop, Stock, get},
    doors::Doors,
    tally::{Counts, Tally, Told},
};
use crate::{
    display::{Display, Row},
    goods::{GRACE, HOLD, LAMP, LAMPS},
    stage::Stage,
};

/// More than there are lamps, with those that come back counted again.
const BUYERS: usize = 1_000;

const REFRESH: Duration = Duration::from_millis(100);
/// So long no buyer heard anything: whoever is still there will hear nothing more.
const SILENCE_MAX: Duration = Duration::from_secs(30);

/// What the buyers heard.
pub(crate) struct Act {
    told: Told,
    /// Buyers that were still waiting when nobody heard anything any more.
    left_waiting: usize,
}

/// Lets the buyers in, and waits until everybody has gone.
pub(crate) async fn run(stage: &Stage) -> anyhow::Result<Act> {
    eprintln!(
        "\n{} buyers want {LAMPS} lamps, each held for {} s until it is paid.\n\
         What is not paid goes to others {} s later (in production 8 s).\n",
        HumanCount(BUYERS as u64),
        HOLD.as_secs(),
        GRACE.as_secs(),
    );
    // Most of them hold a connection while they wait for an answer.
    allow_open_files(BUYERS)?;
    let addresses = stage.addresses()?;
    let front = addresses.into_iter().map(Client::new);
    let (window, stock) = watch::channel(Stock::Open);
    let shop = Arc::new(Shop {
        front: Doors::new(front.collect::<anyhow::Result<_>>()?),
        back: Doors::new(stage.administrators()?),
        stock,
        tally: Tally::default(),
    });
    let mut buyers = JoinSet::new();
    for number in 0..BUYERS {
        let shop = Arc::clone(&shop);
        buyers.spawn(Buyer { number, shop }.visit());
    }
    follow(&shop, &window, &mut buyers).await?;
    Ok(Act {
        told: shop.tally.so_far(),
        left_waiting: buyers.len(),
    })
}

/// Shows how far the buyers are, until all of them have gone or nobody hears anything any more.
async fn follow(
    shop: &Shop,
    window: &watch::Sender<Stock>,
    buyers: &mut JoinSet<anyhow::Result<()>>,
) -> anyhow::Result<()> {
    let display = Display::new(["held", "sold"], LAMPS);
    let began = Instant::now();
    let mut refresh = interval(REFRESH);
    refresh.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut last, mut last_change) = (None, began);
    while last_change.elapsed() < SILENCE_MAX {
        tokio::select! {
            gone = buyers.join_next() => match gone {
                Some(gone) => gone??,
                None => break,
            },
            _ = refresh.tick() => {
                if let Some(stock) = look(shop).await {
                    window.send_replace(stock);
                }
                display.show(&rows(shop.tally.progress().0, buyers.len(), began.elapsed()));
            }
        }
        let heard = (shop.tally.progress(), buyers.len());
        if last.replace(heard) != Some(heard) {
            last_change = Instant::now();
        }
    }
    display.show(&rows(
        shop.tally.progress().0,
        buyers.len(),
        began.elapsed(),
    ));
    display.close();
    Ok(())
}

/// The stock as the shop shows it to everybody who waits for a lamp.
async fn look(shop: &Shop) -> Option<Stock> {
    #[derive(Deserialize)]
    struct Product {
        state: Stock,
    }
    let product = get(format!("/v1/inventory/{LAMP}"));
    let answer = shop.front.ask_once(&product).await.ok()?;
    let product: Product = answer.expect(200).ok()?.read().ok()?;
    Some(product.state)
}

fn rows(counts: Counts, here: usize, since: Duration) -> [Row; 2] {
    let Counts {
        cancelled,
        expired,
        late_paid,
        unmatched,
        ..
    } = counts;
    [
        Row {
            position: counts.held().unsigned_abs(),
            of: LAMPS,
            words: format!("{cancelled} cancelled, {expired} expired"),
        },
        Row {
            position: counts.sold().unsigned_abs(),
            of: LAMPS,
            words: format!(
                "{late_paid} paid late, {unmatched} too late; {} buyers here after {:.1} s",
                HumanCount(here as u64),
                since.as_secs_f64()
            ),
        },
    ]
}
