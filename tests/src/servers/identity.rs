//! What a server shows of itself by TLS.

use std::{
    fs::{self, Permissions},
    os::unix::fs::{PermissionsExt, chown},
    path::Path,
};

use nix::unistd::User;

/// Names of the files in the folder of a server.
pub(super) const CERTIFICATE: &str = "server.pem";
pub(super) const KEY: &str = "server.key";

/// A certificate and its key, both in PEM format.
#[derive(Debug, Clone)]
pub struct Identity {
    /// The certificate, and those between it and its CA.
    pub certificate: String,
    /// The private key.
    pub key: String,
}

impl Identity {
    /// Writes both files for a server that runs as `user`: PostgreSQL takes no key that others can read.
    pub(super) fn write(&self, folder: &Path, user: Option<&User>) -> anyhow::Result<()> {
        for (name, text) in [(CERTIFICATE, &self.certificate), (KEY, &self.key)] {
            let path = folder.join(name);
            fs::write(&path, text)?;
            fs::set_permissions(&path, Permissions::from_mode(0o600))?;
            if let Some(user) = user {
                chown(&path, Some(user.uid.as_raw()), Some(user.gid.as_raw()))?;
            }
        }
        Ok(())
    }
}
