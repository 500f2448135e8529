//! The file with the key that seals secrets: made once, readable by its owner alone.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use hearth_keys::Sealer;

use crate::secret_file;

/// Why there is nothing to seal with.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SealKeyError {
    #[error(
        "{path} is open to others than its owner (mode {mode:03o}): chmod 600 {path}, and think whether its secrets are still any"
    )]
    Open { path: PathBuf, mode: u32 },
    #[error(
        "{path} is not a key of {} bytes: restore it, or name the right file with --seal-key",
        Sealer::BYTES
    )]
    Damaged { path: PathBuf },
    #[error("the system has no random numbers")]
    NoRandom,
    #[error("cannot {step} {path}")]
    Io {
        step: &'static str,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
}

/// Reads the key in a file, which is made if it is not there; for good, unless it goes with this process anyway.
pub(crate) fn open(path: &Path, for_good: bool) -> Result<Sealer, SealKeyError> {
    let io = |step: &'static str| {
        let path = path.to_owned();
        move |source| SealKeyError::Io { step, path, source }
    };
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return make(path, for_good),
        Err(error) => return Err(io("read")(error)),
    };
    let mode = file.metadata().map_err(io("read"))?.mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(SealKeyError::Open { path: path.to_owned(), mode });
    }
    let mut key = Vec::with_capacity(Sealer::BYTES);
    file.take(Sealer::BYTES as u64 + 1).read_to_end(&mut key).map_err(io("read"))?;
    Sealer::new(&key).ok_or_else(|| SealKeyError::Damaged { path: path.to_owned() })
}

/// Makes a key, whole or not at all: a secret that was sealed with half of one would be lost.
fn make(path: &Path, for_good: bool) -> Result<Sealer, SealKeyError> {
    let key = Sealer::random_key().ok_or(SealKeyError::NoRandom)?;
    secret_file::replace(path, &key, for_good).map_err(|source| SealKeyError::Io {
        step: "make",
        path: path.to_owned(),
        source,
    })?;
    Sealer::new(&key).ok_or_else(|| SealKeyError::Damaged { path: path.to_owned() })
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_key_is_made_once_for_its_owner_alone_and_a_damaged_one_is_said() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("seal.key");
        let sealed = open(&path, true).unwrap().seal("p", "secret").unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        assert_eq!(open(&path, true).unwrap().open("p", &sealed).as_deref(), Some("secret"));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        assert!(matches!(open(&path, true), Err(SealKeyError::Open { mode: 0o640, .. })));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        for size in [0, 31, 33] {
            fs::write(&path, vec![0; size]).unwrap();
            assert!(matches!(open(&path, true), Err(SealKeyError::Damaged { .. })), "{size}");
        }
    }
}
