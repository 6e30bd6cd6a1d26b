//! Tokens that were verified, so that a poll does not pay for a signature again.

use std::{sync::Arc, time::Duration};

use moka::{Expiry, policy::EvictionPolicy, sync::Cache};

use super::{caller::Identity, keys::Key};

/// Most tokens that are remembered, some 30 MB.
const TOKENS_MAX: u64 = 100_000;
/// The longest that one is remembered, in seconds; then its signature is looked at again.
const KEPT_SECONDS_MAX: u64 = 86_400;

/// A hash of a token. The token itself is not kept.
pub(super) type TokenHash = [u8; 32];

/// What a token that was verified proves, and for how long.
#[derive(Debug, Clone)]
pub(super) struct Verified {
    pub(super) identity: Arc<Identity>,
    /// When it ends, leeway included, in seconds since 1970.
    pub(super) ends: u64,
    /// What verified it.
    pub(super) key: Arc<Key>,
}

impl Verified {
    fn counts(&self, now: u64) -> bool {
        now <= self.ends && !self.key.has_left()
    }
}

/// The tokens that were verified lately.
pub(super) struct Remembered(Cache<TokenHash, Verified>);

impl Remembered {
    pub(super) fn new() -> Self {
        let cache = Cache::builder()
            .max_capacity(TOKENS_MAX)
            // The default policy would refuse to remember those that are new: in a sale, everybody's.
            .eviction_policy(EvictionPolicy::lru());
        Self(cache.expire_after(AtItsEnd).build())
    }

    /// Who holds the token, if it was verified before and still counts. `now` is in seconds since 1970.
    pub(super) fn find(&self, token: &TokenHash, now: u64) -> Option<Arc<Identity>> {
        let verified = self.0.get(token)?;
        if verified.counts(now) {
            return Some(verified.identity);
        }
        self.0.invalidate(token);
        None
    }

    pub(super) fn remember(&self, token: TokenHash, verified: Verified) {
        self.0.insert(token, verified);
    }
}

/// Frees the room of a token when it ends. Whether it still counts is looked at by the wall clock, which may be set.
struct AtItsEnd;

impl Expiry<TokenHash, Verified> for AtItsEnd {
    fn expire_after_create(
        &self,
        _: &TokenHash,
        verified: &Verified,
        _: std::time::Instant,
    ) -> Option<Duration> {
        let left = verified.ends.saturating_sub(now());
        Some(Duration::from_secs(left.min(KEPT_SECONDS_MAX)))
    }
}

/// The time of this machine, in seconds since 1970.
pub(super) fn now() -> u64 {
    u64::try_from(chrono::Utc::now().timestamp()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use hotrow_shared::{change::Role, order::CustomerId};
    use jsonwebtoken::Algorithm;

    use super::*;
    use crate::auth::keys::KeySet;

    fn key(set: &KeySet) -> Arc<Key> {
        let mut keys = set.candidates(None, Algorithm::HS256);
        Arc::clone(keys.next().expect("a key"))
    }

    fn verified(key: &Arc<Key>, ends: u64) -> Verified {
        let identity = Identity {
            role: Role::Customer,
            subject: CustomerId::try_from("c-1").expect("a name"),
        };
        Verified {
            identity: Arc::new(identity),
            ends,
            key: Arc::clone(key),
        }
    }

    #[test]
    fn a_token_is_known_until_it_ends() {
        let key = key(&KeySet::of_secret("a secret"));
        let remembered = Remembered::new();
        let now = now();
        remembered.remember([1; 32], verified(&key, now + 100));
        assert!(remembered.find(&[1; 32], now).is_some());
        assert!(remembered.find(&[2; 32], now).is_none());
        assert!(remembered.find(&[1; 32], now + 101).is_none());
        // It was forgotten then, and does not come back with a clock that is set back.
        assert!(remembered.find(&[1; 32], now).is_none());
    }

    #[test]
    fn a_token_is_forgotten_when_its_key_leaves() {
        let set = KeySet::of_secret("a secret");
        let remembered = Remembered::new();
        remembered.remember([1; 32], verified(&key(&set), u64::MAX));
        assert!(remembered.find(&[1; 32], now()).is_some());
        set.replaced_by(&KeySet::default());
        assert!(remembered.find(&[1; 32], now()).is_none());
    }

    #[test]
    fn the_number_of_tokens_is_bounded_and_the_newest_are_remembered() {
        const NEWER: u64 = 10_000;
        let key = key(&KeySet::of_secret("a secret"));
        let remembered = Remembered::new();
        let hash = |number: u64| {
            let mut hash = [0; 32];
            hash[..8].copy_from_slice(&number.to_le_bytes());
            hash
        };
        let now = now();
        for number in 0..TOKENS_MAX {
            remembered.remember(hash(number), verified(&key, u64::MAX));
            // Those that are there are asked for again and again, and still give way.
            assert!(remembered.find(&hash(number / 2), now).is_some());
        }
        for number in TOKENS_MAX..TOKENS_MAX + NEWER {
            remembered.remember(hash(number), verified(&key, u64::MAX));
        }
        remembered.0.run_pending_tasks();
        assert!(remembered.0.entry_count() <= TOKENS_MAX);
        for number in TOKENS_MAX..TOKENS_MAX + NEWER {
            assert!(remembered.find(&hash(number), now).is_some(), "{number}");
        }
    }
}
