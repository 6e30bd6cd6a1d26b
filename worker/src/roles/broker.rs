//! What the users of each process may do at RabbitMQ, as lines for `rabbitmqctl`.
//!
//! Permissions are three patterns of names: what may be declared, written to and read from, exchanges and queues
//! alike. To bind needs the right to write to the queue and to read from the exchange. (RabbitMQ, "Access Control".)

/// A user, and the patterns of what it may configure, write and read.
struct Permission {
    user: &'static str,
    configure: &'static str,
    write: &'static str,
    read: &'static str,
}

const PERMISSIONS: [Permission; 3] = [
    // Publishes envelopes and news, and hears news by a private queue, which the broker names. It may not read what
    // others sent, and declares nothing that stays: it waits for the workers, which do.
    Permission {
        user: "hotrow_ingest",
        configure: r"^amq\.gen-.*$",
        write: r"^(hotrow\.orders|hotrow\.settled|amq\.gen-.*)$",
        read: r"^(hotrow\.settled|amq\.gen-.*)$",
    },
    // Declares everything, and whoever binds a queue has to be allowed to write to it.
    Permission {
        user: "hotrow_worker",
        configure: r"^hotrow\..*$",
        write: r"^hotrow\..*$",
        read: r"^hotrow\..*$",
    },
    // A program beside Hotrow that reads the stream of events.
    Permission {
        user: "hotrow_reader",
        configure: "^$",
        write: "^$",
        read: r"^hotrow\.events$",
    },
];

/// The commands that give the users their permissions in a virtual host.
pub(super) fn permissions(virtual_host: &str) -> Vec<String> {
    let line = |permission: &Permission| {
        let Permission {
            user,
            configure,
            write,
            read,
        } = permission;
        let virtual_host = quoted(virtual_host);
        format!(
            "rabbitmqctl set_permissions --vhost {virtual_host} {user} '{configure}' '{write}' '{read}'"
        )
    };
    PERMISSIONS.iter().map(line).collect()
}

/// A word for a shell.
fn quoted(text: &str) -> String {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/._-".contains(&byte);
    if !text.is_empty() && text.bytes().all(is_plain) {
        return text.to_owned();
    }
    format!("'{}'", text.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_virtual_host_is_one_word_whatever_its_name() {
        for (name, word) in [
            ("/", "/"),
            ("shop", "shop"),
            ("the shop", "'the shop'"),
            ("it's", r"'it'\''s'"),
            ("", "''"),
        ] {
            let lines = permissions(name);
            assert!(
                lines
                    .iter()
                    .all(|line| line.contains(&format!("--vhost {word} hotrow_"))),
                "{lines:?}"
            );
        }
    }
}
