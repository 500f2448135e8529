"""A machine whose KVM runs guests, on one that may have none: QEMU with emulated AMD-V, a distribution's kernel, this machine's programs.

The machine is thrown away after use. It has a shell on a virtio port, a network of its own with the ports forwarded that are asked
for, and a disk of which nothing is kept. Every wait has a deadline, and it dies with whoever started it.
"""

import ctypes
import hashlib
import os
import platform
import re
import select
import shutil
import signal
import socket
import stat
import subprocess
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
CACHE = ROOT / ".cache"
QEMU = "qemu-system-x86_64"
# What a host of machines needs, beside what these modules need.
MODULES = (
    "virtio_pci virtio_blk virtio_net virtio_console overlay erofs loop irqbypass kvm kvm_amd tun veth bridge "
    "nf_tables nft_ct nft_chain_nat nft_masq nft_fib_inet nft_reject_inet"
).split()
# The tools of a small root, and those that hearth calls.
PROGRAMS = (
    "sh bash dash cat ls cp mv rm ln mkdir rmdir chmod chown touch echo printf test true false sleep env head tail sort uniq wc cut tr tee "
    "grep egrep sed awk gawk mawk find xargs date id uname hostname kill ps pgrep expr seq basename dirname readlink realpath stat od "
    "mktemp mknod setpriv timeout sync du df dd mount umount modprobe ip nft mkfs.ext4 mkfs.erofs setsid unshare mkfifo diff cmp free dmesg rdma"
).split()
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
ALIASES = ("bin", "sbin", "lib", "lib32", "lib64")
DISK_BYTES = 12 << 30
PR_SET_PDEATHSIG = 1
# How long it may take to start, the first time and later ones.
START_SECONDS = (30, 60, 90)

FIRST = """#!/bin/sh
mount -t proc proc /proc; mount -t sysfs sysfs /sys; mount -t devtmpfs dev /dev
modprobe -a virtio_pci virtio_blk
n=0; while [ ! -e /dev/vda ]; do n=$((n+1)); [ $n -lt 200 ] || break; sleep 0.05; done
mount -t ext4 -o noatime /dev/vda /root || echo "test host: no root disk"
umount /sys /proc
mount --move /dev /root/dev
exec switch_root /root /sbin/first
"""
SECOND = """#!/bin/sh
export PATH=%s HOME=/root
mount -t proc proc /proc; mount -t sysfs sysfs /sys; mount -t tmpfs run /run
mkdir -p /dev/shm /dev/pts; mount -t tmpfs shm /dev/shm; mount -t devpts pts /dev/pts
mount -t cgroup2 cgroup /sys/fs/cgroup
for one in %s; do modprobe -q $one; done
ln -sf /proc/self/fd /dev/fd
ip link set lo up; ip addr add 10.0.2.15/24 dev eth0; ip link set eth0 up; ip route add default via 10.0.2.2
hostname test-host
n=0; while [ ! -e /dev/vport*p1 ]; do n=$((n+1)); [ $n -lt 200 ] || break; sleep 0.05; done
exec 3<>$(echo /dev/vport*p1)
echo ready >&3
sh <&3 >&3 2>&3
echo o >/proc/sysrq-trigger; sleep 100
"""


class TestHostError(Exception):
    """It did not start, or did not answer in time."""


def libraries(program):
    """What a program is linked with."""
    said = subprocess.run(["ldd", str(program)], capture_output=True, text=True, check=False).stdout
    return [Path(path) for path in re.findall(r"(/\S+) \(0x", said)]


def find(name):
    found = shutil.which(name, path=PATH)
    return Path(found) if found else None


class Tree:
    """A root directory in the making."""

    def __init__(self, root):
        self.root = root
        for name in ALIASES:
            host = Path("/") / name
            if host.is_symlink():
                (root / "usr" / name).mkdir(parents=True, exist_ok=True)
                (root / name).symlink_to(os.readlink(host))
        for name in ("dev", "proc", "sys", "run", "tmp", "root", "etc", "var", "usr/sbin", "sbin", "usr/local/bin"):
            (root / name).mkdir(parents=True, exist_ok=True)

    def inside(self, path):
        """Where a path of the finished root is now: links in it lead within it."""
        parent = self.root
        for part in Path(path).parts[1:-1]:
            parent = parent / part
            if parent.is_symlink():
                parent = self.root / os.readlink(parent).lstrip("/")
        return parent / Path(path).name

    def put(self, source, target, mode=None):
        """A file or a directory with all that is in it."""
        source, to = Path(source), self.inside(target)
        to.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, to, symlinks=True, dirs_exist_ok=True)
        elif not to.exists():
            shutil.copyfile(source, to)
            to.chmod(mode if mode is not None else stat.S_IMODE(source.stat().st_mode))

    def program(self, path):
        """A program of this machine, under its own path, with its libraries."""
        path = Path(path)
        self.put(os.path.realpath(path), path)
        for library in libraries(path):
            self.put(os.path.realpath(library), library)

    def write(self, path, text, mode=0o644):
        to = self.inside(path)
        to.write_text(text)
        to.chmod(mode)


def cpio(tree):
    """The archive of a directory, as a kernel unpacks it (buffer-format.rst)."""
    out = bytearray()

    def add(name, mode, data):
        encoded = name.encode() + b"\0"
        fields = [add.inode, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(encoded), 0]
        add.inode += 1
        out.extend(b"070701" + "".join(f"{field:08X}" for field in fields).encode() + encoded)
        out.extend(b"\0" * (-len(out) % 4))
        out.extend(data)
        out.extend(b"\0" * (-len(out) % 4))

    add.inode = 1
    for path in sorted(tree.rglob("*")):
        info = path.lstat()
        if stat.S_ISLNK(info.st_mode):
            data = os.readlink(path).encode()
        else:
            data = path.read_bytes() if stat.S_ISREG(info.st_mode) else b""
        add(str(path.relative_to(tree)), info.st_mode, data)
    add("TRAILER!!!", 0, b"")
    return bytes(out)


def kernel_files():
    """The kernel of `.cache/kernel-package`, unpacked once: its image, its modules' folder, its release."""
    packages = sorted((CACHE / "kernel-package").glob("*.deb"))
    if not packages:
        raise TestHostError("there is no kernel in .cache/kernel-package: run `scripts/setup`")
    to = CACHE / "test-host" / hashlib.sha256(packages[-1].name.encode()).hexdigest()[:16]
    if not to.exists():
        new = to.with_suffix(f".{os.getpid()}")
        new.parent.mkdir(parents=True, exist_ok=True)
        subprocess.run(["dpkg-deb", "-x", str(packages[-1]), str(new)], check=True)
        release = next((new / "lib/modules").iterdir()).name
        subprocess.run(["depmod", "-b", str(new), release], check=True, env={"PATH": PATH})
        try:
            new.rename(to)
        except OSError:
            shutil.rmtree(new)
    release = next((to / "lib/modules").iterdir()).name
    return next((to / "boot").glob("vmlinuz-*")), to / "lib/modules" / release, release


def add_modules(tree, names):
    """Modules with what they need, and the lists that modprobe reads."""
    _, folder, release = kernel_files()
    needs = {}
    for line in (folder / "modules.dep").read_text().splitlines():
        path, _, rest = line.partition(":")
        needs[Path(path).name.split(".")[0].replace("-", "_")] = [path, *rest.split()]
    target = f"/lib/modules/{release}"
    for path in {path for name in names for path in needs.get(name, [])}:
        tree.put(folder / path, f"{target}/{path}")
    for path in folder.glob("modules.*"):
        tree.put(path, f"{target}/{path.name}")


def build(directory, files):
    """The initramfs and the disk: `files` are pairs of a path here and one there; programs get their libraries."""
    first = Tree(directory / "first")
    for name in ("sh", "mount", "umount", "modprobe", "sleep", "switch_root"):
        first.program(find(name))
    add_modules(first, ("virtio_pci", "virtio_blk"))
    first.write("/init", FIRST, 0o755)
    (directory / "initramfs").write_bytes(cpio(first.root))

    root = Tree(directory / "tree")
    for path in filter(None, map(find, PROGRAMS)):
        root.program(path)
    for source in ("/etc/mke2fs.conf", "/etc/ssl/certs/ca-certificates.crt", "/etc/ssl/openssl.cnf", "/usr/lib/locale/C.utf8"):
        if os.path.exists(source):
            root.put(source, source)
    root.write("/etc/passwd", "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534::/:/bin/false\n")
    root.write("/etc/group", "root:x:0:\nnogroup:x:65534:\n")
    root.write("/etc/hosts", "127.0.0.1 localhost test-host\n")
    for source, target in files:
        root.put(source, target)
        if os.path.isfile(source) and os.access(source, os.X_OK):
            for library in libraries(source):
                root.put(os.path.realpath(library), library)
    add_modules(root, MODULES)
    root.write("/sbin/first", SECOND % (PATH, " ".join(MODULES)), 0o755)
    disk = directory / "disk"
    with open(disk, "wb") as file:
        file.truncate(DISK_BYTES)
    options = "lazy_itable_init=1,lazy_journal_init=1,nodiscard,root_owner=0:0"
    subprocess.run(
        [find("mkfs.ext4"), "-q", "-F", "-m", "0", "-O", "^has_journal", "-E", options, "-d", root.root, disk], check=True
    )
    shutil.rmtree(root.root)
    shutil.rmtree(first.root)


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


class TestHost:
    """One that runs. `ports` of it are forwarded: `host.ports[9000]` is the number here. `words` are for its kernel."""

    __test__ = False

    def __init__(self, files=(), ports=(), memory_mb=3072, cpus=2, words=""):
        if platform.machine() != "x86_64":
            raise TestHostError("a test host is an x86-64 machine")
        self.directory = Path(tempfile.mkdtemp(prefix="hearth-test-host-"))
        self.ports = {port: free_port() for port in ports}
        self.process = self.shell = None
        self._words = words
        self._left = b""
        self._number = 0
        try:
            build(self.directory, files)
            self._come_up(memory_mb, cpus)
        except BaseException:
            self.end()
            raise

    def _come_up(self, memory_mb, cpus):
        """Some emulated machines hang before their first line: those are started again."""
        for seconds in START_SECONDS:
            self._start(memory_mb, cpus)
            try:
                return self._expect(b"ready\n", seconds)
            except TestHostError:
                if seconds == START_SECONDS[-1]:
                    raise
                self._stop()

    def _start(self, memory_mb, cpus):
        kernel, _, _ = kernel_files()
        place = self.directory
        ours, theirs = socket.socketpair()
        forwards = "".join(f",hostfwd=tcp:127.0.0.1:{here}-:{there}" for there, here in self.ports.items())
        arguments = [
            QEMU, "-M", "q35,accel=tcg", "-cpu", "EPYC,+svm,+npt", "-smp", str(cpus), "-m", str(memory_mb),
            "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot",
            "-kernel", kernel, "-initrd", place / "initramfs", "-append", f"console=ttyS0 quiet panic=-1 tsc=reliable mitigations=off no_timer_check {self._words}",
            "-serial", f"file:{place / 'console'}",
            "-drive", f"file={place / 'disk'},format=raw,if=virtio,cache=unsafe,discard=unmap",
            "-netdev", f"user,id=net{forwards}", "-device", "virtio-net-pci,netdev=net,romfile=",
            "-chardev", f"socket,id=shell,fd={theirs.fileno()}", "-device", "virtio-serial-pci", "-device", "virtserialport,chardev=shell",
        ]  # fmt: skip
        libc = ctypes.CDLL(None)
        with open(place / "complaints", "wb") as complaints:
            self.process = subprocess.Popen(
                list(map(str, arguments)), pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL, stdout=complaints, stderr=complaints,
                preexec_fn=lambda: libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL),
            )  # fmt: skip
        theirs.close()
        self.shell = ours

    def _expect(self, end, seconds, echo=None):
        """Reads until `end` came; hands on what comes before it as it comes."""
        until = time.monotonic() + seconds
        while end not in self._left:
            ready, _, _ = select.select([self.shell], [], [], max(0, until - time.monotonic()))
            got = self.shell.recv(1 << 16) if ready else b""
            if not got:
                why = "ended" if ready else f"did not answer within {seconds} s"
                raise TestHostError(f"the test host {why}: {self.last_words()}")
            if echo:
                echo(got)
            self._left += got
        before, _, self._left = self._left.partition(end)
        return before

    def last_words(self):
        texts = [self._left[-1500:]]
        for name in ("console", "complaints"):
            path = self.directory / name
            texts.append(path.read_bytes()[-6000:] if path.exists() else b"")
        return b"\n".join(filter(None, texts)).decode(errors="replace")

    def run(self, command, seconds=60, echo=None):
        """Runs shell commands to their end: exit status and what they wrote."""
        self._number += 1
        mark = f"done-{os.getpid()}-{self._number}"
        self.shell.sendall(f"( {command}\n) </dev/null 2>&1; echo; echo {mark} $?.\n".encode())
        output = self._expect(f"\n{mark} ".encode(), seconds, echo)
        status = int(self._expect(b".\n", 10))
        return status, output.decode(errors="replace")

    def check(self, command, seconds=60):
        """Runs commands that must succeed: what they wrote."""
        status, output = self.run(command, seconds)
        if status != 0:
            raise TestHostError(f"{command!r} ended with {status}: {output[-2000:]}")
        return output

    def _stop(self):
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        if self.shell is not None:
            self.shell.close()
        self.process = self.shell = None
        self._left = b""

    def end(self):
        self._stop()
        shutil.rmtree(self.directory, ignore_errors=True)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.end()
