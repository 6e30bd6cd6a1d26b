//! The product's two binaries, built once per process.

use std::{
    collections::BTreeMap,
    env,
    ffi::OsStr,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context, ensure};
use serde::Deserialize;
use tokio::sync::OnceCell;

const NAMES: [&str; 2] = ["hotrow-ingest", "hotrow-worker"];

/// Where the binary of that name is. The first call builds it, in the profile of this process.
pub(super) async fn binary(name: &str) -> anyhow::Result<&'static Path> {
    static BUILT: OnceCell<BTreeMap<String, PathBuf>> = OnceCell::const_new();
    let built = BUILT
        .get_or_try_init(|| async { tokio::task::spawn_blocking(build).await? })
        .await?;
    Ok(built
        .get(name)
        .with_context(|| format!("the workspace builds no binary {name}"))?)
}

/// Asks cargo to build the binaries and to say where they are.
///
/// For the whole workspace, so that dependencies have the same features as in `cargo test` and
/// `cargo demo`, and nothing is built twice.
fn build() -> anyhow::Result<BTreeMap<String, PathBuf>> {
    let cargo = env::var_os("CARGO").unwrap_or_else(|| env!("CARGO").into());
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .context("the package is in no workspace")?;
    let mut build = Command::new(cargo);
    build.args([
        "build",
        "--workspace",
        "--message-format=json-render-diagnostics",
    ]);
    for name in NAMES {
        build.args(["--bin", name]);
    }
    if !cfg!(debug_assertions) {
        build.arg("--release");
    }
    for (name, _) in env::vars_os().filter(|(name, _)| is_of_this_package(name)) {
        build.env_remove(name);
    }
    // A first build takes minutes, so its progress is shown.
    let output = build
        .current_dir(workspace)
        .stderr(Stdio::inherit())
        .output()
        .context("run cargo build")?;
    ensure!(output.status.success(), "cargo build failed");
    Ok(String::from_utf8(output.stdout)?
        .lines()
        .filter_map(|line| serde_json::from_str::<Artifact>(line).ok())
        .map(|artifact| (artifact.target.name, artifact.executable))
        .collect())
}

/// Returns whether cargo set the variable for the package that it runs. Some build scripts (ring's) ask to
/// be run again when such a variable changes, and all that depends on them would be built again.
fn is_of_this_package(variable: &OsStr) -> bool {
    let name = variable.to_string_lossy();
    [
        "CARGO_PKG_",
        "CARGO_MANIFEST_",
        "CARGO_BIN_",
        "CARGO_CRATE_",
    ]
    .iter()
    .any(|prefix| name.starts_with(prefix))
        || name == "CARGO_PRIMARY_PACKAGE"
}

/// A message of cargo that names an executable.
#[derive(Deserialize)]
struct Artifact {
    target: Target,
    executable: PathBuf,
}

#[derive(Deserialize)]
struct Target {
    name: String,
}
