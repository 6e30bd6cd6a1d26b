//! The board: what this process knows of every SKU, so that the door refuses who comes too late and thousands who
//! look at the same product cost one read.
//!
//! News fills it, and `refresh` reads what news may have missed. It holds [`SKUS_MAX`] SKUs. Beyond, a SKU is not
//! known: the door lets its orders pass and the worker decides, and whoever looks at it is told by the database.
//!
//! The door shares one lock with everybody but those who add or remove a SKU, and reads an atomic of the SKU. Only of
//! one that has rules, or whose price is asked for, it reads more.

mod absent;
mod entry;
mod known;
pub(crate) mod refresh;
pub(crate) mod stock;
pub(crate) mod store;

use std::{
    collections::HashMap,
    sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard},
    time::{Duration, Instant},
};

use chrono::{DateTime, Utc};
use hotrow_shared::{
    news::StockNews,
    order::{Items, Sku},
    sale::{Rules, Window},
};

pub(crate) use self::known::Asked;
use self::{
    absent::Absent,
    entry::{Entry, Word},
    known::Known,
    stock::{State, Stock},
    store::Row,
};
use crate::http::not_sold::{NotSold, Why};

/// SKUs that are known, at a few hundred bytes each.
const SKUS_MAX: usize = 100_000;
/// Closed SKUs that are looked up at once. With more, those somebody was refused for come first, and then those of
/// which nothing was heard for longest.
const CLOSED_MAX: usize = 5_000;
/// Open SKUs that are looked up at once: news of them fails to come, which is rare.
const SILENT_MAX: usize = 500;

/// What is known of every SKU.
#[derive(Default)]
pub(crate) struct Board {
    entries: RwLock<HashMap<Sku, Entry>>,
    absent: Absent,
}

/// SKUs to look up, each with its stock as it was read last.
type Questions = Vec<(Sku, Option<Stock>)>;

impl Board {
    /// The item that keeps the others from being sold, if there is one. Of several the first in the sequence of the
    /// contract counts. `now` is the time of acceptance.
    #[must_use]
    pub(crate) fn refusal(&self, items: &Items, now: DateTime<Utc>) -> Option<NotSold> {
        let entries = self.entries();
        let items = items.as_slice();
        let mut currency = None;
        let mut first: Option<(&Sku, Why)> = None;
        for item in items {
            let why = match entries.get(&item.sku) {
                Some(entry) => {
                    entry.want();
                    entry.refusal(item, &mut currency, items.len() > 1, now)
                }
                None => self.absent.is_known(&item.sku).then_some(Why::UnknownSku),
            };
            let Some(why) = why else { continue };
            if first
                .as_ref()
                .is_none_or(|(_, first)| why.rank() < first.rank())
            {
                first = Some((&item.sku, why));
            }
        }
        first.map(|(sku, why)| NotSold {
            sku: sku.to_string(),
            why,
        })
    }

    /// Takes in news of a SKU.
    pub(crate) fn hear(&self, news: &StockNews) {
        self.learn(&news.sku, Word::News(Stock::from(news), Instant::now()));
    }

    /// Takes in news of what an administrator said of a SKU.
    pub(crate) fn hear_rules(&self, sku: &Sku, rules: Rules) {
        self.learn(sku, Word::Rules(rules, Instant::now()));
    }

    /// Takes in the row that the database has of a SKU, or that it has none.
    pub(crate) fn answer(&self, sku: &Sku, row: Option<Row>, asked: Asked) {
        match (row, asked) {
            (Some(row), _) => self.learn(sku, Word::Answer(row, asked, Instant::now())),
            (None, Asked::At(asked)) => {
                self.forget([sku], asked);
                if !self.entries().contains_key(sku) {
                    self.absent.learn(sku);
                }
            }
            // Who changes a row has one.
            (None, Asked::Changing(_)) => {}
        }
    }

    /// The row of a SKU with its latest stock, if the database confirmed it within that time.
    #[must_use]
    pub(crate) fn row(&self, sku: &Sku, age_max: Duration) -> Option<Row> {
        let entries = self.entries();
        let known = entries.get(sku)?.known();
        known.row(age_max, Instant::now())
    }

    /// What somebody who watches a SKU sees of it: its stock, when it is sold, and whether it is paused. None if its
    /// rules are not known. A watched SKU is looked up in silence, after those that somebody wants to buy.
    #[must_use]
    pub(crate) fn watch(&self, sku: &Sku) -> Option<(Stock, Window, bool)> {
        let entries = self.entries();
        let entry = entries.get(sku)?;
        entry.watch();
        let known = entry.known();
        let rules = known.rules()?;
        Some((known.stock(), rules.window, rules.is_paused))
    }

    fn learn(&self, sku: &Sku, word: Word) {
        if let Some(entry) = self.entries().get(sku) {
            return entry.learn(word);
        }
        let (stock, now) = match &word {
            Word::News(stock, now) => (*stock, *now),
            Word::Answer(row, _, now) => (row.stock(), *now),
            // News of the stock comes with it.
            Word::Unchanged(..) | Word::Rules(..) => return,
        };
        self.absent.forget(sku);
        let mut entries = self.entries_to_change();
        if entries.len() < SKUS_MAX || entries.contains_key(sku) {
            let entry = entries.entry(sku.clone());
            entry
                .or_insert_with(|| Entry::new(Known::heard(stock, now)))
                .learn(word);
        }
    }

    /// What to look up now: closed SKUs, which must reopen although news of it is lost, and those that somebody wants
    /// to buy, or watches, while no news of them comes.
    fn questions(&self, silence: Duration) -> Questions {
        let now = Instant::now();
        let (mut closed, mut silent) = (Vec::new(), Vec::new());
        for (sku, entry) in self.entries().iter() {
            let is_closed = entry.state() != State::Open;
            let is_wanted = entry.is_wanted();
            if !is_closed && !is_wanted && !entry.is_watched() {
                continue;
            }
            let known = entry.known();
            let silent_for = known.silence(now);
            let question = (sku.clone(), known.as_read());
            if is_closed {
                closed.push(((is_wanted, silent_for), question));
            } else if silent_for >= silence {
                silent.push(((is_wanted, silent_for), question));
            }
        }
        let chosen = [foremost(closed, CLOSED_MAX), foremost(silent, SILENT_MAX)];
        chosen.into_iter().flatten().collect()
    }

    /// The same for SKUs that administrators changed lately, and for those that somebody wants and that are not known.
    fn questions_about(&self, skus: impl IntoIterator<Item = Sku>) -> Questions {
        let entries = self.entries();
        let mut skus: Vec<_> = skus.into_iter().chain(self.absent.take_wanted()).collect();
        skus.sort_unstable();
        skus.dedup();
        skus.into_iter()
            .map(|sku| {
                let as_read = entries.get(&sku).and_then(|entry| entry.known().as_read());
                (sku, as_read)
            })
            .collect()
    }

    /// Forgets SKUs of which nothing was taken in since the database did not have them.
    fn forget<'a>(&self, skus: impl IntoIterator<Item = &'a Sku>, asked: Instant) {
        let mut entries = None;
        for sku in skus {
            // Most that are asked for and not there never were: they cost no more than a look.
            let is_known = entries.is_some() || self.entries().contains_key(sku);
            if !is_known {
                continue;
            }
            let entries = entries.get_or_insert_with(|| self.entries_to_change());
            let is_gone = entries
                .get(sku)
                .is_some_and(|entry| entry.known().is_older_than(asked));
            if is_gone {
                entries.remove(sku);
            }
        }
    }

    /// Forgets what has not been found since then, although everything was read.
    fn forget_older_than(&self, then: Instant) {
        let is_old = |(sku, entry): (&Sku, &Entry)| {
            let is_old = entry.known().is_older_than(then);
            is_old.then(|| sku.clone())
        };
        let old: Vec<_> = self.entries().iter().filter_map(is_old).collect();
        self.forget(&old, then);
    }

    fn is_full(&self) -> bool {
        self.entries().len() >= SKUS_MAX
    }

    fn entries(&self) -> RwLockReadGuard<'_, HashMap<Sku, Entry>> {
        self.entries.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn entries_to_change(&self) -> RwLockWriteGuard<'_, HashMap<Sku, Entry>> {
        self.entries.write().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The `most` with the highest rank.
fn foremost<R: Ord + Copy, T>(mut ranked: Vec<(R, T)>, most: usize) -> impl Iterator<Item = T> {
    if ranked.len() > most {
        ranked.select_nth_unstable_by_key(most, |(rank, _)| std::cmp::Reverse(*rank));
        ranked.truncate(most);
    }
    ranked.into_iter().map(|(_, it)| it)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn news(sku: &str, version: i64, available: i64, held: i64) -> StockNews {
        StockNews {
            sku: sku_of(sku),
            version,
            available,
            held,
        }
    }

    fn sku_of(text: &str) -> Sku {
        Sku::try_from(text).expect("a valid name")
    }

    fn cart() -> Items {
        serde_json::from_str(
            r#"[{"sku":"cold","quantity":1},{"sku":"warm","quantity":1},{"sku":"hot","quantity":1}]"#,
        )
        .expect("items")
    }

    fn asked(board: &Board, silence: Duration) -> Vec<String> {
        let questions = board.questions(silence).into_iter();
        let mut skus: Vec<_> = questions.map(|(sku, _)| sku.to_string()).collect();
        skus.sort();
        skus
    }

    #[test]
    fn late_news_of_selling_out_does_not_close_a_restocked_sku() {
        let (items, board) = (cart(), Board::default());
        let is_open = || board.refusal(&items, DateTime::UNIX_EPOCH).is_none();
        board.hear(&news("hot", 4, 10, 0));
        assert!(is_open());
        board.hear(&news("hot", 5, 0, 0));
        assert!(!is_open());
        board.hear(&news("hot", 6, 100, 0));
        assert!(is_open());
        board.hear(&news("hot", 5, 0, 0));
        assert!(is_open(), "version 5 is older than version 6");
        board.hear(&news("hot", 7, 0, 0));
        assert!(!is_open());
        let asked = Asked::At(Instant::now());
        board.answer(&sku_of("hot"), Some(Row::hot(3, 100)), asked);
        assert!(is_open(), "the database decides");
    }

    #[test]
    fn what_is_gone_for_good_comes_before_what_is_held() {
        let (items, board) = (cart(), Board::default());
        let closed = || {
            let not_sold = board.refusal(&items, DateTime::UNIX_EPOCH)?;
            Some((not_sold.sku, not_sold.why))
        };
        board.hear(&news("warm", 1, 0, 3));
        let all_held = Why::SoldOut { is_held: true };
        assert_eq!(closed(), Some(("warm".to_owned(), all_held)));
        board.hear(&news("hot", 1, 0, 0));
        let sold_out = Why::SoldOut { is_held: false };
        assert_eq!(closed(), Some(("hot".to_owned(), sold_out)));
    }

    /// What the door says at a time of a cart whose first item has these rules, and wants two at the price of 1.
    fn refused(rules: impl FnOnce(&mut Rules), at_ms: i64) -> Option<Why> {
        let board = Board::default();
        let asked = Asked::At(Instant::now());
        for sku in ["hot", "cold"] {
            let row = Row {
                sku: sku.to_owned(),
                ..Row::hot(1, 0)
            };
            board.answer(&sku_of(sku), Some(row), asked);
        }
        let mut said = Row::hot(2, 0).rules();
        rules(&mut said);
        board.hear_rules(&sku_of("hot"), said);
        let items: Items = serde_json::from_str(
            r#"[{"sku":"cold","quantity":1},{"sku":"hot","quantity":2,"unit_price_minor":1}]"#,
        )
        .expect("items");
        let now = DateTime::from_timestamp_millis(at_ms).expect("a time");
        Some(board.refusal(&items, now)?.why)
    }

    #[test]
    fn of_several_refusals_the_first_of_the_contract_is_told_at_the_door() {
        let opens_at = DateTime::from_timestamp_millis(1_000);
        let closes_at = DateTime::from_timestamp_millis(2_000);
        // Each step adds what comes before all that were added so far.
        let rules = |steps: usize| {
            move |rules: &mut Rules| {
                rules.max_per_order = (steps > 0).then_some(1);
                rules.is_paused = steps > 1;
                rules.window.opens_at = opens_at.filter(|_| steps > 2);
                rules.window.closes_at = closes_at.filter(|_| steps > 3);
                rules.unit_price_minor = 1 + i64::from(steps > 4);
                if steps > 5 {
                    rules.currency = "USD".to_owned();
                }
            }
        };
        let told = |steps, at_ms| {
            let why = refused(rules(steps), at_ms).expect("a refusal");
            why.refusal().as_str()
        };
        assert_eq!(told(0, 999), "sold_out");
        assert_eq!(told(1, 999), "limit_reached");
        assert_eq!(told(2, 999), "paused");
        assert_eq!(told(3, 999), "not_open");
        assert_eq!(told(4, 2_000), "closed");
        assert_eq!(told(5, 2_000), "price_changed");
        assert_eq!(told(6, 2_000), "currency_mismatch");
    }

    #[test]
    fn the_door_opens_and_closes_to_the_millisecond() {
        let window = |rules: &mut Rules| {
            rules.window.opens_at = DateTime::from_timestamp_millis(1_000);
            rules.window.closes_at = DateTime::from_timestamp_millis(2_000);
        };
        let sold_out = Some(Why::SoldOut { is_held: false });
        let not_open = |why: Option<Why>| matches!(why, Some(Why::NotOpen { .. }));
        assert!(not_open(refused(window, 999)));
        assert_eq!(refused(window, 1_000), sold_out);
        assert_eq!(refused(window, 1_999), sold_out);
        assert_eq!(refused(window, 2_000), Some(Why::Closed));
    }

    #[test]
    fn closed_skus_are_looked_up_and_open_ones_that_are_wanted_in_silence() {
        let board = Board::default();
        for (sku, available) in [("closed", 0), ("cold", 5), ("other", 5)] {
            board.hear(&news(sku, 1, available, 0));
        }
        assert_eq!(asked(&board, Duration::ZERO), ["closed"]);
        assert!(board.refusal(&cart(), DateTime::UNIX_EPOCH).is_none());
        assert_eq!(asked(&board, Duration::ZERO), ["closed", "cold"]);
        assert_eq!(asked(&board, Duration::MAX), ["closed"], "news comes");
        board.hear(&news("cold", 1, 5, 0));
        assert_eq!(asked(&board, Duration::ZERO), ["closed"]);
        let seen = board.watch(&sku_of("other"));
        assert!(seen.is_none(), "its rules are not known");
        assert_eq!(asked(&board, Duration::ZERO), ["closed", "other"]);
        board.hear(&news("other", 1, 5, 0));
        assert_eq!(asked(&board, Duration::ZERO), ["closed"]);
    }

    #[test]
    fn of_too_many_questions_those_with_the_highest_rank_are_asked() {
        let ranked = (0..10).map(|rank| (rank, rank)).collect();
        let mut asked: Vec<_> = foremost(ranked, 3).collect();
        asked.sort_unstable();
        assert_eq!(asked, [7, 8, 9]);
    }

    #[test]
    fn no_more_skus_are_known_than_there_is_room_for() {
        let board = Board::default();
        for number in 0..=SKUS_MAX {
            board.hear(&news(&number.to_string(), 1, 0, 0));
        }
        assert!(board.is_full());
        assert_eq!(board.entries().len(), SKUS_MAX);
        assert_eq!(board.questions(Duration::ZERO).len(), CLOSED_MAX);
    }

    #[test]
    fn what_the_database_does_not_have_is_forgotten_unless_it_was_heard_of_since() {
        let (items, board) = (cart(), Board::default());
        let early = Instant::now();
        board.hear(&news("hot", 1, 0, 0));
        board.answer(&sku_of("hot"), None, Asked::At(early));
        let refusal = || {
            let not_sold = board.refusal(&items, DateTime::UNIX_EPOCH)?;
            Some(not_sold.why)
        };
        assert_eq!(refusal(), Some(Why::SoldOut { is_held: false }));
        let late = Instant::now() + Duration::from_millis(1);
        board.answer(&sku_of("hot"), None, Asked::At(late));
        assert_eq!(refusal(), Some(Why::UnknownSku), "the database said so");
        board.hear(&news("hot", 1, 5, 0));
        assert_eq!(refusal(), None, "it is there again");
        board.forget_older_than(Instant::now() + Duration::from_millis(1));
        assert!(board.entries().is_empty());
    }
}
