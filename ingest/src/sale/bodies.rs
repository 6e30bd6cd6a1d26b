//! The body of the switch for all purchases.

use chrono::{DateTime, Utc};
use utoipa::ToSchema;

use crate::http::json::{Faults, Place, Value};

/// Where the end of a stop is.
pub(super) const UNTIL: Place<'_> = Place::Member(&Place::Body, "until");
/// The longest note, in characters.
const NOTE_LENGTH_MAX: usize = 500;

/// What happens to holds while all purchases are stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ToSchema)]
#[schema(rename_all = "snake_case")]
pub(super) enum Holds {
    /// They end as always.
    Run,
    /// None ends before purchases go on.
    Keep,
}

impl Holds {
    /// The word in the database and in JSON.
    #[must_use]
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Run => "run",
            Self::Keep => "keep",
        }
    }

    /// Reads the word.
    #[must_use]
    fn of(word: &str) -> Option<Self> {
        [Self::Run, Self::Keep]
            .into_iter()
            .find(|holds| holds.as_str() == word)
    }
}

/// How the switch for all purchases is to be.
#[derive(ToSchema)]
#[schema(as = SwitchBody)]
#[expect(
    dead_code,
    reason = "it is described and never built: it is read by hand"
)]
pub(super) struct SwitchRequest {
    /// Whether all purchases are stopped.
    paused: bool,
    /// `keep` suspends the end of holds while purchases are stopped; only with `paused`.
    #[schema(inline, default = "run")]
    holds: Option<Holds>,
    /// When purchases go on by themselves; only with `paused`, and later than now.
    until: Option<DateTime<Utc>>,
    /// For whoever looks, without control characters.
    #[schema(
        min_length = 1,
        max_length = 500,
        pattern = r"^[^\x00-\x1f\x7f-\x9f]*$"
    )]
    note: Option<String>,
}

/// How the switch is to be.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct SwitchBody {
    pub(super) is_paused: bool,
    pub(super) holds: Holds,
    pub(super) until: Option<DateTime<Utc>>,
    pub(super) note: Option<String>,
}

impl SwitchBody {
    /// Reads the switch, and notes everything that it cannot be. What is absent is as in a sale that runs.
    pub(super) fn examine(body: &Value, faults: &mut Faults) -> Option<Self> {
        let names = ["paused", "holds", "until", "note"];
        let places = names.map(|name| Place::Member(&Place::Body, name));
        let [paused, holds, until, note] = faults.optional_members(&Place::Body, body, names)?;
        if paused.is_none() {
            faults.add(&places[0], "is missing");
        }
        let is_paused = faults.boolean(&places[0], paused?);
        let holds = holds.map_or(Some(Holds::Run), |value| {
            let detail = "must be run or keep";
            let fits = |word: &str| Holds::of(word).is_some();
            Holds::of(faults.fitting_text(&places[1], value, fits, detail)?)
        });
        let given = |value: Option<&Value>| !matches!(value, None | Some(Value::Null));
        let until = match until {
            Some(value) if given(until) => faults.time(&UNTIL, value).map(Some),
            _ => Some(None),
        };
        let note = match note {
            Some(value) if given(note) => examine_note(&places[3], value, faults).map(Some),
            _ => Some(None),
        };
        let (is_paused, holds, until) = (is_paused?, holds?, until?);
        if !is_paused && holds == Holds::Keep {
            faults.add(&places[1], "must be run where paused is false: holds are kept only while purchases are stopped");
        }
        if !is_paused && until.is_some() {
            faults.add(&UNTIL, "must not be given where paused is false");
        }
        Some(Self {
            is_paused,
            holds,
            until,
            note: note?,
        })
    }
}

fn examine_note(place: &Place<'_>, value: &Value, faults: &mut Faults) -> Option<String> {
    let fits = |text: &str| {
        (1..=NOTE_LENGTH_MAX).contains(&text.chars().count()) && !text.chars().any(char::is_control)
    };
    let detail =
        format_args!("must be 1 to {NOTE_LENGTH_MAX} characters without control characters");
    let note = faults.fitting_text(place, value, fits, detail)?;
    Some(note.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::body;

    fn read(body: &str) -> Result<SwitchBody, String> {
        body::parse_by_hand(body.as_bytes(), SwitchBody::examine).map_err(|it| it.to_string())
    }

    #[test]
    fn a_switch_needs_to_say_only_whether_purchases_are_stopped() {
        let running = SwitchBody {
            is_paused: false,
            holds: Holds::Run,
            until: None,
            note: None,
        };
        assert_eq!(read(r#"{"paused":false}"#).as_ref(), Ok(&running));
        let nulls = r#"{"paused":false,"holds":"run","until":null,"note":null}"#;
        assert_eq!(read(nulls).as_ref(), Ok(&running));
        let stopped = read(
            r#"{"paused":true,"holds":"keep","until":"2026-12-01T11:00:00+01:00","note":"the provider is down"}"#,
        )
        .expect("a switch");
        assert_eq!((stopped.is_paused, stopped.holds), (true, Holds::Keep));
        let until = stopped.until.expect("an end").to_rfc3339();
        assert_eq!(until, "2026-12-01T10:00:00+00:00");
    }

    #[test]
    fn what_a_switch_cannot_be_is_told() {
        for (body, detail) in [
            ("{}", "paused: is missing"),
            (r#"{"paused":1}"#, "paused: must be true or false"),
            (
                r#"{"paused":true,"holds":"wait"}"#,
                "holds: must be run or keep",
            ),
            (
                r#"{"paused":true,"until":"tomorrow"}"#,
                "until: must be a time of RFC 3339",
            ),
            (
                r#"{"paused":true,"note":""}"#,
                "note: must be 1 to 500 characters",
            ),
            (
                r#"{"paused":false,"holds":"keep"}"#,
                "holds: must be run where paused is false",
            ),
            (
                r#"{"paused":false,"until":"2026-12-01T10:00:00Z"}"#,
                "until: must not be given",
            ),
            (r#"{"paused":true,"till":null}"#, "till: is not known"),
        ] {
            let told = read(body).expect_err("must be refused");
            assert!(told.contains(detail), "{body}: {told}");
        }
    }
}
