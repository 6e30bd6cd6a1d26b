//! What is known of one SKU: its row as it was read, and its stock as it was heard.
//!
//! Two sources speak of it, each with its delay, so what comes later may be older. The version of the row
//! decides, but for one case: what the database answers to a question that was asked after the last word
//! was taken in is the truth whatever its version, because after a fail-over to a server that missed the
//! last writes versions begin again from an earlier one.

use std::time::{Duration, Instant};

use chrono::TimeDelta;
use hotrow_shared::sale::Rules;

use super::{stock::Stock, store::Row};

/// What is known of one SKU.
#[derive(Debug)]
pub(super) struct Known {
    stock: Stock,
    /// When the stock was taken in.
    since: Instant,
    /// What administrators said, and when it was taken in. None, while only news of its stock has named the SKU.
    rules: Option<(Rules, Instant)>,
    /// None, while only news has named the SKU.
    read: Option<Read>,
}

/// The row as the database has it, or had it before the last news.
#[derive(Debug)]
struct Read {
    row: Row,
    /// When the row was taken in.
    since: Instant,
    /// When the last question was asked to which the database answered that the row is so.
    confirmed: Instant,
}

/// What the database said, and when it was asked.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Asked {
    /// A look at the row.
    At(Instant),
    /// A change of the row that began then. Whoever asked later may have been answered from before its commit, so
    /// only its version tells what is newer.
    Changing(Instant),
}

impl Asked {
    pub(crate) fn at(self) -> Instant {
        match self {
            Self::At(at) | Self::Changing(at) => at,
        }
    }

    /// Returns whether an answer of this version is believed beside one that was taken in before.
    pub(crate) fn prevails(self, version: i64, before: i64, since: Instant) -> bool {
        version >= before || matches!(self, Self::At(asked) if asked >= since)
    }
}

impl Known {
    /// A SKU that news names.
    pub(super) fn heard(stock: Stock, now: Instant) -> Self {
        Self {
            stock,
            since: now,
            rules: None,
            read: None,
        }
    }

    /// Takes in what an administrator said.
    pub(super) fn hear_rules(&mut self, rules: Rules, now: Instant) {
        let is_later = |(before, _): &(Rules, _)| rules.edition >= before.edition;
        if self.rules.as_ref().is_none_or(is_later) {
            self.rules = Some((rules, now));
        }
    }

    /// Takes in news. Returns whether it is believed.
    pub(super) fn hear(&mut self, stock: Stock, now: Instant) -> bool {
        let is_believed = stock.version >= self.stock.version;
        if is_believed {
            self.stock = stock;
            self.since = now;
        }
        is_believed
    }

    /// Takes in the row as the database has it.
    pub(super) fn answer(&mut self, row: Row, asked: Asked, now: Instant) {
        if asked.prevails(row.version, self.stock.version, self.since) {
            self.stock = row.stock();
            self.since = now;
        }
        let rules = row.rules();
        let prevails =
            |(before, since): &(Rules, _)| asked.prevails(rules.edition, before.edition, *since);
        if self.rules.as_ref().is_none_or(prevails) {
            self.rules = Some((rules, now));
        }
        if let Some(read) = &self.read
            && !asked.prevails(row.version, read.row.version, read.since)
        {
            return;
        }
        self.read = Some(Read {
            row,
            since: now,
            confirmed: asked.at(),
        });
    }

    /// Takes in that the row still is as [`Self::as_read`] told when the question was asked.
    pub(super) fn unchanged(&mut self, asked: Instant, now: Instant) {
        let Some(read) = &mut self.read else { return };
        if asked < read.since {
            return;
        }
        let later = asked.saturating_duration_since(read.confirmed);
        read.row.as_of += TimeDelta::from_std(later).unwrap_or_default();
        read.confirmed = asked;
        if asked >= self.since {
            self.stock = read.row.stock();
            self.since = now;
        }
        if self.rules.as_ref().is_none_or(|(_, since)| asked >= *since) {
            self.rules = Some((read.row.rules(), now));
        }
    }

    /// What is known of the stock.
    pub(super) fn stock(&self) -> Stock {
        self.stock
    }

    /// What is known of the rules.
    pub(super) fn rules(&self) -> Option<&Rules> {
        self.rules.as_ref().map(|(rules, _)| rules)
    }

    /// The stock as it was read last.
    pub(super) fn as_read(&self) -> Option<Stock> {
        self.read.as_ref().map(|read| read.row.stock())
    }

    /// The row with the latest stock, if the database confirmed it lately enough.
    pub(super) fn row(&self, age_max: Duration, now: Instant) -> Option<Row> {
        let read = self.read.as_ref()?;
        // News of rules that is newer than the row knows no title, so the row is read again.
        let is_outdated = self.rules()?.edition > read.row.edition;
        if is_outdated || now.saturating_duration_since(read.confirmed) >= age_max {
            return None;
        }
        let Stock {
            version,
            available,
            held,
        } = self.stock;
        Some(Row {
            available,
            held,
            version,
            ..read.row.clone()
        })
    }

    /// For how long nothing new has been known of the stock.
    pub(super) fn silence(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.since)
    }

    /// Returns whether nothing has been taken in since then.
    pub(super) fn is_older_than(&self, then: Instant) -> bool {
        self.since < then && self.read.as_ref().is_none_or(|read| read.since < then)
    }
}

#[cfg(test)]
mod tests {
    use chrono::DateTime;

    use super::*;

    fn stock(version: i64, available: i64) -> Stock {
        Stock {
            version,
            available,
            held: 0,
        }
    }

    /// Moments in a row.
    fn moments() -> impl FnMut() -> Instant {
        let mut now = Instant::now();
        move || {
            now += Duration::from_millis(1);
            now
        }
    }

    #[test]
    fn an_older_version_never_overrides_a_newer_one() {
        let mut now = moments();
        let asked_early = now();
        let mut known = Known::heard(stock(4, 10), now());
        assert!(known.hear(stock(6, 100), now()));
        assert!(!known.hear(stock(5, 0), now()), "late news");
        assert_eq!(known.stock(), stock(6, 100));
        known.answer(Row::hot(5, 0), Asked::At(asked_early), now());
        assert_eq!(known.stock(), stock(6, 100), "a late answer");
        assert_eq!(known.as_read(), Some(stock(5, 0)));
    }

    #[test]
    fn the_database_counts_whatever_its_version_if_it_was_asked_later() {
        let mut now = moments();
        let mut known = Known::heard(stock(7, 0), now());
        let asked = now();
        known.answer(Row::hot(3, 100), Asked::At(asked), now());
        assert_eq!(known.stock(), stock(3, 100));
        known.hear(stock(9, 0), now());
        let asked = now();
        known.unchanged(asked, now());
        assert_eq!(
            known.stock(),
            stock(3, 100),
            "the row is still as it was read"
        );
    }

    #[test]
    fn rules_of_which_there_was_news_and_that_the_database_forgot_are_those_of_the_row() {
        let mut now = moments();
        let mut known = Known::heard(stock(1, 5), now());
        let asked = now();
        known.answer(Row::hot(1, 5), Asked::At(asked), now());
        let paused = Rules {
            edition: 2,
            is_paused: true,
            ..Row::hot(1, 5).rules()
        };
        let early = now();
        known.hear_rules(paused, now());
        let is_paused = |known: &Known| known.rules().is_some_and(|rules| rules.is_paused);
        known.unchanged(early, now());
        assert!(is_paused(&known), "it was asked before the news");
        let late = now();
        known.unchanged(late, now());
        assert!(!is_paused(&known));
    }

    #[test]
    fn a_change_is_not_undone_by_an_answer_from_before_its_commit() {
        let mut now = moments();
        let mut known = Known::heard(stock(1, 1), now());
        let (began, asked) = (now(), now());
        known.answer(Row::hot(2, 5), Asked::Changing(began), now());
        known.answer(Row::hot(1, 1), Asked::At(asked), now());
        let shown = known.row(Duration::from_secs(1), now()).expect("a row");
        assert_eq!((shown.title.as_str(), shown.available), ("title 2", 5));
        // News of a sale that came before the answer to the change.
        known.hear(stock(4, 3), now());
        known.answer(Row::hot(3, 4), Asked::Changing(began), now());
        assert_eq!(known.stock(), stock(4, 3));
        assert_eq!(known.as_read(), Some(stock(3, 4)));
    }

    #[test]
    fn a_row_is_shown_for_as_long_as_it_is_confirmed_and_with_the_latest_stock() {
        let age_max = Duration::from_secs(1);
        let mut now = moments();
        let mut known = Known::heard(stock(1, 5), now());
        assert!(known.row(age_max, now()).is_none(), "news knows no title");
        let asked = now();
        known.answer(Row::hot(1, 5), Asked::At(asked), now());
        known.hear(stock(2, 4), now());
        let shown = known.row(age_max, asked + age_max / 2).expect("a row");
        assert_eq!((shown.version, shown.available), (2, 4));
        assert!(known.row(age_max, asked + age_max).is_none(), "too old");
        known.unchanged(asked + age_max, asked + age_max);
        let shown = known.row(age_max, asked + age_max).expect("a row");
        assert_eq!(shown.as_of, DateTime::UNIX_EPOCH + age_max);
    }
}
