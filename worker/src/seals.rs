//! Seals: which messages a worker takes for envelopes of its own installation.

use hotrow_shared::{
    envelope::{self, Fault, Opened, Unreadable},
    seal::{Seal, SealKeys},
};
use lapin::types::FieldTable;

use crate::settings::Settings;

/// The keys of seals, and what to do with envelopes that have none.
#[derive(Clone)]
pub(crate) struct Seals {
    pub(crate) keys: SealKeys,
    are_required: bool,
}

impl Seals {
    pub(crate) fn new(settings: &Settings) -> Self {
        Self {
            keys: settings.common.seals.clone(),
            are_required: settings.require_sealed,
        }
    }

    /// What is wrong with a message of this seal, and in words.
    pub(crate) fn fault(&self, seal: Seal) -> Option<(Fault, &'static str)> {
        match seal {
            Seal::Current | Seal::Previous => None,
            Seal::Missing if !self.are_required => None,
            Seal::Missing => Some((
                Fault::Unsealed,
                "not sealed, and REQUIRE_SEALED=true: it comes from a process of an earlier release, or from somebody else",
            )),
            Seal::Wrong => Some((
                Fault::WrongSeal,
                "the seal is wrong: it was made with another ORDER_ID_SECRET, or the message was changed or made by somebody else",
            )),
        }
    }

    /// Opens a message. One that is not believed is refused as a whole: nothing that it says is looked at.
    pub(crate) fn open(&self, body: &[u8], headers: Option<&FieldTable>) -> (Seal, Opened) {
        let seal = self.keys.check(body, headers);
        let opened = match self.fault(seal) {
            None => envelope::open(body),
            Some((fault, detail)) => Opened {
                commands: Vec::new(),
                unreadable: vec![Unreadable {
                    fault,
                    body: body.to_vec(),
                    detail: detail.to_owned(),
                }],
            },
        };
        (seal, opened)
    }
}
