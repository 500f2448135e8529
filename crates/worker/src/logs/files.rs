//! A function's log files: numbered, appended to, the oldest removed when all are too large.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::PathBuf;

use super::line::{self, LogLine};

/// Into how many files the space of a function is divided.
const PARTS: u64 = 8;

#[derive(Debug)]
pub(super) struct Files {
    directory: PathBuf,
    most_bytes: u64,
    /// Numbers and sizes, oldest first; nothing before the first write.
    known: Option<Vec<(u64, u64)>>,
    /// Whether the last write may have ended in the middle of a line.
    torn: bool,
}

// === impl Files ===

impl Files {
    pub(super) fn new(directory: PathBuf, most_bytes: u64) -> Self {
        Self { directory, most_bytes, known: None, torn: true }
    }

    pub(super) fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        if bytes.is_empty() {
            return Ok(());
        }
        let mut known = match self.known.take() {
            Some(known) => known,
            None => {
                fs::create_dir_all(&self.directory)?;
                self.list()?
            }
        };
        let part = (self.most_bytes / PARTS).max(1);
        match known.last() {
            Some((_, size)) if *size < part => {}
            Some((number, _)) => known.push((number + 1, 0)),
            None => known.push((0, 0)),
        }
        let written = match known.last_mut() {
            Some((number, size)) => self.append_to(*number, size, bytes),
            None => Ok(()),
        };
        let mut total: u64 = known.iter().map(|(_, size)| size).sum();
        while total > self.most_bytes && known.len() > 1 {
            let (number, size) = known.remove(0);
            fs::remove_file(self.path(number)).or_else(ignore_missing)?;
            total -= size;
        }
        // After an error the directory is read again.
        self.torn = written.is_err();
        if written.is_ok() {
            self.known = Some(known);
        }
        written
    }

    fn append_to(&self, number: u64, size: &mut u64, bytes: &[u8]) -> io::Result<()> {
        let mut file = OpenOptions::new().create(true).append(true).open(self.path(number))?;
        if self.torn && file.metadata()?.len() > 0 {
            // The line that a kill or a full disk cut off ends here.
            file.write_all(b"\n")?;
        }
        file.write_all(bytes)?;
        *size = file.metadata()?.len();
        Ok(())
    }

    /// The last lines not older than `since_ms`, oldest first.
    pub(super) fn tail(&self, lines: usize, since_ms: u64) -> io::Result<Vec<LogLine>> {
        let mut found: Vec<LogLine> = Vec::new();
        for (number, size) in self.list()?.into_iter().rev() {
            if found.len() >= lines {
                break;
            }
            let mut bytes = Vec::new();
            let Ok(mut file) = File::open(self.path(number)) else { continue };
            // A file can be larger than its share by what one write holds, not more.
            let most = self.most_bytes.saturating_mul(2).max(1 << 22);
            file.seek(SeekFrom::Start(size.saturating_sub(most)))?;
            file.take(most).read_to_end(&mut bytes)?;
            let newest = bytes.rsplit(|byte| *byte == b'\n').filter_map(line::parse);
            found.extend(newest.take_while(|line| line.epoch_ms >= since_ms).take(lines - found.len()));
        }
        found.reverse();
        Ok(found)
    }

    pub(super) fn remove(&mut self) -> io::Result<()> {
        self.known = None;
        self.torn = true;
        fs::remove_dir_all(&self.directory).or_else(ignore_missing)
    }

    fn list(&self) -> io::Result<Vec<(u64, u64)>> {
        let entries = match fs::read_dir(&self.directory) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries?,
        };
        let mut found = Vec::new();
        for entry in entries {
            let entry = entry?;
            let name = entry.file_name();
            let number = name.to_str().and_then(|name| name.strip_suffix(".log")?.parse().ok());
            if let (Some(number), Ok(metadata)) = (number, entry.metadata()) {
                found.push((number, metadata.len()));
            }
        }
        found.sort_unstable();
        Ok(found)
    }

    fn path(&self, number: u64) -> PathBuf {
        self.directory.join(format!("{number}.log"))
    }
}

fn ignore_missing(error: io::Error) -> io::Result<()> {
    if error.kind() == io::ErrorKind::NotFound { Ok(()) } else { Err(error) }
}
