//! Chance and hashing that depend on a seed alone, so that the same seed gives the same choices.

use std::collections::HashMap;
use std::hash::{BuildHasher, DefaultHasher, Hasher};

/// `SplitMix64` (Steele, Lea, Flood: "Fast Splittable Pseudorandom Number Generators", OOPSLA 2014): eight bytes of
/// state, and good enough to draw a few workers with.
#[derive(Debug)]
pub(crate) struct Random(u64);

impl Random {
    pub(crate) const fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) const fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// An index below `n`, or zero when there is none. Its bias is below `n` in 2^64.
    pub(crate) fn below(&mut self, n: usize) -> usize {
        let scaled = (u128::from(self.next()) * n as u128) >> 64;
        usize::try_from(scaled).unwrap_or(0)
    }
}

/// A keyed hash for what tenants name: who does not know the seed cannot make names that collide.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Seeded(u64);

impl Seeded {
    pub(crate) const fn new(seed: u64) -> Self {
        Self(seed)
    }
}

impl BuildHasher for Seeded {
    type Hasher = DefaultHasher;

    fn build_hasher(&self) -> DefaultHasher {
        let mut hasher = DefaultHasher::new();
        hasher.write_u64(self.0);
        hasher
    }
}

/// A quicker keyed hash, for numbers that no tenant chooses: ids of our own making and hashes by [`Seeded`]. Each is
/// multiplied into 128 bits, and the halves are folded, as in wyhash (Wang Yi, public domain).
#[derive(Clone, Copy, Debug)]
pub(crate) struct Mixed(u64);

impl Mixed {
    /// Odd, with as many ones as zeros, in no pattern.
    const FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;

    pub(crate) const fn new(seed: u64) -> Self {
        Self(seed)
    }
}

impl BuildHasher for Mixed {
    type Hasher = Self;

    fn build_hasher(&self) -> Self {
        *self
    }
}

impl Hasher for Mixed {
    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.write_u64(u64::from_le_bytes(word));
        }
    }

    fn write_u64(&mut self, word: u64) {
        let [low, high] = halves(u128::from(self.0 ^ word) * u128::from(Self::FACTOR));
        // The word itself goes in again, so that a product of zero does not swallow what comes after it.
        self.0 = (low ^ high).wrapping_add(word.rotate_left(32));
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

/// The low and the high half.
#[expect(clippy::cast_possible_truncation, reason = "halves are what is asked for")]
const fn halves(product: u128) -> [u64; 2] {
    [product as u64, (product >> 64) as u64]
}

/// A map by numbers that no tenant chooses, whose order nobody may look at.
pub(crate) type NumberMap<K, V> = HashMap<K, V, Mixed>;
