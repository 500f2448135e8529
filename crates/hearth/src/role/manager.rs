//! The manager's shell: gives the pure manager events and the time, and does what it answers.
//!
//! The state machines sit behind one mutex that is never held across an await. A request whose instance is warm goes
//! through without a channel or another task; only a request that must wait gets a channel of its own.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use hearth_frontend::Provisioned;
use hearth_manager::{Acquired, Action, Config, Event, Manager, Relief, WaitId};
use hearth_placement::pressure::PressureLevel;
use hearth_placement::{
    self as placement, Capacity, NoRoom, Oversubscription, Packing, PlaceRequest, Placement,
};
use hearth_types::{
    BlankKind, FunctionId, FunctionSpec, InstanceId, InstanceState, Lease, LeaseId, LeaseOutcome,
    LeaseRequest, Refusal, RevisionId, StartReason, TenantId, Time, WorkerId,
};
use hearth_worker::WorkerEvent;
use tokio::sync::{Notify, mpsc, oneshot};

use crate::role::Workers;
use crate::role::clock::Clock;

/// Manager and placement with the workers of this process.
pub(crate) struct ManagerShell {
    clock: Clock,
    state: Mutex<State>,
    /// Rung when the next deadline is earlier than the one slept for.
    earlier_deadline: Notify,
    workers: Workers,
    /// What each worker has, and how much more it promises.
    capacity: Capacity,
    oversubscription: Oversubscription,
}

/// What an operator can want of an instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wish {
    /// That it gives its memory back and goes on later.
    Suspend,
    /// That it goes on now.
    Resume,
    /// That it ends.
    Terminate,
}

struct State {
    manager: Manager,
    placement: Placement,
    waiting: HashMap<WaitId, oneshot::Sender<Result<Lease, Refusal>>>,
    /// Empty but while actions are carried out; kept for its capacity.
    actions: Vec<Action>,
    /// The deadline that the timer sleeps for.
    armed: Time,
    pressure: PressureLevel,
}

/// What the shell is made with.
#[derive(Clone, Debug)]
pub(crate) struct ManagerShellConfig {
    /// A number no earlier manager had.
    pub(crate) epoch: u64,
    /// Requests in flight at once, for each account.
    pub(crate) account_concurrency: u32,
    /// Whether idle instances are kept for as long as their functions' idle times say.
    pub(crate) learn_idle_times: bool,
    /// Whether instances are started ahead of a rising burst.
    pub(crate) scale_ahead: bool,
    /// Most sandboxes of each kind that are made before their function is known.
    pub(crate) blanks: u32,
    /// What each worker has.
    pub(crate) capacity: Capacity,
    /// How much more it promises.
    pub(crate) oversubscription: Oversubscription,
}

// === impl ManagerShell ===

impl ManagerShell {
    pub(crate) fn new(config: &ManagerShellConfig, workers: Workers) -> Self {
        let clock = Clock::start();
        let mut placement = Placement::with_seed(config.epoch, Packing::Even);
        let (capacity, oversubscription) = (config.capacity.clone(), config.oversubscription);
        for (id, _) in workers.iter() {
            let (worker, capacity) = (id.clone(), capacity.clone());
            let joined = placement::Event::WorkerJoined { worker, capacity, oversubscription };
            placement.handle(clock.now(), joined);
        }
        let manager = Manager::new(Config {
            epoch: config.epoch,
            account_concurrency: config.account_concurrency,
            learn_idle_times: config.learn_idle_times,
            scale_ahead: config.scale_ahead,
            blanks: config.blanks,
            ..Config::default()
        });
        let state = State {
            manager,
            placement,
            waiting: HashMap::new(),
            actions: Vec::new(),
            armed: Time::MAX,
            pressure: PressureLevel::None,
        };
        Self {
            clock,
            state: Mutex::new(state),
            earlier_deadline: Notify::new(),
            workers,
            capacity,
            oversubscription,
        }
    }

    /// A slot for a request: at once if one is free, else when an instance has started.
    pub(crate) async fn acquire(&self, request: &LeaseRequest) -> Result<Lease, Refusal> {
        match self.ask(request) {
            Ok(Ok(lease)) => Ok(lease),
            Ok(Err(waiter)) => waiter.answer().await,
            Err(refusal) => Err(refusal),
        }
    }

    fn ask(&self, request: &LeaseRequest) -> Result<Result<Lease, Waiter<'_>>, Refusal> {
        let mut state = self.lock();
        let State { manager, actions, .. } = &mut *state;
        let acquired = manager.acquire(self.clock.now(), request, actions);
        match acquired {
            Acquired::Leased(lease) => {
                self.carry_out(&mut state);
                Ok(Ok(lease))
            }
            Acquired::Refused(refusal) => {
                self.carry_out(&mut state);
                Err(refusal)
            }
            Acquired::Waiting(wait) => {
                // Known before the actions are carried out: they may already answer it.
                let (sender, answer) = oneshot::channel();
                state.waiting.insert(wait, sender);
                self.carry_out(&mut state);
                Ok(Err(Waiter { shell: self, wait, answer }))
            }
        }
    }

    pub(crate) fn release(&self, lease: LeaseId, outcome: LeaseOutcome) {
        let mut state = self.lock();
        let State { manager, actions, .. } = &mut *state;
        manager.release(self.clock.now(), lease, outcome, actions);
        self.carry_out(&mut state);
    }

    pub(crate) fn revision_replaced(&self, revision: RevisionId) {
        self.tell(Event::RevisionReplaced { revision });
    }

    pub(crate) fn function_deleted(&self, function: FunctionId, newest: u64) {
        self.tell(Event::FunctionDeleted { function, newest });
    }

    /// Sets how many requests at once a function has to itself, if it has a reservation.
    pub(crate) fn reserve(&self, function: FunctionId, reserved: Option<u32>) {
        self.tell(Event::ConcurrencyReserved { function, reserved });
    }

    /// Keeps so many instances of a revision ready; zero ends it.
    pub(crate) fn provision(&self, spec: Arc<FunctionSpec>, count: u32) {
        self.tell(Event::Provision { spec, count });
    }

    /// What has become of a revision's provisioned concurrency.
    pub(crate) fn provisioned(&self, revision: &RevisionId) -> Provisioned {
        let state = self.inspect(|_, manager, _| manager.provisioned(revision));
        Provisioned { allocated: state.allocated, available: state.available, failure: state.failure }
    }

    /// Takes no more requests; instances end as their requests do.
    pub(crate) fn stop(&self) {
        self.tell(Event::Stopping);
    }

    /// Lets `look` see manager and placement as they are now.
    pub(crate) fn inspect<T>(&self, look: impl FnOnce(Time, &Manager, &Placement) -> T) -> T {
        let state = self.lock();
        look(self.clock.now(), &state.manager, &state.placement)
    }

    /// Has a worker take no new instances and lose those that it has, the busy ones with their requests; or take some
    /// again. False if there is no such worker.
    pub(crate) fn drain(&self, worker: &WorkerId, drained: bool) -> bool {
        if self.workers.get(worker).is_none() {
            return false;
        }
        let (now, worker) = (self.clock.now(), worker.clone());
        let mut state = self.lock();
        if drained {
            state.placement.handle(now, placement::Event::WorkerDraining { worker: worker.clone() });
            self.handle(&mut state, Event::WorkerDraining { worker });
        } else {
            let (capacity, oversubscription) = (self.capacity.clone(), self.oversubscription);
            let joined =
                placement::Event::WorkerJoined { worker: worker.clone(), capacity, oversubscription };
            state.placement.handle(now, joined);
            let level = state.pressure;
            state.placement.handle(now, placement::Event::PressureChanged { worker, level });
            self.handle(&mut state, Event::RoomMayHaveCome);
        }
        true
    }

    /// Has one instance hibernate, wake or end, if it can now: its state before, if it is there.
    pub(crate) fn wish(&self, instance: InstanceId, wish: Wish) -> Option<InstanceState> {
        let mut state = self.lock();
        let view = state.manager.instances().find(|view| view.id == instance)?;
        let before = view.state;
        let event = match wish {
            Wish::Suspend => Event::SuspensionAsked { instance },
            Wish::Resume => Event::ResumptionAsked { instance },
            Wish::Terminate => Event::TerminationAsked { instance },
        };
        self.handle(&mut state, event);
        Some(before)
    }

    pub(crate) fn now(&self) -> Time {
        self.clock.now()
    }

    /// The machine, and so each worker on it, is pressed for memory that hard; said again and again.
    pub(crate) fn pressed(&self, level: PressureLevel) {
        let now = self.clock.now();
        let mut state = self.lock();
        if state.pressure != level {
            tracing::info!(before = %state.pressure, now = %level, "memory pressure");
            let falls = level < state.pressure;
            state.pressure = level;
            for (worker, _) in self.workers.iter() {
                let changed = placement::Event::PressureChanged { worker: worker.clone(), level };
                state.placement.handle(now, changed);
            }
            if falls {
                self.handle(&mut state, Event::RoomMayHaveCome);
            }
        }
        let relief = match level {
            PressureLevel::None | PressureLevel::StopPlacing => return,
            PressureLevel::Hibernate => Relief::Hibernate,
            PressureLevel::Evict => Relief::Evict,
        };
        for (worker, _) in self.workers.iter() {
            self.handle(&mut state, Event::MemoryShort { worker: worker.clone(), relief });
        }
    }

    /// Takes what the workers report until they are gone.
    pub(crate) async fn follow(self: Arc<Self>, mut events: mpsc::Receiver<(WorkerId, WorkerEvent)>) {
        while let Some((worker, event)) = events.recv().await {
            let mut state = self.lock();
            let (event, ended) = match event {
                WorkerEvent::InstanceReady { instance, initialized, .. } => {
                    (Event::InstanceReady { instance, worker, initialized }, None)
                }
                WorkerEvent::InstanceFailed { instance, reason } => {
                    (Event::InstanceStartFailed { instance, reason }, Some(instance))
                }
                WorkerEvent::InstanceGone { instance, .. } => {
                    (Event::InstanceGone { instance }, Some(instance))
                }
                WorkerEvent::BlankReady { blank, kind } => {
                    self.handle(&mut state, Event::BlankReady { blank, worker });
                    if state.manager.offers(blank) {
                        let ready = placement::Event::BlankReady { blank, kind };
                        state.placement.handle(self.clock.now(), ready);
                    }
                    continue;
                }
                WorkerEvent::BlankGone { blank, reason } => {
                    tracing::debug!(%blank, reason, "a blank is gone");
                    (Event::BlankGone { blank }, Some(blank))
                }
            };
            if let Some(instance) = ended {
                state.placement.handle(self.clock.now(), placement::Event::InstanceEnded { instance });
            }
            self.handle(&mut state, event);
        }
    }

    /// Wakes the manager at each of its deadlines.
    pub(crate) async fn keep_time(self: Arc<Self>) {
        loop {
            let deadline = {
                let mut state = self.lock();
                state.armed = state.manager.next_deadline().unwrap_or(Time::MAX);
                state.armed
            };
            if deadline == Time::MAX {
                self.earlier_deadline.notified().await;
                continue;
            }
            tokio::select! {
                () = tokio::time::sleep_until(self.clock.instant(deadline)) => self.tell(Event::TimePassed),
                () = self.earlier_deadline.notified() => {}
            }
        }
    }

    fn tell(&self, event: Event) {
        let mut state = self.lock();
        self.handle(&mut state, event);
    }

    fn handle(&self, state: &mut State, event: Event) {
        let State { manager, actions, .. } = state;
        manager.handle(self.clock.now(), event, actions);
        self.carry_out(state);
    }

    /// Does what the manager asked for, and what it asks for in answer to that, until it asks for nothing.
    fn carry_out(&self, state: &mut State) {
        let mut actions = std::mem::take(&mut state.actions);
        while !actions.is_empty() {
            for action in actions.drain(..) {
                self.carry_out_one(state, action);
            }
            std::mem::swap(&mut actions, &mut state.actions);
        }
        state.actions = actions;
        if state.manager.next_deadline().is_some_and(|next| next < state.armed) {
            self.earlier_deadline.notify_one();
        }
    }

    fn carry_out_one(&self, state: &mut State, action: Action) {
        match action {
            Action::StartInstance { instance, spec, tenant, reason } => {
                let (event, blank) = self.place(&mut state.placement, instance, (spec, tenant), reason);
                state.manager.handle(self.clock.now(), event, &mut state.actions);
                if let Some(blank) = blank {
                    state.manager.handle(self.clock.now(), Event::BlankTaken { blank }, &mut state.actions);
                }
            }
            Action::MakeBlank { blank, kind } => {
                let event = self.place_blank(&mut state.placement, blank, kind);
                state.manager.handle(self.clock.now(), event, &mut state.actions);
            }
            Action::EndBlank { blank, worker } => {
                let now = self.clock.now();
                state.placement.handle(now, placement::Event::BlankWithdrawn { blank });
                match self.workers.get(&worker) {
                    Some(worker) => worker.end_blank(blank),
                    None => {
                        state.placement.handle(now, placement::Event::InstanceEnded { instance: blank });
                        state.manager.handle(now, Event::BlankGone { blank }, &mut state.actions);
                    }
                }
            }
            Action::HibernateInstance { instance, worker } => {
                if let Some(worker) = self.workers.get(&worker) {
                    worker.hibernate(instance);
                }
            }
            Action::WakeInstance { instance, worker } => {
                if let Some(worker) = self.workers.get(&worker) {
                    worker.wake(instance);
                }
            }
            Action::EndInstance { instance, worker, reason } => match self.workers.get(&worker) {
                Some(worker) => worker.end(instance, reason),
                None => {
                    state.manager.handle(
                        self.clock.now(),
                        Event::InstanceGone { instance },
                        &mut state.actions,
                    );
                }
            },
            Action::Grant { wait, lease } => {
                let id = lease.id;
                let taken =
                    state.waiting.remove(&wait).is_some_and(|waiting| waiting.send(Ok(lease)).is_ok());
                if !taken {
                    let outcome = LeaseOutcome::Reusable;
                    state.manager.release(self.clock.now(), id, outcome, &mut state.actions);
                }
            }
            Action::Refuse { wait, refusal } => {
                if let Some(waiting) = state.waiting.remove(&wait) {
                    // Nobody is there to hear it if the caller has gone.
                    let _ = waiting.send(Err(refusal));
                }
            }
        }
    }

    fn place(
        &self,
        placement: &mut Placement,
        instance: InstanceId,
        (spec, tenant): (Arc<FunctionSpec>, Option<TenantId>),
        reason: StartReason,
    ) -> (Event, Option<InstanceId>) {
        let request = PlaceRequest::new(instance, &spec);
        let (id, blank) = match placement.place_on_blank(self.clock.now(), &request, &spec.blank_kind()) {
            Ok(placed) => placed,
            Err(no_room) => return (not_placed(instance, &no_room), None),
        };
        self.share_image(placement, &spec);
        match self.workers.get(&id) {
            Some(worker) => {
                worker.create(instance, (spec, tenant), reason, blank);
                (Event::Placed { instance, worker: id }, blank)
            }
            None => {
                placement.handle(self.clock.now(), placement::Event::InstanceEnded { instance });
                let reason = format!("worker {id} has gone");
                (Event::PlacementFailed { instance, reason, room_may_come: false }, blank)
            }
        }
    }

    /// The workers of this process have one store of images and snapshots: what one has, all have.
    fn share_image(&self, placement: &mut Placement, spec: &FunctionSpec) {
        let all = self.workers.iter().map(|(worker, _)| worker);
        if all.clone().count() > 1 {
            for worker in all {
                let cached = placement::Event::ImageCached { worker: worker.clone(), code: spec.code };
                placement.handle(self.clock.now(), cached);
            }
        }
    }

    fn place_blank(&self, placement: &mut Placement, blank: InstanceId, kind: BlankKind) -> Event {
        match placement.place_blank(self.clock.now(), blank, &kind) {
            Ok(id) => {
                if let Some(worker) = self.workers.get(&id) {
                    worker.make_blank(blank, kind);
                }
                Event::Placed { instance: blank, worker: id }
            }
            Err(no_room) => not_placed(blank, &no_room),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // A panic elsewhere must not turn every later request away; the state machines keep their own invariants.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn not_placed(instance: InstanceId, no_room: &NoRoom) -> Event {
    let (reason, room_may_come) = (no_room.to_string(), no_room.room_may_come);
    Event::PlacementFailed { instance, reason, room_may_come }
}

/// A request that waits; whoever drops it before its answer has left.
struct Waiter<'a> {
    shell: &'a ManagerShell,
    wait: WaitId,
    answer: oneshot::Receiver<Result<Lease, Refusal>>,
}

// === impl Waiter ===

impl Waiter<'_> {
    async fn answer(mut self) -> Result<Lease, Refusal> {
        (&mut self.answer).await.unwrap_or(Err(Refusal::Stopping))
    }
}

impl Drop for Waiter<'_> {
    fn drop(&mut self) {
        let mut state = self.shell.lock();
        if state.waiting.remove(&self.wait).is_some() {
            self.shell.handle(&mut state, Event::WaiterLeft { wait: self.wait });
        } else if let Ok(Ok(lease)) = self.answer.try_recv() {
            // The grant crossed with the leaving.
            let State { manager, actions, .. } = &mut *state;
            manager.release(self.shell.clock.now(), lease.id, LeaseOutcome::Reusable, actions);
            self.shell.carry_out(&mut state);
        }
    }
}
