//! The third act: a sale with rules. It opens by the clock while the crowd already knocks, stands still for a while in
//! the middle, and gives nobody more than two tickets, although bots try.

mod door;
mod figures;
mod tally;
mod visitor;

use std::{sync::Arc, time::Duration};

use chrono::{DateTime, SecondsFormat, Utc};
use hotrow_tests::{Client, Process, load::allow_open_files, wait};
use indicatif::HumanCount;
use reqwest::Method;
use serde_json::{Value, json};
use tokio::{
    task::JoinSet,
    time::{Instant, MissedTickBehavior, interval, sleep, sleep_until},
};

pub(crate) use self::figures::Figures;
use self::{
    door::{AUTH_SECRET, Door},
    tally::{CONFIRMED, Counts, Told},
    visitor::{Kind, Visitor},
};
use crate::{
    display::{Display, Row},
    goods::{TICKET, TICKETS, TICKETS_EACH},
    stage::{LOOPBACK, Stage},
};

const CUSTOMERS: usize = 300;
const BOTS: usize = BOTS_OF_MANY_ADDRESSES + BOTS_OF_MANY_NAMES;
const BOTS_OF_MANY_ADDRESSES: usize = 200;
const BOTS_OF_MANY_NAMES: usize = 100;
const VISITORS: usize = CUSTOMERS + BOTS;

/// Purchases of an address, and of a customer: enough for somebody who comes back when told to, and not for a bot.
const RATE_LIMIT_IP: &str = "1/s burst 4";
const RATE_LIMIT_CUSTOMER: &str = "1/s burst 4";

const OPENS_IN: Duration = Duration::from_secs(3);
/// All customers come within this time, from before the opening on.
const CROWD_WITHIN: Duration = Duration::from_secs(6);
/// The bots come when it opens, so much earlier, all within this time.
const BOTS_EARLY: Duration = Duration::from_millis(300);
const BOTS_WITHIN: Duration = Duration::from_secs(3);
/// How long it is open before it is paused, and how long the pause is.
const OPEN_BEFORE_PAUSE: Duration = Duration::from_secs(1);
const PAUSE: Duration = Duration::from_secs(2);
const PAUSES_MAX: u32 = 5;

/// The contract of whatever changes at a door, and some time for a busy machine.
const KNOWN_WITHIN: Duration = Duration::from_secs(2);
const REFRESH: Duration = Duration::from_millis(100);
/// So long nobody heard anything: whoever is still there will hear nothing more.
const SILENCE_MAX: Duration = Duration::from_secs(30);

/// What everybody heard.
pub(crate) struct Act {
    told: Told,
    opens_at: DateTime<Utc>,
    /// Visitors that were still waiting at the end.
    left_waiting: usize,
    /// The door stays until the figures are read.
    _door: Process,
}

/// Opens the sale, lets everybody in, pauses in between, and waits until all have gone.
pub(crate) async fn run(stage: &Stage) -> anyhow::Result<Act> {
    eprintln!(
        "\n{} customers and {} bots want {TICKETS} tickets, at most {TICKETS_EACH} each. The sale opens in {} s, and is\n\
         paused for {} s in the middle. Tokens are checked at this door.\n",
        HumanCount(CUSTOMERS as u64),
        HumanCount(BOTS as u64),
        OPENS_IN.as_secs(),
        PAUSE.as_secs(),
    );
    allow_open_files(VISITORS)?;
    // It checks tokens, believes a proxy on this machine about addresses, and limits how often somebody may come.
    let settings = stage
        .another_ingest()
        .set("AUTH_SECRET", AUTH_SECRET)
        .set("TRUSTED_PROXIES", LOOPBACK)
        .set("RATE_LIMIT_IP", RATE_LIMIT_IP)
        .set("RATE_LIMIT_CUSTOMER", RATE_LIMIT_CUSTOMER);
    let process = settings.start().await?;
    let administrator = process.client()?;
    let opens_at = Utc::now() + OPENS_IN;
    let opens = Instant::now() + OPENS_IN;
    put_up(stage, &administrator, opens_at).await?;

    let door = Arc::new(Door::new(Client::new(process.address()?)?));
    let mut visitors = JoinSet::new();
    for number in 0..VISITORS {
        let (kind, at) = arrival(number, opens);
        let door = Arc::clone(&door);
        let visitor = Visitor {
            door,
            number,
            kind,
            at,
        };
        visitors.spawn(visitor.visit());
    }
    tokio::try_join!(
        follow(&door, &mut visitors),
        pause(&administrator, &door, opens + OPEN_BEFORE_PAUSE)
    )?;
    Ok(Act {
        told: door.tally.so_far(),
        opens_at,
        left_waiting: visitors.len(),
        _door: process,
    })
}

/// Puts the tickets up for sale, and waits until the door knows that the sale is not open.
async fn put_up(
    stage: &Stage,
    administrator: &Client,
    opens_at: DateTime<Utc>,
) -> anyhow::Result<()> {
    let rules = json!({
        "opens_at": text(opens_at),
        "max_per_order": TICKETS_EACH,
        "max_per_customer": TICKETS_EACH,
    });
    stage.put_up(TICKET, "Ticket", TICKETS, Some(rules)).await?;
    wait::until("the door to know the sale", KNOWN_WITHIN, async || {
        let answer = administrator.inventory(TICKET).await.ok()?;
        (answer.json().ok()?["state"] == "not_open").then_some(())
    })
    .await
}

/// What a visitor is, and when it comes.
fn arrival(number: usize, opens: Instant) -> (Kind, Instant) {
    let somewhen = |within: Duration| within.mul_f64(rand::random());
    let bots_come = opens - BOTS_EARLY;
    match number {
        0..CUSTOMERS => (Kind::Customer, Instant::now() + somewhen(CROWD_WITHIN)),
        _ if number < CUSTOMERS + BOTS_OF_MANY_ADDRESSES => {
            (Kind::ManyAddresses, bots_come + somewhen(BOTS_WITHIN))
        }
        _ => (Kind::ManyNames, bots_come + somewhen(BOTS_WITHIN)),
    }
}

/// Stops all purchases at that time, and lets them go on. A machine may be so busy that the pause is over before anybody
/// is answered in it: then it is repeated.
async fn pause(administrator: &Client, door: &Door, at: Instant) -> anyhow::Result<()> {
    sleep_until(at).await;
    for _ in 0..PAUSES_MAX {
        // Refusals tell when it goes on, so nobody has to knock in vain.
        let until = text(Utc::now() + PAUSE);
        let paused = json!({ "paused": true, "until": until, "note": "a pause of the demo" });
        turn(administrator, paused).await?;
        sleep(PAUSE).await;
        if door.tally.counts().refused("paused") > 0 {
            break;
        }
    }
    turn(administrator, json!({ "paused": false })).await
}

async fn turn(administrator: &Client, switch: Value) -> anyhow::Result<()> {
    let turned = administrator.send(Method::PUT, "/v1/sale", &[], Some(switch));
    turned.await?.expect(200).map(drop)
}

/// Shows how far things are, until all visitors have gone or nobody hears anything any more.
async fn follow(door: &Door, visitors: &mut JoinSet<anyhow::Result<()>>) -> anyhow::Result<()> {
    let display = Display::new(["gone", "sold"], VISITORS as u64);
    let mut refresh = interval(REFRESH);
    refresh.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut last, mut last_change) = (door.tally.counts(), Instant::now());
    while last_change.elapsed() < SILENCE_MAX {
        tokio::select! {
            gone = visitors.join_next() => match gone {
                Some(gone) => gone??,
                None => break,
            },
            _ = refresh.tick() => {
                let counts = door.tally.counts();
                display.show(&rows(&counts, visitors.len()));
                if counts != last {
                    (last, last_change) = (counts, Instant::now());
                }
            }
        }
    }
    display.show(&rows(&door.tally.counts(), visitors.len()));
    display.close();
    Ok(())
}

fn rows(counts: &Counts, here: usize) -> [Row; 2] {
    let refused = |code| HumanCount(counts.refused(code));
    [
        Row {
            position: (VISITORS - here) as u64,
            of: VISITORS as u64,
            words: format!(
                "{} knocked too early, {} in the pause",
                refused("not_open"),
                refused("paused")
            ),
        },
        Row {
            position: counts.settled(CONFIRMED),
            // Of all orders that may ask for them.
            of: counts.accepted,
            words: format!(
                "{} wanted more than {TICKETS_EACH}, {} came too often",
                HumanCount(counts.refused("limit_reached") + counts.settled("limit_reached")),
                refused("rate_limited")
            ),
        },
    ]
}

/// A time as bodies have it.
fn text(time: DateTime<Utc>) -> String {
    time.to_rfc3339_opts(SecondsFormat::Millis, true)
}
