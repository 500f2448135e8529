//! Chance that repeats: numbered streams of one seed, and the distributions that workloads are made of.
//!
//! Every function has streams of its own, so what one function's requests look like does not depend on the others, nor
//! on the policy that is tried. The transcendental functions come from `libm`, which gives the same bits everywhere;
//! those of the platform do not.

use std::f64::consts::TAU;

use rand_pcg::Pcg64Mcg;
use rand_pcg::rand_core::{Rng as _, SeedableRng as _};

/// What a stream decides; streams of different kinds never meet.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Stream {
    /// What the generator's functions are.
    Generator,
    /// When requests of a function come and how long they run.
    Function(u32),
    /// How long starts take and whether they fail.
    Starts,
    /// Which workers fail.
    Failures,
}

/// A stream of chance.
#[derive(Clone, Debug)]
pub(crate) struct Chance(Pcg64Mcg);

/// `SplitMix64`'s finalizer (Steele, Lea, Flood: Fast Splittable Pseudorandom Number Generators, 2014): spreads numbers
/// that lie close to each other.
const fn spread(value: u64) -> u64 {
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

impl Chance {
    pub(crate) fn new(seed: u64, stream: Stream) -> Self {
        let number = match stream {
            Stream::Generator => 1,
            Stream::Starts => 2,
            Stream::Failures => 3,
            Stream::Function(index) => (1 << 32) | u64::from(index),
        };
        Self(Pcg64Mcg::seed_from_u64(spread(spread(seed).wrapping_add(number))))
    }

    /// Uniform, at least 0 and less than 1.
    pub(crate) fn unit(&mut self) -> f64 {
        // 53 bits: what a double's mantissa holds.
        (self.0.next_u64() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// Uniform, more than 0 and at most 1: for logarithms.
    fn unit_above_zero(&mut self) -> f64 {
        1.0 - self.unit()
    }

    /// Uniform below `bound`, which must not be zero; 0 if it is.
    pub(crate) fn below(&mut self, bound: u32) -> u32 {
        // Lemire's multiplication, without the rejection: the bias is under 2^-32 of a step.
        let product = u128::from(self.0.next_u64()) * u128::from(bound);
        u32::try_from(product >> 64).unwrap_or(0)
    }

    /// Uniform between the logarithms of two positive numbers.
    pub(crate) fn log_uniform(&mut self, low: f64, high: f64) -> f64 {
        low * libm::pow(high / low, self.unit())
    }

    /// Exponential with mean 1.
    pub(crate) fn exponential(&mut self) -> f64 {
        -libm::log(self.unit_above_zero())
    }

    /// Standard normal, by Box and Muller.
    pub(crate) fn normal(&mut self) -> f64 {
        libm::sqrt(2.0 * self.exponential()) * libm::cos(TAU * self.unit())
    }

    /// Log-normal: `mu` and `sigma` are those of the logarithm.
    pub(crate) fn log_normal(&mut self, mu: f64, sigma: f64) -> f64 {
        libm::exp(mu + sigma * self.normal())
    }

    /// Burr (type XII) with shapes `c`, `k` and scale `lambda`, by inversion.
    pub(crate) fn burr(&mut self, c: f64, k: f64, lambda: f64) -> f64 {
        let tail = self.unit_above_zero();
        lambda * libm::pow(libm::pow(tail, -1.0 / k) - 1.0, 1.0 / c)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mean(n: u32, mut draw: impl FnMut() -> f64) -> f64 {
        (0..n).map(|_| draw()).sum::<f64>() / f64::from(n)
    }

    #[test]
    fn streams_repeat_and_differ() {
        let draw = |seed, stream| Chance::new(seed, stream).0.next_u64();
        assert_eq!(draw(1, Stream::Function(0)), draw(1, Stream::Function(0)));
        let streams =
            [Stream::Generator, Stream::Starts, Stream::Failures, Stream::Function(0), Stream::Function(1)];
        let firsts: std::collections::BTreeSet<_> =
            (0..100).flat_map(|seed| streams.map(|stream| draw(seed, stream))).collect();
        assert_eq!(firsts.len(), 500);
    }

    #[test]
    fn distributions_have_the_moments_they_should() {
        let mut chance = Chance::new(1, Stream::Generator);
        assert!((mean(100_000, || chance.exponential()) - 1.0).abs() < 0.02);
        assert!(mean(100_000, || chance.normal()).abs() < 0.02);
        assert!((mean(100_000, || f64::from(chance.below(11))) - 5.0).abs() < 0.05);
        // Burr's median in closed form: lambda * (2^(1/k) - 1)^(1/c).
        let mut drawn: Vec<_> = (0..100_001).map(|_| chance.burr(11.652, 0.221, 107.083)).collect();
        drawn.sort_by(f64::total_cmp);
        let median = 107.083 * libm::pow(libm::pow(2.0, 1.0 / 0.221) - 1.0, 1.0 / 11.652);
        assert!((drawn[50_000] / median - 1.0).abs() < 0.02, "{} {median}", drawn[50_000]);
    }
}
