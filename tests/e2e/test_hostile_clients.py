"""Clients that are slow, greedy or broken cost only themselves."""

import json
import resource
import socket
import time

import pytest

from harness import archives
from harness.raw import CALLER, Raw, invocation
from harness.server import invoke
from harness.wait import wait_for


@pytest.fixture(scope="module")
def echo(shared, python):
    client = shared.client()
    shared.create(client, "client-echo", archives.function("python-echo"), python)
    yield "client-echo"
    client.delete_function(FunctionName="client-echo")


def served(shared, echo):
    """An honest client gets its answer while all this goes on."""
    with Raw(shared) as connection:
        status, _, body = connection.send(invocation(echo, b'{"honest":1}')).receive()
        return status == 200 and json.loads(body)["event"] == {"honest": 1}


def test_two_thousand_idle_connections_while_others_are_served(shared, echo):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 8192), hard))
    idle = []
    try:
        idle = [socket.create_connection(shared.address, timeout=10) for _ in range(2200)]
        assert all(served(shared, echo) for _ in range(20))
        # Each of them still is, or was politely closed; those that are open can still speak.
        idle[-1].sendall(invocation(echo, b"{}"))
        assert idle[-1].recv(12) == b"HTTP/1.1 200"
    finally:
        [one.close() for one in idle]
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert served(shared, echo)


def test_half_sent_requests(shared, echo):
    whole = invocation(echo, b'{"half": "' + b"x" * 1000 + b'"}')
    connections = [Raw(shared).send(whole[:cut]) for cut in [1, 4, 30, 60, len(whole) - 500, len(whole) - 1]]
    assert served(shared, echo)
    [one.close() for one in connections]
    assert served(shared, echo)


def test_a_body_that_ends_early_runs_nothing(shared, lambda_client, name, python):
    shared.create(lambda_client, name, archives.function("python-echo"), python)
    with Raw(shared) as connection:
        connection.send(invocation(name, b'{"a":1}', length=100))
        connection.socket.shutdown(socket.SHUT_WR)
        answer = connection.receive()
        assert answer is None or answer[0] == 400
    assert shared.instances(name) == []


def test_a_client_that_sends_a_byte_at_a_time_is_served(shared, echo):
    with Raw(shared) as connection:
        connection.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in invocation(echo, b'{"slow":1}'):
            connection.send(bytes([byte]))
        status, _, body = connection.receive()
        assert status == 200 and json.loads(body)["event"] == {"slow": 1}


def test_a_client_that_reads_nothing_holds_up_nobody(shared, lambda_client, name, python):
    code = "def handler(event, context):\n    return 'x' * 6000000\n"
    shared.create(lambda_client, name, archives.pack({"app.py": code}), python, MemorySize=256)
    with Raw(shared) as lazy:
        lazy.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        lazy.send(invocation(name))
        wait_for(lambda: any(i["state"] == "idle" for i in shared.instances(name)), "the slot is free again")
        assert len(invoke(lambda_client, name)[0]) == 6_000_000
        assert len(shared.instances(name)) == 1


@pytest.mark.parametrize(
    "head",
    [
        b"X-Big: " + b"x" * (4 << 20) + b"\r\n",
        b"".join(b"X-%d: %s\r\n" % (n, b"y" * 1000) for n in range(4000)),
        b"".join(b"X-%d: y\r\n" % n for n in range(5000)),
    ],
    ids=["one", "large", "many"],
)
def test_headers_of_megabytes(shared, echo, head):
    with Raw(shared) as connection:
        try:
            connection.send(b"GET /2015-03-31/functions HTTP/1.1\r\nHost: x\r\n" + head + b"\r\n")
        except (ConnectionError, TimeoutError):
            pass  # Closed while we were still sending: refused all the same.
        answer = connection.receive()
        assert answer is None or 400 <= answer[0] < 500
    assert served(shared, echo)


def test_a_url_of_megabytes(shared, echo):
    with Raw(shared) as connection:
        try:
            connection.send(b"GET /" + b"x" * (2 << 20) + b" HTTP/1.1\r\nHost: x\r\n\r\n")
        except (ConnectionError, TimeoutError):
            pass
        answer = connection.receive()
        assert answer is None or 400 <= answer[0] < 500
    assert served(shared, echo)


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"GET\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"\0" * 5000,
        b"POST /2015-03-31/functions/client-echo/invocations HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
        b"POST /2015-03-31/functions/client-echo/invocations HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n{}",
        b"POST /2015-03-31/functions/client-echo/invocations HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n{}\r\n",
    ],
    ids=["tls", "short", "version", "http2", "zeros", "negative", "two-lengths", "bad-chunk"],
)
def test_what_is_no_http(shared, echo, request_bytes):
    with Raw(shared) as connection:
        connection.send(request_bytes)
        connection.socket.shutdown(socket.SHUT_WR)
        answer = connection.receive()
        assert answer is None or 400 <= answer[0] < 600 and answer[0] != 500
    assert served(shared, echo)


def test_a_payload_of_unknown_length_that_never_ends_is_cut_off(shared, echo):
    with Raw(shared) as connection:
        connection.send(
            f"POST /2015-03-31/functions/{echo}/invocations HTTP/1.1\r\nHost: x\r\n{CALLER}Transfer-Encoding: chunked\r\n\r\n"
        )
        chunk = b"100000\r\n" + b"1" * (1 << 20) + b"\r\n"
        sent = 0
        try:
            while sent < 200:
                connection.send(chunk)
                sent += 1
        except (ConnectionError, TimeoutError):
            pass
        answer = connection.receive()
        assert answer is None or answer[0] == 413
        assert sent < 200, "the server took 200 MB of a payload that may have 6"


def test_a_chunked_payload_is_as_good_as_any(shared, echo):
    with Raw(shared) as connection:
        connection.send(
            f"POST /2015-03-31/functions/{echo}/invocations HTTP/1.1\r\nHost: x\r\n{CALLER}Transfer-Encoding: chunked\r\n\r\n"
            '5\r\n{"a":\r\n2\r\n1}\r\n0\r\n\r\n'
        )
        status, _, body = connection.receive()
        assert status == 200 and json.loads(body)["event"] == {"a": 1}


def test_requests_sent_ahead_on_one_connection_are_answered_in_order(shared, echo):
    with Raw(shared) as connection:
        connection.send(b"".join(invocation(echo, b'{"n":%d}' % n) for n in range(5)))
        buffered = b""
        end = time.monotonic() + 20
        while buffered.count(b'"event"') < 5 and time.monotonic() < end:
            buffered += connection.socket.recv(65536)
        places = [buffered.index(b'"n":%d' % n if b'"n":0' in buffered else b'"n": %d' % n) for n in range(5)]
        assert places == sorted(places)
