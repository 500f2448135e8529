//! The worker's end of the byte stream to a micro-VM's agent. All that comes is taken as hostile.
//!
//! One task reads and hands on, frame by frame in the order of the guest: what a process wrote is in its pipe before the
//! answer that it gave afterwards is looked at. Whoever has something to say writes at once, and leaves to the task what
//! the socket does not take.

mod events;
mod stream;
#[cfg(test)]
mod tests;

use std::collections::{HashMap, VecDeque};
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hearth_wire::{GuestMessage, HostMessage, Mux, Purpose, Side, StreamId, Usage, Violation, encode};
use tokio::io::Interest;
use tokio::net::UnixStream;
use tokio::net::unix::pipe;
use tokio::sync::{Notify, oneshot};

use super::process::VmmProcess;
use crate::driver::Exit;

use events::{Event, Inbox};
use stream::{Half, Stream};

/// Read at once, bytes.
const CHUNK: usize = 64 << 10;
/// Connections that the guest has opened and nobody has taken yet; more are refused.
const MAX_UNTAKEN: usize = 64;

/// Why a guest did not do what it was asked to.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LinkError {
    /// The machine ended, or what it sent was not to be borne.
    #[error("the machine is gone{}", because(.0.as_ref()))]
    Gone(Option<Violation>),
    /// It was silent for too long.
    #[error("the machine's agent did not answer within {} s", .0.as_secs())]
    Silent(Duration),
    /// A step failed in the guest.
    #[error("the machine's agent cannot {step}")]
    Failed {
        /// What was being done, as the agent says; shortened.
        step: String,
        /// What its kernel said.
        #[source]
        source: io::Error,
    },
    /// It answered something else.
    #[error("the machine's agent answered out of turn")]
    OutOfTurn,
    /// What was to be said does not fit into a message.
    #[error("too long for the machine's agent: {0}")]
    TooLong(&'static str),
}

fn because(violation: Option<&Violation>) -> String {
    violation.map_or_else(String::new, |violation| format!(": its agent sent {violation}"))
}

/// A process in the guest.
#[derive(Debug)]
struct GuestProcess {
    /// Whoever waits for its start.
    starting: Option<oneshot::Sender<io::Result<()>>>,
    /// Whoever waits for its end.
    exit: Option<oneshot::Sender<Exit>>,
    /// Where its output goes, until that ends.
    output: Option<Arc<pipe::Sender>>,
}

#[derive(Debug)]
struct State {
    mux: Mux,
    /// `None` between conversations.
    socket: Option<Arc<UnixStream>>,
    /// The last one, for a machine that could not be saved.
    resting: Option<Arc<UnixStream>>,
    /// Greater with each conversation: a stream of an earlier one is over, even if its name is used again.
    conversation: u64,
    streams: HashMap<StreamId, Half>,
    /// The streams that carry output, and of which process.
    outputs: HashMap<StreamId, u64>,
    untaken: VecDeque<StreamId>,
    reply: Option<oneshot::Sender<GuestMessage>>,
    processes: HashMap<u64, GuestProcess>,
    next_process: u64,
    usage: Usage,
    /// The machine's VMM, while it stands still because there is nothing to say to it.
    still: Option<Arc<VmmProcess>>,
    /// Quiesced was said: the end of the conversation is no end of the machine.
    quiesced: bool,
    gone: bool,
    violation: Option<Violation>,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    /// Rung when something is left to be written.
    unwritten: Notify,
    /// Rung when a connection can be taken, or never will be.
    arrived: Notify,
}

/// A machine's agent, as the worker sees it. Lives from the first conversation to the machine's end.
#[derive(Clone, Debug)]
pub(crate) struct Link {
    shared: Arc<Shared>,
}

// === impl Link ===

impl Link {
    /// An agent with which no conversation has begun.
    pub(crate) fn new() -> Self {
        let state = State {
            mux: Mux::new(Side::Host),
            socket: None,
            resting: None,
            conversation: 0,
            streams: HashMap::new(),
            outputs: HashMap::new(),
            untaken: VecDeque::new(),
            reply: None,
            processes: HashMap::new(),
            next_process: 0,
            usage: Usage::default(),
            still: None,
            quiesced: false,
            gone: false,
            violation: None,
        };
        let shared = Shared { state: Mutex::new(state), unwritten: Notify::new(), arrived: Notify::new() };
        Self { shared: Arc::new(shared) }
    }

    /// Begins a conversation with one that has just booted, and waits for its greeting.
    pub(crate) async fn greet(&self, socket: UnixStream, patience: Duration) -> Result<u32, LinkError> {
        let reply = self.begin(Arc::new(socket));
        match self.hear(reply, patience).await? {
            GuestMessage::Hello { protocol } => Ok(protocol),
            _ => Err(LinkError::OutOfTurn),
        }
    }

    /// Begins a conversation with one that was saved, and waits until it is there: the processes that it has.
    pub(crate) async fn awaken(
        &self,
        socket: UnixStream,
        awake: &HostMessage,
        patience: Duration,
    ) -> Result<Vec<u64>, LinkError> {
        self.awaken_on(Arc::new(socket), awake, patience).await
    }

    /// Begins a conversation with one that was to be saved and was not.
    pub(crate) async fn awaken_again(
        &self,
        awake: &HostMessage,
        patience: Duration,
    ) -> Result<Vec<u64>, LinkError> {
        let socket = self.shared.lock().resting.take();
        self.awaken_on(socket.ok_or(LinkError::Gone(None))?, awake, patience).await
    }

    async fn awaken_on(
        &self,
        socket: Arc<UnixStream>,
        awake: &HostMessage,
        patience: Duration,
    ) -> Result<Vec<u64>, LinkError> {
        let reply = self.begin(socket);
        self.say(awake)?;
        match self.hear(reply, patience).await? {
            GuestMessage::Resumed { processes } => Ok(processes),
            _ => Err(LinkError::OutOfTurn),
        }
    }

    fn begin(&self, socket: Arc<UnixStream>) -> oneshot::Receiver<GuestMessage> {
        let (reply, heard) = oneshot::channel();
        let conversation = {
            let mut state = self.shared.lock();
            state.mux = Mux::new(Side::Host);
            state.socket = Some(Arc::clone(&socket));
            state.resting = None;
            state.conversation += 1;
            state.quiesced = false;
            state.reply = Some(reply);
            state.conversation
        };
        tokio::spawn(pump(Arc::clone(&self.shared), socket, conversation));
        heard
    }

    fn say(&self, message: &HostMessage) -> Result<(), LinkError> {
        let mut state = self.shared.lock();
        if state.gone || state.socket.is_none() {
            return Err(LinkError::Gone(state.violation));
        }
        state.mux.message(&encode(message)).map_err(|_| LinkError::TooLong("arguments and environment"))?;
        self.shared.flush(&mut state);
        Ok(())
    }

    /// Says something to which there is one answer.
    async fn ask(&self, message: &HostMessage, patience: Duration) -> Result<GuestMessage, LinkError> {
        let (reply, heard) = oneshot::channel();
        self.shared.lock().reply = Some(reply);
        self.say(message)?;
        self.hear(heard, patience).await
    }

    async fn hear(
        &self,
        reply: oneshot::Receiver<GuestMessage>,
        patience: Duration,
    ) -> Result<GuestMessage, LinkError> {
        match tokio::time::timeout(patience, reply).await {
            Ok(Ok(GuestMessage::Failed { step, errno })) => {
                let step = step.chars().filter(|letter| !letter.is_control()).take(200).collect();
                Err(LinkError::Failed { step, source: io::Error::from_raw_os_error(errno) })
            }
            Ok(Ok(message)) => Ok(message),
            Ok(Err(_gone)) => Err(LinkError::Gone(self.shared.lock().violation)),
            Err(_late) => Err(LinkError::Silent(patience)),
        }
    }

    /// Hangs up for good after [`Self::quiesce`]: its agent is to call anew.
    pub(crate) fn let_go(&self) {
        self.shared.lock().resting = None;
    }

    /// Makes the machine an instance.
    pub(crate) async fn configure(
        &self,
        configure: &HostMessage,
        patience: Duration,
    ) -> Result<(), LinkError> {
        match self.ask(configure, patience).await? {
            GuestMessage::Configured => Ok(()),
            _ => Err(LinkError::OutOfTurn),
        }
    }

    /// Ends the conversation, so that the machine can be saved. Streams break; processes stay known.
    pub(crate) async fn quiesce(&self, patience: Duration) -> Result<(), LinkError> {
        match self.ask(&HostMessage::Quiesce, patience).await? {
            GuestMessage::Quiesced => Ok(()),
            _ => Err(LinkError::OutOfTurn),
        }
    }

    /// Sends SIGTERM to the function's processes.
    pub(crate) fn terminate(&self) {
        // One that is gone has no processes.
        let _ = self.say(&HostMessage::Terminate);
    }

    /// Has the agent start a program: what it writes, its end, and whether it started.
    pub(crate) fn spawn(
        &self,
        argv: Vec<String>,
        environment: Vec<String>,
        directory: String,
    ) -> Result<Spawned, LinkError> {
        let (started, starting) = oneshot::channel();
        let (output, exit, number) = {
            let mut state = self.shared.lock();
            state.next_process += 1;
            let number = state.next_process;
            let (output, exit) = state.add_process(number, Some(started))?;
            (output, exit, number)
        };
        let said = self.say(&HostMessage::Spawn { number, argv, environment, directory });
        if said.is_err() {
            self.shared.lock().processes.remove(&number);
        }
        said.map(|()| Spawned { output, exit, starting })
    }

    /// Takes over a process that a saved machine had: what it writes, and its end.
    pub(crate) fn adopt(&self, number: u64) -> Result<(pipe::Receiver, oneshot::Receiver<Exit>), LinkError> {
        let mut state = self.shared.lock();
        state.next_process = state.next_process.max(number);
        state.add_process(number, None)
    }

    /// The worker's names of the processes that run.
    pub(crate) fn running(&self) -> Vec<u64> {
        let state = self.shared.lock();
        let running = state.processes.iter().filter(|(_, process)| process.exit.is_some());
        let mut running: Vec<u64> = running.map(|(number, _)| *number).collect();
        running.sort_unstable();
        running
    }

    /// The next connection of a process to the Runtime API's address.
    pub(crate) async fn accept(&self) -> io::Result<Stream> {
        loop {
            let arrived = self.shared.arrived.notified();
            {
                let mut state = self.shared.lock();
                if let Some(id) = state.untaken.pop_front() {
                    return Ok(Stream::new(Arc::clone(&self.shared), state.conversation, id));
                }
                if state.gone {
                    return Err(io::ErrorKind::ConnectionAborted.into());
                }
            }
            arrived.await;
        }
    }

    /// A connection to a TCP port of the function, if it comes about.
    pub(crate) async fn connect(&self, port: u16, patience: Duration) -> io::Result<Stream> {
        let (stream, connected) = {
            let mut state = self.shared.lock();
            if state.gone || state.socket.is_none() {
                return Err(io::ErrorKind::NotConnected.into());
            }
            let id = state.mux.open(&encode(&Purpose::Port(port))).map_err(io::Error::other)?;
            let (half, connected) = Half::connecting();
            state.streams.insert(id, half);
            self.shared.flush(&mut state);
            (Stream::new(Arc::clone(&self.shared), state.conversation, id), connected)
        };
        match tokio::time::timeout(patience, connected).await? {
            Ok(()) => Ok(stream),
            Err(_reset) => Err(io::ErrorKind::ConnectionRefused.into()),
        }
    }

    /// Has the machine stand still until something is said to it, unless that is so just now.
    pub(crate) fn rest(&self, vmm: &Arc<VmmProcess>) {
        let mut state = self.shared.lock();
        let starts = state.processes.values().any(|process| process.starting.is_some());
        let is_quiet = state.mux.output().is_empty() && state.reply.is_none() && !starts;
        if !is_quiet || state.gone || state.socket.is_none() || state.still.is_some() {
            return;
        }
        match vmm.stand_still(true) {
            Ok(()) => state.still = Some(Arc::clone(vmm)),
            Err(error) => tracing::warn!(%error, "cannot have a VMM stand still"),
        }
    }

    /// What the guest said last of what its processes use.
    pub(crate) fn usage(&self) -> Usage {
        self.shared.lock().usage
    }

    /// The machine is no more: everybody who waits for it is told.
    pub(crate) fn end(&self) {
        self.shared.end(None);
    }
}

/// A process that is being started.
#[derive(Debug)]
pub(crate) struct Spawned {
    pub(crate) output: pipe::Receiver,
    pub(crate) exit: oneshot::Receiver<Exit>,
    pub(crate) starting: oneshot::Receiver<io::Result<()>>,
}

/// Reads and writes for as long as the conversation lasts.
async fn pump(shared: Arc<Shared>, socket: Arc<UnixStream>, conversation: u64) {
    let mut buffer = vec![0; CHUNK];
    let violation = loop {
        let interest = {
            let state = shared.lock();
            // What is left to be written is another conversation's, or nobody's: waiting until this socket takes it would be no wait.
            if state.conversation != conversation || state.socket.is_none() {
                return;
            }
            match state.mux.output().is_empty() {
                true => Interest::READABLE,
                false => Interest::READABLE | Interest::WRITABLE,
            }
        };
        tokio::select! {
            ready = socket.ready(interest) => if ready.is_err() { break None },
            () = shared.unwritten.notified() => {}
        }
        Shared::write(&mut shared.lock());
        let count = match socket.try_read(&mut buffer) {
            Ok(0) => break None,
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
            Err(_broken) => break None,
        };
        let mut inbox = Inbox::default();
        let received = shared.lock().mux.receive(buffer.get(..count).unwrap_or_default(), &mut inbox);
        for event in inbox.0 {
            if shared.lock().conversation != conversation {
                return;
            }
            if let Err(violation) = shared.take(event).await {
                return shared.end(Some(violation));
            }
        }
        if let Err(violation) = received {
            break Some(violation);
        }
        Shared::write(&mut shared.lock());
        if shared.lock().quiesced {
            return;
        }
    };
    if shared.lock().conversation == conversation {
        shared.end(violation);
    }
}

// === impl Shared ===

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes what the socket takes, and leaves the rest to the task.
    fn flush(&self, state: &mut State) {
        Self::write(state);
        if !state.mux.output().is_empty() {
            self.unwritten.notify_one();
        }
    }

    /// Writes what the socket takes. The task, which then waits until it takes more, must not ring for itself: it would never
    /// wait again, nor let the others of its thread.
    fn write(state: &mut State) {
        let Some(socket) = state.socket.clone() else { return };
        if state.mux.output().is_empty() {
            return;
        }
        if let Some(vmm) = state.still.take()
            && let Err(error) = vmm.stand_still(false)
        {
            tracing::warn!(%error, "cannot have a VMM go on");
        }
        while !state.mux.output().is_empty() {
            match socket.try_write(state.mux.output()) {
                Ok(count) => {
                    let mut inbox = Inbox::default();
                    state.mux.sent(count, &mut inbox);
                    for event in inbox.0 {
                        if let Event::Writable(id) = event {
                            state.wake_writer(id);
                        }
                    }
                }
                // A broken one is seen by the task when it reads.
                Err(_) => return,
            }
        }
    }

    fn end(&self, violation: Option<Violation>) {
        let mut state = self.lock();
        if let Some(violation) = violation {
            tracing::warn!(%violation, "a machine's agent broke the rules");
        }
        state.gone = true;
        state.violation = state.violation.or(violation);
        state.break_streams();
        state.resting = None;
        state.still = None;
        state.reply = None;
        for (_, process) in state.processes.drain() {
            if let Some(exit) = process.exit {
                let _ = exit.send(Exit::SandboxGone);
            }
        }
        drop(state);
        self.arrived.notify_waiters();
    }
}

// === impl State ===

impl State {
    fn add_process(
        &mut self,
        number: u64,
        starting: Option<oneshot::Sender<io::Result<()>>>,
    ) -> Result<(pipe::Receiver, oneshot::Receiver<Exit>), LinkError> {
        if self.gone {
            return Err(LinkError::Gone(self.violation));
        }
        let step = "make a pipe".to_owned();
        let (sender, output) = pipe::pipe().map_err(|source| LinkError::Failed { step, source })?;
        let (exited, exit) = oneshot::channel();
        let process = GuestProcess { starting, exit: Some(exited), output: Some(Arc::new(sender)) };
        self.processes.insert(number, process);
        Ok((output, exit))
    }

    /// All streams of the conversation are over.
    fn break_streams(&mut self) {
        self.resting = self.socket.take();
        self.untaken.clear();
        self.outputs.clear();
        for (_, half) in self.streams.drain() {
            half.wake_both();
        }
    }

    fn wake_writer(&mut self, id: StreamId) {
        if let Some(half) = self.streams.get_mut(&id) {
            half.wake_writer();
        }
    }
}
