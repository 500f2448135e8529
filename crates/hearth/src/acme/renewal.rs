//! When the next order is due.

use std::time::Duration;

/// First and longest wait after a failed order. Authorities count them: Let's Encrypt takes five failures an hour for a name.
const FIRST: Duration = Duration::from_secs(300);
const LONGEST: Duration = Duration::from_secs(6 * 3_600);

/// From when until when a certificate holds, seconds since the Unix epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Validity {
    pub(super) from: u64,
    pub(super) until: u64,
}

/// When to order again: after two thirds of a certificate's life, as Let's Encrypt advises for lives of every length.
pub(super) fn due(validity: Validity) -> u64 {
    let life = validity.until.saturating_sub(validity.from);
    validity.from.saturating_add(life / 3 * 2)
}

/// Waits after failures, each twice the one before.
#[derive(Debug, Default)]
pub(super) struct Backoff {
    failures: u32,
}

impl Backoff {
    pub(super) fn next(&mut self) -> Duration {
        let wait = FIRST.checked_mul(2_u32.saturating_pow(self.failures)).unwrap_or(LONGEST);
        self.failures = self.failures.saturating_add(1);
        wait.min(LONGEST)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_thirds_of_a_life_are_lived() {
        let day = 86_400;
        assert_eq!(due(Validity { from: 0, until: 90 * day }), 60 * day);
        assert_eq!(due(Validity { from: 10, until: 10 }), 10);
        assert_eq!(due(Validity { from: 20, until: 10 }), 20);
        assert_eq!(due(Validity { from: u64::MAX, until: u64::MAX }), u64::MAX);
    }

    #[test]
    fn failures_are_few_in_an_hour_and_the_wait_is_bounded() {
        let mut backoff = Backoff::default();
        let waits: Vec<u64> = (0..40).map(|_| backoff.next().as_secs()).collect();
        assert_eq!(waits[..4], [300, 600, 1_200, 2_400]);
        assert!(waits[..3].iter().sum::<u64>() >= 1_800, "five failures take more than an hour");
        assert_eq!(waits[39], 6 * 3_600);
    }
}
