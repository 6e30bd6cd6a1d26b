//! Claims about the documents: what they say of the settings is what the programs say.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

use anyhow::Context;
use hotrow_tests::{Place, Settings};

use super::settings::refused;

/// Read by the log and not by clap, so `--help` mentions it in a sentence only.
const LOG_FILTER: (&str, &str) = ("RUST_LOG", "info");
/// In the example for the tests' sake, under a headline that says so.
const OF_THE_TESTS: &str = "RABBITMQ_MANAGEMENT_URL";

/// Settings that other programs have as well: what is nearly one of them may be another program's.
const OF_OTHERS_TOO: [&str; 8] = [
    "DATABASE_URL",
    "DATABASE_URL_FILE",
    "AMQP_URL",
    "AMQP_URL_FILE",
    "DEVELOPMENT",
    "EVENTS",
    "LOG_FORMAT",
    "RUST_LOG",
];

/// What the compose file leaves to the programs, and why.
const NOT_IN_COMPOSE: [(&str, &str); 1] = [(
    "DEVELOPMENT",
    "its secrets are made for each machine, so nothing has to be accepted",
)];

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

#[tokio::test]
async fn a_variable_that_is_nearly_a_setting_of_either_program_stops_a_start() -> anyhow::Result<()>
{
    let place = Place::new().await?;
    let (ingest, worker) = (Settings::ingest(&place), Settings::worker(&place));
    let (of_ingest, of_worker) = (helped(&ingest).await?, helped(&worker).await?);
    let all: BTreeSet<_> = of_ingest.into_keys().chain(of_worker.into_keys()).collect();
    let misspelt: Vec<_> = all
        .iter()
        .filter(|name| !OF_OTHERS_TOO.contains(&name.as_str()))
        .map(|name| format!("{name}X"))
        .collect();
    for settings in [ingest, worker] {
        let settings = misspelt.iter().fold(settings, |it, name| it.set(name, "1"));
        let message = refused(&settings).await?;
        for name in &misspelt {
            let complaint = format!("{name} is not a setting of Hotrow");
            assert!(message.contains(&complaint), "{name}: {message}");
        }
    }
    Ok(())
}

#[test]
fn the_compose_file_gives_hotrow_no_secret_that_others_know_and_opens_its_own_ports_alone()
-> anyhow::Result<()> {
    let compose = document("deploy/compose.yaml")?;
    let lines = || compose.lines().map(str::trim);
    for name in ["ORDER_ID_SECRET", "ADMIN_TOKEN"] {
        let in_file = format!("{name}_FILE: /run/secrets/{}", name.to_lowercase());
        assert!(lines().any(|line| line == in_file), "{in_file}");
        let value = lines().find(|line| line.starts_with(&format!("{name}:")));
        assert_eq!(value, None, "a secret in the environment");
    }
    // Only the published secrets would need it.
    let development = lines().find(|line| line.starts_with("DEVELOPMENT"));
    assert_eq!(development, None);
    let mut opened = 0;
    for ports in lines().filter_map(|line| line.strip_prefix("ports: [")) {
        for port in ports.trim_end_matches(']').split(", ") {
            let address = port.trim_matches('"').split(":8").next();
            let may_be_opened = address == Some("${PUBLISH_ADDRESS:-127.0.0.1}");
            opened += usize::from(may_be_opened);
            assert!(may_be_opened || port.starts_with("\"127.0.0.1:"), "{port}");
        }
    }
    assert_eq!(opened, 2, "the two ingest processes");
    Ok(())
}

#[tokio::test]
async fn the_compose_file_hands_every_setting_on_to_the_program_that_knows_it() -> anyhow::Result<()>
{
    let place = Place::new().await?;
    let compose = document("deploy/compose.yaml")?;
    for (settings, sections) in [
        (Settings::ingest(&place), &["x-environment", "x-ingest"][..]),
        (
            Settings::worker(&place),
            &["x-environment", "x-worker-environment", "x-worker"],
        ),
    ] {
        // A secret stands in one of two variables.
        let is_file_of = |name: &str, all: &Defaults| {
            let secret = name.strip_suffix("_FILE");
            secret.is_some_and(|secret| all.contains_key(secret))
        };
        let helped = helped(&settings).await?;
        let known: BTreeSet<_> = helped
            .keys()
            .filter(|name| !is_file_of(name, &helped))
            .map(String::as_str)
            .collect();
        let given = variables(&compose, sections)?;
        let given: BTreeSet<_> = given
            .iter()
            .map(|name| match name.strip_suffix("_FILE") {
                Some(secret) if known.contains(secret) => secret,
                _ => name,
            })
            .collect();
        let left_out: BTreeSet<_> = NOT_IN_COMPOSE.iter().map(|(name, _)| *name).collect();
        let twice: Vec<_> = given.intersection(&left_out).collect();
        assert!(twice.is_empty(), "{twice:?} is an exception and is there");
        let expected: BTreeSet<_> = known.difference(&left_out).copied().collect();
        assert_eq!(
            given, expected,
            "deploy/compose.yaml, {sections:?}, and --help"
        );
    }
    Ok(())
}

/// The variables of environments in these sections of the compose file.
fn variables(compose: &str, sections: &[&str]) -> anyhow::Result<BTreeSet<String>> {
    let mut variables = BTreeSet::new();
    for section in sections {
        let (_, text) = compose
            .split_once(&format!("\n{section}:"))
            .with_context(|| format!("there is no section {section}"))?;
        let lines = text.lines().skip(1);
        let lines = lines.take_while(|line| line.is_empty() || line.starts_with(' '));
        let names = lines.filter_map(|line| line.trim().split_once(':'));
        let names = names.map(|(name, _)| name);
        let is_name = |name: &&str| {
            !name.is_empty() && name.bytes().all(|b| b.is_ascii_uppercase() || b == b'_')
        };
        variables.extend(names.filter(is_name).map(str::to_owned));
    }
    Ok(variables)
}

/// What `--help` says.
async fn helped(settings: &Settings) -> anyhow::Result<Defaults> {
    let output = settings.run(&["--help"]).await?;
    let help = String::from_utf8(output.stdout)?;
    let mut defaults = Defaults::new();
    let mut last = None;
    for line in help.lines().map(str::trim) {
        if let Some(variables) = line.strip_prefix("[env: ") {
            let names = variables.split(['=', ']']).next().unwrap_or_default();
            for name in names.split(" or ") {
                defaults.entry(name.to_owned()).or_default();
            }
            last = defaults.get_mut(names);
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

/// The rows of the table: the variable, its default, and who uses it. A secret has one for itself and for its file.
fn rows(document: &str) -> BTreeMap<String, (String, String)> {
    let mut rows = BTreeMap::new();
    for line in document.lines() {
        let Some(cells) = line.strip_prefix("| `") else {
            continue;
        };
        let cells: Vec<_> = cells.splitn(4, " | ").collect();
        let [names, default, who, _] = cells[..] else {
            continue;
        };
        let mut names = names.split(", ").map(|name| name.trim_matches('`'));
        let name = names.next().unwrap_or_default();
        let mut row = |name: String| rows.insert(name, (default.to_owned(), who.to_owned()));
        row(name.to_owned());
        for end in names.filter_map(|name| name.strip_prefix('…')) {
            row(format!("{name}{end}"));
        }
    }
    rows
}

fn unquoted(text: &str) -> &str {
    text.trim_matches('"')
}

fn document(path: &str) -> anyhow::Result<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path);
    fs::read_to_string(&path).with_context(|| path.display().to_string())
}
