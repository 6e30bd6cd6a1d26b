//! What everybody in the third act was told, counted as they hear it.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use serde::Serialize;
use uuid::Uuid;

/// What became of an order that got its tickets.
pub(super) const CONFIRMED: &str = "confirmed";

/// Purchases by what came of them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub(super) struct Counts {
    /// All purchases that were tried.
    pub(super) asked: u64,
    /// Those that were refused at the door, by the code.
    pub(super) refused: BTreeMap<String, u64>,
    /// Those of them that were refused as `rate_limited`, by the limit.
    pub(super) rate_limited_by: BTreeMap<String, u64>,
    pub(super) accepted: u64,
    /// Accepted ones by what settling made of them: `confirmed`, or the reason why not.
    pub(super) settled: BTreeMap<String, u64>,
}

impl Counts {
    /// How many were refused at the door with this code.
    pub(super) fn refused(&self, code: &str) -> u64 {
        self.refused.get(code).copied().unwrap_or_default()
    }

    /// How many ended like this when they were settled.
    pub(super) fn settled(&self, outcome: &str) -> u64 {
        self.settled.get(outcome).copied().unwrap_or_default()
    }
}

/// All that was heard.
#[derive(Debug, Clone, Default)]
pub(super) struct Told {
    pub(super) counts: Counts,
    /// The ids of all orders with a 202.
    pub(super) accepted: Vec<Uuid>,
}

/// Where all note what they hear.
#[derive(Debug, Default)]
pub(super) struct Tally(Mutex<Told>);

impl Tally {
    /// Counts a purchase with a 202.
    pub(super) fn accept(&self, order_id: Uuid) {
        let mut told = self.told();
        told.counts.asked += 1;
        told.counts.accepted += 1;
        told.accepted.push(order_id);
    }

    /// Counts a purchase that was refused at the door, and the rate limit where it was one.
    pub(super) fn refuse(&self, code: &str, limit: Option<&str>) {
        let counts = &mut self.told().counts;
        counts.asked += 1;
        *counts.refused.entry(code.to_owned()).or_default() += 1;
        if let Some(limit) = limit {
            let limited = &mut counts.rate_limited_by;
            *limited.entry(limit.to_owned()).or_default() += 1;
        }
    }

    /// Counts what settling made of an accepted order.
    pub(super) fn settle(&self, outcome: String) {
        let counts = &mut self.told().counts;
        *counts.settled.entry(outcome).or_default() += 1;
    }

    /// What is counted by now.
    pub(super) fn counts(&self) -> Counts {
        self.told().counts.clone()
    }

    /// All of it.
    pub(super) fn so_far(&self) -> Told {
        self.told().clone()
    }

    fn told(&self) -> MutexGuard<'_, Told> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
