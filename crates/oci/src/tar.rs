//! Reads tar archives as layers have them: ustar, GNU's long names and sparse files, PAX.
//!
//! Every length is checked before memory is taken for it, which libraries leave to their callers. What is read is bytes that somebody else
//! chose; what they may do is decided in `unpack`.

use std::io::{self, Read};

use crate::OciError;
use crate::error::shown;

const BLOCK: usize = 512;
/// A name, link target or set of PAX records, bytes.
const HEADER_BYTES: u64 = 1 << 20;
/// Pieces of a sparse file.
const PIECES: usize = 100_000;

/// What an entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    File,
    HardLink,
    Symlink,
    Directory,
    Fifo,
    Device,
}

/// An entry, with its content still to be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) path: Vec<u8>,
    pub(crate) kind: Kind,
    pub(crate) target: Vec<u8>,
    /// Bytes of the file, holes included.
    pub(crate) size: u64,
    pub(crate) mode: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) modified: i64,
    pub(crate) xattrs: Vec<Record>,
    /// Where the content's pieces go, if there are holes between them: offset and length.
    pub(crate) pieces: Option<Vec<(u64, u64)>>,
}

/// An archive that is being read.
pub(crate) struct Archive<R> {
    input: R,
    /// Bytes of the current entry's content that are not read yet.
    left: u64,
    /// And of what fills its last block.
    padding: u64,
    /// Records for all entries that follow.
    global: Records,
}

/// PAX records: what an entry's header has no room for.
#[derive(Clone, Debug, Default)]
struct Records(Vec<Record>);

/// A key and its value.
type Record = (Vec<u8>, Vec<u8>);
/// A sparse file's real size, and where its pieces go: offset and length.
type Sparse = (u64, Vec<(u64, u64)>);

impl<R: Read> Archive<R> {
    pub(crate) fn new(input: R) -> Self {
        Self { input, left: 0, padding: 0, global: Records::default() }
    }

    /// The next entry; what was left of the one before is skipped.
    pub(crate) fn next(&mut self) -> Result<Option<Entry>, OciError> {
        let (mut records, mut long_name, mut long_target) = (self.global.clone(), None, None);
        loop {
            let Some(header) = self.header()? else { return Ok(None) };
            match header[156] {
                b'x' => records.0.extend(parse_records(&self.content()?)?),
                b'g' => {
                    let more = parse_records(&self.content()?)?;
                    records.0.extend(more.iter().cloned());
                    self.global.0.extend(more);
                    if self.global.0.len() > PIECES {
                        return Err(broken("it has too many global records"));
                    }
                }
                b'L' => long_name = Some(until_nul(&self.content()?)),
                b'K' => long_target = Some(until_nul(&self.content()?)),
                kind => return self.entry(&header, kind, &records, long_name, long_target).map(Some),
            }
        }
    }

    /// Reads some of the current entry's content; nothing is its end.
    pub(crate) fn read(&mut self, buffer: &mut [u8]) -> Result<usize, OciError> {
        let most = usize::try_from(self.left).unwrap_or(usize::MAX).min(buffer.len());
        if most == 0 {
            return Ok(0);
        }
        let count = read_some(&mut self.input, &mut buffer[..most])?;
        if count == 0 {
            return Err(broken("it is cut off within a file"));
        }
        self.left -= count as u64;
        Ok(count)
    }

    /// Reads what follows the end of the archive.
    pub(crate) fn finish(mut self) -> Result<(), OciError> {
        let mut buffer = [0; 16 * BLOCK];
        while read_some(&mut self.input, &mut buffer)? > 0 {}
        Ok(())
    }

    /// The next block that is no filler, or nothing at the end.
    fn header(&mut self) -> Result<Option<[u8; BLOCK]>, OciError> {
        let mut skip = [0; 16 * BLOCK];
        self.left += std::mem::take(&mut self.padding);
        while self.read(&mut skip)? > 0 {}
        let mut block = [0; BLOCK];
        let mut zeros = 0;
        loop {
            match fill(&mut self.input, &mut block)? {
                0 => return Ok(None),
                BLOCK => {}
                _ => return Err(broken("it is cut off within a header")),
            }
            if block.iter().any(|byte| *byte != 0) {
                break;
            }
            zeros += 1;
            if zeros == 2 {
                return Ok(None);
            }
        }
        let sum: u32 = (0..)
            .zip(block)
            .map(|(at, byte)| if (148..156).contains(&at) { 32 } else { u32::from(byte) })
            .sum();
        if number(&block[148..156]) != Some(u64::from(sum)) {
            return Err(broken("a header's checksum is wrong"));
        }
        let size = number(&block[124..136]).ok_or_else(|| broken("a size is no number"))?;
        self.expect(size);
        Ok(Some(block))
    }

    fn expect(&mut self, size: u64) {
        self.left = size;
        self.padding = size.wrapping_neg() % BLOCK as u64;
    }

    /// The current entry's content, which is a name or records.
    fn content(&mut self) -> Result<Vec<u8>, OciError> {
        if self.left > HEADER_BYTES {
            return Err(broken("a name or a set of records is longer than a mebibyte"));
        }
        let mut content = vec![0; usize::try_from(self.left).unwrap_or(0)];
        let mut filled = 0;
        while filled < content.len() {
            filled += self.read(&mut content[filled..])?;
        }
        Ok(content)
    }

    fn entry(
        &mut self,
        header: &[u8; BLOCK],
        kind: u8,
        records: &Records,
        long_name: Option<Vec<u8>>,
        long_target: Option<Vec<u8>>,
    ) -> Result<Entry, OciError> {
        let field = |from: usize, to: usize| number(&header[from..to]).unwrap_or(0);
        let mut path = long_name.unwrap_or_else(|| name(header));
        if let Some(name) = records.get(b"GNU.sparse.name").or_else(|| records.get(b"path")) {
            path = name.to_vec();
        }
        let target = records.get(b"linkpath").map(<[u8]>::to_vec);
        let target = target.or(long_target).unwrap_or_else(|| until_nul(&header[157..257]));
        let kind = match kind {
            0 if path.ends_with(b"/") => Kind::Directory,
            b'0' | 0 | b'7' | b'S' => Kind::File,
            b'1' => Kind::HardLink,
            b'2' => Kind::Symlink,
            b'3' | b'4' => Kind::Device,
            b'5' => Kind::Directory,
            b'6' => Kind::Fifo,
            other => {
                let problem = format!("the kind of entry {:?} is not known", char::from(other));
                return Err(OciError::invalid(format!("entry {}", shown(&path)), problem));
            }
        };
        if let Some(size) = records.number(b"size")? {
            self.expect(size);
        }
        if kind != Kind::File {
            // Some archivers give links the size of what they lead to, and no content.
            let stored = if kind == Kind::Directory { self.left } else { 0 };
            self.expect(stored);
        }
        let id = |key: &[u8], from, to| -> Result<u32, OciError> {
            let id = records.number(key)?.unwrap_or_else(|| field(from, to));
            u32::try_from(id).map_err(|_| broken("a user or group id is too large"))
        };
        let (uid, gid) = (id(b"uid", 108, 116)?, id(b"gid", 116, 124)?);
        let pieces = if kind == Kind::File { self.pieces(header, records)? } else { None };
        let (size, pieces) = match pieces {
            Some((size, pieces)) => (size, Some(pieces)),
            None => (self.left, None),
        };
        let seconds = |text: &[u8]| std::str::from_utf8(text).ok()?.split('.').next()?.parse::<i64>().ok();
        let modified = records.get(b"mtime").and_then(seconds);
        let modified = modified
            .unwrap_or_else(|| i64::try_from(field(136, 148)).unwrap_or(0))
            .clamp(-(1 << 40), 1 << 40);
        let mode = u32::try_from(field(100, 108) & 0o7777).unwrap_or(0);
        Ok(Entry { path, kind, target, size, mode, uid, gid, modified, xattrs: records.xattrs(), pieces })
    }

    /// The real size and the pieces of a sparse file, in any of the four forms that there are.
    fn pieces(&mut self, header: &[u8; BLOCK], records: &Records) -> Result<Option<Sparse>, OciError> {
        if header[156] == b'S' {
            return self.old_pieces(header).map(Some);
        }
        let real = records.number(b"GNU.sparse.realsize")?.or(records.number(b"GNU.sparse.size")?);
        let Some(real) = real else { return Ok(None) };
        let numbers = if records.get(b"GNU.sparse.major") == Some(b"1") {
            self.piece_lines()?
        } else if let Some(map) = records.get(b"GNU.sparse.map") {
            let numbers = map.split(|byte| *byte == b',').map(decimal).collect::<Option<Vec<u64>>>();
            numbers.ok_or_else(|| broken("the map of a sparse file is no list of numbers"))?
        } else {
            let wanted = |key: &[u8]| matches!(key, b"GNU.sparse.offset" | b"GNU.sparse.numbytes");
            let numbers = records.0.iter().filter(|(key, _)| wanted(key)).map(|(_, value)| decimal(value));
            numbers
                .collect::<Option<Vec<u64>>>()
                .ok_or_else(|| broken("the map of a sparse file is no list of numbers"))?
        };
        let (pairs, rest) = numbers.as_chunks::<2>();
        if !rest.is_empty() || pairs.len() > PIECES {
            return Err(broken("the map of a sparse file has a piece without a length, or too many pieces"));
        }
        self.checked(real, pairs.iter().map(|[offset, length]| (*offset, *length)).collect()).map(Some)
    }

    /// GNU's first form: four pieces in the header, more in blocks that follow it.
    fn old_pieces(&mut self, header: &[u8; BLOCK]) -> Result<Sparse, OciError> {
        let real = number(&header[483..495]).ok_or_else(|| broken("a size is no number"))?;
        let mut pieces = Vec::new();
        let mut add = |fields: &[u8]| {
            for field in fields.chunks_exact(24) {
                match (number(&field[..12]), number(&field[12..])) {
                    (Some(_), Some(0)) | (None, _) | (_, None) => {}
                    (Some(offset), Some(length)) => pieces.push((offset, length)),
                }
            }
            pieces.len() <= PIECES
        };
        let mut more = header[482] != 0 && add(&header[386..482]);
        if header[482] == 0 {
            add(&header[386..482]);
        }
        let mut block = [0; BLOCK];
        while more {
            if fill(&mut self.input, &mut block)? < BLOCK {
                return Err(broken("it is cut off within a header"));
            }
            more = add(&block[..504]) && block[504] != 0;
        }
        self.checked(real, pieces)
    }

    /// GNU's last form: lines of numbers before the content.
    fn piece_lines(&mut self) -> Result<Vec<u64>, OciError> {
        let (mut numbers, mut line) = (Vec::new(), Vec::new());
        let mut wanted = 1;
        let mut block = [0; BLOCK];
        while numbers.len() < wanted {
            let mut filled = 0;
            while filled < BLOCK {
                match self.read(&mut block[filled..])? {
                    0 => return Err(broken("the map of a sparse file is cut off")),
                    count => filled += count,
                }
            }
            for byte in block {
                if byte != b'\n' {
                    line.push(byte);
                    continue;
                }
                let value = decimal(&line).ok_or_else(|| broken("the map of a sparse file is no list"))?;
                line.clear();
                if numbers.is_empty() {
                    let pairs = usize::try_from(value).ok().filter(|pairs| *pairs <= PIECES);
                    wanted = 1 + 2 * pairs.ok_or_else(|| broken("a sparse file has too many pieces"))?;
                }
                numbers.push(value);
                if numbers.len() == wanted {
                    break;
                }
            }
            if line.len() > 32 && numbers.len() < wanted {
                return Err(broken("the map of a sparse file is no list"));
            }
        }
        numbers.remove(0);
        Ok(numbers)
    }

    /// Pieces in order, none over another, and as long together as what is stored.
    fn checked(&self, real: u64, pieces: Vec<(u64, u64)>) -> Result<Sparse, OciError> {
        let (mut end, mut stored) = (0_u64, 0_u64);
        for (offset, length) in &pieces {
            let next = offset.checked_add(*length).filter(|next| *offset >= end && *next <= real);
            end = next.ok_or_else(|| broken("the pieces of a sparse file overlap or leave it"))?;
            stored += length;
        }
        if stored != self.left {
            return Err(broken("the pieces of a sparse file are not as long as what is stored of it"));
        }
        Ok((real, pieces))
    }
}

// === impl Records ===

impl Records {
    /// The last of that name, which wins.
    fn get(&self, key: &[u8]) -> Option<&[u8]> {
        self.0.iter().rev().find(|(name, _)| name == key).map(|(_, value)| value.as_slice())
    }

    fn number(&self, key: &[u8]) -> Result<Option<u64>, OciError> {
        let parse = |text| decimal(text).ok_or_else(|| broken("a record that should be a number is none"));
        self.get(key).map(parse).transpose()
    }

    fn xattrs(&self) -> Vec<Record> {
        let named = |(key, value): &(Vec<u8>, Vec<u8>)| {
            key.strip_prefix(b"SCHILY.xattr.").map(|name| (name.to_vec(), value.clone()))
        };
        self.0.iter().filter_map(named).collect()
    }
}

/// `LENGTH KEY=VALUE\n`, each with the length of all of it.
fn parse_records(mut bytes: &[u8]) -> Result<Vec<Record>, OciError> {
    let wrong = || broken("its PAX records are malformed");
    let mut found = Vec::new();
    while !bytes.is_empty() && bytes.iter().any(|byte| *byte != 0) {
        let space = bytes.iter().take(20).position(|byte| *byte == b' ').ok_or_else(wrong)?;
        let length =
            decimal(&bytes[..space]).and_then(|length| usize::try_from(length).ok()).ok_or_else(wrong)?;
        if length <= space + 2 || length > bytes.len() || bytes[length - 1] != b'\n' {
            return Err(wrong());
        }
        let record = &bytes[space + 1..length - 1];
        let equals = record.iter().position(|byte| *byte == b'=').ok_or_else(wrong)?;
        found.push((record[..equals].to_vec(), record[equals + 1..].to_vec()));
        bytes = &bytes[length..];
    }
    Ok(found)
}

/// The name in a header, with what is before it in those that have such a field.
fn name(header: &[u8; BLOCK]) -> Vec<u8> {
    let name = until_nul(&header[..100]);
    if &header[257..263] != b"ustar\0" || header[345] == 0 {
        return name;
    }
    let mut path = until_nul(&header[345..500]);
    path.push(b'/');
    path.extend(name);
    path
}

fn until_nul(field: &[u8]) -> Vec<u8> {
    field.split(|byte| *byte == 0).next().unwrap_or_default().to_vec()
}

/// Octal digits between spaces and NULs, or a binary number after a byte with the high bit; nothing is zero.
fn number(field: &[u8]) -> Option<u64> {
    if field.first()? & 0x80 != 0 {
        if field[0] != 0x80 || field.len() > 8 && field[1..field.len() - 8].iter().any(|byte| *byte != 0) {
            return None;
        }
        let bytes = &field[1.max(field.len().saturating_sub(8))..];
        return Some(bytes.iter().fold(0, |value, byte| value << 8 | u64::from(*byte)));
    }
    let text = field.trim_ascii_start();
    let text = text.split(|byte| matches!(byte, 0 | b' ')).next().unwrap_or_default();
    text.iter().try_fold(0_u64, |value, digit| match digit {
        b'0'..=b'7' => value.checked_mul(8)?.checked_add(u64::from(digit - b'0')),
        _ => None,
    })
}

fn decimal(text: &[u8]) -> Option<u64> {
    std::str::from_utf8(text).ok().filter(|text| !text.starts_with('+'))?.parse().ok()
}

fn broken(problem: &str) -> OciError {
    OciError::invalid("a layer's archive", problem)
}

/// As much as there is up to the buffer's length.
fn fill(input: &mut impl Read, buffer: &mut [u8]) -> Result<usize, OciError> {
    let mut filled = 0;
    while filled < buffer.len() {
        match read_some(input, &mut buffer[filled..])? {
            0 => break,
            count => filled += count,
        }
    }
    Ok(filled)
}

fn read_some(input: &mut impl Read, buffer: &mut [u8]) -> Result<usize, OciError> {
    loop {
        match input.read(buffer) {
            Ok(count) => return Ok(count),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            // The disk's errors have a number; those of a decompressor have none.
            Err(error) if error.raw_os_error().is_some() => return Err(OciError::io("read a layer", error)),
            Err(error) => return Err(broken(&error.to_string())),
        }
    }
}
