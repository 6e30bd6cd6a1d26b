//! A PostgreSQL server: the one that `DATABASE_URL` names, or one of our own.

use std::{ffi::OsString, fs, path::Path};

use anyhow::Context;
use nix::unistd::{User, geteuid};
use url::Url;
use uuid::Uuid;

use super::{
    Identity,
    guardian::{self, Duty, Guarded},
    identity::{CERTIFICATE, KEY},
    install,
    ports::free_port,
    programs,
};

/// Makes the data folder at the first start, then becomes the server.
///
/// Durability is left at its defaults (fsync, `synchronous_commit`): what is measured here has to
/// hold elsewhere. No Unix socket, whose path may not be longer than 107 bytes.
const RUN: &str = r#"
programs=$1 folder=$2 port=$3 certificate=$4 key=$5
[ -d "$folder/data" ] || "$programs/initdb" --pgdata="$folder/data" --no-sync --encoding=UTF8 \
    --locale=C --username=hotrow --pwfile="$folder/password" --auth=password || exit
exec "$programs/postgres" -D "$folder/data" -c port="$port" -c listen_addresses=127.0.0.1 \
    -c unix_socket_directories= -c max_connections=400 -c shared_buffers=256MB -c max_wal_size=4GB \
    ${certificate:+-c ssl=on -c ssl_cert_file="$certificate" -c ssl_key_file="$key"}
"#;

/// A PostgreSQL server, ours or somebody's. Ours ends when this is dropped, or the process gone.
#[derive(Clone)]
pub struct Postgres {
    url: Url,
    guarded: Option<Guarded>,
}

impl Postgres {
    /// A server of our own on a free port, with its data in a temporary folder.
    ///
    /// # Errors
    /// When the programs cannot be had or the server does not start; the message has its log.
    pub async fn start() -> anyhow::Result<Self> {
        Self::start_as(None).await
    }

    /// A server of our own that also speaks TLS.
    ///
    /// # Errors
    /// See [`Postgres::start`].
    pub async fn start_with_tls(identity: &Identity) -> anyhow::Result<Self> {
        Self::start_as(Some(identity)).await
    }

    async fn start_as(identity: Option<&Identity>) -> anyhow::Result<Self> {
        install::ensure_installed(&[install::POSTGRES]).await?;
        let programs = programs::postgres().context("initdb and postgres are gone")?;
        let user = server_user()?;
        let folder = guardian::folder("postgres", user.as_ref())?;
        let password = Uuid::new_v4().simple().to_string();
        fs::write(folder.path().join("password"), &password)?;
        let port = free_port()?;

        let mut command = user.as_ref().map_or_else(Vec::new, become_user);
        command.extend(["/bin/sh", "-c", RUN, "postgres"].map(OsString::from));
        command.extend([
            programs.into(),
            folder.path().into(),
            port.to_string().into(),
        ]);
        if let Some(identity) = identity {
            identity.write(folder.path(), user.as_ref())?;
            command.extend([CERTIFICATE, KEY].map(|name| folder.path().join(name).into()));
        }
        let duty = Duty {
            name: "postgres",
            command,
            environment: vec![("HOME", folder.path().into()), ("LC_ALL", "C".into())],
            // The first ends an initdb; the second ends the server at once, clients or not.
            last_signals: "TERM QUIT",
            is_ready: Box::new(is_ready),
        };
        let url = Url::parse(&format!(
            "postgres://hotrow:{password}@127.0.0.1:{port}/postgres"
        ))?;
        Ok(Self {
            url,
            guarded: Some(Guarded::start(folder, duty).await?),
        })
    }

    /// The server at `url`, which somebody else looks after.
    ///
    /// # Errors
    /// When `url` is not one.
    pub fn at(url: &str) -> anyhow::Result<Self> {
        let url = Url::parse(url).context("DATABASE_URL is not a URL")?;
        Ok(Self { url, guarded: None })
    }

    /// The URL of a database on this server.
    #[must_use]
    pub fn url_of(&self, database: &str) -> String {
        let mut url = self.url.clone();
        url.set_path(database);
        url.into()
    }

    /// The URL of the database that exists from the start.
    #[must_use]
    pub fn url(&self) -> &str {
        self.url.as_str()
    }

    /// Returns whether the server is ours, to be stopped and thrown away.
    #[must_use]
    pub fn is_ours(&self) -> bool {
        self.guarded.is_some()
    }

    /// The process id of our server, the parent of all its processes; `None` if it is not ours.
    ///
    /// # Errors
    /// When the server does not run.
    pub fn process_id(&self) -> anyhow::Result<Option<u32>> {
        self.guarded.as_ref().map(Guarded::process_id).transpose()
    }

    /// Stops the server as a failover would: connections are cut, what was committed stays.
    ///
    /// # Errors
    /// When the server is not ours.
    pub async fn stop(&self) -> anyhow::Result<()> {
        // PostgreSQL's "fast" shutdown.
        self.ours()?.end("INT").await
    }

    /// Stops the server as a crash would: it recovers from its log at the next start.
    ///
    /// # Errors
    /// When the server is not ours.
    pub async fn crash(&self) -> anyhow::Result<()> {
        self.ours()?.end("QUIT").await
    }

    /// Starts the stopped server on the same port and data.
    ///
    /// # Errors
    /// When the server is not ours or does not start.
    pub async fn start_again(&self) -> anyhow::Result<()> {
        self.ours()?.start_again().await
    }

    fn ours(&self) -> anyhow::Result<&Guarded> {
        self.guarded
            .as_ref()
            .context("the PostgreSQL at DATABASE_URL is not ours to stop; use Postgres::start")
    }
}

/// PostgreSQL refuses to run as root.
fn server_user() -> anyhow::Result<Option<User>> {
    if !geteuid().is_root() {
        return Ok(None);
    }
    for name in ["postgres", "nobody"] {
        if let Some(user) = User::from_name(name)? {
            return Ok(Some(user));
        }
    }
    anyhow::bail!(
        "PostgreSQL refuses to run as root, and there is neither a user postgres nor a user nobody"
    )
}

/// The words before a command that make it run as `user`; it stays the same process.
fn become_user(user: &User) -> Vec<OsString> {
    let [uid, gid] = [
        format!("--reuid={}", user.uid),
        format!("--regid={}", user.gid),
    ];
    ["setpriv", &uid, &gid, "--clear-groups", "--"]
        .map(OsString::from)
        .into()
}

/// The eighth line of the server's pid file is its state; `pg_ctl --wait` reads it too.
fn is_ready(folder: &Path) -> bool {
    fs::read_to_string(folder.join("data/postmaster.pid")).is_ok_and(|file| {
        file.lines()
            .nth(7)
            .is_some_and(|state| state.trim() == "ready")
    })
}
