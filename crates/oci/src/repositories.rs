//! Repositories: what accounts have put where. Accounts see only their own.
//!
//! ```text
//! ACCOUNT/NAME/manifests/<sha256>            the media type it came with; the content is a blob
//! ACCOUNT/NAME/tags/TAG                      a manifest's digest
//! ACCOUNT/NAME/blobs/<sha256>                empty: the repository may read that blob
//! ACCOUNT/NAME/referrers/<sha256>.<sha256>   the descriptor of the second, which says something about the first
//! ```
//!
//! Each is one file, written whole and renamed, so there is nothing to repair after a crash. In NAME, `+` stands for a slash, which no
//! repository's name has.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use hearth_types::AccountId;
use tempfile::NamedTempFile;

use crate::blobs::list;
use crate::{Descriptor, Digest, OciError, is_repository, is_tag};

const KINDS: [&str; 4] = ["manifests", "tags", "blobs", "referrers"];
/// A tag's or manifest's file is some hundred bytes.
const FILE_BYTES: u64 = 64 << 10;

/// All repositories.
#[derive(Debug)]
pub struct Repositories {
    directory: PathBuf,
    scratch: PathBuf,
}

/// One of them; it need not exist.
#[derive(Clone, Debug)]
pub struct Repository {
    directory: PathBuf,
    scratch: PathBuf,
}

// === impl Repositories ===

impl Repositories {
    pub(crate) fn open(directory: PathBuf, scratch: PathBuf) -> io::Result<Self> {
        fs::create_dir_all(&directory)?;
        Ok(Self { directory, scratch })
    }

    /// An account's repository, if `name` can be one's.
    #[must_use]
    pub fn get(&self, account: &AccountId, name: &str) -> Option<Repository> {
        let directory = self.directory.join(account.as_str()).join(name.replace('/', "+"));
        is_repository(name).then(|| Repository { directory, scratch: self.scratch.clone() })
    }

    /// The names of an account's repositories, in order.
    ///
    /// # Errors
    /// The disk failed.
    pub fn names(&self, account: &AccountId) -> io::Result<Vec<String>> {
        Ok(entries(&self.directory.join(account.as_str()))?
            .into_iter()
            .map(|name| name.replace('+', "/"))
            .filter(|name| is_repository(name))
            .collect())
    }

    /// Every manifest of every repository of every account.
    pub(crate) fn manifests(&self) -> io::Result<Vec<Digest>> {
        let mut found = Vec::new();
        for account in entries(&self.directory)? {
            let account = self.directory.join(account);
            for name in entries(&account)? {
                let manifests = account.join(name).join("manifests");
                if manifests.is_dir() {
                    found.extend(list(&manifests)?);
                }
            }
        }
        Ok(found)
    }
}

// === impl Repository ===

impl Repository {
    /// Whether anything was ever put here.
    #[must_use]
    pub fn exists(&self) -> bool {
        self.directory.is_dir()
    }

    /// Notes a manifest that is kept as a blob, what it says something about, and its tag.
    ///
    /// # Errors
    /// The disk failed.
    pub fn put_manifest(
        &self,
        digest: Digest,
        media_type: &str,
        about: Option<(Digest, &Descriptor)>,
        tag: Option<&str>,
    ) -> Result<(), OciError> {
        self.write("manifests", &digest.hex(), media_type.as_bytes())?;
        if let Some((subject, descriptor)) = about {
            let text = serde_json::to_vec(descriptor)
                .map_err(|error| OciError::io("note a referrer", io::Error::other(error)))?;
            self.write("referrers", &format!("{}.{}", subject.hex(), digest.hex()), &text)?;
        }
        tag.map_or(Ok(()), |tag| self.write("tags", tag, digest.to_string().as_bytes()))
    }

    /// The manifest that a tag or digest means here, and its media type.
    #[must_use]
    pub fn manifest(&self, wanted: &str) -> Option<(Digest, String)> {
        let digest = match wanted.parse::<Digest>() {
            Ok(digest) => digest,
            Err(_) if is_tag(wanted) => self.read("tags", wanted)?.parse().ok()?,
            Err(_) => return None,
        };
        Some((digest, self.read("manifests", &digest.hex())?))
    }

    /// Forgets a manifest with its tags; answers whether it was there.
    ///
    /// # Errors
    /// The disk failed.
    pub fn delete_manifest(&self, digest: Digest) -> Result<bool, OciError> {
        for tag in self.tags()? {
            if self.read("tags", &tag).is_some_and(|named| named == digest.to_string()) {
                self.remove("tags", &tag)?;
            }
        }
        let suffix = format!(".{}", digest.hex());
        let referrers = entries(&self.directory.join("referrers")).map_err(failed)?;
        for referrer in referrers.iter().filter(|name| name.ends_with(&suffix)) {
            self.remove("referrers", referrer)?;
        }
        self.remove("manifests", &digest.hex())
    }

    /// Forgets a tag; answers whether it was there.
    ///
    /// # Errors
    /// The disk failed.
    pub fn delete_tag(&self, tag: &str) -> Result<bool, OciError> {
        if is_tag(tag) { self.remove("tags", tag) } else { Ok(false) }
    }

    /// Its tags, in order.
    ///
    /// # Errors
    /// The disk failed.
    pub fn tags(&self) -> Result<Vec<String>, OciError> {
        entries(&self.directory.join("tags")).map_err(failed)
    }

    /// What says something about a manifest.
    ///
    /// # Errors
    /// The disk failed.
    pub fn referrers(&self, subject: Digest) -> Result<Vec<Descriptor>, OciError> {
        let prefix = format!("{}.", subject.hex());
        let names = entries(&self.directory.join("referrers")).map_err(failed)?;
        let ours = names.iter().filter(|name| name.starts_with(&prefix));
        Ok(ours.filter_map(|name| serde_json::from_str(&self.read("referrers", name)?).ok()).collect())
    }

    /// Lets the repository read a blob.
    ///
    /// # Errors
    /// The disk failed.
    pub fn link_blob(&self, digest: Digest) -> Result<(), OciError> {
        self.write("blobs", &digest.hex(), b"")
    }

    /// Whether the repository may read a blob.
    #[must_use]
    pub fn has_blob(&self, digest: Digest) -> bool {
        self.directory.join("blobs").join(digest.hex()).exists()
    }

    /// Takes a blob from the repository; answers whether it was there.
    ///
    /// # Errors
    /// The disk failed.
    pub fn delete_blob(&self, digest: Digest) -> Result<bool, OciError> {
        self.remove("blobs", &digest.hex())
    }

    fn write(&self, kind: &str, name: &str, content: &[u8]) -> Result<(), OciError> {
        let directory = self.directory.join(kind);
        let written = || -> io::Result<()> {
            if !directory.is_dir() {
                for kind in KINDS {
                    fs::create_dir_all(self.directory.join(kind))?;
                }
                sync(&self.directory)?;
                self.directory.ancestors().skip(1).take(2).try_for_each(sync)?;
            }
            let mut file = NamedTempFile::new_in(&self.scratch)?;
            file.write_all(content)?;
            file.as_file().sync_all()?;
            file.persist(directory.join(name)).map_err(|error| error.error)?;
            sync(&directory)
        };
        written().map_err(failed)
    }

    fn read(&self, kind: &str, name: &str) -> Option<String> {
        use io::Read;
        let mut text = String::new();
        let file = File::open(self.directory.join(kind).join(name)).ok()?;
        file.take(FILE_BYTES).read_to_string(&mut text).ok()?;
        Some(text)
    }

    fn remove(&self, kind: &str, name: &str) -> Result<bool, OciError> {
        let directory = self.directory.join(kind);
        match fs::remove_file(directory.join(name)).and_then(|()| sync(&directory)) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(failed(error)),
        }
    }
}

/// Names in a directory, in order; none if there is no such directory.
fn entries(directory: &Path) -> io::Result<Vec<String>> {
    let listed = match fs::read_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        listed => listed?,
    };
    let mut names = Vec::new();
    for entry in listed {
        names.extend(entry?.file_name().into_string().ok());
    }
    names.sort();
    Ok(names)
}

fn sync(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()
}

fn failed(error: io::Error) -> OciError {
    OciError::io("keep what a repository has", error)
}
