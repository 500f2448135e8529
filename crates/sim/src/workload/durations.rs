//! How long requests of a function run: a table of quantiles, drawn from by inversion, straight lines between them.
//!
//! The 2019 trace gives each function just such a table; the generator and scenarios make one. One draw costs one random
//! number and no transcendental function.

use crate::chance::Chance;
use crate::workload::LONGEST_RUN_NANOS;

/// The quantiles that the table has, those of the 2019 trace.
pub(crate) const QUANTILES: [f64; 7] = [0.0, 0.01, 0.25, 0.50, 0.75, 0.99, 1.0];
/// Those of the standard normal distribution, the ends cut at three sigma.
const NORMAL: [f64; 7] = [-3.0, -2.326_348, -0.674_490, 0.0, 0.674_490, 2.326_348, 3.0];

/// Durations by quantile, nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Durations([u64; 7]);

impl Durations {
    /// The given durations by quantile, put in order and cut to what a request may run.
    pub(crate) fn new(mut nanos: [u64; 7]) -> Self {
        nanos.sort_unstable();
        Self(nanos.map(|nanos| nanos.min(LONGEST_RUN_NANOS)))
    }

    /// Always the same.
    pub(crate) fn fixed(nanos: u64) -> Self {
        Self::new([nanos; 7])
    }

    /// Log-normal around `median` (nanoseconds), with `sigma` of the logarithm.
    pub(crate) fn log_normal(median: f64, sigma: f64) -> Self {
        Self::new(NORMAL.map(|z| crate::units::whole(median * libm::exp(sigma * z))))
    }

    /// Log-normal with this median and 99th percentile, nanoseconds.
    pub(crate) fn from_median_and_p99(median: u64, p99: u64) -> Self {
        let sigma = libm::log((p99 as f64 / median.max(1) as f64).max(1.0)) / NORMAL[5];
        Self::log_normal(median as f64, sigma)
    }

    /// One duration, nanoseconds.
    pub(crate) fn draw(&self, chance: &mut Chance) -> u64 {
        let at = chance.unit();
        let upper = QUANTILES[1..6].iter().take_while(|&&quantile| quantile <= at).count() + 1;
        let (low, high) = (self.0[upper - 1], self.0[upper]);
        let share = (at - QUANTILES[upper - 1]) / (QUANTILES[upper] - QUANTILES[upper - 1]);
        low + crate::units::whole(share * (high - low) as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chance::Stream;

    #[test]
    fn draws_follow_the_table() {
        let durations = Durations::new([70, 10, 20, 30, 40, 50, 60].map(|n: u64| n * 1_000));
        let mut chance = Chance::new(1, Stream::Generator);
        let mut drawn: Vec<_> = (0..10_000).map(|_| durations.draw(&mut chance)).collect();
        drawn.sort_unstable();
        assert!(drawn[0] >= 10_000 && drawn[9_999] <= 70_000);
        for (rank, wanted) in [(2_500_usize, 30_000_u64), (5_000, 40_000), (7_500, 50_000)] {
            assert!(drawn[rank].abs_diff(wanted) < 500, "{}", drawn[rank]);
        }
        assert_eq!(Durations::fixed(5).draw(&mut chance), 5);
        assert_eq!(Durations::fixed(u64::MAX).draw(&mut chance), LONGEST_RUN_NANOS);
    }
}
