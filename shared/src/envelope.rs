//! The envelope: one AMQP message that carries the commands a lane gathered, in order of arrival.
//!
//! The body is JSON, `{"v":2,"commands":[{"place":{…}}, {"change":{…}}, …]}`, so that a person can read a
//! dead letter; its seal travels in a header (`seal.rs`). Each command is encoded by the task that took the
//! request, and the lane only strings the pieces together: the one task that every order of a hot SKU
//! passes does no work per field.
//!
//! Reading is forgiving towards neighbours: a command that cannot be read is handed back with its
//! reason and the others are taken. The envelopes of the release before, `{"v":1,"orders":[…]}`, are
//! read as well, because workers are upgraded before ingest.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::{
    change::Change,
    id::{IdempotencyKey, OrderId},
    order::{CustomerId, Items, Sku, partition_of_all},
    request_id::RequestId,
};

/// The largest envelope, in bytes of commands: more than a full one of usual orders, and 40 of the
/// largest. A worker holds many envelopes, and this bounds how much that is.
pub const ENVELOPE_BYTES_MAX: usize = 128 * 1024;

/// The version this release writes.
const VERSION: u32 = 2;
/// The version of the release before, whose envelopes carry bare orders.
const VERSION_BEFORE: u32 = 1;

/// What a caller wants done. Every change of an order travels as one of these.
///
/// Each kind is an object with the kind as its only member: serde reads that form without keeping a
/// copy of the text first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Command {
    /// Settle a new order.
    Place(Order),
    /// Change one that is settled.
    Change(Change),
}

/// One accepted order on its way to a worker.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Order {
    /// Names the order, everywhere and for good.
    pub id: OrderId,
    /// Who ordered.
    pub customer_id: CustomerId,
    /// What was ordered.
    pub items: Items,
    /// When the order entered its lane, in milliseconds since 1970.
    pub accepted_ms: i64,
    /// The client's own name for the purchase, from which `id` was derived.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<IdempotencyKey>,
    /// The HTTP request that brought it. Absent from envelopes of the release before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_id: Option<RequestId>,
}

/// One command as it stands in an envelope.
#[derive(Debug)]
pub struct EncodedCommand(Vec<u8>);

impl Command {
    /// Encodes the command for an envelope.
    ///
    /// # Panics
    /// Never: every field has a JSON form.
    #[must_use]
    pub fn encode(&self) -> EncodedCommand {
        EncodedCommand(
            serde_json::to_vec(self).expect("a command has no map keys and no failing field"),
        )
    }
}

impl EncodedCommand {
    /// Its share of an envelope, in bytes.
    #[must_use]
    pub fn size_bytes(&self) -> usize {
        self.0.len() + 1
    }
}

impl Command {
    /// The body of an envelope with nothing but this command.
    #[must_use]
    pub fn alone(&self) -> Vec<u8> {
        join([&self.encode()])
    }

    /// The order that it is about.
    #[must_use]
    pub fn order_id(&self) -> OrderId {
        match self {
            Self::Place(order) => order.id,
            Self::Change(change) => change.order_id,
        }
    }

    /// When it entered its lane, in milliseconds since 1970.
    #[must_use]
    pub fn accepted_ms(&self) -> i64 {
        match self {
            Self::Place(order) => order.accepted_ms,
            Self::Change(change) => change.accepted_ms,
        }
    }

    /// The HTTP request that brought it.
    #[must_use]
    pub fn request_id(&self) -> Option<&RequestId> {
        match self {
            Self::Place(order) => order.request_id.as_ref(),
            Self::Change(change) => change.request_id.as_ref(),
        }
    }

    /// Every SKU that it may touch.
    pub fn skus(&self) -> impl Iterator<Item = &Sku> {
        let (items, skus) = match self {
            Self::Place(order) => (order.items.as_slice(), &[][..]),
            Self::Change(change) => (&[][..], change.skus.as_slice()),
        };
        items.iter().map(|item| &item.sku).chain(skus)
    }

    /// The partition whose queue takes it.
    #[must_use]
    pub fn partition(&self, partitions: u16) -> u16 {
        partition_of_all(self.skus(), partitions)
    }
}

/// Strings encoded commands together to the body of one message.
#[must_use]
pub fn join<'a>(
    commands: impl IntoIterator<Item = &'a EncodedCommand, IntoIter: Clone>,
) -> Vec<u8> {
    join_pieces(
        VERSION,
        "commands",
        commands.into_iter().map(|it| it.0.as_slice()),
    )
}

fn join_pieces<'a>(
    version: u32,
    member: &str,
    pieces: impl Iterator<Item = &'a [u8]> + Clone,
) -> Vec<u8> {
    let head = format!(r#"{{"v":{version},"{member}":["#);
    let length: usize = pieces.clone().map(|piece| piece.len() + 1).sum();
    let mut body = Vec::with_capacity(head.len() + length + 2);
    body.extend_from_slice(head.as_bytes());
    for (at, piece) in pieces.enumerate() {
        if at > 0 {
            body.push(b',');
        }
        body.extend_from_slice(piece);
    }
    body.extend_from_slice(b"]}");
    body
}

/// What was in an envelope, in order of arrival.
#[derive(Debug, Default)]
pub struct Opened {
    /// The commands that can be settled.
    pub commands: Vec<Command>,
    /// The pieces that cannot be read as a command.
    pub unreadable: Vec<Unreadable>,
}

/// A message that is no envelope, or a piece of one that is no command that this release reads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unreadable {
    /// The message as it came, or an envelope of the piece alone, which a later release may read.
    pub body: Vec<u8>,
    /// What is wrong with it, in words.
    pub detail: String,
}

#[derive(Deserialize)]
struct Whole {
    v: u32,
    #[serde(default)]
    commands: Vec<Command>,
    #[serde(default)]
    orders: Vec<Order>,
}

#[derive(Deserialize)]
struct Pieces<'a> {
    v: u32,
    #[serde(borrow)]
    commands: Option<Vec<&'a RawValue>>,
    #[serde(borrow)]
    orders: Option<Vec<&'a RawValue>>,
}

/// Reads the body of a message.
#[must_use]
pub fn open(body: &[u8]) -> Opened {
    let commands = match serde_json::from_slice::<Whole>(body) {
        Ok(whole) if whole.v == VERSION && whole.orders.is_empty() => whole.commands,
        Ok(whole) if whole.v == VERSION_BEFORE && whole.commands.is_empty() => {
            whole.orders.into_iter().map(Command::Place).collect()
        }
        _ => return open_piecewise(body),
    };
    if commands.is_empty() {
        // No lane sends an empty envelope, and a member may be missing or misspelled.
        return open_piecewise(body);
    }
    Opened {
        commands,
        unreadable: Vec::new(),
    }
}

/// The slow way, taken only when something is wrong: every piece is read by itself.
fn open_piecewise(body: &[u8]) -> Opened {
    let whole_is = |detail: String| Opened {
        commands: Vec::new(),
        unreadable: vec![Unreadable {
            body: body.to_vec(),
            detail,
        }],
    };
    let pieces = match serde_json::from_slice::<Pieces<'_>>(body) {
        Ok(pieces) => pieces,
        Err(error) => return whole_is(format!("not an envelope: {error}")),
    };
    match pieces {
        Pieces {
            v: VERSION,
            commands: Some(commands),
            orders: None,
        } => open_each(VERSION, "commands", &commands, |text| {
            serde_json::from_str(text)
        }),
        Pieces {
            v: VERSION_BEFORE,
            commands: None,
            orders: Some(orders),
        } => open_each(VERSION_BEFORE, "orders", &orders, |text| {
            serde_json::from_str(text).map(Command::Place)
        }),
        Pieces {
            v: VERSION | VERSION_BEFORE,
            ..
        } => whole_is("not an envelope: it carries no commands".to_owned()),
        Pieces { v, .. } => whole_is(format!(
            "envelope version {v}, this worker reads {VERSION_BEFORE} and {VERSION}: upgrade the workers first"
        )),
    }
}

fn open_each(
    version: u32,
    member: &str,
    pieces: &[&RawValue],
    read: impl Fn(&str) -> Result<Command, serde_json::Error>,
) -> Opened {
    let mut opened = Opened::default();
    for piece in pieces {
        match read(piece.get()) {
            Ok(command) => opened.commands.push(command),
            Err(error) => opened.unreadable.push(Unreadable {
                body: join_pieces(version, member, [piece.get().as_bytes()].into_iter()),
                detail: format!("not a command: {error}"),
            }),
        }
    }
    opened
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::id::IdMint;

    fn order() -> impl Strategy<Value = Order> {
        let items = proptest::collection::btree_map("[A-Za-z0-9._:@-]{1,64}", 1u32..=1000, 1..=20);
        let key = proptest::option::of("[!#-~]{1,255}");
        ("[A-Za-z0-9._:@-]{1,64}", items, 0..1i64 << 47, key).prop_map(
            |(name, items, accepted_ms, key)| {
                let mint = IdMint::new("a secret of a test", None);
                let items: Vec<_> = items
                    .into_iter()
                    .map(|(sku, quantity)| serde_json::json!({ "sku": sku, "quantity": quantity }))
                    .collect();
                Order {
                    id: mint.mint(accepted_ms.unsigned_abs()),
                    customer_id: CustomerId::try_from(name.as_str()).expect("a valid name"),
                    items: serde_json::from_value(items.into()).expect("valid items"),
                    accepted_ms,
                    key: key.map(|key| IdempotencyKey::try_from(key).expect("a valid key")),
                    request_id: None,
                }
            },
        )
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn what_is_joined_is_opened_unchanged_and_in_order(orders in proptest::collection::vec(order(), 1..20)) {
            let commands: Vec<_> = orders.into_iter().map(Command::Place).collect();
            let encoded: Vec<_> = commands.iter().map(Command::encode).collect();
            let opened = open(&join(&encoded));
            prop_assert_eq!(opened.commands, commands);
            prop_assert_eq!(opened.unreadable, vec![]);
        }

        #[test]
        fn no_bytes_make_the_reader_fail(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let opened = open(&bytes);
            prop_assert_eq!(opened.commands.len(), 0);
            prop_assert_eq!(opened.unreadable.len(), 1);
        }
    }

    const GOOD: &str = r#"{"id":"0199e8b0-0000-8000-8000-000000000000","customer_id":"c","items":[{"sku":"a","quantity":1}],"accepted_ms":1}"#;

    #[test]
    fn a_broken_command_does_not_take_its_neighbours_along() {
        let body = format!(
            r#"{{"v":2,"commands":[{{"place":{GOOD}}},{{"place":{{"id":7}}}},{{"paint":{{}}}},{{"place":{GOOD}}}]}}"#
        );
        let opened = open(body.as_bytes());
        assert_eq!(opened.commands.len(), 2);
        assert_eq!(opened.unreadable.len(), 2);
        assert_eq!(
            opened.unreadable[0].body,
            br#"{"v":2,"commands":[{"place":{"id":7}}]}"#
        );
    }

    #[test]
    fn an_envelope_of_the_release_before_is_read() {
        let opened = open(format!(r#"{{"v":1,"orders":[{GOOD},{{"id":7}}]}}"#).as_bytes());
        assert_eq!(opened.commands.len(), 1);
        assert_eq!(opened.unreadable[0].body, br#"{"v":1,"orders":[{"id":7}]}"#);
    }

    #[test]
    fn an_envelope_of_another_version_or_without_commands_is_kept_whole() {
        for (body, said) in [
            (r#"{"v":3,"commands":[]}"#, "version 3"),
            (r#"{"v":2}"#, "no commands"),
            (r#"{"v":2,"orders":[]}"#, "no commands"),
        ] {
            let [unreadable] = &open(body.as_bytes()).unreadable[..] else {
                panic!("{body} must be kept whole");
            };
            assert!(unreadable.detail.contains(said), "{}", unreadable.detail);
            assert_eq!(unreadable.body, body.as_bytes());
        }
    }
}
