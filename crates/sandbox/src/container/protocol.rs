//! What worker, zygote and a sandbox's PID 1 say to each other over local sockets, one message a datagram.

use serde::{Deserialize, Serialize};

use crate::driver::ImageUser;

/// Largest message: an environment of 4 KiB, an argv, and room.
pub(super) const MAX_MESSAGE_BYTES: usize = 64 * 1024;

/// From worker to zygote.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) enum Request {
    /// Make a sandbox.
    Sandbox(Box<Clone>),
    /// Make a process that does nothing, in a user namespace of its own.
    UserNamespace,
}

/// Make a sandbox. Comes with its control socket, and what it is handed: the mounts of the disks that it has, for `/tmp`, then for
/// the root; then the user namespace that says whose its image's files are.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Clone {
    /// Directory that becomes the root.
    pub(super) root: String,
    /// The image that is mounted there, if the root is one.
    pub(super) image: Option<ImageLayers>,
    /// Directories to bind, read-only: from where, to where below the root.
    pub(super) binds: Vec<(String, String)>,
    /// Host name inside.
    pub(super) hostname: String,
    /// Open files per process.
    pub(super) open_files: u64,
    /// Size of `/tmp` in bytes if it is to be memory, because there is no scratch disk.
    pub(super) memory_scratch_bytes: Option<u64>,
    /// Whether to enter a user namespace before all else, because this process is not root.
    pub(super) rootless: bool,
}

/// An image's root, as its sandbox mounts it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct ImageLayers {
    /// Directories, the uppermost first.
    pub(super) layers: Vec<String>,
    /// Where writes go.
    pub(super) upper: Upper,
    /// Whether who mounts them is not the machine's root; then layers say what they take away in names that anybody may set.
    pub(super) unprivileged: bool,
    /// Whether a user namespace comes with the order, by which the owners of files are mapped.
    pub(super) owned: bool,
    /// Whom the root directory belongs to if it can be written to: the sandbox's root user, as numbered on the machine.
    pub(super) root_id: u32,
    /// Who runs its programs, if not the ordinary user.
    pub(super) user: Option<ImageUser>,
}

/// Where writes to an image's root go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Upper {
    /// Nowhere: it is read-only.
    None,
    /// To a disk, whose mount comes with the order after that of `/tmp`.
    Disk,
    /// To memory, so many bytes.
    Memory(u64),
}

/// From zygote to worker, for each [`Request`]; with a pidfd if it worked.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) enum Cloned {
    /// The new process.
    Pid(i32),
    /// What the kernel said.
    Failed(i32),
}

/// From worker to PID 1.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) enum Order {
    /// You are in your cgroup: enter the cgroup and user namespaces.
    Attached,
    /// Your user namespace has its map.
    Mapped,
    /// Start a program. Comes with the pipe for its output, and with its input if that is not `/dev/null`.
    Spawn { number: u64, argv: Vec<String>, environment: Vec<String>, directory: String },
    /// Send SIGTERM to everything.
    Terminate,
    /// Make a socket, for a connection to what listens inside.
    Socket,
}

/// From PID 1 to worker.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Report {
    /// In a new user namespace that needs its map.
    NeedsMap,
    /// Set up. Comes with the Runtime API's listening socket.
    Ready,
    /// A step of the set-up failed.
    Failed { step: String, errno: i32 },
    /// Comes with a socket.
    Socket,
    /// There is no socket.
    NoSocket { errno: i32 },
    /// The program runs.
    Spawned { number: u64 },
    /// The program could not be executed.
    SpawnFailed { number: u64, errno: i32 },
    /// The program ended.
    Exited { number: u64, status: i32, signal: bool },
}
