//! How much memory instances really use, and what pressed workers do: as the shell does it on a machine, with the same gauge.

use std::time::Duration;

use hearth_manager::Relief;
use hearth_placement::pressure::{PressureConfig, PressureGauge, PressureLevel, PressureSample};
use hearth_types::{InstanceId, Time};

use super::Engine;
use super::agenda::What;
use super::instances::{Instance, Phase};
use crate::cluster::MemoryUse;
use crate::units::SECOND;

/// Time between two looks.
pub(super) const BETWEEN_LOOKS: u64 = SECOND;

/// A level is left when it is no longer reached for this time: the next look but one.
const DWELL: Duration = Duration::from_secs(1);

/// The workers' gauges.
#[derive(Debug)]
pub(super) struct Pressure {
    gauges: Vec<(PressureGauge, PressureLevel)>,
}

impl Pressure {
    pub(super) fn new(workers: u32) -> Self {
        Self { gauges: (0..workers).map(|_| calm()).collect() }
    }

    /// A worker is there again, with nothing on it.
    pub(super) fn reset(&mut self, worker: u32) {
        if let Some(gauge) = self.gauges.get_mut(worker as usize) {
            *gauge = calm();
        }
    }
}

fn calm() -> (PressureGauge, PressureLevel) {
    let config = PressureConfig { dwell: DWELL, ..PressureConfig::default() };
    (PressureGauge::new(config), PressureLevel::None)
}

/// Memory that an instance really uses, hundredths of a MiB.
fn used(instance: &Instance, used: MemoryUse) -> u64 {
    let percent = match instance.phase {
        Phase::Ready | Phase::Ending if instance.asleep => used.asleep,
        Phase::Ready | Phase::Ending if instance.load == 0 => used.idle,
        Phase::Starting | Phase::Ready | Phase::Ending => used.busy,
    };
    u64::from(instance.memory_mb) * u64::from(percent)
}

impl Engine<'_> {
    /// Has every worker say how hard it is pressed.
    pub(super) fn look_at_memory(&mut self, time: Time) -> Result<(), String> {
        let Some(memory_use) = self.setup.cluster.memory_use else { return Ok(()) };
        let mut sums = vec![0_u64; self.pressure.gauges.len()];
        for instance in self.instances.all() {
            sums[instance.worker as usize] += used(instance, memory_use);
        }
        let memory_limit_bytes = self.setup.cluster.memory_mb << 20;
        for (worker, sum) in (0..).zip(sums) {
            let (gauge, before) = &mut self.pressure.gauges[worker as usize];
            let memory_used_bytes = (sum << 20) / 100;
            let sample =
                PressureSample { memory_used_bytes, memory_limit_bytes, ..PressureSample::default() };
            let level = gauge.sample(time, &sample);
            let before = std::mem::replace(before, level);
            if !self.up[worker as usize] {
                continue;
            }
            if level != before {
                self.books.pressed += u64::from(before == PressureLevel::None);
                self.control.pressed(time, worker, level, level < before);
            }
            match level {
                PressureLevel::None | PressureLevel::StopPlacing => {}
                PressureLevel::Hibernate => self.control.memory_short(time, worker, Relief::Hibernate),
                PressureLevel::Evict => self.control.memory_short(time, worker, Relief::Evict),
            }
            self.settle()?;
        }
        if !self.stopping {
            self.agenda.add(time.as_nanos() + BETWEEN_LOOKS, What::Look);
        }
        Ok(())
    }

    pub(super) fn hibernate(&mut self, instance: InstanceId) -> Result<(), String> {
        // One that went with its worker is over already.
        let Some(key) = self.instances.find(instance) else { return Ok(()) };
        let entry = self.instances.entry(key);
        if entry.load > 0 || entry.phase != Phase::Ready || entry.asleep {
            return Err(format!("{entry:?} was to hibernate"));
        }
        entry.asleep = true;
        self.books.hibernated += 1;
        Ok(())
    }
}
