//! The system calls that safe crates do not offer, or offer only as unsafe.
#![expect(
    unsafe_code,
    reason = "ioctls, vsock addresses, signal masks and the steps before exec have no safe form"
)]

use std::ffi::{CString, NulError};
use std::fs::File;
use std::io::{self, Write};
use std::net::Ipv4Addr;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use hearth_wire::User;

/// The user and group that functions run as: Lambda's `sbx_user1051`.
const FUNCTION_UID: u32 = 993;
/// See [`FUNCTION_UID`].
const FUNCTION_GID: u32 = 990;
/// What the root user of an image keeps, as in a container: CHOWN, DAC_OVERRIDE, FOWNER, FSETID, KILL, SETGID, SETUID.
const IMAGE_CAPABILITIES: [libc::c_ulong; 7] = [0, 1, 3, 4, 5, 6, 7];
/// `IFF_UP | IFF_RUNNING`, linux/if.h.
const UP_AND_RUNNING: libc::c_short = 0x41;
/// The only network device that machines can have.
const NETWORK_DEVICE: &[u8] = b"eth0";
/// linux/random.h.
const RNDADDENTROPY: libc::Ioctl = 0x4008_5203;
/// linux/random.h.
const RNDRESEEDCRNG: libc::Ioctl = 0x5207;
/// Capabilities that a kernel can know: they are kept as the bits of a `u64`.
const CAPABILITIES: libc::c_ulong = 64;
/// linux/fs.h.
const BLKFLSBUF: libc::Ioctl = 0x1261;

fn check(result: libc::c_long) -> io::Result<libc::c_long> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

fn adopt(fd: libc::c_long) -> OwnedFd {
    // SAFETY: callers pass a descriptor that the kernel has just made for them.
    unsafe { OwnedFd::from_raw_fd(RawFd::try_from(fd).unwrap_or(-1)) }
}

/// Makes the loopback interface work.
pub(crate) fn loopback_up() -> io::Result<()> {
    let mut request = request_for(b"lo");
    request.ifr_ifru.ifru_flags = UP_AND_RUNNING;
    tell_network(libc::SIOCSIFFLAGS, &request)
}

/// Gives the network device its address, in place of one that it had, and has it work.
pub(crate) fn set_address(address: Ipv4Addr, prefix: u8) -> io::Result<()> {
    let mask = u32::MAX.checked_shl(32_u32.saturating_sub(prefix.into())).unwrap_or(0);
    let mut request = request_for(NETWORK_DEVICE);
    request.ifr_ifru.ifru_addr = socket_address(address);
    tell_network(libc::SIOCSIFADDR, &request)?;
    request.ifr_ifru.ifru_netmask = socket_address(Ipv4Addr::from_bits(mask));
    tell_network(libc::SIOCSIFNETMASK, &request)?;
    request.ifr_ifru.ifru_flags = UP_AND_RUNNING;
    tell_network(libc::SIOCSIFFLAGS, &request)
}

/// Has all that is for nobody else be sent to `gateway`. Routes of an earlier address went with it.
pub(crate) fn set_way_out(gateway: Ipv4Addr) -> io::Result<()> {
    // SAFETY: all zero is a valid rtentry.
    let mut route: libc::rtentry = unsafe { std::mem::zeroed() };
    route.rt_dst = socket_address(Ipv4Addr::UNSPECIFIED);
    route.rt_genmask = socket_address(Ipv4Addr::UNSPECIFIED);
    route.rt_gateway = socket_address(gateway);
    route.rt_flags = libc::RTF_UP | libc::RTF_GATEWAY;
    tell_network(libc::SIOCADDRT, &route)
}

fn request_for(device: &[u8]) -> libc::ifreq {
    // SAFETY: all zero is a valid ifreq.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, byte) in request.ifr_name.iter_mut().zip(device) {
        *to = byte.cast_signed();
    }
    request
}

fn socket_address(address: Ipv4Addr) -> libc::sockaddr {
    let mut all = libc::sockaddr { sa_family: 0, sa_data: [0; 14] };
    all.sa_family = libc::sa_family_t::try_from(libc::AF_INET).unwrap_or(0);
    // A port comes first: it is none.
    for (to, byte) in all.sa_data.iter_mut().skip(2).zip(address.octets()) {
        *to = byte.cast_signed();
    }
    all
}

/// Asks the kernel for a change of networks; `request` is what goes with that number.
fn tell_network<T>(number: libc::c_ulong, request: &T) -> io::Result<()> {
    // SAFETY: makes a socket.
    let socket = adopt(check(
        unsafe { libc::socket(libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0) }.into(),
    )?);
    let number = libc::Ioctl::try_from(number).map_err(io::Error::other)?;
    // SAFETY: the request is of the type that the number is for, and outlives the call.
    check(unsafe { libc::ioctl(socket.as_raw_fd(), number, std::ptr::from_ref(request)) }.into())?;
    Ok(())
}

/// Credits random bytes to the kernel's generator and has all that it hands out depend on them at once.
pub(crate) fn reseed(entropy: &[u8; 32]) -> io::Result<()> {
    #[repr(C)]
    struct PoolInfo {
        bits: libc::c_int,
        bytes: libc::c_int,
        entropy: [u8; 32],
    }
    let device = File::options().write(true).open("/dev/urandom")?;
    let info = PoolInfo { bits: 256, bytes: 32, entropy: *entropy };
    // SAFETY: the structure is laid out as rand_pool_info with its 32 bytes, and outlives the call.
    check(unsafe { libc::ioctl(device.as_raw_fd(), RNDADDENTROPY, &raw const info) }.into())?;
    // SAFETY: takes no argument.
    check(unsafe { libc::ioctl(device.as_raw_fd(), RNDRESEEDCRNG) }.into())?;
    Ok(())
}

/// Forgets what the kernel has cached of a block device.
pub(crate) fn drop_device_cache(path: &Path) -> io::Result<()> {
    let device = File::open(path)?;
    // SAFETY: takes no argument.
    check(unsafe { libc::ioctl(device.as_raw_fd(), BLKFLSBUF, 0) }.into())?;
    Ok(())
}

/// A descriptor that becomes readable when a child ended.
pub(crate) fn child_signals() -> io::Result<OwnedFd> {
    // SAFETY: the set is initialised by sigemptyset before use; single-threaded.
    unsafe {
        let mut set = std::mem::zeroed();
        libc::sigemptyset(&raw mut set);
        libc::sigaddset(&raw mut set, libc::SIGCHLD);
        check(libc::sigprocmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut()).into())?;
        let flags = libc::SFD_CLOEXEC | libc::SFD_NONBLOCK;
        Ok(adopt(check(libc::signalfd(-1, &raw const set, flags).into())?))
    }
}

/// Sends SIGTERM to every process but this one.
pub(crate) fn terminate_all() {
    // SAFETY: sends a signal; -1 spares the first process.
    unsafe { libc::kill(-1, libc::SIGTERM) };
}

/// What a process becomes.
#[derive(Debug)]
pub(crate) struct Program {
    /// Where it may be: one place, unless its name is looked for along its own PATH.
    places: Vec<CString>,
    arguments: Vec<CString>,
    environment: Vec<CString>,
}

/// Where and as whom programs run.
#[derive(Clone, Debug, Default)]
pub(crate) struct Seat {
    /// A root of their own.
    pub(crate) root: Option<&'static str>,
    /// Who they are, if not the function's ordinary user.
    pub(crate) user: Option<User>,
}

/// What a program starts with.
#[derive(Debug)]
pub(crate) struct Place {
    /// Where its group's members are written.
    pub(crate) members: File,
    /// How many it may open.
    pub(crate) open_files: u64,
    pub(crate) directory: String,
}

impl Seat {
    /// User and group.
    pub(crate) fn ids(&self) -> (u32, u32) {
        self.user.as_ref().map_or((FUNCTION_UID, FUNCTION_GID), |user| (user.uid, user.gid))
    }

    fn groups(&self) -> &[u32] {
        self.user.as_ref().map_or(&[], |user| &user.groups)
    }

    /// What its programs may do besides what everybody may.
    fn capabilities(&self) -> &'static [libc::c_ulong] {
        if self.ids().0 == 0 { &IMAGE_CAPABILITIES } else { &[] }
    }
}

impl Program {
    /// By its path and arguments, and its variables as `name=value`. Text with a zero byte in it is refused.
    pub(crate) fn new(arguments: &[String], environment: &[String]) -> io::Result<Self> {
        let strings = |texts: &[String]| -> Result<Vec<_>, NulError> {
            texts.iter().map(|text| CString::new(text.as_str())).collect()
        };
        let name = arguments.first().map(String::as_str).unwrap_or_default();
        let places = if name.contains('/') {
            vec![name.to_owned()]
        } else {
            let path = environment.iter().find_map(|variable| variable.strip_prefix("PATH="));
            let directories = path.unwrap_or_default().split(':').filter(|directory| !directory.is_empty());
            directories.map(|directory| format!("{directory}/{name}")).collect()
        };
        Ok(Self {
            places: strings(&places)?,
            arguments: strings(arguments)?,
            environment: strings(environment)?,
        })
    }

    /// Makes this process that program. It comes back only where the kernel refuses, and does nothing else then: the standard
    /// library's way, `execvp`, hands a file that is no program to a shell.
    fn become_it(&self) -> io::Error {
        let pointers = |strings: &[CString]| -> Vec<_> {
            strings.iter().map(|string| string.as_ptr()).chain([std::ptr::null()]).collect()
        };
        let (argv, environment) = (pointers(&self.arguments), pointers(&self.environment));
        let mut worst = io::Error::from_raw_os_error(libc::ENOENT);
        for place in &self.places {
            // SAFETY: both lists end with null, and they and their strings outlive the call.
            unsafe { libc::execve(place.as_ptr(), argv.as_ptr(), environment.as_ptr()) };
            let error = io::Error::last_os_error();
            match error.raw_os_error() {
                // Another directory may have one that can be executed.
                Some(libc::ENOENT | libc::ENOTDIR | libc::EACCES) if self.places.len() > 1 => {
                    if error.raw_os_error() == Some(libc::EACCES) {
                        worst = error;
                    }
                }
                _ => return error,
            }
        }
        worst
    }
}

/// Takes every capability that is not to be kept out of the bounding set, so that no program ever gains it. Needs `CAP_SETPCAP`.
fn limit_bounding_set(keep: &[libc::c_ulong]) -> io::Result<()> {
    for capability in (0..CAPABILITIES).filter(|capability| !keep.contains(capability)) {
        // SAFETY: sets an attribute of this process.
        if let Err(error) = check(unsafe { libc::prctl(libc::PR_CAPBSET_DROP, capability, 0, 0, 0) }.into()) {
            // The first number that this kernel does not know ends the list.
            return if error.raw_os_error() == Some(libc::EINVAL) { Ok(()) } else { Err(error) };
        }
    }
    Ok(())
}

/// Has a command become a program of the function: in its group, as its user, with no way to gain a privilege. What the
/// command itself names is never executed.
pub(crate) fn on_spawn(command: &mut Command, program: Program, place: Place, seat: Seat) {
    let prepare = move || {
        (&place.members).write_all(b"0")?;
        if let Some(root) = seat.root {
            std::os::unix::fs::chroot(root)?;
            std::env::set_current_dir("/")?;
        }
        // While it is still root: an ordinary user may not. An image's root user gets no others either, as it executes its program.
        limit_bounding_set(seat.capabilities())?;
        let ((uid, gid), groups) = (seat.ids(), seat.groups());
        // SAFETY: system calls that change this process, which is about to become a program; the set is initialised.
        unsafe {
            libc::setsid();
            for (resource, value) in [(libc::RLIMIT_NOFILE, place.open_files), (libc::RLIMIT_CORE, 0)] {
                let limit = libc::rlimit { rlim_cur: value, rlim_max: value };
                check(libc::setrlimit(resource, &raw const limit).into())?;
            }
            check(libc::syscall(libc::SYS_setgroups, groups.len(), groups.as_ptr()))?;
            check(libc::syscall(libc::SYS_setresgid, gid, gid, gid))?;
            check(libc::syscall(libc::SYS_setresuid, uid, uid, uid))?;
            check(libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0).into())?;
            let mut set = std::mem::zeroed();
            libc::sigemptyset(&raw mut set);
            check(libc::sigprocmask(libc::SIG_SETMASK, &raw const set, std::ptr::null_mut()).into())?;
        }
        std::env::set_current_dir(&place.directory)?;
        Err(program.become_it())
    };
    // SAFETY: single-threaded, so the child may do whatever this process may.
    unsafe { command.pre_exec(prepare) };
}

/// Begins to connect to a vsock port of whoever is outside.
pub(crate) fn vsock_connect(port: u32) -> io::Result<OwnedFd> {
    let kind = libc::SOCK_STREAM | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
    // SAFETY: makes a socket.
    let socket = adopt(check(unsafe { libc::socket(libc::AF_VSOCK, kind, 0) }.into())?);
    // SAFETY: all zero is a valid sockaddr_vm.
    let mut address: libc::sockaddr_vm = unsafe { std::mem::zeroed() };
    address.svm_family = libc::sa_family_t::try_from(libc::AF_VSOCK).unwrap_or(0);
    address.svm_port = port;
    address.svm_cid = libc::VMADDR_CID_HOST;
    let length = libc::socklen_t::try_from(size_of::<libc::sockaddr_vm>()).unwrap_or(0);
    // SAFETY: the address is valid for the length given.
    match check(unsafe { libc::connect(socket.as_raw_fd(), (&raw const address).cast(), length) }.into()) {
        Err(error) if error.raw_os_error() != Some(libc::EINPROGRESS) => Err(error),
        _ => Ok(socket),
    }
}
