"""Sandboxes that are made before their function is known shorten cold starts, and no function can tell."""

import json
import os

import pytest

from harness import archives, remains
from harness.server import invoke
from harness.wait import wait_for

PYTHON = """
import grp, json, os, pwd, resource, signal, sys, threading, time

def strings(path):
    with open(path) as file:
        return [one for one in file.read().split("\\0") if one]

def variables(path):
    return [one for one in strings(path) if not one.startswith("AWS_LAMBDA_LOG_STREAM_NAME")]

def handler(event, context):
    with open("/proc/self/mountinfo") as mounts:
        places = sorted(line.split()[4] + " " + line.split()[5] for line in mounts)
    return {
        "environment": list(os.environ.items()),
        "child": os.popen("env | sort").read(),
        "arguments": [sys.argv, sys.orig_argv, sys.executable, str(sys.flags)],
        "path": sys.path,
        "modules": sorted(sys.modules),
        "places": places,
        "directory": [os.getcwd(), os.listdir("."), os.listdir("/tmp"), os.listdir("/")],
        "process": [os.getpid(), os.getppid(), os.getuid(), os.getgid(), os.getgroups(), os.umask(0o22)],
        "streams": [os.readlink(f"/proc/self/fd/{fd}")[:4] for fd in range(3)],
        "descriptors": sorted(os.listdir("/proc/self/fd")),
        "limits": [resource.getrlimit(one) for one in range(16)],
        "signals": [str(signal.getsignal(one)) for one in range(1, 32)],
        "threads": threading.active_count(),
        "zone": [time.tzname, time.timezone],
        "disk": os.statvfs("/tmp").f_blocks,
        "loaded": getattr(sys.modules.get("simplejson"), "WHOSE", "the client's"),
        "memory": context.memory_limit_in_mb,
        "kernel": [variables("/proc/self/environ"), strings("/proc/self/cmdline")],
    }
"""

NODE = """
const fs = require("node:fs");
exports.handler = async () => ({
  environment: Object.entries(process.env),
  child: require("node:child_process").execSync("env | sort").toString(),
  arguments: [process.argv, process.execArgv, process.execPath, process.title],
  modules: Object.keys(require.cache).sort(),
  paths: module.paths,
  directory: [process.cwd(), fs.readdirSync("."), fs.readdirSync("/tmp")],
  process: [process.pid, process.ppid, process.getuid(), process.getgid(), process.umask()],
  streams: [0, 1, 2].map((fd) => fs.readlinkSync(`/proc/self/fd/${fd}`).slice(0, 4)),
  heap: require("node:v8").getHeapStatistics().heap_size_limit,
  zone: [Intl.DateTimeFormat().resolvedOptions(), new Date(0).toString()],
  handles: process.getActiveResourcesInfo(),
});
"""

# Differs between any two instances.
OWN = ("AWS_LAMBDA_LOG_STREAM_NAME", "_X_AMZN_TRACE_ID")
FROM_BLANK = 'hearth_worker_instance_starts_total{worker="local",outcome="from-blank"}'
STARTED_AHEAD = 'hearth_worker_instance_starts_total{worker="local",outcome="started-ahead"}'


def blanks(server, runtime=None):
    listed = json.loads(server.get("/_hearth/ps"))["blanks"]
    return [one for one in listed if runtime in (None, one["runtime"])]


def ready(server, runtime, memory=128):
    """Waits for a sandbox that an instance can be made of."""
    found = lambda: [b for b in blanks(server, runtime) if b["state"] == "ready" and b["memory_mb"] == memory]
    return wait_for(found, f"a blank of {runtime} is ready", timeout=30)


def seen(value):
    """What a function saw, without what differs between any two instances."""
    value["environment"] = [[name, text] for name, text in value["environment"] if name not in OWN]
    value["child"] = [line for line in value["child"].splitlines() if not line.startswith(OWN)]
    return value


def differences(one, other):
    """By key, what is only in one and what is only in the other."""
    found = {}
    for key in one:
        if one[key] != other[key]:
            both = [value if isinstance(value, list) else [value] for value in (one[key], other[key])]
            found[key] = [[item for item in mine if item not in theirs] for mine, theirs in (both, both[::-1])]
    return found


@pytest.fixture
def with_and_without(own, tmp_path):
    return own(data=tmp_path / "with"), own("--pool", "0", data=tmp_path / "without")


def create(client, server, name, code, runtime, environment=None, **more):
    handler = "app.handler"
    archive = code if isinstance(code, bytes) else archives.pack(code)
    variables = {"E2E_MARK": "same", **(environment or {})}
    client.create_function(
        FunctionName=name, Runtime=runtime, Handler=handler, Role="arn:aws:iam::123456789012:role/e2e",
        Code={"ZipFile": archive}, Environment={"Variables": variables}, Timeout=20, **more,
    )
    client.get_waiter("function_active_v2").wait(FunctionName=name, WaiterConfig={"Delay": 1})


def compare(servers, name, code, runtime, ahead, **more):
    """What a function sees in an instance that is made of a blank, and in one that is not; counts what was made of blanks."""
    values = []
    for server in servers:
        client = server.client()
        # The first of its runtime is made as ever; a secret of it must not be seen by the next.
        memory = more.get("MemorySize", 128) if runtime.startswith("nodejs") else 128
        create(client, server, f"first-{name}", code, runtime, {"SECRET": "of the first"}, MemorySize=memory)
        invoke(client, f"first-{name}")
        if server is servers[0]:
            ready(server, runtime, memory)
        before = server.metrics()
        create(client, server, name, code, runtime, **more)
        values.append(seen(invoke(client, name)[0]))
        grown = [server.metrics()[key] - before[key] for key in (FROM_BLANK, STARTED_AHEAD)]
        assert grown == ([1, int(ahead)] if server is servers[0] else [0, 0])
        assert "of the first" not in json.dumps(values)
    found = differences(*values)
    if not ahead:
        # The interpreter that was not wanted had the lower number.
        assert found.pop("process") == [[values[0]["process"][0]], [2]]
    assert found == {}, f"{ahead} {str(found)}"
    return values[0]


def test_a_python_function_sees_the_same_in_a_sandbox_made_ahead(with_and_without, python):
    files = {"app.py": PYTHON}
    value = compare(
        with_and_without, "plain", files, python, True,
        environment={"WORD": "a=b\nc"}, MemorySize=256, EphemeralStorage={"Size": 600},
    )
    assert ["WORD", "a=b\nc"] in value["environment"] and value["memory"] == "256"
    assert value["loaded"] == "the client's"


def test_a_python_function_gets_an_interpreter_of_its_own_where_only_that_is_right(with_and_without, python):
    # Variables that the interpreter reads as it starts.
    value = compare(
        with_and_without, "flags", {"app.py": PYTHON}, python, False,
        environment={"PYTHONOPTIMIZE": "1", "TZ": "Asia/Tokyo"},
    )
    assert "optimize=1" in value["arguments"][3] and value["zone"][0] == ["JST", "JST"]
    # A library that the loader would have found before the system's.
    compare(with_and_without, "library", {"app.py": PYTHON, "lib/libown.so.1": "none"}, python, False)
    # A module of the function's that the client would have loaded instead of its own.
    files = {"app.py": PYTHON, "simplejson/__init__.py": "WHOSE = 'of the function'\nfrom json import *\n"
             "import json\nraw_json = None\nclass JSONEncoder(json.JSONEncoder):\n"
             "    def __init__(self, use_decimal=None, **more): super().__init__(**more)\n"}
    assert compare(with_and_without, "shadow", files, python, True)["loaded"] == "of the function"


def test_a_node_function_sees_the_same_in_a_sandbox_made_ahead(with_and_without, node):
    compare(with_and_without, "plain", {"app.js": NODE}, node, True, environment={"WORD": "a=b\nc"}, MemorySize=256)
    value = compare(with_and_without, "flags", {"app.js": NODE}, node, False, environment={"TZ": "Asia/Tokyo"})
    assert value["zone"][0]["timeZone"] == "Asia/Tokyo"


def test_a_custom_runtime_gets_a_sandbox_made_ahead(own, static_echo):
    server = own()
    client = server.client()
    archive = archives.pack({"bootstrap": static_echo.read_bytes()})
    for name in ["first", "second"]:
        server.create(client, name, archive, "provided.al2023")
    invoke(client, "first", {"name": "one"})
    ready(server, "provided.al2023")
    assert "two" in json.dumps(invoke(client, "second", {"name": "two"})[0])
    assert server.metrics()[FROM_BLANK] == 1


def test_the_memory_limit_is_the_functions_and_the_pool_is_bounded_promised_and_listed(own, python):
    server = own("--pool", "1")
    client = server.client()
    for name, memory in [("small", 128), ("large", 400)]:
        server.create(client, name, archives.function("python-lab"), python, MemorySize=memory, Timeout=20)
    assert invoke(client, "small", {"code": "result = 1"})[0] == 1
    [blank] = ready(server, python)
    promised = 'hearth_placement_memory_bytes{kind="promised"}'
    assert server.metrics()[promised] == (128 + 128) << 20
    take = "x = bytearray(300 << 20)\nresult = len(x) >> 20"
    assert invoke(client, "large", {"code": take})[0] == 300
    assert server.metrics()[FROM_BLANK] == 1
    assert "FunctionError" in invoke(client, "small", {"code": take})[1]
    assert [b for b in ready(server, python) if b["blank"] == blank["blank"]] == [], "it does not come back"
    assert len(blanks(server)) == 1
    listed = os.popen(f"HEARTH_ENDPOINT={server.endpoint} {server.process.args[0]} ps").read()
    assert f"({python})" in listed and " blank " in listed


def test_a_killed_server_leaves_no_sandbox_made_ahead(own, tmp_path, python):
    server = own()
    server.create(server.client(), "first", archives.function("python-echo"), python)
    invoke(server.client(), "first")
    ready(server, python)
    of_server = remains.descendants(server.pid)
    assert len(of_server) >= 6, "a zygote, and two first processes with one interpreter each"
    server.kill()
    wait_for(lambda: not [pid for pid in of_server if os.path.exists(f"/proc/{pid}")], "all of it is gone")
    again = own()
    assert blanks(again) == [] and again.instances() == []
    assert invoke(again.client(), "first")[0]["served"] == 1
    ready(again, python)
    of_server = remains.descendants(again.pid)
    assert again.stop() == 0
    assert not [pid for pid in of_server if os.path.exists(f"/proc/{pid}")]
