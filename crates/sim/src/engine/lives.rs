//! What becomes of instances and workers: started, ready, ended, gone, lost.

use hearth_types::{InstanceId, Time};

use super::Engine;
use super::agenda::What;
use super::instances::Phase;
use crate::cluster::Failure;
use crate::control::{Report, Wanted};

impl Engine<'_> {
    pub(super) fn carry_out(&mut self, wanted: Wanted) -> Result<(), String> {
        let now = self.agenda.now();
        match wanted {
            Wanted::Start { worker: None, .. } => self.books.not_placed += 1,
            Wanted::Start { instance, function, worker: Some(worker), reason, of_blank } => {
                self.books.start(reason);
                if let Some(blank) = of_blank {
                    self.take_blank(blank, worker)?;
                }
                self.start(now, instance, function, worker, of_blank.is_some());
            }
            Wanted::MakeBlank { worker: None, .. } => {}
            Wanted::MakeBlank { blank, worker: Some(worker) } => self.make_blank(now, blank, worker),
            Wanted::EndBlank { blank } => self.end_blank(now, blank),
            Wanted::Hibernate { instance } => self.hibernate(instance)?,
            Wanted::End { instance, reason } => {
                // One that went with its worker is over already.
                let Some(key) = self.instances.find(instance) else { return Ok(()) };
                let entry = self.instances.entry(key);
                if entry.load > 0 {
                    return Err(format!("{entry:?} was to be ended with requests in it"));
                }
                let held = entry.held();
                entry.phase = Phase::Ending;
                let (memory, after, generation) = (entry.memory_mb, entry.held(), entry.generation);
                self.books.moved(memory, held, after);
                self.books.ended(reason);
                let report = What::Report { instance: key, generation, report: Report::Gone };
                self.agenda.add(now + self.setup.starts.end, report);
            }
            Wanted::Grant { wait, lease, instance, cold } => {
                let Some(request) = self.waiting.remove(&wait) else {
                    return Err(format!("wait {wait} was granted, which nobody waits for"));
                };
                self.give(request, lease, instance, cold)?;
            }
            Wanted::Refuse { wait, reason } => {
                let Some(request) = self.waiting.remove(&wait) else {
                    return Err(format!("wait {wait} was refused, which nobody waits for"));
                };
                self.books.refuse(reason);
                self.checks.end(request.function)?;
            }
        }
        Ok(())
    }

    fn start(&mut self, now: u64, instance: InstanceId, function: u32, worker: u32, of_blank: bool) {
        let memory_mb = self.setup.workload.functions[function as usize].memory_mb;
        let (key, generation) = self.instances.add(instance, function, worker, memory_mb);
        self.books.started(memory_mb);
        let mut takes = self.setup.starts.draw(&mut self.starts) as f64;
        if of_blank {
            takes *= self.setup.starts.of_blank;
        }
        for failure in &self.setup.failures {
            if let Failure::SlowStarts { from, until, times } = failure
                && (*from..*until).contains(&now)
            {
                takes *= times;
            }
        }
        let fails = self.starts.unit() < self.setup.starts.failing;
        let init_failing = self.setup.starts.init_failing;
        let report = if fails {
            Report::StartFailed
        } else if init_failing > 0.0 && self.starts.unit() < init_failing {
            Report::ReadyWithoutInit
        } else {
            Report::Ready
        };
        let at = now.saturating_add(crate::units::whole(takes));
        self.agenda.add(at, What::Report { instance: key, generation, report });
    }

    pub(super) fn report(&mut self, time: Time, key: u32, generation: u32, report: Report) {
        let Some(entry) = self.instances.of_generation(key, generation) else { return };
        let (id, worker, memory, held) = (entry.id, entry.worker, entry.memory_mb, entry.held());
        match (report, entry.phase) {
            (Report::Ready | Report::ReadyWithoutInit, Phase::Starting) => {
                entry.phase = Phase::Ready;
                entry.init_failed = matches!(report, Report::ReadyWithoutInit);
                let after = entry.held();
                self.books.moved(memory, held, after);
            }
            // It was told to end while it started; its end is on the way.
            (Report::Ready | Report::ReadyWithoutInit | Report::StartFailed, _)
                if entry.phase != Phase::Starting =>
            {
                return;
            }
            _ => {
                self.books.gone(memory, held, matches!(report, Report::StartFailed));
                self.instances.remove(key);
            }
        }
        self.control.report(time, worker, id, report);
        if self.setup.starts.repeated > 0.0 && self.failures.unit() < self.setup.starts.repeated {
            self.control.report(time, worker, id, report);
        }
    }

    pub(super) fn workers_die(&mut self, now: u64, index: u32) -> Result<(), String> {
        let Some(Failure::WorkersDie { workers, back_after, .. }) = self.setup.failures.get(index as usize)
        else {
            return Ok(());
        };
        for _ in 0..*workers {
            let there = u32::try_from(self.up.iter().filter(|&&up| up).count()).unwrap_or(u32::MAX);
            if there == 0 {
                break;
            }
            let chosen = self.failures.below(there) as usize;
            let Some((worker, _)) = (0..).zip(&self.up).filter(|(_, up)| **up).nth(chosen) else { break };
            self.worker_dies(now, worker)?;
            if let Some(after) = back_after {
                self.agenda.add(now.saturating_add(*after), What::WorkerBack(worker));
            }
        }
        Ok(())
    }

    fn worker_dies(&mut self, now: u64, worker: u32) -> Result<(), String> {
        let time = Time::from_nanos(now);
        self.up[worker as usize] = false;
        self.books.workers_lost += 1;
        // Those who wait for answers hear of it when the manager does: their connections broke.
        let instances = &self.instances;
        let lost = self.agenda.remove_leases(|key| instances.worker(key) == Some(worker));
        for (lease, key) in lost {
            self.let_go(key)?;
            self.books.lost += 1;
            self.control.release(time, lease, true);
        }
        for key in self.instances.of_worker(worker) {
            let entry = self.instances.entry(key);
            let (memory, held) = (entry.memory_mb, entry.held());
            self.books.gone(memory, held, false);
            self.instances.remove(key);
        }
        self.blanks.lose(worker);
        self.control.worker_lost(time, worker);
        self.settle()
    }
}
