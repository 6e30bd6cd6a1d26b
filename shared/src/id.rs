//! Order ids: who may mint them, what time they carry, and how a made-up one is told apart.
//!
//! An id is a `UUIDv8` (RFC 9562, section 5.8):
//!
//! | bits | what |
//! |---|---|
//! | 48 | a time in milliseconds since 1970, so that ids of one UTC day are one range |
//! | 4 | version, 8 |
//! | 12 + 2 + 38 | unique part around the variant: random, or derived from an idempotency key |
//! | 24 | tag: a keyed BLAKE3 of everything before it |
//!
//! The tag makes an id authentic without state: a process knows an id of its own installation
//! before the worker has written the order. 24 bits are no protection for a secret, and there is
//! none: the worst that a lucky guess earns is the answer `queued` for an order that never was.
//!
//! An unkeyed id carries the time of the request. A keyed one carries a time *within the UTC day*
//! of the request that follows from customer, key and day, as the unique part does: that makes 76
//! bits in which two keys of one day would have to collide.

use std::{fmt, str::FromStr};

use chrono::Utc;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use crate::order::CustomerId;

/// The shortest secret that may sign ids, in bytes.
pub const SECRET_LENGTH_MIN: usize = 16;

const DAY_MS: u64 = 86_400_000;
const TAG_START: usize = 13;

/// A UTC day, counted from 1970-01-01.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Day(pub u64);

impl Day {
    /// The current day, by this machine's clock.
    #[must_use]
    pub fn today() -> Self {
        Self::of_ms(u64::try_from(Utc::now().timestamp_millis()).unwrap_or_default())
    }

    /// The day that holds a time in milliseconds since 1970.
    #[must_use]
    pub fn of_ms(ms: u64) -> Self {
        Self(ms / DAY_MS)
    }

    /// The first millisecond of the day.
    #[must_use]
    pub fn start_ms(self) -> u64 {
        self.0 * DAY_MS
    }

    /// The smallest UUID that an order of this day can have: the bound of its table partition.
    #[must_use]
    pub fn first_id(self) -> Uuid {
        let mut bytes = [0; 16];
        bytes[..6].copy_from_slice(&self.start_ms().to_be_bytes()[2..]);
        Uuid::from_bytes(bytes)
    }
}

/// The name of one order, unique in the installation and signed by it.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema,
)]
#[serde(transparent)]
#[schema(examples("01a1fe23-4721-808d-a41e-5192f1f4fdd2"))]
pub struct OrderId(Uuid);

impl OrderId {
    /// The id as a plain UUID, as the database keeps it.
    #[must_use]
    pub fn uuid(self) -> Uuid {
        self.0
    }

    /// An id read back from where only authentic ids are written: the orders table and the news.
    #[must_use]
    pub fn trusted(uuid: Uuid) -> Self {
        Self(uuid)
    }

    /// The UTC day that the id belongs to, which names its table partition.
    #[must_use]
    pub fn day(self) -> Day {
        let mut ms = [0; 8];
        ms[2..].copy_from_slice(&self.0.as_bytes()[..6]);
        Day::of_ms(u64::from_be_bytes(ms))
    }
}

impl fmt::Display for OrderId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A client's own name for one purchase: 1 to 255 visible ASCII characters.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String")]
pub struct IdempotencyKey(String);

/// The text is not an idempotency key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must be 1 to 255 visible ASCII characters, plain or as a quoted string")]
pub struct NotAKey;

impl TryFrom<String> for IdempotencyKey {
    type Error = NotAKey;

    fn try_from(text: String) -> Result<Self, NotAKey> {
        let visible = text.bytes().all(|b| b.is_ascii_graphic());
        if visible && (1..=255).contains(&text.len()) {
            Ok(Self(text))
        } else {
            Err(NotAKey)
        }
    }
}

impl IdempotencyKey {
    /// The key without quotes.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for IdempotencyKey {
    type Err = NotAKey;

    /// Reads a header value: the key as it is, or as a structured-field string (RFC 9651, section
    /// 3.3.3), which the IETF draft of the header asks for. Both spellings name the same key.
    fn from_str(header: &str) -> Result<Self, NotAKey> {
        let Some(rest) = header.strip_prefix('"') else {
            return Self::try_from(header.to_owned());
        };
        let quoted = rest.strip_suffix('"').ok_or(NotAKey)?;
        let mut text = String::with_capacity(quoted.len());
        let mut characters = quoted.chars();
        while let Some(character) = characters.next() {
            text.push(match character {
                '\\' => characters
                    .next()
                    .filter(|c| matches!(c, '"' | '\\'))
                    .ok_or(NotAKey)?,
                '"' => return Err(NotAKey),
                plain => plain,
            });
        }
        Self::try_from(text)
    }
}

/// The secrets that sign ids: the current one mints, and the previous one is still recognised.
#[derive(Clone)]
pub struct IdMint {
    current: Keys,
    previous: Option<Keys>,
}

#[derive(Clone)]
struct Keys {
    tag: [u8; 32],
    derive: [u8; 32],
}

impl Keys {
    fn new(secret: &str) -> Self {
        Self {
            tag: blake3::derive_key("hotrow 2026 order id tag", secret.as_bytes()),
            derive: blake3::derive_key(
                "hotrow 2026 order id from idempotency key",
                secret.as_bytes(),
            ),
        }
    }

    /// The id with a time and a unique part; the 14 bits that hold version, variant and nothing
    /// else are overwritten.
    fn sign(&self, ms: u64, unique: [u8; 7]) -> OrderId {
        let mut bytes = [0; 16];
        bytes[..6].copy_from_slice(&ms.to_be_bytes()[2..]);
        bytes[6..TAG_START].copy_from_slice(&unique);
        bytes[6] = 0x80 | (bytes[6] & 0x0f);
        bytes[8] = 0x80 | (bytes[8] & 0x3f);
        let tag = self.tag(&bytes);
        bytes[TAG_START..].copy_from_slice(&tag);
        OrderId(Uuid::from_bytes(bytes))
    }

    fn tag(&self, bytes: &[u8; 16]) -> [u8; 3] {
        let hash = blake3::keyed_hash(&self.tag, &bytes[..TAG_START]);
        let [a, b, c, ..] = *hash.as_bytes();
        [a, b, c]
    }

    fn derive(&self, customer: &CustomerId, key: &IdempotencyKey, day: Day) -> OrderId {
        let mut hasher = blake3::Hasher::new_keyed(&self.derive);
        hasher.update(&day.0.to_be_bytes());
        // Neither a customer nor a key can hold a zero byte: no two pairs read the same.
        hasher
            .update(customer.as_str().as_bytes())
            .update(&[0])
            .update(key.as_str().as_bytes());
        let hash = hasher.finalize();
        let (mut moment, mut unique) = ([0; 8], [0; 7]);
        moment.copy_from_slice(&hash.as_bytes()[..8]);
        unique.copy_from_slice(&hash.as_bytes()[8..15]);
        self.sign(day.start_ms() + u64::from_be_bytes(moment) % DAY_MS, unique)
    }
}

impl IdMint {
    /// A mint for the current secret, which also recognises what the previous one signed.
    #[must_use]
    pub fn new(secret: &str, previous: Option<&str>) -> Self {
        Self {
            current: Keys::new(secret),
            previous: previous.map(Keys::new),
        }
    }

    /// A new id for an order without an idempotency key.
    #[must_use]
    pub fn mint(&self, now_ms: u64) -> OrderId {
        self.current.sign(now_ms, rand::random())
    }

    /// The id of an order with an idempotency key: the same in every process on the same UTC day.
    #[must_use]
    pub fn derive(&self, customer: &CustomerId, key: &IdempotencyKey, now_ms: u64) -> OrderId {
        self.current.derive(customer, key, Day::of_ms(now_ms))
    }

    /// Every other id under which the same purchase may have come in, for a keyed order `id`.
    ///
    /// The day before, because a client repeats for 24 hours and the UTC day ends in between; the
    /// day after, up to `latest`, because an order that waited in a queue over midnight may find
    /// that its repeat went first by another partition; and each of these under the previous
    /// secret, because a rotation must not sell twice.
    pub fn twins(
        &self,
        id: OrderId,
        customer: &CustomerId,
        key: &IdempotencyKey,
        latest: Day,
    ) -> impl Iterator<Item = OrderId> {
        let days = [
            Day(id.day().0.saturating_sub(1)),
            id.day(),
            Day(id.day().0 + 1),
        ];
        let secrets = [Some(&self.current), self.previous.as_ref()]
            .into_iter()
            .flatten();
        secrets.flat_map(move |keys| {
            days.into_iter()
                .filter(move |day| *day <= latest)
                .map(move |day| keys.derive(customer, key, day))
                .filter(move |twin| *twin != id)
        })
    }

    /// The order id in a text, if this installation signed it.
    #[must_use]
    pub fn recognise(&self, text: &str) -> Option<OrderId> {
        // Only the hyphenated form that was handed out: one order, one spelling.
        let uuid = Uuid::try_parse(text).ok().filter(|_| text.len() == 36)?;
        self.signed(OrderId(uuid)).then_some(OrderId(uuid))
    }

    /// Whether this installation signed the id, with the current or the previous secret.
    #[must_use]
    pub fn signed(&self, id: OrderId) -> bool {
        let bytes = id.0.as_bytes();
        let shape = bytes[6] & 0xf0 == 0x80 && bytes[8] & 0xc0 == 0x80;
        let by = |keys: &Keys| keys.tag(bytes) == bytes[TAG_START..];
        shape && (by(&self.current) || self.previous.as_ref().is_some_and(by))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECRET: &str = "a secret of a test, long enough";

    fn customer(name: &str) -> CustomerId {
        CustomerId::try_from(name).expect("a valid name")
    }

    proptest! {
        #[test]
        fn an_id_comes_back_from_its_text_with_its_day(now_ms in 0..1u64 << 47) {
            let mint = IdMint::new(SECRET, None);
            let id = mint.mint(now_ms);
            prop_assert_eq!(mint.recognise(&id.to_string()), Some(id));
            prop_assert_eq!(id.day(), Day::of_ms(now_ms));
            prop_assert!(id.day().first_id() <= id.uuid());
            prop_assert!(id.uuid() < Day(id.day().0 + 1).first_id());
        }

        #[test]
        fn a_keyed_id_follows_from_customer_key_and_day_alone(
            name in "[a-z0-9]{1,64}", key in "[!-~]{1,255}", now_ms in 0..1u64 << 47,
        ) {
            prop_assume!(!key.starts_with('"'));
            let key: IdempotencyKey = key.parse().expect("visible ASCII");
            let id = IdMint::new(SECRET, None).derive(&customer(&name), &key, now_ms);
            let day = Day::of_ms(now_ms);
            prop_assert_eq!(id.day(), day);
            let elsewhere = IdMint::new(SECRET, Some("another secret of the test")).derive(&customer(&name), &key, day.start_ms());
            prop_assert_eq!(id, elsewhere);
        }

        #[test]
        fn an_id_with_any_bit_turned_is_not_ours(now_ms in 0..1u64 << 47, bit in 0usize..128) {
            let mint = IdMint::new(SECRET, None);
            let mut bytes = *mint.mint(now_ms).uuid().as_bytes();
            bytes[bit / 8] ^= 1 << (bit % 8);
            // One in 16 million turned ids carries a fitting tag by chance.
            prop_assert!(!mint.signed(OrderId(Uuid::from_bytes(bytes))));
        }
    }

    #[test]
    fn an_id_of_the_previous_secret_is_recognised_and_of_a_foreign_one_is_not() {
        let old = IdMint::new("the secret before this one", None);
        let id = old.mint(1_800_000_000_000);
        assert!(IdMint::new(SECRET, Some("the secret before this one")).signed(id));
        assert!(!IdMint::new(SECRET, None).signed(id));
    }

    #[test]
    fn the_twins_of_an_order_cover_midnight_and_a_rotation() {
        let (who, key) = (customer("c-1"), "k".parse().expect("a key"));
        let (before, after) = (
            IdMint::new(SECRET, None),
            IdMint::new("the next secret of all", Some(SECRET)),
        );
        let midnight = Day(20_000).start_ms();
        let first = before.derive(&who, &key, midnight - 1);
        for repeat in [
            before.derive(&who, &key, midnight),
            after.derive(&who, &key, midnight),
            after.derive(&who, &key, midnight - 1),
        ] {
            assert_ne!(repeat, first);
            assert!(
                after
                    .twins(repeat, &who, &key, Day(20_000))
                    .any(|twin| twin == first)
            );
        }
        let latest = before.derive(&who, &key, midnight);
        assert!(
            before
                .twins(first, &who, &key, Day(20_000))
                .any(|twin| twin == latest)
        );
        assert!(
            before
                .twins(first, &who, &key, Day(19_999))
                .all(|twin| twin != latest)
        );
    }

    #[test]
    fn a_key_is_the_same_quoted_or_plain() {
        let plain: IdempotencyKey = "8e03978e-40d5".parse().expect("plain");
        assert_eq!("\"8e03978e-40d5\"".parse(), Ok(plain));
        assert_eq!(
            r#""a\"b\\c""#.parse::<IdempotencyKey>().map(|k| k.0),
            Ok(r#"a"b\c"#.to_owned())
        );
        for wrong in ["", "\"\"", "\"open", "\"a\"b\"", "a b", "\"a\\x\"", "é"] {
            assert_eq!(wrong.parse::<IdempotencyKey>(), Err(NotAKey), "{wrong:?}");
        }
        assert!("x".repeat(255).parse::<IdempotencyKey>().is_ok());
        assert!("x".repeat(256).parse::<IdempotencyKey>().is_err());
    }
}
