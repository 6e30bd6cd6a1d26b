//! The parts of a batch that are still to be settled, from its front to its end. Pure.

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

    /// Puts a part of several orders back as two, because one of its orders is refused.
    pub(crate) fn halve(&mut self, part: usize) {
        let first = part / 2;
        self.0.extend([part - first, first]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
