"""Asynchronous invocation: what is accepted runs, again if it fails, and its end is told; a killed server loses none."""

import json
import os
import random
import sys
import threading
import time

import pytest

from harness import archives
from harness.clients import run
from harness.receiver import Receiver
from harness.server import ACCOUNT, aws_environment
from harness.wait import wait_for

ENDPOINT = "arn:aws:hearth:::http/records"
#: Kills in the test that kills; 100 in its long form.
KILLS = int(os.environ.get("HEARTH_KILLS", "5"))
QUICK = ["--event-retry-ms", "50", "--event-refused-ms", "20"]
APP = """
import json

def handler(event, context):
    print("ran", context.aws_request_id)
    if event.get("fail"):
        raise ValueError("told to fail")
    return {"id": context.aws_request_id, "event": event}
"""


@pytest.fixture
def receiver():
    receiver = Receiver()
    yield receiver
    receiver.close()


@pytest.fixture
def dead_letters():
    receiver = Receiver()
    yield receiver
    receiver.close()


@pytest.fixture
def quick(own, receiver, python):
    """A server whose retries are quick, and a function on it: its client and a function that makes others."""
    server = own(*QUICK, "--http-destination", f"records={receiver.url}")
    client = server.client()

    def make(name, code=APP, **config):
        server.create(client, name, archives.pack({"app.py": code}), python)
        client.put_function_event_invoke_config(
            FunctionName=name, **{"DestinationConfig": {kind: {"Destination": ENDPOINT} for kind in ("OnSuccess", "OnFailure")}, **config}
        )

    server.make = make
    return server, client


def send(client, name, event, **options):
    answer = client.invoke(FunctionName=name, InvocationType="Event", Payload=json.dumps(event), **options)
    assert answer["StatusCode"] == 202 and answer["Payload"].read() == b"" and "ExecutedVersion" not in answer
    return answer["ResponseMetadata"]["RequestId"]


def events(server):
    return json.loads(server.get("/_hearth/events"))["events"]


def test_an_event_runs_once_under_the_id_that_its_caller_got_and_its_success_is_told(quick, receiver):
    server, client = quick
    server.make("f")
    ids = {send(client, "f", {"n": n}) for n in range(20)}
    wait_for(lambda: len(receiver.posts) >= 20, "all successes are told")
    assert len(receiver.posts) == 20 and {r["requestContext"]["requestId"] for r in receiver.records()} == ids
    record = receiver.records()[0]
    assert record["version"] == "1.0" and record["requestContext"]["condition"] == "Success"
    assert record["requestContext"]["approximateInvokeCount"] == 1
    assert record["requestContext"]["functionArn"] == f"arn:aws:lambda:us-east-1:{ACCOUNT}:function:f:$LATEST"
    assert record["responseContext"] == {"statusCode": 200, "executedVersion": "$LATEST"}
    assert record["responsePayload"] == {"id": record["requestContext"]["requestId"], "event": record["requestPayload"]}
    wait_for(lambda: events(server) == [], "nothing waits")


def test_an_event_that_fails_is_run_three_times_and_told(quick, receiver):
    server, client = quick
    server.make("f")
    request_id = send(client, "f", {"fail": True})
    record = wait_for(receiver.records, "the failure is told")[0]
    assert record["requestContext"]["condition"] == "RetriesExhausted"
    assert record["requestContext"]["approximateInvokeCount"] == 3
    assert record["responseContext"]["functionError"] == "Unhandled"
    assert record["responsePayload"]["errorMessage"] == "told to fail"
    log = wait_for(lambda: (text := server.command("logs", "f").stdout).count(f"ran {request_id}") >= 3 and text, "the log has it")
    assert log.count(f"ran {request_id}") == 3
    metrics = server.metrics()
    assert metrics['hearth_events_attempts_total{outcome="function-error"}'] == 3
    assert metrics['hearth_events_ends_total{end="retries-exhausted"}'] == 1


@pytest.mark.parametrize("retries", [0, 1])
def test_a_function_says_how_often(quick, receiver, retries):
    server, client = quick
    server.make("f", MaximumRetryAttempts=retries)
    send(client, "f", {"fail": True})
    record = wait_for(receiver.records, "the failure is told")[0]
    assert record["requestContext"]["approximateInvokeCount"] == retries + 1


def test_a_dead_letter_is_the_event_itself_with_what_went_wrong_beside_it(quick, receiver):
    server, client = quick
    server.make("f", MaximumRetryAttempts=0, DestinationConfig={"OnSuccess": {}})
    client.update_function_configuration(FunctionName="f", DeadLetterConfig={"TargetArn": ENDPOINT})
    client.get_waiter("function_updated_v2").wait(FunctionName="f")
    with pytest.raises(client.exceptions.InvalidParameterValueException) as refused:
        client.update_function_configuration(FunctionName="f", DeadLetterConfig={"TargetArn": "arn:aws:sns:us-east-1:1:t"})
    assert "cannot be reached" in str(refused.value)
    request_id = send(client, "f", {"fail": 7})
    headers, body = wait_for(lambda: receiver.posts, "the event is told")[0]
    assert body == {"fail": 7}
    sent = {name.lower(): value for name, value in headers.items()}
    assert sent["x-hearth-requestid"] == request_id and sent["x-hearth-errormessage"] == "told to fail"


def test_another_function_can_be_told_by_version_and_alias(quick, receiver):
    server, client = quick
    server.make("next")
    version = client.publish_version(FunctionName="next")["Version"]
    client.create_alias(FunctionName="next", Name="live", FunctionVersion=version)
    arn = f"arn:aws:lambda:us-east-1:{ACCOUNT}:function:next:live"
    client.put_function_event_invoke_config(
        FunctionName="next", Qualifier="live", DestinationConfig={"OnSuccess": {"Destination": ENDPOINT}}
    )
    server.make("f", DestinationConfig={"OnSuccess": {"Destination": arn}})
    request_id = send(client, "f", {"n": 1})
    record = wait_for(receiver.records, "the second function's success is told")[0]
    assert record["requestContext"]["functionArn"] == arn
    assert record["responseContext"]["executedVersion"] == version
    assert record["requestPayload"]["requestContext"]["requestId"] == request_id
    assert record["requestPayload"]["responsePayload"]["event"] == {"n": 1}


def test_an_event_without_a_slot_waits_and_has_not_failed(quick, receiver):
    server, client = quick
    server.make("f", MaximumRetryAttempts=0)
    client.put_function_concurrency(FunctionName="f", ReservedConcurrentExecutions=0)
    for n in range(5):
        send(client, "f", {"n": n})
    attempts = 'hearth_events_attempts_total{outcome="no-slot"}'
    wait_for(lambda: server.metrics()[attempts] >= 4, "it was tried some times")
    [lane] = events(server)
    assert lane["waiting"] + lane["running"] == 5 and receiver.posts == []
    shown = server.command("events").stdout
    assert f"{ACCOUNT}/f" in shown and "WAITING" in shown
    client.put_function_concurrency(FunctionName="f", ReservedConcurrentExecutions=1)
    wait_for(lambda: len(receiver.posts) == 5, "all ran")
    assert all(r["requestContext"]["approximateInvokeCount"] == 1 for r in receiver.records())


def test_records_wait_for_an_endpoint_that_fails(quick, receiver):
    server, client = quick
    server.make("f")
    receiver.status = 503
    send(client, "f", {})
    lane = wait_for(lambda: [e for e in events(server) if e["kind"] == "destination"], "the record waits")[0]
    assert lane["for"] == ENDPOINT
    receiver.status = 200
    wait_for(lambda: receiver.posts, "it is told in the end")


def test_a_queue_has_an_end_and_a_deleted_function_takes_its_events_with_it(own, python):
    server = own(*QUICK, "--event-depth", "3")
    client = server.client()
    server.create(client, "f", archives.pack({"app.py": APP}), python)
    client.put_function_concurrency(FunctionName="f", ReservedConcurrentExecutions=0)
    for _ in range(3):
        send(client, "f", {})
    with pytest.raises(client.exceptions.TooManyRequestsException) as refused:
        send(client, "f", {})
    assert "3 events of the function wait already" in str(refused.value)
    client.delete_function(FunctionName="f")
    wait_for(lambda: events(server) == [], "its events are gone")


def test_one_megabyte_is_taken_and_one_byte_more_is_not(quick, receiver):
    server, client = quick
    server.make("f", DestinationConfig={})
    most = json.dumps("x" * ((1 << 20) - 2))
    assert client.invoke(FunctionName="f", InvocationType="Event", Payload=most)["StatusCode"] == 202
    with pytest.raises(client.exceptions.RequestTooLargeException) as refused:
        client.invoke(FunctionName="f", InvocationType="Event", Payload=most + " ")
    assert refused.value.response["ResponseMetadata"]["HTTPStatusCode"] == 413
    assert client.invoke_async(FunctionName="f", InvokeArgs=b"{}")["Status"] == 202


def test_the_aws_cli_sends_events_and_configures_them(quick, receiver, tool, tmp_path):
    server, client = quick
    server.make("f")
    environment = {**os.environ, **aws_environment(server.endpoint)}
    aws = lambda *a: run([tool("aws"), "lambda", *a], environment, cwd=tmp_path)  # noqa: E731
    aws("update-function-event-invoke-config", "--function-name", "f", "--maximum-retry-attempts", "0", "--maximum-event-age-in-seconds", "120")
    got = json.loads(aws("get-function-event-invoke-config", "--function-name", "f").stdout)
    assert (got["MaximumRetryAttempts"], got["MaximumEventAgeInSeconds"]) == (0, 120)
    assert got["DestinationConfig"]["OnSuccess"] == {"Destination": ENDPOINT}
    sent = aws("invoke", "--function-name", "f", "--invocation-type", "Event", "--payload", '{"fail":1}', "out")
    assert json.loads(sent.stdout) == {"StatusCode": 202}
    record = wait_for(receiver.records, "the failure is told")[0]
    assert record["requestContext"]["approximateInvokeCount"] == 1
    listed = json.loads(aws("list-function-event-invoke-configs", "--function-name", "f").stdout)
    assert len(listed["FunctionEventInvokeConfigs"]) == 1
    aws("delete-function-event-invoke-config", "--function-name", "f")


MOUNT = """
import os, subprocess, sys
folder, size, *command = sys.argv[1:]
subprocess.run(["mount", "-t", "tmpfs", "-o", "size=" + size, "none", folder], check=True)
os.execvp(command[0], command)
"""


def test_a_full_disk_is_said_with_503_and_keeps_no_event_in_part(own, tmp_path, python):
    data = tmp_path / "data"
    data.mkdir()
    prefix = ["unshare", "--mount", "--propagation", "private", sys.executable, "-c", MOUNT, str(data), "32m"]
    server = own(*QUICK, data=data, prefix=prefix)
    client = server.client()
    server.create(client, "f", archives.pack({"app.py": APP}), python)
    client.put_function_concurrency(FunctionName="f", ReservedConcurrentExecutions=0)
    payload, accepted = {"x": "x" * 200_000}, 0
    while True:
        try:
            send(client, "f", payload)
            accepted += 1
        except client.exceptions.ClientError as error:
            assert error.response["ResponseMetadata"]["HTTPStatusCode"] == 503, error
            assert "disk" in str(error) and "not accepted" in str(error)
            break
    assert accepted > 10
    [lane] = events(server)
    assert lane["waiting"] + lane["running"] == accepted
    server.kill()


def flood(server, accepted, stop):
    """Sends events until the server is gone; keeps the ids of those that were accepted, and whether they are to fail."""
    client = server.client(connect_timeout=2, read_timeout=10)
    n = 0
    while not stop.is_set():
        n += 1
        fail = n % 5 == 0
        try:
            accepted.append((send(client, "f", {"n": n, "fail": fail}), fail))
        except Exception:  # noqa: BLE001 the server was killed
            if server.process.poll() is not None or stop.is_set():
                return


@pytest.mark.timeout(120 + 30 * KILLS)
def test_no_accepted_event_is_lost_by_kill_nine_at_random_moments(own, tmp_path, receiver, dead_letters, python):
    seed = random.randrange(1 << 30)
    print("seed", seed)
    moments, data = random.Random(seed), tmp_path / "data"
    arguments = [*QUICK, "--http-destination", f"records={receiver.url}", "--http-destination", f"dead={dead_letters.url}"]
    server, accepted = own(*arguments, data=data), []
    client = server.client()
    dead = {"TargetArn": "arn:aws:hearth:::http/dead"}
    server.create(client, "f", archives.pack({"app.py": APP}), python, DeadLetterConfig=dead)
    client.put_function_event_invoke_config(
        FunctionName="f",
        MaximumRetryAttempts=1,
        DestinationConfig={kind: {"Destination": ENDPOINT} for kind in ("OnSuccess", "OnFailure")},
    )
    for _ in range(KILLS):
        stop = threading.Event()
        threads = [threading.Thread(target=flood, args=(server, accepted, stop)) for _ in range(4)]
        before = len(accepted)
        [thread.start() for thread in threads]
        wait_for(lambda: len(accepted) >= before + 10, "events are accepted", 60)  # noqa: B023
        time.sleep(moments.uniform(0.0, 1.0))
        server.kill()
        stop.set()
        [thread.join() for thread in threads]
        server = own(*arguments, data=data)
    good, bad = ({event for event, fails in accepted if fails == kind} for kind in (False, True))

    def lost():
        """Accepted events whose end was not told where it is to be."""
        ends = [(r["requestContext"]["condition"], r["requestContext"]["requestId"]) for r in receiver.records()]
        succeeded, failed = ({event for end, event in ends if end == kind} for kind in ("Success", "RetriesExhausted"))
        buried = {{name.lower(): value for name, value in headers.items()}["x-hearth-requestid"] for headers, _ in list(dead_letters.posts)}
        return (good - succeeded) | (bad - failed) | (bad - buried)

    wait_for(lambda: not lost(), lambda: f"{len(lost())} of {len(accepted)} have not ended", 120 + 5 * KILLS, every=0.5)
    wait_for(lambda: events(server) == [], "nothing waits")
    told = f"{len(receiver.posts)} records and {len(dead_letters.posts)} dead letters were told"
    print(f"{KILLS} kills: {len(good)} events succeeded and {len(bad)} failed of {len(accepted)} that were accepted, 0 vanished; {told}")
