//! What processes in an instance write, made into lines of the function's log.
//!
//! Each process has one pipe for stdout and stderr. A task reads it under a token bucket that all of an instance's pipes
//! share: who writes more than [`RATE`] blocks on its pipe, which is the only back-pressure a function can feel. At the
//! end of an invocation the pipes are drained at once, so that what was written before the answer is before END.
//!
//! Extensions that subscribe are told of the same lines, in the same order, by the hub in `telemetry`.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use hearth_types::{InstanceId, RequestId, limits};
use tokio::net::unix::pipe;

use crate::logs::FunctionLog;
use crate::telemetry::{Stream, Telemetry};

/// What an instance may log in the long run, bytes a second.
const RATE: i64 = 8 << 20;
/// What it may log at once, bytes.
const BURST: i64 = 32 << 20;
/// Longer lines are split here, bytes.
const MAX_LINE: usize = 256 << 10;
/// Read at once, bytes.
const CHUNK: usize = 8 << 10;
/// Drained at the end of an invocation: as much as a pipe can hold, bytes.
const MAX_DRAIN: usize = 1 << 20;

/// The output of one instance.
#[derive(Debug)]
pub(crate) struct Output {
    instance: InstanceId,
    log: Arc<FunctionLog>,
    telemetry: Telemetry,
    pipes: Mutex<Vec<Arc<Pipe>>>,
    bucket: Mutex<Bucket>,
    tails: Mutex<Vec<Tail>>,
}

#[derive(Debug)]
struct Pipe {
    receiver: pipe::Receiver,
    /// Whose it is.
    stream: Stream,
    /// The line that has no end yet. Whoever reads holds this, so that what is read stays in order.
    partial: Mutex<Vec<u8>>,
}

#[derive(Debug)]
struct Bucket {
    tokens: i64,
    filled: Instant,
}

/// The end of one invocation's log.
#[derive(Debug)]
struct Tail {
    request: RequestId,
    bytes: VecDeque<u8>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

// === impl Output ===

impl Output {
    pub(crate) fn new(instance: InstanceId, log: Arc<FunctionLog>, telemetry: Telemetry) -> Self {
        Self {
            instance,
            log,
            telemetry,
            pipes: Mutex::default(),
            bucket: Mutex::new(Bucket { tokens: BURST, filled: Instant::now() }),
            tails: Mutex::default(),
        }
    }

    /// Who is told of it besides the log.
    pub(crate) fn telemetry(&self) -> &Telemetry {
        &self.telemetry
    }

    /// Reads a process's output until all its writers are gone.
    pub(crate) async fn follow(&self, receiver: pipe::Receiver, stream: Stream) {
        let pipe = Arc::new(Pipe { receiver, stream, partial: Mutex::default() });
        lock(&self.pipes).push(Arc::clone(&pipe));
        while pipe.receiver.readable().await.is_ok() {
            match self.read_some(&pipe, pipe::Receiver::try_read) {
                Ok(0) => break,
                Ok(bytes) => {
                    let wait = lock(&self.bucket).take(bytes);
                    if !wait.is_zero() {
                        tokio::time::sleep(wait).await;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(_) => break,
            }
        }
        self.end_line(&pipe, &mut lock(&pipe.partial));
        lock(&self.pipes).retain(|other| !Arc::ptr_eq(other, &pipe));
    }

    /// Logs what is in the pipes now, without waiting; a line without end is ended.
    pub(crate) fn drain(&self) {
        // Held, so that nobody forgets a pipe meanwhile; reading never waits.
        let pipes = lock(&self.pipes);
        for pipe in pipes.iter() {
            let mut drained = 0;
            while drained < MAX_DRAIN {
                // Not `try_read`: that asks only when the reactor has seen the pipe readable, which may be later.
                let read = |receiver: &pipe::Receiver, buffer: &mut [u8]| {
                    rustix::io::read(receiver, buffer).map_err(io::Error::from)
                };
                match self.read_some(pipe, read) {
                    Ok(bytes) if bytes > 0 => {
                        drained += bytes;
                        let _ = lock(&self.bucket).take(bytes);
                    }
                    Ok(_) | Err(_) => break,
                }
            }
            self.end_line(pipe, &mut lock(&pipe.partial));
        }
    }

    /// Logs a line of the platform's.
    pub(crate) fn say(&self, text: &str) {
        self.emit(text.as_bytes());
    }

    /// From now on the end of the log is kept for `request`.
    pub(crate) fn begin_tail(&self, request: RequestId) {
        lock(&self.tails).push(Tail { request, bytes: VecDeque::new() });
    }

    /// The end of the log since [`Self::begin_tail`].
    pub(crate) fn take_tail(&self, request: RequestId) -> Vec<u8> {
        let mut tails = lock(&self.tails);
        let place = tails.iter().position(|tail| tail.request == request);
        place.map(|place| tails.swap_remove(place).bytes.into()).unwrap_or_default()
    }

    fn read_some(
        &self,
        pipe: &Pipe,
        read: impl FnOnce(&pipe::Receiver, &mut [u8]) -> io::Result<usize>,
    ) -> io::Result<usize> {
        let mut partial = lock(&pipe.partial);
        let mut buffer = [0; CHUNK];
        let bytes = read(&pipe.receiver, &mut buffer)?;
        let read = buffer.get(..bytes).unwrap_or_default();
        let (lines, rest) = match read.iter().rposition(|byte| *byte == b'\n') {
            Some(end) => read.split_at(end + 1),
            None => (&[][..], read),
        };
        if !lines.is_empty() {
            if partial.is_empty() {
                self.written(pipe, lines);
            } else {
                partial.extend_from_slice(lines);
                self.end_line(pipe, &mut partial);
            }
        }
        if partial.len() + rest.len() > MAX_LINE {
            self.end_line(pipe, &mut partial);
        }
        partial.extend_from_slice(rest);
        Ok(bytes)
    }

    fn end_line(&self, pipe: &Pipe, partial: &mut Vec<u8>) {
        if !partial.is_empty() {
            self.written(pipe, &std::mem::take(partial));
        }
    }

    fn written(&self, pipe: &Pipe, lines: &[u8]) {
        self.emit(lines);
        if self.telemetry.is_wanted(pipe.stream) {
            self.telemetry.lines(pipe.stream, lines);
        }
    }

    fn emit(&self, lines: &[u8]) {
        self.log.write(self.instance, lines);
        for tail in lock(&self.tails).iter_mut() {
            tail.push(lines);
        }
    }
}

// === impl Bucket ===

impl Bucket {
    /// Takes tokens, on credit if need be, and says how long to wait until the debt is paid.
    fn take(&mut self, bytes: usize) -> Duration {
        let now = Instant::now();
        let micros = i64::try_from(now.duration_since(self.filled).as_micros()).unwrap_or(i64::MAX);
        // Small steps would be rounded away: time that gives no whole token stays.
        let gained = micros.saturating_mul(RATE) / 1_000_000;
        if gained > 0 {
            self.filled = now;
            self.tokens = self.tokens.saturating_add(gained).min(BURST);
        }
        self.tokens = self.tokens.saturating_sub(i64::try_from(bytes).unwrap_or(i64::MAX));
        let debt = u64::try_from(-self.tokens).unwrap_or(0);
        Duration::from_micros(debt.saturating_mul(1_000_000) / RATE.unsigned_abs())
    }
}

// === impl Tail ===

impl Tail {
    fn push(&mut self, lines: &[u8]) {
        let end = lines.get(lines.len().saturating_sub(limits::LOG_TAIL_BYTES)..).unwrap_or_default();
        self.bytes.extend(end);
        if !lines.ends_with(b"\n") {
            self.bytes.push_back(b'\n');
        }
        let excess = self.bytes.len().saturating_sub(limits::LOG_TAIL_BYTES);
        self.bytes.drain(..excess);
    }
}
