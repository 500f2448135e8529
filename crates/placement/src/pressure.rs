//! How hard a machine is pressed, from what its kernel says: the judge that keeps oversubscription honest.
//!
//! [`PressureGauge`] turns samples into a [`PressureLevel`]. It goes up at once, to whatever level any one signal asks
//! for. It goes down one level at a time, each after all signals were below that level's leave threshold for a while.
//! The leave thresholds lie under the enter thresholds, so a steady signal cannot make it swing.
//!
//! What the signals mean is in the kernel's `Documentation/accounting/psi.rst` and `admin-guide/cgroup-v2.rst`
//! (`memory.events`, `memory.stat`).

#[cfg(test)]
mod tests;

use std::fmt;
use std::time::Duration;

use hearth_types::Time;

/// What a worker does about its load. Each level includes what those below it do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PressureLevel {
    /// Nothing.
    #[default]
    None,
    /// It takes no new instances.
    StopPlacing,
    /// It hibernates idle instances: their memory goes, they stay.
    Hibernate,
    /// It ends idle instances, before the kernel's OOM killer ends any.
    Evict,
}

impl PressureLevel {
    const RISING: [Self; 3] = [Self::StopPlacing, Self::Hibernate, Self::Evict];

    const fn below(self) -> Self {
        match self {
            Self::None | Self::StopPlacing => Self::None,
            Self::Hibernate => Self::StopPlacing,
            Self::Evict => Self::Hibernate,
        }
    }
}

impl fmt::Display for PressureLevel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "none",
            Self::StopPlacing => "stop placing",
            Self::Hibernate => "hibernate",
            Self::Evict => "evict",
        })
    }
}

/// The share of the last ten seconds that tasks were stalled (`avg10`), in hundredths of a percent: 10,000 is always.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stall {
    /// At least one task.
    pub some: u32,
    /// All tasks that were not idle.
    pub full: u32,
}

/// What a machine, or the cgroup of all its instances, says at one moment. Garbage is cut to what can be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PressureSample {
    /// Stalls for memory.
    pub memory: Stall,
    /// Stalls for CPU.
    pub cpu: Stall,
    /// Stalls for block devices.
    pub io: Stall,
    /// Memory in use that the kernel cannot simply drop: `memory.current` without inactive file pages.
    pub memory_used_bytes: u64,
    /// The most it may be; zero when there is no limit, and nothing is made of the use then.
    pub memory_limit_bytes: u64,
    /// Pages swapped in since the sample before (`pswpin`).
    pub swap_ins: u64,
    /// Processes that the OOM killer ended since the sample before (`oom_kill`).
    pub oom_kills: u64,
}

/// Where a level begins and where it is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Threshold {
    /// From here on the level is entered.
    pub enter: u32,
    /// Below this it may be left; above [`Threshold::enter`] it means that.
    pub leave: u32,
}

impl Threshold {
    /// A level that the signal never asks for.
    pub const NEVER: Self = Self::new(u32::MAX, u32::MAX);

    /// A level from `enter` on, over below `leave`.
    #[must_use]
    pub const fn new(enter: u32, leave: u32) -> Self {
        Self { enter, leave }
    }
}

/// The thresholds of one signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Thresholds {
    /// Of [`PressureLevel::StopPlacing`].
    pub stop_placing: Threshold,
    /// Of [`PressureLevel::Hibernate`].
    pub hibernate: Threshold,
    /// Of [`PressureLevel::Evict`].
    pub evict: Threshold,
}

/// When a machine is pressed. The defaults are set to act long before others would kill: systemd-oomd ends a cgroup
/// that stalls for 60 % of 30 s (`DefaultMemoryPressureLimit`, oomd.conf(5)) or when 90 % of swap is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PressureConfig {
    /// Of some task stalled for memory, hundredths of a percent. A healthy machine is held near 0.1 % ("TMO: Transparent
    /// Memory Offloading in Datacenters", ASPLOS 2022); a hundred times that is felt.
    pub memory_some: Thresholds,
    /// Of all tasks stalled for memory, hundredths of a percent: time in which nothing was done at all.
    pub memory_full: Thresholds,
    /// Of some task stalled for CPU, hundredths of a percent. By default it asks for nothing: a machine that lacks CPU is
    /// slow and nothing worse, the scheduler shares it by what was promised, and idle instances take none. Where other
    /// workers have CPU to spare, stopping to place is worth it.
    pub cpu_some: Thresholds,
    /// Of all tasks stalled for block devices, hundredths of a percent. By default it asks for nothing, as for CPU.
    pub io_full: Thresholds,
    /// Of memory in use, hundredths of a percent of the limit.
    pub memory_used: Thresholds,
    /// Of pages swapped in a second. Swapping out is what hibernation does; swapping in is what requests wait for. At
    /// 4 KiB a page, the defaults are 8 MiB/s and 80 MiB/s.
    pub swap_in: Thresholds,
    /// Memory in use, in hundredths of a percent of the limit, below which stalls for memory and swapping ask for nothing.
    /// The kernel counts them for the whole machine also when a group stalls at a limit of its own, and no tenant may
    /// keep others out by running into its limit.
    pub stalls_from: u32,
    /// How long all must be calm before a level is left. Above the ten seconds that the kernel averages over, so that a
    /// level is judged by what came after it was entered.
    pub dwell: Duration,
}

impl Default for PressureConfig {
    fn default() -> Self {
        let at = |stop_placing, hibernate, evict| Thresholds { stop_placing, hibernate, evict };
        let (new, never) = (Threshold::new, Threshold::NEVER);
        Self {
            memory_some: at(new(1_000, 500), new(2_500, 1_200), new(4_000, 2_000)),
            memory_full: at(new(500, 200), new(1_500, 700), new(3_000, 1_500)),
            cpu_some: at(never, never, never),
            io_full: at(never, never, never),
            memory_used: at(new(8_500, 8_000), new(9_000, 8_500), new(9_500, 9_000)),
            swap_in: at(new(2_000, 1_000), new(20_000, 10_000), never),
            stalls_from: 7_000,
            dwell: Duration::from_secs(15),
        }
    }
}

/// The judge of one machine.
#[derive(Clone, Debug)]
pub struct PressureGauge {
    config: PressureConfig,
    level: PressureLevel,
    last: Option<Time>,
    /// How long all signals have asked for less than the level, if they do.
    calm: Option<Duration>,
    /// Pages swapped in since time last moved.
    swap_ins: u64,
    swap_in_rate: u32,
}

impl PressureGauge {
    /// The judge of a machine that nothing is known of yet.
    #[must_use]
    pub const fn new(config: PressureConfig) -> Self {
        Self { config, level: PressureLevel::None, last: None, calm: None, swap_ins: 0, swap_in_rate: 0 }
    }

    /// The level after the last sample.
    #[must_use]
    pub const fn level(&self) -> PressureLevel {
        self.level
    }

    /// Takes a sample and gives the level after it. Time that goes backwards counts as none.
    pub fn sample(&mut self, now: Time, sample: &PressureSample) -> PressureLevel {
        let passed = now.since(self.last.unwrap_or(now));
        self.last = Some(now);
        self.count_swap(passed, sample.swap_ins);
        let (entered, held) = self.judge(sample);
        if entered > self.level {
            self.level = entered;
            self.calm = None;
        } else if held >= self.level {
            self.calm = None;
        } else {
            // The time before the first calm sample may not have been calm.
            let calm = self.calm.map_or(Duration::ZERO, |calm| calm.saturating_add(passed));
            self.calm = Some(calm);
            if calm >= self.config.dwell {
                self.level = self.level.below();
                self.calm = (held < self.level).then_some(Duration::ZERO);
            }
        }
        self.level
    }

    /// Turns counts into a rate; those of samples between which no time passed are counted with the next.
    fn count_swap(&mut self, passed: Duration, swap_ins: u64) {
        self.swap_ins = self.swap_ins.saturating_add(swap_ins);
        if passed > Duration::ZERO {
            let rate = u128::from(self.swap_ins) * 1_000_000_000 / passed.as_nanos();
            self.swap_in_rate = u32::try_from(rate).unwrap_or(u32::MAX - 1);
            self.swap_ins = 0;
        }
    }

    /// The highest level that a signal is high enough to enter, and the highest that one is too high to leave.
    fn judge(&self, sample: &PressureSample) -> (PressureLevel, PressureLevel) {
        let PressureConfig { memory_some, memory_full, cpu_some, io_full, memory_used, swap_in, .. } =
            self.config;
        let roomy = sample.memory_limit_bytes > 0 && used(sample) < self.config.stalls_from;
        let short = |value: u32| if roomy { 0 } else { value };
        let signals = [
            (memory_some, short(sample.memory.some.min(10_000))),
            (memory_full, short(sample.memory.full.min(10_000))),
            (cpu_some, sample.cpu.some.min(10_000)),
            (io_full, sample.io.full.min(10_000)),
            (memory_used, used(sample)),
            (swap_in, short(self.swap_in_rate)),
        ];
        let killed = if sample.oom_kills > 0 { PressureLevel::Evict } else { PressureLevel::None };
        let (mut entered, mut held) = (killed, killed);
        for (Thresholds { stop_placing, hibernate, evict }, value) in signals {
            for (level, threshold) in PressureLevel::RISING.into_iter().zip([stop_placing, hibernate, evict])
            {
                if value >= threshold.enter {
                    entered = entered.max(level);
                }
                if value >= threshold.leave.min(threshold.enter) {
                    held = held.max(level);
                }
            }
        }
        (entered, held)
    }
}

impl Default for PressureGauge {
    fn default() -> Self {
        Self::new(PressureConfig::default())
    }
}

/// Memory in use, in hundredths of a percent of the limit.
fn used(sample: &PressureSample) -> u32 {
    let share = u128::from(sample.memory_used_bytes) * 10_000 / u128::from(sample.memory_limit_bytes.max(1));
    if sample.memory_limit_bytes == 0 { 0 } else { u32::try_from(share.min(10_000)).unwrap_or(10_000) }
}
