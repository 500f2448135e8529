//! How a function's log is written: `LoggingConfig`.

use std::fmt;
use std::str::FromStr;

/// How much a line of a log matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum LogLevel {
    /// Finest.
    Trace,
    /// For whoever looks for a mistake.
    Debug,
    /// The usual.
    Info,
    /// Something may be wrong.
    Warn,
    /// Something is.
    Error,
    /// Nothing works.
    Fatal,
}

/// Levels by their names.
const LEVELS: [(&str, LogLevel); 6] = [
    ("TRACE", LogLevel::Trace),
    ("DEBUG", LogLevel::Debug),
    ("INFO", LogLevel::Info),
    ("WARN", LogLevel::Warn),
    ("ERROR", LogLevel::Error),
    ("FATAL", LogLevel::Fatal),
];

/// It is none of the six words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a log level is one of TRACE, DEBUG, INFO, WARN, ERROR and FATAL")]
pub struct InvalidLogLevel;

/// A log of JSON documents, and what is in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct JsonLog {
    /// The least that the function says: `ApplicationLogLevel`. Its runtime's client keeps to it.
    pub application: LogLevel,
    /// The least that the platform says: `SystemLogLevel`.
    pub system: LogLevel,
}

/// A function's log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Logging {
    /// `LogGroup`.
    pub group: String,
    /// Lines of text unless it is JSON: `LogFormat`.
    pub json: Option<JsonLog>,
}

impl fmt::Display for LogLevel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let named = LEVELS.iter().find(|(_, level)| level == self);
        f.write_str(named.map_or("INFO", |(name, _)| name))
    }
}

impl FromStr for LogLevel {
    type Err = InvalidLogLevel;

    fn from_str(text: &str) -> Result<Self, InvalidLogLevel> {
        LEVELS.iter().find(|(name, _)| *name == text).map(|(_, level)| *level).ok_or(InvalidLogLevel)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_are_words_in_order() {
        let read: Vec<LogLevel> = LEVELS.iter().map(|(name, _)| name.parse().unwrap()).collect();
        assert!(
            read.is_sorted() && read.iter().zip(LEVELS).all(|(level, (name, _))| level.to_string() == name)
        );
        assert_eq!("info".parse::<LogLevel>(), Err(InvalidLogLevel));
    }
}
