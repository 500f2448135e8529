//! The names of entries: bytes that somebody else chose, and the paths that they may mean.
//!
//! Names are refused, not repaired: an archive that means something else than it says is nobody's code. Bytes
//! that are no UTF-8 stay as they are. Backslashes are ordinary characters, except in a name without any slash in
//! an archive made on Windows, where old tools wrote them for slashes; unzip reads them alike.

/// The longest path, bytes: the kernel takes 4,096 with its end marker.
const PATH_BYTES: usize = 4_095;
/// The longest component of a path, bytes.
const COMPONENT_BYTES: usize = 255;
/// The deepest path; whoever walks the tree needs a descriptor for each level.
const DEPTH: usize = 100;

/// Where an entry goes.
#[derive(Debug, PartialEq, Eq)]
pub struct EntryPath {
    /// Components joined by single slashes, none of them `.` or `..`; empty for the root itself.
    pub path: Vec<u8>,
    /// Whether the name ended in a slash.
    pub directory: bool,
}

impl EntryPath {
    /// Reads a name; `windows` is whether the archive was made there.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(name: &[u8], windows: bool) -> Result<Self, &'static str> {
        let mut name = name.to_vec();
        if windows && !name.contains(&b'/') {
            name.iter_mut().filter(|byte| **byte == b'\\').for_each(|byte| *byte = b'/');
        }
        if name.is_empty() {
            return Err("it has no name");
        }
        if name.contains(&0) {
            return Err("its name has a NUL in it");
        }
        if name.starts_with(b"/") {
            return Err("its path is absolute; paths must be relative to the root of the archive");
        }
        if name.len() > PATH_BYTES {
            return Err("its path is longer than 4,095 bytes");
        }
        let directory = name.ends_with(b"/") || name.ends_with(b"/.");
        let mut path = Vec::with_capacity(name.len());
        let components = name.split(|byte| *byte == b'/').filter(|part| !matches!(*part, b"" | b"."));
        for (depth, component) in (1..).zip(components) {
            if component == b".." {
                return Err("its path has `..` in it, which could leave the root of the archive");
            }
            if component.len() > COMPONENT_BYTES {
                return Err("a part of its path is longer than 255 bytes");
            }
            if depth > DEPTH {
                return Err("its path is more than 100 directories deep");
            }
            if !path.is_empty() {
                path.push(b'/');
            }
            path.extend_from_slice(component);
        }
        if path.is_empty() && !directory && name != b"." {
            return Err("it has no name");
        }
        Ok(Self { directory: directory || path.is_empty(), path })
    }
}

/// The directory and the last component of a path as [`EntryPath`] gives it.
pub(crate) fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|byte| *byte == b'/') {
        Some(slash) => (&path[..slash], &path[slash + 1..]),
        None => (b"", path),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn path(name: &[u8]) -> Option<(Vec<u8>, bool)> {
        EntryPath::parse(name, false).ok().map(|entry| (entry.path, entry.directory))
    }

    #[test]
    fn names_that_mean_a_place_below_the_root_are_taken() {
        let file = |path: &[u8]| Some((path.to_vec(), false));
        let directory = |path: &[u8]| Some((path.to_vec(), true));
        assert_eq!(path(b"a"), file(b"a"));
        assert_eq!(path(b"./a//b/./c"), file(b"a/b/c"));
        assert_eq!(path(b"a/"), directory(b"a"));
        assert_eq!(path(b"./"), directory(b""));
        assert_eq!(path(b"..."), file(b"..."));
        assert_eq!(path(b"a..b/..c"), file(b"a..b/..c"));
        assert_eq!(path(b"\xff\xfe"), file(b"\xff\xfe"));
        assert_eq!(path(b"a\\..\\b"), file(b"a\\..\\b"));
        assert_eq!(path(&[b'n'; 255]), file(&[b'n'; 255]));
    }

    #[test]
    fn names_that_could_leave_the_root_or_cannot_be_made_are_refused() {
        let (deep, long) = ("d/".repeat(100) + "f", "abc/".repeat(1_024));
        for name in
            ["", "/", "/etc/passwd", "//a", "..", "../a", "a/../../b", "a/..", "a/../b", "a\0b", &deep, &long]
        {
            assert_eq!(path(name.as_bytes()), None, "{name:?}");
        }
        assert_eq!(path(&[b'n'; 256]), None);
    }

    #[test]
    fn backslashes_are_slashes_only_where_windows_wrote_them() {
        let parse = |name: &[u8]| EntryPath::parse(name, true).map(|entry| entry.path);
        assert_eq!(parse(b"a\\b"), Ok(b"a/b".to_vec()));
        assert_eq!(parse(b"a/b\\c"), Ok(b"a/b\\c".to_vec()));
        assert!(parse(b"..\\a").is_err());
        assert!(parse(b"\\a").is_err());
    }

    proptest! {
        #[test]
        fn a_path_never_has_a_part_that_could_leave_the_root(name in "[a./\\\\\0]{0,12}", windows: bool) {
            if let Ok(entry) = EntryPath::parse(name.as_bytes(), windows) {
                prop_assert!(entry.path.is_empty() == entry.path.split(|b| *b == b'/').any(|part| part == b""));
                prop_assert!(!entry.path.split(|b| *b == b'/').any(|part| part == b"." || part == b".."));
                prop_assert!(!entry.path.contains(&0));
            }
        }
    }
}
