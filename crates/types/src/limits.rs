//! Numbers that Lambda promises or enforces, as its users know them.
//!
//! Source: AWS Lambda quotas (docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html) and the
//! `lambda/2015-03-31` service model.

use std::time::Duration;

/// Largest payload of a synchronous invocation, bytes.
pub const SYNC_PAYLOAD_BYTES: usize = 6 * 1024 * 1024;
/// Largest payload of an asynchronous invocation, bytes.
pub const ASYNC_PAYLOAD_BYTES: usize = 1024 * 1024;
/// Times an event is run again after it failed.
pub const RETRY_ATTEMPTS: Bounds<u32> = Bounds { min: 0, max: 2, default: 2 };
/// Age at which an event is given up, seconds.
pub const EVENT_AGE_SECONDS: Bounds<u32> = Bounds { min: 60, max: 21_600, default: 21_600 };
/// Largest answer that a runtime may post, bytes.
pub const RESPONSE_BYTES: usize = 6_291_556;
/// Largest answer that a runtime may stream to a caller who takes a stream, bytes.
pub const STREAMED_RESPONSE_BYTES: usize = 200 * 1024 * 1024;
/// Largest zip archive in a CreateFunction or UpdateFunctionCode request, bytes before base64.
pub const ZIP_BYTES: usize = 50 * 1024 * 1024;
/// Largest unpacked size of a function's code, bytes.
pub const UNZIPPED_BYTES: u64 = 262_144_000;
/// Smallest, largest and default memory of a function, MiB.
pub const MEMORY_MB: Bounds<u32> = Bounds { min: 128, max: 10_240, default: 128 };
/// Smallest, largest and default timeout of a function, seconds.
pub const TIMEOUT_SECONDS: Bounds<u32> = Bounds { min: 1, max: 900, default: 3 };
/// Smallest, largest and default size of `/tmp`, MiB.
pub const EPHEMERAL_MB: Bounds<u32> = Bounds { min: 512, max: 10_240, default: 512 };
/// Largest total of a function's environment variables, bytes.
pub const ENVIRONMENT_BYTES: usize = 4096;
/// Memory at which a function has one whole vCPU, MiB.
pub const MEMORY_MB_PER_VCPU: u32 = 1_769;
/// Time for the init phase of an instance.
pub const INIT_PHASE: Duration = Duration::from_secs(10);
/// Time for the init phase of an instance that a snapshot is taken of; the function's own timeout, if that is longer.
pub const SNAPSHOT_INIT: Duration = Duration::from_secs(130);
/// Time for an instance to be restored from a snapshot, hooks included.
pub const RESTORE_PHASE: Duration = Duration::from_secs(10);
/// Requests in flight at once that an account may have unless configured.
pub const ACCOUNT_CONCURRENCY: u32 = 1_000;
/// Part of an account's concurrency that cannot be reserved for single functions.
pub const UNRESERVED_CONCURRENCY: u32 = 100;
/// Tenants that a function may have instances of at once, for each thousand requests that it may have in flight. Lambda has
/// so many execution environments, active or idle, of all of a function's tenants together.
pub const TENANTS_PER_THOUSAND: usize = 2_500;
/// Processes and threads in an instance.
pub const PROCESSES: u32 = 1_024;
/// Open files in a process of an instance.
pub const OPEN_FILES: u32 = 1_024;
/// The end of a log that `LogType=Tail` returns, bytes.
pub const LOG_TAIL_BYTES: usize = 4 * 1024;
/// Time an instance may sit idle before it ends, unless the tag `hearth:idle-timeout` says otherwise.
pub const IDLE_TIMEOUT: Duration = Duration::from_secs(300);

/// The allowed range of a number and what it is when nobody says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds<T> {
    /// Smallest allowed.
    pub min: T,
    /// Largest allowed.
    pub max: T,
    /// Used when not given.
    pub default: T,
}
