//! What a worker and the agent in a micro-VM say to each other: many streams and messages over one stream of bytes.
//!
//! Shared by both ends, and without I/O: bytes go in, calls of a [`Sink`] and bytes to send come out. The worker's end
//! takes everything from the agent as hostile, the agent's end takes the worker strictly; both are this same code.
//!
//! ```text
//! frame:    kind 1 | zero 1 | length 2, little endian | stream 4, little endian | payload of `length` bytes
//! stream 0  messages: `postcard` of `HostMessage` or `GuestMessage`, one a frame
//! odd       opened by the worker      even   opened by the agent      each greater than the one before
//! ```
//!
//! **Order.** Frames are handed on in the order in which they were queued, over all streams. So what a process wrote before it
//! answered arrives before the answer, without anybody waiting for it.
//!
//! **Bounds.** What a peer may send on a stream is what it was given credit for. A stream begins with little and gets more as
//! its reader proves that it reads, out of a budget that all streams share; so what a peer can make this side hold is bounded
//! by constants, whatever it sends.
//!
//! **A conversation** begins with the agent's [`GuestMessage::Hello`] after boot, or the worker's [`HostMessage::Awake`] after a
//! snapshot, and ends with [`GuestMessage::Quiesced`] or the machine. Streams end with it; the agent opens those again whose
//! local ends are still there.

mod frame;
mod message;
mod mux;

pub use message::{
    DecodeError, Disk, GuestMessage, HostMessage, Limits, MAX_MESSAGE_BYTES, Network, PROTOCOL, Purpose,
    Usage, User, decode, encode,
};
/// The vsock port that the worker waits for an agent at, where they speak over vsock.
pub const VSOCK_PORT: u32 = 1024;
/// The word on the kernel's command line that says so.
pub const VSOCK_WORD: &str = "hearth.link=vsock";

pub use mux::{MAX_STREAMS, Mux, Refused, Side, Sink, StreamId, Violation};
