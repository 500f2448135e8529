"""A function streams its answer, and clients see each piece as it is made."""

import json
import resource
import time
from pathlib import Path

import pytest

from harness import archives
from harness.clients import RUST_SDK_TIMEOUT, run
from harness.server import invoke
from harness.wait import wait_for


@pytest.fixture
def stream(shared, lambda_client, node, name):
    """Streams an event: the pieces with their times, and how it ended."""
    shared.create(lambda_client, name, archives.function("node-stream"), node, "index.handler", Timeout=30, MemorySize=256)

    def call(event, client=lambda_client, **options):
        answer = client.invoke_with_response_stream(FunctionName=name, Payload=json.dumps(event), **options)
        pieces, end = [], None
        for item in answer["EventStream"]:
            assert end is None, "nothing comes after the end"
            if "PayloadChunk" in item:
                pieces.append((time.monotonic(), item["PayloadChunk"]["Payload"]))
            else:
                end = item["InvokeComplete"]
        return answer, pieces, end

    return call


def text(pieces):
    return b"".join(data for _, data in pieces).decode()


def test_the_first_piece_reaches_boto3_before_the_last_is_made(stream):
    stream({})
    answer, pieces, end = stream({"pieces": ["one ", "two ", "three"], "pause": 400}, LogType="Tail")
    assert answer["StatusCode"] == 200 and answer["ExecutedVersion"] == "$LATEST"
    assert text(pieces) == "one two three"
    assert pieces[-1][0] - pieces[0][0] > 0.6
    assert "ErrorCode" not in end and end["LogResult"]


def test_an_error_in_mid_stream_follows_what_was_streamed(stream):
    _, pieces, end = stream({"pieces": ["some"], "fail": "as told"})
    assert text(pieces) == "some"
    assert end["ErrorCode"] == "TypeError"
    assert json.loads(end["ErrorDetails"])["errorMessage"] == "as told"
    _, pieces, end = stream({"failFirst": "at once"})
    assert not pieces and end["ErrorCode"] == "Unhandled"
    assert json.loads(end["ErrorDetails"])["errorMessage"] == "at once"
    assert text(stream({"pieces": ["fine"]})[1]) == "fine"


def test_invoke_collects_what_a_function_streams(stream, lambda_client, name):
    value = lambda_client.invoke(FunctionName=name, Payload=json.dumps({"pieces": ["one ", "two"]}))
    assert value["Payload"].read() == b"one two" and "FunctionError" not in value
    value, answer = invoke(lambda_client, name, {"megabytes": 7})
    assert answer["FunctionError"] == "Unhandled" and value["errorType"] == "Function.ResponseSizeTooLarge"
    value, answer = invoke(lambda_client, name, {"pieces": ["some"], "fail": "as told"})
    assert answer["FunctionError"] == "Unhandled" and value["errorMessage"] == "as told"


def resident_mib(pid):
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * resource.getpagesize() >> 20


def test_a_hundred_megabytes_pass_and_the_servers_memory_stays_flat(stream, shared):
    stream({"megabytes": 5})
    before = resident_mib(shared.pid)
    _, pieces, end = stream({"megabytes": 100})
    assert sum(len(data) for _, data in pieces) == 100 << 20 and "ErrorCode" not in end
    grown = resident_mib(shared.pid) - before
    assert grown < 30, f"the server grew by {grown} MiB"


def test_a_client_that_leaves_in_mid_stream_costs_no_slot(stream, shared, lambda_client, name):
    stream({})
    answer = lambda_client.invoke_with_response_stream(FunctionName=name, Payload=json.dumps({"megabytes": 60}))
    next(iter(answer["EventStream"]))
    answer["EventStream"].close()
    wait_for(lambda: all(i["state"] == "idle" for i in shared.instances(name)), "the function has ended", 20)
    assert len(shared.instances(name)) == 1
    assert text(stream({"pieces": ["again"]})[1]) == "again"
    assert len(shared.instances(name)) == 1


def test_the_javascript_sdk_reads_a_stream(stream, tool, client_environment, node_modules, name):
    run([tool("node"), Path(__file__).with_name("sdk-stream.mjs"), node_modules, name], client_environment)


@pytest.mark.timeout(RUST_SDK_TIMEOUT)
def test_the_rust_sdk_reads_a_stream(stream, rust_sdk, client_environment, name):
    run([rust_sdk, "stream", name], client_environment)
