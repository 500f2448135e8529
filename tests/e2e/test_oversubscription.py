"""Memory that is promised many times over, and what happens when it is asked for."""

import json
from concurrent.futures import ThreadPoolExecutor

import pytest

from harness import archives
from harness.server import invoke
from harness.wait import wait_for

# Takes as many MiB as it is told, and keeps them; and writes some to a file, whose pages are the kernel's to take back.
HOLDS = """
import os
kept = []
def handler(event, context):
    for _ in range(event.get("mb", 0)):
        kept.append(os.urandom(1 << 20))
    with open("/tmp/file", "wb") as file:
        file.write(bytes(event.get("file", 0) << 20))
        file.flush()
        os.fsync(file.fileno())
    return {"mb": len(kept), "log": os.environ["AWS_LAMBDA_LOG_STREAM_NAME"]}
"""


@pytest.fixture
def pressed(own):
    """Half a gibibyte for instances, promised ten times."""
    return own("--memory", "512", "--oversubscription", "1000")


def functions(server, client, python, count, memory=256):
    archive = archives.pack({"app.py": HOLDS})
    names = [f"hold-{n}" for n in range(count)]
    for name in names:
        server.create(client, name, archive, python, MemorySize=memory, Timeout=30)
    return names


def test_ten_times_the_memory_is_promised_and_no_more(pressed, python):
    client = pressed.client()
    names = functions(pressed, client, python, 21)
    for name in names[:20]:
        assert invoke(client, name)[0]["mb"] == 0
    assert len(pressed.instances()) == 20
    [worker] = json.loads(pressed.get("/_hearth/ps"))["workers"]
    assert worker["memory_promised_mb"] == 5120 == worker["memory_limit_mb"]
    # One more is served too: the one that was idle longest makes way.
    assert invoke(client, names[20])[0]["mb"] == 0
    assert len(pressed.instances()) == 20


def test_idle_instances_make_way_before_memory_runs_out(pressed, python):
    """Twelve functions take 60 MiB each of 512 in all: idle ones hibernate, then end; no busy one is harmed."""
    client = pressed.client()
    for name in functions(pressed, client, python, 12):
        answer, raw = invoke(client, name, {"mb": 60})
        assert answer["mb"] == 60 and "FunctionError" not in raw, (name, answer)
    seen = pressed.log()
    assert "memory pressure" in seen
    evicted = 12 - len(pressed.instances())
    assert evicted >= 3, "what is over was given back"
    metrics = pressed.metrics()
    assert metrics['hearth_worker_invocations_total{worker="local",outcome="success"}'] == 12
    assert metrics['hearth_worker_invocations_total{worker="local",outcome="crash"}'] == 0


def test_a_hibernating_instance_answers_with_what_it_remembers(own, python):
    """Just enough memory is used for idle instances to hibernate, and too little for them to end."""
    server = own("--memory", "512", "--oversubscription", "1000")
    client = server.client()
    names = functions(server, client, python, 9)
    for name in names:
        assert invoke(client, name, {"mb": 45, "file": 8})[0]["mb"] == 45
        asleep = [i for i in server.instances() if i["state"] == "hibernating"]
        if asleep:
            break
    else:
        asleep = wait_for(
            lambda: [i for i in server.instances() if i["state"] == "hibernating"], "one hibernates", 10
        )
    first = asleep[0]
    slept = 'hearth_worker_hibernations_total{worker="local",outcome="asleep"}'
    wait_for(lambda: server.metrics()[slept] >= 1, "its worker has stopped one", 10)
    came_back = 'hearth_worker_hibernated_bytes_total{worker="local",outcome="came-back"}'
    assert server.metrics()[came_back] >= 4 << 20, "the file's pages at least"
    answer, _ = invoke(client, first["function"], {})
    assert answer["mb"] == 45 and answer["log"].endswith(first["instance"]), "the very same instance"


def test_several_workers_share_the_machine(own, python):
    server = own("--workers", "3", "--memory", "1536", "--oversubscription", "100")
    client = server.client()
    for name in functions(server, client, python, 6):
        invoke(client, name)
    workers = json.loads(server.get("/_hearth/ps"))["workers"]
    assert [w["worker"] for w in workers] == ["local-0", "local-1", "local-2"]
    assert [w["memory_limit_mb"] for w in workers] == [512] * 3
    assert [w["instances"] for w in workers] == [2] * 3, "spread evenly, and full"
    assert {i["worker"] for i in server.instances()} == {"local-0", "local-1", "local-2"}


def test_a_second_instance_of_a_function_goes_to_another_worker(own, python):
    """The workers of a machine share its images: what one has, all have."""
    server = own("--workers", "2")
    client = server.client()
    server.create(client, "f", archives.function("python-echo"), python, Timeout=30)
    assert invoke(client, "f")[0]["served"] == 1
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda n: invoke(client, "f", {"id": n, "sleep": 2}), range(2)))
    assert sorted(i["worker"] for i in server.instances("f")) == ["local-0", "local-1"]


def test_a_drained_worker_finishes_what_it_does_and_says_when_it_is_empty(own, python):
    server = own("--workers", "2")
    client = server.client()
    archive = archives.function("python-echo")
    server.create(client, "f", archive, python, Timeout=30)
    with ThreadPoolExecutor(4) as pool:
        calls = [pool.submit(invoke, client, "f", {"id": n, "sleep": 2}) for n in range(4)]
        wait_for(lambda: sum(i["state"] == "busy" for i in server.instances()) == 4, "four are busy")
        said = server.command("drain", "local-0")
        assert said.returncode == 0 and said.stdout == "local-0 is empty\n", said
        assert {call.result()[0]["event"]["id"] for call in calls} == set(range(4)), "none was lost"
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda n: invoke(client, "f", {"id": n, "sleep": 1}), range(4)))
    assert {i["worker"] for i in server.instances()} == {"local-1"}
    assert server.command("drain", "local-0", "--undo").stdout == "local-0 takes instances again\n"
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda n: invoke(client, "f", {"id": n, "sleep": 1}), range(8)))
    assert {i["worker"] for i in server.instances()} == {"local-0", "local-1"}
    unknown = server.command("drain", "nobody")
    assert unknown.returncode != 0 and "no such worker" in unknown.stderr
