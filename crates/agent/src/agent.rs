//! The loop, and what the worker's messages do.

use std::collections::BTreeMap;
use std::io;
use std::net::TcpListener;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use hearth_wire::{
    Disk, GuestMessage, HostMessage, Limits, Mux, Network, PROTOCOL, Purpose, Side, Sink, StreamId, decode,
    encode,
};
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::io::Errno;
use rustix::time::{ClockId, Timespec, clock_settime};

use crate::link::Link;
use crate::network::Joined;
use crate::process::{Processes, Running};
use crate::relay::Connection;
use crate::{Failed, configure, step, sys};

/// Where the Runtime API is, as in Lambda.
const RUNTIME_API_PORT: u16 = 9001;
/// Accounts are told anew before news of the function, but not more often than this.
const USAGE_PAUSE: Duration = Duration::from_millis(10);
const CHUNK: usize = 16 << 10;

const LINK: u64 = 0;
const SIGNALS: u64 = 4;
const LISTENER: u64 = 8;
/// In the low bits of the other tokens.
const OUTPUT: u64 = 1;
const CONNECTION: u64 = 2;

/// What came over the link.
enum Event {
    Opened(StreamId, Vec<u8>),
    Data(StreamId, Vec<u8>),
    Ended(StreamId),
    Reset(StreamId),
    Message(Vec<u8>),
}

/// Keeps what came until the mux is free again.
#[derive(Default)]
struct Inbox(Vec<Event>);

impl Sink for Inbox {
    fn opened(&mut self, stream: StreamId, purpose: &[u8]) {
        self.0.push(Event::Opened(stream, purpose.to_vec()));
    }
    fn data(&mut self, stream: StreamId, bytes: &[u8]) {
        self.0.push(Event::Data(stream, bytes.to_vec()));
    }
    fn ended(&mut self, stream: StreamId) {
        self.0.push(Event::Ended(stream));
    }
    fn reset(&mut self, stream: StreamId) {
        self.0.push(Event::Reset(stream));
    }
    // What may be sent is looked at before each wait.
    fn writable(&mut self, _: StreamId) {}
    fn message(&mut self, bytes: &[u8]) {
        self.0.push(Event::Message(bytes.to_vec()));
    }
}

/// Everything that the first process knows.
pub(crate) struct Agent {
    link: Link,
    mux: Mux,
    epoll: OwnedFd,
    /// What `epoll` waits for, by token.
    watched: BTreeMap<u64, EventFlags>,
    signals: OwnedFd,
    listener: TcpListener,
    processes: Processes,
    connections: BTreeMap<u64, Connection>,
    next_connection: u64,
    /// Whose stream each is, among the connections.
    streams: BTreeMap<StreamId, u64>,
    usage_told: Option<Instant>,
    network: Joined,
}

// === impl Agent ===

impl Agent {
    pub(crate) fn new(link: Link) -> Result<Self, Failed> {
        let listener =
            step("listen for the Runtime API", TcpListener::bind(("127.0.0.1", RUNTIME_API_PORT)))?;
        step("listen for the Runtime API", listener.set_nonblocking(true))?;
        Ok(Self {
            link,
            mux: Mux::new(Side::Guest),
            epoll: step("make an epoll", epoll::create(CreateFlags::CLOEXEC))?,
            watched: BTreeMap::new(),
            signals: step("wait for children", sys::child_signals())?,
            listener,
            processes: Processes::default(),
            connections: BTreeMap::new(),
            next_connection: 0,
            streams: BTreeMap::new(),
            usage_told: None,
            network: Joined::default(),
        })
    }

    /// Serves the worker for as long as the machine lives.
    pub(crate) fn run(mut self) -> Result<(), Failed> {
        self.tell(&GuestMessage::Hello { protocol: PROTOCOL });
        loop {
            step("write to the worker", self.flush())?;
            step("watch", self.watch())?;
            let ready = step("wait", self.wait())?;
            let has = |token: u64| ready.contains(&token);
            if has(LINK) {
                self.receive()?;
            }
            // What was written comes before what was answered and before the end.
            self.read_outputs();
            if has(SIGNALS) {
                self.bury();
            }
            for token in ready.iter().filter(|token| *token & 3 == CONNECTION) {
                self.serve_connection(token >> 2);
            }
            if has(LISTENER) {
                self.accept();
            }
        }
    }

    fn tell(&mut self, message: &GuestMessage) {
        // Every message of this side is short.
        let _ = self.mux.message(&encode(message));
    }

    fn flush(&mut self) -> io::Result<()> {
        while !self.mux.output().is_empty() {
            let count = self.link.write(self.mux.output())?;
            if count == 0 {
                break;
            }
            self.mux.sent(count, &mut Inbox::default());
        }
        Ok(())
    }

    /// Has `epoll` wait for just what there is room for.
    fn watch(&mut self) -> io::Result<()> {
        let mut wanted: BTreeMap<u64, (BorrowedFd<'_>, EventFlags)> = BTreeMap::new();
        let link =
            if self.mux.output().is_empty() { EventFlags::IN } else { EventFlags::IN | EventFlags::OUT };
        wanted.insert(LINK, (self.link.as_fd(), link));
        wanted.insert(SIGNALS, (self.signals.as_fd(), EventFlags::IN));
        wanted.insert(LISTENER, (self.listener.as_fd(), EventFlags::IN));
        for (number, running) in &self.processes.running {
            if let Some(output) = &running.output
                && self.mux.room(running.stream) > 0
            {
                wanted.insert(number << 2 | OUTPUT, (output.as_fd(), EventFlags::IN));
            }
        }
        for (key, connection) in &self.connections {
            let mut flags = EventFlags::empty();
            flags.set(EventFlags::IN, connection.wants_read(&self.mux));
            flags.set(EventFlags::OUT, connection.wants_write());
            if !flags.is_empty() {
                wanted.insert(key << 2 | CONNECTION, (connection.socket.as_fd(), flags));
            }
        }
        let gone: Vec<u64> =
            self.watched.keys().filter(|token| !wanted.contains_key(token)).copied().collect();
        for token in gone {
            let key = token >> 2;
            let connection = self.connections.get(&key).map(|connection| connection.socket.as_fd());
            let output = self.processes.running.get(&key).and_then(|running| running.output.as_ref());
            let fd = if token & 3 == CONNECTION { connection } else { output.map(AsFd::as_fd) };
            if let Some(fd) = fd {
                epoll::delete(&self.epoll, fd)?;
            }
            self.watched.remove(&token);
        }
        for (token, (fd, flags)) in wanted {
            let data = EventData::new_u64(token);
            match self.watched.insert(token, flags) {
                None => epoll::add(&self.epoll, fd, data, flags)?,
                Some(before) if before != flags => epoll::modify(&self.epoll, fd, data, flags)?,
                Some(_) => {}
            }
        }
        Ok(())
    }

    fn wait(&self) -> io::Result<Vec<u64>> {
        let mut events = Vec::with_capacity(64);
        match epoll::wait(&self.epoll, rustix::buffer::spare_capacity(&mut events), None) {
            Ok(_) | Err(Errno::INTR) => Ok(events.iter().map(|event| event.data.u64()).collect()),
            Err(error) => Err(error.into()),
        }
    }

    fn receive(&mut self) -> Result<(), Failed> {
        let mut buffer = [0; CHUNK];
        let Some(count) = step("read from the worker", self.link.read(&mut buffer))? else { return Ok(()) };
        let mut inbox = Inbox::default();
        let bytes = buffer.get(..count).unwrap_or_default();
        let taken = self.mux.receive(bytes, &mut inbox);
        step("understand the worker", taken.map_err(io::Error::other))?;
        for event in inbox.0 {
            self.obey_event(event)?;
        }
        Ok(())
    }

    fn obey_event(&mut self, event: Event) -> Result<(), Failed> {
        match event {
            Event::Message(bytes) => {
                let message = step("understand a message", decode(&bytes).map_err(io::Error::other))?;
                return self.obey(message);
            }
            Event::Opened(stream, purpose) => self.open(stream, &purpose),
            Event::Data(stream, bytes) => {
                if let Some((key, connection)) = connection_of(&mut self.connections, &self.streams, stream) {
                    connection.receive(&bytes, &mut self.mux);
                    self.settle(key);
                }
            }
            Event::Ended(stream) => {
                if let Some((key, connection)) = connection_of(&mut self.connections, &self.streams, stream) {
                    connection.worker_ended(&mut self.mux);
                    self.settle(key);
                }
            }
            Event::Reset(stream) => {
                if let Some(key) = self.streams.remove(&stream) {
                    self.drop_connection(key);
                }
            }
        }
        Ok(())
    }

    fn obey(&mut self, message: HostMessage) -> Result<(), Failed> {
        match message {
            HostMessage::Configure { hostname, disks, limits, user } => {
                self.processes.run_as(&disks, user);
                self.configure(&hostname, &disks, &limits)
            }
            HostMessage::Spawn { number, argv, environment, directory } => {
                self.spawn(number, &argv, &environment, &directory)
            }
            HostMessage::Terminate => {
                sys::terminate_all();
                Ok(())
            }
            HostMessage::Quiesce => self.sleep(),
            HostMessage::Awake { .. } => step("wake", Err(io::Error::from(io::ErrorKind::InvalidData))),
        }
    }

    fn configure(&mut self, hostname: &str, disks: &[Disk], limits: &Limits) -> Result<(), Failed> {
        let done = configure::apply(hostname, disks).and_then(|()| self.processes.limit(limits));
        if let Err(Failed { step, error }) = &done {
            let errno = error.raw_os_error().unwrap_or(libc::EIO);
            self.tell(&GuestMessage::Failed { step: step.clone(), errno });
            self::step("tell of a failure", self.flush_all())?;
            return done;
        }
        self.tell(&GuestMessage::Configured);
        Ok(())
    }

    fn spawn(
        &mut self,
        number: u64,
        argv: &[String],
        environment: &[String],
        directory: &str,
    ) -> Result<(), Failed> {
        if number > u64::MAX >> 2 || self.processes.running.contains_key(&number) {
            return step("start a program", Err(io::Error::from(io::ErrorKind::InvalidData)));
        }
        let started = self.processes.start(argv, environment, directory).and_then(|(pid, output)| {
            let stream = self.mux.open(&encode(&Purpose::Output(number))).map_err(io::Error::other)?;
            Ok(Running { pid: Some(pid), output: Some(output), stream })
        });
        match started {
            Ok(running) => {
                self.processes.running.insert(number, running);
                self.tell(&GuestMessage::Spawned { number });
            }
            Err(error) => {
                let unnumbered =
                    if error.kind() == io::ErrorKind::NotFound { libc::ENOENT } else { libc::EINVAL };
                let errno = error.raw_os_error().unwrap_or(unnumbered);
                self.tell(&GuestMessage::SpawnFailed { number, errno });
            }
        }
        Ok(())
    }

    /// Passes on what processes have written.
    fn read_outputs(&mut self) {
        let mut buffer = [0; CHUNK];
        for running in self.processes.running.values_mut() {
            while let Some(output) = &running.output {
                let room = self.mux.room(running.stream).min(CHUNK);
                let Some(space) = buffer.get_mut(..room).filter(|space| !space.is_empty()) else { break };
                match rustix::io::read(output, space) {
                    Ok(count) if count > 0 => {
                        self.mux.send(running.stream, buffer.get(..count).unwrap_or_default());
                    }
                    Err(Errno::AGAIN | Errno::INTR) => break,
                    Ok(_) | Err(_) => {
                        self.mux.end(running.stream);
                        running.output = None;
                    }
                }
            }
        }
        self.processes.running.retain(|_, running| running.pid.is_some() || running.output.is_some());
    }

    /// Tells of children that ended.
    fn bury(&mut self) {
        let mut discard = [0; 512];
        let _ = rustix::io::read(&self.signals, &mut discard);
        let mut any = false;
        while let Some(ended) = self.processes.reap() {
            if !std::mem::replace(&mut any, true) {
                self.read_outputs();
                self.tell_usage();
            }
            let (number, status, signal) = (ended.number, ended.status, ended.signal);
            self.tell(&GuestMessage::Exited { number, status, signal });
        }
    }

    fn tell_usage(&mut self) {
        let usage = self.processes.usage();
        self.tell(&GuestMessage::Usage(usage));
        self.usage_told = Some(Instant::now());
    }

    fn accept(&mut self) {
        while let Ok((socket, _)) = self.listener.accept() {
            if socket.set_nonblocking(true).is_err() || socket.set_nodelay(true).is_err() {
                continue;
            }
            // With no stream to be had the connection ends at once.
            let Ok(stream) = self.mux.open(&encode(&Purpose::RuntimeApi)) else { continue };
            self.add(Connection::accepted(socket.into(), stream));
        }
    }

    fn open(&mut self, stream: StreamId, purpose: &[u8]) {
        let connection = match decode(purpose) {
            Ok(Purpose::Port(port)) => Connection::to_port(port, stream),
            _ => Err(io::ErrorKind::InvalidData.into()),
        };
        match connection {
            Ok(connection) => {
                let is_there = !connection.is_connecting();
                self.add(connection);
                if is_there {
                    self.tell(&GuestMessage::Connected { stream });
                }
            }
            Err(_) => self.mux.reset(stream),
        }
    }

    fn add(&mut self, connection: Connection) {
        let key = self.next_connection;
        self.next_connection += 1;
        self.streams.insert(connection.stream, key);
        self.connections.insert(key, connection);
    }

    fn serve_connection(&mut self, key: u64) {
        let Some(connection) = self.connections.get_mut(&key) else { return };
        if connection.is_connecting() {
            let stream = connection.stream;
            if !connection.has_come_about(&mut self.mux) {
                return self.settle(key);
            }
            self.tell(&GuestMessage::Connected { stream });
        }
        let Some(connection) = self.connections.get_mut(&key) else { return };
        connection.write(&mut self.mux);
        connection.repeat(&mut self.mux);
        if connection.wants_read(&self.mux) {
            if self.usage_told.is_none_or(|told| told.elapsed() > USAGE_PAUSE) {
                self.tell_usage();
            }
            if let Some(connection) = self.connections.get_mut(&key) {
                connection.read(&mut self.mux);
            }
        }
        self.settle(key);
    }

    fn settle(&mut self, key: u64) {
        if self.connections.get(&key).is_some_and(Connection::is_over) {
            self.drop_connection(key);
        }
    }

    fn drop_connection(&mut self, key: u64) {
        if let Some(connection) = self.connections.remove(&key) {
            self.streams.remove(&connection.stream);
            // Closing a socket takes it out of `epoll`.
            self.watched.remove(&(key << 2 | CONNECTION));
        }
    }

    fn flush_all(&mut self) -> io::Result<()> {
        loop {
            self.flush()?;
            if self.mux.output().is_empty() {
                return Ok(());
            }
            self.link.wait_writable()?;
        }
    }

    /// Says a last word, and nothing until the worker's next conversation: a snapshot may be taken in between, any number of
    /// machines may be made from it, and each goes on here.
    ///
    /// The function's processes stand still from the last word to the next conversation's first: none draws a random number
    /// before those of this machine are its own, and what it wrote before is written once.
    fn sleep(&mut self) -> Result<(), Failed> {
        self.processes.freeze();
        self.read_outputs();
        self.tell(&GuestMessage::Quiesced);
        step("write to the worker", self.flush_all())?;
        self.mux = Mux::new(Side::Guest);
        let mut buffer = [0; CHUNK];
        let mut inbox = Inbox::default();
        if matches!(self.link, Link::Vsock(_)) {
            // Its descriptor goes, and another comes.
            self.watched.remove(&LINK);
        }
        let mut count = step("hear from the worker", self.link.next_conversation(&mut buffer))?;
        loop {
            let bytes = buffer.get(..count).unwrap_or_default();
            step("understand the worker", self.mux.receive(bytes, &mut inbox).map_err(io::Error::other))?;
            if !inbox.0.is_empty() {
                break;
            }
            count = step("read from the worker", self.link.read(&mut buffer))?.unwrap_or(0);
        }
        let mut events = inbox.0.into_iter();
        match events.next() {
            Some(Event::Message(bytes)) => {
                let message = step("understand a message", decode(&bytes).map_err(io::Error::other))?;
                let HostMessage::Awake { wall_clock_ns, entropy, network } = message else {
                    return step("wake", Err(io::Error::from(io::ErrorKind::InvalidData)));
                };
                self.wake(wall_clock_ns, &entropy, network.as_ref())?;
            }
            _ => return step("wake", Err(io::Error::from(io::ErrorKind::InvalidData))),
        }
        events.try_for_each(|event| self.obey_event(event))
    }

    fn wake(
        &mut self,
        wall_clock_ns: u64,
        entropy: &[u8; 32],
        network: Option<&Network>,
    ) -> Result<(), Failed> {
        // Before anything of the function goes on.
        step("mix in random bytes", sys::reseed(entropy))?;
        let seconds = i64::try_from(wall_clock_ns / 1_000_000_000).unwrap_or(0);
        let nanoseconds = i64::try_from(wall_clock_ns % 1_000_000_000).unwrap_or(0);
        let now = Timespec { tv_sec: seconds, tv_nsec: nanoseconds };
        step("set the clock", clock_settime(ClockId::Realtime, now))?;
        if let Some(network) = network {
            self.network.join(network)?;
        }
        self.streams.clear();
        let running = &mut self.processes.running;
        let processes = running.iter().filter(|(_, running)| running.pid.is_some());
        let processes = processes.map(|(number, _)| *number).collect();
        self.tell(&GuestMessage::Resumed { processes });
        for (number, running) in &mut self.processes.running {
            running.stream = step(
                "open a stream",
                self.mux.open(&encode(&Purpose::Output(*number))).map_err(io::Error::other),
            )?;
        }
        self.tell_usage();
        let keys: Vec<u64> = self.connections.keys().copied().collect();
        for key in keys {
            let Some(connection) = self.connections.get_mut(&key) else { continue };
            if connection.resume(&mut self.mux) {
                self.streams.insert(connection.stream, key);
            } else {
                self.drop_connection(key);
            }
        }
        step("let processes go on", self.processes.thaw())
    }
}

fn connection_of<'a>(
    connections: &'a mut BTreeMap<u64, Connection>,
    streams: &BTreeMap<StreamId, u64>,
    stream: StreamId,
) -> Option<(u64, &'a mut Connection)> {
    let key = streams.get(&stream)?;
    connections.get_mut(key).map(|connection| (*key, connection))
}
