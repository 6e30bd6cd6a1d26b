//! Claims about the demo: what it suggests to a person who looks around works.

use std::{
    io::{BufRead, BufReader},
    process::{Command, Stdio},
    thread,
};

use anyhow::{Context, anyhow, ensure};
use hotrow_tests::Client;
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use reqwest::Method;
use serde_json::Value;
use tokio::sync::oneshot;

#[tokio::test]
async fn the_first_order_that_the_demo_suggests_is_confirmed() -> anyhow::Result<()> {
    let mut demo = Command::new(env!("CARGO_BIN_EXE_demo"))
        .args([
            "--stay",
            "--orders",
            "500",
            "--stock",
            "100",
            "--connections",
            "8",
        ])
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()?;
    let said = BufReader::new(demo.stderr.take().context("no standard error")?).lines();
    let (suggest, suggested) = oneshot::channel();
    // To its end: a program that says something to nobody fails.
    thread::spawn(move || {
        let mut lines = said.map_while(Result::ok);
        let first = lines.find(|line| line.trim_start().starts_with("curl "));
        let _ = suggest.send(first.zip(lines.next()));
        lines.for_each(drop);
    });
    let outcome = match suggested.await? {
        Some((line, rest)) => order(&(line.replace('\\', " ") + &rest)).await,
        None => Err(anyhow!("the demo ended and suggested nothing")),
    };
    kill(Pid::from_raw(i32::try_from(demo.id())?), Signal::SIGINT)?;
    demo.wait()?;
    let (words, outcome) = outcome?;
    ensure!(
        outcome["status"] == "confirmed",
        "{words:?} came to {outcome}"
    );
    Ok(())
}

/// Does what a `curl` command says, and asks what became of the order.
async fn order(command: &str) -> anyhow::Result<(Vec<String>, Value)> {
    // Quoted words are the odd ones; nothing else on the line needs quotes.
    let words: Vec<String> = command
        .split('\'')
        .enumerate()
        .flat_map(|(number, part)| match number % 2 {
            0 => part.split_whitespace().map(str::to_owned).collect(),
            _ => vec![part.to_owned()],
        })
        .collect();
    let url: reqwest::Url = words
        .iter()
        .find(|word| word.starts_with("http://"))
        .context("no URL")?
        .parse()?;
    let follows = |flag: &'static str| {
        words
            .windows(2)
            .filter(move |pair| pair[0] == flag)
            .map(|pair| pair[1].as_str())
    };
    let headers: Vec<_> = follows("-H")
        .filter_map(|header| header.split_once(": "))
        .filter(|(name, _)| *name != "content-type")
        .collect();
    let body = serde_json::from_str(follows("-d").next().context("no body")?)?;
    let address = format!(
        "{}:{}",
        url.host_str().unwrap_or_default(),
        url.port().unwrap_or_default()
    );
    let client = Client::new(address.parse()?)?;
    let answer = client
        .send(Method::POST, url.path(), &headers, Some(body))
        .await?
        .expect(202)?;
    let outcome = client.settled(answer.order_id()?, 10).await?.json()?;
    Ok((words, outcome))
}
