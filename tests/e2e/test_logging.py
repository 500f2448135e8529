"""Logs in JSON: what the platform says and what the runtime's client writes, one document a line."""

import base64
import json

import pytest

from harness import archives
from harness.wait import wait_for

PYTHON = """
import logging, time
logger = logging.getLogger()
def handler(event, context):
    logger.debug("fine"); logger.info("word", extra={"n": 1})
    try:
        raise ValueError("bad")
    except ValueError:
        logger.exception("caught")
    if event.get("sleep"): time.sleep(event["sleep"])
    return "done"
"""
NODE = """
console.log("at init");
exports.handler = async (event) => {
  const circle = {}; circle.self = circle;
  console.debug("fine"); console.info("word %s", "s"); console.log({ n: 1 }); console.log(circle); console.error(new TypeError("bad"));
  if (event.sleep) await new Promise((resolve) => setTimeout(resolve, event.sleep * 1000));
  return "done";
};
"""


@pytest.fixture(params=["python", "node"])
def function(request, shared, name):
    client, runtime = shared.client(), request.getfixturevalue(request.param)
    file, code = ("app.py", PYTHON) if request.param == "python" else ("app.js", NODE)
    logging = {"LogFormat": "JSON", "LogGroup": "/mine/own"}
    shared.create(client, name, archives.pack({file: code}), runtime, "app.handler", Timeout=3, LoggingConfig=logging)
    return client, name, request.param


def change(client, name, **logging):
    client.update_function_configuration(FunctionName=name, LoggingConfig=logging)
    client.get_waiter("function_updated_v2").wait(FunctionName=name, WaiterConfig={"Delay": 1})


def lines(client, name, **event):
    answer = client.invoke(FunctionName=name, LogType="Tail", Payload=json.dumps(event))
    return base64.b64decode(answer["LogResult"]).decode().splitlines(), answer["ResponseMetadata"]["RequestId"]


def documents(client, name, **event):
    said, request = lines(client, name, **event)
    return [json.loads(line) for line in said], request


def test_every_line_is_a_document_of_the_request(function, shared):
    client, name, language = function
    said, request = documents(client, name)
    start, *own, report = said
    assert (start["type"], start["record"]) == ("platform.start", {"requestId": request, "version": "$LATEST"})
    assert report["type"] == "platform.report" and report["record"]["status"] == "success"
    metrics = report["record"]["metrics"]
    assert metrics["billedDurationMs"] >= metrics["durationMs"] > 0 and metrics["initDurationMs"] > 0 and metrics["memorySizeMB"] == 128
    assert {one["requestId"] for one in own} == {request} and "fine" not in [one["message"] for one in own]
    word = next(one for one in own if str(one["message"]).startswith("word"))
    error = next(one for one in own if one["level"] == "ERROR")
    assert word["level"] == "INFO" and error["errorType"] == ("ValueError" if language == "python" else "TypeError") and error["errorMessage"] == "bad"
    if language == "node":
        assert {"n": 1} in [one["message"] for one in own], "one object is a document in the document"
        assert "at init" in [json.loads(line)["message"] for line in shared.command("logs", name).stdout.splitlines() if '"at init"' in line]


def test_levels_choose_what_is_said(function):
    client, name, _ = function
    change(client, name, LogFormat="JSON", ApplicationLogLevel="ERROR", SystemLogLevel="WARN")
    said, _ = documents(client, name)
    assert [one["level"] for one in said] == ["ERROR"]
    change(client, name, LogFormat="JSON", ApplicationLogLevel="DEBUG", SystemLogLevel="DEBUG")
    said, _ = documents(client, name)
    assert "fine" in [one.get("message") for one in said] and "platform.runtimeDone" in [one.get("type") for one in said]
    change(client, name, LogFormat="Text")
    said, request = lines(client, name)
    assert said[0] == f"START RequestId: {request} Version: $LATEST" and said[-1].startswith("REPORT ")


def test_a_failure_says_what_failed(function):
    client, name, _ = function
    said, request = documents(client, name, sleep=30)
    done, report = said[-2:]
    assert (done["type"], report["type"]) == ("platform.runtimeDone", "platform.report")
    assert done["record"]["status"] == report["record"]["status"] == "timeout" and done["record"]["requestId"] == request
    assert done["record"]["errorMessage"] == "Task timed out after 3.00 seconds"
    assert wait_for(lambda: documents(client, name)[0][-1]["record"]["status"] == "success", "the next is unharmed", 30)
