//! Secrets: settings that stand in a variable, or in a file that the variable with `_FILE` at its end names. They are
//! no flags, because everybody on a machine can read command lines.
//!
//! No type here has `Debug`, and no problem repeats a secret or a path.

mod file;
mod rotating;

use std::{
    collections::BTreeMap,
    ffi::OsString,
    fmt::{self, Write},
    path::PathBuf,
    str::FromStr,
};

use self::rotating::{Group, Reread};
pub use self::rotating::{Noted, Rotating, SecretFiles};
use crate::settings::problems::{FILE, Problems, is_secret};

/// A secret setting, as it is declared.
pub struct Secret {
    /// Its variable. Every name stands in the list of `settings/problems.rs`, too.
    pub name: &'static str,
    /// Its manual, one paragraph.
    pub help: &'static str,
}

/// The secrets of one start: where they stand, and which are read again.
pub struct Secrets {
    /// The variables, where they are not those of the process.
    given: Option<BTreeMap<String, OsString>>,
    rotating: Vec<Box<dyn Reread>>,
}

/// Where a secret stands.
enum Place {
    Nowhere,
    Variable(String),
    File(PathBuf),
}

impl Secrets {
    /// Those that stand in the environment of the process.
    #[must_use]
    pub fn of_environment() -> Self {
        Self {
            given: None,
            rotating: Vec::new(),
        }
    }

    /// Those that stand in these variables, for a process within another.
    #[must_use]
    pub fn of<'a>(variables: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        let given = variables
            .into_iter()
            .map(|(name, value)| (name.to_owned(), value.into()));
        Self {
            given: Some(given.collect()),
            rotating: Vec::new(),
        }
    }

    /// Reads one that must be there.
    pub fn require<T: FromStr>(&self, secret: &Secret, problems: &mut Problems) -> Option<T>
    where
        T::Err: fmt::Display,
    {
        let value = self.optional(secret, problems).ok()?;
        if value.is_none() {
            let name = secret.name;
            problems.add(format!("{name} is required, or {name}{FILE}"));
        }
        value
    }

    /// Reads one that may be missing.
    ///
    /// # Errors
    /// It is given and cannot be read.
    pub fn optional<T: FromStr>(
        &self,
        secret: &Secret,
        problems: &mut Problems,
    ) -> Result<Option<T>, Noted>
    where
        T::Err: fmt::Display,
    {
        let text = self.text(secret, problems)?;
        text.map(|text| problems.read(secret.name, &text).ok_or(Noted))
            .transpose()
    }

    /// Reads the text of one that may be missing.
    ///
    /// # Errors
    /// It is given and cannot be read.
    pub fn text(&self, secret: &Secret, problems: &mut Problems) -> Result<Option<String>, Noted> {
        self.place(secret, problems)?.read(secret.name, problems)
    }

    /// Reads secrets that belong together, and makes a value of them, now and with each SIGHUP if one of them stands in
    /// a file. `make` notes what is wrong with them; without any of them, it returns none and notes nothing.
    pub fn rotating<const N: usize, T: Send + Sync + 'static>(
        &mut self,
        secrets: [&Secret; N],
        problems: &mut Problems,
        make: impl Fn([Option<&str>; N], &mut Problems) -> Option<T> + Send + Sync + 'static,
    ) -> Option<Rotating<T>> {
        let places = secrets.map(|secret| (secret.name, self.place(secret, problems)));
        let places: Vec<_> = places
            .into_iter()
            .map(|(name, place)| Ok((name, place?)))
            .collect::<Result<_, Noted>>()
            .ok()?;
        let in_files = places.iter().filter(|(_, place)| place.is_file());
        let files = in_files.map(|(name, _)| *name).collect::<Vec<_>>();
        let files = files.join(", ");
        let is_fixed = files.is_empty();
        let read = move |problems: &mut Problems| {
            let mut texts = [const { None }; N];
            // Each is read, so that all problems are noted.
            let mut all = Ok(());
            for (text, (name, place)) in texts.iter_mut().zip(&places) {
                match place.read(name, problems) {
                    Ok(read) => *text = read,
                    Err(noted) => all = Err(noted),
                }
            }
            all.map(|()| texts)
        };
        let (group, current) = Group::new(files, read, make, problems)?;
        if !is_fixed {
            self.rotating.push(Box::new(group));
        }
        Some(current)
    }

    /// Those that a SIGHUP reads again.
    #[must_use]
    pub fn files(self) -> SecretFiles {
        SecretFiles(self.rotating.into())
    }

    fn place(&self, secret: &Secret, problems: &mut Problems) -> Result<Place, Noted> {
        let name = secret.name;
        debug_assert!(is_secret(name), "{name} is not in the list of secrets");
        let value = self.variable(name);
        let file = self.variable(&format!("{name}{FILE}"));
        let mut note = |problem: String| {
            problems.add(problem);
            Noted
        };
        match (value, file) {
            (Some(_), Some(_)) => Err(note(format!(
                "{name} and {name}{FILE} are both set: keep one of them"
            ))),
            (Some(value), None) => value
                .into_string()
                .map(Place::Variable)
                .map_err(|_| note(format!("{name}: is not text in UTF-8"))),
            (None, Some(path)) => Ok(Place::File(path.into())),
            (None, None) => Ok(Place::Nowhere),
        }
    }

    /// A variable that has a value. An empty one, as a file of settings may have it, counts as none.
    fn variable(&self, name: &str) -> Option<OsString> {
        let value = match &self.given {
            None => std::env::var_os(name),
            Some(given) => given.get(name).cloned(),
        };
        value.filter(|value| !value.is_empty())
    }
}

impl Place {
    const fn is_file(&self) -> bool {
        matches!(self, Self::File(_))
    }

    /// The text that stands there, if any.
    fn read(&self, name: &str, problems: &mut Problems) -> Result<Option<String>, Noted> {
        match self {
            Self::Nowhere => Ok(None),
            Self::Variable(text) => Ok(Some(text.clone())),
            Self::File(path) => file::read(path).map(Some).map_err(|why| {
                problems.add(format!("{name}{FILE}: {why}"));
                Noted
            }),
        }
    }
}

/// The part of `--help` about these secrets.
#[must_use]
pub fn help<'a>(secrets: impl IntoIterator<Item = &'a Secret>) -> String {
    let mut help = String::from(
        "Secrets, each in its variable, or in a file that the variable with _FILE names; there are no flags for them:",
    );
    for Secret { name, help: manual } in secrets {
        let _ = write!(
            help,
            "\n\n  {name}\n      {manual}\n\n      [env: {name} or {name}{FILE}]"
        );
    }
    help
}

#[cfg(test)]
mod tests;
