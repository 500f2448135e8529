//! A layer becomes a directory that overlayfs takes as a layer.
//!
//! One thread decompresses and hashes, another reads the archive and writes files. What the archive may do:
//!
//! - Paths are resolved by the kernel, as if the layer's directory were the root of all: links inside are followed there and nowhere else.
//! - What a layer takes away from those below (`.wh.NAME`, `.wh..wh..opq`) becomes what overlayfs has for that.
//! - Owners, modes and times are kept; of extended attributes only `user.*`. File capabilities are dropped: nothing in an instance may
//!   gain any. Devices are refused.
//! - Bytes, entries and depth are bounded.

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::Path;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use hearth_types::CodeDigest;
use sha2::{Digest as _, Sha256};

use crate::tar::{Archive, Entry, Kind};
use crate::{Digest, OciError};

mod tree;

use tree::Tree;

/// Bytes that an image may unpack to, as in Lambda; so for each of its layers.
pub(crate) const UNPACKED_BYTES: u64 = 10 << 30;
const PIECE: usize = 256 << 10;
/// Pieces between the two threads.
const PIECES: usize = 8;

const GZIP: [u8; 2] = [0x1f, 0x8b];
const ZSTD: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];

/// Unpacks a layer into an empty directory, and checks that its archive is `diff_id`. After an error the directory holds part of it.
pub(crate) fn unpack(layer: File, diff_id: Digest, root: &Path) -> Result<(), OciError> {
    let (sender, pieces) = sync_channel(PIECES);
    let (archive, written) = std::thread::scope(|scope| {
        let archive = scope.spawn(move || decompress(layer, &sender));
        let written = write_tree(Pieces { pieces, current: Vec::new(), at: 0 }, root, UNPACKED_BYTES);
        let broke = || OciError::io("unpack a layer", io::Error::other("its thread broke down"));
        (archive.join().unwrap_or_else(|_| Err(broke())), written)
    });
    // What was wrong with the archive comes first: a cut off one is also a wrong one.
    written?;
    let found = archive?;
    if found != diff_id {
        let problem = format!("its archive is {found}, and the image's configuration says {diff_id}");
        return Err(OciError::invalid("a layer", problem));
    }
    Ok(())
}

/// Sends the archive in pieces; answers its hash.
fn decompress(layer: File, pieces: &SyncSender<io::Result<Vec<u8>>>) -> Result<Digest, OciError> {
    let mut hash = Sha256::new();
    let mut reader = match reader(layer) {
        Ok(reader) => reader,
        Err(error) => {
            let _ = pieces.send(Err(error));
            return Err(OciError::invalid("a layer", "it cannot be decompressed"));
        }
    };
    loop {
        let mut piece = vec![0; PIECE];
        let mut filled = 0;
        let read = loop {
            match reader.read(&mut piece[filled..]) {
                Ok(0) => break Ok(()),
                Ok(count) => filled += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => break Err(error),
            }
            if filled == PIECE {
                break Ok(());
            }
        };
        if let Err(error) = read {
            let _ = pieces.send(Err(error));
            return Err(OciError::invalid("a layer", "it cannot be decompressed"));
        }
        if filled == 0 {
            return Ok(Digest(CodeDigest(hash.finalize().into())));
        }
        piece.truncate(filled);
        hash.update(&piece);
        if pieces.send(Ok(piece)).is_err() {
            // The other side has refused the archive and says why.
            return Err(OciError::invalid("a layer", "it was not read to its end"));
        }
    }
}

/// By what it begins with: media types are often wrong.
fn reader(layer: File) -> io::Result<Box<dyn Read>> {
    let mut start = [0; 4];
    let count = rustix::io::pread(&layer, &mut start, 0)?;
    let buffered = BufReader::with_capacity(PIECE, layer);
    if count >= 2 && start[..2] == GZIP {
        return Ok(Box::new(flate2::bufread::MultiGzDecoder::new(buffered)));
    }
    if count == 4 && start == ZSTD {
        return Ok(Box::new(Zstd { input: Some(buffered), frame: None }));
    }
    Ok(Box::new(buffered))
}

/// Frames of Zstandard, one after the other.
struct Zstd {
    input: Option<BufReader<File>>,
    frame: Option<Box<ruzstd::decoding::StreamingDecoder<BufReader<File>, ruzstd::decoding::FrameDecoder>>>,
}

impl Read for Zstd {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        use io::BufRead;
        loop {
            if let Some(frame) = &mut self.frame {
                let count = frame.read(buffer)?;
                if count > 0 || buffer.is_empty() {
                    return Ok(count);
                }
            }
            if let Some(frame) = self.frame.take() {
                self.input = Some(frame.into_inner());
            }
            let Some(mut input) = self.input.take() else { return Ok(0) };
            if input.fill_buf()?.is_empty() {
                return Ok(0);
            }
            // It refuses frames that ask for a window of more than 100 MB.
            let frame = ruzstd::decoding::StreamingDecoder::new(input).map_err(io::Error::other)?;
            self.frame = Some(Box::new(frame));
        }
    }
}

/// The archive, as it comes from the other thread.
struct Pieces {
    pieces: Receiver<io::Result<Vec<u8>>>,
    current: Vec<u8>,
    at: usize,
}

impl Read for Pieces {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.at == self.current.len() {
            match self.pieces.recv() {
                Ok(piece) => self.current = piece?,
                Err(_) => return Ok(0),
            }
            self.at = 0;
        }
        let count = buffer.len().min(self.current.len() - self.at);
        buffer[..count].copy_from_slice(&self.current[self.at..self.at + count]);
        self.at += count;
        Ok(count)
    }
}

/// Writes an archive's tree; its bytes together are at most `left`.
fn write_tree(input: impl Read, root: &Path, mut left: u64) -> Result<(), OciError> {
    let mut archive = Archive::new(input);
    let mut tree = Tree::begin(root)?;
    let mut buffer = vec![0; PIECE];
    let limit = left;
    while let Some(entry) = archive.next()? {
        if entry.kind == Kind::File {
            let counted = left.checked_sub(entry.size);
            let too_large = || OciError::TooLarge { what: "a layer".to_owned(), limit, unit: "bytes" };
            left = counted.ok_or_else(too_large)?;
        }
        if let Some(file) = tree.place(&entry)? {
            content(&mut archive, &entry, &file, &mut buffer)?;
            tree.finish_file(&entry, &file)?;
        }
    }
    tree.finish()?;
    archive.finish()
}

fn content<R: Read>(
    archive: &mut Archive<R>,
    entry: &Entry,
    file: &File,
    buffer: &mut [u8],
) -> Result<(), OciError> {
    use std::os::unix::fs::FileExt;
    let failed = |error| OciError::io("write a file of a layer", error);
    let Some(pieces) = &entry.pieces else {
        let mut written = 0;
        loop {
            let count = archive.read(buffer)?;
            if count == 0 {
                return Ok(());
            }
            file.write_all_at(&buffer[..count], written).map_err(failed)?;
            written += count as u64;
        }
    };
    file.set_len(entry.size).map_err(failed)?;
    for (mut offset, mut length) in pieces.iter().copied() {
        while length > 0 {
            let most = usize::try_from(length).unwrap_or(usize::MAX).min(buffer.len());
            let count = archive.read(&mut buffer[..most])?;
            if count == 0 {
                return Err(OciError::invalid("a layer's archive", "a sparse file is cut off"));
            }
            file.write_all_at(&buffer[..count], offset).map_err(failed)?;
            offset += count as u64;
            length -= count as u64;
        }
    }
    Ok(())
}
