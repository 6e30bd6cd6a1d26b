//! How many files this process may have open: a connection is one.

use anyhow::{Context, ensure};
use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// Binaries, logs, a database connection, a terminal: what else is open.
const OTHER_FILES: usize = 200;

/// Raises the limit of this process, and of those that it starts, as far as `connections` need it.
///
/// # Errors
/// When the system allows fewer; the message says what to raise.
pub fn allow_open_files(connections: usize) -> anyhow::Result<()> {
    let wanted = u64::try_from(connections + OTHER_FILES)?;
    let (soft, hard) =
        getrlimit(Resource::RLIMIT_NOFILE).context("read the limit of open files")?;
    if soft >= wanted {
        return Ok(());
    }
    ensure!(
        hard >= wanted,
        "{connections} connections need {wanted} open files, but no more than {hard} are allowed: raise \
         the limit (ulimit -Hn) or use fewer connections"
    );
    setrlimit(Resource::RLIMIT_NOFILE, wanted, hard).context("raise the limit of open files")
}
