//! Claims about secrets: they stand in variables or files, are replaced while the process runs, and are shown nowhere.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, Ordering},
};

use anyhow::Context;
use hotrow_tests::{
    Client, Place, Process, Settings,
    client::{Answer, Product},
    processes::{ADMIN_TOKEN, ORDER_ID_SECRET},
    wait,
};
use nix::sys::signal::Signal;
use tempfile::TempDir;

use super::{CHAIR, SOON, assert_accepted, ingest, place, settings::refused, settled, worker};

const TOKEN: &str = "the-first-token-of-a-file";
const NEXT_TOKEN: &str = "the-token-that-comes-after-it";
const BAD_TOKEN: &str = "a token of several words";
const STRIPE_SECRET: &str = "whsec_of_a_file_and_long_enough";

#[tokio::test]
async fn both_programs_take_every_secret_from_files_and_show_none() -> anyhow::Result<()> {
    let place = place().await?;
    let folder = tempfile::tempdir()?;
    let secrets = [
        ("DATABASE_URL", &*place.database_url),
        ("AMQP_URL", &*place.amqp_url),
        ("ORDER_ID_SECRET", ORDER_ID_SECRET),
        (
            "ORDER_ID_SECRET_PREVIOUS",
            "a-secret-that-was-in-use-before",
        ),
        ("ADMIN_TOKEN", TOKEN),
        ("STRIPE_WEBHOOK_SECRET", STRIPE_SECRET),
    ];
    let in_files = |settings: Settings| -> anyhow::Result<Settings> {
        let settings = settings.set("RUST_LOG", "debug");
        secrets
            .iter()
            .try_fold(settings, |settings, (name, value)| {
                let path = write(&folder, name, &format!("{value}\n"))?;
                Ok(from_file(settings, name, &path))
            })
    };
    let ingest = in_files(ingest(&place))?.start().await?;
    let worker = in_files(worker(&place))?.start().await?;
    let client = client(&ingest, TOKEN)?;
    let chairs = client.put_inventory(CHAIR, Product::chairs(5)).await?;
    chairs.expect_success()?;
    let order = assert_accepted(&client.order("c-1", &[(CHAIR, 1)]).await?);
    assert_eq!(settled(&client, order).await?["status"], "confirmed");
    // Stripe's route is there.
    let unsigned = client.post_bytes("/v1/payments/stripe", "{}").await?;
    assert_eq!(unsigned.status, 400);

    for process in [&ingest, &worker] {
        let command_line = fs::read_to_string(format!("/proc/{}/cmdline", process.id()))?;
        let log = process.log_tail();
        assert!(log.contains("DEBUG"), "{log}");
        for (name, value) in secrets {
            assert!(!command_line.contains(value), "{name}: {command_line}");
            assert!(!log.contains(value), "{name}: {log}");
        }
    }
    Ok(())
}

#[tokio::test]
async fn one_start_names_all_that_is_wrong_with_secrets_and_their_files() -> anyhow::Result<()> {
    let place = Place::new().await?;
    let folder = tempfile::tempdir()?;
    let missing = folder.path().join("missing");
    let empty = write(&folder, "empty", "\n")?;
    let large = write(&folder, "large", &"x".repeat(20_000))?;
    let open = write(&folder, "open", "a secret that everybody can replace")?;
    fs::set_permissions(&open, PermissionsExt::from_mode(0o666))?;
    let wrong = |settings: Settings| {
        let settings = from_file(settings, "DATABASE_URL", &missing);
        let settings = from_file(settings, "AMQP_URL", &empty);
        from_file(settings, "ORDER_ID_SECRET", folder.path())
            .set("ORDER_ID_SECRET_PREVIOUS", "one")
            .set("ORDER_ID_SECRET_PREVIOUS_FILE", "another")
            .set("ADMIN_TOKEN_FIEL", "/run/secrets/admin_token")
            .set("SHUTDOWN_GRACE", "fifteen")
    };
    let of_both = [
        "DATABASE_URL_FILE: the file that it names does not exist",
        "AMQP_URL_FILE: the file that it names is empty",
        "ORDER_ID_SECRET_FILE: what it names is not a regular file",
        "ORDER_ID_SECRET_PREVIOUS and ORDER_ID_SECRET_PREVIOUS_FILE are both set",
        "ADMIN_TOKEN_FIEL is not a setting",
        "SHUTDOWN_GRACE:",
    ];
    let of_ingest = [
        "ADMIN_TOKEN_FILE: the file that it names has more than 16384 bytes",
        "STRIPE_WEBHOOK_SECRET_FILE: everybody on this machine may write to",
    ];
    let ingest = from_file(wrong(ingest(&place)), "ADMIN_TOKEN", &large);
    let ingest = from_file(ingest, "STRIPE_WEBHOOK_SECRET", &open);
    for (settings, own) in [(ingest, &of_ingest[..]), (wrong(worker(&place)), &[])] {
        let message = refused(&settings).await?;
        let named: Vec<_> = of_both.iter().chain(own).collect();
        for part in &named {
            assert!(message.contains(**part), "{part}: {message}");
        }
        let found = format!("{} found", named.len());
        assert!(message.contains(&found), "{message}");
        assert!(!message.contains("everybody can replace"), "{message}");
    }

    // What stands in a file is checked as what stands in the variable is.
    let weak = write(&folder, "weak", "short\n")?;
    let strict = from_file(super::ingest(&place), "ADMIN_TOKEN", &weak).unset("DEVELOPMENT");
    let message = refused(&strict).await?;
    let told = "ADMIN_TOKEN: must be at least 16 characters";
    assert!(message.contains(told), "{message}");
    Ok(())
}

#[tokio::test]
async fn a_sighup_replaces_the_admin_token_while_requests_run() -> anyhow::Result<()> {
    let place = place().await?;
    let folder = tempfile::tempdir()?;
    let path = write(&folder, "token", TOKEN)?;
    let ingest = from_file(ingest(&place), "ADMIN_TOKEN", &path)
        .start()
        .await?;
    let (old, new) = (client(&ingest, TOKEN)?, client(&ingest, NEXT_TOKEN)?);
    put(&old).await?.expect_success()?;
    put(&new).await?.expect(401)?;

    let stop = AtomicBool::new(false);
    let buyers = async {
        let mut sold = 0;
        while !stop.load(Ordering::Relaxed) {
            assert_accepted(&old.order("c-1", &[(CHAIR, 1)]).await?);
            sold += 1;
        }
        anyhow::Ok(sold)
    };
    let administrator = async {
        // A change of the file alone changes nothing.
        write(&folder, "token", NEXT_TOKEN)?;
        put(&new).await?.expect(401)?;
        ingest.signal(Signal::SIGHUP)?;
        // There is no moment in which neither is let in.
        let counts = wait::until("the new token to count", SOON, async || {
            let before = put(&old).await.ok()?.status;
            let after = put(&new).await.ok()?.status;
            assert!(
                before.is_success() || after.is_success(),
                "{before}, {after}"
            );
            after.is_success().then_some(())
        });
        counts.await?;
        put(&old).await?.expect(401)?;
        stop.store(true, Ordering::Relaxed);
        anyhow::Ok(())
    };
    let (sold, ()) = tokio::try_join!(buyers, administrator)?;
    assert!(sold > 0);
    wait::until("the log to tell", SOON, async || {
        ingest.has_logged("a secret was read again").then_some(())
    })
    .await?;
    let log = ingest.log_tail();
    assert!(log.contains("\"changed\":true"), "{log}");
    for token in [TOKEN, NEXT_TOKEN] {
        assert!(!log.contains(token), "{log}");
    }
    Ok(())
}

#[tokio::test]
async fn a_sighup_with_a_bad_file_leaves_the_token_before_in_force() -> anyhow::Result<()> {
    const REFUSED: &str = "the one before stays in force";
    let place = place().await?;
    let folder = tempfile::tempdir()?;
    let path = write(&folder, "token", TOKEN)?;
    let ingest = from_file(ingest(&place), "ADMIN_TOKEN", &path)
        .start()
        .await?;
    let old = client(&ingest, TOKEN)?;
    let bad: [(&str, Spoil); 4] = [
        ("is empty", |path| fs::write(path, "")),
        ("visible ASCII", |path| fs::write(path, BAD_TOKEN)),
        ("everybody on this machine may write", |path| {
            fs::write(path, NEXT_TOKEN)?;
            fs::set_permissions(path, PermissionsExt::from_mode(0o606))
        }),
        ("does not exist", |path| fs::remove_file(path)),
    ];
    for (at, (why, spoil)) in bad.into_iter().enumerate() {
        spoil(&path)?;
        ingest.signal(Signal::SIGHUP)?;
        let told = async || (ingest.log_tail().matches(REFUSED).count() > at).then_some(());
        wait::until(why, SOON, told).await?;
        let log = ingest.log_tail();
        assert_eq!(log.matches(REFUSED).count(), at + 1, "once: {log}");
        assert!(log.contains(why) && log.contains("ERROR"), "{log}");
        put(&old).await?.expect_success()?;
        put(&client(&ingest, NEXT_TOKEN)?).await?.expect(401)?;
    }
    write(&folder, "token", NEXT_TOKEN)?;
    ingest.signal(Signal::SIGHUP)?;
    wait::until("the new token to count", SOON, async || {
        let next = client(&ingest, NEXT_TOKEN).ok()?;
        put(&next).await.ok()?.status.is_success().then_some(())
    })
    .await?;
    put(&old).await?.expect(401)?;
    let log = ingest.log_tail();
    for token in [TOKEN, NEXT_TOKEN, BAD_TOKEN] {
        assert!(!log.contains(token), "{log}");
    }
    Ok(())
}

#[tokio::test]
async fn a_sighup_ends_no_process_and_reads_no_variable_again() -> anyhow::Result<()> {
    let place = place().await?;
    // The database's address is needed at the start only, so its file is not read again.
    let folder = tempfile::tempdir()?;
    let url = write(&folder, "url", &place.database_url)?;
    let ingest = from_file(ingest(&place), "DATABASE_URL", &url)
        .start()
        .await?;
    let worker = from_file(worker(&place), "DATABASE_URL", &url)
        .start()
        .await?;
    let delivers = Settings::webhooks(&place).set("PARTITIONS", super::PARTITIONS.to_string());
    let delivers = delivers.start().await?;
    fs::remove_file(url)?;
    for process in [&ingest, &worker, &delivers] {
        for _ in 0..3 {
            process.signal(Signal::SIGHUP)?;
        }
        wait::until("the log to tell", SOON, async || {
            process
                .has_logged("there is nothing to read again")
                .then_some(())
        })
        .await?;
        assert!(process.is_ready().await);
    }
    let admin = client(&ingest, ADMIN_TOKEN)?;
    put(&admin).await?.expect_success()?;
    let order = assert_accepted(&admin.order("c-1", &[(CHAIR, 1)]).await?);
    assert_eq!(settled(&admin, order).await?["status"], "confirmed");
    Ok(())
}

#[tokio::test]
async fn a_sighup_before_a_process_is_ready_does_not_end_it() -> anyhow::Result<()> {
    let place = place().await?;
    for settings in [ingest(&place), worker(&place)] {
        let mut process = settings.spawn().await?;
        let listens = async || caught_hangups(&process).ok()?.then_some(());
        wait::until("it to listen for SIGHUP", SOON, listens).await?;
        process.signal(Signal::SIGHUP)?;
        process.ready(SOON).await?;
    }
    Ok(())
}

/// Makes a file one that no secret can be read from.
type Spoil = fn(&Path) -> std::io::Result<()>;

/// Whether a process handles SIGHUP, the first bit of what the kernel says that it catches.
fn caught_hangups(process: &Process) -> anyhow::Result<bool> {
    let status = fs::read_to_string(format!("/proc/{}/status", process.id()))?;
    let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:"));
    let caught = u64::from_str_radix(caught.context("no such line")?.trim(), 16)?;
    Ok(caught & 1 != 0)
}

/// Writes a file that nobody but its owner may write.
fn write(folder: &TempDir, name: &str, content: &str) -> anyhow::Result<PathBuf> {
    let path = folder.path().join(name);
    fs::write(&path, content)?;
    fs::set_permissions(&path, PermissionsExt::from_mode(0o600))?;
    Ok(path)
}

/// The same with a secret in a file instead of in its variable.
fn from_file(settings: Settings, name: &str, path: &Path) -> Settings {
    settings
        .unset(name)
        .set(&format!("{name}_FILE"), path.to_string_lossy())
}

fn client(ingest: &Process, token: &str) -> anyhow::Result<Client> {
    Ok(Client::new(ingest.address()?)?.admin(token))
}

/// What an administrator does.
async fn put(client: &Client) -> anyhow::Result<Answer> {
    client.put_inventory(CHAIR, Product::chairs(100_000)).await
}
