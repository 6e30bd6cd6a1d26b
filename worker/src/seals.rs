//! Seals: which messages a worker takes for envelopes of its own installation.

use hotrow_shared::{
    envelope::{self, Command},
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

/// What a worker has against a message, or a piece of one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// It is no envelope, or no command that this release reads.
    Malformed,
    /// It has no seal, and needs one.
    Unsealed,
    /// Its seal is wrong.
    WrongSeal,
}

/// A message, or a piece of one, that is not what it should be.
#[derive(Debug)]
pub(crate) struct Faulty {
    pub(crate) fault: Fault,
    /// That of its message.
    pub(crate) seal: Seal,
    /// The message as it came, or an envelope of the piece alone.
    pub(crate) body: Vec<u8>,
    /// What is wrong with it, in words.
    pub(crate) detail: String,
}

/// A message, opened.
pub(crate) struct Opened {
    pub(crate) seal: Seal,
    pub(crate) commands: Vec<Command>,
    pub(crate) faulty: Vec<Faulty>,
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
    pub(crate) fn open(&self, body: &[u8], headers: Option<&FieldTable>) -> Opened {
        let seal = self.keys.check(body, headers);
        let faulty = |fault, body, detail| Faulty {
            fault,
            seal,
            body,
            detail,
        };
        let (commands, faulty) = if let Some((fault, detail)) = self.fault(seal) {
            let whole = faulty(fault, body.to_vec(), detail.to_owned());
            (Vec::new(), vec![whole])
        } else {
            let opened = envelope::open(body);
            let unreadable = opened.unreadable.into_iter();
            let faulty = unreadable.map(|it| faulty(Fault::Malformed, it.body, it.detail));
            (opened.commands, faulty.collect())
        };
        Opened {
            seal,
            commands,
            faulty,
        }
    }
}
