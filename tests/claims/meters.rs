//! Claims about the meters, against processes with known costs.

use std::{
    fs,
    io::{BufRead, BufReader},
    process::{Command, Stdio},
    time::Duration,
};

use anyhow::Context;
use hotrow_tests::{meter, wait};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

#[tokio::test]
async fn processor_time_is_that_of_a_process_and_its_children() -> anyhow::Result<()> {
    const PATIENCE: Duration = Duration::from_secs(30);
    const BURNT: Duration = Duration::from_millis(200);
    // The parent itself does next to nothing.
    let script = "sh -c 'while :; do :; done' & echo $!; wait; exec sleep 60";
    let mut parent = Command::new("sh")
        .args(["-c", script])
        .stdout(Stdio::piped())
        .spawn()?;
    let mut child = String::new();
    let said = parent.stdout.take().context("the parent's output")?;
    BufReader::new(said).read_line(&mut child)?;
    let child = Pid::from_raw(child.trim().parse()?);
    let burnt = async || {
        let time = meter::processor_time(parent.id()).ok()?;
        (time >= BURNT).then_some(time)
    };
    let while_it_runs = wait::until("the child to burn processor time", PATIENCE, burnt).await;
    kill(child, Signal::SIGKILL)?;
    let ended = async || {
        let name = fs::read_to_string(format!("/proc/{}/comm", parent.id())).ok()?;
        (name.trim() == "sleep").then_some(())
    };
    let ended = wait::until("the child to end", PATIENCE, ended).await;
    let afterwards = meter::processor_time(parent.id());
    parent.kill()?;
    parent.wait()?;
    ended?;
    // What a child used before it ended stays its parent's.
    assert!(afterwards? >= while_it_runs?);
    assert!(meter::processor_time(parent.id()).is_err());
    Ok(())
}

#[test]
fn peak_memory_remembers_what_was_given_back() -> anyhow::Result<()> {
    const MUCH: usize = 100 << 20;
    drop(std::hint::black_box(vec![1_u8; MUCH]));
    let peak = meter::peak_memory(std::process::id())?;
    assert!(peak >= MUCH as u64, "{peak}");
    Ok(())
}
