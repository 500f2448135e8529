//! One field of a cron expression: which of a range of numbers it means.

use std::ops::RangeInclusive;

/// Numbers from 0 to 63, or of years from 1970 on, as bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Set {
    bits: [u64; 4],
    first: u16,
}

/// A field that is not understood.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FieldError {
    /// It has nothing in it.
    #[error("it is empty")]
    Empty,
    /// Something in it is neither a number of the field nor a name.
    #[error("{0:?} is not a value from {1} to {2}")]
    Value(String, u16, u16),
    /// A step that is no positive number.
    #[error("{0:?} has no step of 1 or more")]
    Step(String),
}

impl Set {
    /// Whether a number is meant.
    pub(crate) fn has(&self, number: u16) -> bool {
        let at = usize::from(number.wrapping_sub(self.first));
        self.bits.get(at / 64).is_some_and(|bits| bits >> (at % 64) & 1 == 1)
    }

    /// Reads numbers, ranges and steps, with commas between; `names` stand for numbers from the first on.
    pub(crate) fn read(text: &str, range: RangeInclusive<u16>, names: &[&str]) -> Result<Self, FieldError> {
        let (first, last) = (*range.start(), *range.end());
        let mut set = Self { bits: [0; 4], first };
        let value = |text: &str| {
            let named = names.iter().position(|name| name.eq_ignore_ascii_case(text));
            let named = named.and_then(|at| u16::try_from(at).ok()).map(|at| at + first);
            let plain = !text.is_empty() && text.len() <= 4 && text.bytes().all(|byte| byte.is_ascii_digit());
            let number = if plain { text.parse().ok() } else { None };
            named
                .or(number)
                .filter(|number| range.contains(number))
                .ok_or_else(|| FieldError::Value(text.chars().take(16).collect(), first, last))
        };
        if text.is_empty() {
            return Err(FieldError::Empty);
        }
        for part in text.split(',') {
            let (span, step) = part.split_once('/').map_or((part, None), |(span, step)| (span, Some(step)));
            let (from, to) = match span.split_once('-') {
                _ if span == "*" => (first, last),
                Some((from, to)) => (value(from)?, value(to)?),
                // From there on, in steps.
                None if step.is_some() => (value(span)?, last),
                None => (value(span)?, value(span)?),
            };
            let step = match step {
                None => 1,
                Some(step) => {
                    let good = step.len() <= 4 && step.bytes().all(|byte| byte.is_ascii_digit());
                    let step = if good { step.parse::<u16>().ok() } else { None };
                    step.filter(|step| *step > 0)
                        .ok_or_else(|| FieldError::Step(part.chars().take(16).collect()))?
                }
            };
            // One that ends before it begins goes over the end: 20-2 are the hours from eight in the evening to two.
            let (head, tail) = if from <= to { (from..=to, None) } else { (from..=last, Some(first..=to)) };
            for number in head.chain(tail.into_iter().flatten()).step_by(step.into()) {
                let at = usize::from(number - first);
                set.bits[at / 64] |= 1 << (at % 64);
            }
        }
        Ok(set)
    }
}
