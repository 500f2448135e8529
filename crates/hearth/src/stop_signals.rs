//! What asks a server to stop. Listened for before anything is made, so that a stop at any moment leaves nothing.

use std::fs;

use anyhow::Context;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// Ctrl-C, the polite kill, and the end of the terminal.
#[derive(Debug)]
pub(crate) struct StopSignals {
    interrupt: Signal,
    terminate: Signal,
    /// Not where it means something else, or nothing (`nohup`).
    hangup: Option<Signal>,
}

impl StopSignals {
    /// From here on none of them ends the process by itself. `at_hangup`: whether the end of the terminal is one of them.
    pub(crate) fn new(at_hangup: bool) -> anyhow::Result<Self> {
        let listen = |kind| signal(kind).context("cannot listen for signals");
        Ok(Self {
            interrupt: listen(SignalKind::interrupt())?,
            terminate: listen(SignalKind::terminate())?,
            hangup: (at_hangup && !ignores_hangup()).then(|| listen(SignalKind::hangup())).transpose()?,
        })
    }

    pub(crate) async fn next(&mut self) {
        let hangup = async {
            match &mut self.hangup {
                Some(hangup) => hangup.recv().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
            _ = hangup => {}
        }
    }
}

/// Whether who started this process wants it to outlive its terminal. Source: proc_pid_status(5), `SigIgn`.
fn ignores_hangup() -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).is_some_and(|mask| mask & 1 != 0)
}
