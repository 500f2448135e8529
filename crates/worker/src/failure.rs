//! What goes wrong in an instance, in Lambda's words.

use bytes::Bytes;
use hearth_sandbox::{Exit, SpawnError};
use hearth_types::RequestId;
use std::io;
use std::time::Duration;

/// Why an init phase or an invocation failed through no answer of the function's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Failure {
    /// The runtime posted to `init/error`: its document and type.
    InitError { kind: String, document: Bytes },
    /// The runtime posted to `restore/error`: its document and type.
    RestoreError { kind: String, document: Bytes },
    /// The runtime's process ended.
    RuntimeExited(Exit),
    /// An external extension's process ended, or it said that it failed.
    ExtensionFailed { kind: String, reason: String },
    /// The runtime could not be started.
    Entrypoint(String),
    /// No answer in time.
    TimedOut(Duration),
    /// More was answered than these bytes.
    TooLarge(usize),
    /// The runtime broke off a streamed answer.
    Truncated,
}

// === impl Failure ===

impl Failure {
    /// Lambda's name for it.
    pub(crate) fn kind(&self) -> &str {
        match self {
            Self::InitError { kind, .. }
            | Self::RestoreError { kind, .. }
            | Self::ExtensionFailed { kind, .. } => kind,
            Self::RuntimeExited(_) => "Runtime.ExitError",
            Self::Entrypoint(_) => "Runtime.InvalidEntrypoint",
            Self::TimedOut(_) => "Sandbox.Timedout",
            Self::TooLarge(_) => "Function.ResponseSizeTooLarge",
            Self::Truncated => "Runtime.TruncatedResponse",
        }
    }

    /// `timeout`, or `error` and its type.
    pub(crate) fn status(&self) -> (&str, Option<&str>) {
        match self {
            Self::TimedOut(_) => ("timeout", None),
            Self::InitError { .. }
            | Self::RestoreError { .. }
            | Self::RuntimeExited(_)
            | Self::ExtensionFailed { .. }
            | Self::Entrypoint(_)
            | Self::Truncated
            | Self::TooLarge(_) => ("error", Some(self.kind())),
        }
    }

    /// What Lambda says of it, after `RequestId: ... Error: `.
    pub(crate) fn reason(&self) -> String {
        match self {
            Self::InitError { .. } => "Runtime failed to initialize".to_owned(),
            Self::RestoreError { .. } => "The afterRestore() runtime hook encountered an error".to_owned(),
            Self::RuntimeExited(exit) => exit_reason("Runtime", *exit),
            Self::ExtensionFailed { reason, .. } | Self::Entrypoint(reason) => reason.clone(),
            Self::TimedOut(after) => format!("Task timed out after {:.2} seconds", after.as_secs_f64()),
            Self::TooLarge(most) => too_large_text(*most),
            Self::Truncated => "Runtime broke off its response".to_owned(),
        }
    }

    /// The error document for the caller.
    pub(crate) fn document(&self, request: RequestId) -> Bytes {
        match self {
            Self::InitError { document, .. } | Self::RestoreError { document, .. }
                if !document.is_empty() =>
            {
                document.clone()
            }
            Self::TooLarge(most) => document(self.kind(), &too_large_text(*most)),
            Self::InitError { .. }
            | Self::RestoreError { .. }
            | Self::RuntimeExited(_)
            | Self::ExtensionFailed { .. }
            | Self::Entrypoint(_)
            | Self::Truncated
            | Self::TimedOut(_) => {
                document(self.kind(), &format!("RequestId: {request} Error: {}", self.reason()))
            }
        }
    }
}

/// An error document.
pub(crate) fn document(kind: &str, message: &str) -> Bytes {
    serde_json::json!({ "errorType": kind, "errorMessage": message }).to_string().into()
}

fn too_large_text(most: usize) -> String {
    format!("Response payload size exceeded maximum allowed payload size ({most} bytes).")
}

/// What Lambda says of a program that could not be started.
pub(crate) fn entrypoint_reason(error: &SpawnError, searched: &[&str]) -> String {
    match error {
        SpawnError::Exec { source, .. } if source.kind() == io::ErrorKind::NotFound => {
            format!("Couldn't find valid bootstrap(s): [{}]", searched.join(" "))
        }
        SpawnError::Exec { program, source } => {
            let reason = match rustix::io::Errno::from_io_error(source) {
                Some(rustix::io::Errno::ACCESS | rustix::io::Errno::PERM) => "permission denied".to_owned(),
                Some(rustix::io::Errno::NOEXEC) => "exec format error".to_owned(),
                Some(rustix::io::Errno::TOOBIG) => "argument list too long".to_owned(),
                _ => source.to_string(),
            };
            format!("fork/exec {program}: {reason}")
        }
        SpawnError::Gone => "the sandbox is gone".to_owned(),
    }
}

/// What Lambda says of a process that ended.
pub(crate) fn exit_reason(who: &str, exit: Exit) -> String {
    match exit {
        Exit::Status(0) => format!("{who} exited without providing a reason"),
        Exit::Status(status) => format!("{who} exited with error: exit status {status}"),
        Exit::Signal(number) => format!("{who} exited with error: signal: {}", signal_name(number)),
        Exit::SandboxGone => format!("{who} exited with error: signal: killed"),
    }
}

/// Signals as Go's runtime, and so Lambda, writes them.
fn signal_name(number: i32) -> String {
    let name = match number {
        1 => "hangup",
        2 => "interrupt",
        3 => "quit",
        4 => "illegal instruction",
        5 => "trace/breakpoint trap",
        6 => "aborted",
        7 => "bus error",
        8 => "floating point exception",
        9 => "killed",
        10 => "user defined signal 1",
        11 => "segmentation fault",
        12 => "user defined signal 2",
        13 => "broken pipe",
        14 => "alarm clock",
        15 => "terminated",
        other => return format!("signal {other}"),
    };
    name.to_owned()
}
