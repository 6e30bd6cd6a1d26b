//! One file that has a secret.

use std::{
    fs::{File, Metadata},
    io::Read,
    os::unix::fs::PermissionsExt,
    path::Path,
};

/// The largest such file, in bytes: the addresses of 16 brokers, and more, have room.
const BYTES_MAX: u64 = 16 * 1024;
/// The permission of everybody to write.
const WRITABLE_BY_ALL: u32 = 0o002;

/// Why there is no secret to be had. The path is not repeated: by a mistake it may be the secret itself.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unfit {
    #[error("the file that it names does not exist")]
    Missing,
    #[error("the file that it names cannot be read ({0})")]
    Unreadable(std::io::ErrorKind),
    #[error("what it names is not a regular file")]
    NotAFile,
    #[error(
        "everybody on this machine may write to the file that it names: take that away with `chmod o-w`"
    )]
    Writable,
    #[error("the file that it names has more than {BYTES_MAX} bytes")]
    TooLarge,
    #[error("the file that it names is empty")]
    Empty,
    #[error("the file that it names is not text in UTF-8")]
    NotText,
}

impl From<std::io::Error> for Unfit {
    fn from(error: std::io::Error) -> Self {
        match error.kind() {
            std::io::ErrorKind::NotFound => Self::Missing,
            kind => Self::Unreadable(kind),
        }
    }
}

/// Reads the secret in a file, without the line ends behind it.
///
/// That others may read the file is no reason to refuse it: containers get their secrets that way, and have no other
/// users. Whoever may write it could choose the secret.
pub(super) fn read(path: &Path) -> Result<String, Unfit> {
    // To open a pipe that nobody writes to would wait for ever.
    check(&path.metadata()?)?;
    let mut bytes = Vec::new();
    File::open(path)?
        .take(BYTES_MAX + 1)
        .read_to_end(&mut bytes)?;
    if bytes.len() as u64 > BYTES_MAX {
        return Err(Unfit::TooLarge);
    }
    let text = String::from_utf8(bytes).map_err(|_| Unfit::NotText)?;
    let secret = text.trim_end_matches(['\r', '\n']);
    if secret.trim().is_empty() {
        return Err(Unfit::Empty);
    }
    Ok(secret.to_owned())
}

fn check(metadata: &Metadata) -> Result<(), Unfit> {
    if !metadata.is_file() {
        Err(Unfit::NotAFile)
    } else if metadata.permissions().mode() & WRITABLE_BY_ALL != 0 {
        Err(Unfit::Writable)
    } else {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn told(path: &Path) -> String {
        read(path).expect_err("it is unfit").to_string()
    }

    #[test]
    fn the_secret_is_what_stands_before_the_line_ends() -> anyhow::Result<()> {
        let folder = tempfile::tempdir()?;
        let path = folder.path().join("secret");
        for content in ["a secret", "a secret\n", "a secret\r\n", "a secret\n\n"] {
            fs::write(&path, content)?;
            assert_eq!(read(&path)?, "a secret");
        }
        fs::write(&path, " two\nlines \n")?;
        assert_eq!(read(&path)?, " two\nlines ");
        let link = folder.path().join("link");
        std::os::unix::fs::symlink(&path, &link)?;
        assert_eq!(read(&link)?, " two\nlines ");
        Ok(())
    }

    #[test]
    fn a_file_that_has_none_is_told_by_its_fault() -> anyhow::Result<()> {
        let folder = tempfile::tempdir()?;
        let path = folder.path().join("secret");
        assert!(told(&path).contains("does not exist"));
        assert!(told(folder.path()).contains("not a regular file"));
        for empty in ["", "\n", " \r\n"] {
            fs::write(&path, empty)?;
            assert!(told(&path).contains("is empty"), "{empty:?}");
        }
        fs::write(&path, [0xff])?;
        assert!(told(&path).contains("UTF-8"));
        let most = usize::try_from(BYTES_MAX)?;
        fs::write(&path, "x".repeat(most))?;
        assert_eq!(read(&path)?.len(), most);
        fs::write(&path, "x".repeat(most + 1))?;
        assert!(told(&path).contains("more than 16384 bytes"));
        fs::write(&path, "a secret")?;
        fs::set_permissions(&path, PermissionsExt::from_mode(0o444))?;
        assert_eq!(read(&path)?, "a secret");
        fs::set_permissions(&path, PermissionsExt::from_mode(0o602))?;
        assert!(told(&path).contains("chmod o-w"));
        Ok(())
    }
}
