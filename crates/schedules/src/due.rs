//! What is to be done about a schedule now, and what of the times that were missed.
//!
//! Of those that are not later than allowed the latest is made up for, once; the others are skipped. So a server that was
//! down for a day does not do a day's work on its start.

use crate::Schedule;

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Due {
    /// It is due, and was at this time.
    Now {
        /// The time, milliseconds since the Unix epoch.
        at_ms: u64,
    },
    /// It is due then.
    At {
        /// The time, milliseconds since the Unix epoch.
        at_ms: u64,
    },
    /// It is never due again.
    Never,
}

impl Schedule {
    /// What is to be done at `now_ms`, when all times up to `done_ms` have been, and one may be late by `late_ms`.
    #[must_use]
    pub fn due(&self, done_ms: u64, now_ms: u64, late_ms: u64) -> Due {
        let mut at = done_ms.max(now_ms.saturating_sub(late_ms).saturating_sub(1));
        let mut latest = None;
        loop {
            match self.next(at) {
                Some(next) if next <= now_ms => {
                    latest = Some(next);
                    at = next;
                }
                next => {
                    return match (latest, next) {
                        (Some(at_ms), _) => Due::Now { at_ms },
                        (None, Some(at_ms)) => Due::At { at_ms },
                        (None, None) => Due::Never,
                    };
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::Expression;

    const MINUTE: u64 = 60_000;
    const BASE: u64 = 1_764_000_000_000;

    fn every(minutes: u64) -> Schedule {
        let expression = Expression::read(&format!("rate({minutes} minutes)")).unwrap();
        Schedule::new(expression, "UTC", BASE, None, None).unwrap()
    }

    #[test]
    fn the_latest_missed_time_is_made_up_for_once_if_it_is_not_too_late() {
        let schedule = every(10);
        let down_until = BASE + 65 * MINUTE;
        let latest = BASE + 60 * MINUTE;
        assert_eq!(schedule.due(BASE, down_until, 15 * MINUTE), Due::Now { at_ms: latest });
        assert_eq!(schedule.due(latest, down_until, 15 * MINUTE), Due::At { at_ms: latest + 10 * MINUTE });
        assert_eq!(schedule.due(BASE, down_until, MINUTE), Due::At { at_ms: latest + 10 * MINUTE });
    }

    #[test]
    fn one_time_is_due_once_or_never() {
        let expression = Expression::read("at(2026-11-24T10:00:00)").unwrap();
        let schedule = Schedule::new(expression, "UTC", 0, None, None).unwrap();
        let at_ms = schedule.next(0).unwrap();
        assert_eq!(schedule.due(0, at_ms - 1, MINUTE), Due::At { at_ms });
        assert_eq!(schedule.due(0, at_ms + MINUTE, MINUTE), Due::Now { at_ms });
        assert_eq!(schedule.due(at_ms, at_ms + MINUTE, MINUTE), Due::Never);
        assert_eq!(schedule.due(0, at_ms + MINUTE + 1, MINUTE), Due::Never);
    }

    proptest! {
        /// Whenever it is looked at, each time is due once at most and in order, and none is late by more than allowed.
        #[test]
        fn each_time_is_due_once_however_seldom_one_looks(
            minutes in 1_u64..30,
            looks in prop::collection::vec(1_u64..100 * MINUTE, 1..60),
            late in 1_u64..60,
        ) {
            let (schedule, late) = (every(minutes), late * MINUTE);
            let (mut now, mut done) = (BASE, BASE);
            for pause in looks {
                now += pause;
                match schedule.due(done, now, late) {
                    Due::Now { at_ms } => {
                        prop_assert!(at_ms > done && at_ms <= now && now - at_ms <= late);
                        prop_assert_eq!((at_ms - BASE) % (minutes * MINUTE), 0);
                        done = at_ms;
                    }
                    Due::At { at_ms } => prop_assert!(at_ms > now),
                    Due::Never => prop_assert!(false, "a rate never ends"),
                }
            }
        }
    }
}
