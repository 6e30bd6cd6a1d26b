//! One buyer of the second act: comes, gets a hold or waits for what comes back, and pays, cancels or stays away.

use std::{sync::Arc, time::Duration};

use anyhow::ensure;
use hotrow_tests::client::{self, Answer};
use reqwest::Method;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::{
    sync::watch,
    time::{sleep, timeout},
};
use uuid::Uuid;

use super::{
    doors::{Doors, Question, Until},
    tally::{Counts, Tally},
};
use crate::goods::LAMP;

/// All buyers come within this time.
const ARRIVAL: Duration = Duration::from_secs(1);
/// How long it takes to pay, or to think better of it: from the one time up to so much more. Less than a hold.
const THINKING_MIN: Duration = Duration::from_millis(200);
const THINKING_MORE: Duration = Duration::from_millis(1_200);
/// Those who see that something came back try again within this time.
const RETURN: Duration = Duration::from_secs(2);
/// A payment that is much too late comes when everything is sold, or after this time.
const TOO_LATE_MAX: Duration = Duration::from_secs(20);
/// One of so many buyers that got nothing waits for what comes back; the others go.
const PATIENT_ONE_OF: usize = 3;
/// What every poll and every change asks for, in seconds.
const WAIT: u32 = 10;

/// What all buyers share.
pub(super) struct Shop {
    /// Where buyers order.
    pub(super) front: Doors,
    /// Where the shop's own program says what they paid and cancelled, with its token.
    pub(super) back: Doors,
    /// The stock as it is shown.
    pub(super) stock: watch::Receiver<Stock>,
    pub(super) tally: Tally,
}

/// What the shop shows of its stock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Stock {
    Open,
    AllHeld,
    SoldOut,
}

pub(super) struct Buyer {
    pub(super) number: usize,
    pub(super) shop: Arc<Shop>,
}

/// What a buyer does with a hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Plan {
    Pay,
    /// The payment provider tells of the same payment twice, at both processes.
    PayTwice,
    Cancel,
    Leave,
    /// Pays as soon as the hold is over.
    PayLate,
    /// Pays when others have bought everything.
    PayTooLate,
}

impl Plan {
    /// What the buyer with this hold, counted from the first, does.
    fn of(hold: i64) -> Self {
        match hold % 20 {
            0 | 10 => Self::PayTwice,
            1 | 11 => Self::Cancel,
            2 | 12 => Self::Leave,
            3 => Self::PayLate,
            13 => Self::PayTooLate,
            _ => Self::Pay,
        }
    }
}

/// An order's document, as far as buyers look at it.
#[derive(Debug, PartialEq, Eq, Deserialize)]
struct Order {
    #[serde(rename = "order_id")]
    id: Uuid,
    status: String,
    revision: i32,
    total_minor: Option<i64>,
    currency: Option<String>,
}

/// What a payment came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Payment {
    InTime,
    Late,
    Unmatched,
}

impl Buyer {
    /// Comes and goes. Everything heard on the way is in the tally.
    ///
    /// # Errors
    /// When an answer is none of those that the contract has for it.
    pub(super) async fn visit(self) -> anyhow::Result<()> {
        sleep(ARRIVAL.mul_f64(rand::random())).await;
        let mut stock = self.shop.stock.clone();
        for attempt in 0_u32.. {
            if let Some(order) = self.order(attempt).await? {
                let counts = self.shop.tally.count(|counts| counts.reserved += 1);
                // Who waited for it wants it.
                let plan = match attempt {
                    0 => Plan::of(counts.reserved),
                    _ => Plan::Pay,
                };
                return self.follow(plan, &order).await;
            }
            let is_patient = self.number.is_multiple_of(PATIENT_ONE_OF);
            let stock = stock.wait_for(|stock| *stock != Stock::AllHeld);
            if !is_patient || *stock.await? == Stock::SoldOut {
                break;
            }
            sleep(RETURN.mul_f64(rand::random())).await;
        }
        Ok(())
    }

    /// Orders a lamp, and waits for what becomes of the order. None if others were faster.
    async fn order(&self, attempt: u32) -> anyhow::Result<Option<Order>> {
        let customer = format!("lamp-{}", self.number);
        let purchase = Question {
            method: Method::POST,
            path: "/v1/orders".to_owned(),
            key: Some(format!("try-{attempt}")),
            body: Some(client::order(&customer, &[(LAMP, 1)])),
        };
        let answer = self.shop.front.ask(&purchase, Until::Answered).await;
        if answer.code().as_deref() == Some("sold_out") {
            return Ok(None);
        }
        let order_id = answer.expect(202)?.order_id()?;
        self.shop.tally.accept(order_id);
        let poll = format!("/v1/orders/{order_id}?wait={WAIT}");
        let answer = self.shop.front.ask(&get(poll), Until::Settled).await;
        let order: Order = answer.expect(200)?.read()?;
        Ok((order.status != "rejected").then_some(order))
    }

    async fn follow(&self, plan: Plan, order: &Order) -> anyhow::Result<()> {
        let tally = &self.shop.tally;
        match plan {
            Plan::Pay | Plan::PayTwice => {
                think().await;
                let payment = self.pay(order, plan == Plan::PayTwice).await?;
                tally.count(|counts| {
                    counts.expired += i64::from(payment != Payment::InTime);
                    *payment.of(counts) += 1;
                });
            }
            Plan::Cancel => {
                think().await;
                let answer = self.change(order, "cancel", json!({})).await;
                // 409 is that it had expired before.
                let is_cancelled = answer.status != 409;
                if is_cancelled {
                    answer.expect(200)?;
                }
                tally.count(|counts| {
                    counts.cancelled += i64::from(is_cancelled);
                    counts.expired += i64::from(!is_cancelled);
                });
            }
            Plan::Leave => self.stay_away(order).await?,
            Plan::PayLate | Plan::PayTooLate => {
                self.stay_away(order).await?;
                if plan == Plan::PayTooLate {
                    let mut stock = self.shop.stock.clone();
                    let sold_out = stock.wait_for(|stock| *stock == Stock::SoldOut);
                    let _ = timeout(TOO_LATE_MAX, sold_out).await;
                }
                let payment = self.pay(order, false).await?;
                tally.count(|counts| *payment.of(counts) += 1);
            }
        }
        Ok(())
    }

    /// Lets the hold end.
    async fn stay_away(&self, order: &Order) -> anyhow::Result<()> {
        let Order { id, revision, .. } = order;
        let is_over = order.status == "expired";
        if !is_over {
            let poll = format!("/v1/orders/{id}?wait={WAIT}&after_revision={revision}");
            let answer = self.shop.front.ask(&get(poll), Until::Settled).await;
            let order: Order = answer.expect(200)?.read()?;
            ensure!(
                order.status == "expired",
                "nobody paid or cancelled {order:?}"
            );
        }
        self.shop.tally.count(|counts| counts.expired += 1);
        Ok(())
    }

    async fn pay(&self, order: &Order, twice: bool) -> anyhow::Result<Payment> {
        let body = json!({
            "payment_reference": format!("payment-of-{}", order.id),
            "amount_minor": order.total_minor,
            "currency": order.currency,
        });
        let first = self.change(order, "confirm", body.clone());
        if !twice {
            return Payment::read(first.await);
        }
        let (first, second) = tokio::join!(first, self.change(order, "confirm", body));
        let (first, second) = (Payment::read(first)?, Payment::read(second)?);
        ensure!(
            first == second,
            "the same payment was answered as {first:?} and as {second:?}"
        );
        Ok(first)
    }

    /// Asks for a change in the name of the shop, and waits until it is settled.
    async fn change(&self, order: &Order, what: &str, body: Value) -> Answer {
        let change = Question {
            method: Method::POST,
            path: format!("/v1/orders/{}/{what}?wait={WAIT}", order.id),
            key: None,
            body: Some(body),
        };
        self.shop.back.ask(&change, Until::Settled).await
    }
}

impl Payment {
    fn read(answer: Answer) -> anyhow::Result<Self> {
        if answer.status == 409 && answer.json()?["unmatched"] == true {
            return Ok(Self::Unmatched);
        }
        let order: Order = answer.expect(200)?.read()?;
        ensure!(order.status == "confirmed", "paid, and it is {order:?}");
        // Reserved and paid are two revisions; with an expiry between them there are three.
        Ok(if order.revision == 2 {
            Self::InTime
        } else {
            Self::Late
        })
    }

    /// Where it counts.
    fn of(self, counts: &mut Counts) -> &mut i64 {
        match self {
            Self::InTime => &mut counts.paid,
            Self::Late => &mut counts.late_paid,
            Self::Unmatched => &mut counts.unmatched,
        }
    }
}

/// A read.
pub(super) fn get(path: String) -> Question {
    Question {
        method: Method::GET,
        path,
        key: None,
        body: None,
    }
}

async fn think() {
    sleep(THINKING_MIN + THINKING_MORE.mul_f64(rand::random())).await;
}
