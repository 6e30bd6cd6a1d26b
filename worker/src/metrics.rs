//! A metric with a label: one handle for each value, all of them made at the start, so that every
//! series exists at zero. The names stand in the shared list; the components own their handles.

/// The handles of one metric, by the value of its label.
pub(crate) struct Labelled<L, M>(Vec<(L, M)>);

impl<L: Copy + PartialEq, M> Labelled<L, M> {
    /// Makes the handle of each value.
    pub(crate) fn new(values: impl IntoIterator<Item = L>, handle: impl Fn(L) -> M) -> Self {
        Self(
            values
                .into_iter()
                .map(|value| (value, handle(value)))
                .collect(),
        )
    }

    /// The handle of a value; none if it is not one of those that were made.
    pub(crate) fn of(&self, value: L) -> Option<&M> {
        let (_, handle) = self.0.iter().find(|(known, _)| *known == value)?;
        Some(handle)
    }
}
