//! Claims about builds: what one command of cargo has built, the next one takes.

use std::{collections::BTreeSet, env, process::Command};

use anyhow::ensure;

/// What `cargo demo` builds, and what the harness builds for itself.
const PARTS: [&[&str]; 2] = [
    &["--package", "hotrow-tests", "--edges", "normal,build"],
    &["--workspace", "--edges", "normal,build"],
];

/// A package with other features is another package to cargo, and so is all that depends on it.
#[test]
fn no_dependency_is_built_with_different_features_for_tests_demo_and_benchmark()
-> anyhow::Result<()> {
    let all = packages(&["--workspace", "--edges", "normal,build,dev"])?;
    for part in PARTS {
        let others: Vec<_> = packages(part)?.difference(&all).cloned().collect();
        ensure!(
            others.is_empty(),
            "built again for {part:?}: {others:#?}; let [dependencies] in tests/Cargo.toml ask for what \
             a dev-dependency asks for"
        );
    }
    Ok(())
}

/// Every package with its version and its features.
fn packages(selection: &[&str]) -> anyhow::Result<BTreeSet<String>> {
    let cargo = env::var_os("CARGO").unwrap_or_else(|| env!("CARGO").into());
    let output = Command::new(cargo)
        .args([
            "tree", "--locked", "--prefix", "none", "--format", "{p} {f}",
        ])
        .args(selection)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()?;
    ensure!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let lines = String::from_utf8(output.stdout)?;
    let lines = lines
        .lines()
        .map(|line| line.trim_end_matches(" (*)").to_owned());
    Ok(lines.collect())
}
