//! Saved machines on disk: memory, device state, and what they depend on, checked by hash before anything runs from them.
//!
//! A snapshot's folder is named by the hash of everything that went into it, so one that is stale is never looked for. It
//! becomes visible all at once, by a rename, and is not removed while it is held ([`hearth_rootfs::open_held`]): several processes may have
//! one folder. In use it is a file in memory, sealed: clones map it privately, and not one of
//! them can change what the next one gets.

use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use hearth_rootfs::{appear, open_held, remove_unless_held};
use rustix::fs::{FallocateFlags, SealFlags, fallocate, fcntl_add_seals};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::process::memory_file;

/// Memory is hashed and stored in pieces of this size, bytes; those that are zero are left out.
const PIECE: usize = 64 << 10;
/// A device state of more is none, bytes.
const MAX_STATE: u64 = 16 << 20;
/// What was not finished for so long never will be.
const ABANDONED: Duration = Duration::from_secs(3600);
const ABOUT: &str = "snapshot.json";
const MEMORY: &str = "memory";
const STATE: &str = "state";
const DISK: &str = "disk";

/// Why there is no such snapshot.
#[derive(Debug, thiserror::Error)]
pub(super) enum SnapshotError {
    /// None of that name.
    #[error("there is none")]
    Absent,
    /// What is there is not what was saved.
    #[error("it is damaged: {0}")]
    Damaged(&'static str),
    /// It cannot be read or written.
    #[error("cannot {step}")]
    Io {
        /// An infinitive.
        step: &'static str,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
}

/// Where the memory of a snapshot in use is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Medium {
    /// In a file in memory, sealed.
    Memory,
    /// Where it is kept, for VMMs that open files by their names. Those run as users that cannot write it.
    Disk,
}

/// A saved machine, ready to be cloned.
#[derive(Debug)]
pub(super) struct Snapshot {
    /// All of its memory; nobody writes to it any more.
    pub(super) memory: File,
    /// The state of its devices.
    pub(super) state: File,
    /// Its scratch disk, if it had begun to use it.
    pub(super) disk: Option<File>,
    /// What its user noted.
    pub(super) note: String,
}

/// What is written beside a snapshot.
#[derive(Debug, Serialize, Deserialize)]
struct About {
    memory_bytes: u64,
    memory_sha256: String,
    state_sha256: String,
    #[serde(default)]
    disk: Option<AboutDisk>,
    note: String,
    note_sha256: String,
}

#[derive(Debug, Serialize, Deserialize)]
struct AboutDisk {
    bytes: u64,
    sha256: String,
}

/// The snapshots of one folder.
#[derive(Debug)]
pub(super) struct Snapshots {
    directory: PathBuf,
    limit_bytes: u64,
    medium: Medium,
}

fn io_step(step: &'static str) -> impl Fn(io::Error) -> SnapshotError {
    move |source| SnapshotError::Io { step, source }
}

// === impl SnapshotError ===

impl SnapshotError {
    /// The work broke off.
    pub(super) fn broke_off(error: tokio::task::JoinError) -> Self {
        Self::Io { step: "finish", source: io::Error::other(error) }
    }
}

// === impl Snapshots ===

impl Snapshots {
    /// Uses `directory`, for at most `limit_bytes`, and removes what was never finished.
    pub(super) fn open(directory: PathBuf, limit_bytes: u64, medium: Medium) -> io::Result<Self> {
        fs::create_dir_all(&directory)?;
        // A function's memory holds its secrets.
        fs::set_permissions(&directory, std::os::unix::fs::PermissionsExt::from_mode(0o700))?;
        for entry in fs::read_dir(&directory)?.flatten() {
            let age = entry.metadata()?.modified()?.elapsed().unwrap_or_default();
            // A younger one may be another process's, which is at it.
            if age > ABANDONED && entry.path().extension().is_some_and(|end| end == "new") {
                fs::remove_dir_all(entry.path())?;
            }
        }
        Ok(Self { directory, limit_bytes, medium })
    }

    /// Where their memory is when they are in use.
    pub(super) fn medium(&self) -> Medium {
        self.medium
    }

    /// Where they are.
    pub(super) fn directory(&self) -> &Path {
        &self.directory
    }

    /// The snapshot of that name, after a look at all of it. One that is damaged is removed.
    pub(super) fn load(&self, name: &str) -> Result<Snapshot, SnapshotError> {
        let directory = self.directory.join(name);
        let loaded = load(&directory, self.medium);
        if let Err(SnapshotError::Damaged(_)) = &loaded {
            let _ = fs::remove_dir_all(&directory);
        }
        if loaded.is_ok() {
            // Its age is since it was used last.
            let _ = File::open(directory.join(ABOUT))
                .and_then(|file| file.set_modified(std::time::SystemTime::now()));
        }
        loaded
    }

    /// Keeps a machine whose memory and state were saved to `snapshot`: that, so that nobody can write it any more.
    pub(super) fn keep(&self, name: &str, mut snapshot: Snapshot) -> Result<Snapshot, SnapshotError> {
        if self.medium == Medium::Memory {
            seal(&snapshot.memory).map_err(io_step("seal the memory"))?;
        }
        let (new, directory) =
            (self.directory.join(format!("{name}.{}.new", std::process::id())), self.directory.join(name));
        let _ = fs::remove_dir_all(&new);
        fs::create_dir_all(&new).map_err(io_step("make the snapshot's folder"))?;
        // The rest of one that was being removed, or another process's, made at the same time: that stays as long as it is held.
        let kept = store(&new, &snapshot).and_then(|()| {
            remove_unless_held(&directory, MEMORY);
            // Held before anybody else can see it.
            let memory = open_held(&new.join(MEMORY))?;
            appear(&new, &directory).map(|appeared| appeared.then_some(memory))
        });
        if !matches!(kept, Ok(Some(_))) {
            let _ = fs::remove_dir_all(&new);
        }
        let Some(memory) = kept.map_err(io_step("write the snapshot"))? else { return self.load(name) };
        if self.medium == Medium::Disk {
            snapshot.memory = memory;
        }
        self.make_room(name);
        Ok(snapshot)
    }

    /// Removes what was used longest ago until the rest is within the limit. Those that run are in memory or held, and stay there.
    fn make_room(&self, keep: &str) {
        let mut all: Vec<_> = fs::read_dir(&self.directory).into_iter().flatten().flatten().collect();
        all.sort_by_key(|entry| {
            fs::metadata(entry.path().join(ABOUT)).and_then(|about| about.modified()).ok()
        });
        let mut total: u64 = all.iter().map(|entry| size_on_disk(&entry.path())).sum();
        for entry in all {
            if total <= self.limit_bytes {
                return;
            }
            let bytes = size_on_disk(&entry.path());
            if entry.file_name().to_str() != Some(keep) && remove_unless_held(&entry.path(), MEMORY) {
                total -= bytes;
            }
        }
    }
}

fn size_on_disk(directory: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt;
    let size = |name| fs::metadata(directory.join(name)).map_or(0, |file| file.blocks() * 512);
    size(MEMORY) + size(STATE) + size(DISK)
}

fn seal(memory: &File) -> io::Result<()> {
    let seals = SealFlags::WRITE | SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL;
    fcntl_add_seals(memory.as_fd(), seals).map_err(Into::into)
}

pub(super) fn hex(digest: &[u8]) -> String {
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Hands on the pieces of a file that are not zero, with where they are.
fn pieces(file: &File, mut each: impl FnMut(u64, &[u8]) -> io::Result<()>) -> io::Result<()> {
    use rustix::fs::{SeekFrom, seek};
    let mut buffer = vec![0; PIECE];
    let mut at = 0;
    while let Ok(start) = seek(file, SeekFrom::Data(at)) {
        let end = seek(file, SeekFrom::Hole(start))?;
        at = start - start % PIECE as u64;
        while at < end {
            let count = read_at(file, &mut buffer, at)?;
            let piece = buffer.get(..count).unwrap_or_default();
            if piece.iter().any(|byte| *byte != 0) {
                each(at, piece)?;
            }
            at += PIECE as u64;
        }
    }
    Ok(())
}

/// Gives back the disk that a file's zeros take, piece by piece.
pub(super) fn dig_holes(file: &File) -> io::Result<()> {
    let mut buffer = vec![0; PIECE];
    let bytes = file.metadata()?.len();
    let hole = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
    let mut at = 0;
    while at < bytes {
        let count = read_at(file, &mut buffer, at)?;
        if count == 0 {
            break;
        }
        if buffer.get(..count).unwrap_or_default().iter().all(|byte| *byte == 0) {
            fallocate(file, hole, at, count as u64)?;
        }
        at += count as u64;
    }
    Ok(())
}

fn read_at(file: &File, buffer: &mut [u8], at: u64) -> io::Result<usize> {
    let mut filled = 0;
    while let Some(rest) = buffer.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        match file.read_at(rest, at + filled as u64)? {
            0 => break,
            count => filled += count,
        }
    }
    Ok(filled)
}

fn note(hash: &mut Sha256, at: u64, piece: &[u8]) {
    hash.update(at.to_le_bytes());
    hash.update(piece);
}

/// Copies what is in a file and not zero to another of the same size: the hash of that.
pub(super) fn copy_pieces(from: &File, to: &File) -> io::Result<String> {
    let mut hash = Sha256::new();
    pieces(from, |at, piece| {
        note(&mut hash, at, piece);
        to.write_all_at(piece, at)
    })?;
    Ok(hex(&hash.finalize()))
}

/// The hash of what is in a file and not zero.
fn hash_pieces(file: &File) -> io::Result<String> {
    let mut hash = Sha256::new();
    pieces(file, |at, piece| {
        note(&mut hash, at, piece);
        Ok(())
    })?;
    Ok(hex(&hash.finalize()))
}

fn store(directory: &Path, snapshot: &Snapshot) -> io::Result<()> {
    let copy = |name: &str, from: &File| {
        let to = File::create_new(directory.join(name))?;
        let bytes = from.metadata()?.len();
        // VMMs are other users, and may have no way to the folder: what they get to see is handed to them.
        to.set_permissions(std::os::unix::fs::PermissionsExt::from_mode(0o644))?;
        to.set_len(bytes)?;
        let sha256 = copy_pieces(from, &to)?;
        to.sync_all()?;
        Ok::<_, io::Error>((bytes, sha256))
    };
    let (memory_bytes, memory_sha256) = copy(MEMORY, &snapshot.memory)?;
    let mut state = Vec::new();
    let mut from = snapshot.state.try_clone()?;
    from.seek(SeekFrom::Start(0))?;
    from.take(MAX_STATE).read_to_end(&mut state)?;
    let mut state_file = File::create_new(directory.join(STATE))?;
    state_file.write_all(&state)?;
    state_file.sync_all()?;
    let disk = snapshot.disk.as_ref().map(|disk| copy(DISK, disk)).transpose()?;
    let about = About {
        memory_bytes,
        memory_sha256,
        state_sha256: hex(&Sha256::digest(&state)),
        disk: disk.map(|(bytes, sha256)| AboutDisk { bytes, sha256 }),
        note: snapshot.note.clone(),
        note_sha256: hex(&Sha256::digest(&snapshot.note)),
    };
    let mut file = File::create_new(directory.join(ABOUT))?;
    file.write_all(&serde_json::to_vec_pretty(&about)?)?;
    file.sync_all()
}

/// A file of a snapshot, if it has the size that it should have.
fn open_sized(path: &Path, bytes: u64, damage: &'static str) -> Result<File, SnapshotError> {
    let file = open_held(path).map_err(io_step("open a file of the snapshot"))?;
    let there = file.metadata().map_err(io_step("read a file of the snapshot"))?.len();
    if there == bytes { Ok(file) } else { Err(SnapshotError::Damaged(damage)) }
}

fn load(directory: &Path, medium: Medium) -> Result<Snapshot, SnapshotError> {
    // From here on it is not replaced by another one.
    let _held = match open_held(&directory.join(MEMORY)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(SnapshotError::Absent),
        held => held.map_err(io_step("open the snapshot's memory"))?,
    };
    let about = match fs::read(directory.join(ABOUT)) {
        Ok(about) => about,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(SnapshotError::Absent),
        Err(error) => return Err(io_step("read the snapshot's description")(error)),
    };
    let about: About =
        serde_json::from_slice(&about).map_err(|_| SnapshotError::Damaged("its description is none"))?;
    if hex(&Sha256::digest(&about.note)) != about.note_sha256 {
        return Err(SnapshotError::Damaged("its note is not what was saved"));
    }
    let memory = load_memory(directory, &about, medium)?;
    let mut bytes = Vec::new();
    let state = File::open(directory.join(STATE)).map_err(io_step("open the snapshot's state"))?;
    state.take(MAX_STATE).read_to_end(&mut bytes).map_err(io_step("read the snapshot's state"))?;
    if hex(&Sha256::digest(&bytes)) != about.state_sha256 {
        return Err(SnapshotError::Damaged("its state is not what was saved"));
    }
    let state = memory_file("state", bytes.len() as u64).map_err(io_step("make room in memory"))?;
    state.write_all_at(&bytes, 0).map_err(io_step("make room in memory"))?;
    let disk = about.disk.as_ref().map(|disk| load_disk(directory, disk)).transpose()?;
    if medium == Medium::Memory {
        seal(&memory).map_err(io_step("seal the memory"))?;
    }
    seal(&state).map_err(io_step("seal the memory"))?;
    Ok(Snapshot { memory, state, disk, note: about.note })
}

fn load_memory(directory: &Path, about: &About, medium: Medium) -> Result<File, SnapshotError> {
    let stored = open_sized(&directory.join(MEMORY), about.memory_bytes, "its memory has another size")?;
    if medium == Medium::Disk {
        let sha256 = hash_pieces(&stored).map_err(io_step("read the snapshot's memory"))?;
        let whole = sha256 == about.memory_sha256;
        return whole.then_some(stored).ok_or(SnapshotError::Damaged("its memory is not what was saved"));
    }
    let memory = memory_file("snapshot", about.memory_bytes).map_err(io_step("make room in memory"))?;
    let sha256 = copy_pieces(&stored, &memory).map_err(io_step("read the snapshot's memory"))?;
    if sha256 == about.memory_sha256 {
        Ok(memory)
    } else {
        Err(SnapshotError::Damaged("its memory is not what was saved"))
    }
}

/// The disk stays where it is: each clone makes its own copy, and nobody writes to this one.
fn load_disk(directory: &Path, about: &AboutDisk) -> Result<File, SnapshotError> {
    let disk = open_sized(&directory.join(DISK), about.bytes, "its disk has another size")?;
    if hash_pieces(&disk).map_err(io_step("read the snapshot's disk"))? == about.sha256 {
        Ok(disk)
    } else {
        Err(SnapshotError::Damaged("its disk is not what was saved"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn saved(store: &Snapshots, name: &str) -> Snapshot {
        let memory = memory_file("memory", 1 << 20).unwrap();
        memory.write_all_at(b"something", 300_000).unwrap();
        let state = memory_file("state", 5).unwrap();
        state.write_all_at(b"state", 0).unwrap();
        let disk = memory_file("disk", 1 << 20).unwrap();
        disk.write_all_at(b"file", 4_096).unwrap();
        let snapshot = Snapshot { memory, state, disk: Some(disk), note: "a word".to_owned() };
        store.keep(name, snapshot).unwrap()
    }

    fn text(file: &File, at: u64, length: usize) -> String {
        let mut bytes = vec![0; length];
        file.read_exact_at(&mut bytes, at).unwrap();
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn what_is_loaded_is_what_was_kept_and_cannot_be_written() {
        let directory = tempfile::tempdir().unwrap();
        let store = Snapshots::open(directory.path().join("s"), u64::MAX, Medium::Memory).unwrap();
        saved(&store, "a");
        let snapshot = store.load("a").unwrap();
        assert_eq!(text(&snapshot.memory, 300_000, 9), "something");
        assert_eq!(text(&snapshot.state, 0, 5), "state");
        assert_eq!(text(snapshot.disk.as_ref().unwrap(), 4_096, 4), "file");
        assert_eq!(snapshot.note, "a word");
        assert!(snapshot.memory.write_all_at(b"x", 0).is_err());
        assert!(matches!(store.load("b"), Err(SnapshotError::Absent)));
    }

    #[test]
    fn one_that_is_damaged_is_refused_and_removed() {
        for (file, damage) in [(MEMORY, 300_004_u64), (STATE, 2), (DISK, 4_097), (ABOUT, 3)] {
            let directory = tempfile::tempdir().unwrap();
            let store = Snapshots::open(directory.path().join("s"), u64::MAX, Medium::Memory).unwrap();
            saved(&store, "a");
            let path = directory.path().join("s/a").join(file);
            File::options().write(true).open(&path).unwrap().write_all_at(b"\xff", damage).unwrap();
            assert!(matches!(store.load("a"), Err(SnapshotError::Damaged(_))), "{file}");
            assert!(matches!(store.load("a"), Err(SnapshotError::Absent)), "{file}");
        }
        let directory = tempfile::tempdir().unwrap();
        let store = Snapshots::open(directory.path().join("s"), u64::MAX, Medium::Memory).unwrap();
        saved(&store, "a");
        let memory = File::options().write(true).open(directory.path().join("s/a/memory")).unwrap();
        memory.set_len(1 << 19).unwrap();
        assert!(matches!(store.load("a"), Err(SnapshotError::Damaged(_))));
    }

    #[test]
    fn the_one_used_longest_ago_goes_when_there_are_too_many() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("s");
        let one = {
            let store = Snapshots::open(path.clone(), u64::MAX, Medium::Memory).unwrap();
            saved(&store, "a");
            size_on_disk(&path.join("a"))
        };
        let store = Snapshots::open(path.clone(), 2 * one, Medium::Memory).unwrap();
        saved(&store, "b");
        let old = std::time::SystemTime::UNIX_EPOCH;
        File::open(path.join("b").join(ABOUT)).unwrap().set_modified(old).unwrap();
        saved(&store, "c");
        let mut left: Vec<_> = fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        left.sort();
        assert_eq!(left, ["a", "c"]);
    }

    #[test]
    fn what_was_never_finished_is_removed() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("s");
        for (name, age) in [("old.1.new", 2 * ABANDONED), ("young.1.new", Duration::ZERO)] {
            fs::create_dir_all(path.join(name)).unwrap();
            let time = std::time::SystemTime::now() - age;
            File::open(path.join(name)).unwrap().set_modified(time).unwrap();
        }
        Snapshots::open(path.clone(), u64::MAX, Medium::Memory).unwrap();
        assert!(!path.join("old.1.new").exists() && path.join("young.1.new").exists());
    }
}
