//! Claims about users: each process works with no more rights than `migrate --roles` gives it.

mod broker;
mod statements;

use std::{fs, path::Path};

use anyhow::{Context, ensure};
use hotrow_tests::{Client, Place, Settings, Users, client::Product, law::Verdict, wait};
use reqwest::Method;
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, Connection, PgConnection};
use uuid::Uuid;

use super::shop::A_WHILE;

/// "permission denied", or "must be owner of …".
const DENIED: &str = "42501";

async fn denied(url: &str, statement: &str) -> anyhow::Result<()> {
    let mut connection = PgConnection::connect(url).await?;
    let answer = sqlx::raw_sql(AssertSqlSafe(statement.to_owned()));
    let error = answer.execute(&mut connection).await.err();
    let code = error
        .as_ref()
        .and_then(|error| error.as_database_error()?.code())
        .map(std::borrow::Cow::into_owned);
    ensure!(
        code.as_deref() == Some(DENIED),
        "{statement}: {error:?}, {code:?}"
    );
    Ok(())
}

async fn buys(client: &Client, customer: &str) -> anyhow::Result<(Uuid, Value)> {
    let accepted = client.order(customer, &[("chair", 1)]).await?;
    let id = accepted.expect(202)?.order_id()?;
    let document = client.settled(id, 20).await?.expect(200)?.json()?;
    Ok((id, document))
}

#[tokio::test]
async fn a_sale_goes_from_end_to_end_with_a_user_for_each_process() -> anyhow::Result<()> {
    let place = Place::new().await?;
    let users = Users::make(&place).await?;
    let few = |settings: Settings| settings.set("PARTITIONS", "2").set("HOLD_GRACE", "0s");
    let worker = users.worker(Settings::worker(&place));
    let worker = few(worker).set("REQUIRE_SEALED", "true");
    let ingest = users
        .ingest(Settings::ingest(&place))
        .set("PARTITIONS", "2");
    let webhooks = users
        .worker(Settings::webhooks(&place))
        .set("PARTITIONS", "2");
    // An ingest process may not declare, and waits for the worker.
    let (ingest, worker) = tokio::try_join!(ingest.start(), worker.start())?;
    let _webhooks = webhooks.start().await?;
    let client = ingest.client()?;
    let put = client.put_inventory("chair", Product::chairs(10)).await?;
    put.expect_success()?;
    let restocked = client.restock("chair", 5, Some("delivery-1")).await?;
    restocked.expect_success()?;
    let (mut ids, bought) = (Vec::new(), buys(&client, "plain").await?);
    assert_eq!(bought.1["status"], "confirmed");
    ids.push(bought.0);
    let rules = json!({ "sale": { "hold_seconds": 30 } });
    client.patch_inventory("chair", rules).await?.expect(200)?;
    let (paid, document) = buys(&client, "pays").await?;
    assert_eq!(document["status"], "reserved");
    let payment = json!({ "payment_reference": "pi_1" });
    client
        .ask(paid, "confirm", 20, payment)
        .await?
        .expect(200)?;
    let (cancelled, _) = buys(&client, "cancels").await?;
    client
        .ask(cancelled, "cancel", 20, json!({}))
        .await?
        .expect(200)?;
    let late = json!({ "payment_reference": "pi_2" });
    client
        .ask(cancelled, "confirm", 20, late)
        .await?
        .expect(409)?;
    let unmatched = client.get("/v1/payments/unmatched").await?.json()?;
    let path = format!(
        "/v1/payments/unmatched/{}/resolve",
        unmatched["payments"][0]["id"]
    );
    let note = Some(json!({ "note": "given back" }));
    let resolved = client.send(Method::POST, &path, &[], note).await?;
    resolved.expect_success()?;
    let rules = json!({ "sale": { "hold_seconds": 1 } });
    client.patch_inventory("chair", rules).await?.expect(200)?;
    let (overdue, _) = buys(&client, "does-not-pay").await?;
    let mut database = place.database().await?;
    wait::until("a hold to expire", A_WHILE, async || {
        let gone = sqlx::query_scalar("select not exists (select from holds)");
        gone.fetch_one(&mut database)
            .await
            .ok()
            .filter(|gone| *gone)
            .map(|_: bool| ())
    })
    .await?;
    ids.extend([paid, cancelled, overdue]);
    let verdict = Verdict::read(&mut database, &ids).await?;
    ensure!(verdict.holds(), "{verdict}");
    for process in [&ingest, &worker] {
        ensure!(
            !process.has_logged("permission denied"),
            "{}",
            process.log_tail()
        );
    }
    ensure!(
        !worker.has_logged("ACCESS_REFUSED"),
        "{}",
        worker.log_tail()
    );
    ensure!(ingest.has_logged("left to the workers to declare"));
    Ok(())
}

#[tokio::test]
async fn at_the_database_no_user_does_what_is_not_its_work() -> anyhow::Result<()> {
    let place = Place::new().await?;
    let users = Users::make(&place).await?;
    let schema = [
        "create table mine (id int)",
        "drop table orders",
        "alter table inventory drop column title",
        "truncate inventory_ledger",
        "create index on orders (customer_id)",
        "insert into _sqlx_migrations values (99, 'x', now(), true, '', 0)",
        "create role somebody",
    ];
    let ingest = [
        "insert into orders (order_id, status, customer_id, items, accepted_at)
             values (gen_random_uuid(), 'confirmed', 'c', '[]', now())",
        "update orders set status = 'confirmed'",
        "delete from orders",
        "insert into order_changes (order_id, revision, status) values (gen_random_uuid(), 2, 'confirmed')",
        "insert into holds (order_id, expires_at) values (gen_random_uuid(), now())",
        "update inventory_ledger set delta = 0",
        "delete from inventory_ledger",
        "delete from inventory",
        "delete from event_outbox",
        "select from holds",
    ];
    let worker = [
        "insert into inventory (sku, title, unit_price_minor, currency, available) values ('x', '', 1, 'EUR', 1)",
        "delete from inventory",
        "update inventory_ledger set delta = 0",
        "delete from order_changes",
        "update order_changes set status = 'confirmed'",
        "insert into webhooks (id, url, types, secret, events_since) values (gen_random_uuid(), '', '{}', '', now())",
        "select from restock_keys",
    ];
    for (url, statements) in [
        (&users.ingest_database_url, &schema[..]),
        (&users.worker_database_url, &schema[..]),
        (&users.ingest_database_url, &ingest[..]),
        (&users.worker_database_url, &worker[..]),
    ] {
        for statement in statements {
            denied(url, statement).await?;
        }
    }
    Ok(())
}

#[tokio::test]
async fn roles_are_given_anew_after_each_upgrade_and_only_by_the_owner() -> anyhow::Result<()> {
    let place = Place::new().await?;
    let users = Users::make(&place).await?;
    let mut database = place.database().await?;
    // As if an earlier release had given more, also to what this one knows no more, and a later one has taken something
    // away.
    let mut as_owner = PgConnection::connect(&users.owner_database_url).await?;
    sqlx::raw_sql(
        r#"grant delete on orders to hotrow_ingest; revoke insert on orders from hotrow_worker;
           create table "of Before" (id int generated by default as identity, kept int);
           create sequence before_id;
           create view before as select 1 as id;
           grant all on "of Before", before to hotrow_ingest, hotrow_worker;
           create table columns_of_before (id int);
           grant select (id) on columns_of_before to hotrow_worker;
           grant usage on sequence before_id to hotrow_worker;
           grant create on schema public to hotrow_worker"#,
    )
    .execute(&mut as_owner)
    .await?;
    let owner = Settings::worker(&place).set("OWNER_DATABASE_URL", &users.owner_database_url);
    for _ in 0..2 {
        let again = owner.run(&["migrate", "--roles"]).await?;
        ensure!(again.status.success());
        let said = String::from_utf8_lossy(&again.stdout).into_owned();
        for user in ["hotrow_ingest", "hotrow_worker", "hotrow_reader"] {
            let line = format!(
                "rabbitmqctl set_permissions --vhost {} {user} ",
                place.name()
            );
            assert!(said.contains(&line), "{said}");
        }
    }
    denied(&users.ingest_database_url, "delete from orders").await?;
    denied(&users.worker_database_url, "create table mine (id int)").await?;
    for statement in [
        r#"select from "of Before""#,
        r#"insert into "of Before" values (1)"#,
        "select from before",
        "select id from columns_of_before",
        "select nextval('before_id')",
    ] {
        denied(&users.ingest_database_url, statement).await?;
        denied(&users.worker_database_url, statement).await?;
    }
    let may: bool =
        sqlx::query_scalar("select has_table_privilege('hotrow_worker', 'orders', 'insert')")
            .fetch_one(&mut database)
            .await?;
    assert!(may);

    let worker = Settings::worker(&place).set("DATABASE_URL", &users.worker_database_url);
    let refused = worker.run(&["migrate", "--roles"]).await?;
    assert!(!refused.status.success());
    let alone = worker.spawn().await?;
    wait::until("a worker to say whom it misses", A_WHILE, async || {
        alone.has_logged("OWNER_DATABASE_URL").then_some(())
    })
    .await
}

#[tokio::test]
async fn a_missing_day_is_made_as_the_owner() -> anyhow::Result<()> {
    let place = Place::new().await?;
    let users = Users::make(&place).await?;
    let worker = users
        .worker(Settings::worker(&place))
        .set("PARTITIONS", "1");
    let ingest = users
        .ingest(Settings::ingest(&place))
        .set("PARTITIONS", "1");
    let (ingest, _worker) = tokio::try_join!(ingest.start(), worker.start())?;
    let client = ingest.client()?;
    let put = client.put_inventory("chair", Product::chairs(10)).await?;
    put.expect_success()?;
    let mut database = place.database().await?;
    let days: Vec<String> = sqlx::query_scalar(
        "select inhrelid::regclass::text from pg_inherits where inhparent = 'orders'::regclass",
    )
    .fetch_all(&mut database)
    .await?;
    for day in days {
        let drop = format!("drop table {day}");
        sqlx::raw_sql(AssertSqlSafe(drop))
            .execute(&mut database)
            .await?;
    }
    let (_, bought) = buys(&client, "c").await?;
    assert_eq!(bought["status"], "confirmed");
    let owner: String = sqlx::query_scalar(
        "select pg_get_userbyid(relowner)::text from pg_class
         where oid = (select max(inhrelid) from pg_inherits where inhparent = 'orders'::regclass)",
    )
    .fetch_one(&mut database)
    .await?;
    assert_eq!(owner, format!("{}_owner", place.name()));
    Ok(())
}

#[tokio::test]
async fn the_users_of_compose_have_the_rights_that_are_printed() -> anyhow::Result<()> {
    let place = Place::new().await?;
    Users::make(&place).await?;
    let postgres = &place.servers().postgres;
    if !postgres.is_ours() {
        eprintln!(
            "users of these names may belong to somebody: nothing is tried on a server that is not ours"
        );
        return Ok(());
    }
    let users = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/users");
    // Where the servers were put into the path by hand, the client may be elsewhere.
    let beside = hotrow_tests::servers::programs::postgres().map(|it| it.join("psql"));
    let psql = match beside.filter(|psql| psql.is_file()) {
        Some(psql) => psql,
        None => which::which("psql").context("no psql")?,
    };
    for password in ["one", "another"] {
        let mut command = std::process::Command::new(&psql);
        command
            .args([
                "--no-psqlrc",
                "--quiet",
                "--set=ON_ERROR_STOP=1",
                "--dbname",
            ])
            .arg(&place.database_url)
            .arg("--file")
            .arg(users.join("postgres.sql"))
            .env("INGEST_PASSWORD", password)
            .env("WORKER_PASSWORD", password);
        let output = tokio::task::spawn_blocking(move || command.output()).await??;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        ensure!(output.status.success() && said.is_empty(), "{said}");
        for (user, statement) in [
            (
                "shop_ingest",
                "insert into holds (order_id, expires_at) values (gen_random_uuid(), now())",
            ),
            ("shop_worker", "drop table orders"),
        ] {
            let mut url = url::Url::parse(&place.database_url)?;
            url.set_username(user)
                .and_then(|()| url.set_password(Some(password)))
                .ok()
                .context("no host")?;
            denied(url.as_str(), statement).await?;
            let mut connection = PgConnection::connect(url.as_str()).await?;
            sqlx::query("select from orders")
                .execute(&mut connection)
                .await?;
        }
    }

    let script = fs::read_to_string(users.join("rabbitmq.sh"))?;
    let printed = Settings::worker(&place)
        .run(&["migrate", "--roles"])
        .await?;
    let printed = String::from_utf8(printed.stdout)?;
    for (user, role) in [
        ("shop_ingest", "hotrow_ingest"),
        ("shop_worker", "hotrow_worker"),
    ] {
        let line = script
            .lines()
            .find(|line| line.starts_with(&format!("user {user} ")))
            .context("no line")?;
        for pattern in hotrow_tests::users::patterns(&printed, role)? {
            assert!(
                line.contains(&format!("'{pattern}'")),
                "{pattern} is not in {line}"
            );
        }
    }
    Ok(())
}
