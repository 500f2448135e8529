//! Writes zip archives byte by byte, so that every field can lie.

/// One entry, stored without compression unless its fields say otherwise.
#[derive(Clone, Debug)]
pub(crate) struct Raw {
    pub(crate) name: Vec<u8>,
    /// The bytes in the archive.
    pub(crate) data: Vec<u8>,
    pub(crate) method: u16,
    pub(crate) flags: u16,
    pub(crate) system: u8,
    /// The Unix mode, type included; zero for none.
    pub(crate) mode: u32,
    pub(crate) crc: u32,
    pub(crate) packed: u32,
    pub(crate) size: u32,
    /// The index of the entry whose local header and data this one claims; itself if none.
    pub(crate) shares: Option<usize>,
    pub(crate) extra: Vec<u8>,
}

/// An ordinary file, made on Unix.
pub(crate) fn file(name: impl AsRef<[u8]>, data: impl AsRef<[u8]>) -> Raw {
    let data = data.as_ref().to_vec();
    let size = u32::try_from(data.len()).unwrap();
    Raw {
        name: name.as_ref().to_vec(),
        crc: crc32(&data),
        data,
        method: 0,
        flags: 0,
        system: 3,
        mode: 0o100_644,
        packed: size,
        size,
        shares: None,
        extra: Vec::new(),
    }
}

pub(crate) fn link(name: impl AsRef<[u8]>, target: impl AsRef<[u8]>) -> Raw {
    Raw { mode: 0o120_777, ..file(name, target) }
}

/// The archive of these entries, in this order.
pub(crate) fn archive(entries: &[Raw]) -> Vec<u8> {
    let (mut bytes, mut offsets) = (Vec::new(), Vec::new());
    for entry in entries {
        offsets.push(u32::try_from(bytes.len()).unwrap());
        if entry.shares.is_none() {
            bytes.extend(0x0403_4b50_u32.to_le_bytes());
            bytes.extend(common_fields(entry));
            bytes.extend(&entry.name);
            bytes.extend(&entry.extra);
            bytes.extend(&entry.data);
        }
    }
    let directory = bytes.len();
    for (index, entry) in entries.iter().enumerate() {
        bytes.extend(0x0201_4b50_u32.to_le_bytes());
        bytes.extend([20, entry.system]);
        bytes.extend(common_fields(entry));
        bytes.extend([0; 6]);
        bytes.extend((entry.mode << 16).to_le_bytes());
        bytes.extend(offsets[entry.shares.unwrap_or(index)].to_le_bytes());
        bytes.extend(&entry.name);
        bytes.extend(&entry.extra);
    }
    let count = u16::try_from(entries.len()).unwrap();
    let size = u32::try_from(bytes.len() - directory).unwrap();
    bytes.extend(0x0605_4b50_u32.to_le_bytes());
    bytes.extend([0; 4]);
    bytes.extend(count.to_le_bytes());
    bytes.extend(count.to_le_bytes());
    bytes.extend(size.to_le_bytes());
    bytes.extend(u32::try_from(directory).unwrap().to_le_bytes());
    bytes.extend([0; 2]);
    bytes
}

/// What local and central headers have in common, in the same order: from the version needed to the length of the extra.
fn common_fields(entry: &Raw) -> Vec<u8> {
    let mut bytes = Vec::new();
    for field in [20, entry.flags, entry.method, 0, 0x5a21] {
        bytes.extend(field.to_le_bytes());
    }
    for field in [entry.crc, entry.packed, entry.size] {
        bytes.extend(field.to_le_bytes());
    }
    bytes.extend(u16::try_from(entry.name.len()).unwrap().to_le_bytes());
    bytes.extend(u16::try_from(entry.extra.len()).unwrap().to_le_bytes());
    bytes
}

pub(crate) fn crc32(data: &[u8]) -> u32 {
    !data.iter().fold(!0, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| (crc >> 1) ^ (0xedb8_8320 * (crc & 1)))
    })
}
