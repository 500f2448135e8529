//! The archive that a kernel unpacks into its first root: the agent, modules, and places to mount (Linux:
//! Documentation/driver-api/early-userspace/buffer-format.rst).

use crate::modules::Module;

const DIRECTORY: u32 = 0o040_755;
const PROGRAM: u32 = 0o100_755;
const FILE: u32 = 0o100_644;
const CHARACTER_DEVICE: u32 = 0o020_600;

/// The archive, the same for the same contents.
pub(crate) fn build(agent: &[u8], modules: &[Module]) -> Vec<u8> {
    let mut archive = Archive::default();
    for name in ["dev", "proc", "sys", "root", "tmp", "modules"] {
        archive.add(name, DIRECTORY, &[], 0, 0);
    }
    archive.add("dev/console", CHARACTER_DEVICE, &[], 5, 1);
    archive.add("init", PROGRAM, agent, 0, 0);
    for (number, module) in modules.iter().enumerate() {
        archive.add(&format!("modules/{number:02}-{}.ko", module.name), FILE, &module.bytes, 0, 0);
    }
    archive.add("TRAILER!!!", 0, &[], 0, 0);
    archive.bytes
}

#[derive(Default)]
struct Archive {
    bytes: Vec<u8>,
    inode: u32,
}

impl Archive {
    fn add(&mut self, name: &str, mode: u32, data: &[u8], major: u32, minor: u32) {
        self.inode += 1;
        let links = 1;
        let size = u32::try_from(data.len()).unwrap_or(u32::MAX);
        let name_size = u32::try_from(name.len() + 1).unwrap_or(u32::MAX);
        // inode, mode, uid, gid, links, mtime, size, device of the file, of the device node, length of the name, checksum
        let fields = [self.inode, mode, 0, 0, links, 0, size, 0, 0, major, minor, name_size, 0]
            .map(|field| format!("{field:08X}"));
        self.bytes.extend_from_slice(b"070701");
        self.bytes.extend_from_slice(fields.concat().as_bytes());
        self.bytes.extend_from_slice(name.as_bytes());
        self.bytes.push(0);
        self.pad();
        self.bytes.extend_from_slice(data);
        self.pad();
    }

    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }
}
