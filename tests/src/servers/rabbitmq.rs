//! A RabbitMQ broker: the one that `AMQP_URL` names, or one of our own.

use std::{
    ffi::OsString,
    fs,
    io::{Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpStream},
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use anyhow::{Context, ensure};
use reqwest::{Client, Method, StatusCode};
use serde_json::{Value, json};
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

/// Erlang's port mapper in the foreground, then the broker.
const RUN: &str = r#""$1" & exec "$2""#;

/// RabbitMQ's default; the alarm is raised by lowering it to nothing.
const MEMORY_HIGH_WATERMARK: &str = "0.4";

/// A RabbitMQ broker, ours or somebody's. Ours ends when this is dropped, or the process gone.
#[derive(Clone)]
pub struct RabbitMq {
    url: Url,
    management: Url,
    ours: Option<Ours>,
}

#[derive(Clone)]
struct Ours {
    guarded: Guarded,
    control: PathBuf,
    tls_port: Option<u16>,
    environment: Vec<(&'static str, OsString)>,
}

impl RabbitMq {
    /// A broker of our own on free ports, with its data in a temporary folder.
    ///
    /// It shares nothing with a RabbitMQ that the machine may run: it has its own node name, port
    /// mapper, cookie, configuration and plugins, and listens on 127.0.0.1 only.
    ///
    /// # Errors
    /// When the programs cannot be had or the broker does not start; the message has its log.
    pub async fn start() -> anyhow::Result<Self> {
        Self::start_as(None).await
    }

    /// A broker of our own that also speaks TLS.
    ///
    /// # Errors
    /// See [`RabbitMq::start`].
    pub async fn start_with_tls(identity: &Identity) -> anyhow::Result<Self> {
        Self::start_as(Some(identity)).await
    }

    async fn start_as(identity: Option<&Identity>) -> anyhow::Result<Self> {
        install::ensure_installed(&[install::RABBITMQ]).await?;
        let programs = programs::rabbitmq().context("rabbitmq-server is gone")?;
        let epmd = programs::epmd()
            .context("there is a RabbitMQ, but no epmd on the PATH: install Erlang")?;
        let folder = guardian::folder("rabbitmq", None)?;
        let [amqp, management] = [free_port()?, free_port()?];
        let password = Uuid::new_v4().simple().to_string();
        let mut configured = configuration(amqp, management, &password);
        let tls_port = identity.map(|_| free_port()).transpose()?;
        if let (Some(identity), Some(port)) = (identity, tls_port) {
            identity.write(folder.path(), None)?;
            configured += &tls_configuration(folder.path(), port);
        }
        fs::write(folder.path().join("rabbitmq.conf"), configured)?;
        fs::write(
            folder.path().join("enabled_plugins"),
            "[rabbitmq_management].\n",
        )?;

        let environment = environment(folder.path(), amqp)?;
        let run = ["/bin/sh".into(), "-c".into(), RUN.into(), "rabbitmq".into()];
        let duty = Duty {
            name: "rabbitmq",
            command: run
                .into_iter()
                .chain([epmd.into(), programs.join("rabbitmq-server").into()])
                .collect(),
            environment: environment.clone(),
            last_signals: "KILL",
            is_ready: Box::new(move |_| is_ready(amqp) && connect(management).is_some()),
        };
        Ok(Self {
            url: Url::parse(&format!("amqp://hotrow:{password}@127.0.0.1:{amqp}"))?,
            management: Url::parse(&format!("http://hotrow:{password}@127.0.0.1:{management}"))?,
            ours: Some(Ours {
                guarded: Guarded::start(folder, duty).await?,
                tls_port,
                control: programs.join("rabbitmqctl"),
                environment,
            }),
        })
    }

    /// The broker at `url`, which somebody else looks after. `management` is the base of its HTTP
    /// API; without, it is looked for on port 15672 of the same host, with the same credentials.
    ///
    /// # Errors
    /// When one of the two is not a URL.
    pub fn at(url: &str, management: Option<&str>) -> anyhow::Result<Self> {
        let url = Url::parse(url).context("AMQP_URL is not a URL")?;
        let host = url.host_str().context("AMQP_URL has no host")?;
        let base = management.map_or_else(|| format!("http://{host}:15672"), str::to_owned);
        let mut management = Url::parse(&base).context("RABBITMQ_MANAGEMENT_URL is not a URL")?;
        if management.username().is_empty() {
            let (user, password) = if url.username().is_empty() {
                ("guest", "guest")
            } else {
                (url.username(), url.password().unwrap_or_default())
            };
            // Only URLs without a host refuse credentials.
            let _ = management
                .set_username(user)
                .and_then(|()| management.set_password(Some(password)));
        }
        Ok(Self {
            url,
            management,
            ours: None,
        })
    }

    /// The AMQP URL of a virtual host on this broker.
    #[must_use]
    pub fn url_of(&self, virtual_host: &str) -> String {
        let mut url = self.url.clone();
        url.set_path(virtual_host);
        url.into()
    }

    /// The AMQP URL of a virtual host by TLS, at the host's name `localhost`.
    ///
    /// # Errors
    /// When the broker speaks no TLS.
    pub fn tls_url_of(&self, virtual_host: &str) -> anyhow::Result<Url> {
        let port = self.ours()?.tls_port.context("the broker speaks no TLS")?;
        let text = self.url_of(virtual_host).replacen("amqp:", "amqps:", 1);
        let mut url = Url::parse(&text)?;
        url.set_host(Some("localhost"))?;
        url.set_port(Some(port)).ok().context("no host")?;
        Ok(url)
    }

    /// The base URL of the broker's HTTP API.
    #[must_use]
    pub fn management_url(&self) -> &str {
        self.management.as_str()
    }

    /// Returns whether the broker is ours, to be stopped and thrown away.
    #[must_use]
    pub fn is_ours(&self) -> bool {
        self.ours.is_some()
    }

    /// The process id of our broker, the parent of all its processes; `None` if it is not ours.
    ///
    /// # Errors
    /// When the broker does not run.
    pub fn process_id(&self) -> anyhow::Result<Option<u32>> {
        self.ours
            .as_ref()
            .map(|ours| ours.guarded.process_id())
            .transpose()
    }

    /// Makes a virtual host that our user may do everything in.
    ///
    /// # Errors
    /// When the management API does not answer or refuses.
    pub async fn create_virtual_host(&self, name: &str) -> anyhow::Result<()> {
        self.manage(Method::PUT, &format!("api/vhosts/{name}"), json!({}))
            .await?;
        let everything = json!({"configure": ".*", "write": ".*", "read": ".*"});
        let user = self.management.username();
        self.manage(
            Method::PUT,
            &format!("api/permissions/{name}/{user}"),
            everything,
        )
        .await
    }

    /// Makes a user who may do nothing yet.
    ///
    /// # Errors
    /// When the management API does not answer or refuses.
    pub async fn create_user(&self, name: &str, password: &str) -> anyhow::Result<()> {
        let user = json!({ "password": password, "tags": "" });
        self.manage(Method::PUT, &format!("api/users/{name}"), user)
            .await
    }

    /// Says what a user may configure, write and read in a virtual host, as patterns of names.
    ///
    /// # Errors
    /// When the management API does not answer or refuses.
    pub async fn permit(
        &self,
        virtual_host: &str,
        user: &str,
        [configure, write, read]: [&str; 3],
    ) -> anyhow::Result<()> {
        let permission = json!({ "configure": configure, "write": write, "read": read });
        let path = format!("api/permissions/{virtual_host}/{user}");
        self.manage(Method::PUT, &path, permission).await
    }

    /// Removes a user.
    ///
    /// # Errors
    /// When the management API does not answer or refuses.
    pub async fn delete_user(&self, name: &str) -> anyhow::Result<()> {
        self.manage(Method::DELETE, &format!("api/users/{name}"), json!({}))
            .await
    }

    /// Removes a virtual host with everything in it.
    ///
    /// # Errors
    /// When the management API does not answer or refuses.
    pub async fn delete_virtual_host(&self, name: &str) -> anyhow::Result<()> {
        self.manage(Method::DELETE, &format!("api/vhosts/{name}"), json!({}))
            .await
    }

    /// Stops the broker in good order; what is durable stays.
    ///
    /// # Errors
    /// When the broker is not ours.
    pub async fn stop(&self) -> anyhow::Result<()> {
        self.ours()?.guarded.end("TERM").await
    }

    /// Stops the broker as a crash would.
    ///
    /// # Errors
    /// When the broker is not ours.
    pub async fn crash(&self) -> anyhow::Result<()> {
        self.ours()?.guarded.end("KILL").await
    }

    /// Starts the stopped broker on the same ports and data.
    ///
    /// # Errors
    /// When the broker is not ours or does not start.
    pub async fn start_again(&self) -> anyhow::Result<()> {
        self.ours()?.guarded.start_again().await
    }

    /// Lets the broker run out of memory, as it believes: it blocks its publishers.
    ///
    /// # Errors
    /// When the broker is not ours, or `rabbitmqctl` fails.
    pub async fn raise_memory_alarm(&self) -> anyhow::Result<()> {
        self.control(&["set_vm_memory_high_watermark", "0"])
            .await
            .map(drop)
    }

    /// Ends the alarm: publishers go on.
    ///
    /// # Errors
    /// When the broker is not ours, or `rabbitmqctl` fails.
    pub async fn clear_memory_alarm(&self) -> anyhow::Result<()> {
        self.control(&["set_vm_memory_high_watermark", MEMORY_HIGH_WATERMARK])
            .await
            .map(drop)
    }

    /// Runs `rabbitmqctl` and returns its standard output. Each call boots an Erlang machine, about
    /// a second of a processor.
    ///
    /// # Errors
    /// When the broker is not ours, or `rabbitmqctl` fails.
    pub async fn control(&self, arguments: &[&str]) -> anyhow::Result<String> {
        let ours = self.ours()?;
        let mut control = std::process::Command::new(&ours.control);
        control
            .args(arguments)
            .envs(ours.environment.clone())
            .current_dir("/")
            .stdin(Stdio::null());
        let output = tokio::task::spawn_blocking(move || control.output())
            .await?
            .context("run rabbitmqctl")?;
        ensure!(
            output.status.success(),
            "rabbitmqctl {} failed\n{}",
            arguments.join(" "),
            String::from_utf8_lossy(&output.stderr)
        );
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    fn ours(&self) -> anyhow::Result<&Ours> {
        self.ours
            .as_ref()
            .context("the RabbitMQ at AMQP_URL is not ours to stop; use RabbitMq::start")
    }

    async fn manage(&self, method: Method, path: &str, body: Value) -> anyhow::Result<()> {
        let url = self.management.join(path)?;
        let (host, port) = (
            url.host_str().unwrap_or_default(),
            url.port_or_known_default().unwrap_or_default(),
        );
        let answer = Client::new().request(method, url.clone()).json(&body).send().await.with_context(|| {
            format!(
                "RabbitMQ's management API does not answer at {host}:{port}; tests need it to make virtual hosts: \
                 enable the plugin rabbitmq_management, or set RABBITMQ_MANAGEMENT_URL"
            )
        })?;
        let status = answer.status();
        ensure!(
            status.is_success() || status == StatusCode::NOT_FOUND,
            "RabbitMQ's management API answered {status} to {}: {}",
            url.path(),
            answer.text().await.unwrap_or_default()
        );
        Ok(())
    }
}

fn configuration(amqp: u16, management: u16, password: &str) -> String {
    // The management plugin is only here to make virtual hosts, so it collects no statistics.
    format!(
        "listeners.tcp.1 = 127.0.0.1:{amqp}\n\
         management.tcp.ip = 127.0.0.1\n\
         management.tcp.port = {management}\n\
         management_agent.disable_metrics_collector = true\n\
         default_user = hotrow\n\
         default_pass = {password}\n\
         vm_memory_high_watermark.relative = {MEMORY_HIGH_WATERMARK}\n\
         disk_free_limit.absolute = 50MB\n\
         log.file = false\n\
         log.console = true\n\
         log.console.level = warning\n"
    )
}

fn tls_configuration(folder: &Path, port: u16) -> String {
    let file = |name: &str| folder.join(name).display().to_string();
    let (certificate, key) = (file(CERTIFICATE), file(KEY));
    // A CA is required, and nobody is asked for a certificate.
    format!(
        "listeners.ssl.1 = 127.0.0.1:{port}\n\
         ssl_options.cacertfile = {certificate}\n\
         ssl_options.certfile = {certificate}\n\
         ssl_options.keyfile = {key}\n\
         ssl_options.verify = verify_none\n\
         ssl_options.fail_if_no_peer_cert = false\n"
    )
}

/// What `rabbitmq-server` and `rabbitmqctl` must agree on.
fn environment(folder: &Path, port: u16) -> anyhow::Result<Vec<(&'static str, OsString)>> {
    let inside = |name: &str| folder.join(name).into_os_string();
    let loopback = "-kernel inet_dist_use_interface {127,0,0,1}";
    Ok(vec![
        // Erlang's cookie is in the home folder.
        ("HOME", folder.into()),
        (
            "RABBITMQ_NODENAME",
            format!("hotrow-{port}@localhost").into(),
        ),
        ("RABBITMQ_DIST_PORT", free_port()?.to_string().into()),
        ("ERL_EPMD_PORT", free_port()?.to_string().into()),
        ("ERL_EPMD_ADDRESS", Ipv4Addr::LOCALHOST.to_string().into()),
        ("RABBITMQ_CONF_ENV_FILE", inside("no-rabbitmq-env.conf")),
        ("RABBITMQ_CONFIG_FILE", inside("rabbitmq.conf")),
        (
            "RABBITMQ_ADVANCED_CONFIG_FILE",
            inside("no-advanced.config"),
        ),
        ("RABBITMQ_ENABLED_PLUGINS_FILE", inside("enabled_plugins")),
        ("RABBITMQ_MNESIA_BASE", inside("data")),
        ("RABBITMQ_LOG_BASE", inside("logs")),
        // Several brokers and a system under test share the cores: bind to none of them.
        ("RABBITMQ_SCHEDULER_BIND_TYPE", "u".into()),
        // The start script then becomes the broker, so that signals reach the broker itself.
        ("RABBITMQ_ALLOW_INPUT", "1".into()),
        ("RABBITMQ_SERVER_START_ARGS", "-noinput".into()),
        ("RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS", loopback.into()),
        ("RABBITMQ_CTL_ERL_ARGS", loopback.into()),
    ])
}

/// Returns whether a broker speaks AMQP at `port`: the listener is the last thing that RabbitMQ starts.
fn is_ready(port: u16) -> bool {
    let Some(mut stream) = connect(port) else {
        return false;
    };
    let mut frame_type = [0];
    stream
        .write_all(b"AMQP\x00\x00\x09\x01")
        .and_then(|()| stream.read_exact(&mut frame_type))
        .is_ok()
}

fn connect(port: u16) -> Option<TcpStream> {
    const PATIENCE: Duration = Duration::from_secs(1);
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let stream = TcpStream::connect_timeout(&address, PATIENCE).ok()?;
    stream.set_read_timeout(Some(PATIENCE)).ok()?;
    Some(stream)
}
