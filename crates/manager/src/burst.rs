//! How many instances to start beyond the requests that wait, because more of them are coming.
//!
//! Requests that find no slot are counted in windows. When each of three windows has clearly more than the one before,
//! the next will likely grow by as much again: that much is started ahead. A burst that comes at once, however big, has
//! no windows before it and starts nothing ahead, for by the time it is seen it is over.

use std::time::Duration;

use hearth_types::Time;

/// Long enough for a start to be worth it, short enough to be ahead of it.
const WINDOW: Duration = Duration::from_millis(200);
/// Fewer requests than this in a window say nothing.
const LEAST: u32 = 4;

/// Requests without a slot, by window.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Burst {
    began: Time,
    now: u32,
    /// In the window before, and in the one before that.
    before: [u32; 2],
}

impl Burst {
    /// One more request found no slot. Returns how many more the next window is expected to have.
    pub(crate) fn request(&mut self, now: Time) -> u32 {
        let age = now - self.began;
        if age >= WINDOW {
            self.before = if age < WINDOW * 2 { [self.now, self.before[0]] } else { [0, 0] };
            self.now = 0;
            self.began = now;
        }
        self.now = self.now.saturating_add(1);
        let [last, first] = self.before;
        let rises = |from: u32, to: u32| from >= LEAST && to > from + from / 2;
        if rises(first, last) && rises(last, self.now) { self.now - last } else { 0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is expected after the last of so many requests in each window.
    fn after(windows: &[u32]) -> u32 {
        let (mut burst, mut expected) = (Burst::default(), 0);
        for (i, &requests) in windows.iter().enumerate() {
            let at = Time::ZERO + WINDOW * u32::try_from(i + 10).unwrap();
            for _ in 0..requests {
                expected = burst.request(at);
            }
        }
        expected
    }

    #[test]
    fn only_what_rises_from_window_to_window_is_expected_to_rise_on() {
        assert_eq!(after(&[1_000]), 0);
        assert_eq!(after(&[10, 10, 10]), 0);
        assert_eq!(after(&[10, 20]), 0);
        assert_eq!(after(&[40, 20, 10]), 0);
        assert_eq!(after(&[1, 3, 9]), 0);
        assert_eq!(after(&[10, 20, 40]), 20);
        assert_eq!(after(&[10, 20, 0, 40]), 0);
    }
}
