//! Kernel images: a bzImage's header, and how the ELF in it is compressed (Linux: Documentation/arch/x86/boot.rst).

use std::fmt;
use std::io::Read;

use crate::KernelError;
use crate::error::broken;

/// The largest kernel, unpacked, bytes.
pub(crate) const MAX_KERNEL: u64 = 256 << 20;
const ELF: &[u8] = b"\x7fELF";

/// What a file holds.
pub(crate) struct Image {
    /// The file itself, if it is a bzImage.
    pub(crate) bzimage: Option<Vec<u8>>,
    /// The kernel as an ELF.
    pub(crate) elf: Vec<u8>,
}

/// Whether the bytes look like a kernel: the rest may still be broken.
pub(crate) fn is_image(bytes: &[u8]) -> bool {
    bytes.starts_with(ELF) || is_bzimage(bytes) || compression(bytes).is_some()
}

fn is_bzimage(bytes: &[u8]) -> bool {
    bytes.get(0x202..0x206) == Some(b"HdrS")
}

impl fmt::Debug for Image {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Image").field("elf_bytes", &self.elf.len()).finish_non_exhaustive()
    }
}

impl Image {
    pub(crate) fn parse(bytes: Vec<u8>) -> Result<Self, KernelError> {
        if bytes.starts_with(ELF) {
            return Ok(Self { bzimage: None, elf: bytes });
        }
        if !is_bzimage(&bytes) {
            // An ELF or a bzImage that was compressed as a file.
            let inner = unpack(&bytes)?;
            if compression(&inner).is_some() {
                return Err(broken("image", "it is compressed twice"));
            }
            return if is_image(&inner) {
                Self::parse(inner)
            } else {
                Err(broken("image", "no kernel is in it"))
            };
        }
        let elf = unpack(payload(&bytes)?)?;
        if !elf.starts_with(ELF) {
            return Err(broken("image", "what is compressed in it is no ELF"));
        }
        Ok(Self { bzimage: Some(bytes), elf })
    }

    /// The kernel's release, as a bzImage's header says it: `6.1.0-56-cloud-amd64`.
    pub(crate) fn release(&self) -> Option<String> {
        let bytes = self.bzimage.as_ref()?;
        let at = usize::from(u16::from_le_bytes(bytes.get(0x20e..0x210)?.try_into().ok()?)) + 0x200;
        let text = bytes.get(at..)?.split(|byte| *byte == 0).next()?;
        let word = std::str::from_utf8(text.get(..text.len().min(200))?).ok()?.split(' ').next()?;
        (!word.is_empty() && word.bytes().all(|byte| byte.is_ascii_graphic())).then(|| word.to_owned())
    }
}

/// The compressed kernel in a bzImage.
fn payload(bytes: &[u8]) -> Result<&[u8], KernelError> {
    let word = |at: usize| {
        let word = bytes.get(at..at + 4).and_then(|word| word.try_into().ok()).map(u32::from_le_bytes);
        word.and_then(|word| usize::try_from(word).ok()).ok_or_else(|| broken("header", "it ends too early"))
    };
    let sectors = match bytes.get(0x1f1) {
        Some(0) | None => 4,
        Some(sectors) => usize::from(*sectors),
    };
    let (offset, length) = (word(0x248)?, word(0x24c)?);
    let start = (sectors + 1) * 512;
    let from = start.checked_add(offset).ok_or_else(|| broken("header", "it points nowhere"))?;
    let to = from.checked_add(length).ok_or_else(|| broken("header", "it points nowhere"))?;
    bytes.get(from..to).filter(|payload| !payload.is_empty()).ok_or_else(|| broken("image", "it is cut off"))
}

/// How something is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Compression {
    Gzip,
    Xz,
    Zstd,
    Lz4Legacy,
}

fn compression(bytes: &[u8]) -> Option<Compression> {
    match bytes {
        [0x1f, 0x8b, ..] => Some(Compression::Gzip),
        [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Some(Compression::Xz),
        [0x28, 0xb5, 0x2f, 0xfd, ..] => Some(Compression::Zstd),
        [0x02, 0x21, 0x4c, 0x18, ..] => Some(Compression::Lz4Legacy),
        _ => None,
    }
}

/// What the bytes hold, whatever compressed them; an ELF as it is. The build appends the unpacked size to what it
/// compressed, so bytes after the end are no error.
pub(crate) fn unpack(bytes: &[u8]) -> Result<Vec<u8>, KernelError> {
    match compression(bytes) {
        Some(Compression::Lz4Legacy) => lz4_legacy(bytes.get(4..).unwrap_or_default()),
        Some(_) => read_bounded(decoder(bytes)?, "image", MAX_KERNEL),
        None if bytes.starts_with(ELF) => Ok(bytes.to_vec()),
        None => {
            Err(broken("image", "it is compressed in a way that is not known (gzip, xz, zstd and LZ4 are)"))
        }
    }
}

/// What unpacks the bytes as they are read.
pub(crate) fn decoder(bytes: &[u8]) -> Result<Box<dyn Read + '_>, KernelError> {
    Ok(match compression(bytes) {
        Some(Compression::Gzip) => Box::new(flate2::bufread::GzDecoder::new(bytes)),
        Some(Compression::Xz) => Box::new(lzma_rust2::XzReader::new(bytes, false)),
        Some(Compression::Zstd) => Box::new(
            ruzstd::decoding::StreamingDecoder::new(bytes).map_err(|error| broken("compression", error))?,
        ),
        Some(Compression::Lz4Legacy) | None => Box::new(bytes),
    })
}

/// Reads all, if that is not more than `limit` bytes.
pub(crate) fn read_bounded(from: impl Read, what: &'static str, limit: u64) -> Result<Vec<u8>, KernelError> {
    let mut bytes = Vec::new();
    from.take(limit + 1).read_to_end(&mut bytes).map_err(|error| broken(what, error))?;
    if bytes.len() as u64 > limit {
        return Err(KernelError::TooLarge { what, limit_mb: limit >> 20 });
    }
    Ok(bytes)
}

/// LZ4's legacy frame: blocks of at most 8 MiB, each after its length (LZ4: doc/lz4_Frame_format.md).
fn lz4_legacy(mut bytes: &[u8]) -> Result<Vec<u8>, KernelError> {
    const BLOCK: usize = 8 << 20;
    let mut out = Vec::new();
    while let Some((length, rest)) = bytes.split_first_chunk::<4>() {
        let length = usize::try_from(u32::from_le_bytes(*length)).unwrap_or(usize::MAX);
        // What follows the last block is the unpacked size, which is not the length of anything there is.
        let Some(block) = rest.get(..length) else { break };
        if length == 0 {
            break;
        }
        let start = out.len();
        if (start + BLOCK) as u64 > MAX_KERNEL {
            return Err(KernelError::TooLarge { what: "image", limit_mb: MAX_KERNEL >> 20 });
        }
        out.resize(start + BLOCK, 0);
        let space = out.get_mut(start..).unwrap_or_default();
        let count = lz4_flex::block::decompress_into(block, space).map_err(|error| broken("image", error))?;
        out.truncate(start + count);
        bytes = rest.get(length..).unwrap_or_default();
        if count < BLOCK {
            break;
        }
    }
    if out.is_empty() { Err(broken("image", "it is cut off")) } else { Ok(out) }
}
