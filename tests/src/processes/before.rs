//! The binaries of the release before, built from a tree of their own.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context, ensure};

/// The last commit before orders had a life: what the upgrade in the changelog begins with.
const BEFORE: &str = "8bba71242140c6082e7d3c3a33c622eebfa1e3ad";

/// Builds the binaries of the release before, and returns their folder. None if this clone does not reach back so far.
///
/// # Errors
/// When they do not build.
pub async fn before() -> anyhow::Result<Option<PathBuf>> {
    tokio::task::spawn_blocking(build).await?
}

fn build() -> anyhow::Result<Option<PathBuf>> {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .context("the package is in no workspace")?;
    let commit = format!("{BEFORE}^{{commit}}");
    let known = Command::new("git")
        .args(["cat-file", "-e", &commit])
        .current_dir(workspace)
        .stderr(Stdio::null())
        .status();
    if !known.is_ok_and(|status| status.success()) {
        return Ok(None);
    }
    let folder = workspace.join("target/before");
    let tree = folder.join("tree");
    fs::create_dir_all(&tree)?;
    // Not a work tree of git's: the clone is not to remember it.
    let archive = Command::new("git")
        .args(["archive", BEFORE])
        .current_dir(workspace)
        .stdout(Stdio::piped())
        .spawn()?;
    let unpacked = Command::new("tar")
        .arg("-x")
        .current_dir(&tree)
        .stdin(archive.stdout.context("no archive")?)
        .status()?;
    ensure!(unpacked.success(), "the release before cannot be unpacked");
    let cargo = env::var_os("CARGO").unwrap_or_else(|| env!("CARGO").into());
    let built = Command::new(cargo)
        .args([
            "build",
            "--locked",
            "--bin",
            "hotrow-ingest",
            "--bin",
            "hotrow-worker",
        ])
        .current_dir(&tree)
        .env("CARGO_TARGET_DIR", folder.join("target"))
        .status()?;
    ensure!(built.success(), "the release before does not build");
    Ok(Some(folder.join("target/debug")))
}
