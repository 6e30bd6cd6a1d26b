//! A JSON body taken apart by hand: each value with its place in the body, and everything that is
//! wrong with it at once, in the words of JSON.
//!
//! serde stops at the first fault and speaks of Rust's types. So it reads the bodies that are right,
//! and this explains the others.

use std::{fmt, ops::RangeInclusive};

use chrono::{DateTime, Datelike, SubsecRound, Utc};
use hotrow_shared::order::PRICE_MAX;
use serde::{Deserialize, Deserializer, Serialize, de};
use utoipa::ToSchema;

/// Faults that are listed. A body of 16 KiB has room for thousands, and nobody fixes more at once.
const FAULTS_MAX: usize = 100;
/// From here on (2^63) a number is out of all bounds, however it is written.
const WHOLE_FROM: f64 = 9_223_372_036_854_775_808.0;

/// The years of which a time may be.
const YEARS: RangeInclusive<i32> = 1970..=9999;

/// A JSON value. Unlike `serde_json::Value` it keeps a name that is given twice, which is a fault.
#[derive(Debug)]
pub(crate) enum Value {
    Null,
    Bool(bool),
    /// A whole number, written as one.
    Integer(i128),
    /// A number with a point or an exponent.
    Decimal,
    String(String),
    Array(Vec<Value>),
    Object(Vec<(String, Value)>),
}

impl Value {
    /// What the value is, as the end of a sentence.
    fn kind(&self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Bool(_) => "a boolean",
            Self::Integer(_) | Self::Decimal => "a number",
            Self::String(text) if holds_json(text) => {
                "a JSON string that holds JSON: send the object itself"
            }
            Self::String(_) => "a string",
            Self::Array(_) => "an array",
            Self::Object(_) => "an object",
        }
    }
}

/// Returns whether somebody turned an object into text twice.
fn holds_json(text: &str) -> bool {
    text.trim_start().starts_with(['{', '['])
        && serde_json::from_str::<de::IgnoredAny>(text).is_ok()
}

/// Where a value stands in a body: displayed as `items[0].sku`.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Place<'a> {
    /// The whole body.
    Body,
    /// A member of an object.
    Member(&'a Place<'a>, &'a str),
    /// An element of an array.
    Element(&'a Place<'a>, usize),
}

impl Place<'_> {
    /// The JSON pointer (RFC 6901), such as `/items/0/sku`; empty for the whole body.
    fn pointer(&self) -> String {
        match self {
            Self::Body => String::new(),
            Self::Member(parent, name) => {
                let name = name.replace('~', "~0").replace('/', "~1");
                format!("{}/{name}", parent.pointer())
            }
            Self::Element(parent, at) => format!("{}/{at}", parent.pointer()),
        }
    }
}

impl fmt::Display for Place<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Body => f.write_str("the body"),
            Self::Member(Self::Body, name) => f.write_str(name),
            Self::Member(parent, name) => write!(f, "{parent}.{name}"),
            Self::Element(parent, at) => write!(f, "{parent}[{at}]"),
        }
    }
}

/// One thing that is wrong.
#[derive(Debug, Clone, Serialize, ToSchema)]
struct Fault {
    /// Where in the body, as a JSON pointer (RFC 6901); empty for the whole body.
    pointer: String,
    /// What is wrong there, for people.
    detail: String,
    #[serde(skip)]
    sentence: String,
}

/// Everything that is wrong with a body: displayed as a sentence about the first, serialised as the
/// member `errors` of a refusal.
#[derive(Debug, Clone, Default, Serialize, ToSchema)]
#[serde(transparent)]
#[schema(description = "Everything that is wrong with a body: at most 100 faults.")]
pub(crate) struct Faults(Vec<Fault>);

impl Faults {
    /// A single fault. `detail` goes on from the place, as in `must be 1 to 1000`.
    #[must_use]
    pub(crate) fn one(place: &Place<'_>, detail: impl fmt::Display) -> Self {
        let mut faults = Self::default();
        faults.add(place, detail);
        faults
    }

    /// Notes one more fault, if there is room.
    pub(crate) fn add(&mut self, place: &Place<'_>, detail: impl fmt::Display) {
        if self.0.len() == FAULTS_MAX {
            return;
        }
        let detail = detail.to_string();
        let sentence = match place {
            Place::Body => format!("{place} {detail}"),
            _ => format!("{place}: {detail}"),
        };
        self.0.push(Fault {
            pointer: place.pointer(),
            detail,
            sentence,
        });
    }

    /// Returns whether nothing is wrong.
    #[must_use]
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The members of an object that has to have all of these and no others, in the order of `names`.
    /// A missing one is noted and `None`.
    pub(crate) fn members<'v, const N: usize>(
        &mut self,
        place: &Place<'_>,
        value: &'v Value,
        names: [&str; N],
    ) -> Option<[Option<&'v Value>; N]> {
        let found = self.optional_members(place, value, names)?;
        for (name, found) in names.iter().zip(&found) {
            if found.is_none() {
                self.add(&Place::Member(place, name), "is missing");
            }
        }
        Some(found)
    }

    /// The members of an object that may have these and no others, in the order of `names`.
    pub(crate) fn optional_members<'v, const N: usize>(
        &mut self,
        place: &Place<'_>,
        value: &'v Value,
        names: [&str; N],
    ) -> Option<[Option<&'v Value>; N]> {
        let Value::Object(members) = value else {
            self.add(
                place,
                format_args!("must be an object, and is {}", value.kind()),
            );
            return None;
        };
        let mut found = [const { None }; N];
        for (name, value) in members {
            let here = Place::Member(place, name);
            match names.iter().position(|known| known == name) {
                None => self.add(
                    &here,
                    format_args!("is not known: the members are {}", names.join(", ")),
                ),
                Some(at) if found[at].is_some() => self.add(&here, "is given twice"),
                Some(at) => found[at] = Some(value),
            }
        }
        Some(found)
    }

    /// The elements of an array.
    pub(crate) fn elements<'v>(
        &mut self,
        place: &Place<'_>,
        value: &'v Value,
    ) -> Option<&'v [Value]> {
        if let Value::Array(elements) = value {
            return Some(elements);
        }
        self.add(
            place,
            format_args!("must be an array, and is {}", value.kind()),
        );
        None
    }

    /// The text of a string.
    pub(crate) fn text<'v>(&mut self, place: &Place<'_>, value: &'v Value) -> Option<&'v str> {
        if let Value::String(text) = value {
            return Some(text);
        }
        self.add(
            place,
            format_args!("must be a string, and is {}", value.kind()),
        );
        None
    }

    /// The text of a string that has to fit. `detail` says how, and is noted if it does not.
    pub(crate) fn fitting_text<'v>(
        &mut self,
        place: &Place<'_>,
        value: &'v Value,
        fits: impl FnOnce(&str) -> bool,
        detail: impl fmt::Display,
    ) -> Option<&'v str> {
        let text = self.text(place, value)?;
        if !fits(text) {
            self.add(place, detail);
        }
        Some(text)
    }

    /// A currency, by its code of ISO 4217.
    pub(crate) fn currency<'v>(&mut self, place: &Place<'_>, value: &'v Value) -> Option<&'v str> {
        let fits = |text: &str| text.len() == 3 && text.bytes().all(|b| b.is_ascii_uppercase());
        let detail = "must be three capital letters of ISO 4217, such as EUR";
        self.fitting_text(place, value, fits, detail)
    }

    /// The price of one piece.
    pub(crate) fn price(&mut self, place: &Place<'_>, value: &Value) -> Option<i64> {
        if let Value::Decimal = value {
            let detail = "must be a whole number of the currency's smallest unit: 4990 for 49.90";
            self.add(place, detail);
            return None;
        }
        self.integer(place, value, 0..=PRICE_MAX)
    }

    /// A time, as RFC 3339 writes it. What is finer than a millisecond is cut off.
    pub(crate) fn time(&mut self, place: &Place<'_>, value: &Value) -> Option<DateTime<Utc>> {
        let text = self.text(place, value)?;
        let time = DateTime::parse_from_rfc3339(text).ok();
        let time = time.filter(|time| YEARS.contains(&time.to_utc().year()));
        if time.is_none() {
            let detail = "must be a time of RFC 3339 with its offset, such as 2026-12-01T10:00:00Z";
            self.add(place, detail);
        }
        Some(time?.to_utc().trunc_subsecs(3))
    }

    /// True or false.
    pub(crate) fn boolean(&mut self, place: &Place<'_>, value: &Value) -> Option<bool> {
        if let Value::Bool(value) = value {
            return Some(*value);
        }
        self.add(
            place,
            format_args!("must be true or false, and is {}", value.kind()),
        );
        None
    }

    /// A whole number within bounds.
    pub(crate) fn integer(
        &mut self,
        place: &Place<'_>,
        value: &Value,
        bounds: RangeInclusive<i64>,
    ) -> Option<i64> {
        let (least, most) = (*bounds.start(), *bounds.end());
        match value {
            Value::Integer(number) => match i64::try_from(*number) {
                Ok(number) if bounds.contains(&number) => return Some(number),
                _ => self.add(place, format_args!("must be {least} to {most}")),
            },
            Value::Decimal => self.add(
                place,
                "must be a whole number, written without a point or an exponent",
            ),
            Value::String(text) if text.trim().parse::<f64>().is_ok() => self.add(
                place,
                "must be a number, and is a string: leave out the quotes",
            ),
            _ => self.add(
                place,
                format_args!("must be a whole number, and is {}", value.kind()),
            ),
        }
        None
    }
}

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.as_slice() {
            [] => f.write_str("the body does not have the shape that is asked for"),
            [only] => f.write_str(&only.sentence),
            [first, more @ ..] => {
                write!(
                    f,
                    "{} (and {} more: see errors)",
                    first.sentence,
                    more.len()
                )
            }
        }
    }
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ValueVisitor)
    }
}

struct ValueVisitor;

impl<'de> de::Visitor<'de> for ValueVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Value, E> {
        Ok(Value::Integer(number.into()))
    }

    fn visit_u64<E>(self, number: u64) -> Result<Value, E> {
        Ok(Value::Integer(number.into()))
    }

    fn visit_f64<E>(self, number: f64) -> Result<Value, E> {
        // What has too many digits for 64 bits comes as this, too.
        #[expect(
            clippy::cast_possible_truncation,
            reason = "a value beyond all bounds stays one"
        )]
        let whole = (number.abs() >= WHOLE_FROM).then_some(number as i128);
        Ok(whole.map_or(Value::Decimal, Value::Integer))
    }

    fn visit_str<E>(self, text: &str) -> Result<Value, E> {
        Ok(Value::String(text.to_owned()))
    }

    fn visit_seq<A: de::SeqAccess<'de>>(self, mut array: A) -> Result<Value, A::Error> {
        let mut elements = Vec::new();
        while let Some(element) = array.next_element()? {
            elements.push(element);
        }
        Ok(Value::Array(elements))
    }

    fn visit_map<A: de::MapAccess<'de>>(self, mut object: A) -> Result<Value, A::Error> {
        let mut members = Vec::new();
        while let Some(member) = object.next_entry()? {
            members.push(member);
        }
        Ok(Value::Object(members))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults(
        body: &str,
        examine: impl FnOnce(&Value, &mut Faults),
    ) -> (String, serde_json::Value) {
        let body = serde_json::from_str(body).expect("JSON");
        let mut faults = Faults::default();
        examine(&body, &mut faults);
        let errors = serde_json::to_value(&faults).expect("errors");
        (faults.to_string(), errors)
    }

    #[test]
    fn a_pointer_escapes_names_as_rfc_6901_says() {
        let place = Place::Member(&Place::Body, "a/b~c");
        let place = Place::Element(&place, 3);
        let place = Place::Member(&place, "");
        assert_eq!(place.pointer(), "/a~1b~0c/3/");
        assert_eq!(Place::Body.pointer(), "");
    }

    #[test]
    fn the_members_of_an_object_are_all_there_once_and_no_others() {
        let (detail, errors) = faults(r#"{"b":1,"x":{},"b":2}"#, |body, faults| {
            let members = faults.members(&Place::Body, body, ["a", "b"]);
            assert!(matches!(members, Some([None, Some(Value::Integer(1))])));
        });
        assert_eq!(
            detail,
            "x: is not known: the members are a, b (and 2 more: see errors)"
        );
        let pointers = ["/x", "/b", "/a"];
        for (at, pointer) in pointers.into_iter().enumerate() {
            assert_eq!(errors[at]["pointer"], pointer, "{errors}");
        }
        assert_eq!(errors[1]["detail"], "is given twice");
        assert_eq!(errors[2]["detail"], "is missing");
    }

    #[test]
    fn a_value_of_another_kind_is_called_what_json_calls_it() {
        let number = |value: &str| {
            faults(value, |value, faults| {
                faults.integer(&Place::Member(&Place::Body, "n"), value, 1..=9);
            })
            .0
        };
        assert_eq!(number("0"), "n: must be 1 to 9");
        assert_eq!(number("18446744073709551615"), "n: must be 1 to 9");
        assert_eq!(number(&"9".repeat(30)), "n: must be 1 to 9");
        let point = "n: must be a whole number, written without a point or an exponent";
        assert_eq!(number("1.5"), point);
        assert_eq!(number("1e0"), point);
        assert_eq!(
            number("\"1\""),
            "n: must be a number, and is a string: leave out the quotes"
        );
        assert_eq!(number("null"), "n: must be a whole number, and is null");
        assert_eq!(
            number("true"),
            "n: must be a whole number, and is a boolean"
        );
        assert_eq!(number("{}"), "n: must be a whole number, and is an object");
        let (detail, _) = faults(r#""{\"a\":1}""#, |body, faults| {
            assert!(faults.members(&Place::Body, body, []).is_none());
        });
        assert!(
            detail.ends_with("a JSON string that holds JSON: send the object itself"),
            "{detail}"
        );
    }

    #[test]
    fn no_more_faults_are_listed_than_anybody_reads() {
        let members: Vec<_> = (0..1_000).map(|n| format!("\"{n}\":0")).collect();
        let (_, errors) = faults(&format!("{{{}}}", members.join(",")), |body, faults| {
            faults.members(&Place::Body, body, []);
        });
        assert_eq!(errors.as_array().map(Vec::len), Some(FAULTS_MAX));
    }
}
