//! What a limit remembers of its callers: never more than so many, of which the oldest are forgotten first.

use std::{sync::Arc, time::Duration};

use governor::{
    nanos::Nanos,
    state::{InMemoryState, NotKeyed, StateStore},
};
use moka::{policy::EvictionPolicy, sync::Cache};

/// The theoretical arrival time of each caller, as the generic cell rate algorithm has it, by a hash of the caller.
///
/// Whoever has been away for as long as a used-up allowance takes to be whole again is like one who was never here,
/// and is forgotten. Beyond `callers_max`, the ones who have been away longest are forgotten early, one for each that
/// comes, so that a flood of made-up names gives nobody but the longest absent a new allowance.
#[derive(Clone)]
pub(super) struct Callers(Cache<u64, Arc<InMemoryState>>);

impl Callers {
    /// Remembers nobody yet. An allowance is whole again after `whole_after`.
    pub(super) fn new(callers_max: u64, whole_after: Duration) -> Self {
        let cache = Cache::builder()
            .max_capacity(callers_max)
            // The default policy would refuse to remember those that are new.
            .eviction_policy(EvictionPolicy::lru())
            .time_to_idle(whole_after)
            .build();
        Self(cache)
    }

    /// How many are remembered.
    #[cfg(test)]
    pub(super) fn remembered(&self) -> u64 {
        self.0.run_pending_tasks();
        self.0.entry_count()
    }
}

impl StateStore for Callers {
    type Key = u64;

    fn measure_and_replace<T, F, E>(&self, caller: &u64, decide: F) -> Result<T, E>
    where
        F: Fn(Option<Nanos>) -> Result<(T, Nanos), E>,
    {
        let state = self.0.get_with_by_ref(caller, Arc::default);
        state.measure_and_replace(&NotKeyed::NonKey, decide)
    }
}
