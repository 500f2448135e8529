//! Writes a layer's tree below one directory and nowhere else.

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use hearth_image::EntryPath;
use rustix::fs::{
    AtFlags, FileType, Gid, Mode, OFlags, ResolveFlags, Stat, Timespec, Timestamps, Uid, XattrFlags,
};
use rustix::io::Errno;

use crate::OciError;
use crate::error::shown;
use crate::tar::{Entry, Kind};

/// The most files, directories and links in one layer.
const ENTRIES: u64 = 1_000_000;
/// What takes something away from the layers below, before its name.
const WHITEOUT: &[u8] = b".wh.";
/// What takes away all that a directory had below.
const OPAQUE: &[u8] = b".wh..wh..opq";
/// Names of the old kind of layered file system for itself.
const INTERNAL: &[u8] = b".wh..wh.";
const TARGET_BYTES: usize = 4_095;
/// Values of extended attributes are at most so long, in the kernel.
const XATTR_BYTES: usize = 64 << 10;
/// The kernel gives up on a path when directories are moved meanwhile, anywhere; then it is asked again.
const RESOLUTIONS: usize = 1_000;

/// Links are followed as if the layer's directory were the root of all.
const WITHIN: ResolveFlags = ResolveFlags::IN_ROOT.union(ResolveFlags::NO_MAGICLINKS);
const DIRECTORY: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

/// A tree that is being written.
pub(super) struct Tree {
    root: OwnedFd,
    /// The directory that was written to last: archives list neighbours together.
    current: Option<(Vec<u8>, OwnedFd)>,
    /// What directories get at the end, when nothing more is written to them.
    directories: Vec<Attributes>,
    entries: u64,
    /// Whether this process may give files away and take names that are the machine's root's.
    is_root: bool,
}

struct Attributes {
    path: Vec<u8>,
    mode: u32,
    uid: u32,
    gid: u32,
    modified: i64,
}

// === impl Tree ===

impl Tree {
    /// Begins below `root`, an empty directory.
    pub(super) fn begin(root: &Path) -> Result<Self, OciError> {
        let opened = rustix::fs::open(root, DIRECTORY | OFlags::NOFOLLOW, Mode::empty());
        let opened = opened.and_then(|root| rustix::fs::fchmod(&root, Mode::from(0o755)).map(|()| root));
        let root = opened.map_err(|error| OciError::io(format!("open {}", root.display()), error))?;
        let is_root = rustix::process::geteuid().is_root();
        Ok(Self { root, current: None, directories: Vec::new(), entries: 0, is_root })
    }

    /// Makes what an entry asks for; a file is still to be filled.
    pub(super) fn place(&mut self, entry: &Entry) -> Result<Option<File>, OciError> {
        self.entries += 1;
        if self.entries > ENTRIES {
            let what = "a layer".to_owned();
            return Err(OciError::TooLarge { what, limit: ENTRIES, unit: "files, directories and links" });
        }
        let path = path(&entry.path)?;
        let (parent, name) = split(&path);
        if let Some(hidden) = name.strip_prefix(WHITEOUT) {
            self.whiteout(&entry.path, parent, name, hidden)?;
            return Ok(None);
        }
        match entry.kind {
            Kind::Directory => self.directory(entry, path).map(|()| None),
            _ if path.is_empty() => Err(refused(&entry.path, "it stands for the root and is no directory")),
            Kind::File => {
                let made = self.make(&entry.path, parent, name, |parent| {
                    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW;
                    rustix::fs::openat(parent, name, flags | OFlags::CLOEXEC, Mode::RUSR | Mode::WUSR)
                })?;
                Ok(Some(File::from(made)))
            }
            Kind::Symlink => self.symlink(entry, parent, name).map(|()| None),
            Kind::HardLink => self.hard_link(entry, parent, name).map(|()| None),
            Kind::Fifo => {
                self.make(&entry.path, parent, name, |parent| {
                    rustix::fs::mknodat(parent, name, FileType::Fifo, Mode::from(entry.mode & 0o777), 0)
                })?;
                self.own_link(entry, name).map(|()| None)
            }
            Kind::Device => Err(refused(&entry.path, "it is a device: instances have their own /dev")),
        }
    }

    /// Gives a file that is filled what its entry says of it.
    pub(super) fn finish_file(&self, entry: &Entry, file: &File) -> Result<(), OciError> {
        set_xattrs(entry, file)?;
        let set = self.own(file.as_fd(), entry.uid, entry.gid).and_then(|()| {
            rustix::fs::fchmod(file, Mode::from_raw_mode(entry.mode))?;
            rustix::fs::futimens(file, &times(entry.modified))
        });
        set.map_err(|error| failed(&entry.path, error))
    }

    /// Gives directories what their entries say of them.
    pub(super) fn finish(mut self) -> Result<(), OciError> {
        self.current = None;
        // Those inside first: a directory's time is that of its last change.
        for directory in self.directories.iter().rev() {
            let opened = match self.open(&directory.path, DIRECTORY | OFlags::NOFOLLOW) {
                // It gave way to something else.
                Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => continue,
                opened => opened,
            };
            let set = opened.and_then(|opened| {
                self.own(opened.as_fd(), directory.uid, directory.gid)?;
                rustix::fs::fchmod(&opened, Mode::from_raw_mode(directory.mode))?;
                rustix::fs::futimens(&opened, &times(directory.modified))
            });
            set.map_err(|error| failed(&directory.path, error))?;
        }
        Ok(())
    }

    fn directory(&mut self, entry: &Entry, path: Vec<u8>) -> Result<(), OciError> {
        if !path.is_empty() {
            self.make_directory(&entry.path, &path)?;
        }
        let opened = self.open(&path, DIRECTORY).map_err(|error| failed(&entry.path, error))?;
        set_xattrs(entry, &opened)?;
        let Entry { mode, uid, gid, modified, .. } = *entry;
        self.directories.push(Attributes { path, mode, uid, gid, modified });
        Ok(())
    }

    /// Makes a directory where there is none. It takes the place of what is no directory; that of something taken away hides
    /// all that is below.
    fn make_directory(&mut self, shown: &[u8], path: &[u8]) -> Result<(), OciError> {
        let (parent, name) = split(path);
        self.enter(shown, parent)?;
        let make = |tree: &Self| rustix::fs::mkdirat(tree.parent(), name, Mode::from(0o755));
        match make(self) {
            Err(Errno::EXIST) => {}
            made => return made.map_err(|error| failed(shown, error)),
        }
        let found = stat(self.parent(), name).map_err(|error| failed(shown, error))?;
        if is_directory(&found) {
            return Ok(());
        }
        self.remove(shown, name)?;
        make(self).map_err(|error| failed(shown, error))?;
        if is_whiteout(&found) { self.make_opaque(shown, path) } else { Ok(()) }
    }

    fn symlink(&mut self, entry: &Entry, parent: &[u8], name: &[u8]) -> Result<(), OciError> {
        if entry.target.is_empty() || entry.target.len() > TARGET_BYTES || entry.target.contains(&0) {
            return Err(refused(&entry.path, "it is a symbolic link without a proper target"));
        }
        self.make(&entry.path, parent, name, |parent| rustix::fs::symlinkat(&*entry.target, parent, name))?;
        self.own_link(entry, name)
    }

    fn hard_link(&mut self, entry: &Entry, parent: &[u8], name: &[u8]) -> Result<(), OciError> {
        let target =
            path(&entry.target).map_err(|_| refused(&entry.path, "it is a link to no proper path"))?;
        let (target_parent, target_name) = split(&target);
        let missing = || refused(&entry.path, "it is a hard link to a file that the layer does not have");
        let from = self.open(target_parent, DIRECTORY).map_err(|_| missing())?;
        let stat = stat(from.as_fd(), target_name).map_err(|_| missing())?;
        if is_directory(&stat) || is_whiteout(&stat) {
            return Err(missing());
        }
        if split(&target) == (parent, name) {
            return Ok(());
        }
        self.make(&entry.path, parent, name, |parent| {
            rustix::fs::linkat(&from, target_name, parent, name, AtFlags::empty())
        })
        .map(drop)
    }

    /// Takes something away from the layers below.
    fn whiteout(&mut self, shown: &[u8], parent: &[u8], name: &[u8], hidden: &[u8]) -> Result<(), OciError> {
        if name == OPAQUE {
            self.enter(shown, parent)?;
            return self.make_opaque(shown, parent);
        }
        if name.starts_with(INTERNAL) {
            return Ok(());
        }
        if matches!(hidden, b"" | b"." | b"..") {
            return Err(refused(shown, "it takes away nothing that has a name"));
        }
        self.enter(shown, parent)?;
        match stat(self.parent(), hidden) {
            // What the layer has itself hides what is below; only a directory would be joined with it.
            Ok(stat) if is_directory(&stat) => {
                let path = [parent, hidden].join(&b'/');
                return self.make_opaque(shown, if parent.is_empty() { hidden } else { &path });
            }
            Ok(_) => return Ok(()),
            Err(Errno::NOENT) => {}
            Err(error) => return Err(failed(shown, error)),
        }
        let made = rustix::fs::mknodat(self.parent(), hidden, FileType::CharacterDevice, Mode::empty(), 0);
        made.map_err(|error| failed(shown, error))
    }

    fn make_opaque(&self, shown: &[u8], path: &[u8]) -> Result<(), OciError> {
        let name = if self.is_root { c"trusted.overlay.opaque" } else { c"user.overlay.opaque" };
        let set = self
            .open(path, DIRECTORY)
            .and_then(|directory| rustix::fs::fsetxattr(directory, name, b"y", XattrFlags::empty()));
        set.map_err(|error| failed(shown, error))
    }

    /// Makes something in a directory; what has its name gives way, unless it is a directory.
    fn make<T>(
        &mut self,
        shown: &[u8],
        parent: &[u8],
        name: &[u8],
        make: impl Fn(BorrowedFd<'_>) -> Result<T, Errno>,
    ) -> Result<T, OciError> {
        self.enter(shown, parent)?;
        match make(self.parent()) {
            Err(Errno::EXIST) => {
                self.remove(shown, name)?;
                make(self.parent()).map_err(|error| failed(shown, error))
            }
            made => made.map_err(|error| failed(shown, error)),
        }
    }

    fn remove(&self, shown: &[u8], name: &[u8]) -> Result<(), OciError> {
        match rustix::fs::unlinkat(self.parent(), name, AtFlags::empty()) {
            Err(Errno::ISDIR) => match rustix::fs::unlinkat(self.parent(), name, AtFlags::REMOVEDIR) {
                Err(Errno::NOTEMPTY | Errno::EXIST) => {
                    Err(refused(shown, "another entry of the layer is a directory at the same place"))
                }
                removed => removed.map_err(|error| failed(shown, error)),
            },
            removed => removed.map_err(|error| failed(shown, error)),
        }
    }

    /// Owner and time of what is no file, in the current directory.
    fn own_link(&self, entry: &Entry, name: &[u8]) -> Result<(), OciError> {
        let flags = AtFlags::SYMLINK_NOFOLLOW;
        let owned = if self.is_root && (entry.uid, entry.gid) != (0, 0) {
            let (uid, gid) = ids(entry.uid, entry.gid);
            rustix::fs::chownat(self.parent(), name, uid, gid, flags)
        } else {
            Ok(())
        };
        owned
            .and_then(|()| rustix::fs::utimensat(self.parent(), name, &times(entry.modified), flags))
            .map_err(|error| failed(&entry.path, error))
    }

    fn own(&self, file: BorrowedFd<'_>, uid: u32, gid: u32) -> Result<(), Errno> {
        if !self.is_root || (uid, gid) == (0, 0) {
            return Ok(());
        }
        let (uid, gid) = ids(uid, gid);
        rustix::fs::fchown(file, uid, gid)
    }

    /// Makes `path` the directory that is written to; those that are missing are made.
    fn enter(&mut self, shown: &[u8], path: &[u8]) -> Result<(), OciError> {
        let same = self.current.as_ref().map_or(path.is_empty(), |(current, _)| current == path);
        if same {
            return Ok(());
        }
        if path.is_empty() {
            self.current = None;
            return Ok(());
        }
        let opened = match self.open(path, DIRECTORY) {
            Err(Errno::NOENT | Errno::NOTDIR) => {
                let (parent, name) = split(path);
                self.enter(shown, parent)?;
                match stat(self.parent(), name) {
                    Err(Errno::NOENT) => {}
                    Ok(stat) if is_whiteout(&stat) => {}
                    // A file, or a link to nothing.
                    _ => return Err(failed(shown, Errno::NOTDIR)),
                }
                self.entries += 1;
                self.make_directory(shown, path)?;
                self.open(path, DIRECTORY)
            }
            opened => opened,
        };
        let opened = opened.map_err(|error| failed(shown, error))?;
        self.current = Some((path.to_vec(), opened));
        Ok(())
    }

    fn parent(&self) -> BorrowedFd<'_> {
        self.current.as_ref().map_or_else(|| self.root.as_fd(), |(_, current)| current.as_fd())
    }

    /// Opens what a path means in the tree.
    fn open(&self, path: &[u8], flags: OFlags) -> Result<OwnedFd, Errno> {
        let path = if path.is_empty() { b"." } else { path };
        for _ in 0..RESOLUTIONS {
            match rustix::fs::openat2(&self.root, path, flags, Mode::empty(), WITHIN) {
                Err(Errno::AGAIN) => {}
                opened => return opened,
            }
        }
        Err(Errno::AGAIN)
    }
}

/// Where an entry goes. Layers may begin names with a slash: all of them mean the layer's own root.
fn path(name: &[u8]) -> Result<Vec<u8>, OciError> {
    let start = name.iter().position(|byte| *byte != b'/').unwrap_or(name.len());
    match &name[start..] {
        b"" | b"." => Ok(Vec::new()),
        relative => match EntryPath::parse(relative, false) {
            Ok(entry) => Ok(entry.path),
            Err(problem) => Err(refused(name, problem)),
        },
    }
}

/// The directory and the last component of a path.
fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|byte| *byte == b'/') {
        Some(slash) => (&path[..slash], &path[slash + 1..]),
        None => (b"", path),
    }
}

/// Attributes that programs set for themselves; what overlayfs reads is not an archive's to say.
fn set_xattrs(entry: &Entry, file: impl AsFd) -> Result<(), OciError> {
    for (name, value) in &entry.xattrs {
        let ours = name.starts_with(b"user.") && !name.starts_with(b"user.overlay.");
        if !ours || name.contains(&0) {
            continue;
        }
        if value.len() > XATTR_BYTES {
            return Err(refused(&entry.path, "an extended attribute is longer than 64 KiB"));
        }
        rustix::fs::fsetxattr(&file, &**name, value, XattrFlags::empty())
            .map_err(|error| failed(&entry.path, error))?;
    }
    Ok(())
}

fn stat(directory: BorrowedFd<'_>, name: &[u8]) -> Result<Stat, Errno> {
    rustix::fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW)
}

fn is_directory(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::Directory
}

fn is_whiteout(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice && stat.st_rdev == 0
}

fn ids(uid: u32, gid: u32) -> (Option<Uid>, Option<Gid>) {
    (Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)))
}

fn times(modified: i64) -> Timestamps {
    let time = Timespec { tv_sec: modified, tv_nsec: 0 };
    Timestamps { last_access: time, last_modification: time }
}

fn refused(path: &[u8], problem: &str) -> OciError {
    OciError::invalid(format!("a layer's entry {}", shown(path)), problem)
}

/// Whose fault it is that the kernel refused `path`.
fn failed(path: &[u8], error: Errno) -> OciError {
    match error {
        Errno::NOTDIR
        | Errno::ISDIR
        | Errno::EXIST
        | Errno::LOOP
        | Errno::NOENT
        | Errno::PERM
        | Errno::XDEV => refused(path, "another entry of the layer is of another kind at the same place"),
        Errno::NAMETOOLONG | Errno::INVAL | Errno::ILSEQ | Errno::MLINK | Errno::RANGE | Errno::TOOBIG => {
            refused(path, "the file system cannot hold that")
        }
        error => OciError::io(format!("unpack {}", shown(path)), error),
    }
}
