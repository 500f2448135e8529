//! Which libraries programs need, found as the dynamic linker finds them (ld.so(8)).

use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use object::Endianness;
use object::read::elf::{Dyn, FileHeader, ProgramHeader};

/// A program or library of more is not looked into, bytes.
const MAX_BINARY: u64 = 512 << 20;
/// Where the linker looks without being told; more come from its configuration.
const STANDARD: [&str; 6] = [
    "/lib/x86_64-linux-gnu",
    "/usr/lib/x86_64-linux-gnu",
    "/lib/aarch64-linux-gnu",
    "/usr/lib/aarch64-linux-gnu",
    "/lib64",
    "/usr/lib64",
];

/// What a binary asks of the linker.
#[derive(Debug, Default)]
struct Needs {
    interpreter: Option<PathBuf>,
    libraries: Vec<String>,
    search: Vec<String>,
}

/// The libraries that a set of binaries needs, and those that these need.
#[derive(Debug)]
pub(crate) struct Closure {
    directories: Vec<PathBuf>,
    /// Name by which it is asked for, or the path of an interpreter, and where it is.
    found: BTreeMap<PathBuf, PathBuf>,
}

// === impl Closure ===

impl Closure {
    pub(crate) fn new() -> Self {
        let mut directories: Vec<PathBuf> = STANDARD.iter().map(PathBuf::from).collect();
        directories.extend(configured(Path::new("/etc/ld.so.conf"), 0));
        directories.extend(["/lib", "/usr/lib"].map(PathBuf::from));
        directories.retain(|directory| directory.is_dir());
        Self { directories, found: BTreeMap::new() }
    }

    /// Adds what a binary needs. Anything else than a binary needs nothing.
    pub(crate) fn add(&mut self, binary: &Path) {
        let mut waiting = vec![binary.to_owned()];
        while let Some(binary) = waiting.pop() {
            let Some(needs) = read(&binary) else { continue };
            if let Some(interpreter) = needs.interpreter.filter(|path| path.exists()) {
                self.found.insert(interpreter.clone(), interpreter);
            }
            let origin = binary.parent().unwrap_or_else(|| Path::new("/")).to_owned();
            let own: Vec<PathBuf> = needs
                .search
                .iter()
                .map(|path| {
                    PathBuf::from(
                        path.replace("$ORIGIN", &origin.to_string_lossy())
                            .replace("${ORIGIN}", &origin.to_string_lossy()),
                    )
                })
                .collect();
            for name in needs.libraries {
                if own.iter().any(|directory| directory.join(&name).exists()) {
                    // It brings that itself.
                    continue;
                }
                waiting.extend(self.add_library(&name));
            }
        }
    }

    /// Adds a library by its name, where there is one: its path if it is new.
    pub(crate) fn add_library(&mut self, name: &str) -> Option<PathBuf> {
        if name.contains('/') {
            return None;
        }
        let path =
            self.directories.iter().map(|directory| directory.join(name)).find(|path| path.exists())?;
        self.found.insert(path.clone(), path.clone()).is_none().then_some(path)
    }

    /// All that were found.
    pub(crate) fn paths(&self) -> impl Iterator<Item = &Path> {
        self.found.keys().map(PathBuf::as_path)
    }
}

/// Directories that the linker's configuration names, with what it includes.
fn configured(file: &Path, depth: u32) -> Vec<PathBuf> {
    let mut directories = Vec::new();
    for line in fs::read_to_string(file).unwrap_or_default().lines() {
        let line = line.split('#').next().unwrap_or_default().trim();
        if let Some(pattern) = line.strip_prefix("include ") {
            let folder = Path::new(pattern.trim()).parent().unwrap_or_else(|| Path::new("/")).to_owned();
            let mut files: Vec<_> =
                fs::read_dir(folder).into_iter().flatten().flatten().map(|file| file.path()).collect();
            files.sort();
            files.retain(|file| depth < 4 && file.extension().is_some_and(|end| end == "conf"));
            directories.extend(files.iter().flat_map(|file| configured(file, depth + 1)));
        } else if line.starts_with('/') {
            directories.push(PathBuf::from(line));
        }
    }
    directories
}

fn read(path: &Path) -> Option<Needs> {
    let mut file = fs::File::open(path).ok()?;
    let mut magic = [0; 4];
    file.read_exact(&mut magic).ok()?;
    if magic != *b"\x7fELF" || file.metadata().ok()?.len() > MAX_BINARY {
        return None;
    }
    // A node is a hundred megabytes of which a few kilobytes are looked at.
    let cache = object::ReadCache::new(file);
    parse::<_>(&cache)
}

fn parse<'a, R: object::ReadRef<'a>>(data: R) -> Option<Needs> {
    let header = object::elf::FileHeader64::<Endianness>::parse(data).ok()?;
    let endian = header.endian().ok()?;
    let segments = header.program_headers(endian, data).ok()?;
    let mut needs = Needs::default();
    let mut dynamic = None;
    for segment in segments {
        if let Ok(Some(name)) = segment.interpreter(endian, data) {
            needs.interpreter = Some(PathBuf::from(String::from_utf8_lossy(name).into_owned()));
        }
        if let Ok(Some(entries)) = segment.dynamic(endian, data) {
            dynamic = Some(entries);
        }
    }
    let entries = dynamic?;
    let value = |tag: object::elf::DynamicTag| {
        let entry = entries.iter().find(|entry| entry.tag(endian) == tag);
        entry.map(|entry| entry.d_val(endian))
    };
    let (address, size) = (value(object::elf::DT_STRTAB)?, value(object::elf::DT_STRSZ)?);
    let strings =
        segments.iter().find_map(|segment| segment.data_range(endian, data, address, size).ok().flatten())?;
    let text = |offset: u64| {
        let rest = strings.get(usize::try_from(offset).ok()?..)?;
        Some(String::from_utf8_lossy(rest.split(|byte| *byte == 0).next()?).into_owned())
    };
    for entry in entries {
        match entry.tag(endian) {
            object::elf::DT_NEEDED => needs.libraries.extend(text(entry.d_val(endian))),
            object::elf::DT_RPATH | object::elf::DT_RUNPATH => {
                let paths = text(entry.d_val(endian)).unwrap_or_default();
                needs.search.extend(paths.split(':').filter(|path| !path.is_empty()).map(str::to_owned));
            }
            _ => {}
        }
    }
    Some(needs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shell_needs_its_linker_and_the_c_library() {
        let mut closure = Closure::new();
        closure.add(Path::new("/bin/sh"));
        let names: Vec<_> =
            closure.paths().map(|path| path.file_name().unwrap().to_string_lossy().into_owned()).collect();
        assert!(names.iter().any(|name| name.starts_with("libc.so")), "{names:?}");
        assert!(names.iter().any(|name| name.starts_with("ld-linux")), "{names:?}");
    }

    #[test]
    fn what_is_no_binary_needs_nothing() {
        let mut closure = Closure::new();
        closure.add(Path::new("/etc/passwd"));
        closure.add(Path::new("/nowhere"));
        assert_eq!(closure.paths().count(), 0);
    }
}
