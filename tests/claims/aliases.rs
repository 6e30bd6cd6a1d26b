//! Claims about cargo's aliases, which are written with and without a second pair of dashes.

use std::process::Command;

#[test]
fn an_alias_takes_its_arguments_with_and_without_dashes_before_them() -> anyhow::Result<()> {
    let programs = [env!("CARGO_BIN_EXE_demo"), env!("CARGO_BIN_EXE_queries")];
    for program in programs {
        for arguments in [&["--version"][..], &["--", "--version"]] {
            let output = Command::new(program).args(arguments).output()?;
            let said = String::from_utf8(output.stdout)?;
            assert!(output.status.success(), "{program} {arguments:?}");
            assert!(said.contains(env!("CARGO_PKG_VERSION")), "{said}");
        }
    }
    Ok(())
}
