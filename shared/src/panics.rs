//! Panics: one on any thread ends the process, whatever profile it was built in.

use std::{panic, process};

/// Makes every panic abort the process, once it is said on standard error.
///
/// Nobody can tell what a panic left half done, while a crash at any moment is something that orders survive.
pub fn abort_the_process() {
    let say = panic::take_hook();
    panic::set_hook(Box::new(move |panic| {
        say(panic);
        process::abort();
    }));
}

#[cfg(test)]
mod tests {
    use std::{
        env,
        os::unix::process::ExitStatusExt,
        process::{Command, Stdio},
        thread,
    };

    use super::*;
    use crate::telemetry::{self, LogFormat};

    #[test]
    fn a_panic_on_any_thread_ends_the_process() -> anyhow::Result<()> {
        const CHILD: &str = "HOTROW_PANICS_HERE";
        const SIGABRT: i32 = 6;
        if let Some(child) = env::var_os(CHILD) {
            abort_the_process();
            if child == "logs" {
                telemetry::start_log(LogFormat::Json)?;
            }
            let _ = thread::spawn(|| panic!("on another thread")).join();
            return Ok(());
        }
        for child in ["starts", "logs"] {
            let ended = Command::new(env::current_exe()?)
                .args([
                    "--exact",
                    "panics::tests::a_panic_on_any_thread_ends_the_process",
                ])
                .env(CHILD, child)
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .status()?;
            assert_eq!(ended.signal(), Some(SIGABRT), "{child}: {ended}");
        }
        Ok(())
    }
}
