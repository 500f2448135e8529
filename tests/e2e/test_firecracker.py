"""The whole of hearth on Firecracker: the real binary, the real VMM and its jailer, KVM that runs guests.

KVM is that of a test host (see harness/testhost.py), so this runs anywhere QEMU does. What is measured there compares a restore
with a boot; neither is the speed of hardware.
"""

import platform
import re
import warnings
from concurrent.futures import ThreadPoolExecutor
from ipaddress import IPv4Address
from pathlib import Path

import pytest

from harness import archives
from harness.clients import tail
from harness.server import BINARY, ROOT, Hearth, invoke
from harness.testhost import TestHost
from harness.wait import wait_for

pytestmark = [
    pytest.mark.timeout(700),
    pytest.mark.skipif(platform.machine() != "x86_64", reason="the test host is an x86-64 machine"),
]
PORT = 9000
FIRECRACKER = ROOT / ".cache/firecracker"
KERNELS = ROOT / ".cache/kernels"
START = (
    "HEARTH_KERNELS=/kernels HEARTH_FIRECRACKER=/firecracker/firecracker HEARTH_JAILER=/firecracker/jailer HEARTH_CACHE=/cache "
    "HEARTH_LOG=info,hearth_sandbox=debug setsid hearth dev --isolation firecracker --listen 0.0.0.0:9000 --insecure --data /data {more} "
    ">>/var/hearth.out 2>>/var/hearth.log </dev/null & echo $!"
)
# What a hearth has on its machine: processes, folders of jails, control groups, mounts.
LEFT = (
    "pgrep -x firecracker; pgrep -x jailer; pgrep -x hearth; ls /data/sandbox/cells/firecracker 2>/dev/null; "
    "ls -d /sys/fs/cgroup/hearth/*/* 2>/dev/null; grep -E 'cells|hearth' /proc/mounts; "
    "nft list tables | grep hearth; ip -o link | grep hth; true"
)
# Another machine that the host is connected to, and the host's own address there.
OUTSIDE, HOST, METADATA = "10.77.0.1", "10.77.0.2", "169.254.169.254"
CONNECT = f"""
ip netns add outside
ip link add up0 type veth peer name down0 netns outside
ip addr add {HOST}/24 dev up0; ip link set up0 up
ip -n outside addr add {OUTSIDE}/24 dev down0; ip -n outside addr add {METADATA}/32 dev down0; ip -n outside link set down0 up
ip route add {METADATA}/32 dev up0
for place in {OUTSIDE}:8080 {OUTSIDE}:9090 {METADATA}:80; do
  setsid ip netns exec outside rust-lab serve $place >/dev/null 2>&1 </dev/null &
done
setsid rust-lab serve 0.0.0.0:7000 >/dev/null 2>&1 </dev/null &
until [ "$(bash -c 'cat </dev/tcp/{OUTSIDE}/9090')" = {HOST} ] && [ "$(bash -c 'cat </dev/tcp/{METADATA}/80')" = {HOST} ]; do sleep 0.1; done
"""
# How a connection ends that leads nowhere.
NO_WAY = {"ConnectionRefused", "HostUnreachable", "NetworkUnreachable", "PermissionDenied"}


class Hosted(Hearth):
    """A `hearth dev` in a test host, spoken to from outside."""

    def __init__(self, host, *arguments):
        self.host, self.mark, self.endpoint = host, "e2e-mark-hosted", f"http://127.0.0.1:{host.ports[PORT]}"
        self.number = int(host.check(START.format(more=" ".join(arguments))))

    def ready(self, timeout=100):
        def answers():
            status, _ = self.host.run(f"kill -0 {self.number}")
            assert status == 0, f"hearth ended:\n{self.log()}"
            try:
                return self.get("/_hearth/ps", timeout=5)
            except OSError:
                return None

        wait_for(answers, lambda: f"hearth becomes ready:\n{self.log()}", timeout, every=0.2)
        return self

    def log(self):
        return self.host.run("tail -c 20000 /var/hearth.log")[1]

    def kill(self):
        self.host.check(f"kill -9 {self.number}; while kill -0 {self.number} 2>/dev/null; do sleep 0.05; done; true")

    def stop(self, timeout=45):
        self.host.check(f"kill -INT {self.number}; while kill -0 {self.number} 2>/dev/null; do sleep 0.05; done; true", timeout)

    def __exit__(self, *_):
        pass


class Hosts:
    """A test host at a time."""

    def __init__(self, static_lab):
        for path in (FIRECRACKER / "firecracker", FIRECRACKER / "jailer", KERNELS):
            assert path.exists(), f"{path} is not there: run `make kernel`"
        self.files = [(BINARY, "/usr/local/bin/hearth"), (FIRECRACKER, "/firecracker"), (KERNELS.resolve(), "/kernels"), (static_lab, "/usr/local/bin/rust-lab")]
        self.host = None

    def fresh(self):
        self.end()
        self.host = TestHost(self.files, ports=[PORT], memory_mb=4096)
        return self.host

    def end(self):
        if self.host is not None:
            self.host.end()
            self.host = None


@pytest.fixture
def hosts(static_lab):
    hosts = Hosts(static_lab)
    yield hosts
    hosts.end()


def on_a_host(test):
    """Runs a test on a host of its own, and again on a new one if it fails, twice at most.

    With emulated AMD-V a guest now and then stands still, and its host with it: seen with and without load, in no particular place. The
    machines of the QEMU driver, which are emulated without it, have not shown that. What a defect of ours always breaks, fails three times.
    """

    def thrice(hosts, static_lab):
        for _ in range(2):
            try:
                return test(hosts.fresh(), static_lab)
            except Exception as error:  # noqa: BLE001: whatever a host that stands still brings about
                warnings.warn(f"{test.__name__} is run again on a new host: {error!r:.2000}", stacklevel=1)
        return test(hosts.fresh(), static_lab)

    thrice.__name__, thrice.__doc__ = test.__name__, test.__doc__
    return thrice


@on_a_host
def test_functions_live_hibernate_and_die_on_firecracker(host, static_lab):
    """Idle ones that hold memory make way, and come back with it; a worker that is killed leaves nothing that runs."""
    server = Hosted(host, "--memory", "288", "--oversubscription", "1000").ready()
    client = server.client(read_timeout=90)
    archive = archives.pack({"bootstrap": Path(static_lab).read_bytes()})
    names = [f"hold-{n}" for n in range(5)]
    for name in names:
        server.create(client, name, archive, "provided.al2023", "any.handler", Timeout=60, MemorySize=128)
        value, answer = invoke(client, name, {"hold_mb": 40})
        assert "FunctionError" not in answer and value == {"held_mb": 40}
    # The last one takes more, step by step, until another has to make way.
    for _ in range(10):
        if hibernating(server):
            break
        invoke(client, names[-1], {"hold_mb": 6})
    wait_for(lambda: hibernating(server), lambda: f"one hibernates:\n{server.log()}", 20)
    slept = 'hearth_worker_hibernations_total{worker="local",outcome="asleep"}'
    wait_for(lambda: server.metrics()[slept] >= 1, "its machine is written to the disk", 20)
    first = hibernating(server)[0]
    name = first["function"].rsplit("/", 1)[-1]
    assert invoke(client, name, {"hold_mb": 0})[0] == {"held_mb": 40}, "it has what it had"
    assert first["instance"] in [i["instance"] for i in server.instances(name)]

    # Every VMM is another user's, in a jail, and none has a capability or may gain one.
    users = host.check("for p in $(pgrep -x firecracker); do grep -E '^(Uid|CapEff|NoNewPrivs|Seccomp):' /proc/$p/status; done")
    uids = re.findall(r"Uid:\s+(\d+)", users)
    assert len(uids) == len(set(uids)) >= 1 and "0" not in uids, users
    assert set(re.findall(r"CapEff:\s+(\w+)", users)) == {"0" * 16} and set(re.findall(r"Seccomp:\s+(\d)", users)) == {"2"}, users

    server.kill()
    wait_for(lambda: not host.check("pgrep -x firecracker; true").strip(), "the machines end with their worker", 20)
    again = Hosted(host, "--memory", "288", "--oversubscription", "1000").ready()
    assert again.instances() == []
    assert invoke(again.client(read_timeout=90), names[0], {"hold_mb": 1})[0] == {"held_mb": 1}, "what was deployed is there"
    again.stop()
    assert host.check(LEFT).strip() == ""


def hibernating(server):
    return [i for i in server.instances() if i["state"] == "hibernating"]


@on_a_host
def test_a_version_starts_from_its_snapshot_on_firecracker(host, static_lab):
    server = Hosted(host, "--memory", "1024").ready()
    client = server.client(read_timeout=90)
    archive = archives.pack({"bootstrap": Path(static_lab).read_bytes()})
    on = {"ApplyOn": "PublishedVersions"}
    server.create(client, "lab", archive, "provided.al2023", "any", SnapStart=on, Publish=True, Timeout=60)
    state = lambda: client.get_function_configuration(FunctionName="lab", Qualifier="1")["State"]  # noqa: E731
    assert wait_for(lambda: state() != "Pending" and state(), "the version is ready", 90) == "Active"
    drawn = []
    for _ in range(5):
        value, answer = invoke(client, "lab", Qualifier="1")
        assert "FunctionError" not in answer and "Restore Duration" in tail(answer), value
        drawn += value.values()
        invoke(client, "lab", {"exit": True}, Qualifier="1")
    assert len(set(drawn)) == len(drawn) == 10, "no two draw the same"
    server.stop()
    assert host.check(LEFT).strip() == ""


@on_a_host
def test_machines_of_firecracker_reach_what_their_function_may(host, static_lab):
    """From a template, from a function's snapshot and after hibernation, each under an address of its own."""
    host.check(CONNECT, 60)
    server = Hosted(host, "--memory", "2048").ready()
    client = server.client(read_timeout=90)
    archive = archives.pack({"bootstrap": Path(static_lab).read_bytes()})

    def create(name, egress, **more):
        server.create(client, name, archive, "provided.al2023", "any", Timeout=60, Tags={"hearth:egress": egress}, **more)

    def attempt(name, *places, **more):
        value, answer = invoke(client, name, {"connect": places, "rest_ms": more.pop("rest_ms", 0)}, **more)
        assert "FunctionError" not in answer, (value, tail(answer), server.log())
        return value["own"], value["said"]

    create("open", "all")
    create("some", f"{OUTSIDE}:8080")
    other, said = attempt("some", f"{OUTSIDE}:8080", f"{OUTSIDE}:9090")
    assert said[0] == HOST and said[1] in NO_WAY, said
    own, said = attempt("open", f"{OUTSIDE}:8080", f"{OUTSIDE}:9090")
    assert said == [HOST] * 2 and own != other, "reached, and seen as its host"
    gateway = str(IPv4Address(own) - 1)
    never = [
        f"{METADATA}:80", f"{HOST}:7000", f"{HOST}:{PORT}", f"10.0.2.15:{PORT}", f"{gateway}:{PORT}", f"{gateway}:7000",
        f"{other}:9001", f"{other}:22", "224.0.0.1:80", f"127.0.0.1:{PORT}",
    ]  # fmt: skip
    _, outcomes = attempt("open", *never)
    assert set(outcomes) <= NO_WAY, dict(zip(never, outcomes))

    # One that hibernated finds its own address again.
    [instance] = server.instances("open")
    assert server.command("instance", "suspend", instance["instance"]).returncode == 0
    wait_for(lambda: hibernating(server), lambda: f"it hibernates:\n{server.log()}", 30)
    assert attempt("open", f"{OUTSIDE}:8080") == (own, [HOST])
    assert [i["instance"] for i in server.instances("open")] == [instance["instance"]]

    # What is saved has an address in it; each that is made from it is told its own.
    create("saved", "all", SnapStart={"ApplyOn": "PublishedVersions"}, Publish=True)
    state = lambda: client.get_function_configuration(FunctionName="saved", Qualifier="1")["State"]  # noqa: E731
    assert wait_for(lambda: state() != "Pending" and state(), "the version is ready", 90) == "Active"
    with ThreadPoolExecutor(2) as pool:
        both = list(pool.map(lambda _: attempt("saved", f"{OUTSIDE}:8080", rest_ms=4000, Qualifier="1"), range(2)))
    assert [said for _, said in both] == [[HOST]] * 2, both
    assert len({own, other, *(address for address, _ in both)}) == 4, "no two have one address"

    server.stop()
    wait_for(lambda: not host.check(LEFT).strip(), lambda: f"nothing is left: {host.check(LEFT)}", 20)
