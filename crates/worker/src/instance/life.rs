//! The life of an instance, phase by phase: see the chart in `instance`.

use std::sync::Arc;
use std::time::Duration;

use hearth_types::{EndReason, InvokeError, WorkerId, limits};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until, timeout, timeout_at};

use super::doors::shutdown_event;
use super::finish::Outcome;
use super::session::{Purpose, Session};
use super::{Flight, Instance, Phase, State, Stop, lock};
use crate::clock::{epoch_ms, millis};
use crate::failure::Failure;
use crate::metrics::count;
use crate::report::Cold;
use crate::said::Said;
use crate::worker::WorkerEvent;
use hearth_sandbox::Exit;

/// For external extensions at the end; Lambda gives 2 s in all, the last 300 ms of it after SIGTERM.
const EXTENSIONS_SHUTDOWN: Duration = Duration::from_millis(1_700);
/// Of that, for telemetry that extensions have not been sent yet.
pub(super) const LAST_TELEMETRY: Duration = Duration::from_millis(500);
/// For processes after SIGTERM where there are external extensions.
const AFTER_SIGTERM: Duration = Duration::from_millis(300);
/// For processes after SIGTERM where there are internal extensions only.
const INTERNAL_SHUTDOWN: Duration = Duration::from_millis(500);
/// For an HTTP service after SIGTERM.
const SERVICE_SHUTDOWN: Duration = Duration::from_secs(2);

impl Instance {
    /// Lives from the making of the sandbox to its end. Sends one ready event, unless the last one, which it returns,
    /// says that there is no instance.
    pub(crate) async fn live(
        self: Arc<Self>,
        events: &mpsc::Sender<(WorkerId, WorkerEvent)>,
        worker: &WorkerId,
    ) -> WorkerEvent {
        let instance = self.id;
        // Restoring an instance is the making of its sandbox and what the runtime does after it.
        let mut began = Instant::now();
        let made = Session::make(&self, Purpose::Serve).await;
        self.give_up_blank();
        let mut session = match made {
            Ok(session) => session,
            Err(reason) => return self.not_made(reason),
        };
        self.enter(Phase::Initializing);
        let limit = if session.restored { limits::RESTORE_PHASE } else { self.init_limit() };
        if !session.restored {
            began = Instant::now();
        }
        let initialized = self.initialize(&mut session, began + limit, limit).await;
        let init = began.elapsed();
        let cold = if session.restored { Cold::Restore(init) } else { Cold::Init(init) };
        let session = match initialized {
            Ok(()) => Ok(session),
            Err(Stop::Ended(reason)) => {
                session.destroy(&self).await;
                return self.not_made(format!("it was ended while it started: {reason}"));
            }
            Err(Stop::Failed(failure)) => {
                self.start_failed(&failure, cold);
                Err(session)
            }
        };
        let initialized = session.is_ok();
        if let Cold::Init(duration) = cold
            && initialized
        {
            self.say(&Said::Init { init: self.init("init"), duration, failure: None });
        }
        {
            let mut state = lock(&self.state);
            if initialized {
                state.phase = Phase::Serving;
                state.unreported = Some(cold);
            } else {
                // What is left of the attempt has no say in the next.
                state.generation += 1;
                state.phase = Phase::Waiting;
                state.failure = None;
            }
        }
        if let Cold::Restore(restore) = cold
            && initialized
        {
            self.say(&Said::Restore { duration: restore, failure: None });
        }
        count(&self.counters.instances_ready);
        let ready = WorkerEvent::InstanceReady { instance, init, initialized };
        // Nobody listens when the worker's owner is gone; the instance ends with it.
        let _ = events.send((worker.clone(), ready)).await;
        let reason = match session {
            Ok(session) => self.serve_and_end(session).await,
            Err(failed) => {
                self.let_go(failed).await;
                self.wait_and_serve().await
            }
        };
        WorkerEvent::InstanceGone { instance, reason }
    }

    /// Servers take longer to start than functions, and nobody pays for that by the millisecond.
    fn init_limit(&self) -> Duration {
        if self.spec.http.is_some() { limits::INIT_PHASE.max(self.spec.timeout) } else { limits::INIT_PHASE }
    }

    /// Ends the blank that was chosen for it, if it was not made of it: nobody else will ask for that.
    fn give_up_blank(&self) {
        let blank = lock(&self.blank).take();
        blank.into_iter().for_each(|blank| self.blanks.end(blank));
    }

    fn not_made(&self, reason: String) -> WorkerEvent {
        self.enter(Phase::Ending);
        count(&self.counters.instances_failed);
        WorkerEvent::InstanceFailed { instance: self.id, reason }
    }

    pub(super) fn enter(&self, phase: Phase) {
        lock(&self.state).phase = phase;
    }

    /// The instance's own start failed.
    fn start_failed(&self, failure: &Failure, cold: Cold) {
        match cold {
            Cold::Init(after) => self.init_failed(failure, "init", after),
            Cold::Restore(after) => {
                count(&self.counters.init_failures);
                self.output.drain();
                self.runtime_is_done(&mut lock(&self.state), Some(failure));
                self.say(&Said::Restore { duration: after, failure: Some(failure) });
            }
        }
    }

    /// An init phase failed: said as Lambda says it.
    pub(super) fn init_failed(&self, failure: &Failure, phase: &'static str, after: Duration) {
        count(&self.counters.init_failures);
        self.output.drain();
        self.runtime_is_done(&mut lock(&self.state), Some(failure));
        self.say(&Said::Init { init: self.init(phase), duration: after, failure: Some(failure) });
        if let Some(service) = &self.spec.http {
            // No caller is told: there is no answer of Lambda's that it could be in.
            self.say(&Said::NotReady { service, failure });
        }
    }

    /// Starts extensions, then the runtime, unless they run already, until all have asked for work.
    pub(super) async fn initialize(
        self: &Arc<Self>,
        session: &mut Session,
        deadline: Instant,
        limit: Duration,
    ) -> Result<(), Stop> {
        let work = async {
            if session.restored {
                return self.until(|state| state.protocol.initialized()).await;
            }
            for extension in session.extensions() {
                session.start_extension(self, &extension).await.map_err(Stop::Failed)?;
            }
            self.until(|state| state.protocol.extensions.all_registered()).await?;
            session.start_runtime(self).await.map_err(Stop::Failed)?;
            if let Some(service) = &self.spec.http {
                self.until_ready(session, service).await?;
                self.runtime_is_done(&mut lock(&self.state), None);
                return Ok(());
            }
            self.until(|state| {
                if state.is_saved { state.protocol.can_be_saved() } else { state.protocol.initialized() }
            })
            .await
        };
        match timeout_at(deadline, work).await {
            Ok(result) => result,
            Err(_) => Err(Stop::Failed(Failure::TimedOut(limit))),
        }
    }

    /// Waits until `done`, or until something says that it will not be.
    pub(super) async fn until(&self, done: impl Fn(&State) -> bool) -> Result<(), Stop> {
        loop {
            {
                let state = lock(&self.state);
                if let Some(stop) = state.stop() {
                    return Err(stop);
                }
                if done(&state) {
                    return Ok(());
                }
            }
            self.changed.notified().await;
        }
    }

    /// Ends a sandbox whose init phase failed. Who subscribed in it gets what is left, unless somebody waits for the next.
    async fn let_go(&self, failed: Session) {
        tokio::select! {
            () = self.output.telemetry().finish(LAST_TELEMETRY) => {}
            _ = self.until(|state| !state.flights.is_empty()) => {}
        }
        failed.destroy(self).await;
    }

    /// After a failed init: the first invocation does it again, in its own time.
    async fn wait_and_serve(self: &Arc<Self>) -> EndReason {
        if let Err(stop) = self.until(|state| !state.flights.is_empty()).await {
            self.abandon(&stop);
            return reason_of(&stop);
        }
        let began = Instant::now();
        {
            let mut state = lock(&self.state);
            state.phase = Phase::Initializing;
            for flight in &mut state.flights {
                flight.deadline = began + self.spec.timeout;
                self.start(flight, began);
            }
        }
        let mut session = match Session::make(self, Purpose::Serve).await {
            Ok(session) => session,
            Err(reason) => {
                for flight in self.take_flights() {
                    self.not_delivered(flight, &reason);
                }
                return EndReason::Failed;
            }
        };
        let limit = if session.restored { limits::RESTORE_PHASE } else { self.spec.timeout };
        if let Err(stop) = self.initialize(&mut session, began + limit, limit).await {
            match &stop {
                Stop::Failed(failure) if session.restored => {
                    self.start_failed(failure, Cold::Restore(began.elapsed()));
                    self.not_restored(failure);
                }
                Stop::Failed(failure) => self.init_failed(failure, "invoke", began.elapsed()),
                Stop::Ended(_) => {}
            }
            self.abandon(&stop);
            if matches!(stop, Stop::Failed(_)) {
                self.output.telemetry().finish(LAST_TELEMETRY).await;
            }
            session.destroy(self).await;
            return reason_of(&stop);
        }
        if !session.restored {
            self.say(&Said::Init { init: self.init("invoke"), duration: began.elapsed(), failure: None });
        }
        {
            let mut state = lock(&self.state);
            state.phase = Phase::Serving;
            self.deliver(&mut state);
        }
        self.serve_and_end(session).await
    }

    async fn serve_and_end(self: &Arc<Self>, session: Session) -> EndReason {
        let stop = self.serve().await;
        self.abandon(&stop);
        self.shut_down(&session, &stop).await;
        session.destroy(self).await;
        reason_of(&stop)
    }

    /// Watches until something ends the instance. Whether it does is looked at anew after each bell.
    async fn serve(&self) -> Stop {
        loop {
            let armed = {
                let mut state = lock(&self.state);
                if let Some(stop) = state.stop() {
                    return stop;
                }
                state.armed = state.flights.iter().map(|flight| flight.deadline).min();
                if state.armed.is_some_and(|deadline| deadline <= Instant::now()) {
                    return Stop::Failed(Failure::TimedOut(self.spec.timeout));
                }
                state.armed
            };
            let deadline = async {
                match armed {
                    Some(deadline) => sleep_until(deadline).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = self.changed.notified() => {}
                () = deadline => {}
            }
        }
    }

    /// Tells all callers that there is no instance because the function failed when it was restored.
    fn not_restored(&self, failure: &Failure) {
        for flight in self.take_flights() {
            let timed_out = matches!(failure, Failure::TimedOut(_));
            flight.asker.fail(InvokeError::NotRestored { timed_out, reason: failure.reason() });
        }
    }

    fn take_flights(&self) -> Vec<Flight> {
        let mut state = lock(&self.state);
        state.phase = Phase::Ending;
        std::mem::take(&mut state.flights)
    }

    /// Answers all invocations in hand, each with what became of it, and takes no more.
    fn abandon(&self, stop: &Stop) {
        let now = Instant::now();
        let flights = self.take_flights();
        let mut cold = lock(&self.state).unreported.take();
        for flight in flights {
            let expired = flight.deadline <= now;
            match stop {
                _ if flight.started.is_none() => self.not_delivered(flight, "the instance ended first"),
                Stop::Failed(Failure::TimedOut(_)) if !expired => {
                    // It shares the sandbox with the one that ran out of time.
                    let killed = Failure::RuntimeExited(Exit::SandboxGone);
                    self.finish(flight, cold.take(), Outcome::Failed(&killed));
                }
                Stop::Failed(failure) => self.finish(flight, cold.take(), Outcome::Failed(failure)),
                Stop::Ended(reason) => {
                    let lost = InvokeError::Lost { reason: format!("the instance was ended: {reason}") };
                    flight.asker.fail(lost);
                }
            }
        }
    }

    /// The shutdown phase: extensions hear of it and get their time.
    async fn shut_down(&self, session: &Session, stop: &Stop) {
        let (any, external) = {
            let mut state = lock(&self.state);
            state.protocol.close();
            state.protocol.extensions.kinds()
        };
        if self.spec.http.is_some() && !any {
            // What a service does not finish in this time it does not.
            session.sandbox.terminate().await;
            return self.processes_to_end(SERVICE_SHUTDOWN, |state| state.runtimes > 0).await;
        }
        if !any {
            return;
        }
        let reason = match stop {
            Stop::Failed(Failure::TimedOut(_)) => "timeout",
            Stop::Failed(_) => "failure",
            Stop::Ended(_) => "spindown",
        };
        // What is left comes before the news of the end, which many take for a sign to leave: who asks meanwhile waits for it, too.
        let began = Instant::now();
        self.output.telemetry().finish(LAST_TELEMETRY).await;
        let waiting = lock(&self.state).protocol.extensions.take_for_shutdown();
        if external {
            let left = EXTENSIONS_SHUTDOWN.saturating_sub(began.elapsed());
            let event = shutdown_event(reason, epoch_ms() + millis(left + AFTER_SIGTERM));
            for extension in waiting {
                let _ = extension.send(event.clone());
            }
            self.processes_to_end(left, |state| state.extensions > 0).await;
        }
        session.sandbox.terminate().await;
        let time = if external { AFTER_SIGTERM } else { INTERNAL_SHUTDOWN };
        self.processes_to_end(time, |state| state.runtimes + state.extensions > 0).await;
    }

    /// Waits until no process is `left`, for a time.
    async fn processes_to_end(&self, time: Duration, left: impl Fn(&State) -> bool) {
        let gone = async {
            while left(&lock(&self.state)) {
                self.changed.notified().await;
            }
        };
        let _ = timeout(time, gone).await;
    }
}

/// A failed phase's status in its report, and the error's type.
fn reason_of(stop: &Stop) -> EndReason {
    match stop {
        Stop::Ended(reason) => *reason,
        Stop::Failed(_) => EndReason::Failed,
    }
}
