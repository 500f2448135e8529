//! Disks with an empty file system: sparse files that nobody else can find.
//!
//! A file system is made once for each size, and copied for each disk, without its holes.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};

/// Makes disks.
#[derive(Debug)]
pub(crate) struct BlankDisks {
    directory: PathBuf,
    number: AtomicU64,
}

/// A disk whose name goes with it.
#[derive(Debug)]
pub(crate) struct Disk {
    pub(crate) file: File,
    path: PathBuf,
}

impl Drop for Disk {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_file(&self.path) {
            tracing::warn!(path = %self.path.display(), %error, "cannot remove a disk");
        }
    }
}

// === impl BlankDisks ===

impl BlankDisks {
    /// Uses `directory`, removing what was there.
    pub(crate) fn open(directory: &Path) -> io::Result<Self> {
        if directory.exists() {
            fs::remove_dir_all(directory)?;
        }
        fs::create_dir_all(directory)?;
        Ok(Self { directory: directory.to_owned(), number: AtomicU64::new(0) })
    }

    /// A disk of `bytes` with an empty file system: a file without a name. Blocks.
    pub(crate) fn take(&self, bytes: u64) -> io::Result<File> {
        self.take_named(bytes)?.file.try_clone()
    }

    /// The same with a name, for who has it appear elsewhere. Blocks.
    pub(crate) fn take_named(&self, bytes: u64) -> io::Result<Disk> {
        self.copy_of(&self.template(bytes)?)
    }

    /// A disk like that one. Blocks.
    pub(crate) fn copy_of(&self, template: &File) -> io::Result<Disk> {
        let bytes = template.metadata()?.len();
        let number = self.number.fetch_add(1, Ordering::Relaxed);
        let path = self.directory.join(format!("{number}.img"));
        let image = OpenOptions::new().read(true).write(true).create_new(true).open(&path)?;
        let disk = Disk { file: image, path };
        copy_sparse(template, &disk.file, bytes)?;
        Ok(disk)
    }

    /// An image with an empty file system, made once for each size.
    fn template(&self, bytes: u64) -> io::Result<File> {
        let path = self.directory.join(format!("template-{bytes}.img"));
        if let Ok(file) = File::open(&path) {
            return Ok(file);
        }
        let number = self.number.fetch_add(1, Ordering::Relaxed);
        let half_made = self.directory.join(format!("template-{bytes}.{number}"));
        File::create(&half_made)?.set_len(bytes)?;
        format(&half_made)?;
        fs::rename(&half_made, &path)?;
        File::open(&path)
    }
}

/// No journal: what a crash leaves of a scratch disk is never looked at. The root directory is everybody's, as `/tmp` is.
fn format(image: &Path) -> io::Result<()> {
    let features = "^has_journal,^resize_inode,^metadata_csum,extent,sparse_super2";
    let output = Command::new("mkfs.ext4")
        .args(["-q", "-F", "-m", "0", "-I", "128", "-i", "16384", "-O", features])
        .args(["-E", "lazy_itable_init=1,nodiscard,root_owner=0:0,packed_meta_blocks=1"])
        .arg(image)
        .env("PATH", "/usr/sbin:/sbin:/usr/bin:/bin")
        .stdin(Stdio::null())
        .output()
        .map_err(|error| {
            io::Error::new(error.kind(), format!("cannot run mkfs.ext4 (package e2fsprogs): {error}"))
        })?;
    if output.status.success() {
        return Ok(());
    }
    Err(io::Error::other(format!("mkfs.ext4 failed: {}", String::from_utf8_lossy(&output.stderr).trim())))
}

/// Copies what is not a hole.
fn copy_sparse(from: &File, to: &File, bytes: u64) -> io::Result<()> {
    use rustix::fs::{SeekFrom, copy_file_range, seek};
    to.set_len(bytes)?;
    let mut end = 0;
    while let Ok(start) = seek(from, SeekFrom::Data(end)) {
        end = seek(from, SeekFrom::Hole(start))?;
        let (mut source, mut target) = (start, start);
        while source < end {
            let left = usize::try_from(end - source).unwrap_or(usize::MAX);
            if copy_file_range(from, Some(&mut source), to, Some(&mut target), left)? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }
    Ok(())
}
