//! Watches how hard the machine is pressed for memory, and has manager and placement act on it.

use std::fs;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use hearth_placement::pressure::{PressureConfig, PressureGauge, PressureSample, Stall};
use hearth_sandbox::Driver;

use crate::role::ManagerShell;

/// Time between looks: often enough to be ahead of programs that take memory as fast as they can.
const INTERVAL: Duration = Duration::from_millis(250);

/// How long all must be calm before a level is left. Short, for requests wait meanwhile; the kernel's averages fall
/// slowly by themselves.
const DWELL: Duration = Duration::from_millis(250);

/// What the machine's memory is held against.
#[derive(Clone, Copy, Debug)]
pub(crate) enum MemoryLimit {
    /// All that the machine has.
    Machine,
    /// What the operator gave to instances, bytes.
    Instances(u64),
}

/// Looks at the machine for as long as the server lives.
pub(crate) async fn watch(shell: Arc<ManagerShell>, driver: Arc<dyn Driver>, limit: MemoryLimit) {
    let (mut gauge, mut swapped) =
        (PressureGauge::new(PressureConfig { dwell: DWELL, ..PressureConfig::default() }), None);
    let mut ticks = tokio::time::interval(INTERVAL);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let driver = Arc::clone(&driver);
        let Ok(seen) = tokio::task::spawn_blocking(move || look(&*driver, limit)).await else { continue };
        let before = swapped.replace(seen.swapped_in);
        let swap_ins = seen.swapped_in.saturating_sub(before.unwrap_or(seen.swapped_in));
        let level = gauge.sample(shell.now(), &PressureSample { swap_ins, ..seen.sample });
        shell.pressed(level);
    }
}

/// What was seen at one moment.
struct Seen {
    sample: PressureSample,
    /// Pages since the machine started.
    swapped_in: u64,
}

/// What cannot be read counts as no pressure: kernels without PSI have no `/proc/pressure`.
fn look(driver: &dyn Driver, limit: MemoryLimit) -> Seen {
    let stall = |of: &str| fs::read_to_string(format!("/proc/pressure/{of}")).map(|text| read_stall(&text));
    let (memory_used_bytes, memory_limit_bytes) = match limit {
        MemoryLimit::Machine => machine_memory().unwrap_or((0, 0)),
        MemoryLimit::Instances(limit) => (driver.memory_bytes(), limit),
    };
    let sample = PressureSample {
        memory: stall("memory").unwrap_or_default(),
        cpu: stall("cpu").unwrap_or_default(),
        io: stall("io").unwrap_or_default(),
        memory_used_bytes,
        memory_limit_bytes,
        ..PressureSample::default()
    };
    let vmstat = fs::read_to_string("/proc/vmstat").unwrap_or_default();
    Seen { sample, swapped_in: field(&vmstat, "pswpin ").unwrap_or(0) }
}

/// The ten-second averages of a file below `/proc/pressure` (kernel: accounting/psi).
fn read_stall(text: &str) -> Stall {
    let average = |kind: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(kind))?;
        let number = line.split_whitespace().find_map(|word| word.strip_prefix("avg10="))?;
        let (whole, hundredths) = number.split_once('.')?;
        let hundredths = hundredths.get(..2)?.parse::<u32>().ok()?;
        whole.parse::<u32>().ok()?.checked_mul(100)?.checked_add(hundredths)
    };
    Stall { some: average("some").unwrap_or(0), full: average("full").unwrap_or(0) }
}

/// Memory in use that cannot simply be dropped, and all there is, bytes.
fn machine_memory() -> io::Result<(u64, u64)> {
    let text = fs::read_to_string("/proc/meminfo")?;
    let bytes = |name: &str| field(&text, name).unwrap_or(0).saturating_mul(1024);
    let total = bytes("MemTotal:");
    Ok((total.saturating_sub(bytes("MemAvailable:")), total))
}

/// The number behind a name at the beginning of a line.
fn field(text: &str, name: &str) -> Option<u64> {
    let rest = text.lines().find_map(|line| line.strip_prefix(name))?;
    rest.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stalls_are_read_as_the_kernel_writes_them() {
        let text = "some avg10=1.38 avg60=0.57 avg300=0.91 total=2319501875\n\
                    full avg10=100.00 avg60=0.00 avg300=0.00 total=0\n";
        assert_eq!(read_stall(text), Stall { some: 138, full: 10_000 });
        for broken in
            ["", "some", "some avg10=", "some avg10=x.yy", "some avg10=9999999999.00", "full avg10=1.é"]
        {
            assert_eq!(read_stall(broken), Stall::default(), "{broken}");
        }
    }

    #[test]
    fn this_machines_memory_is_known() {
        let (used, total) = machine_memory().unwrap();
        assert!(0 < used && used < total);
    }
}
