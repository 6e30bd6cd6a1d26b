//! The rules of a sale, as administrators set them: all of them with a product, or one by one.

use chrono::{DateTime, Utc};
use hotrow_shared::{
    change::EXTENDED_HOLD_SECONDS_MAX,
    order::{QUANTITY_MAX, longest_hold},
    outcome::timestamp_if_any,
    sale::LIMIT_MAX,
};
use serde::Serialize;
use utoipa::ToSchema;

use super::member::Change;
use crate::{
    board::store::Row,
    http::json::{Faults, Place, Value},
};

/// The shortest hold, in seconds: a buyer needs a moment to pay.
pub(crate) const HOLD_MIN: i64 = 30;
/// The longest hold, in seconds: a day.
const HOLD_MAX: i64 = 86_400;
/// The longest that a hold can be extended to, in seconds: a week.
const EXTENDED_HOLD_MAX: i64 = EXTENDED_HOLD_SECONDS_MAX as i64;

/// Where the rules of a sale are.
const SALE: Place<'_> = Place::Member(&Place::Body, "sale");

/// The rules of a sale: those that are not there are off.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, ToSchema)]
#[schema(as = SaleRules)]
pub(crate) struct Sale {
    /// How long orders are held until they are paid.
    #[schema(required)]
    pub(crate) hold_seconds: Option<i32>,
    /// The end of all extensions, counted from settling.
    #[schema(required)]
    pub(crate) hold_seconds_max: Option<i32>,
    /// Pieces that one order may have.
    #[schema(required)]
    pub(crate) max_per_order: Option<i32>,
    /// Pieces that one customer may hold and have bought.
    #[schema(required)]
    pub(crate) max_per_customer: Option<i32>,
    /// The first moment of the sale.
    #[serde(serialize_with = "timestamp_if_any")]
    #[schema(required)]
    pub(crate) opens_at: Option<DateTime<Utc>>,
    /// The first moment after it.
    #[serde(serialize_with = "timestamp_if_any")]
    #[schema(required)]
    pub(crate) closes_at: Option<DateTime<Utc>>,
    /// Whether it stands still.
    #[serde(rename = "paused")]
    pub(crate) is_paused: bool,
}

/// Two rules that contradict each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Contradiction {
    member: &'static str,
    pub(crate) detail: &'static str,
}

impl Contradiction {
    /// Where it is told.
    pub(crate) fn place(self) -> Place<'static> {
        Place::Member(&SALE, self.member)
    }
}

impl Sale {
    /// The rules of a row.
    pub(crate) fn of(row: &Row) -> Self {
        Self {
            hold_seconds: row.hold_seconds,
            hold_seconds_max: row.hold_seconds_max,
            max_per_order: row.max_per_order,
            max_per_customer: row.max_per_customer,
            opens_at: row.opens_at,
            closes_at: row.closes_at,
            is_paused: row.paused,
        }
    }

    /// The rules of a row as they work and are shown, if it has any.
    pub(super) fn shown(row: &Row) -> Option<Self> {
        let mut sale = Self::of(row);
        if sale == Self::default() {
            return None;
        }
        let longest = |seconds| longest_hold(seconds, sale.hold_seconds_max);
        sale.hold_seconds_max = sale.hold_seconds.map(longest);
        Some(sale)
    }

    /// Why the rules contradict each other, if they do.
    pub(crate) fn contradiction(self) -> Option<Contradiction> {
        let of = |member, detail| Some(Contradiction { member, detail });
        match (self.hold_seconds, self.hold_seconds_max) {
            (None, Some(_)) => return of("hold_seconds_max", "needs hold_seconds"),
            (Some(seconds), Some(most)) if most < seconds => {
                return of("hold_seconds_max", "must not be less than hold_seconds");
            }
            _ => {}
        }
        match (self.opens_at, self.closes_at) {
            (Some(opens), Some(closes)) if closes <= opens => {
                of("closes_at", "must be later than opens_at")
            }
            _ => None,
        }
    }
}

/// What is to become of the rules of a sale, rule by rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SaleChange {
    hold_seconds: Change<i32>,
    hold_seconds_max: Change<i32>,
    max_per_order: Change<i32>,
    max_per_customer: Change<i32>,
    opens_at: Change<DateTime<Utc>>,
    closes_at: Change<DateTime<Utc>>,
    is_paused: Change<bool>,
}

impl SaleChange {
    /// The rules afterwards.
    pub(crate) fn applied_to(self, before: Sale) -> Sale {
        let is_paused = self.is_paused.applied_to(Some(before.is_paused));
        Sale {
            hold_seconds: self.hold_seconds.applied_to(before.hold_seconds),
            hold_seconds_max: self.hold_seconds_max.applied_to(before.hold_seconds_max),
            max_per_order: self.max_per_order.applied_to(before.max_per_order),
            max_per_customer: self.max_per_customer.applied_to(before.max_per_customer),
            opens_at: self.opens_at.applied_to(before.opens_at),
            closes_at: self.closes_at.applied_to(before.closes_at),
            is_paused: is_paused.unwrap_or_default(),
        }
    }

    /// Reads rules by hand, and notes everything that they cannot be.
    pub(super) fn examine(value: &Value, shortest_hold: i64, faults: &mut Faults) -> Option<Self> {
        let names = [
            "hold_seconds",
            "hold_seconds_max",
            "max_per_order",
            "max_per_customer",
            "opens_at",
            "closes_at",
            "paused",
        ];
        let members = faults.optional_members(&SALE, value, names)?;
        let place = |at: usize| Place::Member(&SALE, names[at]);
        let count = |at: usize, bounds, faults: &mut Faults| {
            Change::read(members[at], |value| {
                i32::try_from(faults.integer(&place(at), value, bounds)?).ok()
            })
        };
        let hold_seconds = count(0, shortest_hold..=HOLD_MAX, faults);
        let hold_seconds_max = count(1, shortest_hold..=EXTENDED_HOLD_MAX, faults);
        let max_per_order = count(2, 1..=i64::from(QUANTITY_MAX), faults);
        let max_per_customer = count(3, 1..=i64::from(LIMIT_MAX), faults);
        let opens_at = Change::read(members[4], |value| faults.time(&place(4), value));
        let closes_at = Change::read(members[5], |value| faults.time(&place(5), value));
        let is_paused = Change::read(members[6], |value| faults.boolean(&place(6), value));
        Some(Self {
            hold_seconds: hold_seconds?,
            hold_seconds_max: hold_seconds_max?,
            max_per_order: max_per_order?,
            max_per_customer: max_per_customer?,
            opens_at: opens_at?,
            closes_at: closes_at?,
            is_paused: is_paused?,
        })
    }
}
