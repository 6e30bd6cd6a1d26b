//! Why a body is not JSON, in words that its sender can act on.

use serde::de::IgnoredAny;

use super::{
    json::{Faults, Place},
    problem::Problem,
};

/// What bodies begin with that are not JSON in UTF-8, and what their senders should do.
const FOREIGN_BEGINNINGS: [(&[u8], &str); 6] = [
    (
        b"\xef\xbb\xbf",
        "begins with a byte order mark: send it without one",
    ),
    (b"\xff\xfe", "is UTF-16: send UTF-8"),
    (b"\xfe\xff", "is UTF-16: send UTF-8"),
    (b"\x1f\x8b", "is compressed with gzip: send it uncompressed"),
    (b"<", "is HTML or XML: send JSON"),
    (b"%7B", "is percent-encoded: send the JSON itself"),
];

/// What `serde_json` says, and what senders are told instead. The first that fits counts.
const IN_OTHER_WORDS: [(&str, &str); 10] = [
    (
        "trailing comma",
        "a comma stands before a closing bracket: leave it out",
    ),
    (
        "trailing characters",
        "something follows its end: send one object and nothing else",
    ),
    (
        "key must be a string",
        "a name needs double quotes around it",
    ),
    ("expected `:`", "a colon is missing behind a name"),
    ("expected `,`", "a comma or a closing bracket is missing"),
    (
        "control character",
        "a string holds a control character: write a line break as \\n",
    ),
    ("invalid escape", "a string holds an unknown escape"),
    (
        "number out of range",
        "a number is larger than any number can be",
    ),
    (
        "invalid number",
        "a number is not written as JSON writes it",
    ),
    (
        "hex escape",
        "a string holds an escape that is no character",
    ),
];

/// How much of a body an answer repeats, in characters.
const WORD_SHOWN_MAX: usize = 20;

/// Says in the words of JSON why a body cannot be read.
pub(super) fn explain(bytes: &[u8], mut error: serde_json::Error) -> Problem {
    let malformed = |detail: &str| Problem::Malformed(format!("the body {detail}"));
    if bytes.trim_ascii().is_empty() {
        return malformed("is empty: send a JSON object");
    }
    let foreign = FOREIGN_BEGINNINGS
        .iter()
        .find(|(beginning, _)| bytes.starts_with(beginning));
    if let Some((_, detail)) = foreign {
        return malformed(detail);
    }
    let text = match std::str::from_utf8(bytes) {
        Ok(text) => text,
        Err(error) => {
            let at = error.valid_up_to() + 1;
            return malformed(&format!(
                "is not UTF-8: byte {at} is no part of a character"
            ));
        }
    };
    let mut said = error.to_string();
    if said.starts_with("recursion limit") {
        // Where no values are built there is no limit, so whether it is JSON at all comes first.
        let Err(other) = serde_json::from_str::<IgnoredAny>(text) else {
            return Problem::InvalidBody(Faults::one(&Place::Body, "is nested too deeply"));
        };
        (said, error) = (other.to_string(), other);
    }
    if error.is_eof() {
        return malformed("is cut off: it ends before its JSON does");
    }
    let (at, word) = offender(text, &error);
    let known = IN_OTHER_WORDS
        .iter()
        .find(|(theirs, _)| said.contains(theirs));
    let what = match known {
        _ if word.starts_with('\'') => "strings need double quotes, not single ones".to_owned(),
        Some((_, ours)) => (*ours).to_owned(),
        None => format!("{word} is not a JSON value"),
    };
    malformed(&format!("is not JSON: {what} (at character {at})"))
}

/// Where reading stopped, in characters from 1, and the word that stands there.
fn offender<'t>(text: &'t str, error: &serde_json::Error) -> (usize, &'t str) {
    let lines = text.split_inclusive('\n');
    let before: usize = lines
        .take(error.line().saturating_sub(1))
        .map(str::len)
        .sum();
    // Columns count bytes from 1. A line break itself is in column 0 of the line behind it.
    let stopped = text.floor_char_boundary((before + error.column()).saturating_sub(1));
    let (read, rest) = text.split_at(stopped);
    let of_word = |c: char| c.is_alphanumeric() || c == '_';
    let (start, length) = if rest.starts_with(of_word) {
        let start = read.trim_end_matches(of_word).len();
        let word = text[start..].chars().take_while(|c| of_word(*c));
        (start, word.take(WORD_SHOWN_MAX).map(char::len_utf8).sum())
    } else {
        (stopped, rest.chars().next().map_or(0, char::len_utf8))
    };
    (
        text[..start].chars().count() + 1,
        &text[start..start + length],
    )
}
