//! What is compared: how long idle instances are kept.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use hearth_types::{KeepAlive, limits};
use serde::Deserialize;

use crate::units::Span;

/// A way to keep idle instances: `fixed:10m`, `learned`, `learned:10m`, or `learned:10m:1h`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Policy {
    /// Whether the manager learns.
    pub keep_alive: KeepAlive,
    /// How long an idle instance is kept, or until something is learned.
    pub idle_timeout: Duration,
    /// Idle time that is worth one cold start to a manager that learns; the idle timeout if none is given.
    pub cold_start_worth: Option<Duration>,
}

/// A text that is no policy.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is not a policy: fixed:TIME keeps idle instances that long; learned or learned:TIME as long as each function's own idle times say, and for TIME until they say anything"
)]
pub struct InvalidPolicy(String);

impl FromStr for Policy {
    type Err = InvalidPolicy;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let invalid = || InvalidPolicy(text.chars().take(32).collect());
        let mut parts = text.split(':');
        let keep_alive = match parts.next() {
            Some("fixed") => KeepAlive::Fixed,
            Some("learned") => KeepAlive::Learned,
            _ => return Err(invalid()),
        };
        let mut time = || parts.next().map(|time| time.parse::<Span>().map(|Span(time)| time)).transpose();
        let idle_timeout = time().map_err(|_| invalid())?.unwrap_or(limits::IDLE_TIMEOUT);
        let cold_start_worth = match keep_alive {
            KeepAlive::Fixed => None,
            KeepAlive::Learned => time().map_err(|_| invalid())?,
        };
        if parts.next().is_some() {
            return Err(invalid());
        }
        Ok(Self { keep_alive, idle_timeout, cold_start_worth })
    }
}

impl TryFrom<String> for Policy {
    type Error = InvalidPolicy;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl fmt::Display for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.keep_alive {
            KeepAlive::Fixed => "fixed",
            KeepAlive::Learned => "learned",
        };
        write!(f, "{kind}:{}", short(self.idle_timeout))?;
        self.cold_start_worth.map_or(Ok(()), |worth| write!(f, ":{}", short(worth)))
    }
}

/// A time in the largest unit that says it exactly.
fn short(time: Duration) -> String {
    let millis = time.as_millis();
    match millis {
        _ if millis >= 3_600_000 && millis.is_multiple_of(3_600_000) => format!("{}h", millis / 3_600_000),
        _ if millis >= 60_000 && millis.is_multiple_of(60_000) => format!("{}m", millis / 60_000),
        _ if millis.is_multiple_of(1_000) => format!("{}s", millis / 1_000),
        _ => format!("{millis}ms"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn policies_survive_the_trip_through_their_text() {
        for text in [
            "fixed:10m",
            "learned:10m",
            "fixed:1s",
            "fixed:1500ms",
            "fixed:0s",
            "learned:90m",
            "learned:10m:2h",
        ] {
            assert_eq!(text.parse::<Policy>().unwrap().to_string(), text);
        }
        assert_eq!("learned".parse::<Policy>().unwrap().to_string(), "learned:5m");
        for wrong in [
            "",
            "fixed:",
            "fixed:-1s",
            "fixed:NaNs",
            "guessed",
            "learned:10x",
            "fixed:10m:1s",
            "learned:1m:",
            "learned:1m:1m:1m",
        ] {
            assert!(wrong.parse::<Policy>().is_err(), "{wrong}");
        }
    }
}
