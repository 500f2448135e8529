//! How often each value came, in buckets that grow with the value: percentiles within 1 % from 58 KB, whatever the
//! number of values. The bucket layout is that of `HdrHistogram` with 7 bits below the leading one.

/// Bits below the leading one that a bucket tells apart.
const BITS: u32 = 7;
const BUCKETS: usize = ((64 - BITS as usize) + 1) << BITS;

/// Counts of values.
#[derive(Clone, Debug)]
pub(crate) struct Histogram {
    counts: Box<[u64]>,
    total: u64,
    sum: u128,
    largest: u64,
}

impl Histogram {
    pub(crate) fn new() -> Self {
        Self { counts: vec![0; BUCKETS].into_boxed_slice(), total: 0, sum: 0, largest: 0 }
    }

    fn bucket(value: u64) -> usize {
        let shift = (u64::BITS - value.leading_zeros()).saturating_sub(BITS + 1);
        // At most 57 * 128 + 255: fits wherever this runs.
        ((shift as usize) << BITS) + usize::try_from(value >> shift).unwrap_or(0)
    }

    /// The largest value that falls into a bucket.
    fn upper(bucket: usize) -> u64 {
        let (row, low) = (bucket >> BITS, (bucket & ((1 << BITS) - 1)) as u64);
        if row == 0 {
            return low;
        }
        let (shift, leading) = (row - 1, 1_u64 << BITS);
        let next = u128::from(leading + low + 1) << shift;
        u64::try_from(next - 1).unwrap_or(u64::MAX)
    }

    pub(crate) fn record(&mut self, value: u64) {
        self.counts[Self::bucket(value)] += 1;
        self.total += 1;
        self.sum += u128::from(value);
        self.largest = self.largest.max(value);
    }

    pub(crate) const fn total(&self) -> u64 {
        self.total
    }

    pub(crate) const fn largest(&self) -> u64 {
        self.largest
    }

    pub(crate) fn mean(&self) -> f64 {
        if self.total == 0 { 0.0 } else { self.sum as f64 / self.total as f64 }
    }

    /// The value that `per_mille` thousandths of all values do not exceed; 0 when there are none.
    pub(crate) fn per_mille(&self, per_mille: u64) -> u64 {
        let wanted = (u128::from(self.total) * u128::from(per_mille)).div_ceil(1_000).max(1);
        let mut seen = 0_u128;
        for (bucket, &count) in self.counts.iter().enumerate() {
            seen += u128::from(count);
            if seen >= wanted {
                return Self::upper(bucket).min(self.largest);
            }
        }
        self.largest
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn percentiles_of_known_values() {
        let mut histogram = Histogram::new();
        assert_eq!((histogram.per_mille(500), histogram.mean()), (0, 0.0));
        (1..=100).for_each(|value| histogram.record(value));
        assert_eq!(histogram.per_mille(500), 50);
        assert_eq!(histogram.per_mille(999), 100);
        assert!((histogram.mean() - 50.5).abs() < 1e-9);
    }

    proptest! {
        #[test]
        fn every_value_lies_in_a_bucket_less_than_one_percent_wide(value in any::<u64>(), shift in 0_u32..64) {
            let value = value >> shift;
            let upper = Histogram::upper(Histogram::bucket(value));
            prop_assert!(upper >= value);
            prop_assert!(upper - value <= value / 127);
            let mut histogram = Histogram::new();
            histogram.record(value);
            prop_assert_eq!(histogram.per_mille(500), value);
        }
    }
}
