"""Network namespaces as machines of a test's own: a host for hearth, and the network that it is connected to."""

import ctypes
import os
import socket
import struct
import subprocess
import threading

CLONE_NEWNET = 0x40000000
LIBC = ctypes.CDLL(None, use_errno=True)
# Where the host's way out leads, and the host's own address there.
OUTSIDE, HOST = "10.77.0.1", "10.77.0.2"
# Addresses of the network that the host reaches, too.
ELSEWHERE, METADATA = "10.78.0.1", "169.254.169.254"
DNS_NAME = "service.test"


def check(result, what):
    if result != 0:
        raise OSError(ctypes.get_errno(), f"{what}: {os.strerror(ctypes.get_errno())}")


class Namespace:
    """A network namespace, a new one unless a descriptor of one is given. It is gone when nobody is in it and `close` was called."""

    def __init__(self, fd=None):
        self.fd = self._in_thread(self._make) if fd is None else fd

    def _make(self):
        check(LIBC.unshare(CLONE_NEWNET), "unshare")
        return os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)

    def _in_thread(self, work):
        outcome = {}

        def run():
            try:
                outcome["value"] = work()
            except BaseException as error:  # noqa: BLE001: handed on to whoever waits
                outcome["error"] = error

        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        thread.join()
        if "error" in outcome:
            raise outcome["error"]
        return outcome["value"]

    def run(self, work, *arguments, **more):
        """Calls `work` in the namespace: its sockets and its processes are there."""

        def enter():
            check(LIBC.setns(self.fd, CLONE_NEWNET), "setns")
            return work(*arguments, **more)

        return self._in_thread(enter)

    def shell(self, command):
        """Runs a command that must succeed, and gives what it said."""

        def run():
            done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, timeout=20, check=False)
            assert done.returncode == 0, f"{command}: {done.stderr}"
            return done.stdout

        return self.run(run)

    def close(self):
        os.close(self.fd)


class Server:
    """Says over TCP who called, on one address and port, until it is closed."""

    def __init__(self, namespace, address, port):
        self.callers = []
        self.socket = namespace.run(self._listen, address, port)
        threading.Thread(target=self._serve, daemon=True).start()

    def _listen(self, address, port):
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((address, port))
        listener.listen(64)
        return listener

    def _serve(self):
        while True:
            try:
                connection, caller = self.socket.accept()
            except OSError:
                return
            self.callers.append(caller[0])
            with connection:
                connection.sendall(caller[0].encode())

    def close(self):
        # Wakes whoever accepts.
        self.socket.shutdown(socket.SHUT_RDWR)
        self.socket.close()


class Names:
    """Answers questions for names over UDP: one name, one address."""

    def __init__(self, namespace, address):
        self.socket = namespace.run(self._bind, address)
        threading.Thread(target=self._serve, daemon=True).start()

    def _bind(self, address):
        names = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        names.bind((address, 53))
        return names

    def _serve(self):
        wanted = b"".join(bytes([len(part)]) + part.encode() for part in DNS_NAME.split(".")) + b"\0"
        while True:
            try:
                question, caller = self.socket.recvfrom(512)
            except OSError:
                return
            name, kind = question[12 : 12 + len(wanted)], question[12 + len(wanted) : 16 + len(wanted)]
            found = name.lower() == wanted and kind == b"\0\1\0\1"
            flags = 0x8180 if name.lower() == wanted else 0x8183
            answer = b"\xc0\x0c\0\1\0\1" + struct.pack(">IH", 5, 4) + socket.inet_aton(OUTSIDE) if found else b""
            end = question.index(b"\0", 12) + 5
            header = question[:2] + struct.pack(">HHHHH", flags, 1, int(found), 0, 0)
            try:
                self.socket.sendto(header + question[12:end] + answer, caller)
            except OSError:
                return

    def close(self):
        self.socket.close()


class Network:
    """A host and what it is connected to, each a namespace; servers by address and port."""

    def __init__(self):
        self.host, self.outside = Namespace(), Namespace()
        self.servers = {}
        try:
            self._connect()
            for address, port in ((OUTSIDE, 8080), (OUTSIDE, 9090), (ELSEWHERE, 8080), (METADATA, 80)):
                self.servers[address, port] = Server(self.outside, address, port)
            self.servers[HOST, 7000] = Server(self.host, HOST, 7000)
            self.servers["127.0.0.1", 7001] = Server(self.host, "127.0.0.1", 7001)
            self.names = Names(self.outside, OUTSIDE)
        except BaseException:
            self.close()
            raise

    def _connect(self):
        self.host.shell("ip link set lo up; ip link add up0 type veth peer name down0")
        # The other end is handed over through a process that is there.
        keeper = self.outside.run(subprocess.Popen, ["sleep", "60"])
        try:
            self.host.shell(f"ip link set down0 netns {keeper.pid}")
        finally:
            keeper.kill()
            keeper.wait()
        self.outside.shell(
            f"ip link set lo up; ip addr add {OUTSIDE}/24 dev down0; ip addr add {ELSEWHERE}/32 dev down0; "
            f"ip addr add {METADATA}/32 dev down0; ip link set down0 up"
        )
        self.host.shell(
            f"ip addr add {HOST}/24 dev up0; ip link set up0 up; ip route add default via {OUTSIDE}; "
            f"ip route add {METADATA}/32 dev up0"
        )

    def close(self):
        for server in self.servers.values():
            server.close()
        if names := getattr(self, "names", None):
            names.close()
        self.host.close()
        self.outside.close()
