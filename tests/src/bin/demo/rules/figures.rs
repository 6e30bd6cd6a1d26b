//! What the third act came to: what everybody was told beside what the tables say of each customer.

use std::{collections::BTreeMap, fmt};

use chrono::{DateTime, Utc};
use hotrow_tests::law::Verdict;
use indicatif::HumanCount;
use serde::Serialize;
use sqlx::{FromRow, PgConnection};

use super::{
    Act, BOTS, CUSTOMERS, Counts, PAUSE,
    tally::{CONFIRMED, Told},
    visitor::MADE_UP,
};
use crate::{
    figures::{judgement, line},
    goods::{TICKET, TICKETS, TICKETS_EACH},
    stage::Stage,
};

/// What settling made of the orders of a product.
const SETTLED: &str = "
    select coalesce(reason, status) as outcome, count(*) as orders
    from orders
    where alias_of is null and items::jsonb @> jsonb_build_array(jsonb_build_object('sku', $1::text))
    group by 1";

/// What customers have of a product, read from their orders alone.
const OWNED: &str = "
    with wanted as (
        select customer_id, status, accepted_at, (item ->> 'quantity')::bigint as quantity
        from orders
        cross join lateral jsonb_array_elements(items::jsonb) as item
        where alias_of is null and item ->> 'sku' = $1
    ),
    owned as (
        select customer_id, sum(quantity) as pieces from wanted where status = 'confirmed' group by customer_id
    )
    select coalesce(sum(pieces), 0)::bigint as pieces,
           coalesce(max(pieces), 0)::bigint as most,
           count(*) filter (where pieces > $2) as with_too_many,
           (select count(*) from wanted where starts_with(customer_id, $3)) as for_made_up,
           (select count(*) from wanted where status = 'confirmed' and accepted_at < $4) as too_early
    from owned";

/// What the tables say of the customers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, FromRow)]
struct Owned {
    /// Tickets that are sold.
    pieces: i64,
    /// The most that a customer has.
    most: i64,
    /// Customers that have more than they may.
    with_too_many: i64,
    /// Orders for customers that bots made up.
    for_made_up: i64,
    /// Orders that were confirmed although they were accepted before the sale opened.
    too_early: i64,
}

/// Counts are of purchases of the third act, by what those who tried were told.
#[derive(Debug, Serialize)]
pub(crate) struct Figures {
    customers: usize,
    bots: usize,
    stock: u64,
    #[serde(flatten)]
    told: Counts,
    /// Tickets that are sold, by the tables.
    pieces: i64,
    /// The most that a customer has, by the tables.
    most_per_customer: i64,
    #[serde(skip)]
    booked: BTreeMap<String, u64>,
    #[serde(skip)]
    owned: Owned,
    #[serde(skip)]
    left_waiting: usize,
    #[serde(skip)]
    verdict: Verdict,
}

impl Figures {
    /// Reads the tables, once everything is settled.
    pub(crate) async fn read(stage: &Stage, act: Act) -> anyhow::Result<Self> {
        let Act {
            told: Told { counts, accepted },
            opens_at,
            left_waiting,
            ..
        } = act;
        let mut database = stage.database().await?;
        let owned = owned(&mut database, opens_at).await?;
        let booked = booked(&mut database).await?;
        let verdict = Verdict::read(&mut database, &accepted).await?;
        Ok(Self::new(counts, booked, owned, left_waiting, verdict))
    }

    fn new(
        told: Counts,
        booked: BTreeMap<String, u64>,
        owned: Owned,
        left_waiting: usize,
        verdict: Verdict,
    ) -> Self {
        Self {
            customers: CUSTOMERS,
            bots: BOTS,
            stock: TICKETS,
            told,
            pieces: owned.pieces,
            most_per_customer: owned.most,
            booked,
            owned,
            left_waiting,
            verdict,
        }
    }

    /// Returns whether the rules were kept, everybody was told what the tables say, and the law holds.
    pub(crate) fn is_right(&self) -> bool {
        self.owned.with_too_many == 0
            && self.owned.for_made_up == 0
            && self.owned.too_early == 0
            && self.told.settled == self.booked
            && self.left_waiting == 0
            && self.verdict.holds()
    }

    /// What the tables say of it all.
    pub(crate) fn judgement(&self) -> String {
        let Owned {
            with_too_many,
            for_made_up,
            too_early,
            ..
        } = self.owned;
        let who = match with_too_many {
            0 => "no customer has".to_owned(),
            1 => "1 customer has".to_owned(),
            many => format!("{many} customers have"),
        };
        let mut says = vec![
            format!("{who} more than {TICKETS_EACH} tickets"),
            self.verdict.to_string(),
        ];
        if for_made_up > 0 {
            says.push(format!("{for_made_up} orders are for customers made up"));
        }
        if too_early > 0 {
            says.push(format!("{too_early} orders came before the sale opened"));
        }
        if self.told.settled != self.booked {
            says.push(format!(
                "outcomes told are {:?}, and booked are {:?}",
                self.told.settled, self.booked
            ));
        }
        if self.left_waiting > 0 {
            says.push(format!("{} never had an answer", self.left_waiting));
        }
        judgement(&says.join("; "), self.is_right())
    }

    /// What there is to say of a refusal at the door.
    fn words(&self, code: &str) -> String {
        match code {
            "not_open" => "knocked too early, and was told when to come back".to_owned(),
            "paused" => format!("by the switch, for {} s", PAUSE.as_secs()),
            "limit_reached" => format!("more than {TICKETS_EACH} in one order"),
            "rate_limited" => {
                let limits = self.told.rate_limited_by.iter();
                let by: Vec<_> = limits
                    .map(|(limit, count)| format!("{} by {limit}", HumanCount(*count)))
                    .collect();
                by.join(", ")
            }
            "forbidden" => "for another customer than that of the token".to_owned(),
            "sold_out" => "once nothing was left".to_owned(),
            _ => String::new(),
        }
    }
}

async fn booked(database: &mut PgConnection) -> anyhow::Result<BTreeMap<String, u64>> {
    let rows: Vec<(String, i64)> = sqlx::query_as(SETTLED)
        .bind(TICKET)
        .fetch_all(database)
        .await?;
    let counted = rows
        .into_iter()
        .map(|(outcome, orders)| (outcome, orders.unsigned_abs()));
    Ok(counted.collect())
}

async fn owned(database: &mut PgConnection, opens_at: DateTime<Utc>) -> anyhow::Result<Owned> {
    // A body tells the opening in milliseconds.
    let opens_at = DateTime::from_timestamp_millis(opens_at.timestamp_millis());
    let owned = sqlx::query_as(OWNED)
        .bind(TICKET)
        .bind(TICKETS_EACH)
        .bind(MADE_UP)
        .bind(opens_at);
    Ok(owned.fetch_one(database).await?)
}

impl fmt::Display for Figures {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Counts {
            asked,
            refused,
            accepted,
            settled,
            ..
        } = &self.told;
        writeln!(
            formatter,
            "\n{CUSTOMERS} customers and {BOTS} bots for {TICKETS} tickets, at most {TICKETS_EACH} each\n"
        )?;
        line(formatter, "asked", *asked, "")?;
        line(formatter, "refused", refused.values().sum(), "at the door")?;
        for (code, count) in refused {
            line(formatter, &format!("  {code}"), *count, &self.words(code))?;
        }
        line(formatter, "accepted", *accepted, "")?;
        for (outcome, count) in settled {
            let words = match outcome.as_str() {
                CONFIRMED => format!("{} tickets", HumanCount(self.pieces.unsigned_abs())),
                "limit_reached" => format!("with what the customer has, more than {TICKETS_EACH}"),
                "sold_out" => "accepted, but others were earlier".to_owned(),
                "not_open" => "accepted, but before the sale opened".to_owned(),
                _ => String::new(),
            };
            line(formatter, &format!("  {outcome}"), *count, &words)?;
        }
        line(
            formatter,
            "most",
            self.most_per_customer.unsigned_abs(),
            "tickets that any customer has",
        )?;
        write!(formatter, "{}", self.judgement())
    }
}

#[cfg(test)]
mod tests {
    use hotrow_tests::law::Outcomes;

    use super::*;

    fn figures(owned: Owned) -> Figures {
        let settled = BTreeMap::from([(CONFIRMED.to_owned(), 3)]);
        let told = Counts {
            asked: 3,
            accepted: 3,
            settled: settled.clone(),
            ..Counts::default()
        };
        let outcomes = Outcomes {
            confirmed: 3,
            sold_out: 0,
            rejected_otherwise: 0,
            failed: 0,
            rows_too_many: 0,
        };
        let verdict = Verdict {
            accounts: Vec::new(),
            outcomes,
            lost: Vec::new(),
            shared_ids: 0,
            miscounted: 0,
        };
        Figures::new(told, settled, owned, 0, verdict)
    }

    #[test]
    fn a_customer_with_too_many_is_not_right() {
        let two = Owned {
            pieces: 4,
            most: 2,
            ..Owned::default()
        };
        assert!(figures(two).is_right());
        let three = figures(Owned {
            most: 3,
            with_too_many: 1,
            ..two
        });
        assert!(!three.is_right());
        let said = three.to_string();
        assert!(said.contains("1 customer has more than 2"), "{said}");
        assert!(said.ends_with("NOT as it should be."), "{said}");
    }

    #[test]
    fn orders_before_the_opening_and_for_customers_made_up_are_not_right() {
        for wrong in [
            Owned {
                for_made_up: 1,
                ..Owned::default()
            },
            Owned {
                too_early: 1,
                ..Owned::default()
            },
        ] {
            assert!(!figures(wrong).is_right());
        }
    }

    #[test]
    fn outcomes_that_were_told_otherwise_or_not_at_all_are_not_right() {
        let mut figures = figures(Owned::default());
        figures.left_waiting = 1;
        assert!(!figures.is_right());
        figures.left_waiting = 0;
        figures.told.settled.clear();
        assert!(!figures.is_right());
    }
}
