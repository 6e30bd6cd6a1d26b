//! The result of the stampede: every number of it, for a program as JSON and for a person as text.

use std::{collections::BTreeMap, fmt};

use hotrow_tests::{
    lag::Lag,
    law::{Account, Verdict},
    load::Report,
};
use indicatif::{HumanCount, HumanFloatCount};
use serde::Serialize;

use crate::{Arguments, stage::Stage};

/// The stampede alone. Counts are of orders, except `oversold`, which is of units. An order is `refused` at the door,
/// without a 202; `sold_out` are accepted orders that came too late.
#[derive(Debug, Serialize)]
pub(crate) struct Figures {
    orders: u64,
    stock: u32,
    connections: u16,
    answered: u64,
    accepted: u64,
    refused: u64,
    refused_by_code: BTreeMap<String, u64>,
    /// Connections that broke before the answer.
    unanswered: u64,
    confirmed: u64,
    sold_out: u64,
    rejected_otherwise: u64,
    failed: u64,
    lost: u64,
    doubled: u64,
    oversold: u64,
    books_balance: bool,
    answered_per_second: f64,
    accepted_per_second: f64,
    settled_per_second: f64,
    row_writes: u64,
    orders_per_row_write: f64,
    accept_p50_ms: f64,
    accept_p99_ms: f64,
    settle_p50_ms: f64,
    settle_p99_ms: f64,
    #[serde(skip)]
    verdict: Verdict,
}

impl Figures {
    /// Reads the database and the workers' metrics, once everything is settled.
    pub(crate) async fn read(
        stage: &Stage,
        arguments: Arguments,
        report: &Report,
    ) -> anyhow::Result<Self> {
        let mut database = stage.database().await?;
        let verdict = Verdict::read(&mut database, &report.accepted).await?;
        let lag = Lag::read(&mut database).await?;
        let metrics = stage.worker_metrics().await?;
        let [settled, row_writes] = ["hotrow_orders_settled_total", "hotrow_row_writes_total"]
            .map(|name| metrics.sum(name, &[]));
        let outcomes = verdict.outcomes;
        let Arguments {
            orders,
            stock,
            connections,
            ..
        } = arguments;
        Ok(Self {
            orders,
            stock,
            connections,
            answered: report.answered(),
            accepted: report.accepted.len() as u64,
            refused: report.refusals(),
            refused_by_code: report.refused_by_code(),
            unanswered: report.unanswered.len() as u64,
            confirmed: outcomes.confirmed.unsigned_abs(),
            sold_out: outcomes.sold_out.unsigned_abs(),
            rejected_otherwise: outcomes.rejected_otherwise.unsigned_abs(),
            failed: outcomes.failed.unsigned_abs(),
            lost: verdict.lost(),
            doubled: verdict.doubled(),
            oversold: verdict.oversold(),
            books_balance: verdict.accounts.iter().all(Account::balances),
            answered_per_second: report.answered_per_second(),
            accepted_per_second: report.accepted_per_second(),
            settled_per_second: lag.settled_per_second(),
            row_writes: metrics.count("hotrow_row_writes_total", &[]),
            orders_per_row_write: settled / row_writes.max(1.0),
            accept_p50_ms: report.accept_times.ms(0.5),
            accept_p99_ms: report.accept_times.ms(0.99),
            settle_p50_ms: lag.p50_ms,
            settle_p99_ms: lag.p99_ms,
            verdict,
        })
    }

    fn settled(&self) -> u64 {
        self.confirmed + self.sold_out + self.rejected_otherwise + self.failed
    }

    /// Returns whether nothing is lost, doubled or oversold, and the books balance.
    pub(crate) fn is_right(&self) -> bool {
        self.verdict.holds()
    }
}

impl fmt::Display for Figures {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let counted = |count: u64| HumanCount(count).to_string();
        let rate = |rate: f64| HumanFloatCount(rate.round()).to_string();
        let codes: Vec<_> = self
            .refused_by_code
            .iter()
            .map(|(code, count)| format!("{} {code}", counted(*count)))
            .collect();
        writeln!(
            formatter,
            "\n{} orders for {} units, over {} connections\n",
            counted(self.orders),
            counted(self.stock.into()),
            self.connections
        )?;
        let mut line = |name, count, words: String| line(formatter, name, count, &words);
        line(
            "answered",
            self.answered,
            format!("{} per second", rate(self.answered_per_second)),
        )?;
        line(
            "  accepted",
            self.accepted,
            format!(
                "{} per second; 202 after {:.1} ms (p50), {:.1} ms (p99)",
                rate(self.accepted_per_second),
                self.accept_p50_ms,
                self.accept_p99_ms
            ),
        )?;
        line("  refused", self.refused, codes.join(", "))?;
        line("unanswered", self.unanswered, String::new())?;
        line(
            "settled",
            self.settled(),
            format!(
                "{} per second; {:.1} ms (p50), {:.1} ms (p99) after they were accepted",
                rate(self.settled_per_second),
                self.settle_p50_ms,
                self.settle_p99_ms
            ),
        )?;
        line("  confirmed", self.confirmed, String::new())?;
        line(
            "  sold out",
            self.sold_out,
            "accepted, but others were earlier".to_owned(),
        )?;
        line("  rejected", self.rejected_otherwise, String::new())?;
        line("  failed", self.failed, String::new())?;
        line(
            "row writes",
            self.row_writes,
            format!("{:.1} orders settled by each", self.orders_per_row_write),
        )?;
        write!(
            formatter,
            "{}",
            judgement(&self.verdict.to_string(), self.is_right())
        )
    }
}

/// A line of a summary. What did not happen and has nothing to add is left out.
pub(crate) fn line(
    formatter: &mut fmt::Formatter<'_>,
    name: &str,
    count: u64,
    words: &str,
) -> fmt::Result {
    if count == 0 && words.is_empty() {
        return Ok(());
    }
    let count = HumanCount(count).to_string();
    writeln!(
        formatter,
        "{}",
        format!("  {name:<15} {count:>10}   {words}").trim_end()
    )
}

/// The last words of a summary.
pub(crate) fn judgement(says: &str, is_right: bool) -> String {
    let judgement = if is_right {
        "as it should be"
    } else {
        "NOT as it should be"
    };
    format!("\n  The database says: {says}; {judgement}.")
}
