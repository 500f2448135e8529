//! Log lines that a tenant can cause: one in a second for each place in the code, with the number left out.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::clock::epoch_ms;

/// How often one place in the code may log.
#[derive(Debug)]
pub(crate) struct Limiter {
    last_second: AtomicU64,
    left_out: AtomicU64,
}

// === impl Limiter ===

impl Limiter {
    pub(crate) const fn new() -> Self {
        Self { last_second: AtomicU64::new(0), left_out: AtomicU64::new(0) }
    }

    /// Whether the line may be written, and how many were left out before it.
    pub(crate) fn allow(&self) -> Option<u64> {
        let now = epoch_ms() / 1000;
        if self.last_second.swap(now, Ordering::Relaxed) == now {
            self.left_out.fetch_add(1, Ordering::Relaxed);
            return None;
        }
        Some(self.left_out.swap(0, Ordering::Relaxed))
    }
}

/// `tracing::warn!`, at most once a second for each place in the code.
macro_rules! warn_rarely {
    ($($fields:tt)*) => {{
        static LIMITER: crate::quiet::Limiter = crate::quiet::Limiter::new();
        if let Some(left_out) = LIMITER.allow() {
            tracing::warn!(left_out, $($fields)*);
        }
    }};
}

pub(crate) use warn_rarely;
