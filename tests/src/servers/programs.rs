//! Where the servers' programs and the browser are: on the PATH, or in Debian's directories, which are not on it.

use std::{
    env, fs,
    path::{Path, PathBuf},
};

/// The directory that holds `initdb` and `postgres`.
#[must_use]
pub fn postgres() -> Option<PathBuf> {
    path_directories()
        .into_iter()
        .chain(versions("/usr/lib/postgresql", "bin"))
        .find(|directory| holds(directory, &["initdb", "postgres"]))
}

/// The directory that holds `rabbitmq-server` and `rabbitmqctl`.
#[must_use]
pub fn rabbitmq() -> Option<PathBuf> {
    path_directories()
        .into_iter()
        // Debian's programs there are wrappers that change to the user `rabbitmq` and the
        // system's own configuration.
        .filter(|directory| !matches!(directory.to_str(), Some("/usr/sbin" | "/sbin")))
        .chain(versions("/usr/lib/rabbitmq/lib", "sbin"))
        .chain(["/usr/lib/rabbitmq/bin".into(), "/usr/sbin".into()])
        .find(|directory| holds(directory, &["rabbitmq-server", "rabbitmqctl"]))
}

/// Erlang's port mapper: on the PATH, or beside the Erlang that is.
#[must_use]
pub fn epmd() -> Option<PathBuf> {
    which::which("epmd").ok().or_else(|| {
        let erl = fs::canonicalize(which::which("erl").ok()?).ok()?;
        Some(erl.with_file_name("epmd")).filter(|epmd| epmd.is_file())
    })
}

/// A Chromium, or what is one under another name.
#[must_use]
pub fn chromium() -> Option<PathBuf> {
    [
        "chromium",
        "chromium-browser",
        "google-chrome-stable",
        "google-chrome",
    ]
    .iter()
    .find_map(|name| which::which(name).ok())
}

/// The program that drives a Chromium.
#[must_use]
pub fn chromedriver() -> Option<PathBuf> {
    which::which("chromedriver").ok()
}

fn path_directories() -> Vec<PathBuf> {
    env::split_paths(&env::var_os("PATH").unwrap_or_default()).collect()
}

/// `parent/*/leaf`, the newest version first.
fn versions(parent: &str, leaf: &str) -> Vec<PathBuf> {
    let mut found: Vec<_> = fs::read_dir(parent)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path())
        .collect();
    found.sort_by_key(|path| std::cmp::Reverse(version(path)));
    found.into_iter().map(|path| path.join(leaf)).collect()
}

/// The numbers in a directory's name: `rabbitmq_server-3.10.8` is `[3, 10, 8]`.
fn version(directory: &Path) -> Vec<u64> {
    let name = directory.file_name().unwrap_or_default().to_string_lossy();
    name.split(|character: char| !character.is_ascii_digit())
        .filter_map(|digits| digits.parse().ok())
        .collect()
}

fn holds(directory: &Path, programs: &[&str]) -> bool {
    programs
        .iter()
        .all(|program| directory.join(program).is_file())
}
