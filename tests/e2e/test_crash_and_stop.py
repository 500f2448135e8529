"""Killed at any moment or stopped politely: nothing accepted is lost, and nothing is left behind."""

import os
import random
import signal
import socket
import subprocess
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from harness import archives, remains
from harness.server import BINARY, Hearth, invoke, settle
from harness.wait import wait_for


def accepted_under_load(server, python, stop, prefix):
    """Creates, updates and invokes until the server is gone; the functions whose creation was answered, with their
    last answered description."""
    accepted, client = {}, server.client(connect_timeout=2)
    archive = archives.function("python-echo")

    def change(thread):
        for n in range(10_000):
            if stop.is_set():
                return
            name = f"{prefix}-{thread}-{n}"
            try:
                server.create(client, name, archive, python, Description="made", wait=False)
                accepted[name] = {"made", "changed"}
                settle(client, name)
                client.update_function_configuration(FunctionName=name, Description="changed")
                accepted[name] = {"changed"}
                settle(client, name)
                invoke(client, name)
            except Exception:  # noqa: BLE001 the server was killed
                if server.process.poll() is not None or stop.is_set():
                    return

    def call(_):
        while not stop.is_set():
            try:
                invoke(client, "steady", {"sleep": 0.05})
            except Exception:  # noqa: BLE001
                return

    threads = [threading.Thread(target=change, args=(n,)) for n in range(2)]
    threads += [threading.Thread(target=call, args=(n,)) for n in range(3)]
    [thread.start() for thread in threads]
    return accepted, threads


def test_every_accepted_function_survives_kill_nine_at_random_moments(own, tmp_path, python):
    data, expected = tmp_path / "data", {}
    seed = random.randrange(1 << 30)
    print("seed", seed)
    moments = random.Random(seed)
    server, marks = own(data=data), []
    server.create(server.client(), "steady", archives.function("python-echo"), python)
    for life in range(4):
        stop = threading.Event()
        accepted, threads = accepted_under_load(server, python, stop, f"life-{life}")
        wait_for(lambda: len(accepted) >= 2, "functions are made")  # noqa: B023
        time.sleep(moments.uniform(0, 1))  # The moment is the point of the test.
        mark = server.mark
        marks.append(mark)
        server.kill()
        stop.set()
        [thread.join() for thread in threads]
        expected.update(accepted)
        # The sandboxes' processes die with it, also before anybody starts anew.
        wait_for(lambda: not remains.marked_processes(mark), lambda: str(remains.marked_processes(mark)))  # noqa: B023
        server = own(data=data)
        client = server.client()
        assert server.instances() == []
        listed = [f for page in client.get_paginator("list_functions").paginate() for f in page["Functions"]]
        there = {f["FunctionName"]: f["Description"] for f in listed}
        assert set(expected) <= set(there), set(expected) - set(there)
        assert all(there[name] in allowed for name, allowed in expected.items())
        assert invoke(client, "steady")[0]["served"] == 1
    sample = moments.sample(sorted(expected), min(8, len(expected)))
    for name in sample:
        assert settle(client, name)["State"] == "Active"
        assert invoke(client, name, {"n": name})[0]["event"] == {"n": name}
    marks.append(server.mark)
    assert server.stop() == 0
    assert [remains.of(data, mark) for mark in marks] == [{}] * len(marks)


def test_a_start_removes_what_a_killed_predecessor_left(own, tmp_path, python):
    server = own()
    client = server.client()
    server.create(client, "busy", archives.function("python-echo"), python, Timeout=60)
    with ThreadPoolExecutor(3) as pool:
        calls = [pool.submit(invoke, client, "busy", {"sleep": 50}) for _ in range(3)]
        wait_for(lambda: sum(i["leases"] for i in server.instances()) == 3, "three instances run")
        before = remains.of(server.data, server.mark)
        assert {"processes", "cgroups"} <= set(before), "this test sees what a server makes"
        server.kill()
        assert all(call.exception() for call in calls)
    wait_for(lambda: "processes" not in remains.of(server.data, server.mark), "its processes are gone")
    second = own()
    left = remains.of(server.data, server.mark)
    assert "processes" not in left and "mounts" not in left and "loops" not in left
    invoke(second.client(), "busy")
    assert second.stop() == 0
    assert remains.of(server.data, second.mark) == {}


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_polite_stop_finishes_the_request_in_flight_and_leaves_nothing(own, how, python):
    outside, interfaces = remains.files_outside(), remains.interfaces()
    # What runs the tests may have been told to outlive its terminal; the server inherits that.
    inherited = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    try:
        server = own()
    finally:
        signal.signal(signal.SIGHUP, inherited)
    client = server.client()
    server.create(client, "slow", archives.function("python-echo"), python, Timeout=30)
    for n in range(3):
        server.create(client, f"idle-{n}", archives.function("python-echo"), python)
        invoke(client, f"idle-{n}")
    with ThreadPoolExecutor(1) as pool:
        slow = pool.submit(invoke, client, "slow", {"sleep": 3, "id": "last"})
        wait_for(lambda: any(i["leases"] for i in server.instances("slow")), "the request runs")
        running = remains.of(server.data, server.mark)
        assert {"processes", "cgroups"} <= set(running)
        server.process.send_signal(how)
        assert slow.result()[0]["event"]["id"] == "last"
        assert server.process.wait(30) == 0, server.log()
    assert remains.of(server.data, server.mark) == {}
    assert remains.files_outside() <= outside and remains.interfaces() <= interfaces
    with pytest.raises(OSError):
        socket.create_connection(server.address, timeout=1)


def test_a_server_that_is_to_outlive_its_terminal_does(own):
    server = own(prefix=["nohup"])
    server.process.send_signal(signal.SIGHUP)
    server.get("/_hearth/health")
    assert server.process.poll() is None


def test_a_server_whose_output_nobody_reads_stops_as_cleanly(tmp_path):
    # As after `hearth dev 2>&1 | head -1`, or when its terminal was closed.
    reader, writer = os.pipe()
    os.close(reader)
    server = subprocess.Popen(
        [str(BINARY), "dev", "--listen", "127.0.0.1:0"],
        stdin=subprocess.DEVNULL,
        stdout=writer,
        stderr=writer,
        env={**os.environ, "TMPDIR": str(tmp_path)},
    )
    os.close(writer)
    try:
        wait_for(lambda: list(tmp_path.glob("hearth-dev-*/hearth.db")), "it has begun")
        server.send_signal(signal.SIGINT)
        assert server.wait(60) == 0
    finally:
        server.kill()
        server.wait()
    assert list(tmp_path.iterdir()) == []


def test_a_stopping_server_takes_no_new_request_and_a_second_interrupt_ends_it_at_once(own, python):
    server = own()
    client = server.client()
    server.create(client, "slow", archives.function("python-echo"), python, Timeout=60)
    with ThreadPoolExecutor(1) as pool:
        slow = pool.submit(invoke, client, "slow", {"sleep": 50})
        wait_for(lambda: any(i["leases"] for i in server.instances("slow")), "the request runs")
        server.interrupt()
        wait_for(lambda: refuses(server), "new connections are refused")
        assert server.process.poll() is None
        server.interrupt()
        server.process.wait(15)
        assert slow.exception() or "FunctionError" in slow.result()[1]
    wait_for(lambda: remains.of(server.data, server.mark) == {}, lambda: str(remains.of(server.data, server.mark)))


def refuses(server):
    try:
        socket.create_connection(server.address, timeout=1).close()
        return False
    except OSError:
        return True


def test_a_throw_away_server_that_was_killed_is_cleared_away_by_the_next(tmp_path, python):
    def throw_away():
        return Hearth(tmp_path, environment={"TMPDIR": str(tmp_path)}).ready()

    with throw_away() as first:
        client = first.client()
        first.create(client, "f", archives.function("python-echo"), python)
        invoke(client, "f")
        [folder] = tmp_path.glob("hearth-dev-*")
        name = remains.worker_name(folder)
        assert remains.cgroups(name)
        first.kill()
    wait_for(lambda: not remains.marked_processes(first.mark), "its processes are gone")
    with throw_away():
        assert not folder.exists()
        assert remains.cgroups(name) == []


def test_killing_the_zygote_or_an_instance_from_outside_is_survived(own, python):
    server = own()
    client = server.client()
    server.create(client, "echo", archives.function("python-echo"), python)
    assert invoke(client, "echo")[0]["served"] == 1
    for pid in reversed(remains.descendants(server.pid)):
        if pid == server.pid or not os.path.exists(f"/proc/{pid}"):
            continue
        os.kill(pid, signal.SIGKILL)

        def answered():
            if server.process.poll() is not None:
                return "ended"
            try:
                return "FunctionError" not in invoke(client, "echo")[1]
            except Exception:  # noqa: BLE001 the request that meets the broken instance may fail
                return False

        outcome = wait_for(answered, "the function answers again, or the server ends and says why", timeout=30)
        if outcome == "ended":
            assert server.process.returncode != 0 and server.log().strip(), "ended in silence"
            assert remains.marked_processes(server.mark) == {}
            break
