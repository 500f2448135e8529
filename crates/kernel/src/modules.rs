//! Modules: which a guest needs, what those need, and the order that follows.

use std::collections::BTreeMap;

use object::{Object, ObjectSection};

use crate::KernelError;
use crate::error::broken;
use crate::image::{decoder, read_bounded};

/// What guests find their disks, file systems and worker with, where it is a module. Those that are missing are built in, or
/// make no difference, or are in [`required`].
const WANTED: [&str; 9] = [
    "virtio_mmio",
    "virtio_blk",
    "virtio_console",
    "vmw_vsock_virtio_transport",
    "virtio_net",
    "erofs",
    "ext4",
    "overlay",
    "virtio_balloon",
];
/// The largest module, unpacked, bytes.
const MAX_MODULE: u64 = 32 << 20;
/// All modules of a guest together, bytes.
pub(crate) const MAX_MODULES: u64 = 64 << 20;

/// A module as it is loaded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Module {
    /// With underscores, as the kernel names it.
    pub(crate) name: String,
    pub(crate) bytes: Vec<u8>,
}

/// The name of the module in a file of that name; `None` if it holds none.
pub(crate) fn name_of(file: &str) -> Option<String> {
    let file = file.rsplit('/').next()?;
    let stem = [".ko", ".ko.xz", ".ko.zst", ".ko.gz"].iter().find_map(|end| file.strip_suffix(end))?;
    Some(stem.replace('-', "_"))
}

/// The modules to load, each after those that it needs. `available` are all of a package, as they are in it.
pub(crate) fn in_order(available: &BTreeMap<String, Vec<u8>>) -> Result<Vec<Module>, KernelError> {
    let mut chosen = Vec::new();
    for name in WANTED {
        add(name, available, &mut chosen, 0)?;
    }
    let total: u64 = chosen.iter().map(|module| module.bytes.len() as u64).sum();
    if total > MAX_MODULES {
        return Err(KernelError::TooLarge { what: "modules", limit_mb: MAX_MODULES >> 20 });
    }
    Ok(chosen)
}

fn add(
    name: &str,
    available: &BTreeMap<String, Vec<u8>>,
    chosen: &mut Vec<Module>,
    depth: usize,
) -> Result<(), KernelError> {
    if depth > 32 {
        return Err(broken("modules", "they need each other in a circle"));
    }
    let Some(packed) = available.get(name).filter(|_| !chosen.iter().any(|module| module.name == name))
    else {
        // Built in, or chosen before.
        return Ok(());
    };
    let bytes = read_bounded(decoder(packed)?, "modules", MAX_MODULE)?;
    for needed in needs(&bytes)? {
        add(&needed, available, chosen, depth + 1)?;
    }
    if !chosen.iter().any(|module| module.name == name) {
        chosen.push(Module { name: name.to_owned(), bytes });
    }
    Ok(())
}

/// What a module says it needs: `depends=` in its `.modinfo` (Linux: scripts/mod/modpost.c), and what it has loaded before
/// it where there is that.
fn needs(bytes: &[u8]) -> Result<Vec<String>, KernelError> {
    let file = object::File::parse(bytes).map_err(|error| broken("modules", error))?;
    let Some(section) = file.section_by_name(".modinfo") else {
        return Err(broken("modules", "one has no .modinfo"));
    };
    let data = section.data().map_err(|error| broken("modules", error))?;
    let mut needs = Vec::new();
    for entry in data.split(|byte| *byte == 0) {
        let Ok(entry) = std::str::from_utf8(entry) else { continue };
        let list = if let Some(list) = entry.strip_prefix("depends=") {
            list.split(',')
        } else if let Some(list) = entry.strip_prefix("softdep=pre: ") {
            list.split(',')
        } else {
            continue;
        };
        let words = list.flat_map(|word| word.split(' ')).take_while(|word| *word != "post:");
        needs.extend(words.filter(|word| !word.is_empty()).map(|word| word.replace('-', "_")));
    }
    Ok(needs)
}

/// A kernel's `.config`.
#[derive(Debug)]
pub(crate) struct Config<'a>(pub(crate) &'a str);

impl Config<'_> {
    /// Whether an option is on, built in or as a module.
    fn has(&self, option: &str, as_module: bool) -> bool {
        self.0.lines().any(|line| {
            let value = line.strip_prefix(option).and_then(|rest| rest.strip_prefix('='));
            value.is_some_and(|value| value == "y" || (as_module && value == "m"))
        })
    }
}

/// What a guest cannot do without: option, the module that it may be, and what to call it.
const REQUIRED: [(&str, Option<&str>, &str); 9] = [
    ("CONFIG_VIRTIO_MMIO", Some("virtio_mmio"), "virtio over MMIO (virtio_mmio)"),
    ("CONFIG_VIRTIO_BLK", Some("virtio_blk"), "virtio disks (virtio_blk)"),
    ("CONFIG_EROFS_FS", Some("erofs"), "erofs"),
    ("CONFIG_EXT4_FS", Some("ext4"), "ext4"),
    ("CONFIG_ACPI", None, "ACPI, by which devices are found"),
    ("CONFIG_DEVTMPFS", None, "devtmpfs"),
    ("CONFIG_MEMCG", None, "memory control groups"),
    ("CONFIG_CGROUP_PIDS", None, "process control groups"),
    ("CONFIG_SERIAL_8250_CONSOLE", None, "a serial console"),
];
/// Ways to the worker: one is enough.
const LINKS: [(&str, &str); 2] =
    [("CONFIG_VIRTIO_CONSOLE", "virtio_console"), ("CONFIG_VIRTIO_VSOCKETS", "vmw_vsock_virtio_transport")];

/// Refuses a kernel that guests cannot live on.
pub(crate) fn check(config: &Config<'_>, modules: &[Module]) -> Result<(), KernelError> {
    let loaded = |name: &str| modules.iter().any(|module| module.name == name);
    let is_there = |option: &str, module: Option<&str>| {
        config.has(option, false) || module.is_some_and(|module| config.has(option, true) && loaded(module))
    };
    let mut lacking: Vec<String> = REQUIRED
        .iter()
        .filter(|(option, module, _)| !is_there(option, *module))
        .map(|(_, _, name)| (*name).to_owned())
        .collect();
    if !LINKS.iter().any(|(option, module)| is_there(option, Some(module))) {
        lacking.push("virtio_console or a virtio vsock".to_owned());
    }
    if lacking.is_empty() { Ok(()) } else { Err(KernelError::Lacks(lacking)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_of_modules_are_told_by_their_names() {
        assert_eq!(name_of("kernel/a/virtio-blk.ko.xz").as_deref(), Some("virtio_blk"));
        assert_eq!(name_of("x.ko").as_deref(), Some("x"));
        assert_eq!(name_of("modules.dep"), None);
    }

    #[test]
    fn what_a_kernel_lacks_is_named() {
        let all = REQUIRED.iter().map(|(option, _, _)| format!("{option}=y\n")).collect::<String>();
        let with_link = format!("{all}CONFIG_VIRTIO_CONSOLE=y\n");
        check(&Config(&with_link), &[]).unwrap();
        let Err(KernelError::Lacks(lacking)) = check(&Config(&all), &[]) else { panic!("accepted") };
        assert_eq!(lacking, ["virtio_console or a virtio vsock"]);
        // A module that the package does not have is of no use.
        let as_module = with_link.replace("CONFIG_EROFS_FS=y", "CONFIG_EROFS_FS=m");
        let Err(KernelError::Lacks(lacking)) = check(&Config(&as_module), &[]) else { panic!("accepted") };
        assert_eq!(lacking, ["erofs"]);
        let module = Module { name: "erofs".into(), bytes: Vec::new() };
        check(&Config(&as_module), &[module]).unwrap();
    }
}
