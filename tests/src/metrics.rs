//! A process's metrics, read from its Prometheus endpoint.

use std::collections::BTreeMap;

use anyhow::{Context, ensure};

/// One scrape.
#[derive(Debug, Clone, Default)]
pub struct Metrics {
    samples: Vec<Sample>,
}

/// One line of a scrape.
#[derive(Debug, Clone, PartialEq)]
pub struct Sample {
    /// The name, of a histogram with its `_bucket`, `_sum` or `_count`.
    pub name: String,
    /// The labels by name.
    pub labels: BTreeMap<String, String>,
    /// The value.
    pub value: f64,
}

impl Metrics {
    /// Reads the metrics at `url`.
    ///
    /// # Errors
    /// When nobody answers there, or not with metrics.
    pub async fn scrape(url: &str) -> anyhow::Result<Self> {
        let answer = reqwest::get(url)
            .await
            .with_context(|| format!("scrape {url}"))?;
        ensure!(
            answer.status().is_success(),
            "{url} answered {}",
            answer.status()
        );
        Self::parse(&answer.text().await?)
    }

    /// Parses the Prometheus text format.
    ///
    /// # Errors
    /// When a line is not in that format.
    pub fn parse(text: &str) -> anyhow::Result<Self> {
        let samples = text
            .lines()
            .map(str::trim)
            .filter(|line| !line.is_empty() && !line.starts_with('#'))
            .map(|line| sample(line).with_context(|| format!("not a metric: {line}")))
            .collect::<anyhow::Result<_>>()?;
        Ok(Self { samples })
    }

    /// All samples of that name whose labels include `labels`.
    pub fn samples<'a>(
        &'a self,
        name: &'a str,
        labels: &'a [(&str, &str)],
    ) -> impl Iterator<Item = &'a Sample> {
        self.samples.iter().filter(move |sample| {
            sample.name == name
                && labels
                    .iter()
                    .all(|(label, value)| sample.labels.get(*label).is_some_and(|has| has == value))
        })
    }

    /// The sum over all samples of that name whose labels include `labels`; 0 when there are none.
    #[must_use]
    pub fn sum(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        self.samples(name, labels).map(|sample| sample.value).sum()
    }

    /// The sum of counters, as the whole number that it is.
    #[must_use]
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "counters are whole, not negative, and far below 2^53"
    )]
    pub fn count(&self, name: &str, labels: &[(&str, &str)]) -> u64 {
        self.sum(name, labels) as u64
    }

    /// The value of the one sample of that name whose labels include `labels`.
    #[must_use]
    pub fn value(&self, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
        let mut samples = self.samples(name, labels);
        samples
            .next()
            .filter(|_| samples.next().is_none())
            .map(|sample| sample.value)
    }

    /// Adds the samples of another process.
    #[must_use]
    pub fn and(mut self, other: Self) -> Self {
        self.samples.extend(other.samples);
        self
    }
}

/// `name{label="value",…} number [timestamp]`
fn sample(line: &str) -> Option<Sample> {
    let name_end = line.find(|character: char| character == '{' || character.is_whitespace())?;
    let (name, rest) = line.split_at(name_end);
    let (labels, rest) = match rest.strip_prefix('{') {
        Some(rest) => labels(rest)?,
        None => (BTreeMap::new(), rest),
    };
    let value = rest.split_whitespace().next()?.parse().ok()?;
    Some(Sample {
        name: name.to_owned(),
        labels,
        value,
    })
}

/// The labels up to the closing brace, and what follows it.
fn labels(mut rest: &str) -> Option<(BTreeMap<String, String>, &str)> {
    let mut labels = BTreeMap::new();
    loop {
        rest = rest.trim_start_matches([',', ' ']);
        if let Some(rest) = rest.strip_prefix('}') {
            return Some((labels, rest));
        }
        let (label, quoted) = rest.split_once("=\"")?;
        let (value, after) = unquote(quoted)?;
        labels.insert(label.to_owned(), value);
        rest = after;
    }
}

/// The text up to the closing quote with its escapes undone, and what follows the quote.
fn unquote(quoted: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut characters = quoted.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return Some((value, &quoted[at + 1..])),
            '\\' => value.push(match characters.next()?.1 {
                'n' => '\n',
                other => other,
            }),
            other => value.push(other),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = r#"
# HELP hotrow_orders_settled_total Orders settled.
# TYPE hotrow_orders_settled_total counter
hotrow_orders_settled_total{status="confirmed",reason=""} 7
hotrow_orders_settled_total{status="rejected",reason="sold_out"} 5
hotrow_envelope_orders_bucket{le="+Inf"} 12 1700000000000
hotrow_build_info{version="0.1 \"beta\"",commit="a\\b"} 1
up 1e3
"#;

    #[test]
    fn samples_are_found_by_name_and_labels() -> anyhow::Result<()> {
        let metrics = Metrics::parse(TEXT)?;
        assert_eq!(
            metrics.sum("hotrow_orders_settled_total", &[]).to_string(),
            "12"
        );
        assert_eq!(
            metrics.value("hotrow_orders_settled_total", &[("status", "rejected")]),
            Some(5.0)
        );
        assert_eq!(
            metrics.value("hotrow_orders_settled_total", &[]),
            None,
            "two samples are not one value"
        );
        assert_eq!(
            metrics.value("hotrow_envelope_orders_bucket", &[("le", "+Inf")]),
            Some(12.0)
        );
        assert_eq!(metrics.value("up", &[]), Some(1000.0));
        let escaped = [("version", r#"0.1 "beta""#), ("commit", r"a\b")];
        assert_eq!(metrics.value("hotrow_build_info", &escaped), Some(1.0));
        Ok(())
    }

    #[test]
    fn what_is_not_a_metric_is_an_error() {
        assert!(Metrics::parse("<html>").is_err());
        assert!(Metrics::parse("name{label=\"open").is_err());
    }
}
