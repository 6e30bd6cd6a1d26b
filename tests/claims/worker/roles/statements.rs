//! Claims about what the roles may do, statement by statement and table by table.

use std::{collections::BTreeSet, fs, path::Path};

use anyhow::{Context, ensure};
use hotrow_tests::{Place, Users};
use serde_json::Value;
use sqlx::{AssertSqlSafe, Connection, PgConnection};

use super::DENIED;

/// The statements of a crate, as the offline data has them, with those that both programs share.
fn statements(crate_name: &str) -> anyhow::Result<BTreeSet<String>> {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut sources = String::new();
    for folder in [crate_name, "shared"] {
        read(&workspace.join(folder).join("src"), &mut sources)?;
    }
    let mut found = BTreeSet::new();
    for entry in fs::read_dir(workspace.join(".sqlx"))? {
        let query: Value = serde_json::from_slice(&fs::read(entry?.path())?)?;
        let text = query["query"].as_str().context("no query")?;
        if sources.contains(text) {
            found.insert(text.to_owned());
        }
    }
    Ok(found)
}

fn read(folder: &Path, into: &mut String) -> anyhow::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            // The days are the owner's.
            if !path.ends_with("worker/src/days") {
                read(&path, into)?;
            }
        } else {
            into.push_str(&fs::read_to_string(&path)?);
        }
    }
    Ok(())
}

#[tokio::test]
async fn every_statement_of_a_program_is_one_that_its_user_may_make() -> anyhow::Result<()> {
    let place = Place::new().await?;
    let users = Users::make(&place).await?;
    let mut denied = Vec::new();
    for (name, url, least) in [
        ("ingest", &users.ingest_database_url, 30),
        ("worker", &users.worker_database_url, 50),
    ] {
        let statements = statements(name)?;
        assert!(statements.len() >= least, "{name}: {}", statements.len());
        let mut connection = PgConnection::connect(url).await?;
        for statement in statements
            .iter()
            .filter(|text| !text.trim_start().starts_with("set "))
        {
            // Planning asks for no right, and beginning to execute does; `explain` begins and stops.
            let explained = explain(&mut connection, statement).await;
            let code = explained
                .as_ref()
                .err()
                .and_then(|error| Some(error.as_database_error()?.code()?.into_owned()));
            match code.as_deref() {
                None => {
                    explained?;
                }
                Some(DENIED) => denied.push(format!("{name}: {statement}")),
                Some(code) => anyhow::bail!("{name}: {code}: {statement}: {explained:?}"),
            }
        }
    }
    ensure!(denied.is_empty(), "not allowed:\n{}", denied.join("\n"));
    Ok(())
}

async fn explain(connection: &mut PgConnection, statement: &str) -> Result<(), sqlx::Error> {
    let prepare = format!("prepare asked as {statement}");
    sqlx::raw_sql(AssertSqlSafe(prepare))
        .execute(&mut *connection)
        .await?;
    let parameters: i64 = sqlx::query_scalar(
        "select coalesce(array_length(parameter_types, 1), 0)::bigint from pg_prepared_statements where name = 'asked'",
    )
    .fetch_one(&mut *connection)
    .await?;
    let nulls = vec!["null"; usize::try_from(parameters).unwrap_or_default()].join(", ");
    let call = if nulls.is_empty() {
        String::new()
    } else {
        format!("({nulls})")
    };
    let explain = format!("explain execute asked{call}");
    let explained = sqlx::raw_sql(AssertSqlSafe(explain))
        .execute(&mut *connection)
        .await;
    sqlx::raw_sql("deallocate asked")
        .execute(connection)
        .await?;
    explained.map(drop)
}

#[tokio::test]
async fn no_table_is_forgotten_when_rights_are_given() -> anyhow::Result<()> {
    let place = Place::new().await?;
    Users::make(&place).await?;
    let mut database = place.database().await?;
    let forgotten: Vec<String> = sqlx::query_scalar(
        "select relname::text from pg_class
         where relnamespace = 'public'::regnamespace and relkind in ('r', 'p', 'v') and not relispartition
           and not has_table_privilege('hotrow_ingest', oid, 'select')
           and not has_table_privilege('hotrow_worker', oid, 'select')
         order by relname",
    )
    .fetch_all(&mut database)
    .await?;
    assert_eq!(
        forgotten, [""; 0],
        "add them to the rights of worker/src/roles"
    );
    Ok(())
}
