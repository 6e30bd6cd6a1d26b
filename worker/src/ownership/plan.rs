//! What one look at the other workers changes, decided without them.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

/// How long an unfit worker tries to finish what it has in hand. After that it lets go: the broker
/// delivers the same orders to the next, who finds out which of them are settled.
const FINISH_MAX: Duration = Duration::from_secs(1);

/// What a worker has when it looks.
#[derive(Debug, Default)]
pub(super) struct View {
    pub(super) partitions: u16,
    pub(super) locked: BTreeSet<u16>,
    /// For how long each has been told to stop; none if it has not.
    pub(super) running: BTreeMap<u16, Option<Duration>>,
}

/// The workers that are there and fit.
#[derive(Debug, Clone, Copy)]
pub(super) struct Attendance {
    /// This worker's place among them.
    pub(super) rank: usize,
    pub(super) workers: usize,
}

/// What changes after a look.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Plan {
    /// Partitions to drain.
    pub(super) stop: Vec<u16>,
    /// Partitions whose work is ended as it is.
    pub(super) let_go: Vec<u16>,
    /// Partitions that are drained: their locks are for others.
    pub(super) unlock: Vec<u16>,
    /// Partitions that may be had, if nobody else has them.
    pub(super) free: Vec<u16>,
    /// How many of them to take.
    pub(super) take: usize,
}

/// Decides what one look changes.
pub(super) fn plan(view: &View, attendance: Attendance, is_fit: bool) -> Plan {
    let Attendance { rank, workers } = attendance;
    let share = match (is_fit, workers) {
        // A worker counts itself, or the session was lost in between.
        (true, _) => fair_share(view.partitions, workers.max(1), rank),
        (false, 0) => view.running.len(),
        (false, _) => 0,
    };
    let mut kept = 0;
    let mut stop = Vec::new();
    for (partition, stopped_for) in &view.running {
        if stopped_for.is_some() {
            continue;
        }
        if view.locked.contains(partition) && kept < share {
            kept += 1;
        } else {
            stop.push(*partition);
        }
    }
    let take = if is_fit { share - kept } else { 0 };
    let is_free =
        |partition: &u16| !view.locked.contains(partition) && !view.running.contains_key(partition);
    Plan {
        stop,
        let_go: overdue(&view.running, is_fit),
        unlock: view
            .locked
            .iter()
            .copied()
            .filter(|partition| !view.running.contains_key(partition))
            .collect(),
        free: if take > 0 {
            (0..view.partitions).filter(is_free).collect()
        } else {
            Vec::new()
        },
        take,
    }
}

/// Partitions that an unfit worker has been told to stop and cannot finish.
pub(super) fn overdue(running: &BTreeMap<u16, Option<Duration>>, is_fit: bool) -> Vec<u16> {
    let is_overdue = |stopped_for: &Option<Duration>| {
        !is_fit && stopped_for.is_some_and(|since| since > FINISH_MAX)
    };
    running
        .iter()
        .filter(|(_, stopped_for)| is_overdue(stopped_for))
        .map(|(partition, _)| *partition)
        .collect()
}

/// How many partitions the worker of a rank gets: as equal as whole numbers can be.
fn fair_share(partitions: u16, workers: usize, rank: usize) -> usize {
    let partitions = usize::from(partitions);
    partitions / workers + usize::from(rank < partitions % workers)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALONE: Attendance = Attendance {
        rank: 0,
        workers: 1,
    };
    const FIRST_OF_TWO: Attendance = Attendance {
        rank: 0,
        workers: 2,
    };
    const NOBODY: Attendance = Attendance {
        rank: 0,
        workers: 0,
    };

    /// A worker of four partitions that consumes these and has their locks.
    fn worker(running: impl IntoIterator<Item = u16>) -> View {
        let running: BTreeMap<_, _> = running.into_iter().map(|it| (it, None)).collect();
        View {
            partitions: 4,
            locked: running.keys().copied().collect(),
            running,
        }
    }

    #[test]
    fn a_worker_takes_what_is_missing_from_its_share() {
        let plan = plan(&worker([1]), ALONE, true);
        let expected = Plan {
            free: vec![0, 2, 3],
            take: 3,
            ..Plan::default()
        };
        assert_eq!(plan, expected);
    }

    #[test]
    fn surplus_is_stopped_and_its_lock_is_given_up_once_it_is_drained() {
        let mut view = worker(0..4);
        let told = plan(&view, FIRST_OF_TWO, true);
        let expected = Plan {
            stop: vec![2, 3],
            ..Plan::default()
        };
        assert_eq!(told, expected);

        view.running.insert(2, Some(FINISH_MAX * 10));
        view.running.remove(&3);
        let later = plan(&view, FIRST_OF_TWO, true);
        let expected = Plan {
            unlock: vec![3],
            ..Plan::default()
        };
        assert_eq!(later, expected, "a fit worker finishes what it has in hand");
    }

    #[test]
    fn what_runs_without_its_lock_is_stopped() {
        let mut view = worker(0..4);
        view.locked.remove(&1);
        assert_eq!(plan(&view, ALONE, true).stop, [1]);
        assert_eq!(plan(&view, NOBODY, false).stop, [1]);
    }

    #[test]
    fn an_unfit_worker_gives_all_to_the_others_and_lets_go_of_what_it_cannot_finish() {
        let mut view = worker(0..2);
        let told = plan(&view, ALONE, false);
        let expected = Plan {
            stop: vec![0, 1],
            ..Plan::default()
        };
        assert_eq!(told, expected);

        view.running.insert(0, Some(FINISH_MAX / 2));
        view.running.insert(1, Some(FINISH_MAX * 2));
        assert_eq!(plan(&view, ALONE, false).let_go, [1]);
        view.running.clear();
        let given_up = plan(&view, ALONE, false);
        let expected = Plan {
            unlock: vec![0, 1],
            ..Plan::default()
        };
        assert_eq!(given_up, expected);
    }

    #[test]
    fn an_unfit_worker_goes_on_with_what_it_has_while_nobody_is_fit() {
        assert_eq!(plan(&worker(0..2), NOBODY, false), Plan::default());
        assert_eq!(plan(&worker([]), NOBODY, false), Plan::default());
    }

    #[test]
    fn shares_add_up_and_differ_by_one_at_most() {
        for partitions in 1..=40 {
            for workers in 1..=45 {
                let shares: Vec<_> = (0..workers)
                    .map(|rank| fair_share(partitions, workers, rank))
                    .collect();
                assert_eq!(shares.iter().sum::<usize>(), usize::from(partitions));
                assert!(
                    shares
                        .iter()
                        .max()
                        .zip(shares.iter().min())
                        .is_some_and(|(most, least)| most - least <= 1)
                );
            }
        }
    }
}
