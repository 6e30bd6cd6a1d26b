//! The board: what this process knows of every SKU, so that the door refuses who comes too late and thousands who
//! look at the same product cost one read.
//!
//! News fills it, and `refresh` reads what news may have missed. It holds [`SKUS_MAX`] SKUs. Beyond, a SKU is not
//! known: the door lets its orders pass and the worker decides, and whoever looks at it is told by the database.
//!
//! The door shares one lock with everybody but those who add or remove a SKU, and reads an atomic of the SKU. Only of
//! one that has rules, or whose price is asked for, it reads more.

mod absent;
mod known;
pub(crate) mod refresh;
pub(crate) mod stock;
pub(crate) mod store;

use std::{
    collections::HashMap,
    sync::{
        Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard,
        atomic::{AtomicBool, AtomicU8, Ordering},
    },
    time::{Duration, Instant},
};

use chrono::{DateTime, Utc};
use hotrow_shared::{
    news::StockNews,
    order::{Item, Items, Sku},
    sale::{Refusal, Rules},
};

pub(crate) use self::known::Asked;
use self::{
    absent::Absent,
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

/// A SKU: what the door reads of it, beside what it comes from.
struct Entry {
    /// The [`State`] of its stock.
    state: AtomicU8,
    /// Whether its rules refuse anybody.
    has_rules: AtomicBool,
    /// Whether somebody wanted to buy it since anything was taken in.
    is_wanted: AtomicBool,
    /// Boxed, so that the table is small to walk through and to grow.
    known: Mutex<Box<Known>>,
}

impl Entry {
    fn new(known: Known) -> Self {
        Self {
            state: AtomicU8::new(known.stock().state() as u8),
            has_rules: AtomicBool::new(false),
            is_wanted: AtomicBool::new(false),
            known: Mutex::new(Box::new(known)),
        }
    }

    fn known(&self) -> MutexGuard<'_, Box<Known>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes in a word of the SKU.
    fn learn(&self, word: Word) {
        let mut known = self.known();
        let is_believed = match word {
            Word::News(stock, now) => known.hear(stock, now),
            Word::Answer(row, asked, now) => {
                known.answer(row, asked, now);
                true
            }
            Word::Unchanged(asked, now) => {
                known.unchanged(asked, now);
                true
            }
            Word::Rules(rules, now) => {
                known.hear_rules(rules, now);
                false
            }
        };
        // Behind the lock, so that the state is that of the last word.
        let state = known.stock().state() as u8;
        self.state.store(state, Ordering::Relaxed);
        let has_rules = known.rules().is_some_and(refuse_anybody);
        self.has_rules.store(has_rules, Ordering::Relaxed);
        if is_believed {
            self.is_wanted.store(false, Ordering::Relaxed);
        }
    }

    fn state(&self) -> State {
        let state = self.state.load(Ordering::Relaxed);
        let all = [State::Open, State::SoldOut, State::AllHeld];
        let known = all.into_iter().find(|it| *it as u8 == state);
        known.unwrap_or(State::Open)
    }

    /// Why this item is not sold, if so. `currency` is that of the items before it.
    fn refusal(
        &self,
        item: &Item,
        currency: &mut Option<String>,
        is_cart: bool,
        now: DateTime<Utc>,
    ) -> Option<Why> {
        let asks_more = is_cart || item.unit_price_minor.is_some();
        if asks_more || self.has_rules.load(Ordering::Relaxed) {
            let known = self.known();
            // Without rules the worker decides.
            let refused = known
                .rules()
                .and_then(|rules| refused_by(rules, item, currency, now));
            if refused.is_some() {
                return refused;
            }
        }
        match self.state() {
            State::SoldOut => Some(Why::SoldOut { is_held: false }),
            State::AllHeld => Some(Why::SoldOut { is_held: true }),
            _ => None,
        }
    }

    fn want(&self) {
        // Reading first leaves the line shared between the cores that sell a hot SKU.
        if !self.is_wanted.load(Ordering::Relaxed) {
            self.is_wanted.store(true, Ordering::Relaxed);
        }
    }
}

/// Whether there is anything in these rules that refuses a buyer who names no price.
fn refuse_anybody(rules: &Rules) -> bool {
    rules.is_paused
        || rules.window != hotrow_shared::sale::Window::default()
        || rules.max_per_order.is_some()
        || rules.max_per_customer.is_some()
}

/// Why these rules refuse an item, if so.
fn refused_by(
    rules: &Rules,
    item: &Item,
    currency: &mut Option<String>,
    now: DateTime<Utc>,
) -> Option<Why> {
    let first = currency.get_or_insert_with(|| rules.currency.clone());
    if *first != rules.currency {
        return Some(Why::CurrencyMismatch);
    }
    let unit_price_minor = rules.unit_price_minor;
    let seen = item.unit_price_minor.map(i64::from);
    if seen.is_some_and(|seen| seen != unit_price_minor) {
        return Some(Why::PriceChanged { unit_price_minor });
    }
    match (rules.window.refusal(now), rules.window.opens_at) {
        (Some(Refusal::NotOpen), Some(opens_at)) => {
            let wait = (opens_at - now).to_std().unwrap_or_default();
            return Some(Why::NotOpen { opens_at, wait });
        }
        (Some(_), _) => return Some(Why::Closed),
        (None, _) => {}
    }
    if rules.is_paused {
        return Some(Why::Paused);
    }
    // What the customer has already only the worker knows.
    let limits = [rules.max_per_order, rules.max_per_customer];
    let limit = limits.into_iter().flatten().min()?;
    (i64::from(item.quantity) > i64::from(limit)).then_some(Why::LimitReached { limit })
}

/// A word of a SKU: what it says, when it was asked for, and when it came.
enum Word {
    News(Stock, Instant),
    Answer(Row, Asked, Instant),
    /// The row is as it was read last.
    Unchanged(Instant, Instant),
    /// What an administrator said.
    Rules(Rules, Instant),
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
    /// to buy while no news of them comes.
    fn questions(&self, silence: Duration) -> Questions {
        let now = Instant::now();
        let (mut closed, mut silent) = (Vec::new(), Vec::new());
        for (sku, entry) in self.entries().iter() {
            let is_closed = entry.state() != State::Open;
            let is_wanted = entry.is_wanted.load(Ordering::Relaxed);
            if !is_closed && !is_wanted {
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
