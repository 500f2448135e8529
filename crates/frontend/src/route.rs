//! Where a qualified invocation goes: to one version, or by the weights of an alias to one of two.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use hearth_store::State;
use hearth_types::FunctionSpec;

/// 2^64 divided by the golden ratio: its multiples fall into every part of the numbers in proportion to its size, and
/// sooner than chance would have them.
const STEP: u64 = 0x9E37_79B9_7F4A_7C15;

/// One version that an invocation can go to.
#[derive(Clone, Debug)]
pub(crate) struct Branch {
    /// Whether it can be invoked.
    pub(crate) state: State,
    /// What runs it.
    pub(crate) spec: Option<Arc<FunctionSpec>>,
}

/// What a qualifier leads to.
#[derive(Debug)]
pub(crate) struct Route {
    main: Branch,
    /// Another branch, and how much of `u64`'s range is its.
    additional: Option<(Branch, u64)>,
    position: AtomicU64,
}

impl Route {
    /// A route to `main`, or with a weight from 0 to 1 to another. Routes with other seeds begin elsewhere.
    pub(crate) fn new(main: Branch, additional: Option<(Branch, f64)>, seed: u64) -> Self {
        let additional = additional.map(|(branch, weight)| (branch, part(weight)));
        Self { main, additional, position: AtomicU64::new(seed) }
    }

    /// The branch for the next invocation.
    pub(crate) fn pick(&self) -> &Branch {
        match &self.additional {
            Some((branch, part)) if self.position.fetch_add(STEP, Ordering::Relaxed) < *part => branch,
            _ => &self.main,
        }
    }
}

/// A part, from 0 to 1, of all there are of `u64`.
#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "the nearest number will do, and the cast saturates"
)]
fn part(weight: f64) -> u64 {
    (weight * u64::MAX as f64) as u64
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const FIRST: Branch = Branch { state: State::Active, spec: None };
    const SECOND: Branch = Branch { state: State::Pending, spec: None };

    proptest! {
        #[test]
        fn of_ten_thousand_invocations_each_version_gets_its_part(weight in 0.0..=1.0_f64, seed: u64) {
            let route = Route::new(FIRST, Some((SECOND, weight)), seed);
            let second = (0..10_000).filter(|_| route.pick().state == State::Pending).count();
            let off = (f64::from(u32::try_from(second).unwrap()) / 10_000.0 - weight).abs();
            prop_assert!(off < 0.002, "{second} of 10000 for {weight}");
        }
    }

    #[test]
    fn no_weight_is_never_and_one_version_is_always() {
        let never = Route::new(FIRST, Some((SECOND, 0.0)), 0);
        let alone = Route::new(FIRST, None, 7);
        for _ in 0..1_000 {
            assert_eq!(never.pick().state, State::Active);
            assert_eq!(alone.pick().state, State::Active);
        }
    }
}
