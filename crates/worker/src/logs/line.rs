//! One line of a log, on disk and off it.

use std::io::Write;

use hearth_types::InstanceId;

/// A line of a function's log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogLine {
    /// When it was logged, milliseconds since 1970.
    pub epoch_ms: u64,
    /// By which instance.
    pub instance: InstanceId,
    /// What it says, without its line end. Bytes that are no UTF-8 are replaced.
    pub text: String,
}

/// Writes the lines of `text` as they are on disk.
pub(super) fn append(to: &mut Vec<u8>, epoch_ms: u64, instance: InstanceId, text: &[u8]) {
    for line in text.strip_suffix(b"\n").unwrap_or(text).split(|byte| *byte == b'\n') {
        // Writing to memory cannot fail.
        let _ = write!(to, "{epoch_ms}\t{instance}\t");
        to.extend_from_slice(line);
        to.push(b'\n');
    }
}

/// A line as it is on disk; nothing if it is damaged.
pub(super) fn parse(line: &[u8]) -> Option<LogLine> {
    let mut parts = line.splitn(3, |byte| *byte == b'\t');
    let epoch_ms = std::str::from_utf8(parts.next()?).ok()?.parse().ok()?;
    let instance = std::str::from_utf8(parts.next()?).ok()?.parse().ok()?;
    let text = String::from_utf8_lossy(parts.next()?).into_owned();
    Some(LogLine { epoch_ms, instance, text })
}

/// All whole lines.
pub(super) fn parse_all(bytes: &[u8]) -> impl Iterator<Item = LogLine> {
    bytes.split(|byte| *byte == b'\n').filter_map(parse)
}
