//! Pages of lists: how long they are, where they begin, and how long a read may take.

use std::{fmt::Display, time::Duration};

use tokio::time::timeout;

use crate::http::problem::Problem;

/// How long a read may take.
const READ_TIME_MAX: Duration = Duration::from_secs(5);
/// Most rows on a page, and how many are on one unless asked otherwise.
const ROWS_MAX: usize = 1_000;
const ROWS_USUAL: usize = 100;

/// Reads how many rows a page is to have.
///
/// # Errors
/// `invalid` for what is no number of rows.
pub(crate) fn limit(text: Option<&str>) -> Result<usize, Problem> {
    let limit = text
        .filter(|text| !text.is_empty())
        .map_or(Ok(ROWS_USUAL), str::parse)
        .unwrap_or_default();
    if !(1..=ROWS_MAX).contains(&limit) {
        return Err(Problem::Invalid(format!(
            "limit: must be a whole number from 1 to {ROWS_MAX}"
        )));
    }
    Ok(limit)
}

/// Reads behind which number a page begins; 0 unless said.
///
/// # Errors
/// `invalid` for what is no such number.
pub(crate) fn after(text: Option<&str>) -> Result<i64, Problem> {
    let Some(text) = text.filter(|text| !text.is_empty()) else {
        return Ok(0);
    };
    let after = text.parse().ok().filter(|after| *after >= 0);
    after.ok_or_else(|| {
        Problem::Invalid("after: must be the next_after of the page before".to_owned())
    })
}

/// The rows to read for a page: one more than it shows tells whether there is another.
pub(crate) fn read(limit: usize) -> i64 {
    i64::try_from(limit + 1).unwrap_or(i64::MAX)
}

/// Cuts what was read to the page, and returns what to ask for as `after` to get the next; none on the last.
pub(crate) fn cut<Row, Number>(
    rows: &mut Vec<Row>,
    limit: usize,
    number: impl FnOnce(&Row) -> Number,
) -> Option<Number> {
    let more = rows.len() > limit;
    rows.truncate(limit);
    rows.last().filter(|_| more).map(number)
}

/// Bounds the time of a read. `what` is for the log.
///
/// # Errors
/// `unavailable` without an answer of the database.
pub(crate) async fn in_time<T>(
    what: &'static str,
    read: impl Future<Output = Result<T, impl Display>>,
) -> Result<T, Problem> {
    let away = || Problem::Unavailable("the database");
    done_in_time(READ_TIME_MAX, what, away, read).await
}

/// Bounds the time of a change, whose outcome is unknown without an answer. `what` is for the log.
///
/// # Errors
/// What `unknown` says, without an answer of the database.
pub(crate) async fn done_in_time<T>(
    limit: Duration,
    what: &'static str,
    unknown: impl FnOnce() -> Problem,
    asked: impl Future<Output = Result<T, impl Display>>,
) -> Result<T, Problem> {
    let detail = match timeout(limit, asked).await {
        Ok(Ok(done)) => return Ok(done),
        Ok(Err(error)) => error.to_string(),
        Err(_) => format!("no answer within {limit:?}"),
    };
    tracing::warn!(what, detail, "the database did not answer");
    Err(unknown())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_bounded_and_its_number_whole() {
        assert_eq!(limit(None).ok(), Some(ROWS_USUAL));
        assert_eq!(limit(Some("")).ok(), Some(ROWS_USUAL));
        assert_eq!(limit(Some("1000")).ok(), Some(ROWS_MAX));
        for wrong in ["0", "1001", "-1", "many", "1.5"] {
            assert!(limit(Some(wrong)).is_err(), "{wrong}");
        }
        assert_eq!(after(None).ok(), Some(0));
        assert_eq!(after(Some("7")).ok(), Some(7));
        for wrong in ["-1", "x", "99999999999999999999"] {
            assert!(after(Some(wrong)).is_err(), "{wrong}");
        }
    }

    #[test]
    fn only_a_page_with_more_behind_it_names_the_next() {
        let mut rows = vec![4, 5, 6];
        assert_eq!(cut(&mut rows, 3, |row| *row), None);
        assert_eq!(cut(&mut rows, 2, |row| *row), Some(5));
        assert_eq!(rows, [4, 5]);
        assert_eq!(cut(&mut Vec::<i32>::new(), 2, |row| *row), None);
    }
}
