//! Claims about the documents: what they say of the settings is what the programs say.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

use anyhow::Context;
use hotrow_tests::{Place, Settings};

/// Read by the log and not by clap, so `--help` mentions it in a sentence only.
const LOG_FILTER: (&str, &str) = ("RUST_LOG", "info");
/// In the example for the tests' sake, under a headline that says so.
const OF_THE_TESTS: &str = "RABBITMQ_MANAGEMENT_URL";

/// The settings of one program: the variable and its default, empty without one.
type Defaults = BTreeMap<String, String>;

#[tokio::test]
async fn every_setting_stands_in_the_help_the_example_and_the_documents() -> anyhow::Result<()> {
    let place = Place::new().await?;
    let ingest = helped(&Settings::ingest(&place)).await?;
    let worker = helped(&Settings::worker(&place)).await?;
    let all: BTreeSet<_> = ingest.keys().chain(worker.keys()).cloned().collect();

    let mut example = shown(&document(".env.example")?);
    assert!(example.remove(OF_THE_TESTS).is_some());
    let names: BTreeSet<_> = example.keys().cloned().collect();
    assert_eq!(names, all, "the settings of .env.example and of --help");
    for (name, (value, is_set)) in &example {
        let defaults = [&ingest, &worker].into_iter().filter_map(|it| it.get(name));
        assert!(
            *is_set || defaults.clone().any(|default| default == value),
            ".env.example says that {name} is {value:?} by default, --help {defaults:?}",
            defaults = defaults.collect::<Vec<_>>()
        );
    }

    let rows = rows(&document("docs/settings.md")?);
    let names: BTreeSet<_> = rows.keys().cloned().collect();
    assert_eq!(names, all, "the settings of docs/settings.md and of --help");
    for (name, (default, who)) in &rows {
        let users = match (ingest.get(name), worker.get(name)) {
            (Some(_), Some(_)) => "both",
            (Some(_), None) => "ingest",
            _ => "worker",
        };
        assert_eq!(who, users, "who uses {name}, by docs/settings.md");
        for told in [ingest.get(name), worker.get(name)].into_iter().flatten() {
            let fits = if told.is_empty() {
                !default.contains('`')
            } else {
                default.contains(&format!("`{told}`"))
            };
            assert!(
                fits,
                "docs/settings.md says that {name} is {default} by default, --help {told:?}"
            );
        }
    }
    Ok(())
}

/// What `--help` says.
async fn helped(settings: &Settings) -> anyhow::Result<Defaults> {
    let output = settings.run(&["--help"]).await?;
    let help = String::from_utf8(output.stdout)?;
    let mut defaults = Defaults::new();
    let mut last = None;
    for line in help.lines().map(str::trim) {
        if let Some(variable) = line.strip_prefix("[env: ") {
            let name = variable.split(['=', ']']).next().unwrap_or_default();
            last = Some(defaults.entry(name.to_owned()).or_default());
        } else if let (Some(default), Some(last)) = (line.strip_prefix("[default: "), &mut last) {
            unquoted(default.trim_end_matches(']')).clone_into(last);
        }
    }
    assert!(help.contains(LOG_FILTER.0), "{help}");
    defaults.insert(LOG_FILTER.0.to_owned(), LOG_FILTER.1.to_owned());
    Ok(defaults)
}

/// The variables of a file of settings with their values, and whether they are set or commented out.
fn shown(file: &str) -> BTreeMap<String, (String, bool)> {
    let variable = |line: &str| {
        let (text, is_set) = match line.strip_prefix("# ") {
            Some(text) => (text, false),
            None => (line, true),
        };
        let (name, value) = text.split_once('=')?;
        let is_name = name.bytes().all(|b| b.is_ascii_uppercase() || b == b'_');
        is_name.then(|| (name.to_owned(), (unquoted(value).to_owned(), is_set)))
    };
    file.lines().filter_map(variable).collect()
}

/// The rows of the table: the variable, its default, and who uses it.
fn rows(document: &str) -> BTreeMap<String, (String, String)> {
    let row = |line: &str| {
        let mut cells = line.strip_prefix("| `")?.split(" | ");
        let name = cells.next()?.trim_end_matches('`').to_owned();
        Some((name, (cells.next()?.to_owned(), cells.next()?.to_owned())))
    };
    document.lines().filter_map(row).collect()
}

fn unquoted(text: &str) -> &str {
    text.trim_matches('"')
}

fn document(path: &str) -> anyhow::Result<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path);
    fs::read_to_string(&path).with_context(|| path.display().to_string())
}
