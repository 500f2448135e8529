//! The one clock that the pure parts' times are read from.

use std::time::{Duration, Instant};

use hearth_types::Time;

/// A monotonic clock whose epoch is its own making.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    epoch: Instant,
}

impl Clock {
    pub(crate) fn start() -> Self {
        Self { epoch: Instant::now() }
    }

    pub(crate) fn now(self) -> Time {
        Time::ZERO + self.epoch.elapsed()
    }

    /// The moment `time` on the clock that the async runtime sleeps by.
    pub(crate) fn instant(self, time: Time) -> tokio::time::Instant {
        tokio::time::Instant::from_std(self.epoch + Duration::from_nanos(time.as_nanos()))
    }
}
