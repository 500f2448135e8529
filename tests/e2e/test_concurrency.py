"""Instances multiply with load, are used again, and go; no request is lost or mixed up on the way."""

import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from harness import archives
from harness.raw import Raw, invocation
from harness.server import invoke, settle
from harness.wait import wait_for


def call_all(client, name, events, at_once):
    with ThreadPoolExecutor(at_once) as pool:
        return list(pool.map(lambda event: invoke(client, name, event, LogType="None")[0], events))


def test_a_burst_makes_instances_and_calm_uses_them_again(shared, lambda_client, name, python):
    shared.create(lambda_client, name, archives.function("python-echo"), python, Timeout=20)
    answers = call_all(lambda_client, name, [{"id": n, "sleep": 2} for n in range(8)], 8)
    assert [answer["event"]["id"] for answer in answers] == list(range(8))
    made = {answer["instance"] for answer in answers}
    assert len(made) == 8
    assert [i["state"] for i in wait_for(lambda: idle(shared, name, 8), "all are idle")] == ["idle"] * 8
    again = [invoke(lambda_client, name, {"id": n})[0]["instance"] for n in range(10)]
    assert len(set(again)) == 1 and set(again) <= made
    assert len(shared.instances(name)) == 8


def idle(server, name, count):
    instances = server.instances(name)
    return instances if len(instances) == count and all(i["state"] == "idle" for i in instances) else None


def test_idle_instances_go_down_to_zero(shared, lambda_client, name, python):
    shared.create(lambda_client, name, archives.function("python-echo"), python, Tags={"hearth:idle-timeout": "1"})
    call_all(lambda_client, name, [{"sleep": 0.5}] * 3, 3)
    wait_for(lambda: not shared.instances(name), "no instance is left", timeout=15)
    assert invoke(lambda_client, name, {"back": True})[0]["served"] == 1


def test_an_instance_in_use_is_never_idle_for_too_long(shared, lambda_client, name, python):
    shared.create(
        lambda_client, name, archives.function("python-echo"), python, Timeout=10, Tags={"hearth:idle-timeout": "1"}
    )
    assert invoke(lambda_client, name, {"sleep": 2.5})[0]["served"] == 1


def test_two_thousand_requests_at_once_each_get_their_own_answer(shared, lambda_client, name, static_echo):
    """The example greets by name, so the answer tells whose it is."""
    archive = archives.pack({"bootstrap": static_echo.read_bytes()})
    shared.create(lambda_client, name, archive, "provided.al2023", MemorySize=128)
    wrong, throttled = [], []

    def caller(number):
        with Raw(shared) as connection:
            for sequence in range(50):
                word = f"caller-{number}-{sequence}-end"
                connection.send(invocation(name, json.dumps({"name": word}).encode()))
                status, headers, body = connection.receive()
                if status == 429:
                    throttled.append(word)
                elif status != 200 or "x-amz-function-error" in headers or word.encode() not in body:
                    wrong.append((word, status, body[:200]))

    threads = [threading.Thread(target=caller, args=(n,)) for n in range(40)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    assert wrong == [] and throttled == []
    # A ramp of callers may be met ahead, with two starts for each that waits at most.
    assert 1 <= len(shared.instances(name)) <= 80


def test_the_account_limit_is_kept_and_said(own, python):
    server = own("--account-concurrency", "3")
    client = server.client()
    server.create(client, "slow", archives.function("python-echo"), python, Timeout=20)
    server.create(client, "other", archives.function("python-echo"), python)
    with ThreadPoolExecutor(3) as pool:
        slow = [pool.submit(invoke, client, "slow", {"sleep": 4}) for _ in range(3)]
        wait_for(lambda: sum(i["leases"] for i in server.instances("slow")) == 3, "three are running")
        with pytest.raises(client.exceptions.TooManyRequestsException) as refused:
            invoke(client, "other")
        # Another account has a limit of its own.
        assert server.client("999999999999").list_functions()["Functions"] == []
        response = refused.value.response
        assert response["Reason"] == "ConcurrentInvocationLimitExceeded"
        assert response["Error"]["Message"] == "Rate Exceeded."
        assert response["ResponseMetadata"]["HTTPStatusCode"] == 429
        assert int(response["ResponseMetadata"]["HTTPHeaders"]["retry-after"]) >= 1
        assert [f.result()[0]["event"] for f in slow] == [{"sleep": 4}] * 3
    assert invoke(client, "other")[0]["served"] == 1


def test_sdk_retries_come_through_when_the_limit_frees(own, python):
    server = own("--account-concurrency", "1")
    patient = server.client(retries={"total_max_attempts": 10, "mode": "standard"})
    server.create(patient, "slow", archives.function("python-echo"), python, Timeout=20)
    answers = call_all(patient, "slow", [{"id": n, "sleep": 0.2} for n in range(4)], 4)
    assert sorted(answer["event"]["id"] for answer in answers) == [0, 1, 2, 3]
    assert len(server.instances("slow")) == 1


def test_memory_that_is_promised_elsewhere_refuses_new_instances(own, python):
    server = own("--memory", "512", "--oversubscription", "100")
    client = server.client()
    server.create(client, "big", archives.function("python-echo"), python, MemorySize=256, Timeout=20)
    with ThreadPoolExecutor(2) as pool:
        slow = [pool.submit(invoke, client, "big", {"sleep": 4}) for _ in range(2)]
        wait_for(lambda: sum(i["leases"] for i in server.instances("big")) == 2, "both are running")
        with pytest.raises(client.exceptions.ClientError) as refused:
            invoke(client, "big")
        assert refused.value.response["ResponseMetadata"]["HTTPStatusCode"] in (429, 503)
        assert "retry-after" in refused.value.response["ResponseMetadata"]["HTTPHeaders"]
        assert all(f.result()[0]["served"] == 1 for f in slow)


def test_an_idle_instance_makes_room_for_another_function(own, python):
    server = own("--memory", "300", "--oversubscription", "100")
    client = server.client()
    for one in ["first", "second"]:
        server.create(client, one, archives.function("python-echo"), python, MemorySize=256)
    assert invoke(client, "first")[0]["served"] == 1
    assert invoke(client, "second")[0]["served"] == 1
    wait_for(lambda: not server.instances("first"), "the idle instance went")


@pytest.mark.parametrize("what", ["code", "configuration"])
def test_an_update_under_load_loses_no_request(what, shared, lambda_client, name, python):
    old = archives.function("python-echo")
    shared.create(lambda_client, name, old, python, Timeout=20, variables={"CODE_VERSION": "old"})
    stop, answers, failures = threading.Event(), [], []

    def load(number):
        client = shared.client()
        sequence = 0
        while not stop.is_set():
            event = {"id": f"{number}-{sequence}", "sleep": 0.01}
            try:
                value, answer = invoke(client, name, event, LogType="None")
                ok = "FunctionError" not in answer and value["event"] == event
                answers.append(value["version"]) if ok else failures.append(value)
            except Exception as error:  # noqa: BLE001 every failure counts
                failures.append(error)
            sequence += 1

    threads = [threading.Thread(target=load, args=(n,)) for n in range(4)]
    [thread.start() for thread in threads]
    try:
        for version in ["new-1", "new-2", "new-3"]:
            count = len(answers)
            wait_for(lambda: len(answers) > count + 20 or failures, "requests flow")  # noqa: B023
            if what == "code":
                source = archives.FUNCTIONS.joinpath("python-echo/app.py").read_text()
                source = source.replace('os.environ.get("CODE_VERSION", "1")', repr(version))
                lambda_client.update_function_code(FunctionName=name, ZipFile=archives.pack({"app.py": source}))
            else:
                lambda_client.update_function_configuration(
                    FunctionName=name, Environment={"Variables": {"CODE_VERSION": version, "E2E_MARK": shared.mark}}
                )
            settle(lambda_client, name)
            # What is asked from now on is answered by the new revision.
            assert invoke(lambda_client, name)[0]["version"] == version
            wait_for(lambda: version in answers[-4:] or failures, "the new revision serves")  # noqa: B023
    finally:
        stop.set()
        [thread.join() for thread in threads]
    assert failures == []
    assert set(answers) == {"old", "new-1", "new-2", "new-3"}
    # No answer of an older revision comes after those of newer ones have long been served.
    assert answers[-4:] == ["new-3"] * 4
    wait_for(lambda: len(shared.instances(name)) <= 5, "old instances are gone")


def test_a_deleted_function_ends_its_instances_and_a_new_one_of_its_name_runs_new_code(
    shared, lambda_client, name, python
):
    shared.create(lambda_client, name, archives.function("python-echo"), python)
    invoke(lambda_client, name)
    lambda_client.delete_function(FunctionName=name)
    wait_for(lambda: not shared.instances(name), "its instances are gone")
    shared.create(lambda_client, name, archives.pack({"app.py": "handler = lambda e, c: 'reborn'\n"}), python)
    assert invoke(lambda_client, name)[0] == "reborn"


def test_a_client_that_goes_away_costs_no_slot(shared, lambda_client, name, python):
    shared.create(lambda_client, name, archives.function("python-echo"), python, Timeout=20)
    invoke(lambda_client, name)
    for _ in range(5):
        with Raw(shared) as connection:
            connection.send(invocation(name, b'{"sleep": 0.5}'))
            wait_for(lambda: any(i["leases"] for i in shared.instances(name)), "the request runs")
        wait_for(lambda: not any(i["leases"] for i in shared.instances(name)), "the slot is free again")
    # Lambda runs such requests to their end: the instance served them all.
    assert invoke(lambda_client, name)[0]["served"] == 7


def test_the_latency_of_others_does_not_hang_on_a_slow_function(shared, lambda_client, name, python):
    shared.create(lambda_client, name, archives.function("python-echo"), python, Timeout=30)
    with ThreadPoolExecutor(1) as pool:
        slow = pool.submit(invoke, lambda_client, name, {"sleep": 3})
        began = time.monotonic()
        for n in range(5):
            assert invoke(lambda_client, name, {"id": n})[0]["event"] == {"id": n}
        assert not slow.done() or time.monotonic() - began > 3
        assert slow.result()[0]["event"] == {"sleep": 3}
