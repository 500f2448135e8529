"""Functions that attack their instance hurt only it: the next request is answered, the neighbours never notice."""

import json
import os
import re
import textwrap
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from harness import archives
from harness.clients import tail
from harness.remains import descendants
from harness.server import invoke, settle
from harness.wait import wait_for


@pytest.fixture(scope="module")
def neighbour(shared, python):
    """An innocent function; `neighbour()` calls it."""
    client = shared.client()
    shared.create(client, "neighbour", archives.function("python-echo"), python)
    yield lambda: invoke(client, "neighbour", {"ok": 1})[0]["event"] == {"ok": 1}
    client.delete_function(FunctionName="neighbour")


@pytest.fixture
def unharmed(lab, neighbour):
    """The lab; afterwards its next request and the neighbour's are as good as any."""
    yield lab
    assert neighbour()
    assert lab("result = 'fine'") == "fine"


def server_memory(server):
    """Resident memory of the server's own process, MiB."""
    with open(f"/proc/{server.pid}/status") as status:
        return int(re.search(r"VmRSS:\s+(\d+)", status.read())[1]) / 1024


def test_a_fork_bomb_hits_its_limit(shared, lambda_client, name, python, neighbour):
    # With memory enough that the number of processes is what ends it.
    shared.create(lambda_client, name, archives.function("python-lab"), python, Timeout=20, MemorySize=2048)
    code = textwrap.dedent(
        """
        import os, time
        children = 0
        try:
            while children < 20000:
                pid = os.fork()
                if pid == 0:
                    time.sleep(60)
                    os._exit(0)
                children += 1
        except OSError as error:
            result = [children, error.errno]
        """
    )
    count, _ = invoke(lambda_client, name, {"code": code})
    assert neighbour()
    assert 100 <= count[0] <= 1024 and count[1] == 11, count


def test_a_fork_bomb_that_never_stops_ends_with_the_timeout(shared, lambda_client, name, python, neighbour):
    shared.create(lambda_client, name, archives.function("python-lab"), python, Timeout=2, MemorySize=256)
    bomb = "import os\nwhile True:\n    try:\n        os.fork()\n    except OSError:\n        pass"
    value, answer = invoke(lambda_client, name, {"code": bomb})
    assert "FunctionError" in answer, value
    assert neighbour()
    wait_for(lambda: len(shared.instances(name)) <= 1, "the bombed instance is gone")
    assert invoke(lambda_client, name, {"code": "result = 1"})[0] == 1


def test_a_memory_hog_in_a_child_ends_only_its_instance(lambda_client, unharmed):
    code = """
import os
pid = os.fork()
if pid == 0:
    hog = []
    while True:
        hog.append(bytearray(1 << 24))
os.waitpid(pid, 0)
result = 'parent lives'
"""
    value, answer = invoke(lambda_client, unharmed.name, {"code": code})
    assert value == "parent lives" or "FunctionError" in answer


def test_a_disk_filler_gets_no_space_left_at_its_size_and_its_memory_is_not_charged(unharmed):
    written, code, peak = unharmed(
        """
        import os, resource
        written, chunk = 0, bytes(1 << 20)
        with open('/tmp/filler', 'wb') as file:
            try:
                while written < 2000:
                    file.write(chunk)
                    file.flush()
                    written += 1
                code = 0
            except OSError as error:
                code = error.errno
        try:
            os.unlink('/tmp/filler')
        except OSError:
            pass
        result = [written, code, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss]
        """
    )
    assert code in (28, 122), "ENOSPC or EDQUOT"
    assert 440 <= written <= 560, f"{written} MiB fitted into a /tmp of 512"


def test_what_one_request_left_in_tmp_the_next_one_finds_but_no_other_instance(shared, lambda_client, lab, python):
    lab("open('/tmp/left', 'w').write('here')")
    assert lab("result = open('/tmp/left').read()") == "here"
    other = lab.name[:50] + "-other"
    shared.create(lambda_client, other, archives.function("python-lab"), python)
    try:
        assert invoke(lambda_client, other, {"code": "import os; result = os.listdir('/tmp')"})[0] == []
    finally:
        lambda_client.delete_function(FunctionName=other)


def test_a_flood_of_log_without_a_newline_stays_in_bounds(own, python):
    """As much as it can write, for as long as it may: the flooder is slowed, the log and the server stay small."""
    server = own("--log-mb", "4")
    client = server.client()
    server.create(client, "flood", archives.function("python-lab"), python, Timeout=6, MemorySize=256)
    server.create(client, "calm", archives.function("python-echo"), python)
    assert invoke(client, "flood", {"code": "result = 1"})[0] == 1
    before = server_memory(server)
    with ThreadPoolExecutor(1) as pool:
        code = "import os\nchunk = b'x' * (1 << 20)\nwhile True:\n    os.write(1, chunk)"
        flooding = pool.submit(invoke, client, "flood", {"code": code})
        while not flooding.done():
            assert invoke(client, "calm", {"n": 1})[0]["event"] == {"n": 1}
        value, answer = flooding.result()
    assert value["errorType"] == "Sandbox.Timedout" and len(tail(answer).encode()) <= 4096
    assert "REPORT RequestId" in tail(answer)
    kept = sum(os.path.getsize(os.path.join(r, f)) for r, _, fs in os.walk(server.data / "logs") for f in fs)
    assert kept <= 6 << 20, f"{kept} bytes of log kept where 4 MiB may be"
    assert server_memory(server) - before < 64
    assert invoke(client, "flood", {"code": "result = 1"})[0] == 1


def test_a_process_that_ignores_sigterm_ends_all_the_same(shared, lambda_client, name, python):
    shared.create(
        lambda_client,
        name,
        archives.function("python-lab"),
        python,
        variables={"INIT_CODE": "import signal; [signal.signal(s, signal.SIG_IGN) for s in (2, 15, 1)]"},
        Tags={"hearth:idle-timeout": "1"},
    )
    code = "import os\nif os.fork() == 0:\n    os.setsid()\n    import time\n    time.sleep(600)\nresult = 1"
    assert invoke(lambda_client, name, {"code": code})[0] == 1
    wait_for(lambda: not shared.instances(name), "the instance is gone", timeout=20)
    # Nothing of it runs on: no process of this server has the function's name in its environment.
    wait_for(lambda: not processes_of(shared, name), "its processes are gone")


def processes_of(server, name):
    found = []
    for pid in descendants(server.pid):
        try:
            with open(f"/proc/{pid}/environ", "rb") as environ:
                if f"AWS_LAMBDA_FUNCTION_NAME={name}".encode() in environ.read():
                    found.append(pid)
        except OSError:
            pass
    return found


RUNTIME_API = """
import http.client, os
def api(method, path, body=None, headers={}):
    connection = http.client.HTTPConnection(os.environ['AWS_LAMBDA_RUNTIME_API'], timeout=10)
    connection.request(method, '/2018-06-01/runtime' + path, body, headers)
    answer = connection.getresponse()
    return answer.status, answer.read().decode()
"""


def test_an_answer_to_the_wrong_request_is_refused(unharmed):
    status, body = unharmed(
        RUNTIME_API + "result = api('POST', '/invocation/00000000-0000-0000-0000-000000000000/response', '\"x\"')"
    )
    assert status == 400 and "InvalidRequestID" in body
    status, body = unharmed(RUNTIME_API + "result = api('POST', '/invocation/%2e%2e/response', '\"x\"')")
    assert status in (400, 404)


def test_the_second_answer_to_a_request_changes_nothing(lambda_client, unharmed):
    code = RUNTIME_API + (
        "path = '/invocation/' + context.aws_request_id + '/response'\n"
        "first = api('POST', path, '\"first\"')\nsecond = api('POST', path, '\"second\"')\n"
        "print('ANSWERS', first[0], second[0])\nresult = 'third'"
    )
    value, answer = invoke(lambda_client, unharmed.name, {"code": code})
    assert value == "first" and "FunctionError" not in answer
    for _ in range(3):
        assert unharmed("result = 'own'") == "own"


def test_posting_an_init_error_in_mid_request_is_refused(unharmed):
    status, body = unharmed(RUNTIME_API + "result = api('POST', '/init/error', '{}')")
    assert status == 403 and "InvalidStateTransition" in body


def test_malformed_posts_are_refused(unharmed):
    results = unharmed(
        RUNTIME_API
        + """
result = [
    api('GET', '/nowhere')[0], api('PUT', '/invocation/next')[0],
    api('POST', '/invocation/' + 'x' * 5000 + '/response', '1')[0],
    api('GET', '/../../etc/passwd')[0],
]
"""
    )
    assert all(400 <= status < 500 for status in results), results


def test_a_flood_of_the_runtime_api_costs_only_the_flooder(shared, unharmed, neighbour):
    before = server_memory(shared)
    opened = unharmed(
        """
        import os, socket
        host, port = os.environ['AWS_LAMBDA_RUNTIME_API'].split(':')
        held = []
        for n in range(900):
            try:
                one = socket.create_connection((host, int(port)), timeout=0.5)
                one.settimeout(0.5)
                one.sendall(b'POST /2018-06-01/runtime/invocation/x/response HTTP/1.1\\r\\nHost: x\\r\\nContent-Length: 6000000\\r\\n\\r\\n')
                one.sendall(b'x' * 65536)
                held.append(one)
            except OSError:
                break
        result = len(held)
        """
    )
    assert neighbour()
    assert server_memory(shared) - before < 150, f"{opened} connections"


def test_a_runtime_that_closes_its_connections_at_once(shared, lambda_client, name, python, neighbour):
    """It asks for the next request and hangs up, for ever: the request ends with the function's timeout or serves."""
    init = RUNTIME_API + (
        "import socket\nhost, port = os.environ['AWS_LAMBDA_RUNTIME_API'].split(':')\n"
        "while True:\n    s = socket.create_connection((host, int(port)))\n"
        "    s.sendall(b'GET /2018-06-01/runtime/invocation/next HTTP/1.1\\r\\nHost: x\\r\\n\\r\\n')\n    s.close()\n"
    )
    shared.create(lambda_client, name, archives.function("python-lab"), python, Timeout=2, variables={"INIT_CODE": init})
    value, answer = invoke(lambda_client, name, {})
    assert answer["FunctionError"] == "Unhandled", value
    assert neighbour()
    lambda_client.update_function_configuration(FunctionName=name, Environment={"Variables": {}})
    settle(lambda_client, name)
    assert invoke(lambda_client, name, {"code": "result = 1"})[0] == 1


def test_threads_that_ask_for_next_behind_the_runtimes_back(lambda_client, unharmed):
    """A second `next` before the answer to the first: nobody gets another's request twice."""
    code = RUNTIME_API + (
        "import threading\n"
        "threads = [threading.Thread(target=api, args=('GET', '/invocation/next'), daemon=True) for _ in range(4)]\n"
        "[t.start() for t in threads]\nimport time\ntime.sleep(0.2)\nresult = 'asked'"
    )
    value, answer = invoke(lambda_client, unharmed.name, {"code": code})
    assert value == "asked" or "FunctionError" in answer
    # The stolen `next` may take one request with it, which then times out or fails; the function must come back.
    def fine():
        value, _ = invoke(lambda_client, unharmed.name, {"code": "result = 'back'"})
        return value == "back"

    wait_for(fine, "the function answers again", timeout=60)


def test_burning_cpu_does_not_starve_the_neighbour(lambda_client, lab, neighbour):
    burner = threading.Thread(
        target=invoke,
        args=(lambda_client, lab.name, {"code": "import time\nend = time.time() + 3\nwhile time.time() < end: pass"}),
    )
    burner.start()
    began = time.monotonic()
    while time.monotonic() - began < 2:
        assert neighbour()
    burner.join()


def test_many_open_files_hit_the_limit(unharmed):
    opened, code = unharmed(
        """
        files, code = [], 0
        try:
            while len(files) < 100000:
                files.append(open('/dev/null'))
        except OSError as error:
            code = error.errno
        opened = len(files)
        files.clear()
        result = [opened, code]
        """
    )
    assert code == 24 and opened <= 1024


def test_an_answer_of_deeply_nested_or_strange_json_passes_unread(shared, lambda_client, name, python):
    """The server does not parse what a function answers: nothing in it can hurt."""
    code = RUNTIME_API + (
        "import app\ndef handler(event, context):\n    path = '/invocation/' + context.aws_request_id + '/response'\n"
        "    api('POST', path, b'[' * 100000 + b']' * 100000)\n    return None\n"
    ).replace("import app\n", "")
    shared.create(lambda_client, name, archives.pack({"app.py": code}), python)
    answer = lambda_client.invoke(FunctionName=name)
    assert answer["Payload"].read() == b"[" * 100000 + b"]" * 100000
    assert json.dumps(shared.instances()) is not None
