//! A zip archive becomes a tree.
//!
//! The list of entries is gone through without keeping it: first all of it is checked, then files are written,
//! then links, then the links are checked. Sizes are believed when they are too large and counted when they
//! are not. Modes become 0755 or 0644, so special bits are gone; times are kept, because Python's bundled bytecode
//! is valid only while its source has the time that it was compiled at.

use std::io::{self, Read, Seek, Write};
use std::path::Path;

use hearth_types::limits::UNZIPPED_BYTES;
use zip::read::{Config, ZipFile, ZipFileEntry};
use zip::result::ZipError;
// The reader that is stable keeps every entry in memory, and only one of those that share a name.
use zip::unstable::read::ZipIterable;
use zip::{CompressionMethod, DateTime, ExtraField, System, ZipReadOptions};

use crate::ArchiveError;
use crate::name::EntryPath;
use crate::tree::{ENTRIES, Tree};

/// The longest target of a symbolic link, bytes.
const TARGET_BYTES: u64 = 4_095;
const BUFFER_BYTES: usize = 128 << 10;
/// File types of a Unix mode, and the directory bit of DOS attributes.
const TYPE: u32 = 0o170_000;
const DIRECTORY: u32 = 0o040_000;
const REGULAR: u32 = 0o100_000;
const LINK: u32 = 0o120_000;
const DOS_DIRECTORY: u32 = 0x10;

/// What an entry asks to be made.
struct Entry {
    path: Vec<u8>,
    kind: Kind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Directory,
    File { executable: bool },
    Link,
}

/// Unpacks `archive`, `size` bytes long, into the empty directory `root`. After an error `root` holds part of it.
pub(crate) fn unpack<R: Read + Seek>(archive: R, size: u64, root: &Path) -> Result<(), ArchiveError> {
    if size == 0 {
        return Err(ArchiveError::Empty);
    }
    let mut archive = ZipIterable::try_new(archive, Config::default()).map_err(unreadable)?;
    if archive.len() as u64 > ENTRIES {
        return Err(ArchiveError::TooLarge { limit: ENTRIES, what: "files" });
    }
    let has_links = check(&mut archive, size)?;
    let mut unpacking =
        Unpacking { tree: Tree::begin(root)?, left: UNZIPPED_BYTES, buffer: vec![0; BUFFER_BYTES] };
    unpacking.write(&mut archive, false)?;
    if has_links {
        unpacking.write(&mut archive, true)?;
        for listed in archive.files().map_err(unreadable)? {
            let entry = read_entry(&listed.map_err(unreadable)?)?;
            if entry.kind == Kind::Link {
                unpacking.tree.check_link(&entry.path)?;
            }
        }
    }
    Ok(())
}

/// Refuses what can be refused by the list of entries alone; answers whether there are links.
fn check<R: Read + Seek>(archive: &mut ZipIterable<R>, size: u64) -> Result<bool, ArchiveError> {
    let (mut packed, mut unpacked) = (0_u64, 0_u64);
    let (mut files, mut links) = (false, false);
    for listed in archive.files().map_err(unreadable)? {
        let listed = listed.map_err(unreadable)?;
        match read_entry(&listed)?.kind {
            Kind::Directory => {}
            Kind::File { .. } => files = true,
            Kind::Link => links = true,
        }
        packed = packed.saturating_add(listed.compressed_size());
        unpacked = unpacked.saturating_add(listed.size());
    }
    if !files && !links {
        return Err(ArchiveError::Empty);
    }
    if unpacked > UNZIPPED_BYTES {
        return Err(ArchiveError::TooLarge { limit: UNZIPPED_BYTES, what: "bytes" });
    }
    // Otherwise one stretch of bytes could be unpacked a hundred thousand times.
    if packed > size {
        return Err(ArchiveError::Corrupt("its entries overlap, or it is cut off".to_owned()));
    }
    Ok(links)
}

fn read_entry(listed: &ZipFileEntry<'_>) -> Result<Entry, ArchiveError> {
    let name = listed.name_raw();
    let bad = |problem: String| ArchiveError::entry(name, problem);
    let windows = matches!(listed.system(), System::Dos | System::WindowsNTFS | System::VFAT);
    let place = EntryPath::parse(name, windows).map_err(|problem| bad(problem.to_owned()))?;
    let kind = kind(listed, place.directory).map_err(|problem| bad(problem.to_owned()))?;
    if listed.encrypted() {
        return Err(bad("it is encrypted, and code must not be".to_owned()));
    }
    match (kind, listed.size()) {
        (Kind::Directory, 1..) => return Err(bad("it is a directory with content".to_owned())),
        (Kind::Link, TARGET_BYTES..) => return Err(bad("its target is too long".to_owned())),
        _ => {}
    }
    match listed.compression() {
        CompressionMethod::Stored | CompressionMethod::Deflated => Ok(Entry { path: place.path, kind }),
        method => Err(bad(format!("its compression method {method} is not supported: use deflate or none"))),
    }
}

/// Archives that carry no Unix modes have plain files and directories only.
fn kind(listed: &ZipFileEntry<'_>, named_directory: bool) -> Result<Kind, &'static str> {
    let attributes = listed.external_attributes();
    let mode = attributes >> 16;
    match mode & TYPE {
        0 if attributes & DOS_DIRECTORY != 0 => Ok(Kind::Directory),
        0 | REGULAR if named_directory => Ok(Kind::Directory),
        0 | REGULAR => Ok(Kind::File { executable: mode & 0o111 != 0 }),
        DIRECTORY => Ok(Kind::Directory),
        LINK if named_directory => Err("it is a symbolic link whose name ends like a directory's"),
        LINK => Ok(Kind::Link),
        _ => Err("it is a device, a pipe or a socket"),
    }
}

struct Unpacking {
    tree: Tree,
    /// Bytes that may still be written, whatever the archive says of itself.
    left: u64,
    buffer: Vec<u8>,
}

impl Unpacking {
    /// Writes the links, or all else.
    fn write<R: Read + Seek>(
        &mut self,
        archive: &mut ZipIterable<R>,
        links: bool,
    ) -> Result<(), ArchiveError> {
        let files = archive.files().map_err(unreadable)?;
        while let Some(listed) = files.next() {
            let listed = listed.map_err(unreadable)?;
            let Entry { path, kind } = read_entry(&listed)?;
            if links != (kind == Kind::Link) {
                continue;
            }
            let open = |reader| listed.with_reader(reader, ZipReadOptions::new());
            match kind {
                Kind::Directory => self.tree.directory(&path)?,
                Kind::File { executable } => {
                    let mut content =
                        open(files.reader_mut()).map_err(|error| unreadable_at(&path, error))?;
                    let mut file = self.tree.file(&path)?;
                    self.copy(&path, &mut content, &mut file)?;
                    Tree::finish(&path, &file, executable, modified(&content))?;
                }
                Kind::Link => {
                    let mut content =
                        open(files.reader_mut()).map_err(|error| unreadable_at(&path, error))?;
                    let mut target = Vec::new();
                    self.copy(&path, &mut content, &mut target)?;
                    if target.is_empty() || target.contains(&0) {
                        return Err(ArchiveError::entry(
                            &path,
                            "it is a symbolic link without a proper target",
                        ));
                    }
                    self.tree.link(&path, &target)?;
                }
            }
        }
        Ok(())
    }

    /// Copies an entry's content to its end, where its checksum is compared.
    fn copy<R: Read>(
        &mut self,
        path: &[u8],
        content: &mut ZipFile<'_, R>,
        to: &mut impl Write,
    ) -> Result<(), ArchiveError> {
        let declared = content.size();
        let mut copied = 0;
        loop {
            let count = match content.read(&mut self.buffer) {
                Ok(0) => break,
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(unreadable_at(path, error.into())),
            };
            copied += count as u64;
            if copied > declared {
                return Err(damaged(path, "it is longer than it says"));
            }
            self.left = self
                .left
                .checked_sub(count as u64)
                .ok_or(ArchiveError::TooLarge { limit: UNZIPPED_BYTES, what: "bytes" })?;
            to.write_all(&self.buffer[..count]).map_err(|error| {
                ArchiveError::io(format!("write {:?}", String::from_utf8_lossy(path)), error)
            })?;
        }
        if copied < declared { Err(damaged(path, "it is shorter than it says")) } else { Ok(()) }
    }
}

/// When an entry was last changed, seconds since the Unix epoch. Archives that have only DOS's time say no zone, and
/// are read as UTC.
fn modified<R: Read>(entry: &ZipFile<'_, R>) -> i64 {
    let exact = entry.extra_data_fields().find_map(|field| match field {
        ExtraField::ExtendedTimestamp(times) => times.mod_time(),
        _ => None,
    });
    let coarse = || unix_seconds(entry.last_modified().unwrap_or_default());
    exact.map_or_else(coarse, i64::from)
}

/// The days of a date in the Gregorian calendar are counted in years that begin in March, so that leap days end them.
fn unix_seconds(time: DateTime) -> i64 {
    let (month, day) = (i64::from(time.month()), i64::from(time.day()));
    let year = i64::from(time.year()) - i64::from(month < 3);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let days = 365 * year + year / 4 - year / 100 + year / 400 + day_of_year - 719_468;
    86_400 * days + 3_600 * i64::from(time.hour()) + 60 * i64::from(time.minute()) + i64::from(time.second())
}

fn damaged(path: &[u8], problem: impl std::fmt::Display) -> ArchiveError {
    let shown: String = String::from_utf8_lossy(path).chars().take(100).collect();
    ArchiveError::Corrupt(format!("entry {shown:?}: {problem}"))
}

fn unreadable_at(path: &[u8], error: ZipError) -> ArchiveError {
    match unreadable(error) {
        ArchiveError::Corrupt(problem) => damaged(path, problem),
        other => other,
    }
}

/// An error with a number is of the disk that the archive is read from, any other of the archive.
fn unreadable(error: ZipError) -> ArchiveError {
    match error {
        ZipError::Io(error) if error.raw_os_error().is_some() => ArchiveError::io("read the archive", error),
        ZipError::Io(error) => ArchiveError::Corrupt(error.to_string()),
        ZipError::InvalidArchive(problem) => ArchiveError::Corrupt(problem.into_owned()),
        error => ArchiveError::Corrupt(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_become_seconds_since_the_unix_epoch() {
        for (date, expected) in [
            ((1980, 1, 1, 0, 0, 0), 315_532_800),
            ((2000, 2, 29, 12, 34, 56), 951_827_696),
            ((2024, 12, 31, 23, 59, 58), 1_735_689_598),
            ((2107, 12, 31, 23, 59, 58), 4_354_819_198),
        ] {
            let (year, month, day, hour, minute, second) = date;
            let time = DateTime::from_date_and_time(year, month, day, hour, minute, second).unwrap();
            assert_eq!(unix_seconds(time), expected, "{date:?}");
        }
    }
}
