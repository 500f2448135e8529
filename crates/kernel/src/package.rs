//! Debian's packages: an `ar` of archives, of which `data.tar` has the files (deb(5)).

use std::collections::BTreeMap;
use std::io::{self, Read};

use crate::KernelError;
use crate::error::broken;
use crate::image::{MAX_KERNEL, decoder, read_bounded};
use crate::modules::name_of;

/// The largest package, bytes.
pub(crate) const MAX_PACKAGE: u64 = 512 << 20;
/// All modules of a package, as they are in it, bytes: a distribution's full set is a few hundred megabytes.
const MAX_ALL_MODULES: u64 = 1 << 30;
/// A module of more is none that a guest needs, bytes.
const MAX_PACKED_MODULE: u64 = 32 << 20;
const MAX_CONFIG: u64 = 4 << 20;

/// What a package has of a kernel.
#[derive(Debug, Default)]
pub(crate) struct Package {
    pub(crate) image: Vec<u8>,
    pub(crate) release: Option<String>,
    pub(crate) config: Option<String>,
    pub(crate) modules: BTreeMap<String, Vec<u8>>,
}

/// Whether the bytes are an `ar`.
pub(crate) fn is_package(bytes: &[u8]) -> bool {
    bytes.starts_with(b"!<arch>\n")
}

impl Package {
    /// Takes a package apart. `wants_module` says which modules are worth keeping.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, KernelError> {
        let mut archive = ar::Archive::new(bytes);
        while let Some(entry) = archive.next_entry() {
            let entry = entry.map_err(|error| broken("package", error))?;
            let name = String::from_utf8_lossy(entry.header().identifier()).into_owned();
            if name.trim_end_matches('/').starts_with("data.tar") {
                let data = read_bounded(entry, "package", MAX_PACKAGE)?;
                return Self::parse_data(decoder(&data)?);
            }
        }
        Err(broken("package", "it has no data.tar"))
    }

    fn parse_data(data: impl Read) -> Result<Self, KernelError> {
        let mut package = Self::default();
        let mut left = MAX_ALL_MODULES;
        let mut archive = tar::Archive::new(data);
        for entry in archive.entries().map_err(|error| broken("package", error))? {
            let entry = entry.map_err(|error| broken("package", error))?;
            if entry.header().entry_type() != tar::EntryType::Regular {
                continue;
            }
            let path = entry.path_bytes().into_owned();
            let path = String::from_utf8_lossy(&path);
            let path = path.trim_start_matches("./").trim_start_matches("usr/");
            if let Some(release) = path.strip_prefix("boot/vmlinuz-") {
                package.release = Some(release.to_owned());
                package.image = read_bounded(entry, "image", MAX_KERNEL)?;
            } else if path.starts_with("boot/config-") {
                let config = read_bounded(entry, "configuration", MAX_CONFIG)?;
                package.config = Some(String::from_utf8_lossy(&config).into_owned());
            } else if path.starts_with("lib/modules/")
                && let Some(name) = name_of(path)
            {
                let bytes = read_bounded(entry, "modules", MAX_PACKED_MODULE.min(left))?;
                left -= bytes.len() as u64;
                package.modules.insert(name, bytes);
            }
        }
        if package.image.is_empty() {
            return Err(broken(
                "package",
                "it has no boot/vmlinuz: is it a meta package or one of modules alone?",
            ));
        }
        Ok(package)
    }
}

/// All modules below a folder of the operator's.
pub(crate) fn modules_below(directory: &std::path::Path) -> io::Result<BTreeMap<String, Vec<u8>>> {
    let mut found = BTreeMap::new();
    let mut left = vec![(directory.to_owned(), 0)];
    while let Some((directory, depth)) = left.pop() {
        for entry in std::fs::read_dir(directory)? {
            let entry = entry?;
            let kind = entry.file_type()?;
            if kind.is_dir() && depth < 16 {
                left.push((entry.path(), depth + 1));
            } else if kind.is_file()
                && let Some(name) = name_of(&entry.file_name().to_string_lossy())
                && entry.metadata()?.len() <= MAX_PACKED_MODULE
            {
                found.insert(name, std::fs::read(entry.path())?);
            }
        }
    }
    Ok(found)
}
