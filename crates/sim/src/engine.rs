//! The run itself: takes what comes next in virtual time, tells the state machines, does what they ask for.
//!
//! What comes next is the earliest of three: the next request of some function, something that a worker does, a deadline
//! of the manager. Between two requests of a function nothing of it is kept but the moment of the next one, so memory
//! grows with functions, instances and requests in flight, not with requests.

mod agenda;
mod blanks;
mod books;
mod checks;
mod instances;
mod lives;
mod pressure;
#[cfg(test)]
mod tests;

use hearth_manager::WaitId;
use hearth_types::{InstanceId, Time};

use crate::by_count::ByCount;
use crate::chance::{Chance, Stream};
use crate::cluster::{Cluster, Failure, Starts};
use crate::control::{Asked, Control, LeaseNumber, Wanted};
use crate::outcome::Outcome;
use crate::policy::Policy;
use crate::workload::Workload;
use crate::workload::arrivals::Source;

use agenda::{Agenda, Next, What};
use books::Books;
use instances::{Instances, Phase};

/// All that a run depends on, but for the policy.
#[derive(Clone, Debug)]
pub struct Setup {
    /// What is asked.
    pub workload: Workload,
    /// What serves it.
    pub cluster: Cluster,
    /// How instances start.
    pub starts: Starts,
    /// What goes wrong.
    pub failures: Vec<Failure>,
    /// The seed: the same gives the same outcome, byte by byte.
    pub seed: u64,
}

/// The state machines broke one of their promises: a fault in Hearth, not in the input.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a fault in Hearth: {what}, {} ms into the run of policy {policy} with seed {seed}", at / 1_000_000)]
pub struct Broken {
    what: String,
    at: u64,
    policy: Policy,
    seed: u64,
}

/// How far a run is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Of all samples, so many are taken.
    pub done: u32,
    /// How many samples there will be.
    pub of: u32,
    /// Requests so far.
    pub requests: u64,
}

/// A request that waits for a slot.
#[derive(Clone, Copy, Debug)]
struct Waiting {
    function: u32,
    since: u64,
    runs: u64,
}

#[derive(Debug)]
struct Engine<'a> {
    setup: &'a Setup,
    control: Control,
    agenda: Agenda,
    sources: Vec<Source>,
    instances: Instances,
    blanks: blanks::Blanks,
    pressure: pressure::Pressure,
    waiting: ByCount<WaitId, Waiting>,
    books: Books,
    checks: checks::Checks,
    starts: Chance,
    failures: Chance,
    /// Whether each worker is there.
    up: Vec<bool>,
    /// Whether the time is over in which requests come; the server is stopped when the last one is answered.
    over: bool,
    stopping: bool,
    /// Empty but while they are carried out.
    wanted: Vec<Wanted>,
}

/// Simulates the setup under a policy.
///
/// # Errors
/// When the state machines break a promise.
pub fn run(setup: &Setup, policy: Policy, progress: &mut dyn FnMut(Progress)) -> Result<Outcome, Broken> {
    let mut engine = Engine::new(setup, policy);
    engine.run(progress).map_err(|what| Broken {
        what,
        at: engine.agenda.now(),
        policy,
        seed: setup.seed,
    })?;
    let savings = engine.control.savings();
    Ok(engine.books.outcome(policy, savings))
}

// === setting up and going on ===

impl<'a> Engine<'a> {
    fn new(setup: &'a Setup, policy: Policy) -> Self {
        let Setup { workload, cluster, seed, .. } = setup;
        let functions = u32::try_from(workload.functions.len()).unwrap_or(u32::MAX);
        let mut engine = Self {
            setup,
            control: Control::new(workload, cluster, policy, *seed),
            agenda: Agenda::new(),
            sources: (0..functions).map(|index| Source::new(*seed, index)).collect(),
            instances: Instances::default(),
            blanks: blanks::Blanks::default(),
            pressure: pressure::Pressure::new(cluster.workers),
            waiting: ByCount::default(),
            books: Books::new(workload),
            checks: checks::Checks::new(workload, cluster),
            starts: Chance::new(*seed, Stream::Starts),
            failures: Chance::new(*seed, Stream::Failures),
            up: vec![true; cluster.workers as usize],
            over: false,
            stopping: false,
            wanted: Vec::new(),
        };
        for worker in 0..cluster.workers {
            engine.control.worker_joined(Time::ZERO, worker);
        }
        for function in 0..functions {
            if let Some(arrival) =
                engine.sources[function as usize].next(&workload.functions[function as usize], workload.end)
            {
                engine.agenda.add_function(function, arrival);
            }
        }
        for (index, function) in (0..).zip(&workload.functions) {
            if function.provisioned > 0 {
                engine.control.provision(Time::ZERO, index, function.provisioned);
            }
        }
        engine.agenda.add(workload.end, What::Over);
        if cluster.memory_use.is_some() {
            engine.agenda.add(pressure::BETWEEN_LOOKS, What::Look);
        }
        for (index, failure) in (0..).zip(&setup.failures) {
            if let Failure::WorkersDie { at, .. } = failure {
                engine.agenda.add(*at, What::WorkersDie(index));
            }
        }
        engine
    }

    fn run(&mut self, progress: &mut dyn FnMut(Progress)) -> Result<(), String> {
        self.settle()?;
        loop {
            if self.over && !self.stopping && self.checks.nothing_in_flight() {
                self.stopping = true;
                self.control.stop(Time::from_nanos(self.agenda.now()));
                self.settle()?;
            }
            let Some(next) = self.agenda.next(self.control.next_deadline().map(Time::as_nanos)) else {
                break;
            };
            let now = self.agenda.now();
            if self.books.advance(now) {
                let there = (self.instances.len(), self.blanks.len());
                self.checks.compare(&self.control, there, self.waiting.len())?;
                progress(self.books.progress());
            }
            let time = Time::from_nanos(now);
            match next {
                Next::Request { function, runs } => self.request(now, function, runs)?,
                Next::Deadline => self.control.time_passed(time),
                Next::What(What::Done { lease, instance }) => self.done(time, lease, instance)?,
                Next::What(What::Report { instance, generation, report }) => {
                    self.report(time, instance, generation, report);
                }
                Next::What(What::WorkersDie(index)) => self.workers_die(now, index)?,
                Next::What(What::Over) => self.over = true,
                Next::What(What::Blank { blank, gone }) => self.blank_reports(time, blank, gone),
                Next::What(What::Look) => self.look_at_memory(time)?,
                Next::What(What::WorkerBack(worker)) => {
                    self.up[worker as usize] = true;
                    self.pressure.reset(worker);
                    self.control.worker_joined(time, worker);
                }
            }
            self.settle()?;
            if self.stopping && self.agenda.is_empty() && self.control.is_empty() {
                break;
            }
        }
        self.books.finish();
        progress(self.books.progress());
        self.checks.at_the_end(&self.control, &self.instances, self.waiting.len(), &self.books)
    }

    /// Does what the manager asks for until it asks for nothing.
    fn settle(&mut self) -> Result<(), String> {
        while self.control.asks() {
            let mut wanted = std::mem::take(&mut self.wanted);
            self.control.carry_out(Time::from_nanos(self.agenda.now()), &mut wanted);
            let done = wanted.drain(..).try_for_each(|wanted| self.carry_out(wanted));
            self.wanted = wanted;
            done?;
        }
        Ok(())
    }
}

// === requests ===

impl Engine<'_> {
    fn request(&mut self, now: u64, function: u32, runs: u64) -> Result<(), String> {
        let index = function as usize;
        let workload = &self.setup.workload;
        self.agenda.replace_request(self.sources[index].next(&workload.functions[index], workload.end));
        self.books.request(function);
        match self.control.acquire(Time::from_nanos(now), function) {
            Asked::Leased { lease, instance, cold } => {
                self.checks.begin(function)?;
                self.give(Waiting { function, since: now, runs }, lease, instance, cold)
            }
            Asked::Waits(wait) => {
                self.checks.begin(function)?;
                match self.waiting.insert(wait, Waiting { function, since: now, runs }) {
                    None => Ok(()),
                    Some(_) => Err(format!("wait {wait} was given twice")),
                }
            }
            Asked::Refused(reason) => {
                self.books.refuse(reason);
                Ok(())
            }
        }
    }

    /// A request has its slot and runs.
    fn give(
        &mut self,
        request: Waiting,
        lease: LeaseNumber,
        instance: InstanceId,
        cold: bool,
    ) -> Result<(), String> {
        let now = self.agenda.now();
        let Some(key) = self.instances.find(instance) else {
            return Err(format!("a slot of instance {instance} was given, which does not exist"));
        };
        let hard = self.setup.workload.functions[request.function as usize].concurrency.hard.max(1);
        let entry = self.instances.entry(key);
        if entry.phase != Phase::Ready || entry.function != request.function || entry.load >= hard {
            return Err(format!("a slot of {entry:?} was given to a request of {}", request.function));
        }
        let held = entry.held();
        entry.load += 1;
        let woken = std::mem::take(&mut entry.asleep);
        let (memory, after) = (entry.memory_mb, entry.held());
        self.books.moved(memory, held, after);
        self.books.serve(request.function, now - request.since, cold);
        let runs = request.runs.saturating_add(if woken { self.setup.starts.wake } else { 0 });
        self.agenda.add(now.saturating_add(runs), What::Done { lease, instance: key });
        Ok(())
    }

    fn done(&mut self, time: Time, lease: LeaseNumber, key: u32) -> Result<(), String> {
        self.let_go(key)?;
        // Who comes first after a failed init phase does it again, and fails with it as often.
        let entry = self.instances.entry(key);
        let again = std::mem::take(&mut entry.init_failed);
        let failed = again && self.starts.unit() < self.setup.starts.init_failing;
        if failed {
            self.books.failed += 1;
        } else {
            self.books.completed += 1;
        }
        self.control.release(time, lease, failed);
        Ok(())
    }

    /// One request less in an instance.
    fn let_go(&mut self, key: u32) -> Result<(), String> {
        let entry = self.instances.entry(key);
        let held = entry.held();
        entry.load = entry.load.checked_sub(1).ok_or("a slot was released twice")?;
        let (memory, function, after) = (entry.memory_mb, entry.function, entry.held());
        self.books.moved(memory, held, after);
        self.checks.end(function)
    }
}
