//! What a browser leaves behind: lines in its console, and requests.

use std::collections::BTreeSet;

use serde_json::Value;
use url::{Host, Url};

/// What was heard of a browser since it was asked last.
#[derive(Debug, Default)]
pub struct Trail {
    /// Errors in the console, as the browser words them.
    pub errors: Vec<String>,
    /// Requests to other machines, of which none has left this one.
    pub foreign: BTreeSet<String>,
}

impl Trail {
    /// Reads the logs `browser` and `performance` of a driver.
    pub(super) fn read(console: &Value, performance: &Value) -> Self {
        let errors = entries(console)
            .filter(|entry| entry["level"] == "SEVERE")
            .map(|entry| entry["message"].as_str().unwrap_or_default().to_owned());
        let foreign = entries(performance)
            .filter_map(requested)
            .filter(is_foreign);
        Self {
            errors: errors.collect(),
            foreign: foreign.map(String::from).collect(),
        }
    }
}

fn entries(log: &Value) -> impl Iterator<Item = &Value> {
    log.as_array().into_iter().flatten()
}

/// The address that an entry about a request names.
fn requested(entry: &Value) -> Option<Url> {
    let event: Value = serde_json::from_str(entry["message"].as_str()?).ok()?;
    let event = &event["message"];
    let url = match event["method"].as_str()? {
        "Network.requestWillBeSent" => &event["params"]["request"]["url"],
        "Network.webSocketCreated" => &event["params"]["url"],
        _ => return None,
    };
    Url::parse(url.as_str()?).ok()
}

fn is_foreign(url: &Url) -> bool {
    // What has no host, such as `data:`, is in the page already.
    match url.host() {
        None => false,
        Some(Host::Ipv4(address)) => !address.is_loopback(),
        Some(Host::Ipv6(address)) => !address.is_loopback(),
        Some(Host::Domain(name)) => name != "localhost" && url.scheme().starts_with(['h', 'w']),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn requests_to_other_machines_and_errors_are_told_from_the_rest() {
        let of = |url: &str| {
            let message = json!({ "message": { "method": "Network.requestWillBeSent",
                "params": { "request": { "url": url } } } });
            json!({ "level": "INFO", "message": message.to_string() })
        };
        let performance = json!([
            of("http://127.0.0.1:8080/v1/orders"),
            of("http://localhost:3000/"),
            of("data:,"),
            of("blob:http://localhost:3000/1"),
            of("https://fonts.example/a.woff2"),
            of("http://10.0.0.1/"),
            { "level": "INFO", "message": "nothing that could be read" },
        ]);
        let console = json!([
            { "level": "SEVERE", "message": "it broke" },
            { "level": "WARNING", "message": "it may break" },
        ]);
        let trail = Trail::read(&console, &performance);
        assert_eq!(trail.errors, ["it broke"]);
        let foreign = ["http://10.0.0.1/", "https://fonts.example/a.woff2"];
        assert!(trail.foreign.iter().eq(foreign), "{trail:?}");
    }
}
