//! Claims about the meters, against processes whose costs are known.

use std::{process::Command, time::Duration};

use hotrow_tests::{meter, wait};

#[tokio::test]
async fn processor_time_is_that_of_a_process_and_its_children() -> anyhow::Result<()> {
    const PATIENCE: Duration = Duration::from_secs(30);
    const BURNT: Duration = Duration::from_millis(200);
    let mut child = Command::new("sh")
        .args(["-c", "while :; do :; done"])
        .spawn()?;
    let burning = wait::until("the child to burn processor time", PATIENCE, async || {
        let time = meter::processor_time(child.id()).ok()?;
        (time >= BURNT).then_some(time)
    })
    .await;
    child.kill()?;
    let childs = burning?;
    let ours = meter::processor_time(std::process::id())?;
    child.wait()?;
    assert!(ours >= childs, "{ours:?}, of which a child {childs:?}");

    // What a child used before it ended stays its parent's.
    let after = meter::processor_time(std::process::id())?;
    assert!(after >= ours, "{after:?} after {ours:?}");
    assert!(meter::processor_time(child.id()).is_err());
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
