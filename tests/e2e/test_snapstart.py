"""SnapStart: versions that start from a snapshot after their init phase, where the driver takes snapshots, and as ever elsewhere."""

import json
import os

import pytest
from botocore.exceptions import ClientError

from harness import archives
from harness.clients import tail
from harness.server import invoke
from harness.wait import wait_for

ON = {"ApplyOn": "PublishedVersions"}
SNAPSHOTS = os.environ.get("HEARTH_ISOLATION") in ("qemu", "firecracker")
only_machines = pytest.mark.skipif(not SNAPSHOTS, reason="only micro-VMs can be snapshots: run with HEARTH_ISOLATION=qemu")
CLONES = 100

HOOKS = """
import json, os, time
from snapshot_restore_py import register_before_snapshot, register_after_restore

print("module imported")
log = []

@register_before_snapshot
def before():
    log.append("before")
    if os.environ.get("FAILS") == "before": raise ValueError("before it is saved")

@register_after_restore
def after():
    log.append("after")
    if os.environ.get("FAILS") == "after": raise ValueError("after it is restored")
    if os.environ.get("FAILS") == "late": time.sleep(60)

def handler(event, context):
    if event.get("exit"): os._exit(0)
    open("/tmp/" + event.get("file", "x"), "w")
    return {"log": log, "type": os.environ["AWS_LAMBDA_INITIALIZATION_TYPE"], "files": sorted(os.listdir("/tmp")), "time": time.time()}
"""


def published(client, name, version="1"):
    """Waits until a version is no longer Pending."""

    def settled():
        config = client.get_function_configuration(FunctionName=name, Qualifier=version)
        return config if config["State"] != "Pending" else None

    return wait_for(settled, f"version {version} of {name} settles", 60)


@pytest.fixture
def hooks(shared, lambda_client, python, name):
    def create(fails=""):
        archive = archives.pack({"app.py": HOOKS})
        shared.create(lambda_client, name, archive, python, variables={"FAILS": fails}, SnapStart=ON, Publish=True, Timeout=20)
        return published(lambda_client, name)

    create.name = name
    return create


def test_hooks_run_and_the_function_knows_how_it_started(hooks, lambda_client):
    config = hooks()
    assert (config["State"], config["SnapStart"]) == ("Active", {**ON, "OptimizationStatus": "On"})
    latest = lambda_client.get_function_configuration(FunctionName=hooks.name)
    assert latest["SnapStart"] == {**ON, "OptimizationStatus": "Off"}
    value, answer = invoke(lambda_client, hooks.name, Qualifier="1")
    assert (value["log"], value["type"]) == (["before", "after"], "snap-start")
    # $LATEST is never made from a snapshot.
    value, _ = invoke(lambda_client, hooks.name)
    assert (value["log"], value["type"]) == ([], "on-demand")


def test_a_version_without_snapstart_is_ready_at_once(shared, lambda_client, python, name):
    shared.create(lambda_client, name, archives.pack({"app.py": HOOKS}), python)
    config = lambda_client.publish_version(FunctionName=name)
    assert (config["State"], config["SnapStart"]) == ("Active", {"ApplyOn": "None", "OptimizationStatus": "Off"})


@only_machines
def test_every_instance_goes_on_where_the_snapshot_was_taken(hooks, lambda_client):
    hooks()
    for turn in range(3):
        value, answer = invoke(lambda_client, hooks.name, {"file": f"file-{turn}"}, Qualifier="1")
        assert value["log"] == ["before", "after"]
        assert value["files"] == [f"file-{turn}"], "each has a disk of its own"
        assert abs(value["time"] - answer_time(answer)) < 5, "its clock is right"
        log = tail(answer)
        assert "Restore Duration: " in log and "Init Duration: " not in log and "module imported" not in log
        with_exit, _ = invoke(lambda_client, hooks.name, {"exit": True}, Qualifier="1")
        assert with_exit["errorType"] == "Runtime.ExitError"


def answer_time(answer):
    from email.utils import parsedate_to_datetime

    return parsedate_to_datetime(answer["ResponseMetadata"]["HTTPHeaders"]["date"]).timestamp()


@only_machines
def test_a_pending_version_says_so_and_a_failed_one_why(hooks, shared, lambda_client, python):
    config = hooks(fails="before")
    assert (config["State"], config["StateReasonCode"]) == ("Failed", "FunctionError")
    lambda_client.update_function_configuration(FunctionName=hooks.name, Environment={"Variables": {"FAILS": ""}})
    lambda_client.get_waiter("function_updated_v2").wait(FunctionName=hooks.name)
    assert lambda_client.publish_version(FunctionName=hooks.name)["State"] == "Pending"
    with pytest.raises(lambda_client.exceptions.SnapStartNotReadyException):
        lambda_client.invoke(FunctionName=hooks.name, Qualifier="2")
    assert published(lambda_client, hooks.name, "2")["State"] == "Active"
    assert invoke(lambda_client, hooks.name, Qualifier="2")[0]["log"] == ["before", "after"]


@only_machines
def test_a_hook_that_fails_after_the_restoration_is_the_callers_to_know(hooks, lambda_client):
    hooks(fails="after")
    with pytest.raises(lambda_client.exceptions.SnapStartException):
        lambda_client.invoke(FunctionName=hooks.name, Qualifier="1")


@only_machines
def test_a_hook_that_never_ends_is_cut_off(hooks, shared, lambda_client):
    hooks(fails="late")
    client = shared.client(read_timeout=60)
    with pytest.raises(client.exceptions.SnapStartTimeoutException):
        client.invoke(FunctionName=hooks.name, Qualifier="1")


@only_machines
def test_versions_that_were_pending_are_made_ready_after_a_crash(own, python, tmp_path):
    server = own(data=tmp_path / "data")
    client = server.client()
    server.create(client, "saved", archives.pack({"app.py": HOOKS}), python, SnapStart=ON)
    assert client.publish_version(FunctionName="saved")["State"] == "Pending"
    server.kill()
    client = own(data=tmp_path / "data").client()
    assert published(client, "saved")["State"] == "Active"
    assert invoke(client, "saved", Qualifier="1")[0]["log"] == ["before", "after"]


@only_machines
@pytest.mark.timeout(300)
@pytest.mark.parametrize("language", ["python", "node", "rust"])
def test_no_two_of_a_hundred_instances_draw_the_same(language, request, shared, lambda_client, name):
    if language == "rust":
        archive = archives.pack({"bootstrap": request.getfixturevalue("static_lab").read_bytes()}, 0o755)
        runtime, handler = "provided.al2023", "any"
    else:
        archive, runtime = archives.function(f"{language}-random"), request.getfixturevalue(language)
        handler = {"python": "app.handler", "node": "index.handler"}[language]
    shared.create(lambda_client, name, archive, runtime, handler, SnapStart=ON, Publish=True, MemorySize=256)
    assert published(lambda_client, name)["State"] == "Active"
    before = restored(shared)
    drawn = {}
    for clone in range(CLONES):
        value, answer = invoke(lambda_client, name, Qualifier="1")
        assert "FunctionError" not in answer, value
        assert "Restore Duration" in tail(answer), f"instance {clone} is a new one"
        for way, number in value.items():
            number = json.dumps(number)
            assert number not in drawn.setdefault(way, {}), f"{way}: {number} was drawn by {drawn[way][number]} and {clone}"
            drawn[way][number] = clone
        invoke(lambda_client, name, {"exit": True}, Qualifier="1")
    assert all(len(numbers) == CLONES for numbers in drawn.values()) and drawn
    assert restored(shared) >= before + CLONES


def restored(server):
    """Instances made from snapshots so far."""
    return sum(value for name, value in server.metrics().items() if 'outcome="restored"' in name)
