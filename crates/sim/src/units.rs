//! Durations and rates as people write them, and numbers that came out of a formula made whole.

use std::str::FromStr;
use std::time::Duration;

use serde::Deserialize;

/// Nanoseconds in a second.
pub(crate) const SECOND: u64 = 1_000_000_000;
/// Nanoseconds in an hour.
pub(crate) const HOUR: u64 = 3_600 * SECOND;
/// Nanoseconds in a day.
pub(crate) const DAY: u64 = 24 * HOUR;

/// Longest span that is understood: a year.
const LONGEST: f64 = 366.0 * 86_400.0;
/// Most often that anything happens, times a second.
const MOST_OFTEN: f64 = 1_000_000.0;

/// The nearest whole number that is not negative; what is not a number becomes zero, what is too large the largest.
pub(crate) fn whole(value: f64) -> u64 {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "the cast saturates, which is what is wanted"
    )]
    let whole = libm::round(value) as u64;
    whole
}

/// As [`whole`], for what is known to be small.
pub(crate) fn whole_u32(value: f64) -> u32 {
    u32::try_from(whole(value)).unwrap_or(u32::MAX)
}

/// A time span such as `250ms`, `1.5s`, `10m`, `2h` or `1d`; at most a year.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Span(pub Duration);

/// A text that is no time span.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a time span of at most a year, such as 250ms, 1.5s, 10m, 2h or 1d")]
pub struct InvalidSpan(String);

impl Span {
    /// Nanoseconds.
    #[must_use]
    pub fn as_nanos(self) -> u64 {
        u64::try_from(self.0.as_nanos()).unwrap_or(u64::MAX)
    }
}

impl FromStr for Span {
    type Err = InvalidSpan;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let invalid = || InvalidSpan(text.chars().take(32).collect());
        let unit_at = text.find(|c: char| c.is_ascii_alphabetic()).ok_or_else(invalid)?;
        let (number, unit) = text.split_at(unit_at);
        let seconds = match unit {
            "us" => 0.000_001,
            "ms" => 0.001,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3_600.0,
            "d" => 86_400.0,
            _ => return Err(invalid()),
        };
        let value = seconds * number.trim_end().parse::<f64>().map_err(|_| invalid())?;
        if !(0.0..=LONGEST).contains(&value) || number.starts_with(['+', '-']) {
            return Err(invalid());
        }
        Ok(Self(Duration::from_nanos(whole(value * 1e9))))
    }
}

impl TryFrom<String> for Span {
    type Error = InvalidSpan;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

/// How often something happens, such as `5/s`, `10/m`, `3/h` or `0.5/d`.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
#[serde(try_from = "String")]
pub struct Rate {
    /// Times a second; more than zero.
    pub per_second: f64,
}

/// A text that is no rate.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a rate above zero and at most a million a second, such as 5/s, 10/m, 3/h or 0.5/d")]
pub struct InvalidRate(String);

impl FromStr for Rate {
    type Err = InvalidRate;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let invalid = || InvalidRate(text.chars().take(32).collect());
        let (number, unit) = text.split_once('/').ok_or_else(invalid)?;
        let seconds = match unit {
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3_600.0,
            "d" => 86_400.0,
            _ => return Err(invalid()),
        };
        let per_second = number.parse::<f64>().map_err(|_| invalid())? / seconds;
        if !(1.0 / LONGEST..=MOST_OFTEN).contains(&per_second) {
            return Err(invalid());
        }
        Ok(Self { per_second })
    }
}

impl TryFrom<String> for Rate {
    type Error = InvalidRate;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_and_rates_are_read_and_nonsense_is_not() {
        assert_eq!("250ms".parse(), Ok(Span(Duration::from_millis(250))));
        assert_eq!("1.5s".parse(), Ok(Span(Duration::from_millis(1_500))));
        assert_eq!("10m".parse(), Ok(Span(Duration::from_mins(10))));
        assert_eq!("1d".parse(), Ok(Span(Duration::from_hours(24))));
        for wrong in ["", "5", "s", "-1s", "+1s", "1w", "NaNs", "infs", "1e99h", "367d", "1 2s", "１s"] {
            assert!(wrong.parse::<Span>().is_err(), "{wrong}");
        }
        assert_eq!("120/m".parse(), Ok(Rate { per_second: 2.0 }));
        for wrong in ["", "5", "/s", "0/s", "-1/s", "NaN/s", "inf/s", "1/w", "1e300/s", "1e-300/d"] {
            assert!(wrong.parse::<Rate>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn what_is_no_number_becomes_zero_and_what_is_too_large_the_largest() {
        assert_eq!(whole(f64::NAN), 0);
        assert_eq!(whole(-1.0), 0);
        assert_eq!(whole(1e300), u64::MAX);
        assert_eq!(whole(2.6), 3);
    }
}
