//! What happens to orders, and what it comes to.

use hotrow_shared::outcome::Status;
use proptest::prelude::*;

use crate::{settle::decision::Verdict, stock::Hold};

pub(super) const START_MS: i64 = 1_700_000_000_000;
pub(super) const GRACE_SECONDS: i64 = 8;
pub(super) const HOLD: Hold = Hold {
    seconds: 60,
    seconds_max: 100,
};

/// Something that happens to one of a few orders, some seconds after what happened before.
#[derive(Debug, Clone)]
pub(super) struct Step {
    pub(super) order: usize,
    pub(super) what: What,
    pub(super) seconds: i64,
    /// Whether the batch ends behind it.
    pub(super) is_last: bool,
}

#[derive(Debug, Clone, Copy)]
pub(super) enum What {
    Place,
    Confirm { reference: u8, amount: Amount },
    Cancel { is_customer: bool, restock: bool },
    Extend { seconds: u32 },
    Expire,
}

#[derive(Debug, Clone, Copy)]
pub(super) enum Amount {
    Unsaid,
    Right,
    Wrong,
}

pub(super) fn what() -> impl Strategy<Value = What> {
    let amount = prop_oneof![
        3 => Just(Amount::Unsaid),
        2 => Just(Amount::Right),
        1 => Just(Amount::Wrong)
    ];
    prop_oneof![
        4 => Just(What::Place),
        4 => (0u8..3, amount).prop_map(|(reference, amount)| What::Confirm { reference, amount }),
        2 => (any::<bool>(), any::<bool>())
            .prop_map(|(is_customer, restock)| What::Cancel { is_customer, restock }),
        1 => (1u32..120).prop_map(|seconds| What::Extend { seconds }),
        3 => Just(What::Expire),
    ]
}

pub(super) fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step =
        (0usize..6, what(), 0i64..40, any::<bool>()).prop_map(|(order, what, seconds, is_last)| {
            Step {
                order,
                what,
                seconds,
                is_last,
            }
        });
    proptest::collection::vec(step, 0..60)
}

/// The orders: their items, as numbers of SKUs and quantities. SKU 0 is held, SKU 1 is not.
pub(super) const ORDERS: [&[(u8, u32)]; 6] = [
    &[(0, 2)],
    &[(0, 1)],
    &[(1, 2)],
    &[(0, 1), (1, 1)],
    &[(0, 3)],
    &[(1, 1)],
];

/// What one step came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Came {
    To(Status, i32),
    Nothing,
    Conflict,
    Unmatched,
}

impl Came {
    pub(super) fn of(verdict: &Verdict) -> Self {
        match verdict {
            Verdict::Settled(outcome) => Self::To(outcome.status, outcome.revision),
            Verdict::Changed(standing, _) => Self::To(standing.status, standing.revision),
            Verdict::Duplicate | Verdict::Alias(_) | Verdict::Unchanged => Self::Nothing,
            Verdict::Conflict => Self::Conflict,
            Verdict::Unmatched(_) | Verdict::UnmatchedBefore => Self::Unmatched,
        }
    }
}
