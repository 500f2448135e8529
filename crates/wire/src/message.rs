//! The messages, and how they are put into bytes.

use serde::{Deserialize, Serialize};

use crate::StreamId;

/// Version of all that this crate defines. A worker uses no snapshot of another.
pub const PROTOCOL: u32 = 4;

/// Largest message, bytes: an environment of 4 KiB, an argv, and room.
pub const MAX_MESSAGE_BYTES: usize = u16::MAX as usize;

/// What a stream is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Purpose {
    /// From the agent: a process connected to the Runtime API's address.
    RuntimeApi,
    /// From the agent: what the process of this number writes.
    Output(u64),
    /// From the worker: to this TCP port of the function.
    Port(u16),
}

/// A disk of the machine and where it belongs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Disk {
    /// A read-only image (erofs); each of `targets` is mounted over the directory of the same path in the root.
    Code {
        /// Name of the device, `vdb`.
        device: String,
        /// Absolute paths.
        targets: Vec<String>,
    },
    /// A writable one (ext4), at `/tmp`.
    Scratch {
        /// Name of the device.
        device: String,
    },
    /// A read-only image (erofs) that is the root of the function's processes, instead of the machine's own.
    Root {
        /// Name of the device.
        device: String,
        /// A writable one (ext4): for `/tmp`, and for what is written over the root.
        scratch: String,
        /// Whether anything else than `/tmp` can be written.
        writable: bool,
    },
}

/// Who runs the function's processes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct User {
    /// Its number.
    pub uid: u32,
    /// Its first group.
    pub gid: u32,
    /// Further groups.
    pub groups: Vec<u32>,
}

/// What the function's processes may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// Memory, bytes.
    pub memory_bytes: u64,
    /// Processes and threads.
    pub processes: u32,
    /// Open files per process.
    pub open_files: u32,
}

/// What a machine's network device is set to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Network {
    /// Its own address.
    pub address: [u8; 4],
    /// Whom it sends everything to.
    pub gateway: [u8; 4],
    /// The leading bits that the two have in common.
    pub prefix: u8,
    /// `/etc/resolv.conf`.
    pub resolv_conf: String,
}

/// What the function's processes use and have used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// Memory now, bytes.
    pub memory_bytes: u64,
    /// Most memory ever, bytes.
    pub memory_peak_bytes: u64,
    /// Processes that the kernel killed for want of memory.
    pub oom_kills: u64,
    /// CPU time, microseconds.
    pub cpu_us: u64,
}

/// From the worker.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum HostMessage {
    /// The first of a conversation after a snapshot: this is now, and here are random bytes that no other machine has.
    Awake {
        /// Nanoseconds since the Unix epoch.
        wall_clock_ns: u64,
        /// For the kernel's random numbers.
        entropy: [u8; 32],
        /// Where this machine is, if it has a network device.
        network: Option<Network>,
    },
    /// Become an instance: once in a machine's life.
    Configure {
        /// Host name.
        hostname: String,
        /// Disks besides the root.
        disks: Vec<Disk>,
        /// Limits.
        limits: Limits,
        /// Who runs its programs, if not the ordinary user.
        user: Option<User>,
    },
    /// Start a program as the function's user.
    Spawn {
        /// The worker's name for it.
        number: u64,
        /// Executable and arguments.
        argv: Vec<String>,
        /// `NAME=VALUE`.
        environment: Vec<String>,
        /// Where it starts.
        directory: String,
    },
    /// Send SIGTERM to every process of the function.
    Terminate,
    /// Fall silent: a snapshot is taken.
    Quiesce,
}

/// From the agent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum GuestMessage {
    /// The first after boot.
    Hello {
        /// [`PROTOCOL`].
        protocol: u32,
    },
    /// The first after a snapshot: what runs.
    Resumed {
        /// The worker's names of the processes that run.
        processes: Vec<u64>,
    },
    /// It is an instance.
    Configured,
    /// A step failed; the agent ends.
    Failed {
        /// Which, as an infinitive.
        step: String,
        /// What the kernel said.
        errno: i32,
    },
    /// A program runs.
    Spawned {
        /// Which.
        number: u64,
    },
    /// A program could not be executed.
    SpawnFailed {
        /// Which.
        number: u64,
        /// What the kernel said.
        errno: i32,
    },
    /// A connection that was asked for came about; one that did not is reset.
    Connected {
        /// Which stream's.
        stream: StreamId,
    },
    /// A process ended. What it wrote has been sent.
    Exited {
        /// Which.
        number: u64,
        /// Exit status, or signal.
        status: i32,
        /// Whether a signal ended it.
        signal: bool,
    },
    /// What the processes use, before anything that was caused by it.
    Usage(Usage),
    /// The last of a conversation: nothing more comes until [`HostMessage::Awake`].
    Quiesced,
}

/// Bytes that are no message.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("bytes that are no message: {0}")]
pub struct DecodeError(postcard::Error);

/// A message or purpose as bytes. One that is too long for a frame comes out longer than [`MAX_MESSAGE_BYTES`], or empty.
pub fn encode<T: Serialize>(message: &T) -> Vec<u8> {
    // Writing to memory cannot fail, and these types hold nothing that postcard cannot write.
    postcard::to_stdvec(message).unwrap_or_default()
}

/// The message that all of `bytes` is.
///
/// # Errors
/// When they are none, or more than one.
pub fn decode<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<T, DecodeError> {
    match postcard::take_from_bytes(bytes) {
        Ok((message, [])) => Ok(message),
        Ok(_) => Err(DecodeError(postcard::Error::DeserializeBadEncoding)),
        Err(error) => Err(DecodeError(error)),
    }
}
