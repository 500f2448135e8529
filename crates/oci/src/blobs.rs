//! Content on disk, each under its own hash.
//!
//! A blob has its name only once it is whole, checked and durable, so whoever finds one may use it. Any number of writers of the same
//! content do no harm: the last rename wins over an equal file.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use hearth_types::CodeDigest;
use sha2::{Digest as _, Sha256};
use tempfile::NamedTempFile;

use crate::{Digest, OciError};

/// Where blobs are.
#[derive(Debug)]
pub struct Blobs {
    directory: PathBuf,
    scratch: PathBuf,
}

/// A blob that comes in piece by piece; dropped, nothing is left of it.
#[derive(Debug)]
pub struct Upload {
    file: NamedTempFile,
    hash: Sha256,
    size: u64,
}

// === impl Blobs ===

impl Blobs {
    pub(crate) fn open(directory: PathBuf, scratch: PathBuf) -> io::Result<Self> {
        fs::create_dir_all(&directory)?;
        Ok(Self { directory, scratch })
    }

    /// Begins a blob.
    ///
    /// # Errors
    /// The disk failed.
    pub fn begin(&self) -> Result<Upload, OciError> {
        let file =
            NamedTempFile::new_in(&self.scratch).map_err(|error| OciError::io("begin a blob", error))?;
        Ok(Upload { file, hash: Sha256::new(), size: 0 })
    }

    /// Keeps a blob if it is what it should be.
    ///
    /// # Errors
    /// It is not, or the disk failed; it is gone then.
    pub fn finish(&self, upload: Upload, expected: Digest) -> Result<(), OciError> {
        let found = Digest(CodeDigest(upload.hash.finalize().into()));
        if found != expected {
            let problem = format!("its content is {found}");
            return Err(OciError::invalid(expected.to_string(), problem));
        }
        let kept = upload.file.as_file().sync_all().and_then(|()| {
            upload.file.persist(self.path(expected)).map_err(|error| error.error)?;
            File::open(&self.directory)?.sync_all()
        });
        kept.map_err(|error| OciError::io("keep a blob", error))
    }

    /// Keeps a small blob.
    ///
    /// # Errors
    /// The disk failed.
    pub fn put(&self, content: &[u8]) -> Result<Digest, OciError> {
        let digest = Digest::of(content);
        if self.size(digest).is_none() {
            let mut upload = self.begin()?;
            upload.write(content)?;
            self.finish(upload, digest)?;
        }
        Ok(digest)
    }

    /// Keeps what a reader gives, of which exactly `size` bytes are expected.
    ///
    /// # Errors
    /// It is something else, or a disk failed.
    pub fn copy(&self, from: &mut dyn Read, expected: Digest, size: u64) -> Result<(), OciError> {
        let mut upload = self.begin()?;
        let mut buffer = vec![0; 256 << 10];
        let mut from = from.take(size.saturating_add(1));
        loop {
            match from.read(&mut buffer) {
                Ok(0) => break,
                Ok(count) => upload.write(&buffer[..count])?,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(OciError::io(format!("read {expected}"), error)),
            }
        }
        if upload.size() != size {
            return Err(OciError::invalid(
                expected.to_string(),
                format!("it has not {size} bytes, as it should"),
            ));
        }
        self.finish(upload, expected)
    }

    /// How many bytes a blob has, if it is here. Its age begins again: whoever asks may be about to refer to it.
    #[must_use]
    pub fn size(&self, digest: Digest) -> Option<u64> {
        let file = File::open(self.path(digest)).ok()?;
        if let Err(error) = file.set_modified(SystemTime::now()) {
            tracing::debug!(%digest, %error, "cannot note that a blob was asked for");
        }
        file.metadata().ok().map(|metadata| metadata.len())
    }

    /// Opens a blob.
    ///
    /// # Errors
    /// It is not here, or the disk failed.
    pub fn file(&self, digest: Digest) -> Result<File, OciError> {
        File::open(self.path(digest)).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => OciError::Missing(digest),
            _ => OciError::io(format!("open {digest}"), error),
        })
    }

    /// Reads a blob of at most `most` bytes, and checks it again.
    ///
    /// # Errors
    /// It is not here, too large or damaged, or the disk failed.
    pub fn read(&self, digest: Digest, most: u64) -> Result<Vec<u8>, OciError> {
        let mut content = Vec::new();
        let read = self.file(digest)?.take(most + 1).read_to_end(&mut content);
        read.map_err(|error| OciError::io(format!("read {digest}"), error))?;
        if content.len() as u64 > most {
            return Err(OciError::TooLarge { what: digest.to_string(), limit: most, unit: "bytes" });
        }
        if Digest::of(&content) != digest {
            return Err(damaged(digest));
        }
        Ok(content)
    }

    /// Where a blob is.
    #[must_use]
    pub fn path(&self, digest: Digest) -> PathBuf {
        self.directory.join(digest.hex())
    }

    /// Removes a blob that was not asked for since `before`; answers whether it did.
    pub(crate) fn remove_older(&self, digest: Digest, before: SystemTime) -> io::Result<bool> {
        let path = self.path(digest);
        match fs::metadata(&path).and_then(|metadata| metadata.modified()) {
            Ok(modified) if modified < before => fs::remove_file(&path).map(|()| true),
            Ok(_) => Ok(false),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    pub(crate) fn all(&self) -> io::Result<Vec<Digest>> {
        list(&self.directory)
    }
}

/// What of a directory's entries is named like content.
pub(crate) fn list(directory: &Path) -> io::Result<Vec<Digest>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory)? {
        let name = entry?.file_name();
        found.extend(name.to_str().and_then(|name| name.parse::<CodeDigest>().ok()).map(Digest));
    }
    Ok(found)
}

/// A blob that was whole when it was written.
pub(crate) fn damaged(digest: Digest) -> OciError {
    let problem = "the file is damaged, its SHA-256 is not its name: push or deploy the image again";
    let source = io::Error::new(io::ErrorKind::InvalidData, problem);
    OciError::io(format!("use {digest}"), source)
}

// === impl Upload ===

impl Upload {
    /// Adds bytes.
    ///
    /// # Errors
    /// The disk failed.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), OciError> {
        self.file.write_all(bytes).map_err(|error| OciError::io("write a blob", error))?;
        self.hash.update(bytes);
        self.size += bytes.len() as u64;
        Ok(())
    }

    /// Bytes so far.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.size
    }
}
