//! File descriptors: every connection is one, and the broker, the database and metrics need theirs.

use hotrow_shared::descriptors::{REMEDY, allowed};

/// What is left free by default for everything that is not a client's connection.
const RESERVED: u64 = 1_000;
/// What is needed beside clients and the pool of the database: the broker's connections, who
/// asks for metrics, the runtime, and connections that are on their way out.
const NEEDED: u64 = 100;
/// With fewer, a crowd that one process could serve is turned away.
const FEW: u64 = 10_000;
/// More connections than this no process serves, however many descriptors it is given.
const CONNECTIONS_LIMIT: u64 = 1_000_000;

/// Says it once if there are fewer descriptors than a crowd needs.
pub fn warn_of_few(connections_max: usize) {
    let allowed = allowed();
    if allowed < FEW {
        tracing::warn!(
            descriptors = allowed,
            connections_max,
            "few file descriptors, so few clients can be connected at a time: {REMEDY}"
        );
    }
}

/// The most client connections: as many as are asked for, or as many as the descriptors allow.
///
/// One that the descriptors cannot hold is an error and no warning: with it, a crowd would take
/// the descriptors that the broker and the database need, at the worst moment.
///
/// # Errors
/// The descriptors do not suffice; the text says what to do.
pub(crate) fn connections_max(
    asked: Option<u64>,
    allowed: u64,
    database_connections: u32,
) -> Result<usize, String> {
    let needed = NEEDED + u64::from(database_connections);
    let reserved = RESERVED.min(allowed / 2).max(needed);
    let wanted = asked.unwrap_or(1);
    if wanted.saturating_add(needed) > allowed {
        return Err(format!(
            "{wanted} client connections need {} file descriptors, and this process may have {allowed}: {REMEDY}",
            wanted.saturating_add(needed)
        ));
    }
    let max = asked.unwrap_or_else(|| allowed.saturating_sub(reserved).clamp(1, CONNECTIONS_LIMIT));
    usize::try_from(max).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_leaves_a_thousand_descriptors_and_a_small_process_half() {
        let by_default = |allowed| connections_max(None, allowed, 20);
        assert_eq!(by_default(20_000), Ok(19_000));
        assert_eq!(by_default(1_024), Ok(512));
        assert_eq!(by_default(200), Ok(80));
        assert_eq!(by_default(u64::MAX), Ok(1_000_000));
        assert_eq!(connections_max(None, 20_000, 5_000), Ok(14_900));
        assert!(by_default(120).is_err());
    }

    #[test]
    fn more_connections_than_descriptors_are_refused() {
        assert_eq!(connections_max(Some(19_880), 20_000, 20), Ok(19_880));
        let refused = connections_max(Some(19_881), 20_000, 20);
        assert!(refused.is_err_and(
            |why| why.contains("20001 file descriptors") && why.contains("LimitNOFILE")
        ));
    }
}
