//! A `chromedriver` of our own, by which tests drive Chromium.

use std::{
    ffi::OsString,
    net::{Ipv4Addr, SocketAddr, TcpStream},
    path::PathBuf,
    time::Duration,
};

use anyhow::Context;
use tokio::sync::OnceCell;

use super::{
    guardian::{self, Duty, Guarded},
    install,
    ports::free_port,
    programs,
};

/// For a connection to this machine.
const CONNECT_MAX: Duration = Duration::from_millis(200);

/// A running `chromedriver`. It ends, with every browser that it has started, when this is dropped or the process
/// gone.
pub struct Chromedriver {
    address: SocketAddr,
    chromium: PathBuf,
    guarded: Guarded,
}

impl Chromedriver {
    /// The one that all tests of this process share, started by the first that asks.
    ///
    /// # Errors
    /// When Chromium or its driver can be neither found nor installed, or the driver does not start; the message says
    /// what to do.
    pub async fn shared() -> anyhow::Result<&'static Self> {
        // Never dropped: the guardian notices the end of the process.
        static SHARED: OnceCell<Chromedriver> = OnceCell::const_new();
        SHARED.get_or_try_init(Self::start).await
    }

    /// One of a test's own.
    ///
    /// # Errors
    /// See [`Chromedriver::shared`].
    pub async fn start() -> anyhow::Result<Self> {
        let wanted = [install::CHROMIUM, install::CHROMEDRIVER, install::FONTS];
        install::ensure_installed(&wanted).await?;
        let chromium = programs::chromium().context("chromium is gone")?;
        let chromedriver = programs::chromedriver().context("chromedriver is gone")?;
        let folder = guardian::folder("chromedriver", None)?;
        let port = free_port()?;
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let duty = Duty {
            name: "chromedriver",
            command: vec![chromedriver.into(), format!("--port={port}").into()],
            // Profiles, sockets and whatever else a browser leaves go with the folder.
            environment: ["HOME", "TMPDIR", "XDG_CONFIG_HOME", "XDG_CACHE_HOME"]
                .map(|name| (name, OsString::from(folder.path())))
                .into(),
            last_signals: "TERM",
            is_ready: Box::new(move |_| TcpStream::connect_timeout(&address, CONNECT_MAX).is_ok()),
        };
        Ok(Self {
            address,
            chromium,
            guarded: Guarded::start(folder, duty).await?,
        })
    }

    /// Ends it as a crash would.
    ///
    /// # Errors
    /// When its guardian is gone.
    pub async fn kill(&self) -> anyhow::Result<()> {
        self.guarded.end("KILL").await
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The browser to start.
    #[must_use]
    pub fn chromium(&self) -> &PathBuf {
        &self.chromium
    }
}
