//! Claims about the start: a process that cannot work says why, and everything that is wrong at once.

use std::time::Duration;

use anyhow::Context;
use hotrow_tests::{Mode, Place, Proxy, Settings, processes::migrate, wait};
use lapin::{options::QueueDeclareOptions, types::FieldTable};
use sqlx::Executor;
use tokio::net::TcpListener;
use url::Url;

use super::{PARTITIONS, SOON, ingest, place, worker};

/// Time enough to find out that a server is not there.
const ENDED_WITHIN: Duration = Duration::from_secs(30);

#[tokio::test]
#[expect(clippy::too_many_lines, reason = "it makes every mistake there is")]
async fn one_start_names_all_mistakes() -> anyhow::Result<()> {
    let place = Place::new().await?;
    let wrong = Settings::ingest(&place)
        .unset("DATABASE_URL")
        .set("AMQP_URL", "http://localhost")
        .set("LISTEN_ADDR", "8080")
        .set("METRICS_ADDR", "localhost")
        .set("PARTITIONS", "0")
        .unset("DEVELOPMENT")
        .set("ORDER_ID_SECRET", "too short")
        .set("CORS_ORIGINS", "https://shop.example/cart")
        .set("TRUSTED_PROXIES", "10.0.0.0/8,everybody")
        .set("CONNECTIONS_MAX", "0")
        .set("CONNECTIONS_PER_ADDRESS_MAX", "off")
        .set("CONNECTIONS_MIN", "1")
        .set("RATE_LIMIT_IP", "many")
        .set("RATE_LIMIT_CUSTOMER", "0/s")
        .set("RATE_LIMIT_GLOBAL", "10/day")
        .set("RATE_LIMIT_READS", "1/h burst 1000")
        .set("RATE_LIMIT_CUSTOMERS", "10/s")
        .set("RATE_LIMIT_LOGINS", "seldom")
        .set("QUEUED_ORDERS_MAX", "-1")
        .set("ENVELOPE_ORDERS_MAX", "0")
        .set("LOG_SAMPLE", "-1")
        .set("DATABASE_CONNECTIONS", "1")
        .set("SHUTDOWN_GRACE", "fifteen")
        .set("LOG_FORMAT", "xml")
        .set("ADMIN_TOKEN", "two words")
        .set("ADMIN_TOKEN_PREVIOUS", "less-than-16")
        .set("AUTH_JWKS", "ftp://id.example/keys")
        .set("AUTH_ISSUERS", "https://id.example")
        .set("STRIPE_WEBHOOK_SECRET", "sk_live_which_signs_nothing")
        .set("STRIPE_WEBHOOK_SECRET_PREVIOUS", "whsec_of_the_year_before")
        .set("STRIPE_LIVEMODE", "test");
    let message = refused(&wrong).await?;
    let named = [
        "DATABASE_URL",
        "AMQP_URL",
        "LISTEN_ADDR",
        "METRICS_ADDR",
        "PARTITIONS",
        "ORDER_ID_SECRET",
        "CORS_ORIGINS",
        "TRUSTED_PROXIES",
        "CONNECTIONS_MAX:",
        "CONNECTIONS_PER_ADDRESS_MAX:",
        "CONNECTIONS_MIN is not a setting",
        "RATE_LIMIT_IP",
        "RATE_LIMIT_CUSTOMER:",
        "RATE_LIMIT_GLOBAL",
        "RATE_LIMIT_READS: must let a burst be whole again within 30 days",
        "RATE_LIMIT_CUSTOMERS is not a setting",
        "RATE_LIMIT_LOGINS",
        "QUEUED_ORDERS_MAX",
        "ENVELOPE_ORDERS_MAX",
        "LOG_SAMPLE",
        "DATABASE_CONNECTIONS",
        "SHUTDOWN_GRACE",
        "LOG_FORMAT",
        "ADMIN_TOKEN:",
        "ADMIN_TOKEN_PREVIOUS:",
        "AUTH_JWKS:",
        "AUTH_ISSUERS is not a setting",
        "STRIPE_WEBHOOK_SECRET_PREVIOUS is not a setting",
        "STRIPE_WEBHOOK_SECRET:",
        "STRIPE_LIVEMODE",
    ];
    for name in named {
        assert!(message.contains(name), "{name}: {message}");
    }
    assert!(
        message.contains(&format!("{} found", named.len())),
        "{message}"
    );
    for secret in [
        "too short",
        "two words",
        "less-than-16",
        "ftp://",
        "http://localhost",
        "sk_live",
        "whsec_of",
    ] {
        assert!(!message.contains(secret), "{message}");
    }

    let too_many = Settings::ingest(&place)
        .set("CONNECTIONS_MAX", "900")
        .descriptors("-n 1000");
    let message = refused(&too_many).await?;
    let why = "CONNECTIONS_MAX: 900 client connections need 1020 file descriptors, and this process may have 1000";
    assert!(
        message.contains(why) && message.contains("LimitNOFILE"),
        "{message}"
    );

    let contradictory = Settings::ingest(&place)
        .set("LISTEN_ADDR", "127.0.0.1:9464")
        .set("METRICS_ADDR", "127.0.0.1:9464")
        .set(
            "ORDER_ID_SECRET_PREVIOUS",
            hotrow_tests::processes::ORDER_ID_SECRET,
        );
    let message = refused(&contradictory).await?;
    for name in [
        "METRICS_ADDR: must differ",
        "ORDER_ID_SECRET_PREVIOUS: must differ",
    ] {
        assert!(message.contains(name), "{message}");
    }
    Ok(())
}

#[tokio::test]
async fn both_processes_refuse_an_older_schema_and_say_what_to_do() -> anyhow::Result<()> {
    let place = Place::new().await?;
    for settings in [ingest(&place), worker(&place)] {
        let message = refused(&settings).await?;
        assert!(message.contains("version 0"), "{message}");
        assert!(message.contains("hotrow-worker migrate"), "{message}");
    }
    migrate(&place).await?;
    let mut database = place.database().await?;
    let newest =
        "delete from _sqlx_migrations where version = (select max(version) from _sqlx_migrations)";
    database.execute(newest).await?;
    for settings in [ingest(&place), worker(&place)] {
        let message = refused(&settings).await?;
        assert!(message.contains("hotrow-worker migrate"), "{message}");
    }
    Ok(())
}

#[tokio::test]
async fn another_number_of_partitions_than_the_brokers_is_refused() -> anyhow::Result<()> {
    let place = place().await?;
    drop(ingest(&place).start().await?);
    for other in [PARTITIONS - 1, PARTITIONS + 1] {
        for settings in [ingest(&place), worker(&place)] {
            let message = refused(&settings.set("PARTITIONS", other.to_string())).await?;
            assert!(
                message.contains(&format!("PARTITIONS is {other}")),
                "{message}"
            );
        }
    }
    ingest(&place).start().await?;
    Ok(())
}

#[tokio::test]
async fn a_server_out_of_reach_at_the_start_is_named() -> anyhow::Result<()> {
    let place = place().await?;
    let gone = Proxy::in_front_of(&place.amqp_url).await?;
    gone.set(Mode::Refuse).await?;
    let (no_database, no_broker) = (gone.url(&place.database_url)?, gone.url(&place.amqp_url)?);
    let starts = async |setting: &'static str, url: String, named: &'static str| {
        for settings in [ingest(&place), worker(&place)] {
            let message = refused(&settings.set(setting, &*url)).await?;
            assert!(message.contains(named), "{message}");
            assert!(!message.contains("panicked"), "{message}");
        }
        anyhow::Ok(())
    };
    tokio::try_join!(
        starts("DATABASE_URL", no_database, "DATABASE_URL: 127.0.0.1:"),
        starts(
            "AMQP_URL",
            no_broker,
            "AMQP_URL: no connection to 127.0.0.1:"
        ),
    )?;
    Ok(())
}

#[tokio::test]
async fn what_is_wrong_with_a_server_is_said_in_one_sentence_without_its_password()
-> anyhow::Result<()> {
    const PASSWORD: &str = "a-password-that-is-wrong";
    let place = place().await?;
    let (database, amqp) = (&place.database_url, &place.amqp_url);
    let (of_database, of_broker) = (port(database)?, port(amqp)?);
    // The setting, its value, and what is said.
    let mistakes = [
        (
            "DATABASE_URL",
            change(database, |url| url.set_password(Some(PASSWORD)))?,
            "or the password",
        ),
        (
            "DATABASE_URL",
            Url::parse(database)?.join("/nowhere")?.into(),
            "there is no database \"nowhere\"",
        ),
        (
            "DATABASE_URL",
            change(database, |url| url.set_port(Some(of_broker)))?,
            "PostgreSQL",
        ),
        (
            "DATABASE_URL",
            change(database, |url| {
                url.set_host(Some("nowhere.invalid")).map_err(drop)
            })?,
            "cannot be resolved",
        ),
        ("DATABASE_URL", format!("{database}?sslmode=require"), "TLS"),
        (
            "AMQP_URL",
            change(amqp, |url| url.set_password(Some(PASSWORD)))?,
            "or the password",
        ),
        (
            "AMQP_URL",
            Url::parse(amqp)?.join("/nowhere")?.into(),
            "virtual host \"nowhere\"",
        ),
        (
            "AMQP_URL",
            change(amqp, |url| url.set_port(Some(of_database)))?,
            "AMQP",
        ),
        (
            "AMQP_URL",
            change(amqp, |url| {
                url.set_host(Some("nowhere.invalid")).map_err(drop)
            })?,
            "cannot be resolved",
        ),
        ("AMQP_URL", amqp.replace("amqp://", "amqps://"), "TLS"),
    ];
    for (setting, value, said) in mistakes {
        let message = refused(&ingest(&place).set(setting, &*value)).await?;
        let url = Url::parse(&value)?;
        let server = format!("{}:{}", url.host_str().unwrap_or_default(), port(&value)?);
        let line = message
            .lines()
            .find(|line| line.starts_with("error: "))
            .unwrap_or_default();
        for part in [setting, &server, said] {
            assert!(line.contains(part), "{part}: {message}");
        }
        for part in [
            PASSWORD,
            "Os {",
            "Error",
            "(os error",
            "panicked",
            "io loop",
        ] {
            assert!(!line.contains(part), "{part}: {line}");
        }
        // A server on another machine in plain text has a warning of its own.
        let about_it = message.lines().filter(|line| !line.contains("without TLS"));
        let named = about_it.filter(|line| line.contains(&server)).count();
        assert_eq!(named, 1, "once: {message}");
    }
    Ok(())
}

#[tokio::test]
async fn urls_that_do_not_mean_what_they_look_like_get_their_own_words() -> anyhow::Result<()> {
    let place = place().await?;
    let mistakes = [
        (
            "AMQP_URL",
            "amqp://hotrow:hotrow@localhost:5672/",
            "written /%2f",
        ),
        (
            "AMQP_URL",
            "amqp://hotrow:hotrow@localhost:5672//",
            "written /%2f",
        ),
        (
            "AMQP_URL",
            "amqp://hotrow:se/cret@localhost:5672/%2f",
            "/ as %2f",
        ),
        (
            "AMQP_URL",
            "amqp://hotrow:se@cret@localhost:5672/%2f",
            "@ as %40",
        ),
        (
            "AMQP_URL",
            "http://localhost:15672",
            "must begin with amqp://",
        ),
        (
            "DATABASE_URL",
            "postgres://hotrow:se#cret@localhost/hotrow",
            "# as %23",
        ),
        (
            "DATABASE_URL",
            "postgres://hotrow:100%@localhost/hotrow",
            "% as %25",
        ),
        (
            "DATABASE_URL",
            "mysql://localhost/hotrow",
            "must begin with postgres://",
        ),
    ];
    for (setting, value, said) in mistakes {
        for settings in [ingest(&place), worker(&place)] {
            let message = refused(&settings.set(setting, value)).await?;
            assert!(
                message.contains(&format!("{setting}: ")),
                "{value}: {message}"
            );
            assert!(message.contains(said), "{value}: {message}");
            assert!(!message.contains("cret"), "{value}: {message}");
        }
    }
    Ok(())
}

#[tokio::test]
async fn published_and_short_secrets_are_for_development_only() -> anyhow::Result<()> {
    let place = place().await?;
    let example = include_str!("../../../.env.example");
    let published = |name: &str| {
        let line = example.lines().find_map(|line| line.strip_prefix(name));
        line.and_then(|value| value.strip_prefix('='))
            .map(str::to_owned)
    };
    let names = ["ORDER_ID_SECRET", "ADMIN_TOKEN"];
    for name in names {
        let secret = published(name).with_context(|| format!("no {name} in .env.example"))?;
        let settings = ingest(&place).set(name, secret.as_str());
        let message = refused(&settings.clone().unset("DEVELOPMENT")).await?;
        assert!(message.contains(&format!("{name}: ")), "{message}");
        assert!(message.contains("published"), "{message}");
        assert!(!message.contains(&secret), "{message}");
        let process = settings.start().await?;
        assert!(
            process.has_logged("DEVELOPMENT=true"),
            "{}",
            process.log_tail()
        );
    }
    let weak = names
        .into_iter()
        .fold(ingest(&place), |settings, name| settings.set(name, "x"));
    let message = refused(&weak.clone().unset("DEVELOPMENT")).await?;
    for name in names {
        let told = format!("{name}: must be at least 16 characters");
        assert!(message.contains(&told), "{message}");
    }
    weak.start().await?;
    let sound = ingest(&place).unset("DEVELOPMENT").start().await?;
    assert!(!sound.has_logged("DEVELOPMENT"), "{}", sound.log_tail());
    Ok(())
}

#[tokio::test]
async fn a_queue_or_exchange_of_another_kind_is_named_with_what_to_do() -> anyhow::Result<()> {
    let place = place().await?;
    let channel = place.broker().await?.create_channel().await?;
    let queue = hotrow_shared::topology::queue(1);
    let durable = QueueDeclareOptions::durable();
    channel
        .queue_declare(queue.as_str().into(), durable, FieldTable::default())
        .await?;
    for settings in [ingest(&place), worker(&place)] {
        let message = refused(&settings).await?;
        for part in [&queue, "delete it", "PRECONDITION_FAILED"] {
            assert!(message.contains(part), "{message}");
        }
    }
    Ok(())
}

/// A URL that is changed in one way.
fn change(url: &str, change: impl FnOnce(&mut Url) -> Result<(), ()>) -> anyhow::Result<String> {
    let mut url = Url::parse(url)?;
    change(&mut url).ok().context("cannot be changed so")?;
    Ok(url.into())
}

fn port(url: &str) -> anyhow::Result<u16> {
    Url::parse(url)?.port().context("no port")
}

#[tokio::test]
async fn an_address_in_use_is_named_with_its_setting() -> anyhow::Result<()> {
    let place = place().await?;
    let taken = TcpListener::bind("127.0.0.1:0").await?;
    let address = taken.local_addr()?.to_string();
    for setting in ["LISTEN_ADDR", "METRICS_ADDR"] {
        let message = refused(&ingest(&place).set(setting, &*address)).await?;
        assert!(
            message.contains(setting) && message.contains(&address),
            "{message}"
        );
        assert!(message.to_lowercase().contains("in use"), "{message}");
    }
    Ok(())
}

/// What is told in files or variables alone.
const SECRET_OF_BOTH: [&str; 4] = [
    "DATABASE_URL",
    "AMQP_URL",
    "ORDER_ID_SECRET",
    "ORDER_ID_SECRET_PREVIOUS",
];

const SECRET_OF_INGEST: [&str; 4] = [
    "ADMIN_TOKEN",
    "ADMIN_TOKEN_PREVIOUS",
    "AUTH_SECRET",
    "STRIPE_WEBHOOK_SECRET",
];

const SECRET_OF_WORKER: [&str; 1] = ["OWNER_DATABASE_URL"];

#[tokio::test]
async fn help_lists_every_setting_with_its_default() -> anyhow::Result<()> {
    let place = Place::new().await?;
    let both = [
        ("PARTITIONS", "16"),
        ("DATABASE_CONNECTIONS", "20"),
        ("SHUTDOWN_GRACE", "15s"),
        ("LOG_FORMAT", "json"),
        ("DEVELOPMENT", "false"),
    ];
    let ingest = [
        ("LISTEN_ADDR", "127.0.0.1:8080"),
        ("METRICS_ADDR", "127.0.0.1:9464"),
        ("STRIPE_LIVEMODE", "true"),
        ("CORS_ORIGINS", ""),
        ("TRUSTED_PROXIES", ""),
        ("CONNECTIONS_MAX", ""),
        ("CONNECTIONS_PER_ADDRESS_MAX", "5000"),
        ("RATE_LIMIT_IP", "100/s burst 200"),
        ("RATE_LIMIT_CUSTOMER", "10/s burst 20"),
        ("RATE_LIMIT_GLOBAL", "100000/s burst 200000"),
        ("RATE_LIMIT_READS", "1000/s burst 5000"),
        ("QUEUED_ORDERS_MAX", "1000000"),
        ("ENVELOPE_ORDERS_MAX", "512"),
        ("LOG_SAMPLE", "100"),
    ];
    let worker = [
        ("METRICS_ADDR", "127.0.0.1:9465"),
        ("BATCH_ORDERS_MAX", "4000"),
        ("BATCH_WAIT", "0ms"),
        ("RETENTION_DAYS", "30"),
        ("AUDIT_RETENTION_DAYS", "365"),
        ("REQUIRE_SEALED", "false"),
    ];
    // Nothing is set, so that what is shown is the default.
    let all = |settings: Settings| {
        [
            "DATABASE_URL",
            "AMQP_URL",
            "METRICS_ADDR",
            "ORDER_ID_SECRET",
            "LISTEN_ADDR",
            "ADMIN_TOKEN",
            "DEVELOPMENT",
        ]
        .into_iter()
        .fold(settings, Settings::unset)
    };
    let processes = [
        (
            all(Settings::ingest(&place)),
            &ingest[..],
            &SECRET_OF_INGEST[..],
        ),
        (
            all(Settings::worker(&place)),
            &worker[..],
            &SECRET_OF_WORKER[..],
        ),
    ];
    for (settings, own, own_secrets) in processes {
        let output = settings.run(&["--help"]).await?;
        assert!(output.status.success());
        let help = String::from_utf8(output.stdout)?;
        assert!(help.contains("RUST_LOG"), "{help}");
        let flag = |variable: &str| format!("--{} ", variable.to_lowercase().replace('_', "-"));
        for secret in SECRET_OF_BOTH.iter().chain(own_secrets) {
            let variables = format!("[env: {secret} or {secret}_FILE]");
            assert!(help.contains(&variables), "{secret}: {help}");
            // Everybody on the machine could read it there.
            assert!(!help.contains(&flag(secret)), "{secret}: {help}");
        }
        for (variable, default) in both.iter().chain(own) {
            let flag = flag(variable);
            let start = help.find(&flag);
            let start = start.unwrap_or_else(|| panic!("no {flag}in {help}"));
            let entry = help[start + 2..]
                .split("\n      --")
                .next()
                .unwrap_or_default();
            let variables = [format!("[env: {variable}="), format!("[env: {variable}]")];
            assert!(
                variables.iter().any(|variable| entry.contains(variable)),
                "{variable}: {entry}"
            );
            if !default.is_empty() {
                assert!(
                    entry.contains(&format!("[default: {default}]"))
                        || entry.contains(&format!("[default: \"{default}\"]")),
                    "{variable}: {entry}"
                );
            }
        }
    }
    Ok(())
}

/// Starts a process that must not run, and gives what it says.
pub(super) async fn refused(settings: &Settings) -> anyhow::Result<String> {
    let mut process = settings.spawn().await?;
    let ended = process.ended(ENDED_WITHIN).await?;
    // What it wrote last may still be on its way.
    let told = async || process.has_logged("error: ").then_some(());
    wait::until("its last words", SOON, told).await?;
    let message = process.log_tail();
    assert_eq!(ended.code(), Some(1), "{message}");
    Ok(message)
}
