//! The addresses of the two servers: what `DATABASE_URL` and `AMQP_URL` may say, and what is told to
//! a person whose URL does not mean what it looks like.
//!
//! The libraries that take these URLs apart are generous: a password with a `/` in it becomes a host
//! and a port, a foreign scheme is taken for a known one. So the text is looked at before.

use std::{fmt, fs, path::PathBuf, str::FromStr};

use lapin::uri::{AMQPScheme, AMQPUri};
use sqlx::postgres::{PgConnectOptions, PgSslMode};
use url::{Host, Url};

use crate::tls;

/// The most nodes of one broker: far more than a cluster that agrees on every message has.
const NODES_MAX: usize = 16;

const ESCAPES: &str = "user or password has a character that means something else in a URL: write @ as %40, : as %3a, \
     / as %2f, ? as %3f, # as %23, % as %25 and a comma as %2c";

/// The parameter of `AMQP_URL` that names the certificate of a CA, as RabbitMQ's own clients call it. (RabbitMQ, "URI
/// Query Parameters".)
pub(crate) const AMQP_CA: &str = "cacertfile";
/// The parameters of `DATABASE_URL` that name it, as libpq calls the first.
pub(crate) const DATABASE_CA: [&str; 3] = ["sslrootcert", "ssl-root-cert", "ssl-ca"];

/// How every certificate begins in a PEM file.
const PEM_CERTIFICATE: &str = "-----BEGIN CERTIFICATE-----";

/// Where RabbitMQ is: one address, or those of the nodes of one cluster. Never empty.
#[derive(Clone)]
pub struct Brokers(Vec<Node>);

/// One node of a broker.
#[derive(Clone)]
pub struct Node {
    /// Its address.
    pub uri: AMQPUri,
    /// The certificates of CAs that are trusted besides those of the system. Read at each connect, so that they can be
    /// changed.
    pub(crate) ca: Option<PathBuf>,
}

impl Brokers {
    /// The same with larger or smaller frames, in bytes, where `AMQP_URL` does not say how large they are.
    #[must_use]
    pub fn with_frames_of(mut self, bytes_max: u32) -> Self {
        for node in &mut self.0 {
            node.uri.query.frame_max.get_or_insert(bytes_max);
        }
        self
    }

    /// The nodes, in the order in which they were given.
    #[must_use]
    pub fn nodes(&self) -> &[Node] {
        &self.0
    }

    /// The first node on another machine to which nothing is encrypted.
    pub(crate) fn plain(&self) -> Option<&Node> {
        self.0.iter().find(|node| {
            node.uri.scheme == AMQPScheme::AMQP && tls::is_remote(&node.uri.authority.host)
        })
    }
}

impl FromStr for Brokers {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.contains(',') && !text.split(',').all(|one| one.contains("://")) {
            return Err(
                "a comma separates addresses, each with its amqp://: write one in a password as %2c".into(),
            );
        }
        let nodes: Vec<_> = text
            .split(',')
            .map(|one| broker(one.trim()))
            .collect::<Result<_, _>>()?;
        if nodes.len() > NODES_MAX {
            return Err(format!("names more than {NODES_MAX} addresses"));
        }
        if nodes
            .iter()
            .any(|node| node.uri.vhost != nodes[0].uri.vhost)
        {
            return Err(
                "all addresses must name the same virtual host: they are the nodes of one cluster"
                    .into(),
            );
        }
        Ok(Self(nodes))
    }
}

/// Where PostgreSQL is.
#[derive(Clone)]
pub struct DatabaseUrl(pub PgConnectOptions);

impl FromStr for DatabaseUrl {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        const FORM: &str = "postgres://user:password@host:5432/database";
        let parts = Parts::of(text, &["postgres", "postgresql"], FORM)?;
        if parts.path.trim_start_matches('/').contains('/') {
            return Err(format!(
                "the name of the database has a / in it: it must look like {FORM}"
            ));
        }
        let url = Url::parse(text).map_err(|error| unreadable(error, FORM))?;
        // Nothing of what it says may be repeated: it could be a part of a password.
        let options: PgConnectOptions = text.parse().map_err(|_| {
            format!("cannot be read: it must look like {FORM}, with the parameters that PostgreSQL knows")
        })?;
        for name in DATABASE_CA {
            if ca_file(&url, name)?.is_some() && !is_verified(&options) {
                return Err(format!(
                    "{name} counts only with sslmode=verify-full or sslmode=verify-ca: otherwise any certificate is taken"
                ));
            }
        }
        Ok(Self(options))
    }
}

fn is_verified(options: &PgConnectOptions) -> bool {
    matches!(
        options.get_ssl_mode(),
        PgSslMode::VerifyCa | PgSslMode::VerifyFull
    )
}

/// The file of certificates that a parameter names, which has to be there.
fn ca_file(url: &Url, name: &str) -> Result<Option<PathBuf>, String> {
    let Some((_, path)) = url.query_pairs().find(|(key, _)| key == name) else {
        return Ok(None);
    };
    let path = PathBuf::from(path.into_owned());
    match fs::read_to_string(&path) {
        Ok(text) if text.contains(PEM_CERTIFICATE) => Ok(Some(path)),
        Ok(_) => Err(format!(
            "the file of {name} has no certificate in it: it must be in PEM format, with a line {PEM_CERTIFICATE}"
        )),
        Err(error) => Err(format!("the file of {name} cannot be read: {error}")),
    }
}

fn broker(text: &str) -> Result<Node, String> {
    const FORM: &str = "amqp://user:password@host:5672/virtual-host";
    let parts = Parts::of(text, &["amqp", "amqps"], FORM)?;
    match parts.path {
        "/" => {
            return Err(
                "names a virtual host without a name: the default virtual host is written /%2f at the end".into(),
            );
        }
        path if path.get(1..).is_some_and(|name| name.contains('/')) => {
            return Err("the virtual host has a / in it: write it as %2f; the default virtual host is written /%2f at the end".into());
        }
        _ => {}
    }
    let url = Url::parse(text).map_err(|error| unreadable(error, FORM))?;
    let mut uri: AMQPUri = text.parse().map_err(|_| {
        format!(
            "cannot be read: it must look like {FORM}, with numbers for heartbeat and frame_max"
        )
    })?;
    // The parser takes an IPv6 address for none at all.
    if let Some(Host::Ipv6(address)) = url.host() {
        uri.authority.host = address.to_string();
    }
    let ca = ca_file(&url, AMQP_CA)?;
    if ca.is_some() && uri.scheme == AMQPScheme::AMQP {
        return Err(format!("{AMQP_CA} counts only with amqps://"));
    }
    Ok(Node { uri, ca })
}

fn unreadable(error: url::ParseError, form: &str) -> String {
    let what = match error {
        url::ParseError::InvalidPort => "the port is not a number from 1 to 65535",
        url::ParseError::EmptyHost => "the host is missing",
        _ => "the host cannot be read",
    };
    format!("{what}: it must look like {form}")
}

/// A URL as far as its text shows what its writer meant.
struct Parts<'a> {
    path: &'a str,
}

impl<'a> Parts<'a> {
    fn of(text: &'a str, schemes: &[&str], form: &str) -> Result<Self, String> {
        let Some((scheme, rest)) = text.split_once("://") else {
            return Err(format!("must be a URL such as {form}"));
        };
        if !schemes.contains(&scheme.to_ascii_lowercase().as_str()) {
            let known = schemes.join(":// or ");
            return Err(format!("must begin with {known}://, such as {form}"));
        }
        let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        let (authority, after) = rest.split_at(end);
        let path = after.split(['?', '#']).next().unwrap_or_default();
        match authority.rsplit_once('@') {
            Some((credentials, _)) if !escaped(credentials) => return Err(ESCAPES.into()),
            // An @ that comes too late belongs behind a password that ended too early.
            None if path.contains('@') || (after.contains('@') && !is_authority(authority)) => {
                return Err(ESCAPES.into());
            }
            _ => {}
        }
        Ok(Self { path })
    }
}

/// Whether user and password are written as a URL wants them.
fn escaped(credentials: &str) -> bool {
    let digits = |bytes: &[u8]| bytes.len() == 2 && bytes.iter().all(u8::is_ascii_hexdigit);
    let bytes = credentials.as_bytes();
    credentials.matches(':').count() <= 1
        && !credentials.contains('@')
        && (0..bytes.len())
            .filter(|&at| bytes[at] == b'%')
            .all(|at| bytes.get(at + 1..at + 3).is_some_and(digits))
}

/// Whether this can be a host with its port, if it has one.
fn is_authority(text: &str) -> bool {
    let port = text.rsplit_once(']').map_or(text, |(_, port)| port);
    port.rsplit_once(':')
        .is_none_or(|(_, port)| port.parse::<u16>().is_ok())
}

/// Host and port, for a message to a person.
impl fmt::Display for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let authority = &self.uri.authority;
        write!(f, "{}:{}", authority.host, authority.port)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused<T: FromStr<Err = String>>(text: &str) -> String {
        text.parse::<T>()
            .err()
            .unwrap_or_else(|| panic!("{text} is taken"))
    }

    #[test]
    fn what_is_meant_well_is_taken() {
        for text in [
            "amqp://localhost",
            "amqp://guest:guest@localhost:5672/%2f",
            "amqps://u:p%40%2F%25@broker.example/shop?heartbeat=5",
            "amqp://u:p@[::1]:5672/shop, amqp://u:p@10.0.0.2/shop",
        ] {
            assert!(text.parse::<Brokers>().is_ok(), "{text}");
        }
        for text in [
            "postgres://u:p@localhost:5432/shop",
            "postgresql://localhost/shop?sslmode=require",
            "postgres:///shop?host=/var/run/postgresql&user=a%40b",
            "postgres://u@%2Fvar%2Frun%2Fpostgresql/shop",
        ] {
            assert!(text.parse::<DatabaseUrl>().is_ok(), "{text}");
        }
        let brokers: Brokers = "amqp://[::1]/a".parse().expect("a broker");
        assert_eq!(brokers.nodes()[0].to_string(), "::1:5672");
    }

    #[test]
    fn the_certificate_of_a_ca_has_to_be_there_and_to_count() {
        let folder = std::env::temp_dir();
        let file = |name: &str, text: &str| {
            let path = folder.join(format!("hotrow-{name}-{}", std::process::id()));
            fs::write(&path, text).expect("a file");
            path
        };
        let good = file("ca", &format!("{PEM_CERTIFICATE}\nMII\n"));
        let other = file("no-ca", "not a certificate");
        let (path, no_ca) = (good.display(), other.display());
        let amqps = format!("amqps://host/a?cacertfile={path}");
        let brokers: Brokers = amqps.parse().expect("a broker");
        assert_eq!(brokers.nodes()[0].ca.as_ref(), Some(&good));
        let verified = format!("postgres://host/a?sslmode=verify-full&sslrootcert={path}");
        assert!(verified.parse::<DatabaseUrl>().is_ok());
        for (text, said) in [
            (
                format!("amqp://host/a?cacertfile={path}"),
                "only with amqps://",
            ),
            (
                format!("amqps://host/a?cacertfile={no_ca}"),
                "no certificate in it",
            ),
            (
                "amqps://host/a?cacertfile=/nowhere".to_owned(),
                "cannot be read",
            ),
        ] {
            let told = refused::<Brokers>(&text);
            assert!(told.contains(said), "{text}: {told}");
            assert!(!told.contains("nowhere"), "{told}");
        }
        for (parameters, said) in [
            (
                format!("sslrootcert={path}"),
                "only with sslmode=verify-full",
            ),
            (
                format!("sslmode=require&sslrootcert={path}"),
                "only with sslmode=verify-full",
            ),
            (
                format!("sslmode=verify-ca&sslrootcert={no_ca}"),
                "no certificate in it",
            ),
            (
                "sslmode=verify-full&sslrootcert=/nowhere".to_owned(),
                "cannot be read",
            ),
        ] {
            let told = refused::<DatabaseUrl>(&format!("postgres://host/a?{parameters}"));
            assert!(told.contains(said), "{parameters}: {told}");
        }
        for path in [good, other] {
            fs::remove_file(path).expect("the file");
        }
    }

    #[test]
    fn an_unescaped_password_gets_its_own_words() {
        for password in [
            "p@ss", "p:ss", "p/ss", "12/ss", "p#ss", "p?ss", "p%ss", "100%", "/", "#",
        ] {
            for text in [
                format!("amqp://user:{password}@host:5672/shop"),
                format!("postgres://user:{password}@host:5432/shop"),
            ] {
                let told = if text.starts_with("amqp") {
                    refused::<Brokers>(&text)
                } else {
                    refused::<DatabaseUrl>(&text)
                };
                assert!(told.contains("%40"), "{text}: {told}");
            }
        }
    }

    #[test]
    fn virtual_hosts_and_schemes_get_their_own_words() {
        for text in ["amqp://host/", "amqp://u:p@host:5672//", "amqp://host/a/b"] {
            assert!(refused::<Brokers>(text).contains("%2f"), "{text}");
        }
        for text in ["http://host:15672", "postgres://host/a", "redis://host"] {
            let told = refused::<Brokers>(text);
            assert!(told.contains("amqp:// or amqps://"), "{text}: {told}");
        }
        for text in ["mysql://host/a", "amqp://host", "jdbc:postgresql://host/a"] {
            let told = refused::<DatabaseUrl>(text);
            assert!(
                told.contains("postgres:// or postgresql://"),
                "{text}: {told}"
            );
        }
        for text in ["host:5672", "amqp//host"] {
            assert!(refused::<Brokers>(text).contains("must be a URL"), "{text}");
        }
        for text in ["amqp://host:port/a", "amqp://host:99999/a"] {
            assert!(refused::<Brokers>(text).contains("port"), "{text}");
        }
        let two = "amqp://a/shop,amqp://b/other";
        assert!(refused::<Brokers>(two).contains("same virtual host"));
        assert!(refused::<Brokers>("amqp://u:a,b@host/shop").contains("%2c"));
        assert!(refused::<DatabaseUrl>("postgres://host/a/b").contains("database"));
    }
}
