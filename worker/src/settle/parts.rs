//! The parts of a batch that are still to be settled, from its front to its end, and how large a part
//! may be. Pure.

use std::time::Duration;

/// How many orders each part has; the next part is the last of the list.
#[derive(Debug)]
pub(crate) struct Parts(Vec<usize>);

impl Parts {
    /// All of a batch as one part.
    pub(crate) fn of(orders: usize) -> Self {
        Self(if orders == 0 {
            Vec::new()
        } else {
            vec![orders]
        })
    }

    /// Takes the next part, or its first `orders_max` orders if it has more: a single envelope may hold
    /// more than a batch may, if the settings of the processes differ.
    pub(crate) fn next(&mut self, orders_max: usize) -> Option<usize> {
        let part = self.0.pop()?;
        let now = part.min(orders_max);
        if part > now {
            self.0.push(part - now);
        }
        Some(now)
    }

    /// Puts a part back as it was.
    pub(crate) fn put_back(&mut self, part: usize) {
        self.0.push(part);
    }

    /// Puts a part of several orders back as two, because one of its orders is refused.
    pub(crate) fn halve(&mut self, part: usize) {
        let first = part / 2;
        self.0.extend([part - first, first]);
    }
}

/// How many orders one transaction may have.
///
/// A transaction that takes too long is cut off and has done nothing, so the same again would never end:
/// the next has half as many orders. Transactions that are quick let the number grow again.
#[derive(Debug)]
pub(crate) struct PartSize {
    orders_max: usize,
    now: usize,
}

impl PartSize {
    /// Begins with as many as there may ever be.
    pub(crate) fn new(orders_max: usize) -> Self {
        Self {
            orders_max,
            now: orders_max,
        }
    }

    pub(crate) fn now(&self) -> usize {
        self.now
    }

    /// Notes that a transaction of so many orders was not done in time.
    pub(crate) fn timed_out(&mut self, orders: usize) {
        self.now = self.now.min((orders / 2).max(1));
    }

    /// Notes that a transaction was committed. A larger one is tried only if twice as many orders would
    /// still be far from the limit, or the size would swing about it.
    pub(crate) fn settled(&mut self, orders: usize, took: Duration, time_max: Duration) {
        if orders >= self.now && took < time_max / 4 {
            self.now = self.now.saturating_mul(2).min(self.orders_max);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_secs(15);

    #[test]
    fn a_part_that_takes_too_long_gets_smaller_until_it_fits_and_grows_once_it_is_quick() {
        // The database settles 100 orders in the time that there is.
        let time = |orders: usize| LIMIT * u32::try_from(orders).expect("few") / 100;
        let mut size = PartSize::new(4_000);
        let mut parts = Parts::of(1_000);
        let mut tried = Vec::new();
        while let Some(part) = parts.next(size.now()) {
            tried.push(part);
            if time(part) > LIMIT {
                size.timed_out(part);
                parts.put_back(part);
            } else {
                size.settled(part, time(part), LIMIT);
            }
        }
        assert_eq!(tried[..5], [1_000, 500, 250, 125, 62]);
        assert!(tried[4..].iter().all(|part| *part <= 62), "{tried:?}");
        assert_eq!(tried[4..].iter().sum::<usize>(), 1_000);
        for _ in 0..7 {
            size.settled(size.now(), LIMIT / 100, LIMIT);
        }
        assert_eq!(size.now(), 4_000);
    }

    #[test]
    fn a_single_order_stays_a_part_and_small_batches_say_nothing_of_large_ones() {
        let mut size = PartSize::new(4_000);
        size.timed_out(1);
        assert_eq!(size.now(), 1);
        size.settled(1, LIMIT / 100, LIMIT);
        size.settled(1, LIMIT / 100, LIMIT);
        assert_eq!(size.now(), 2);
    }

    #[test]
    fn a_batch_is_cut_into_parts_of_the_size_that_is_allowed() {
        let mut parts = Parts::of(20);
        let cut: Vec<_> = std::iter::from_fn(|| parts.next(8)).collect();
        assert_eq!(cut, [8, 8, 4]);
        assert_eq!(Parts::of(0).next(8), None);
    }

    #[test]
    fn the_culprits_of_a_batch_end_up_alone_and_the_sequence_stays() {
        let culprits = [3, 4, 17];
        let mut parts = Parts::of(20);
        let (mut at, mut alone, mut settled) = (0, Vec::new(), Vec::new());
        while let Some(part) = parts.next(8) {
            let range = at..at + part;
            let guilty = culprits.iter().any(|culprit| range.contains(culprit));
            match (guilty, part) {
                (true, 1) => alone.push(at),
                (true, _) => {
                    parts.halve(part);
                    continue;
                }
                (false, _) => settled.extend(range),
            }
            at += part;
        }
        assert_eq!(alone, culprits);
        let sound: Vec<_> = (0..20).filter(|order| !culprits.contains(order)).collect();
        assert_eq!(settled, sound);
    }
}
