//! Secrets that are replaced while the process runs: what their users see, and the files that are read again.

use std::{
    ops::Deref,
    sync::{Arc, Mutex, PoisonError},
};

use blake3::Hash;
use tokio::sync::watch;

use crate::settings::problems::Problems;

/// What is made of a secret, or of several that belong together. A SIGHUP replaces it. It has no `Debug`.
pub struct Rotating<T>(watch::Receiver<T>);

impl<T> Clone for Rotating<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<T> Rotating<T> {
    /// What counts at this moment. It cannot be held over an `await`, and holds up the next one.
    #[must_use]
    pub fn current(&self) -> impl Deref<Target = T> + '_ {
        self.0.borrow()
    }
}

/// The secrets of a process that stand in files and rotate.
#[derive(Clone, Default)]
pub struct SecretFiles(pub(super) Arc<[Box<dyn Reread>]>);

impl SecretFiles {
    /// Reads every file again, and says in the log what came of it. A secret that cannot be read or does not fit leaves
    /// the one before in force. It waits for the disk.
    pub fn read_again(&self) {
        if self.0.is_empty() {
            tracing::info!(
                "SIGHUP: no secret that can be replaced stands in a file, so there is nothing to read again"
            );
        }
        for secrets in self.0.iter() {
            secrets.read_again();
        }
    }
}

/// Secrets that belong together, some of them in files.
pub(super) trait Reread: Send + Sync {
    fn read_again(&self);
}

/// A secret cannot be read, and that is among the problems.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Noted;

/// The texts of `N` secrets; none where one is not given.
pub(super) type Texts<const N: usize> = [Option<String>; N];

/// How secrets are read and checked, at the start and again.
pub(super) struct Group<const N: usize, T, Read, Make> {
    /// What stands in files, for the log.
    files: String,
    read: Read,
    make: Make,
    sender: watch::Sender<T>,
    /// Of the texts that count, so that the log can say whether they are others.
    hash: Mutex<Hash>,
}

impl<const N: usize, T, Read, Make> Group<N, T, Read, Make>
where
    Read: Fn(&mut Problems) -> Result<Texts<N>, Noted>,
    Make: Fn([Option<&str>; N], &mut Problems) -> Option<T>,
{
    /// Reads the secrets for the first time, if they are given and fit.
    pub(super) fn new(
        files: String,
        read: Read,
        make: Make,
        problems: &mut Problems,
    ) -> Option<(Self, Rotating<T>)> {
        let texts = read(problems).ok()?;
        let value = make(texts.each_ref().map(Option::as_deref), problems)?;
        let (sender, current) = watch::channel(value);
        let group = Self {
            files,
            read,
            make,
            sender,
            hash: Mutex::new(hash(&texts)),
        };
        Some((group, Rotating(current)))
    }

    /// Returns whether the secrets are others than before.
    fn replace(&self) -> Result<bool, Problems> {
        let mut problems = Problems::default();
        let texts = (self.read)(&mut problems).ok();
        let value = texts
            .as_ref()
            .and_then(|texts| (self.make)(texts.each_ref().map(Option::as_deref), &mut problems));
        let value = problems.or(value)?;
        let now = texts.as_ref().map(hash);
        let mut before = self.hash.lock().unwrap_or_else(PoisonError::into_inner);
        let changed = now.is_some_and(|now| std::mem::replace(&mut *before, now) != now);
        if changed {
            self.sender.send_replace(value);
        }
        Ok(changed)
    }
}

impl<const N: usize, T, Read, Make> Reread for Group<N, T, Read, Make>
where
    T: Send + Sync,
    Read: Fn(&mut Problems) -> Result<Texts<N>, Noted> + Send + Sync,
    Make: Fn([Option<&str>; N], &mut Problems) -> Option<T> + Send + Sync,
{
    fn read_again(&self) {
        let secret = &self.files;
        match self.replace() {
            Ok(changed) => tracing::info!(secret, changed, "SIGHUP: a secret was read again"),
            Err(problems) => {
                let why = problems.sentence();
                tracing::error!(
                    secret,
                    why,
                    "SIGHUP: a secret cannot be replaced, and the one before stays in force"
                );
            }
        }
    }
}

fn hash<const N: usize>(texts: &Texts<N>) -> Hash {
    let mut hasher = blake3::Hasher::new();
    for text in texts {
        // Each by itself, so that none can pass for a part of another.
        hasher.update(blake3::hash(text.as_deref().unwrap_or_default().as_bytes()).as_bytes());
    }
    hasher.finalize()
}
