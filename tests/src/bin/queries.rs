//! `cargo queries`: writes what the `query!` macros know of the database to `.sqlx`, so that the
//! product builds without one. `--check` says whether it is up to date and changes nothing.

use std::{
    collections::BTreeMap,
    env, fs,
    path::Path,
    process::{Command, ExitCode},
    time::SystemTime,
};

use anyhow::{Context, ensure};
use clap::Parser;
use hotrow_tests::{alias, servers::Postgres};
use sqlx::{Connection, PgConnection, migrate::Migrator};

/// Writes the offline data of all queries, from a new database with the current schema.
#[derive(Debug, Parser)]
#[command(name = "cargo queries", version)]
struct Arguments {
    /// Only say whether the data in `.sqlx` is up to date
    #[arg(long)]
    check: bool,
}

/// The packages that hold queries.
const PACKAGES: [&str; 3] = ["shared", "ingest", "worker"];

#[tokio::main]
async fn main() -> anyhow::Result<ExitCode> {
    let Arguments { check } = Arguments::parse_from(alias::arguments());
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .context("the package is in no workspace")?;
    let postgres = Postgres::start().await?;
    let migrations = Migrator::new(workspace.join("migrations")).await?;
    migrations
        .run(&mut PgConnection::connect(postgres.url()).await?)
        .await?;

    let fresh = tempfile::tempdir()?;
    describe_queries(workspace, postgres.url(), fresh.path())?;
    let kept = workspace.join(".sqlx");
    let (before, after) = (read(&kept)?, read(fresh.path())?);
    if before == after {
        eprintln!("the data of {} queries is up to date", after.len());
        return Ok(ExitCode::SUCCESS);
    }
    if check {
        eprintln!(
            "the data in .sqlx is out of date: run `cargo queries` and commit what it writes"
        );
        return Ok(ExitCode::FAILURE);
    }
    fs::create_dir_all(&kept)?;
    for stale in before.keys().filter(|name| !after.contains_key(*name)) {
        fs::remove_file(kept.join(stale))?;
    }
    for (name, data) in &after {
        fs::write(kept.join(name), data)?;
    }
    eprintln!("wrote the data of {} queries", after.len());
    Ok(ExitCode::SUCCESS)
}

/// Has the compiler ask the database about every query.
fn describe_queries(workspace: &Path, database_url: &str, into: &Path) -> anyhow::Result<()> {
    // The compiler does not know that the macros look at a database: only a newer source makes it ask again.
    let mut sources = Vec::new();
    for package in PACKAGES {
        let path = workspace.join(package).join("src/lib.rs");
        let source = fs::File::options().append(true).open(path)?;
        let modified = source.metadata()?.modified()?;
        source.set_modified(SystemTime::now())?;
        sources.push((source, modified));
    }
    let cargo = env::var_os("CARGO").unwrap_or_else(|| env!("CARGO").into());
    let checked = Command::new(cargo)
        .args(["check", "--quiet", "--workspace", "--locked"])
        .current_dir(workspace)
        .env("DATABASE_URL", database_url)
        .env("SQLX_OFFLINE", "false")
        .env("SQLX_OFFLINE_DIR", into)
        .status()
        .context("run cargo check")?;
    // Nothing has changed, so nothing is to be built again for it.
    for (source, modified) in sources {
        source.set_modified(modified)?;
    }
    ensure!(checked.success(), "cargo check failed");
    Ok(())
}

fn read(folder: &Path) -> anyhow::Result<BTreeMap<String, Vec<u8>>> {
    let Ok(files) = fs::read_dir(folder) else {
        return Ok(BTreeMap::new());
    };
    files
        .map(|file| {
            let file = file?;
            Ok((
                file.file_name().to_string_lossy().into_owned(),
                fs::read(file.path())?,
            ))
        })
        .collect()
}
