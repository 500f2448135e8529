//! An expression, its time zone and its bounds: when it is due next.

use std::sync::LazyLock;

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::{AmbiguousOffset, TimeZone, TimeZoneDatabase};

use crate::cron::{Cron, CronError};

/// The database of time zones, which is part of the program.
static ZONES: LazyLock<TimeZoneDatabase> = LazyLock::new(TimeZoneDatabase::bundled);
const MINUTE_MS: u64 = 60_000;
/// A rate is no longer than this, minutes: a hundred years.
const LONGEST_RATE: u64 = 100 * 366 * 24 * 60;

/// Why a schedule is not understood.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ScheduleError {
    /// Neither of the three forms.
    #[error("a schedule is cron(...), rate(...) or at(...)")]
    Form,
    /// A cron expression is wrong.
    #[error("{0}")]
    Cron(#[from] CronError),
    /// A rate is wrong.
    #[error("a rate is a positive number and a unit: rate(5 minutes), rate(1 hour), rate(7 days)")]
    Rate,
    /// A moment is wrong.
    #[error("a moment is at(yyyy-mm-ddThh:mm:ss)")]
    At,
    /// There is no such time zone.
    #[error("{0:?} is no time zone of the IANA database, such as Europe/Berlin or UTC")]
    Zone(String),
}

/// What a schedule says of when.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Expression {
    /// `cron(...)`.
    Cron(Box<CronExpression>),
    /// `rate(...)`, milliseconds.
    Rate(u64),
    /// `at(...)`, by the clock of the time zone.
    At(DateTime),
}

/// A cron expression, as it was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CronExpression(Cron);

/// An expression with its time zone and bounds. Times are milliseconds since the Unix epoch.
#[derive(Clone, Debug)]
pub struct Schedule {
    expression: Expression,
    zone: TimeZone,
    /// A rate counts from here.
    created_ms: u64,
    start_ms: Option<u64>,
    end_ms: Option<u64>,
}

impl Expression {
    /// Reads an expression.
    ///
    /// # Errors
    /// It is none.
    pub fn read(text: &str) -> Result<Self, ScheduleError> {
        let inner = |name: &str| text.strip_prefix(name)?.strip_prefix('(')?.strip_suffix(')');
        if let Some(fields) = inner("cron") {
            return Ok(Self::Cron(Box::new(CronExpression(Cron::read(fields)?))));
        }
        if let Some(rate) = inner("rate") {
            return read_rate(rate).map(Self::Rate).ok_or(ScheduleError::Rate);
        }
        let Some(moment) = inner("at") else { return Err(ScheduleError::Form) };
        // The form is exact: jiff would take others, too.
        let shape = moment.len() == 19
            && moment.bytes().enumerate().all(|(at, byte)| match at {
                4 | 7 => byte == b'-',
                10 => byte == b'T',
                13 | 16 => byte == b':',
                _ => byte.is_ascii_digit(),
            });
        let moment = if shape { moment.parse().ok() } else { None };
        moment.map(Self::At).ok_or(ScheduleError::At)
    }

    /// Whether it is due but once.
    #[must_use]
    pub const fn is_once(&self) -> bool {
        matches!(self, Self::At(_))
    }
}

fn read_rate(text: &str) -> Option<u64> {
    let mut words = text.split_ascii_whitespace();
    let (number, unit) = (words.next()?, words.next()?);
    if words.next().is_some() || !number.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let minutes = match unit {
        "minute" | "minutes" => 1,
        "hour" | "hours" => 60,
        "day" | "days" => 24 * 60,
        _ => return None,
    };
    let minutes = number.parse::<u64>().ok()?.checked_mul(minutes)?;
    (1..=LONGEST_RATE).contains(&minutes).then_some(minutes * MINUTE_MS)
}

impl Schedule {
    /// An expression in a time zone of the IANA database; a rate counts from the start, or from `created_ms`.
    ///
    /// # Errors
    /// There is no such time zone.
    pub fn new(
        expression: Expression,
        zone: &str,
        created_ms: u64,
        start_ms: Option<u64>,
        end_ms: Option<u64>,
    ) -> Result<Self, ScheduleError> {
        let unknown = |_| ScheduleError::Zone(zone.chars().take(50).collect());
        let zone = ZONES.get(zone).map_err(unknown)?;
        Ok(Self { expression, zone, created_ms, start_ms, end_ms })
    }

    /// The first time that it is due after `after_ms`, if there is any.
    #[must_use]
    pub fn next(&self, after_ms: u64) -> Option<u64> {
        let from = match self.start_ms {
            Some(start) => (after_ms.saturating_add(1)).max(start),
            None => after_ms.saturating_add(1),
        };
        let due = match &self.expression {
            Expression::Rate(step) => {
                let first = self.start_ms.unwrap_or_else(|| self.created_ms.saturating_add(*step));
                first.saturating_add(from.saturating_sub(first).div_ceil(*step).saturating_mul(*step))
            }
            Expression::At(moment) => self.at(*moment, from)?,
            Expression::Cron(cron) => self.cron(&cron.0, from)?,
        };
        (self.end_ms.is_none_or(|end| due <= end)).then_some(due)
    }

    /// The moment that a clock in the zone shows this: the first one if there are two. One that is skipped is when it
    /// would have been, had the clock not been moved: it is due once, come what may.
    fn at(&self, moment: DateTime, from: u64) -> Option<u64> {
        let offset = match self.zone.to_ambiguous_timestamp(moment).offset() {
            AmbiguousOffset::Unambiguous { offset } => offset,
            AmbiguousOffset::Gap { before, .. } | AmbiguousOffset::Fold { before, .. } => before,
        };
        let due = u64::try_from(offset.to_timestamp(moment).ok()?.as_millisecond()).ok()?;
        (due >= from).then_some(due)
    }

    /// A minute that the clock shows twice is meant the first time; one that it skips is skipped.
    fn cron(&self, cron: &Cron, from: u64) -> Option<u64> {
        let timestamp = Timestamp::from_millisecond(i64::try_from(from).ok()?).ok()?;
        let mut local = self.zone.to_datetime(timestamp);
        loop {
            let found = cron.next(local)?;
            let offset = match self.zone.to_ambiguous_timestamp(found).offset() {
                AmbiguousOffset::Unambiguous { offset } => Some(offset),
                AmbiguousOffset::Fold { before, .. } => Some(before),
                AmbiguousOffset::Gap { .. } => None,
            };
            let due = offset.and_then(|offset| offset.to_timestamp(found).ok());
            let due = due.and_then(|due| u64::try_from(due.as_millisecond()).ok());
            if let Some(due) = due.filter(|due| *due >= from) {
                return Some(due);
            }
            local = found.checked_add(jiff::SignedDuration::from_mins(1)).ok()?;
        }
    }
}

#[cfg(test)]
mod tests;
