//! A sandbox's PID 1: sets the sandbox up, then starts programs, reaps them and reports.
//!
//! It is the zygote's clone, not a program of its own. The functions it starts run as another user, so they can neither trace nor
//! end it.

use std::collections::HashMap;
use std::ffi::CString;
use std::io::{self, Read, Write};
use std::net::TcpListener;
use std::os::fd::{AsFd, OwnedFd};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::net::{AddressFamily, SocketFlags, SocketType};

use super::protocol::{Clone, Order, Report};
use super::setup::{self, step};
use super::{channel, seccomp, sys};

/// The user and group that functions run as, inside: Lambda's `sbx_user1051`.
pub(super) const FUNCTION_UID: u32 = 993;
/// See [`FUNCTION_UID`].
pub(super) const FUNCTION_GID: u32 = 990;
/// What PID 1 keeps in its user namespace: to end processes (KILL), to become the
/// function's user (SETGID, SETUID) and to empty its bounding set (SETPCAP).
const INIT_CAPABILITIES: [u8; 4] = [5, 6, 7, 8];

/// What the root user of an image keeps there: to give files away and pass over their modes (CHOWN, DAC_OVERRIDE, FOWNER, FSETID),
/// to end what other users run (KILL) and to become them (SETGID, SETUID). It is what servers that begin as root need. SETPCAP is not among
/// them: so nobody has all that PID 1 has, and PID 1 cannot be traced.
const IMAGE_CAPABILITIES: [u8; 7] = [0, 1, 3, 4, 5, 6, 7];
/// From which port on anybody may listen in a network namespace.
const FIRST_OPEN_PORT: &str = "/proc/sys/net/ipv4/ip_unprivileged_port_start";

/// When the machine itself has no memory left, functions go before the worker and all else that is on it.
const OOM_SCORE: &str = "900";

/// The whole life of a sandbox's first process.
pub(super) fn run(order: &Clone, worker: &OwnedFd, handed: setup::Handed, filter: &seccomp::Program) -> ! {
    let result = set_up(order, worker, handed).and_then(|()| {
        let mut init = Init { order, worker, filter, running: HashMap::new() };
        init.serve().map_err(|error| setup::Failed { step: "serve the worker".into(), error })
    });
    if let Err(failed) = result {
        let errno = failed.error.raw_os_error().unwrap_or(libc::EIO);
        let _ = channel::send(worker, &Report::Failed { step: failed.step, errno }, &[]);
    }
    std::process::exit(0)
}

fn set_up(order: &Clone, worker: &OwnedFd, handed: setup::Handed) -> Result<(), setup::Failed> {
    step("bind the sandbox's life to the zygote's", sys::die_with_parent())?;
    step("reset signals", sys::default_signals())?;
    let _ = rustix::process::setsid();
    // While the host's /proc is seen. From one with CAP_SYS_RESOURCE it is also the least that a function can go back to.
    step("be the first that the kernel ends", std::fs::write("/proc/self/oom_score_adj", OOM_SCORE))?;
    if order.rootless {
        step("ask for a user map", channel::send(worker, &Report::NeedsMap, &[]))?;
        expect(worker, |answer| matches!(answer, Order::Mapped))?;
        step("become root inside", sys::become_user(0, 0, None))?;
    }
    open_ports();
    setup::file_system(order, handed)?;
    step("bring the loopback interface up", sys::loopback_up())?;
    let listener =
        step("listen for the Runtime API", TcpListener::bind(("127.0.0.1", setup::RUNTIME_API_PORT)))?;
    expect(worker, |answer| matches!(answer, Order::Attached))?;
    step("enter a cgroup namespace", setup::enter_cgroup_namespace())?;
    if !order.rootless {
        step("enter a user namespace", setup::enter_user_namespace())?;
        step("ask for a user map", channel::send(worker, &Report::NeedsMap, &[]))?;
        expect(worker, |answer| matches!(answer, Order::Mapped))?;
        step("become root inside", sys::become_user(0, 0, Some(&[])))?;
    }
    let capabilities = [&INIT_CAPABILITIES[..], capabilities(order)].concat();
    step("bound capabilities", sys::limit_bounding_set(&capabilities))?;
    step("give up capabilities", sys::set_capabilities(&capabilities))?;
    // The kernel forgets it whenever a process changes what it may do.
    step("bind the sandbox's life to the zygote's", sys::die_with_parent())?;
    step("report", channel::send(worker, &Report::Ready, &[listener.as_fd()]))
}

/// What programs of a sandbox may do in their user namespace, which owns none of the others.
fn capabilities(order: &Clone) -> &'static [u8] {
    match order.image.as_ref().and_then(|image| image.user.as_ref()) {
        Some(user) if user.uid == 0 && !order.rootless => &IMAGE_CAPABILITIES,
        _ => &[],
    }
}

/// Lets anybody listen on any port of this sandbox's network, as servers in images do. Where that is not for us to say, as in some containers, the lowest
/// stay closed.
fn open_ports() {
    let _ = std::fs::write(FIRST_OPEN_PORT, "0");
}

fn expect(worker: &OwnedFd, wanted: impl Fn(&Order) -> bool) -> Result<(), setup::Failed> {
    match step("hear from the worker", channel::receive::<Order>(worker))? {
        Some((order, _)) if wanted(&order) => Ok(()),
        _ => step("hear from the worker", Err(io::Error::from(io::ErrorKind::InvalidData))),
    }
}

/// A program's standard streams.
struct Streams {
    /// If it is not `/dev/null`.
    input: Option<OwnedFd>,
    /// Also what it has for errors.
    output: OwnedFd,
}

struct Init<'a> {
    order: &'a Clone,
    worker: &'a OwnedFd,
    filter: &'a seccomp::Program,
    /// What runs: pid to the worker's number.
    running: HashMap<i32, u64>,
}

impl Init<'_> {
    fn serve(&mut self) -> io::Result<()> {
        let children = sys::child_signals()?;
        loop {
            let mut waiting =
                [PollFd::new(self.worker, PollFlags::IN), PollFd::new(&children, PollFlags::IN)];
            match poll(&mut waiting, None) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
            let (worker, child) = (!waiting[0].revents().is_empty(), !waiting[1].revents().is_empty());
            if child {
                let mut discard = [0; 1024];
                let _ = rustix::io::read(&children, &mut discard);
                self.reap()?;
            }
            if worker {
                let Some((order, fds)) = channel::receive(self.worker)? else { return Ok(()) };
                self.obey(order, fds)?;
            }
        }
    }

    fn reap(&mut self) -> io::Result<()> {
        while let Some((pid, status, signal)) = sys::reap() {
            if let Some(number) = self.running.remove(&pid) {
                channel::send(self.worker, &Report::Exited { number, status, signal }, &[])?;
            }
        }
        Ok(())
    }

    fn obey(&mut self, order: Order, fds: Vec<OwnedFd>) -> io::Result<()> {
        match order {
            Order::Spawn { number, argv, environment, directory } => {
                let mut fds = fds.into_iter();
                let output = fds.next().ok_or(io::ErrorKind::InvalidData)?;
                let streams = Streams { input: fds.next(), output };
                let report = match self.spawn(&argv, &environment, &directory, &streams) {
                    Ok(pid) => {
                        self.running.insert(pid, number);
                        Report::Spawned { number }
                    }
                    Err(error) => {
                        Report::SpawnFailed { number, errno: error.raw_os_error().unwrap_or(libc::EINVAL) }
                    }
                };
                channel::send(self.worker, &report, &[])
            }
            Order::Terminate => {
                sys::signal_all(libc::SIGTERM);
                Ok(())
            }
            Order::Socket => {
                let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
                match rustix::net::socket_with(AddressFamily::INET, SocketType::STREAM, flags, None) {
                    Ok(socket) => channel::send(self.worker, &Report::Socket, &[socket.as_fd()]),
                    Err(error) => {
                        channel::send(self.worker, &Report::NoSocket { errno: error.raw_os_error() }, &[])
                    }
                }
            }
            Order::Attached | Order::Mapped => Err(io::ErrorKind::InvalidData.into()),
        }
    }

    fn spawn(
        &self,
        argv: &[String],
        environment: &[String],
        directory: &str,
        streams: &Streams,
    ) -> io::Result<i32> {
        let c_strings = |strings: &[String]| {
            strings.iter().map(|s| CString::new(s.as_str())).collect::<Result<Vec<_>, _>>()
        };
        let (argv, environment) = (c_strings(argv)?, c_strings(environment)?);
        let (mut failed, tell) = io::pipe()?;
        let pid = sys::fork()?;
        if pid == 0 {
            let error = self.become_program(&argv, &environment, directory, streams);
            let errno = error.raw_os_error().unwrap_or(libc::EINVAL);
            let mut tell = tell;
            let _ = tell.write_all(&errno.to_ne_bytes());
            std::process::exit(127);
        }
        drop(tell);
        let mut errno = [0; 4];
        match failed.read_exact(&mut errno) {
            Ok(()) => Err(io::Error::from_raw_os_error(i32::from_ne_bytes(errno))),
            Err(_closed_by_exec) => Ok(pid),
        }
    }

    fn become_program(
        &self,
        argv: &[CString],
        environment: &[CString],
        directory: &str,
        streams: &Streams,
    ) -> io::Error {
        let prepare = || -> io::Result<()> {
            let _ = rustix::process::setsid();
            match &streams.input {
                Some(input) => sys::duplicate_to(input.as_fd(), 0)?,
                None => sys::duplicate_to(std::fs::File::open("/dev/null")?.as_fd(), 0)?,
            }
            sys::duplicate_to(streams.output.as_fd(), 1)?;
            sys::duplicate_to(streams.output.as_fd(), 2)?;
            sys::set_limit(libc::RLIMIT_NOFILE, self.order.open_files)?;
            sys::set_limit(libc::RLIMIT_CORE, 0)?;
            let capabilities = capabilities(self.order);
            sys::limit_bounding_set(capabilities)?;
            if !self.order.rootless {
                let user = self.order.image.as_ref().and_then(|image| image.user.as_ref());
                let (uid, gid, groups) = user
                    .map_or((FUNCTION_UID, FUNCTION_GID, &[][..]), |user| (user.uid, user.gid, &user.groups));
                sys::become_user(uid, gid, Some(groups))?;
            }
            sys::set_capabilities(capabilities)?;
            std::env::set_current_dir(directory)?;
            sys::default_signals()?;
            sys::no_new_privileges()?;
            self.filter.apply().map_err(io::Error::other)
        };
        match prepare() {
            Ok(()) => exec_found(argv, environment),
            Err(error) => error,
        }
    }
}

/// Executes a program, looked for on its own PATH if its name is without a slash, as images have it.
fn exec_found(argv: &[CString], environment: &[CString]) -> io::Error {
    let Some((program, arguments)) = argv.split_first() else { return io::ErrorKind::InvalidInput.into() };
    if program.as_bytes().contains(&b'/') {
        return sys::exec(argv, environment);
    }
    let path = environment.iter().find_map(|variable| variable.as_bytes().strip_prefix(b"PATH="));
    let mut worst = io::Error::from_raw_os_error(libc::ENOENT);
    for directory in path.unwrap_or_default().split(|byte| *byte == b':').filter(|part| !part.is_empty()) {
        let Ok(found) = CString::new([directory, b"/", program.as_bytes()].concat()) else { continue };
        let mut all = vec![found];
        all.extend_from_slice(arguments);
        let error = sys::exec(&all, environment);
        match error.raw_os_error() {
            Some(libc::ENOENT | libc::ENOTDIR) => {}
            // Another directory may have one that can be executed.
            Some(libc::EACCES) => worst = error,
            _ => return error,
        }
    }
    worst
}
