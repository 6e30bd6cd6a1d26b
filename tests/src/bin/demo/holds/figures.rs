//! What the second act came to: what the buyers were told beside what the tables say.

use std::fmt;

use hotrow_tests::law::Verdict;
use indicatif::HumanCount;
use serde::Serialize;
use sqlx::PgConnection;
use uuid::Uuid;

use super::{Act, BUYERS, Counts, tally::Told};
use crate::{
    figures::{judgement, line},
    goods::{GRACE, HOLD, LAMP, LAMPS},
    stage::Stage,
    webhooks::Receiver,
};

/// What became of the orders of a product, by its first settling and all later changes.
const BOOKED: &str = "
    with wanted as (
        select order_id, status from orders
        where alias_of is null and items::jsonb @> jsonb_build_array(jsonb_build_object('sku', $1::text))
    ),
    latest as (
        select distinct on (order_id) order_changes.* from order_changes join wanted using (order_id)
        order by order_id, revision desc
    )
    select (select count(*) from wanted where status = 'reserved') as reserved,
           count(*) filter (where status = 'confirmed' and goods is distinct from 'taken') as paid,
           count(*) filter (where status = 'cancelled') as cancelled,
           (select count(*) from order_changes join wanted using (order_id)
            where order_changes.status = 'expired') as expired,
           count(*) filter (where status = 'confirmed' and goods = 'taken') as late_paid,
           (select count(*) from unmatched_payments
            where order_id in (select wanted.order_id::text from wanted)) as unmatched
    from latest";

/// Counts are of orders of the second act, by what their buyers were told.
#[derive(Debug, Serialize)]
pub(crate) struct Figures {
    #[serde(flatten)]
    told: Counts,
    /// Events `order.confirmed` that a receiver has verified, each counted once.
    webhooks_delivered: u64,
    #[serde(skip)]
    booked: Counts,
    #[serde(skip)]
    left_waiting: usize,
    #[serde(skip)]
    verdict: Verdict,
}

impl Figures {
    /// Reads the tables, and judges the orders of both acts: these, and those that were `accepted` before.
    pub(crate) async fn read(
        stage: &Stage,
        act: Act,
        accepted: &[Uuid],
        receiver: &Receiver,
    ) -> anyhow::Result<Self> {
        let Act { told, left_waiting } = act;
        let Told {
            counts,
            accepted: accepted_now,
        } = told;
        let accepted = [accepted, &accepted_now].concat();
        let mut database = stage.database().await?;
        Ok(Self {
            told: counts,
            webhooks_delivered: receiver.delivered(sold(counts)).await,
            booked: booked(&mut database).await?,
            left_waiting,
            verdict: Verdict::read(&mut database, &accepted).await?,
        })
    }

    /// Returns whether the buyers were told what the tables say, all of them, and the law holds.
    pub(crate) fn is_right(&self) -> bool {
        self.told == self.booked
            && self.left_waiting == 0
            && self.webhooks_delivered == sold(self.told)
            && self.verdict.holds()
    }

    /// What the tables say of it all.
    pub(crate) fn judgement(&self) -> String {
        let mut says = vec![self.verdict.to_string()];
        if self.told != self.booked {
            says.push(format!(
                "buyers were told {:?}, and booked are {:?}",
                self.told, self.booked
            ));
        }
        if self.webhooks_delivered != sold(self.told) {
            says.push(format!(
                "{} webhooks were delivered for {} orders",
                self.webhooks_delivered,
                sold(self.told)
            ));
        }
        if self.left_waiting > 0 {
            says.push(format!("{} buyers never had an answer", self.left_waiting));
        }
        judgement(&says.join("; "), self.is_right())
    }
}

/// Orders that were paid, and so confirmed.
fn sold(counts: Counts) -> u64 {
    (counts.paid + counts.late_paid).unsigned_abs()
}

async fn booked(database: &mut PgConnection) -> anyhow::Result<Counts> {
    let booked = sqlx::query_as(BOOKED).bind(LAMP);
    Ok(booked.fetch_one(database).await?)
}

impl fmt::Display for Figures {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Counts {
            reserved,
            paid,
            cancelled,
            expired,
            late_paid,
            unmatched,
        } = self.told;
        writeln!(
            formatter,
            "\n{} buyers for {LAMPS} lamps, each held for {} s until it is paid\n",
            HumanCount(BUYERS as u64),
            HOLD.as_secs()
        )?;
        let again = (reserved + late_paid).unsigned_abs().saturating_sub(LAMPS);
        for (name, count, words) in [
            (
                "reserved",
                reserved,
                format!("{} lamps came back and went to others", HumanCount(again)),
            ),
            ("  paid", paid, "in time".to_owned()),
            ("  cancelled", cancelled, String::new()),
            (
                "  expired",
                expired,
                format!(
                    "{} s after the end of the hold; in production 8 s",
                    GRACE.as_secs()
                ),
            ),
            (
                "paid late",
                late_paid,
                "expired, but a lamp was still there".to_owned(),
            ),
            (
                "unmatched",
                unmatched,
                "paid when all lamps were gone: listed, to be given back".to_owned(),
            ),
        ] {
            line(formatter, name, count.unsigned_abs(), &words)?;
        }
        line(
            formatter,
            "webhooks",
            self.webhooks_delivered,
            "order.confirmed, verified by a receiver",
        )?;
        write!(formatter, "{}", self.judgement())
    }
}

#[cfg(test)]
mod tests {
    use hotrow_tests::law::Outcomes;

    use super::*;

    fn figures(told: Counts, booked: Counts) -> Figures {
        let outcomes = Outcomes {
            confirmed: 2,
            sold_out: 0,
            rejected_otherwise: 0,
            failed: 0,
            rows_too_many: 0,
        };
        Figures {
            told,
            webhooks_delivered: sold(told),
            booked,
            left_waiting: 0,
            verdict: Verdict {
                accounts: Vec::new(),
                outcomes,
                lost: Vec::new(),
                shared_ids: 0,
                miscounted: 0,
            },
        }
    }

    #[test]
    fn what_buyers_were_told_has_to_be_what_is_booked() {
        let told = Counts {
            reserved: 2,
            paid: 2,
            ..Counts::default()
        };
        let right = figures(told, told);
        assert!(right.is_right(), "{}", right.judgement());
        let late = Counts {
            paid: 1,
            expired: 1,
            late_paid: 1,
            ..told
        };
        let wrong = figures(told, late);
        assert!(!wrong.is_right());
        assert!(wrong.to_string().ends_with("NOT as it should be."));
    }

    #[test]
    fn a_webhook_that_is_missing_is_not_right() {
        let told = Counts {
            reserved: 2,
            paid: 2,
            ..Counts::default()
        };
        let mut figures = figures(told, told);
        figures.webhooks_delivered = 1;
        assert!(!figures.is_right());
    }

    #[test]
    fn a_buyer_without_an_answer_and_a_lost_order_are_not_right() {
        let mut figures = figures(Counts::default(), Counts::default());
        figures.left_waiting = 1;
        assert!(!figures.is_right());
        figures.left_waiting = 0;
        figures.verdict.lost.push(Uuid::nil());
        assert!(!figures.is_right());
    }
}
