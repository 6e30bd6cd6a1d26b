//! TLS to the servers: what a handshake that fails means for a person, and which connections are not protected.

use std::net::IpAddr;

use sqlx::postgres::{PgConnectOptions, PgSslMode};

/// What is wrong with a server's certificate, in words that say what to do. `parameter` is the one of the URL that
/// names the CA. None if the text is about something else.
pub(crate) fn reason(told: &str, host: &str, parameter: &str) -> Option<String> {
    let why = if told.contains("UnknownIssuer") {
        format!(
            "its certificate is signed by nobody who is trusted here: give the certificate of its CA in the URL, as \
             ?{parameter}=/path/to/ca.pem, or add it to those of the system"
        )
    } else if told.contains("not valid for name") || told.contains("NotValidForName") {
        format!(
            "its certificate is not for {host}: write the host in the URL as the certificate names it ({told})"
        )
    } else if told.contains("expired") || told.contains("Expired") {
        "its certificate has expired".to_owned()
    } else if told.contains("peer certificate") || told.contains("HandshakeFailure") {
        told.to_owned()
    } else {
        return None;
    };
    Some(format!("TLS: {why}"))
}

/// Whether what is said to this host can be read on the way: it is another machine's, and the URL does not insist on
/// TLS.
#[must_use]
pub(crate) fn is_plain(database: &PgConnectOptions) -> bool {
    let may_be_plain = matches!(
        database.get_ssl_mode(),
        PgSslMode::Disable | PgSslMode::Allow | PgSslMode::Prefer
    );
    may_be_plain && database.get_socket().is_none() && is_remote(database.get_host())
}

/// Whether a host is another machine, as far as its name tells.
#[must_use]
pub(crate) fn is_remote(host: &str) -> bool {
    let address = host.trim_matches(['[', ']']).parse::<IpAddr>();
    match address {
        Ok(address) => !address.to_canonical().is_loopback(),
        Err(_) => host != "localhost" && !host.ends_with(".localhost") && !host.starts_with('/'),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_plain_at(url: &str) -> bool {
        let options: PgConnectOptions = url.parse().expect("a URL");
        is_plain(&options)
    }

    #[test]
    fn what_stays_on_this_machine_or_insists_on_tls_is_not_plain() {
        for local in [
            "localhost",
            "127.0.0.1",
            "127.8.8.8",
            "::1",
            "[::1]",
            "/var/run",
            "a.localhost",
        ] {
            assert!(!is_remote(local), "{local}");
        }
        for remote in ["db.example", "10.0.0.7", "2001:db8::1", "localhost.example"] {
            assert!(is_remote(remote), "{remote}");
        }
        for plain in ["", "?sslmode=prefer", "?sslmode=disable"] {
            assert!(
                is_plain_at(&format!("postgres://u@db.example/shop{plain}")),
                "{plain}"
            );
        }
        for protected in [
            "postgres://u@db.example/shop?sslmode=require",
            "postgres://u@db.example/shop?sslmode=verify-full",
            "postgres://u@localhost/shop",
            "postgres://u@%2Fvar%2Frun%2Fpostgresql/shop",
            "postgres:///shop?host=/var/run/postgresql&user=u",
        ] {
            assert!(!is_plain_at(protected), "{protected}");
        }
    }
}
