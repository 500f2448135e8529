//! Whether KVM on this machine really runs guests, found out by running one.
//!
//! Opening `/dev/kvm` proves nothing: some cloud machines offer a paravirtual KVM that makes virtual machines but emulates
//! the supervisor code of a stock kernel instruction by instruction, so that it never finishes booting. What tells the two apart
//! is speed: a guest in 64-bit supervisor mode counts in a loop; hardware does that at about one instruction a cycle, emulation
//! thousands of times slower.

mod sys;

use std::io;
use std::time::Duration;

/// Instructions that the probe's guest executes.
const GUEST_INSTRUCTIONS: u64 = 200_000;
/// Below this a kernel, which boots in some hundred million instructions, would not boot in the time a request waits.
const LEAST_PER_SECOND: u64 = 20_000_000;
/// The fastest of this many runs counts: a busy machine can only make a run slower.
const RUNS: usize = 3;

/// What running a guest showed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KvmProof {
    /// Guest supervisor code runs on the hardware.
    Runs {
        /// Instructions a second.
        per_second: u64,
    },
    /// Guest supervisor code runs, but emulated: a stock kernel would not boot in any useful time.
    Emulated {
        /// Instructions a second.
        per_second: u64,
    },
}

/// Why no guest could be run.
#[derive(Debug, thiserror::Error)]
pub enum KvmError {
    /// `/dev/kvm` cannot be opened.
    #[error("cannot open /dev/kvm")]
    Open(#[source] io::Error),
    /// A virtual machine cannot be made or started.
    #[error("cannot {step}")]
    Run {
        /// What was being done.
        step: &'static str,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// The guest stopped for another reason than its end.
    #[error("the guest stopped unexpectedly: {exit}")]
    Stopped {
        /// KVM's exit, as its crate names it.
        exit: String,
    },
}

/// Runs a small guest. Takes under a millisecond on hardware and up to about a second where it is emulated; a caller
/// that fears worse runs it in a process of its own with a deadline.
///
/// # Errors
/// When no guest can be run at all.
pub fn prove() -> Result<KvmProof, KvmError> {
    let mut best = Duration::MAX;
    for _ in 0..RUNS {
        best = best.min(sys::run_guest(GUEST_INSTRUCTIONS)?);
    }
    Ok(judge(best))
}

fn judge(time: Duration) -> KvmProof {
    let nanos = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX).max(1);
    let per_second = GUEST_INSTRUCTIONS.saturating_mul(1_000_000_000) / nanos;
    if per_second >= LEAST_PER_SECOND {
        KvmProof::Runs { per_second }
    } else {
        KvmProof::Emulated { per_second }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn speed_tells_hardware_from_emulation() {
        assert!(matches!(judge(Duration::from_micros(100)), KvmProof::Runs { per_second: 2_000_000_000 }));
        assert!(matches!(judge(Duration::from_millis(140)), KvmProof::Emulated { .. }));
        assert!(matches!(judge(Duration::ZERO), KvmProof::Runs { .. }));
    }

    #[test]
    fn this_machine_gives_a_verdict_or_says_why_not() {
        match prove() {
            Ok(proof) => println!("proof: {proof:?}"),
            Err(error) => println!("skipped: no guest can be run here: {error}"),
        }
    }
}
