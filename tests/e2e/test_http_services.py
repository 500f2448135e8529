"""Servers that know nothing of Lambda, as HTTP services."""

import http.client
import json
import os
import socket
import subprocess
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlsplit

import pytest

from harness import archives
from harness.server import ACCOUNT, settle
from harness.wait import wait_for

# What a Python server may take to listen; where machines are emulated it is no matter of speed.
START_SECONDS = 60 if os.environ.get("HEARTH_ISOLATION") == "qemu" else 20


class Service:
    """A service and how to speak to it."""

    def __init__(self, shared, name):
        self.shared, self.name = shared, name
        self.host = f"{name}.{ACCOUNT}.localhost:{shared.address[1]}"

    def ask(self, path="/", method="GET", body=None, headers=None, timeout=1.5 * START_SECONDS):
        connection = http.client.HTTPConnection(*self.shared.address, timeout=timeout)
        try:
            connection.request(method, path, body, {"Host": self.host, **(headers or {})}, encode_chunked=not isinstance(body, (bytes, type(None))))
            answer = connection.getresponse()
            return answer.status, answer.headers, answer.read()
        finally:
            connection.close()

    def seen(self, *arguments, **more):
        status, _, body = self.ask(*arguments, **more)
        assert status == 200, (status, body)
        return json.loads(body)

    def raw(self, data, timeout=30):
        connection = socket.create_connection(self.shared.address, timeout=timeout)
        connection.sendall(data if isinstance(data, bytes) else data.encode())
        return connection

    def states(self):
        return [instance["state"] for instance in self.shared.instances(self.name)]

    def log(self):
        done = self.shared.command("logs", self.name)
        return done.stdout


@pytest.fixture
def service(shared, lambda_client, python, name):
    """Makes a service: tags without their prefix, and variables for the server."""

    def make(variables=None, timeout=START_SECONDS, **tags):
        tags = {"hearth:http-port": "8080", **{f"hearth:{key.replace('_', '-')}": value for key, value in tags.items()}}
        shared.create(
            lambda_client, name, archives.function("http-lab"), python, "server.py",
            variables=variables, Tags=tags, Timeout=timeout, MemorySize=256,
        )  # fmt: skip
        return Service(shared, name)

    return make


def everything(connection):
    text = b""
    while piece := connection.recv(65536):
        text += piece
    return text


def test_a_server_answers_under_its_name_and_scales_from_zero(service, shared):
    lab = service()
    assert lab.states() == []
    seen = lab.seen("/a/b%20c?x=1&y=%2F", headers={"X-Mine": "v", "Cookie": "a=1"})
    assert (seen["method"], seen["path"], seen["port"]) == ("GET", "/a/b%20c?x=1&y=%2F", "8080")
    assert seen["headers"]["x-mine"] == "v" and seen["headers"]["host"] == lab.host
    status, headers, body = lab.ask("/", "POST", b"hello")
    assert (status, headers["x-mine"], headers["set-cookie"]) == (200, "yes", "a=1")
    assert json.loads(body)["body"] == "hello"
    assert lab.states() == ["idle"], "one instance did it all"
    assert lab.ask("/status?code=404")[0] == 404
    # curl resolves names below localhost by itself, as browsers do.
    curl = subprocess.run(["curl", "-s", f"http://{lab.host}/from-curl"], capture_output=True, timeout=30)
    assert json.loads(curl.stdout)["path"] == "/from-curl"
    curl = subprocess.run(
        ["curl", "-s", "--http2-prior-knowledge", "-d", "body", f"http://{lab.host}/h2"], capture_output=True, timeout=30
    )
    assert json.loads(curl.stdout)["body"] == "body"


def test_the_path_names_a_service_too_and_is_its_own_behind_that(service, shared, name):
    lab = service()
    signed = {"Authorization": f"AWS4-HMAC-SHA256 Credential={ACCOUNT}/x, Signature=y", "Host": "127.0.0.1"}
    seen = lab.seen(f"/_/{name}/deep/path?q", headers=signed)
    assert seen["path"] == "/deep/path?q" and seen["headers"]["x-forwarded-prefix"] == f"/_/{name}"
    assert lab.seen(f"/_/{name}", headers=signed)["path"] == "/"
    # Of another account there is no such service.
    assert lab.ask(f"/_/{name}/", headers={"Host": "127.0.0.1"})[0] == 404
    assert lab.ask("/", headers={"Host": f"{name}.localhost"})[0] == 404
    assert lab.ask("/", headers={"Host": f"{name}.210987654321.localhost"})[0] == 404


def test_a_host_is_its_services_own_until_it_lets_go(service, shared, lambda_client, name, python):
    host = f"{name}.example.com"
    lab = service(hosts=host)
    assert lab.seen("/", headers={"Host": host.upper() + ":80"})["headers"]["x-forwarded-host"] == host.upper() + ":80"
    arn = lambda_client.get_function_configuration(FunctionName=name)["FunctionArn"]
    other = shared.client("210987654321")
    with pytest.raises(other.exceptions.ResourceConflictException, match="another function's"):
        shared.create(other, name, archives.function("http-lab"), python, "server.py", Tags={"hearth:http-port": "80", "hearth:hosts": host})
    # Whoever had any other host would get what is sent to it, Hearth's own included.
    for wrong in ["localhost", "127.0.0.1", "a.localhost", "x.lambda-url.com", "hearth.test", "example.com.test"]:
        with pytest.raises(lambda_client.exceptions.InvalidParameterValueException):
            lambda_client.tag_resource(Resource=arn, Tags={"hearth:hosts": wrong})
    lambda_client.untag_resource(Resource=arn, TagKeys=["hearth:hosts"])
    assert b"UnknownOperation" not in lab.ask("/", headers={"Host": lab.host})[2]
    assert lab.ask("/", headers={"Host": host})[0] == 404


def test_an_alias_of_a_service_shares_its_requests_out_by_its_weights(service, shared, lambda_client, name):
    host = f"{name}.example.com"
    lab = service(hosts=f"live@{host}", variables={"SAYS": "one"})
    for number, said in enumerate(["one", "two", "three"], 1):
        lambda_client.update_function_configuration(FunctionName=name, Environment={"Variables": {"SAYS": said}})
        settle(lambda_client, name)
        if said != "three":
            assert lambda_client.publish_version(FunctionName=name)["Version"] == str(number)
            settle(lambda_client, f"{name}:{number}")
    weights = {"AdditionalVersionWeights": {"2": 0.5}}
    lambda_client.create_alias(FunctionName=name, Name="live", FunctionVersion="1", RoutingConfig=weights)

    def says(asked, path="/says", **headers):
        return lab.ask(path, headers={"Host": asked, **headers})[2].decode()

    local = f"{name}.{ACCOUNT}.localhost"
    assert [says(asked) for asked in [local, f"1.{local}", f"2.{local}"]] == ["three", "one", "two"]
    signed = {"Authorization": f"AWS4-HMAC-SHA256 Credential={ACCOUNT}/x, Signature=y"}
    # Of forty requests at even odds, all go to one version once in 500,000,000,000 times.
    assert {says(f"live.{local}") for _ in range(40)} == {"one", "two"}
    assert {says("127.0.0.1", f"/_/{name}:live/says", **signed) for _ in range(40)} == {"one", "two"}
    assert {says(host) for _ in range(40)} == {"one", "two"}
    url = lambda_client.create_function_url_config(FunctionName=name, Qualifier="live", AuthType="NONE")["FunctionUrl"]
    assert {says(urlsplit(url).netloc) for _ in range(40)} == {"one", "two"}
    lambda_client.update_alias(FunctionName=name, Name="live", FunctionVersion="2", RoutingConfig={"AdditionalVersionWeights": {}})
    assert {says(f"live.{local}") for _ in range(10)} == {"two"}
    assert [lab.ask(headers={"Host": f"{none}.{local}"})[0] for none in ["nobody", "9"]] == [404, 404]


def test_a_service_hears_who_asked_and_how(service):
    lab = service()
    headers = lab.seen("/", headers={"X-Forwarded-For": "1.2.3.4", "Connection": "keep-alive, X-Drop", "X-Drop": "1", "Keep-Alive": "x"})["headers"]
    assert headers["x-forwarded-for"] == "1.2.3.4, 127.0.0.1"
    assert headers["x-forwarded-proto"] == "http" and headers["x-forwarded-host"] == lab.host
    assert headers["x-request-id"] and headers["traceparent"].startswith("00-")
    assert not {"connection", "x-drop", "keep-alive"} & headers.keys()
    assert lab.ask("/", headers={"X-Request-Id": "mine"})[1]["x-request-id"] == "mine"


def test_bodies_stream_in_both_directions_at_once(service):
    lab = service()
    lab.ask("/")
    connection = lab.raw(f"POST /back HTTP/1.1\r\nHost: {lab.host}\r\nTransfer-Encoding: chunked\r\n\r\n")
    reader = connection.makefile("rb")
    connection.sendall(b"5\r\nfirst\r\n")
    assert reader.readline().startswith(b"HTTP/1.1 200")
    while reader.readline() != b"\r\n":
        pass
    assert (reader.readline(), reader.readline()) == (b"5\r\n", b"first\r\n"), "it came back before the rest was sent"
    connection.sendall(b"4\r\nlast\r\n0\r\n\r\n")
    assert (reader.readline(), reader.readline(), reader.readline()) == (b"4\r\n", b"last\r\n", b"0\r\n")
    large = bytes(30 << 20)
    assert lab.ask("/count", "POST", large)[2] == str(len(large)).encode()


def test_events_come_as_they_are_sent(service):
    lab = service()
    lab.ask("/")
    connection = lab.raw(f"GET /events?n=3&pause=0.3 HTTP/1.1\r\nHost: {lab.host}\r\n\r\n")
    reader, times = connection.makefile("rb"), []
    for line in iter(reader.readline, b"0\r\n"):
        if line.startswith(b"data"):
            times.append(time.monotonic())
    assert len(times) == 3 and times[-1] - times[0] > 0.4


def test_a_slow_client_holds_the_service_back(service, shared):
    lab = service()
    connection = lab.raw(f"GET /large?mb=64 HTTP/1.1\r\nHost: {lab.host}\r\n\r\n")
    wait_for(lambda: "megabyte 0" in lab.log(), "it sends")
    time.sleep(1)
    assert lab.log().count("megabyte") < 32
    assert len(everything_of(connection)) > 64 << 20


def everything_of(connection):
    connection.settimeout(30)
    text = bytearray()
    while not text.endswith(b"0\r\n\r\n"):
        text += connection.recv(1 << 20)
    return text


def test_trailers_come_through(service):
    lab = service()
    connection = lab.raw(f"GET /trailers HTTP/1.1\r\nHost: {lab.host}\r\nTE: trailers\r\nConnection: close, TE\r\n\r\n")
    assert everything(connection).lower().endswith(b"4\r\nbody\r\n0\r\nx-sum: 42\r\n\r\n")


def test_a_client_that_waits_for_continue_is_told_to(service):
    lab = service()
    lab.ask("/")
    connection = lab.raw(f"POST / HTTP/1.1\r\nHost: {lab.host}\r\nContent-Length: 5\r\nExpect: 100-continue\r\nConnection: close\r\n\r\n")
    assert connection.recv(4096).startswith(b"HTTP/1.1 100")
    connection.sendall(b"hello")
    text = everything(connection)
    assert text.startswith(b"HTTP/1.1 200") and b'"body": "hello"' in text


def test_a_client_that_goes_away_ends_its_request(service):
    lab = service()
    connection = lab.raw(f"GET /hang HTTP/1.1\r\nHost: {lab.host}\r\n\r\n")
    wait_for(lambda: "hanging" in lab.log(), "the service has it")
    assert lab.states() == ["busy"]
    connection.close()
    wait_for(lambda: "client gone" in lab.log(), "the service hears of it", 5)
    wait_for(lambda: lab.states() == ["idle"], "the slot is free", 5)


def test_a_websocket_passes_texts_of_all_sizes_and_its_end(service):
    from websockets.sync.client import connect

    lab = service(concurrency="hard=4")
    with connect(f"ws://{lab.host}/ws", sock=socket.create_connection(lab.shared.address)) as socket_:
        for text in ["", "hello", "x" * 1000, "y" * 70_000]:
            socket_.send(text)
            assert socket_.recv(10) == text
        assert lab.states() == ["busy"]
    wait_for(lambda: "socket closed" in lab.log(), "the service sees the end", 5)
    wait_for(lambda: lab.states() == ["idle"], "the slot is free", 5)


def test_a_flood_of_websockets_is_held_at_the_services_limit(service, lambda_client, name):
    lab = service(concurrency="hard=4", queue="wait=0 depth=0")
    lambda_client.put_function_concurrency(FunctionName=name, ReservedConcurrentExecutions=4)
    head = f"GET /ws HTTP/1.1\r\nHost: {lab.host}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: eA==\r\nSec-WebSocket-Version: 13\r\n\r\n"
    lab.ask("/")
    sockets = [lab.raw(head) for _ in range(40)]
    answers = [one.recv(4096).split(b" ")[1] for one in sockets]
    assert answers.count(b"101") == 4 and answers.count(b"429") == 36
    for one in sockets:
        one.close()
    wait_for(lambda: lab.ask("/")[0] == 200, "there is room again", 10)


def test_many_requests_share_an_instance(service):
    lab = service(concurrency="hard=64 adaptive=off")
    lab.ask("/")
    threads = [threading.Thread(target=lab.ask, args=("/slow?s=1",)) for _ in range(20)]
    began = time.monotonic()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert time.monotonic() - began < 8 and len(lab.states()) == 1


def test_a_health_path_says_when_a_service_is_ready(service):
    lab = service({"HEALTHY_AFTER": "1"}, http_health="/health")
    began = time.monotonic()
    assert lab.ask("/")[0] == 200 and time.monotonic() - began >= 1
    assert "health False" in lab.log() and "health True" in lab.log()


def test_a_service_that_listens_late_is_waited_for(service):
    lab = service({"LISTEN_AFTER": "2"})
    assert lab.ask("/")[0] == 200


def test_a_service_that_never_listens_or_exits_at_once_is_a_502_that_says_so(service):
    lab = service({"LISTEN_AFTER": "1000"}, timeout=1)
    began = time.monotonic()
    status, _, body = lab.ask("/", timeout=60)
    assert status == 502 and b"log" in body and time.monotonic() - began < 25
    wait_for(lambda: lab.states() == [], "nothing of it is left", 10)


def test_a_service_that_exits_at_once(service):
    lab = service({"EXIT": "7"})
    status, _, body = lab.ask("/")
    assert status == 502 and b"log" in body
    assert "Runtime.ExitError" in lab.log()
    wait_for(lambda: lab.states() == [], "nothing of it is left", 10)


def test_a_service_that_dies_in_mid_request_is_a_502_and_started_anew(service):
    lab = service()
    first = lab.seen()["pid"]
    assert lab.ask("/exit")[0] == 502
    wait_for(lambda: lab.ask("/")[0] == 200, "another has come", 10)
    assert first


def test_a_service_that_ignores_sigterm_is_ended(service, lambda_client, name):
    lab = service({"IGNORE_TERM": "1"})
    lab.ask("/")
    lambda_client.delete_function(FunctionName=name)
    wait_for(lambda: lab.states() == [], "it is gone", 10)


def test_a_service_that_sleeps_is_woken_by_a_request_and_answers_it(service, shared, name):
    asleep = service()
    process = asleep.seen("/seen")["pid"]
    [instance] = shared.instances(name)
    for together in [1, 5]:
        done = shared.command("instance", "suspend", instance["instance"])
        assert done.returncode == 0, done.stderr
        # Some find it asleep, some on its way there or back.
        with ThreadPoolExecutor(together) as several:
            answers = list(several.map(lambda _: asleep.seen("/seen")["pid"], range(together)))
        assert process in answers
        assert instance["instance"] in [one["instance"] for one in shared.instances(name)]


def test_a_service_that_breaks_off_or_takes_too_long_is_told_apart(service):
    lab = service(timeout=2)
    with pytest.raises(http.client.IncompleteRead):
        lab.ask("/cut")
    began = time.monotonic()
    assert lab.ask("/slow?s=9")[0] == 504 and time.monotonic() - began < 6
    assert lab.ask("/")[0] == 200
    assert len(lab.states()) == 1, "the instance serves others still"


def test_requests_cannot_be_smuggled(service):
    lab = service()
    lab.ask("/")
    before = lab.seen()["served"]
    hidden = f"GET /smuggled HTTP/1.1\r\nHost: {lab.host}\r\n\r\n"
    # Both lengths: what is chunked counts, and the rest is another request of this client, or none.
    both = f"POST /count HTTP/1.1\r\nHost: {lab.host}\r\nContent-Length: {len(hidden) + 5}\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n0\r\n\r\n{hidden}"
    text = everything(lab.raw(both))
    assert text.count(b"HTTP/1.1 ") == 1
    for wrong in [
        f"POST / HTTP/1.1\r\nHost: {lab.host}\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
        f"POST / HTTP/1.1\r\nHost: {lab.host}\r\nContent-Length: +5\r\n\r\nhello",
        f"POST / HTTP/1.1\r\nHost: {lab.host}\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
        f"POST / HTTP/1.1\r\nHost: {lab.host}\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nhello\r\n0\r\n\r\n",
        f"POST / HTTP/1.1\r\nHost: {lab.host}\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhelloXX0\r\n\r\n",
        f"GET / HTTP/1.1\r\nHost: {lab.host}\r\nX: a\rb\r\n\r\n",
        f"GET / HTTP/1.1\r\nHost: {lab.host}\r\n X-Folded: a\r\n\r\n",
        f"GET / HTTP/1.1\r\nHost : {lab.host}\r\n\r\n",
        f"GET / HTTP/1.1\r\nHost: {lab.host}\r\nHost: 127.0.0.1\r\n\r\n",
        f"GET /a b HTTP/1.1\r\nHost: {lab.host}\r\n\r\n",
    ]:
        text = everything(lab.raw(wrong + hidden))
        assert b"smuggled" not in text, wrong
        assert not text or text.split(b" ")[1] in (b"400", b"502"), (wrong, text)
    assert lab.ask("/")[0] == 200
    assert lab.seen()["served"] < before + 12


def test_the_authority_of_the_target_wins_over_the_host(service, shared):
    lab = service()
    text = everything(lab.raw(f"GET http://{lab.host}/ HTTP/1.1\r\nHost: other.localhost\r\nConnection: close\r\n\r\n"))
    assert text.startswith(b"HTTP/1.1 200") and f'"host": "{lab.host}"'.encode() in text
    text = everything(lab.raw(f"GET http://none.localhost/ HTTP/1.1\r\nHost: {lab.host}\r\nConnection: close\r\n\r\n"))
    assert text.startswith(b"HTTP/1.1 404")


def test_heads_that_are_too_large_are_refused_and_half_closed_sockets_answered(service):
    lab = service()
    lab.ask("/")
    bomb = "".join(f"X-{n}: {'a' * 500}\r\n" for n in range(200))
    assert everything(lab.raw(f"GET / HTTP/1.1\r\nHost: {lab.host}\r\n{bomb}\r\n")).split(b" ")[1] == b"431"
    many = "".join(f"X-{n}: a\r\n" for n in range(2000))
    assert everything(lab.raw(f"GET / HTTP/1.1\r\nHost: {lab.host}\r\n{many}\r\n")).split(b" ")[1] == b"431"
    half = lab.raw(f"POST /count HTTP/1.1\r\nHost: {lab.host}\r\nContent-Length: 100\r\n\r\nsome")
    half.shutdown(socket.SHUT_WR)
    text = everything(half)
    assert not text or text.split(b" ")[1] in (b"400", b"502"), text
    wait_for(lambda: lab.states() == ["idle"], "the slot is free", 10)


def test_a_service_behind_a_function_url_gets_requests_as_they_are(service, lambda_client, name):
    lab = service()
    made = lambda_client.create_function_url_config(FunctionName=name, AuthType="NONE")["FunctionUrl"]
    curl = subprocess.run(["curl", "-s", made + "through?a=b"], capture_output=True, timeout=30)
    assert json.loads(curl.stdout)["path"] == "/through?a=b"
    with pytest.raises(lambda_client.exceptions.InvalidParameterValueException, match="HTTP service"):
        lambda_client.invoke(FunctionName=name)
    assert lab


def test_a_function_that_is_no_service_says_what_to_do(shared, lambda_client, python, name):
    shared.create(lambda_client, name, archives.function("python-echo"), python)
    status, _, body = Service(shared, name).ask("/")
    assert status == 404 and b"hearth:http-port" in body


def test_a_client_that_takes_nothing_loses_its_slot(service, shared):
    """One that takes a byte now and then is no dead connection, and would hold its slot for ever."""
    lab = service(timeout=3)
    assert lab.seen("/")["served"] == 1
    taker = lab.raw(f"GET /large?mb=50 HTTP/1.1\r\nHost: {lab.host}\r\n\r\n")
    with taker:
        assert taker.recv(1).startswith(b"H")
        wait_for(lambda: lab.states() == ["busy"], "the slot is taken")

        def is_free():
            taker.recv(1)
            return lab.states() == ["idle"]

        wait_for(is_free, "the slot is free", every=0.25)
    assert lab.seen("/")["served"] > 1


def test_pages_of_other_origins_cannot_use_the_api(service, shared, name):
    """A developer's browser would, for any page that is open in it: no key is asked for."""
    lab = service()
    host = f"{shared.address[0]}:{shared.address[1]}"
    for path in ["/2015-03-31/functions", "/_hearth/ps", "/metrics"]:
        assert lab.ask(path, headers={"Host": host})[0] == 200
        for origin in ["http://elsewhere.example", "null", f"http://{lab.host}"]:
            assert lab.ask(path, headers={"Host": host, "Origin": origin})[0] == 403, (path, origin)
        assert lab.ask(path, headers={"Host": host, "Origin": f"http://{host}"})[0] == 200
    # Below a path a service is at the API's own origin: its pages are of none.
    signed = {"Authorization": f"AWS4-HMAC-SHA256 Credential={ACCOUNT}/x, Signature=y", "Host": host}
    policy = lab.ask(f"/_/{name}/", headers=signed)[1]["Content-Security-Policy"]
    assert policy.startswith("sandbox ") and "allow-same-origin" not in policy
    assert "Content-Security-Policy" not in lab.ask("/")[1]
