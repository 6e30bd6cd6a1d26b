//! File descriptors: every connection is one.

use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// Where the limit is raised.
pub const REMEDY: &str =
    "raise the limit (LimitNOFILE of systemd, ulimits of Compose, ulimit -n of a shell)";

/// Raises the number of descriptors that this process may have as far as the system allows. Shells
/// and service managers hand out 1,024 for the sake of programs that use `select`.
pub fn raise() {
    if let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE)
        && soft < hard
    {
        // Some systems name a hard limit that they do not grant; then it stays as it is, and whoever needs
        // many says so.
        let _ = setrlimit(Resource::RLIMIT_NOFILE, hard, hard);
    }
}

/// How many descriptors this process may have.
#[must_use]
pub fn allowed() -> u64 {
    getrlimit(Resource::RLIMIT_NOFILE).map_or(0, |(soft, _)| soft)
}
