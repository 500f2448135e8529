"""A function that wants out: each attempt is made from a real function, and each must fail."""

import os
import socket
import threading

import pytest

from harness import archives
from harness.server import invoke


def attempt(lab, code):
    """What an attempt got: 'refused', with its errno, or what it says it reached."""
    body = "\n".join("    " + line for line in code.strip("\n").splitlines())
    return lab(
        "import os, ctypes, errno, socket, struct, subprocess\n"
        "libc = ctypes.CDLL(None, use_errno=True)\n"
        "def call(number, *a):\n"
        "    value = libc.syscall(number, *a)\n"
        "    if value < 0:\n        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))\n    return value\n"
        "try:\n" + body + "\n"
        "except OSError as error:\n    result = ['refused', error.errno]\n"
    )


def assert_refused(lab, code):
    got = attempt(lab, code)
    assert isinstance(got, list) and got[0] == "refused", f"it worked: {got!r}"


@pytest.fixture(scope="module")
def jail(shared, python):
    """One instance for all attempts of this file: none of them breaks it."""
    client = shared.client()
    shared.create(client, "jail", archives.function("python-lab"), python, Timeout=20)

    def run(code, **event):
        value, answer = invoke(client, "jail", {"code": code, **event})
        assert "FunctionError" not in answer, value
        return value

    yield run
    client.delete_function(FunctionName="jail")


# The host's files


@pytest.mark.parametrize("path", ["/etc/shadow", "/root/.ssh", "/root/.bashrc", "/home", "/proc/1/root/etc/shadow", "/proc/1/environ", "/dev/mem", "/dev/kmsg", "/proc/kcore", "/proc/kmsg", "/sys/kernel/debug", "/sys/firmware/acpi"])  # fmt: skip
def test_the_hosts_files_are_not_there_or_not_readable(jail, path):
    got = attempt(
        jail,
        f"path = {path!r}\n"
        "result = ['read', os.listdir(path)] if os.path.isdir(path) else ['read', len(open(path, 'rb').read(100))]",
    )
    assert got[0] == "refused" or got[1] in ([], 0), got


def test_a_secret_of_the_host_is_seen_nowhere(jail, shared, tmp_path):
    secret = tmp_path / "secret-of-the-host"
    secret.write_text("s3cret")
    secret.chmod(0o644)
    for path in [secret, f"/proc/1/root{secret}", f"/proc/self/root{secret}", shared.data / "hearth.db"]:
        assert_refused(jail, f"result = open({str(path)!r}).read()")
    for escape in ["../" * 20 + str(secret)[1:], f"/proc/self/cwd/{'../' * 20}{str(secret)[1:]}"]:
        assert_refused(jail, f"os.chdir('/var/task')\nresult = open({escape!r}).read()")


def test_the_environment_holds_nothing_of_the_hosts(jail, shared):
    environment = jail("import os; result = dict(os.environ)")
    assert "HEARTH_E2E_MARK" not in environment and not any(key.startswith("HEARTH") for key in environment)
    for value in environment.values():
        assert str(shared.data) not in value and "/root" not in value


@pytest.mark.parametrize("path", ["/", "/usr", "/var/task", "/var/task/app.py", "/var/lang", "/var/runtime", "/opt", "/etc", "/bin", "/proc/sys/kernel"])  # fmt: skip
def test_nothing_but_tmp_can_be_written(jail, path):
    assert_refused(
        jail,
        f"path = {path!r}\nname = path + '/x' if os.path.isdir(path) else path\n"
        "open(name, 'a').write('x')\nresult = ['wrote', name]",
    )


def test_nothing_can_be_written_anywhere_that_reaches_the_host(jail):
    """Every directory of the root that can be written at all, found by trying."""
    writable = jail(
        """
import os
found = []
for root, directories, _ in os.walk('/'):
    directories[:] = [d for d in directories if os.path.join(root, d) not in ('/proc', '/sys')]
    if root.count('/') > 4:
        directories[:] = []
    try:
        with open(os.path.join(root, '.w'), 'w'):
            pass
        os.unlink(os.path.join(root, '.w'))
        found.append(root)
    except OSError:
        pass
result = found
"""
    )
    assert {path for path in writable if not path.startswith("/tmp")} <= {"/dev/shm"}, writable


# The host's processes


def test_only_its_own_processes_are_seen(jail, shared):
    seen = jail("import os\nresult = {p: open(f'/proc/{p}/cmdline').read() for p in os.listdir('/proc') if p.isdigit()}")
    assert 1 <= len(seen) <= 6, seen
    assert not any("pytest" in command or str(shared.data) in command for command in seen.values())


def test_no_process_outside_can_be_signalled(jail, shared):
    assert_refused(jail, f"os.kill({shared.pid}, 0)\nresult = ['signalled']")
    assert jail("import os\ntry:\n    os.kill(1, 9)\nexcept OSError: pass\nresult = 'alive'") == "alive"


@pytest.mark.parametrize("pid", ["1", "os.getppid()"])
def test_ptrace_is_refused(jail, pid):
    assert_refused(jail, f"result = ['traced', call(101, 16, {pid}, 0, 0)]")


def test_the_memory_of_its_keeper_cannot_be_read(jail):
    assert_refused(jail, "result = ['read', open('/proc/1/mem', 'rb').read(1)]")
    assert_refused(jail, "b = ctypes.create_string_buffer(8)\nv = (ctypes.c_size_t * 2)(ctypes.addressof(b), 8)\nr = (ctypes.c_size_t * 2)(0x400000, 8)\nresult = ['read', call(310, 1, v, 1, r, 1, 0)]")  # fmt: skip
    assert_refused(jail, "result = ['list', os.listdir('/proc/1/fd')]")


# The network


def listener(reached):
    server = socket.create_server(("127.0.0.1", 0))
    server.settimeout(30)

    def accept():
        try:
            while True:
                server.accept()[0].close()
                reached.append(1)
        except OSError:
            pass

    threading.Thread(target=accept, daemon=True).start()
    return server


def test_the_hosts_loopback_is_not_reached(jail, shared):
    reached = []
    with listener(reached) as server:
        for port in [server.getsockname()[1], shared.address[1]]:
            assert_refused(
                jail, f"s = socket.create_connection(('127.0.0.1', {port}), timeout=2)\nresult = ['connected']"
            )
    assert reached == []


def test_there_is_no_way_out_to_any_network(jail):
    for address in ["192.0.2.1", "169.254.169.254", "10.0.0.1"]:
        assert_refused(jail, f"s = socket.create_connection(('{address}', 80), timeout=2)\nresult = ['connected']")
    assert jail("import os; result = os.listdir('/sys/class/net') if os.path.isdir('/sys/class/net') else ['lo']") == ["lo"]
    assert jail("result = [l.split(':')[0].strip() for l in open('/proc/net/dev').readlines()[2:]]") == ["lo"]


def test_abstract_sockets_of_the_host_are_not_reached(jail):
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(f"\0e2e-{os.getpid()}")
        server.listen()
        assert_refused(
            jail, f"s = socket.socket(socket.AF_UNIX)\ns.connect('\\0e2e-{os.getpid()}')\nresult = ['connected']"
        )


def test_the_runtime_api_of_another_instance_is_not_reached(shared, jail, python):
    """Two instances have the same address and different worlds: each sees only its own requests."""
    client = shared.client()
    shared.create(client, "cell", archives.function("python-lab"), python)
    try:
        code = "import socket\ns = socket.create_server(('127.0.0.1', 7777))\nimport app\napp.kept = s\nresult = 1"
        assert invoke(client, "cell", {"code": code})[0] == 1
        assert_refused(jail, "s = socket.create_connection(('127.0.0.1', 7777), timeout=2)\nresult = ['connected']")
        names = [jail("import os; result = os.readlink('/proc/self/ns/net')")]
        names.append(invoke(client, "cell", {"code": "import os; result = os.readlink('/proc/self/ns/net')"})[0])
        assert len({*names, os.readlink("/proc/self/ns/net")}) == 3
    finally:
        client.delete_function(FunctionName="cell")


def test_raw_and_packet_sockets_are_refused(jail):
    for family, kind in [("AF_INET", "SOCK_RAW"), ("AF_PACKET", "SOCK_RAW"), ("AF_NETLINK", "SOCK_RAW")]:
        got = attempt(jail, f"s = socket.socket(socket.{family}, socket.{kind}, 1)\nresult = ['opened']")
        assert got[0] == "refused" or family == "AF_NETLINK", (family, got)


# The kernel

SYSCALLS = {
    "mount": "call(165, b'none', b'/tmp', b'tmpfs', 0, 0)",
    "umount": "call(166, b'/proc', 2)",
    "open_tree": "call(428, -100, b'/', 1)",
    "fsopen": "call(430, b'tmpfs', 0)",
    "pivot_root": "call(155, b'/tmp', b'/tmp')",
    "chroot": "os.chroot('/tmp')",
    "unshare user": "call(272, 0x10000000)",
    "unshare mount": "call(272, 0x00020000)",
    "unshare net": "call(272, 0x40000000)",
    "clone user": "call(56, 0x10000000 | 17, 0, 0, 0, 0)",
    "clone3": "call(435, ctypes.create_string_buffer(struct.pack('Q', 0x10000000) + bytes(80)), 88)",
    "setns": "call(308, os.open('/proc/self/ns/net', 0), 0)",
    "keyctl session": "call(250, 0, -3, 1)",
    "add_key": "call(248, b'user', b'name', b'x', 1, -4)",
    "request_key": "call(249, b'user', b'name', 0, -4)",
    "bpf": "call(321, 0, ctypes.create_string_buffer(128), 128)",
    "perf_event_open": "call(298, ctypes.create_string_buffer(struct.pack('II', 1, 128) + bytes(120)), 0, -1, -1, 0)",
    "userfaultfd": "call(323, 0)",
    "init_module": "call(175, ctypes.create_string_buffer(64), 64, b'')",
    "kexec_load": "call(246, 0, 0, 0, 0)",
    "reboot": "call(169, 0xfee1dead, 672274793, 0x89abcdef, 0)",
    "settimeofday": "call(164, ctypes.create_string_buffer(16), 0)",
    "sethostname": "call(170, b'mine', 4)",
    "swapon": "call(167, b'/tmp/x', 0)",
    "open_by_handle_at": "call(304, -100, ctypes.create_string_buffer(128), 0)",
    "iopl": "call(172, 3)",
    "mknod": "os.mknod('/tmp/null', 0o20666, os.makedev(1, 3))",
    "setuid root": "os.setuid(0)",
    "setgroups": "os.setgroups([0])",
    "chown": "open('/tmp/c', 'w').close() or os.chown('/tmp/c', 0, 0) or (os.stat('/tmp/c').st_uid == 0 or 1/0)",
    "nice": "os.setpriority(os.PRIO_PROCESS, 0, -10)",
    "realtime": "os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(10))",
    "rlimit": "call(302, 0, 7, struct.pack('QQ', 100000, 100000), 0)",
    "io_uring": "call(425, 8, ctypes.create_string_buffer(128))",
    "tiocsti": "__import__('fcntl').ioctl(0, 0x5412, b'x')",
    "personality": "call(135, 0x0040000)",
}


@pytest.mark.parametrize("what", SYSCALLS)
def test_the_kernel_refuses(jail, what):
    assert_refused(jail, f"result = ['worked', {SYSCALLS[what]}]")


@pytest.mark.parametrize(
    "path",
    ["/proc/sys/kernel/hostname", "/proc/sys/kernel/core_pattern", "/proc/sys/vm/overcommit_memory", "/proc/sys/kernel/ns_last_pid", "/proc/sys/net/ipv4/ip_forward", "/proc/sysrq-trigger", "/proc/self/oom_score_adj:-1000", "/proc/self/uid_map", "/proc/self/setgroups:allow", "/proc/1/oom_score_adj"],
)  # fmt: skip
def test_proc_cannot_be_written(jail, path):
    path, _, value = path.partition(":")
    assert_refused(jail, f"file = open({path!r}, 'w')\nfile.write({value or '1'!r})\nfile.flush()\nresult = ['wrote']")


def test_cgroups_are_not_seen_or_not_writable(jail):
    written = jail(
        """
import os
found = []
for root, directories, files in os.walk('/sys'):
    for name in files:
        if name in ('cgroup.procs', 'tasks', 'memory.max', 'memory.limit_in_bytes', 'pids.max', 'release_agent', 'cgroup.kill'):
            try:
                with open(os.path.join(root, name), 'w') as file:
                    file.write('0')
                found.append(os.path.join(root, name))
            except OSError:
                pass
result = found
"""
    )
    assert written == []
    assert_refused(jail, "os.mkdir('/sys/fs/cgroup/mine')\nresult = ['made']")


def test_the_only_devices_are_harmless(jail):
    devices = jail(
        "import os, stat\nresult = sorted(os.path.join(r, f) for r, _, fs in os.walk('/dev') for f in fs"
        " if stat.S_ISBLK(os.lstat(os.path.join(r, f)).st_mode) or stat.S_ISCHR(os.lstat(os.path.join(r, f)).st_mode))"
    )
    allowed = {"/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom", "/dev/tty"}
    assert set(devices) <= allowed, devices


def test_set_user_id_bits_of_its_own_give_nothing(jail):
    user, said = jail(
        """
import os, shutil, subprocess
shutil.copy('/bin/sh', '/tmp/sh')
os.chmod('/tmp/sh', 0o6755)
out = subprocess.run(['/tmp/sh', '-p', '-c', 'cat /proc/self/status'], capture_output=True, text=True)
os.unlink('/tmp/sh')
result = [os.geteuid(), out.stdout]
"""
    )
    assert f"Uid:\t{user}\t{user}\t{user}\t{user}" in said and "CapEff:\t0000000000000000" in said
