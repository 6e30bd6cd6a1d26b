//! The readers of docs/events.md, word for word.

use std::{
    env, fs,
    io::{BufRead, BufReader},
    path::Path,
    process::{Command, Stdio},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use anyhow::Context;
use hotrow_tests::{Place, servers::python_with_pika, wait};

use super::{chairs, open, order};

/// The first block of code in a language.
fn shown(language: &str) -> anyhow::Result<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/events.md");
    let document = fs::read_to_string(path)?;
    let block = document.split(&format!("```{language}\n")).nth(1);
    let block = block.and_then(|rest| rest.split("```").next());
    Ok(block.context("no such block")?.to_owned())
}

/// Runs a reader until it has printed a line that ends so.
async fn prints(mut reader: Command, place: &Place, end: &str) -> anyhow::Result<()> {
    let mut child = reader
        .env("AMQP_URL", &place.amqp_url)
        .stdout(Stdio::piped())
        .spawn()
        .context("start a reader; plain `cargo test` builds the one in examples/")?;
    let out = BufReader::new(child.stdout.take().context("no standard output")?);
    let lines = Arc::new(Mutex::new(Vec::new()));
    let read = Arc::clone(&lines);
    let reading = tokio::task::spawn_blocking(move || {
        for line in out.lines().map_while(Result::ok) {
            let mut read = read.lock().unwrap_or_else(PoisonError::into_inner);
            read.push(line);
        }
    });
    let seen = wait::until(&format!("{end:?}"), Duration::from_mins(1), async || {
        let lines = lines.lock().unwrap_or_else(PoisonError::into_inner);
        lines.iter().any(|line| line.ends_with(end)).then_some(())
    })
    .await;
    child.kill()?;
    child.wait()?;
    reading.await?;
    seen.with_context(|| format!("{lines:?}"))
}

#[tokio::test]
async fn the_readers_of_the_document_print_what_happened() -> anyhow::Result<()> {
    let (shop, ingest, _worker) = open().await?;
    let client = ingest.client()?;
    chairs(&client, 2, 600).await?;
    let id = order(&client, "c-1", 1).await?;

    let mut python = Command::new(python_with_pika().await?);
    python.args(["-c", &shown("python")?]);
    prints(python, &shop.place, &format!("order.reserved {id}")).await?;

    // Cargo builds the examples of a package together with its tests.
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/read_events.rs");
    let source = fs::read_to_string(source)?;
    assert!(source.ends_with(&shown("rust")?), "another text: {source}");
    let folder = env::current_exe()?;
    let folder = folder
        .parent()
        .and_then(Path::parent)
        .context("no folder")?;
    let rust = Command::new(folder.join("examples/read_events"));
    prints(rust, &shop.place, &format!("\"order.reserved\" \"{id}\"")).await
}
