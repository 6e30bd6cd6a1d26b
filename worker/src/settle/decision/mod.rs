//! The decision: who gets the goods, and what becomes of orders that have them. Pure, so that it can be
//! tested against a slow model.
//!
//! Commands are decided in order of arrival, and what one of them takes or gives back counts for those behind
//! it. [`place`] decides new orders, [`change`] what is asked of settled ones.

mod books;
mod change;
mod place;
mod verdict;

use std::collections::{BTreeMap, HashMap};

use hotrow_shared::order::Sku;

use self::books::Shelf;
pub(crate) use self::{
    books::{Books, Counted},
    verdict::{Candidate, GoodsMoved, Verdict},
};
use crate::{standing::Standing, stock::Moved};

/// What becomes of a batch.
#[derive(Debug)]
pub(crate) struct Decision<'a> {
    /// One verdict for each command, in the same sequence.
    pub(crate) verdicts: Vec<Verdict>,
    /// What happens to the stock; SKUs of which nothing moves are absent.
    pub(crate) moved: BTreeMap<&'a Sku, Moved>,
    /// What customers have more or less of SKUs with a limit per customer.
    pub(crate) counted: Vec<Counted<'a>>,
}

/// Decides a batch.
pub(crate) fn decide<'a>(batch: &[Candidate<'_>], mut books: Books<'a, '_>) -> Decision<'a> {
    let mut seen = HashMap::with_capacity(batch.len());
    let mut shelf = Shelf::of(books.stock, std::mem::take(&mut books.counts));
    // Nobody asks for a change of an order before it is settled. But what a database forgot in a fail-over comes
    // again, and then both may be in one batch.
    let has_changes = batch.iter().any(|it| matches!(it, Candidate::Change(_)));
    let mut verdicts = Vec::with_capacity(batch.len());
    for candidate in batch {
        verdicts.push(match candidate {
            Candidate::Place { order, twins } => {
                let verdict = place::decide(order, twins, &books, &mut seen, &mut shelf);
                if has_changes && let Verdict::Settled(outcome) = &verdict {
                    let standing = Standing::of(order, *outcome, books.stock, books.at);
                    books.standings.insert(order.id, standing);
                }
                verdict
            }
            Candidate::Change(change) => change::decide(change, &mut books, &mut shelf),
        });
    }
    let (moved, counted) = shelf.into_moved();
    Decision {
        verdicts,
        moved,
        counted,
    }
}

#[cfg(test)]
mod tests;
