//! Arrivals: when the orders of an open loop are due.

use std::time::Duration;

use rand::{RngExt, SeedableRng, rngs::SmallRng};

/// Every load with the same rate is the same load.
const SEED: u64 = 42;

/// Draws when orders are due that many buyers send independently of each other, so many per second
/// in the mean (a Poisson process), from the start of the load to its end.
pub(super) fn draw(per_second: f64, length: Duration) -> Vec<Duration> {
    let mut random = SmallRng::seed_from_u64(SEED);
    let mut due = 0.0;
    let gaps = std::iter::repeat_with(|| {
        // The inverse of the exponential distribution; 1 - x, because x may be 0.
        due += -(1.0 - random.random::<f64>()).ln() / per_second;
        Duration::from_secs_f64(due)
    });
    gaps.take_while(|due| *due < length).collect()
}

/// The same orders, but the earlier a moment, the more of them are due: twice as many as in the mean at the start, and
/// none at the end.
pub(super) fn hurry(arrivals: Vec<Duration>, length: Duration) -> Vec<Duration> {
    let sooner = |due: Duration| {
        // The inverse of the share that is due by then, 1 - (1 - x)^2.
        let share = due.as_secs_f64() / length.as_secs_f64();
        length.mul_f64(1.0 - (1.0 - share).max(0.0).sqrt())
    };
    arrivals.into_iter().map(sooner).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arrivals_come_in_sequence_at_their_rate_and_not_evenly() {
        let length = Duration::from_secs(10);
        let arrivals = draw(1_000.0, length);
        assert!(
            (9_700..10_300).contains(&arrivals.len()),
            "{}",
            arrivals.len()
        );
        assert!(arrivals.is_sorted());
        // Of exponential gaps 1/e are longer than the mean.
        let is_long = |pair: &&[Duration]| pair[1] > pair[0] + Duration::from_millis(1);
        let long = arrivals.windows(2).filter(is_long).count();
        assert!((3_400..4_000).contains(&long), "{long}");
        assert_eq!(arrivals, draw(1_000.0, length));
    }

    #[test]
    fn in_a_hurry_three_quarters_come_in_the_first_half() {
        let length = Duration::from_secs(10);
        let arrivals = hurry(draw(1_000.0, length), length);
        assert!(arrivals.is_sorted());
        let early = arrivals.iter().filter(|due| **due < length / 2).count();
        let share = early * 1_000 / arrivals.len();
        assert!((720..780).contains(&share), "{share}");
    }
}
