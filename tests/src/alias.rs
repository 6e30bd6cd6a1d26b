//! Aliases of cargo, which end with `--`, so that `cargo demo --json` means the demo's `--json`.

use std::{env, ffi::OsString};

/// The arguments of this program, the first of which is its name. `cargo demo -- --json`, as one writes
/// it for `cargo run`, says the same as `cargo demo --json`.
pub fn arguments() -> impl Iterator<Item = OsString> {
    let is_own = |(position, argument): &(usize, OsString)| *position != 1 || argument != "--";
    let numbered = env::args_os().enumerate().filter(is_own);
    numbered.map(|(_, argument)| argument)
}
