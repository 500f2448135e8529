//! `cron(minutes hours day-of-month month day-of-week year)`: which minutes of the calendar it means.

use jiff::civil::{Date, DateTime, date};

use crate::fields::{FieldError, Set};

const MONTHS: [&str; 12] =
    ["JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC"];
const DAYS: [&str; 7] = ["SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"];
const YEARS: std::ops::RangeInclusive<u16> = 1970..=2199;

/// Why a cron expression is not understood.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CronError {
    /// There are not six fields.
    #[error("cron has six fields (minutes hours day-of-month month day-of-week year), and this has {0}")]
    Count(usize),
    /// A field is wrong.
    #[error("the {0}: {1}")]
    Field(&'static str, #[source] FieldError),
    /// Both or neither of the days are `?`.
    #[error("exactly one of day-of-month and day-of-week must be ?")]
    Days,
}

/// Which days of a month.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Days {
    OfMonth(Set),
    /// `L`, or `L-N`: so many before the last.
    Last(u16),
    /// `NW`: the weekday nearest to it, in the same month.
    NearestWeekday(u16),
    /// `LW`.
    LastWeekday,
    /// 1 is Sunday.
    OfWeek(Set),
    /// `NL`: the last such day of the month.
    LastOfWeek(u16),
    /// `N#M`: the M-th such day of the month.
    NthOfWeek(u16, u16),
}

/// A cron expression.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Cron {
    minutes: Set,
    hours: Set,
    days: Days,
    months: Set,
    years: Set,
}

impl Cron {
    pub(crate) fn read(text: &str) -> Result<Self, CronError> {
        let fields: Vec<&str> = text.split_whitespace().collect();
        let [minutes, hours, of_month, months, of_week, years] = fields[..] else {
            return Err(CronError::Count(fields.len()));
        };
        let named = |name| move |error| CronError::Field(name, error);
        let days = match (of_month, of_week) {
            ("?", "?") => return Err(CronError::Days),
            (_, "?") => read_of_month(of_month).map_err(named("day of month"))?,
            ("?", _) => read_of_week(of_week).map_err(named("day of week"))?,
            _ => return Err(CronError::Days),
        };
        Ok(Self {
            minutes: Set::read(minutes, 0..=59, &[]).map_err(named("minutes"))?,
            hours: Set::read(hours, 0..=23, &[]).map_err(named("hours"))?,
            days,
            months: Set::read(months, 1..=12, &MONTHS).map_err(named("month"))?,
            years: Set::read(years, YEARS, &[]).map_err(named("year"))?,
        })
    }

    /// The first minute that is meant at or after `from`, if there is any.
    pub(crate) fn next(&self, from: DateTime) -> Option<DateTime> {
        let mut day = from.date();
        let mut earliest = (from.hour(), from.minute());
        if from.second() > 0 || from.subsec_nanosecond() > 0 {
            // That minute has begun.
            earliest.1 += 1;
        }
        loop {
            if u16::try_from(day.year()).map_or(true, |year| year > *YEARS.end()) {
                return None;
            }
            let in_year = u16::try_from(day.year()).is_ok_and(|year| self.years.has(year));
            if !in_year {
                day = date(day.year() + 1, 1, 1);
            } else if !self.months.has(day.month().unsigned_abs().into()) {
                day = day.last_of_month().tomorrow().ok()?;
            } else {
                if self.means(day)
                    && let Some((hour, minute)) = self.time(earliest)
                {
                    return Some(day.at(hour, minute, 0, 0));
                }
                day = day.tomorrow().ok()?;
            }
            earliest = (0, 0);
        }
    }

    /// The first time of a day that is meant, not before `earliest`.
    fn time(&self, (first_hour, first_minute): (i8, i8)) -> Option<(i8, i8)> {
        (first_hour..24).filter(|hour| self.hours.has(hour.unsigned_abs().into())).find_map(|hour| {
            let first = if hour == first_hour { first_minute } else { 0 };
            let minute = (first..60).find(|minute| self.minutes.has(minute.unsigned_abs().into()))?;
            Some((hour, minute))
        })
    }

    fn means(&self, day: Date) -> bool {
        let of_month = u16::from(day.day().unsigned_abs());
        let last = u16::from(day.days_in_month().unsigned_abs());
        let of_week = day_of_week(day);
        match self.days {
            Days::OfMonth(set) => set.has(of_month),
            Days::Last(before) => of_month + before == last,
            Days::NearestWeekday(number) => number <= last && nearest_weekday(day, number, last) == of_month,
            Days::LastWeekday => last_weekday(day, last) == of_month,
            Days::OfWeek(set) => set.has(of_week),
            Days::LastOfWeek(number) => of_week == number && of_month + 7 > last,
            Days::NthOfWeek(number, nth) => of_week == number && of_month.div_ceil(7) == nth,
        }
    }
}

/// 1 for Sunday to 7 for Saturday.
fn day_of_week(day: Date) -> u16 {
    u16::from(day.weekday().to_sunday_one_offset().unsigned_abs())
}

/// The day of the week that another day of the same month is.
fn week_day_of(day: Date, other: u16) -> u16 {
    let distance = i32::from(other) - i32::from(day.day());
    let number = (i32::from(day_of_week(day)) - 1 + distance).rem_euclid(7) + 1;
    u16::try_from(number).unwrap_or(1)
}

fn nearest_weekday(day: Date, number: u16, last: u16) -> u16 {
    match week_day_of(day, number) {
        7 if number == 1 => 3,
        7 => number - 1,
        1 if number == last => number - 2,
        1 => number + 1,
        _ => number,
    }
}

fn last_weekday(day: Date, last: u16) -> u16 {
    match week_day_of(day, last) {
        7 => last - 1,
        1 => last - 2,
        _ => last,
    }
}

fn read_of_month(text: &str) -> Result<Days, FieldError> {
    let number = |text: &str| {
        let set = Set::read(text, 1..=31, &[])?;
        let wrong = || FieldError::Value(text.chars().take(16).collect(), 1, 31);
        if text.bytes().all(|byte| byte.is_ascii_digit()) {
            (1..=31).find(|number| set.has(*number)).ok_or_else(wrong)
        } else {
            Err(wrong())
        }
    };
    let upper = text.to_ascii_uppercase();
    match upper.as_str() {
        "L" => return Ok(Days::Last(0)),
        "LW" | "WL" => return Ok(Days::LastWeekday),
        _ => {}
    }
    if let Some(before) = upper.strip_prefix("L-") {
        return number(before).map(Days::Last);
    }
    if let Some(day) = upper.strip_suffix('W') {
        return number(day).map(Days::NearestWeekday);
    }
    Set::read(text, 1..=31, &[]).map(Days::OfMonth)
}

fn read_of_week(text: &str) -> Result<Days, FieldError> {
    let one = |text: &str| {
        let set = Set::read(text, 1..=7, &DAYS)?;
        let mut days = (1..=7).filter(|day| set.has(*day));
        match (days.next(), days.next()) {
            (Some(day), None) => Ok(day),
            _ => Err(FieldError::Value(text.chars().take(16).collect(), 1, 7)),
        }
    };
    let upper = text.to_ascii_uppercase();
    if let Some((day, nth)) = upper.split_once('#') {
        let set = Set::read(nth, 1..=5, &[])?;
        let wrong = || FieldError::Value(nth.chars().take(16).collect(), 1, 5);
        let nth = (1..=5).find(|number| set.has(*number)).filter(|_| nth.len() == 1).ok_or_else(wrong)?;
        return Ok(Days::NthOfWeek(one(day)?, nth));
    }
    if upper == "L" {
        // The last day of the week, as a field of its own: Saturday.
        return one("SAT").map(Days::LastOfWeek);
    }
    if let Some(day) = upper.strip_suffix('L')
        && !day.is_empty()
    {
        return one(day).map(Days::LastOfWeek);
    }
    Set::read(text, 1..=7, &DAYS).map(Days::OfWeek)
}
