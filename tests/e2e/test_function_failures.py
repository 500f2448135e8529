"""A function that fails tells its caller what Lambda would tell, and harms nobody who comes after."""

import json
import re

import pytest

from harness import archives
from harness.clients import tail
from harness.server import invoke, settle
from harness.wait import wait_for


def failed(client, name, event=None):
    """The error document and the log of an invocation that must fail in the function."""
    value, answer = invoke(client, name, event)
    assert answer["StatusCode"] == 200 and answer["FunctionError"] == "Unhandled", value
    log, request = tail(answer), answer["ResponseMetadata"]["RequestId"]
    assert f"END RequestId: {request}" in log, log
    assert re.search(rf"^REPORT RequestId: {request}\tDuration: ", log, re.M), log
    return value, log, request


@pytest.fixture
def unharmed(lambda_client, lab):
    """The lab; after the test its next request must be as good as any."""
    yield lab
    assert lab("result = 'fine'") == "fine"


def test_an_exception(lambda_client, unharmed):
    value, log, request = failed(lambda_client, unharmed.name, {"code": "raise ValueError('no ü')"})
    assert value["errorType"] == "ValueError" and value["errorMessage"] == "no ü"
    assert value["requestId"] == request and any("/var/task/app.py" in line for line in value["stackTrace"])
    assert f"START RequestId: {request} Version: $LATEST" in log and "[ERROR] ValueError: no ü" in log


def test_an_exception_keeps_the_instance(lambda_client, lab):
    first = lab("import app; app.kept = 7")
    failed(lambda_client, lab.name, {"code": "1 / 0"})
    assert first is None and lab("import app; result = app.kept") == 7


def test_a_timeout(shared, lambda_client, name, python):
    shared.create(lambda_client, name, archives.function("python-echo"), python, Timeout=1)
    assert invoke(lambda_client, name)[0]["served"] == 1
    value, log, request = failed(lambda_client, name, {"sleep": 30})
    assert value == {
        "errorType": "Sandbox.Timedout",
        "errorMessage": f"RequestId: {request} Error: Task timed out after 1.00 seconds",
    }
    assert f"{request} Task timed out after 1.00 seconds" in log
    assert "Status: timeout" in log
    # The instance is gone and a new one serves.
    assert invoke(lambda_client, name)[0]["served"] == 1


@pytest.mark.parametrize(
    "code, message",
    [
        ("import os; os._exit(3)", "Runtime exited with error: exit status 3"),
        ("import os; os._exit(0)", "Runtime exited without providing a reason"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", "Runtime exited with error: signal: killed"),
        ("import os; os.abort()", "Runtime exited with error: signal: aborted"),
        ("import ctypes; ctypes.string_at(0)", "Runtime exited with error: signal: segmentation fault"),
    ],
)
def test_a_runtime_that_exits_in_mid_request(lambda_client, unharmed, code, message):
    value, _, request = failed(lambda_client, unharmed.name, {"code": code})
    assert value["errorType"] == "Runtime.ExitError"
    assert value["errorMessage"].startswith(f"RequestId: {request} Error: {message}"), value


def test_a_runtime_that_exits_between_requests(shared, lab):
    """It dies after its answer; once it is gone, which takes a moment, a new instance serves as if nothing had been."""
    for _ in range(3):
        lab("import threading, os; threading.Timer(0.01, lambda: os._exit(1)).start(); result = 1")
        wait_for(lambda: not shared.instances(lab.name), "the end of the instance")


def test_out_of_memory(lambda_client, unharmed):
    value, log, request = failed(lambda_client, unharmed.name, {"code": "x = b'x' * (2 << 30)"})
    if value["errorType"] == "MemoryError":
        pytest.fail("the function was refused memory instead of being ended")
    assert value["errorType"] in ("Runtime.OutOfMemory", "Runtime.ExitError")
    assert value["errorMessage"].startswith(f"RequestId: {request} Error: Runtime exited with error: signal: killed")
    used = int(re.search(r"Max Memory Used: (\d+) MB", log)[1])
    assert 200 <= used <= 256, log


@pytest.mark.parametrize(
    "source, handler, kind, word",
    [
        ("import nope\n", "app.handler", "Runtime.ImportModuleError", "No module named 'nope'"),
        ("x = 1\n", "app.handler", "Runtime.HandlerNotFound", "Handler 'handler' missing on module 'app'"),
        ("def handler(:\n", "app.handler", "Runtime.UserCodeSyntaxError", "Syntax error in module 'app'"),
        ("x = 1\n", "nothere.handler", "Runtime.ImportModuleError", "Unable to import module 'nothere'"),
        ("x = 1\n", "handler", "Runtime.MalformedHandlerName", "Bad handler 'handler'"),
        ("raise KeyError('early')\n", "app.handler", "KeyError", "early"),
    ],
    ids=["import", "handler", "syntax", "module", "malformed", "raises"],
)
def test_an_init_that_fails(shared, lambda_client, name, python, source, handler, kind, word):
    shared.create(lambda_client, name, archives.pack({"app.py": source}), python, handler, Timeout=30)
    for _ in range(2):
        value, log, _ = failed(lambda_client, name)
        assert value["errorType"] == kind and word in value["errorMessage"], value
    good = archives.pack({"app.py": "def handler(e, c): return 'mended'\n"})
    lambda_client.update_function_configuration(FunctionName=name, Handler="app.handler")
    settle(lambda_client, name)
    lambda_client.update_function_code(FunctionName=name, ZipFile=good)
    settle(lambda_client, name)
    assert invoke(lambda_client, name)[0] == "mended"


def test_an_init_that_exits(shared, lambda_client, name, python):
    shared.create(
        lambda_client, name, archives.function("python-lab"), python, variables={"INIT_CODE": "import os; os._exit(4)"}
    )
    value, _, request = failed(lambda_client, name)
    assert value["errorType"] == "Runtime.ExitError"
    assert value["errorMessage"].startswith(f"RequestId: {request} Error: Runtime exited with error: exit status 4")


def test_an_init_that_takes_longer_than_ten_seconds_ends_by_the_functions_timeout(shared, lambda_client, name, python):
    """Lambda gives up the init phase after 10 s and does it again within the invocation's time."""
    shared.create(
        lambda_client,
        name,
        archives.function("python-lab"),
        python,
        Timeout=2,
        variables={"INIT_CODE": "import time; time.sleep(60)"},
    )
    value, _, request = failed(lambda_client, name)
    assert value["errorType"] == "Sandbox.Timedout", value
    assert value["errorMessage"].startswith(f"RequestId: {request} Error: Task timed out after ")


def test_a_node_function_that_fails_to_load(shared, lambda_client, name, node):
    shared.create(lambda_client, name, archives.pack({"index.js": "exports.other = 1\n"}), node, "index.handler")
    value, _, _ = failed(lambda_client, name)
    assert value["errorType"] == "Runtime.HandlerNotFound", value
    lambda_client.update_function_code(FunctionName=name, ZipFile=archives.pack({"index.js": "exports.handler = (\n"}))
    settle(lambda_client, name)
    value, _, _ = failed(lambda_client, name)
    assert value["errorType"] == "Runtime.UserCodeSyntaxError", value


@pytest.mark.parametrize(
    "files, kind",
    [
        ({"readme": "no bootstrap"}, "Runtime.InvalidEntrypoint"),
        ({"bootstrap": "#!/nowhere/sh\n"}, "Runtime.InvalidEntrypoint"),
        ({"bootstrap": b"\x7fELF nonsense"}, "Runtime.InvalidEntrypoint"),
    ],
    ids=["none", "no-interpreter", "no-program"],
)
def test_a_bootstrap_that_cannot_be_run(shared, lambda_client, name, files, kind):
    shared.create(lambda_client, name, archives.pack(files), "provided.al2023", "any")
    value, _, request = failed(lambda_client, name)
    assert value["errorType"] == kind, value
    assert value["errorMessage"].startswith(f"RequestId: {request} Error: ")


def test_a_bootstrap_without_execute_bit(shared, lambda_client, name):
    archive = archives.pack_entries([(archives.entry("bootstrap", 0o644), "#!/bin/sh\nexit 0\n")])
    shared.create(lambda_client, name, archive, "provided.al2023", "any")
    value, _, _ = failed(lambda_client, name)
    assert value["errorType"] == "Runtime.InvalidEntrypoint" and "ermission" in value["errorMessage"], value


def test_an_answer_that_is_too_large(lambda_client, unharmed):
    limit = 6291556
    assert len(unharmed(f"result = 'x' * ({limit} - 2)")) == limit - 2
    value, _, _ = failed(lambda_client, unharmed.name, {"code": f"result = 'x' * ({limit} - 1)"})
    assert value["errorType"] == "Function.ResponseSizeTooLarge"
    assert value["errorMessage"] == f"Response payload size exceeded maximum allowed payload size ({limit} bytes)."


def test_an_answer_that_is_no_json(lambda_client, unharmed):
    value, _, _ = failed(lambda_client, unharmed.name, {"code": "result = {1, 2}"})
    assert value["errorType"] == "Runtime.MarshalError" and "not JSON serializable" in value["errorMessage"]


def test_the_log_tail_is_four_kilobytes_at_most_and_ends_with_the_report(lambda_client, lab):
    answer = lambda_client.invoke(
        FunctionName=lab.name,
        LogType="Tail",
        Payload=json.dumps({"code": "for n in range(2000): print('line', n)"}),
    )
    log = tail(answer)
    assert 3 * 1024 <= len(log.encode()) <= 4096
    assert "line 1999\n" in log and log.rstrip().splitlines()[-1].startswith("REPORT RequestId: ")


def test_the_report_tells_the_truth(shared, lambda_client, name, python):
    shared.create(lambda_client, name, archives.function("python-echo"), python, MemorySize=192)
    report = re.compile(
        r"REPORT RequestId: \S+\tDuration: (?P<duration>[\d.]+) ms\tBilled Duration: (?P<billed>\d+) ms\t"
        r"Memory Size: 192 MB\tMax Memory Used: (?P<used>\d+) MB\t(?:Init Duration: (?P<init>[\d.]+) ms\t)?"
    )
    _, cold = invoke(lambda_client, name, {"sleep": 0.25})
    first = report.search(tail(cold))
    assert first and float(first["duration"]) >= 250 and float(first["init"]) > 0 and 0 < int(first["used"]) <= 192
    assert int(first["billed"]) >= float(first["duration"])
    _, warm = invoke(lambda_client, name, {"sleep": 0.25})
    second = report.search(tail(warm))
    assert second and second["init"] is None and float(second["duration"]) >= 250
