//! CSV files that nobody vouches for: each line bounded, each mistake named by file, line and column.

use std::fs::File;
use std::io::{self, Read};
use std::ops::RangeInclusive;
use std::path::Path;

use csv::{ByteRecord, Reader, ReaderBuilder};

/// Longest line, bytes: two weeks of minutes with seven digits each, and room.
const MAX_LINE_BYTES: usize = 256 * 1024;
/// How much of a wrong value an error shows, characters.
const SHOWN: usize = 40;

/// The beginning of a text that nobody vouches for, without characters that do something to a terminal.
pub(crate) fn shown(text: &str, most: usize) -> String {
    text.chars().take(most).map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

/// What is wrong in a file.
#[derive(Debug, thiserror::Error)]
pub enum InputError {
    /// It cannot be read.
    #[error("cannot read {file}")]
    Unreadable {
        /// The file.
        file: String,
        /// Why.
        source: io::Error,
    },
    /// A line is not what it should be.
    #[error("{file}, line {line}: {problem}")]
    Line {
        /// The file.
        file: String,
        /// The line, counted from 1.
        line: u64,
        /// What is wrong and what was expected.
        problem: String,
    },
    /// A place in a text is not what it should be.
    #[error("{file}, line {line}, column {column}: {problem}")]
    Place {
        /// The file.
        file: String,
        /// The line, counted from 1.
        line: u64,
        /// The column, counted from 1, in characters.
        column: usize,
        /// What is wrong and what was expected.
        problem: String,
    },
    /// A value of a table is not what it should be.
    #[error("{file}, line {line}, column {column} ({name}): {found:?} is not {expected}")]
    Value {
        /// The file.
        file: String,
        /// The line, counted from 1.
        line: u64,
        /// The column, counted from 1.
        column: usize,
        /// What the header calls it.
        name: String,
        /// What is there, cut.
        found: String,
        /// What should be.
        expected: String,
    },
    /// The file or directory as a whole is not what it should be.
    #[error("{file}: {problem}")]
    Whole {
        /// The file or directory.
        file: String,
        /// What is wrong and what was expected.
        problem: String,
    },
}

impl InputError {
    pub(crate) fn whole(file: &Path, problem: impl Into<String>) -> Self {
        Self::Whole { file: file.display().to_string(), problem: problem.into() }
    }
}

/// Hands on what it reads until a line is too long.
#[derive(Debug)]
struct BoundedLines<R> {
    inner: R,
    length: usize,
}

impl<R: Read> Read for BoundedLines<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        for part in buffer[..count].split_inclusive(|&byte| byte == b'\n') {
            self.length += part.len();
            if self.length > MAX_LINE_BYTES {
                let problem = format!("the line is longer than {MAX_LINE_BYTES} bytes");
                return Err(io::Error::new(io::ErrorKind::InvalidData, problem));
            }
            if part.ends_with(b"\n") {
                self.length = 0;
            }
        }
        Ok(count)
    }
}

/// A CSV file with a header.
#[derive(Debug)]
pub(crate) struct Table {
    file: String,
    reader: Reader<BoundedLines<File>>,
    header: Vec<String>,
    record: ByteRecord,
}

impl Table {
    pub(crate) fn open(path: &Path) -> Result<Self, InputError> {
        let file = path.display().to_string();
        let opened =
            File::open(path).map_err(|source| InputError::Unreadable { file: file.clone(), source })?;
        // Without quotes every line end ends a record, so a bounded line is a bounded record.
        let reader = ReaderBuilder::new()
            .has_headers(false)
            .flexible(true)
            .quoting(false)
            .from_reader(BoundedLines { inner: opened, length: 0 });
        let mut table = Self { file, reader, header: Vec::new(), record: ByteRecord::new() };
        if !table.advance()? {
            return Err(table.wrong_line("the file is empty; a header was expected"));
        }
        let mut header = Vec::with_capacity(table.record.len());
        for name in &table.record {
            let Ok(name) = std::str::from_utf8(name) else {
                return Err(table.wrong_line("the header is not UTF-8"));
            };
            header.push(name.trim_start_matches('\u{feff}').trim().to_owned());
        }
        table.header = header;
        Ok(table)
    }

    pub(crate) fn header(&self) -> &[String] {
        &self.header
    }

    /// Where a column is that must be there.
    pub(crate) fn column(&self, name: &str) -> Result<usize, InputError> {
        self.optional_column(name)
            .ok_or_else(|| self.wrong_line(&format!("the header has no column {name:?}, which is needed")))
    }

    pub(crate) fn optional_column(&self, name: &str) -> Option<usize> {
        self.header.iter().position(|column| column == name)
    }

    /// Reads the next line; false at the end. Every line must have as many columns as the header.
    pub(crate) fn next_line(&mut self) -> Result<bool, InputError> {
        if !self.advance()? {
            return Ok(false);
        }
        let (found, wanted) = (self.record.len(), self.header.len());
        if found == wanted {
            return Ok(true);
        }
        Err(self.wrong_line(&format!("{found} columns; {wanted} were expected, as in the header")))
    }

    fn advance(&mut self) -> Result<bool, InputError> {
        let line = self.reader.position().line();
        self.reader.read_byte_record(&mut self.record).map_err(|error| InputError::Line {
            file: self.file.clone(),
            line,
            problem: match error.into_kind() {
                csv::ErrorKind::Io(error) => error.to_string(),
                other => format!("it cannot be read as CSV: {other:?}").chars().take(200).collect(),
            },
        })
    }

    /// A text of the current line.
    pub(crate) fn text(&self, column: usize) -> Result<&str, InputError> {
        let bytes = self.record.get(column).unwrap_or_default();
        match std::str::from_utf8(bytes) {
            Ok(text) if text.len() <= 256 => Ok(text.trim()),
            Ok(_) => Err(self.wrong_value(column, "a text of at most 256 bytes")),
            Err(_) => Err(self.wrong_value(column, "UTF-8")),
        }
    }

    /// A number of the current line within a range.
    pub(crate) fn number(
        &self,
        column: usize,
        allowed: RangeInclusive<f64>,
        what: &str,
    ) -> Result<f64, InputError> {
        let value = self.text(column)?.parse::<f64>();
        value.ok().filter(|value| allowed.contains(value)).ok_or_else(|| {
            let expected = format!("{what} between {} and {}", allowed.start(), allowed.end());
            self.wrong_value(column, &expected)
        })
    }

    /// A count of the current line.
    pub(crate) fn count(&self, column: usize, most: u32) -> Result<u32, InputError> {
        let value = self.text(column)?.parse::<u32>();
        value
            .ok()
            .filter(|&value| value <= most)
            .ok_or_else(|| self.wrong_value(column, &format!("a whole number between 0 and {most}")))
    }

    /// An error about the current line.
    pub(crate) fn wrong_line(&self, problem: &str) -> InputError {
        let line = self.record.position().map_or(1, csv::Position::line);
        InputError::Line { file: self.file.clone(), line, problem: problem.to_owned() }
    }

    fn wrong_value(&self, column: usize, expected: &str) -> InputError {
        let found = String::from_utf8_lossy(self.record.get(column).unwrap_or_default());
        InputError::Value {
            file: self.file.clone(),
            line: self.record.position().map_or(1, csv::Position::line),
            column: column + 1,
            name: self.header.get(column).map(|name| shown(name, SHOWN)).unwrap_or_default(),
            found: shown(&found, SHOWN),
            expected: expected.to_owned(),
        }
    }
}
