//! Installs missing programs with apt-get, where we may; says what to install where we may not.

use std::{
    fs::{self, File},
    io::{self, Write},
    os::unix::fs::PermissionsExt,
    path::Path,
    process::Command,
};

use anyhow::{Context, bail, ensure};
use nix::unistd::geteuid;

use super::programs;

/// Debian asks this script before a package starts its service; 101 means "do not".
const POLICY: &str = "/usr/sbin/policy-rc.d";

/// Sees to it that these programs are there.
///
/// # Errors
/// When programs are missing and cannot be installed; the message says what to do instead.
pub(super) async fn ensure_installed(wanted: &[Package]) -> anyhow::Result<()> {
    let missing = missing(wanted);
    if missing.is_empty() {
        return Ok(());
    }
    tokio::task::spawn_blocking(move || install(&missing)).await?
}

fn install(wanted: &[Package]) -> anyhow::Result<()> {
    ensure!(
        geteuid().is_root() && which::which("apt-get").is_ok(),
        advice(wanted)
    );

    // Several test binaries may come here at once; the first installs, the others find it done.
    let lock = File::create(std::env::temp_dir().join("hotrow-apt.lock"))
        .context("create the lock for apt-get")?;
    lock.lock().context("wait for another apt-get")?;
    let missing = missing(wanted);
    if missing.is_empty() {
        return Ok(());
    }
    let names: Vec<_> = missing.iter().map(|package| package.name).collect();
    // Not `eprintln!`, which a test's harness would keep to itself.
    writeln!(
        io::stderr(),
        "not found on this machine, installing with apt-get: {}",
        names.join(", ")
    )?;
    let _quiet = NoServices::enforce()?;
    apt_get(&["update"])?;
    apt_get(&[&["install", "--no-install-recommends"], &names[..]].concat())?;
    ensure!(self::missing(wanted).is_empty(), advice(wanted));
    Ok(())
}

/// A Debian package and how to tell that it is there.
#[derive(Clone, Copy)]
pub(super) struct Package {
    name: &'static str,
    is_installed: fn() -> bool,
}

/// PostgreSQL, in whatever version the distribution has.
pub(super) const POSTGRES: Package = Package {
    name: "postgresql",
    is_installed: || programs::postgres().is_some(),
};
/// RabbitMQ, in whatever version the distribution has.
pub(super) const RABBITMQ: Package = Package {
    name: "rabbitmq-server",
    is_installed: || programs::rabbitmq().is_some(),
};

/// Python's AMQP client, for the reader in docs/events.md.
pub(super) const PIKA: Package = Package {
    name: "python3-pika",
    is_installed: || Path::new("/usr/lib/python3/dist-packages/pika").exists(),
};

/// The browser in which claims about pages are checked.
pub(super) const CHROMIUM: Package = Package {
    name: "chromium",
    is_installed: || programs::chromium().is_some(),
};
/// What drives it.
pub(super) const CHROMEDRIVER: Package = Package {
    name: "chromium-driver",
    is_installed: || programs::chromedriver().is_some(),
};
/// Without any font, pages have no letters.
pub(super) const FONTS: Package = Package {
    name: "fonts-liberation",
    is_installed: || Path::new("/usr/share/fonts").exists(),
};

/// What there is another way to have.
const IN_CONTAINERS: [&str; 2] = [POSTGRES.name, RABBITMQ.name];

fn missing(wanted: &[Package]) -> Vec<Package> {
    wanted
        .iter()
        .copied()
        .filter(|package| !(package.is_installed)())
        .collect()
}

fn advice(wanted: &[Package]) -> String {
    let names: Vec<_> = missing(wanted).iter().map(|package| package.name).collect();
    let mut advice = format!(
        "not found: {}. Install the programs:\n    \
             sudo apt-get install {}",
        names.join(", "),
        names.join(" "),
    );
    if names.iter().all(|name| IN_CONTAINERS.contains(name)) {
        advice += "\nor use the containers:\n    \
             docker compose -f deploy/compose.yaml up --detach postgres rabbitmq\n    \
             export DATABASE_URL=postgres://hotrow:hotrow@127.0.0.1:5432/hotrow\n    \
             export AMQP_URL=amqp://hotrow:hotrow@127.0.0.1:5672/%2f";
    }
    advice
}

fn apt_get(arguments: &[&str]) -> anyhow::Result<()> {
    let output = Command::new("apt-get")
        .args(["--yes", "--quiet", "--option", "DPkg::Lock::Timeout=300"])
        .args(arguments)
        .env("DEBIAN_FRONTEND", "noninteractive")
        .output()
        .context("run apt-get")?;
    if !output.status.success() {
        bail!(
            "apt-get {} failed:\n{}",
            arguments.join(" "),
            String::from_utf8_lossy(&output.stderr)
        );
    }
    Ok(())
}

/// While this lives, installed packages do not start their services. A policy that the machine
/// already has is left alone.
struct NoServices {
    ours: bool,
}

impl NoServices {
    fn enforce() -> anyhow::Result<Self> {
        if Path::new(POLICY).exists() {
            return Ok(Self { ours: false });
        }
        fs::write(POLICY, "#!/bin/sh\nexit 101\n")
            .and_then(|()| fs::set_permissions(POLICY, fs::Permissions::from_mode(0o755)))?;
        Ok(Self { ours: true })
    }
}

impl Drop for NoServices {
    fn drop(&mut self) {
        if self.ours {
            // Failing to remove it only keeps services from starting by themselves.
            let _ = fs::remove_file(POLICY);
        }
    }
}
