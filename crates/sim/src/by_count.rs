//! Maps by numbers that somebody counts up: ids of instances, leases and waits, which no enemy chooses.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

/// Hashes numbers that the manager counts up: one multiplication (Knuth's, by the golden ratio) spreads them.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct CountHasher(u64);

impl Hasher for CountHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.write_u64(u64::from(byte));
        }
    }

    fn write_u64(&mut self, number: u64) {
        let mixed = (self.0 ^ number).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        self.0 = mixed ^ (mixed >> 32);
    }

    fn write_u128(&mut self, number: u128) {
        let [low, high] = [number, number >> 64].map(|half| u64::try_from(half & u128::from(u64::MAX)));
        self.write_u64(low.unwrap_or(0) ^ high.unwrap_or(0).rotate_left(32));
    }
}

/// A map by such numbers. It is never walked, so its order decides nothing.
pub(crate) type ByCount<K, V> = HashMap<K, V, BuildHasherDefault<CountHasher>>;
