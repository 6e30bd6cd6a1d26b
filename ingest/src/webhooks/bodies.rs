//! The bodies of requests about webhooks.

use axum::http::Uri;
use chrono::{DateTime, Utc};
use hotrow_shared::{
    event::EventType,
    outcome::{timestamp, timestamp_if_any},
    webhook::Scheme,
};
use serde::Serialize;
use url::Url;

use crate::http::json::{Faults, Place, Value};

/// The longest URL, in characters.
const URL_LENGTH_MAX: usize = 2_048;
/// The longest description, in characters.
const DESCRIPTION_LENGTH_MAX: usize = 500;

/// Where a URL is named.
pub(super) const URL: Place<'_> = Place::Member(&Place::Body, "url");
const TYPES: Place<'_> = Place::Member(&Place::Body, "types");
const DESCRIPTION: Place<'_> = Place::Member(&Place::Body, "description");
const ENABLED: Place<'_> = Place::Member(&Place::Body, "enabled");
const SINCE: Place<'_> = Place::Member(&Place::Body, "since");
const UNTIL: Place<'_> = Place::Member(&Place::Body, "until");
const ONLY_FAILED: Place<'_> = Place::Member(&Place::Body, "only_failed");

/// A URL that can be that of an endpoint, if its host's addresses can be reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Target {
    pub(super) url: String,
    pub(super) scheme: Scheme,
    pub(super) host: String,
    pub(super) port: u16,
}

/// An endpoint to be.
#[derive(Debug)]
pub(super) struct NewEndpoint {
    pub(super) target: Target,
    pub(super) types: Vec<String>,
    pub(super) description: Option<String>,
}

/// What is to become of a description.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Description {
    Keep,
    Remove,
    Set(String),
}

/// What of an endpoint is to change.
#[derive(Debug)]
pub(super) struct Patch {
    pub(super) target: Option<Target>,
    pub(super) types: Option<Vec<String>>,
    pub(super) description: Description,
    pub(super) is_enabled: Option<bool>,
}

/// Which deliveries are sent again.
#[derive(Debug, Serialize)]
pub(super) struct Replay {
    #[serde(serialize_with = "timestamp")]
    pub(super) since: DateTime<Utc>,
    #[serde(serialize_with = "timestamp_if_any")]
    pub(super) until: Option<DateTime<Utc>>,
    #[serde(rename = "only_failed")]
    pub(super) is_of_failed_only: bool,
}

impl NewEndpoint {
    /// Reads an endpoint, and notes everything that it cannot be.
    pub(super) fn examine(body: &Value, faults: &mut Faults) -> Option<Self> {
        let names = ["url", "types", "description"];
        let [url, types, description] = faults.optional_members(&Place::Body, body, names)?;
        if url.is_none() {
            faults.add(&URL, "is missing");
        }
        let target = url.and_then(|value| examine_url(value, faults));
        let types = types.map_or_else(|| Some(usual_types()), |value| examine_types(value, faults));
        let description = given(description).map(|value| examine_description(value, faults));
        Some(Self {
            target: target?,
            types: types?,
            description: description.map_or(Some(None), |text| text.map(Some))?,
        })
    }
}

impl Patch {
    /// Reads a merge patch (RFC 7396), and notes everything that cannot be changed so.
    pub(super) fn examine(body: &Value, faults: &mut Faults) -> Option<Self> {
        let names = ["url", "types", "description", "enabled"];
        let [url, types, description, enabled] =
            faults.optional_members(&Place::Body, body, names)?;
        let target = url.map(|value| examine_url(value, faults));
        let types = types.map(|value| examine_types(value, faults));
        let description = match description {
            None => Some(Description::Keep),
            Some(Value::Null) => Some(Description::Remove),
            Some(value) => examine_description(value, faults).map(Description::Set),
        };
        let is_enabled = enabled.map(|value| faults.boolean(&ENABLED, value));
        Some(Self {
            target: target.map_or(Some(None), |target| target.map(Some))?,
            types: types.map_or(Some(None), |types| types.map(Some))?,
            description: description?,
            is_enabled: is_enabled.map_or(Some(None), |value| value.map(Some))?,
        })
    }
}

impl Replay {
    /// Reads a span of time, and notes everything that it cannot be.
    pub(super) fn examine(body: &Value, faults: &mut Faults) -> Option<Self> {
        let names = ["since", "until", "only_failed"];
        let [since, until, only_failed] = faults.optional_members(&Place::Body, body, names)?;
        if since.is_none() {
            faults.add(&SINCE, "is missing");
        }
        let since = since.and_then(|value| faults.time(&SINCE, value));
        let until = given(until).map(|value| faults.time(&UNTIL, value));
        let only_failed =
            given(only_failed).map_or(Some(false), |value| faults.boolean(&ONLY_FAILED, value));
        let (since, until) = (since?, until.map_or(Some(None), |until| until.map(Some))?);
        if until.is_some_and(|until| until <= since) {
            faults.add(&UNTIL, "must be after since");
        }
        Some(Self {
            since,
            until,
            is_of_failed_only: only_failed?,
        })
    }
}

/// A member that may be left out may be null, too.
fn given(value: Option<&Value>) -> Option<&Value> {
    value.filter(|value| !matches!(value, Value::Null))
}

/// Everything but rejections, of which a sale has many times as many as of all others, and what concerns other
/// endpoints, whose URLs may be nobody else's business.
fn usual_types() -> Vec<String> {
    let unusual = [EventType::OrderRejected, EventType::WebhookDisabled];
    let usual = EventType::ALL
        .into_iter()
        .filter(|it| !unusual.contains(it));
    usual.map(|it| it.as_str().to_owned()).collect()
}

/// Reads the types of events. None of them means the usual ones.
fn examine_types(value: &Value, faults: &mut Faults) -> Option<Vec<String>> {
    if matches!(value, Value::Null) {
        return Some(usual_types());
    }
    let elements = faults.elements(&TYPES, value)?;
    let mut types = Vec::new();
    for (at, element) in elements.iter().enumerate() {
        let place = Place::Element(&TYPES, at);
        let known = EventType::ALL.map(EventType::as_str);
        let fits = |text: &str| known.contains(&text);
        let detail = format_args!("must be one of {}", known.join(", "));
        let r#type = faults.fitting_text(&place, element, fits, detail)?;
        if !types.iter().any(|known| known == r#type) {
            types.push(r#type.to_owned());
        }
    }
    Some(if types.is_empty() {
        usual_types()
    } else {
        types
    })
}

fn examine_description(value: &Value, faults: &mut Faults) -> Option<String> {
    let fits = |text: &str| {
        (1..=DESCRIPTION_LENGTH_MAX).contains(&text.chars().count())
            && !text.chars().any(char::is_control)
    };
    let detail =
        format_args!("must be 1 to {DESCRIPTION_LENGTH_MAX} characters without control characters");
    let text = faults.fitting_text(&DESCRIPTION, value, fits, detail)?;
    Some(text.to_owned())
}

fn examine_url(value: &Value, faults: &mut Faults) -> Option<Target> {
    let text = faults.text(&URL, value)?;
    match target(text) {
        Ok(target) => Some(target),
        Err(detail) => {
            faults.add(&URL, detail);
            None
        }
    }
}

fn target(text: &str) -> Result<Target, &'static str> {
    const FORM: &str =
        "must be a URL such as https://shop.example/hotrow, of at most 2048 characters";
    let url = Url::parse(text).map_err(|_| FORM)?;
    let scheme = match url.scheme() {
        "https" => Scheme::Https,
        "http" => Scheme::Http,
        _ => return Err("must begin with https://"),
    };
    if !url.username().is_empty() || url.password().is_some() {
        return Err("must not hold a user or a password: deliveries are signed");
    }
    if url.fragment().is_some() {
        return Err("must not hold a fragment: it would not be sent");
    }
    let (Some(host), Some(port)) = (url.host_str(), url.port_or_known_default()) else {
        return Err(FORM);
    };
    let host = host
        .trim_start_matches('[')
        .trim_end_matches(']')
        .to_owned();
    // What the client of deliveries cannot read would never be sent.
    let is_sent = url.as_str().parse::<Uri>().is_ok();
    if !is_sent || port == 0 || url.as_str().len() > URL_LENGTH_MAX {
        return Err(FORM);
    }
    Ok(Target {
        host,
        port,
        scheme,
        url: url.into(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::body::parse_by_hand;

    fn faults<T>(text: &str, examine: fn(&Value, &mut Faults) -> Option<T>) -> String {
        let body = serde_json::from_str(text).expect("JSON");
        let mut faults = Faults::default();
        examine(&body, &mut faults);
        assert!(parse_by_hand(text.as_bytes(), examine).is_err());
        serde_json::to_string(&faults).expect("errors")
    }

    #[test]
    fn a_url_is_https_or_http_without_a_user_and_a_fragment() {
        let read = |text: &str| target(text).map(|it| (it.url, it.host, it.port, it.scheme));
        let read_as = |text: &str, url: &str, host: &str, port, scheme| {
            let expected = (url.to_owned(), host.to_owned(), port, scheme);
            assert_eq!(read(text), Ok(expected), "{text}");
        };
        let (https, http) = (Scheme::Https, Scheme::Http);
        read_as(
            "https://a.example",
            "https://a.example/",
            "a.example",
            443,
            https,
        );
        read_as(
            "HTTP://A.example:8080/x?y=z",
            "http://a.example:8080/x?y=z",
            "a.example",
            8080,
            http,
        );
        // The many spellings of one address are one.
        for text in [
            "https://2130706433/",
            "https://0x7f.1/",
            "https://127.0.0.1/",
        ] {
            read_as(text, "https://127.0.0.1/", "127.0.0.1", 443, https);
        }
        read_as("https://[::1]/", "https://[::1]/", "::1", 443, https);
        for wrong in [
            "",
            "a.example",
            "/path",
            "ftp://a.example/",
            "https://",
            "https://u@a.example/",
            "https://u:p@a.example/",
            "https://a.example/#part",
            "https://a.example:0/",
            &format!("https://a.example/{}", "x".repeat(2_048)),
        ] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn an_endpoint_without_types_gets_all_but_rejections_and_what_concerns_others() {
        for types in ["", r#","types":[]"#, r#","types":null"#] {
            let text = format!(r#"{{"url":"https://a.example/"{types}}}"#);
            let endpoint = parse_by_hand(text.as_bytes(), NewEndpoint::examine).expect("fits");
            assert_eq!(endpoint.types.len(), EventType::ALL.len() - 2);
            for unusual in ["order.rejected", "webhook.disabled"] {
                assert!(!endpoint.types.contains(&unusual.to_owned()));
            }
            assert_eq!(endpoint.description, None);
        }
        let text = r#"{"url":"https://a.example/","types":["order.rejected","order.rejected"],"description":"x"}"#;
        let endpoint = parse_by_hand(text.as_bytes(), NewEndpoint::examine).expect("fits");
        assert_eq!(endpoint.types, ["order.rejected"]);
        assert_eq!(endpoint.description.as_deref(), Some("x"));
    }

    #[test]
    fn everything_that_is_wrong_with_an_endpoint_is_said_at_once() {
        let text = r#"{"url":"ftp://x","types":["order.paid"],"description":"","more":1}"#;
        let found = faults(text, NewEndpoint::examine);
        for part in [
            "/more",
            "/url",
            "https://",
            "/types/0",
            "order.confirmed",
            "/description",
        ] {
            assert!(found.contains(part), "{part}: {found}");
        }
        assert!(faults("{}", NewEndpoint::examine).contains("is missing"));
        assert!(faults(r#"{"url":1}"#, NewEndpoint::examine).contains("/url"));
    }

    #[test]
    fn a_patch_changes_what_it_names() {
        let patch = parse_by_hand(b"{}", Patch::examine).expect("fits");
        assert!(patch.target.is_none() && patch.types.is_none());
        assert!(patch.description == Description::Keep && patch.is_enabled.is_none());
        let text = r#"{"types":null,"description":null,"enabled":false}"#;
        let patch = parse_by_hand(text.as_bytes(), Patch::examine).expect("fits");
        assert!(patch.types.is_some());
        assert_eq!(
            (patch.description, patch.is_enabled),
            (Description::Remove, Some(false))
        );
        let found = faults(
            r#"{"url":null,"enabled":null,"secret":"x"}"#,
            Patch::examine,
        );
        for part in ["/url", "/enabled", "/secret"] {
            assert!(found.contains(part), "{part}: {found}");
        }
    }

    #[test]
    fn a_replay_needs_a_beginning() {
        let text = r#"{"since":"2026-12-01T10:00:00+01:00"}"#;
        let replay = parse_by_hand(text.as_bytes(), Replay::examine).expect("fits");
        assert_eq!(replay.since.to_rfc3339(), "2026-12-01T09:00:00+00:00");
        assert!(replay.until.is_none() && !replay.is_of_failed_only);
        assert!(faults("{}", Replay::examine).contains("/since"));
        let text = r#"{"since":"2026-12-01","until":"-262143-01-01T00:00:00Z","only_failed":"no"}"#;
        let found = faults(text, Replay::examine);
        for part in ["/since", "/until", "/only_failed"] {
            assert!(found.contains(part), "{part}: {found}");
        }
        let text = r#"{"since":"2026-12-01T10:00:00Z","until":"2026-12-01T10:00:00Z"}"#;
        assert!(faults(text, Replay::examine).contains("must be after since"));
    }
}
