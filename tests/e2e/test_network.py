"""Where instances may connect to: `hearth:egress`, on hosts of the test's own making."""

import fcntl
import os
import socket
import struct
from concurrent.futures import ThreadPoolExecutor
from ipaddress import IPv4Address
from pathlib import Path

import pytest

from harness import archives
from harness.netns import DNS_NAME, ELSEWHERE, HOST, LIBC, METADATA, OUTSIDE, Namespace, Network
from harness.server import Hearth, invoke
from harness.wait import wait_for

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="links between network namespaces take root")
# Whether every instance is a machine of its own.
MACHINES = os.environ.get("HEARTH_ISOLATION") == "qemu"
# linux/if_tun.h.
TUNGETIFF = 0x800454D2
# Tries to connect: what was said, or the error's name.
TRIES = """
import errno, socket
def attempt(address, port):
    try:
        with socket.create_connection((address, port), 3) as connection:
            return connection.recv(64).decode()
    except TimeoutError:
        return "ETIMEDOUT"
    except socket.gaierror as error:
        return "no name"
    except OSError as error:
        return errno.errorcode.get(error.errno, str(error))
result = [attempt(*where) for where in event["where"]]
"""
OWN_ADDRESS = """
import socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.connect(("10.77.0.1", 9))
result = s.getsockname()[0]
"""
# Errors of a connection that was refused, or had no way.
NO_WAY = {"ENETUNREACH", "EHOSTUNREACH", "ECONNREFUSED", "EACCES", "EPERM"}


@pytest.fixture
def network():
    network = Network()
    yield network
    network.close()


class OnHost:
    """A hearth on a test's host, with a function that tries to connect."""

    def __init__(self, network, directory, python, *arguments, data=None):
        self.network, self.python = network, python
        self.server = network.host.run(Hearth, directory, "--dns", OUTSIDE, *arguments, data=data)
        network.host.run(self.server.ready)

    def deploy(self, name, egress=None):
        def create():
            client = self.server.client()
            tags = {"hearth:egress": egress} if egress else {}
            self.server.create(client, name, archives.function("python-lab"), self.python, Tags=tags, Timeout=60, MemorySize=256)

        self.network.host.run(create)

    def run(self, name, code, **event):
        def call():
            value, answer = invoke(self.server.client(), name, {"code": code, **event})
            assert "FunctionError" not in answer, value
            return value

        return self.network.host.run(call)

    def attempts(self, name, *where):
        return self.run(name, TRIES, where=where)

    @property
    def own_port(self):
        return self.server.address[1]

    def tables(self):
        return [line for line in self.network.host.shell("nft list tables").splitlines() if "hearth_" in line]

    def links(self):
        return self.network.host.shell("ip -o link show | grep -o 'hth[0-9.]*' || true").split()

    def vmms(self):
        parents = {path.parent.name: path.read_text().rpartition(")")[2].split()[1] for path in Path("/proc").glob("[0-9]*/stat")}
        own = [pid for pid, parent in parents.items() if parent == str(self.server.process.pid)]
        return [int(pid) for pid in own if b"qemu" in Path(f"/proc/{pid}/cmdline").read_bytes()]

    def end(self):
        self.network.host.run(self.server.__exit__)


@pytest.fixture
def on_host(network, tmp_path, python):
    started = []

    def start(*arguments, **more):
        host = OnHost(network, tmp_path, python, *arguments, **more)
        started.append(host)
        return host

    yield start
    for host in started:
        host.end()


def test_without_egress_there_is_no_network(on_host):
    host = on_host()
    host.deploy("closed")
    assert set(host.attempts("closed", (OUTSIDE, 8080), (HOST, 7000), (DNS_NAME, 8080))) <= {"ENETUNREACH", "no name"}
    assert host.run("closed", "import os\nresult = os.listdir('/sys/class/net') if os.path.exists('/sys/class/net') else []") in (["lo"], [])
    assert host.tables() == [] and host.links() == [], "who needs no network costs none"


def test_all_reaches_all_but_what_is_close_to_the_worker(on_host, network):
    host = on_host()
    host.deploy("open", "all")
    host.deploy("other", "all")
    own = host.run("other", OWN_ADDRESS)
    assert host.attempts("open", (OUTSIDE, 8080), (ELSEWHERE, 8080), (DNS_NAME, 9090)) == [HOST] * 3, "and seen as its host"
    gateway = after(own, -1)
    never = [
        (HOST, 7000), (HOST, host.own_port), (METADATA, 80), (own, 9001), (own, 22), (gateway, host.own_port), (gateway, 7000),
        ("127.0.0.1", 7001), ("127.0.0.1", host.own_port), ("224.0.0.1", 80),
    ]  # fmt: skip
    outcomes = host.attempts("open", *never)
    assert set(outcomes) <= NO_WAY, dict(zip(never, outcomes))
    assert network.servers[HOST, 7000].callers == network.servers[METADATA, 80].callers == []
    # Its host reaches the same servers, so it was not for want of them.
    assert network.host.run(reads, HOST, 7000) and network.host.run(reads, METADATA, 80)


def reads(address, port):
    with socket.create_connection((address, port), 5) as connection:
        return connection.recv(64)


def test_a_list_allows_its_networks_and_ports_and_names(on_host):
    host = on_host()
    host.deploy("some", f"{OUTSIDE}:8080, 10.78.0.0/16:8000-8079")
    reached = host.attempts("some", (OUTSIDE, 8080), (DNS_NAME, 8080))
    assert reached == [HOST] * 2
    refused = host.attempts("some", (OUTSIDE, 9090), (ELSEWHERE, 8080), (METADATA, 80))
    assert set(refused) <= NO_WAY, refused
    # Another function's list is another's.
    host.deploy("elsewhere", "10.78.0.0/16:8080")
    assert host.attempts("elsewhere", (ELSEWHERE, 8080)) == [HOST]
    assert set(host.attempts("elsewhere", (OUTSIDE, 8080))) <= NO_WAY


def test_a_wrong_egress_is_said_when_it_is_set(on_host):
    host = on_host()
    with pytest.raises(Exception, match="hearth:egress.*10.0.0.0/8"):
        host.deploy("wrong", "10.1.2.3/8:443")
    with pytest.raises(Exception, match="IPv6"):
        host.deploy("wrong", "[2001:db8::1]:443")


def test_no_one_speaks_for_another(on_host, network):
    """A function cannot make raw packets; and were one to, those from an address that is not its own go nowhere."""
    host = on_host()
    host.deploy("liar", "all")
    own = host.run("liar", OWN_ADDRESS)
    # Which addresses instances have differs between hosts: this is surely another's.
    neighbour = after(own, 2)
    code = """
import errno, socket
def bind(address):
    try:
        with socket.socket() as s:
            s.bind((address, 0)); s.settimeout(3); s.connect(("10.77.0.1", 8080)); return s.recv(64).decode()
    except OSError as error:
        return errno.errorcode.get(error.errno, str(error))
def raw(kind):
    try:
        socket.socket(*kind).close(); return "made"
    except OSError as error:
        return errno.errorcode[error.errno]
result = [bind("10.77.0.2"), bind(event["neighbour"]), raw((socket.AF_INET, socket.SOCK_RAW, 255)), raw((socket.AF_PACKET, socket.SOCK_RAW, 0))]
"""
    outcomes = host.run("liar", code, neighbour=neighbour)
    assert outcomes[:2] == ["EADDRNOTAVAIL"] * 2 and set(outcomes[2:]) <= {"EPERM", "EACCES", "EAFNOSUPPORT"}, outcomes
    assert network.servers[OUTSIDE, 8080].callers == []
    heard = network.outside.run(datagrams, OUTSIDE, 4000)
    for source in ("10.77.0.9", neighbour, OUTSIDE, own):
        if MACHINES:
            send_from_machine(host, own, source)
        else:
            with open(f"/proc/{pid_of(host.server.mark)}/ns/net") as namespace:
                Namespace(namespace.fileno()).run(send_as, source, OUTSIDE, 4000)
    heard.settimeout(5)
    assert heard.recv(64) == own.encode(), "the first that comes is the last that was sent"
    heard.close()


def after(address, steps):
    """The address so many steps after that one."""
    return str(IPv4Address(address) + steps)


def datagrams(address, port):
    listener = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    listener.bind((address, port))
    return listener


def packet(source, target, port):
    """A datagram with its source as its text, from whatever address."""
    text = source.encode()
    udp = struct.pack(">HHHH", 4001, port, 8 + len(text), 0)
    fields = [0x4500, 28 + len(text), 0, 0, 0x4011, 0]
    words = [*fields, *struct.unpack(">4H", socket.inet_aton(source) + socket.inet_aton(target))]
    total = sum(words)
    while total > 0xFFFF:
        total = (total & 0xFFFF) + (total >> 16)
    words[5] = ~total & 0xFFFF
    return struct.pack(">10H", *words) + udp + text


def send_as(source, target, port):
    with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW) as raw:
        raw.sendto(packet(source, target, port), (target, 0))


def send_from_machine(host, own, source):
    """The same from a machine whose kernel is the tenant's: through the link's end that its VMM holds."""
    gateway = after(own, -1)
    link = host.network.host.shell(f"ip -o -4 addr show to {gateway}/32").split()[1].encode()
    ethernet = host.network.host.shell(f"ip -o link show {link.decode()}").partition("link/ether ")[2].split()[0]
    worker = bytes.fromhex(ethernet.replace(":", ""))
    for vmm in host.vmms():
        for fd in Path(f"/proc/{vmm}/fd").iterdir():
            if os.readlink(fd) != "/dev/net/tun":
                continue
            taken = take_descriptor(vmm, int(fd.name))
            try:
                if fcntl.ioctl(taken, TUNGETIFF, bytes(40)).partition(b"\0")[0] == link:
                    os.write(taken, worker + bytes.fromhex("0266756e6374") + b"\x08\x00" + packet(source, OUTSIDE, 4000))
                    return
            finally:
                os.close(taken)
    raise AssertionError("the machine has a link")


def take_descriptor(pid, fd):
    """Another process's open file (pidfd_getfd)."""
    process = os.pidfd_open(pid)
    try:
        taken = LIBC.syscall(438, process, fd, 0)
        assert taken >= 0, "root may"
        return taken
    finally:
        os.close(process)


def pid_of(mark):
    """A function's process of the server of that mark."""
    for environment in Path("/proc").glob("[0-9]*/environ"):
        try:
            variables = environment.read_bytes().split(b"\0")
        except OSError:
            continue
        if f"E2E_MARK={mark}".encode() in variables:
            return int(environment.parent.name)
    raise AssertionError("it has a process")


def test_an_instance_keeps_its_network_over_hibernation(on_host):
    host = on_host()
    host.deploy("sleeper", "all")
    own = host.run("sleeper", OWN_ADDRESS)
    [instance] = host.network.host.run(host.server.instances, "sleeper")
    assert host.network.host.run(host.server.command, "instance", "suspend", instance["instance"]).returncode == 0
    slept = 'hearth_worker_hibernations_total{worker="local",outcome="asleep"}'
    wait_for(lambda: host.network.host.run(host.server.metrics)[slept] == 1, "it hibernates", 30)
    assert host.run("sleeper", OWN_ADDRESS) == own
    assert host.attempts("sleeper", (OUTSIDE, 8080), (DNS_NAME, 8080)) == [HOST] * 2
    [again] = host.network.host.run(host.server.instances, "sleeper")
    assert again["instance"] == instance["instance"]


@pytest.mark.skipif(not MACHINES, reason="containers are made from no snapshot")
def test_machines_made_from_a_snapshot_have_networks_of_their_own(on_host):
    """What is saved has an address in it, and a way out; each that is made from it is told its own."""
    host = on_host()

    def create():
        more = {"Tags": {"hearth:egress": "all"}, "SnapStart": {"ApplyOn": "PublishedVersions"}, "Publish": True}
        client = host.server.client()
        host.server.create(client, "snap", archives.function("python-lab"), host.python, Timeout=60, MemorySize=256, **more)
        return wait_for(lambda: client.get_function_configuration(FunctionName="snap", Qualifier="1")["State"] == "Active", "it is saved", 60)

    host.network.host.run(create)
    code = OWN_ADDRESS + "address = result\nwhere = event['where']\n" + TRIES + "import time; time.sleep(1)\nresult = [address, *result]"

    def both():
        def call(_):
            value, answer = invoke(client, "snap", {"code": code, "where": [(OUTSIDE, 8080), (DNS_NAME, 9090)]}, Qualifier="1")
            assert "FunctionError" not in answer, value
            return value

        client = host.server.client()
        with ThreadPoolExecutor(2) as pool:
            futures = [pool.submit(host.network.host.run, call, n) for n in range(2)]
            return [future.result() for future in futures]

    outcomes = host.network.host.run(both)
    assert [outcome[1:] for outcome in outcomes] == [[HOST] * 2] * 2, outcomes
    assert len({outcome[0] for outcome in outcomes}) == 2, "no two have one address"


def test_two_hearths_on_a_host_do_not_disturb_each_other_and_leave_nothing(on_host, tmp_path):
    one, two = on_host(data=tmp_path / "one"), on_host(data=tmp_path / "two")
    for host in (one, two):
        host.deploy("open", "all")
        assert host.attempts("open", (OUTSIDE, 8080)) == [HOST]
    assert len(one.tables()) == 2
    # Of each; a machine that was begun ahead has one, too.
    assert len({link.split(".")[0] for link in one.links()}) == 2 and (MACHINES or len(one.links()) == 2)
    two.end()
    assert len(one.tables()) == 1
    assert one.attempts("open", (OUTSIDE, 9090)) == [HOST]
    one.end()
    assert one.tables() == []
    wait_for(lambda: one.links() == [], "the links are gone", 10)


def test_what_a_killed_hearth_left_is_replaced(on_host, tmp_path):
    host = on_host(data=tmp_path / "data")
    host.deploy("open", "all")
    assert host.attempts("open", (OUTSIDE, 8080)) == [HOST]
    host.server.kill()
    wait_for(lambda: host.links() == [], "links go with their instances", 10)
    again = on_host(data=tmp_path / "data")
    assert again.attempts("open", (OUTSIDE, 8080)) == [HOST]
    assert len(again.tables()) == 1
    again.end()
    assert again.tables() == []
