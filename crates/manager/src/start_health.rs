//! Whether starts of a revision are worth trying now: a function that fails its init phase again and again must not
//! spin the machine.

use std::time::Duration;

use hearth_types::Time;

/// Failures in a row that are taken for chance.
const CHANCES: u32 = 3;
/// The pause after the failure that is no longer chance; doubled by each one after it.
const PAUSE: Duration = Duration::from_secs(1);
/// The longest pause: what a developer who fixes the function elsewhere is ready to wait.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// A revision that nobody calls for this long begins anew.
const MEMORY: Duration = Duration::from_secs(60);
/// After a start that no request needed has failed: time without another such start.
const GROWTH_PAUSE: Duration = Duration::from_secs(1);

/// How starts of a revision have gone.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct StartHealth {
    /// Init phases that failed one after the other since the last one that did not.
    failures: u32,
    /// When the last of them did.
    failed_at: Time,
    /// No start before this.
    pause_until: Time,
    /// No start that no request needs before this.
    growth_after: Time,
}

impl StartHealth {
    pub(crate) const fn well(&mut self) {
        self.failures = 0;
        self.pause_until = Time::ZERO;
    }

    /// An init phase that began at `since` failed. Of those that ran at once one counts: a burst that met a busy machine
    /// has failed once, not as often as it had instances.
    pub(crate) fn init_failed(&mut self, now: Time, since: Time) {
        if self.failures > 0 && since < self.failed_at {
            return;
        }
        self.failures = self.failures.saturating_add(1);
        self.failed_at = now;
        if let Some(beyond) = self.failures.checked_sub(CHANCES) {
            let pause = PAUSE.saturating_mul(1 << beyond.min(16)).min(LONGEST_PAUSE);
            self.pause_until = now + pause;
        }
    }

    /// Until when failures are remembered, if there are some.
    pub(crate) fn memory(&self) -> Option<Time> {
        (self.failures > 0).then(|| self.failed_at + MEMORY)
    }

    /// A start that no request needed came to nothing.
    pub(crate) fn growth_failed(&mut self, now: Time) {
        self.growth_after = now + GROWTH_PAUSE;
    }

    /// Failures in a row and the time until the next start may be tried, if it may not now.
    pub(crate) fn pause(&self, now: Time) -> Option<(u32, Duration)> {
        let left = self.pause_until - now;
        (!left.is_zero()).then_some((self.failures, left))
    }

    /// Whether a start that no request needs may be tried.
    pub(crate) fn may_grow(&self, now: Time) -> bool {
        now >= self.growth_after && self.pause(now).is_none()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_third_failure_in_a_row_begins_a_pause_that_doubles_to_a_bound() {
        let (mut health, mut now) = (StartHealth::default(), Time::ZERO);
        let mut pauses = Vec::new();
        for _ in 0..20 {
            health.init_failed(now, now);
            let pause = health.pause(now).map(|(_, pause)| pause).unwrap_or_default();
            pauses.push(pause.as_secs());
            now = now + pause;
            assert!(health.may_grow(now));
        }
        assert_eq!(pauses[..8], [0, 0, 1, 2, 4, 8, 16, 30]);
        assert_eq!(pauses.last(), Some(&30));
        health.well();
        health.init_failed(now, now);
        assert_eq!(health.pause(now), None);
    }

    #[test]
    fn init_phases_that_fail_at_once_are_one_failure() {
        let mut health = StartHealth::default();
        let at = |seconds| Time::ZERO + Duration::from_secs(seconds);
        for wave in 0..3 {
            assert_eq!(health.pause(at(wave * 20)), None);
            for _ in 0..40 {
                health.init_failed(at(wave * 20 + 10), at(wave * 20));
                health.init_failed(at(wave * 20 + 11), at(wave * 20 + 1));
            }
        }
        assert_eq!(health.pause(at(50)), Some((3, Duration::from_secs(1))));
    }
}
