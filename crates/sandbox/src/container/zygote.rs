//! The zygote: a small single-threaded process that sandboxes are cloned from.
//!
//! Cloning it is quick, since it maps little, and safe, since no other thread can hold a lock at that moment. It dies with
//! the worker, and every sandbox dies with it.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::process::ExitCode;

use super::channel;
use super::protocol::{Clone, Cloned, Request};
use super::setup::Handed;
use super::{init, seccomp, sys};

/// The hidden first argument that makes the program a zygote.
pub const ZYGOTE_ARGUMENT: &str = "sandbox-zygote";

/// The descriptor that the zygote speaks to the worker on.
pub(super) const CONTROL_FD: i32 = 0;

/// The zygote's whole life; the program calls it first thing when it is told [`ZYGOTE_ARGUMENT`].
#[must_use]
pub fn zygote_main() -> ExitCode {
    match serve() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("hearth: the zygote failed: {error}");
            ExitCode::FAILURE
        }
    }
}

fn serve() -> io::Result<()> {
    let control = sys::adopt_fd(CONTROL_FD)?;
    sys::die_with_parent()?;
    sys::close_fds_from(3)?;
    sys::ignore_terminal_signals()?;
    sys::reap_children_automatically()?;
    rustix::process::setsid().ok();
    let filter = seccomp::compile().map_err(io::Error::other)?;
    // The worker waits for this: before it, a clone could outlive a worker that died at once.
    while let Some((request, fds)) = channel::receive::<Request>(&control)? {
        let made = match request {
            Request::Sandbox(order) => clone(&order, fds, &control, &filter),
            Request::UserNamespace => user_namespace(),
        };
        match made {
            Ok((pid, pidfd)) => channel::send(&control, &Cloned::Pid(pid), &[pidfd.as_fd()])?,
            Err(error) => {
                channel::send(&control, &Cloned::Failed(error.raw_os_error().unwrap_or(libc::EINVAL)), &[])?;
            }
        }
    }
    Ok(())
}

fn clone(
    order: &Clone,
    fds: Vec<OwnedFd>,
    control: impl AsFd,
    filter: &seccomp::Program,
) -> io::Result<(i32, OwnedFd)> {
    let mut fds = fds.into_iter();
    let worker = fds.next().ok_or(io::ErrorKind::InvalidData)?;
    match sys::clone_sandbox(order.rootless)? {
        sys::Cloned::Parent { pid, pidfd } => Ok((pid, pidfd)),
        sys::Cloned::Child => {
            let _unused: BorrowedFd<'_> = control.as_fd();
            sys::close_fd(CONTROL_FD);
            init::run(order, &worker, Handed::of(order, fds), filter)
        }
    }
}

/// A process that waits in a user namespace until the worker has what it wants of it, and kills it.
fn user_namespace() -> io::Result<(i32, OwnedFd)> {
    match sys::clone_user_namespace()? {
        sys::Cloned::Parent { pid, pidfd } => Ok((pid, pidfd)),
        sys::Cloned::Child => {
            let bound = sys::die_with_parent();
            sys::close_fd(CONTROL_FD);
            while bound.is_ok() {
                rustix::event::pause();
            }
            std::process::exit(1)
        }
    }
}
