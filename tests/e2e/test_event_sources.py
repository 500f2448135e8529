"""Event source mappings: a queue's messages become events, and are gone from it once the function has dealt with them."""

import json
import uuid

import pytest
from botocore.exceptions import ClientError

from harness import archives
from harness.moto import KEYS, Moto
from harness.server import ACCOUNT, invoke
from harness.wait import wait_for

FUNCTION = """
import json

def handler(event, context):
    failed = []
    for record in event["Records"]:
        assert record["eventSource"] == "aws:sqs" and record["awsRegion"] == "us-east-1"
        times, body = int(record["attributes"]["ApproximateReceiveCount"]), record["body"]
        mark = record["messageAttributes"].get("mark", {}).get("stringValue")
        print("got", body, "of", len(event["Records"]), "time", times, "mark", mark, flush=True)
        if body.startswith("bad") and times < 2:
            failed.append({"itemIdentifier": record["messageId"]})
        if body.startswith("raise"):
            raise ValueError(body)
    return {"batchItemFailures": failed}
"""


@pytest.fixture(scope="module")
def moto(tmp_path_factory):
    with Moto(tmp_path_factory.mktemp("moto")) as moto:
        yield moto


@pytest.fixture
def sqs(moto):
    return moto.client("sqs")


@pytest.fixture
def queue(sqs):
    """A queue of this test's own whose messages come again after four seconds."""
    return make_queue(sqs)


class Queue:
    def __init__(self, sqs, url):
        self.sqs, self.url = sqs, url
        self.arn = self.attributes()["QueueArn"]

    def attributes(self):
        return self.sqs.get_queue_attributes(QueueUrl=self.url, AttributeNames=["All"])["Attributes"]

    def send(self, *bodies):
        for body in bodies:
            mark = {"mark": {"DataType": "String", "StringValue": "m"}}
            self.sqs.send_message(QueueUrl=self.url, MessageBody=body, MessageAttributes=mark)

    def is_empty(self):
        about = self.attributes()
        return about["ApproximateNumberOfMessages"] == about["ApproximateNumberOfMessagesNotVisible"] == "0"


def make_queue(sqs, suffix="", **attributes):
    attributes = {"VisibilityTimeout": "4", **attributes}
    made = sqs.create_queue(QueueName=f"q-{uuid.uuid4().hex[:8]}{suffix}", Attributes=attributes)
    return Queue(sqs, made["QueueUrl"])


@pytest.fixture
def server(own, moto):
    return own("--sqs-endpoint", moto.endpoint, environment=KEYS)


@pytest.fixture
def function(server, python):
    server.create(server.client(), "f", archives.pack({"app.py": FUNCTION}), python)
    return "f"


def got(server):
    """What the function says it got, in order."""
    said = server.command("logs", "f").stdout
    return [line.split("got ", 1)[1] for line in said.splitlines() if "got " in line]


def test_messages_are_run_in_batches_and_deleted_over_a_kill(server, function, queue, own, moto):
    client = server.client()
    made = client.create_event_source_mapping(EventSourceArn=queue.arn, FunctionName=function)
    assert (made["State"], made["BatchSize"]) == ("Enabled", 10)
    assert made["FunctionArn"].endswith(":function:f")
    queue.send("one", "two")
    wait_for(lambda: len(got(server)) >= 2 and queue.is_empty(), "both are run and deleted", 60)
    assert {line.split()[0] for line in got(server)} == {"one", "two"}
    assert all(line.endswith("time 1 mark m") for line in got(server))
    assert client.get_event_source_mapping(UUID=made["UUID"])["LastProcessingResult"] == "OK"
    server.kill()
    again = own("--sqs-endpoint", moto.endpoint, environment=KEYS)
    queue.send("three")
    wait_for(lambda: any("three" in line for line in got(again)) and queue.is_empty(), "it goes on after a kill", 60)
    assert again.client().list_event_source_mappings()["EventSourceMappings"][0]["UUID"] == made["UUID"]


def test_a_window_collects_and_what_failed_comes_again_alone(server, function, queue):
    queue.send(*(f"good-{number}" for number in range(11)), "bad")
    server.client().create_event_source_mapping(
        EventSourceArn=queue.arn,
        FunctionName=function,
        BatchSize=12,
        MaximumBatchingWindowInSeconds=2,
        FunctionResponseTypes=["ReportBatchItemFailures"],
    )
    wait_for(queue.is_empty, "all are dealt with", 60)
    lines = got(server)
    assert any("of 12 time 1" in line for line in lines), lines
    assert [line for line in lines if "time 2" in line] == ["bad of 1 time 2 mark m"]


def test_a_batch_that_fails_stays_in_its_queue_until_the_queue_gives_it_up(server, function, sqs):
    dead = make_queue(sqs)
    policy = json.dumps({"deadLetterTargetArn": dead.arn, "maxReceiveCount": "2"})
    queue = make_queue(sqs, RedrivePolicy=policy)
    client = server.client()
    mapping = client.create_event_source_mapping(EventSourceArn=queue.arn, FunctionName=function)
    queue.send("raise this")
    wait_for(lambda: dead.attributes()["ApproximateNumberOfMessages"] == "1", "the queue gives it up", 90)
    assert [line.split("time ")[1][0] for line in got(server)] == ["1", "2"]
    result = client.get_event_source_mapping(UUID=mapping["UUID"])["LastProcessingResult"]
    assert result == "PROBLEM: Function call failed"


def test_what_is_switched_off_takes_nothing_more_and_is_deleted_once(server, function, queue, sqs):
    client = server.client()
    mapping = client.create_event_source_mapping(EventSourceArn=queue.arn, FunctionName=function)["UUID"]
    assert client.update_event_source_mapping(UUID=mapping, Enabled=False)["State"] == "Disabled"
    queue.send("left alone")

    def taken():
        return sqs.receive_message(QueueUrl=queue.url, WaitTimeSeconds=5).get("Messages")

    assert wait_for(taken, "the message is there for others", 60)[0]["Body"] == "left alone"
    assert not got(server)
    arn = client.get_event_source_mapping(UUID=mapping)["EventSourceMappingArn"]
    client.tag_resource(Resource=arn, Tags={"a": "1", "b": "2"})
    client.untag_resource(Resource=arn, TagKeys=["a"])
    assert client.list_tags(Resource=arn)["Tags"] == {"b": "2"}
    assert client.delete_event_source_mapping(UUID=mapping)["State"] == "Deleting"
    for call in (client.get_event_source_mapping, client.delete_event_source_mapping):
        with pytest.raises(client.exceptions.ResourceNotFoundException):
            call(UUID=mapping)


def test_what_makes_no_sense_is_refused_and_pages_are_whole(server, function, queue, sqs):
    client = server.client()

    def refused(code="InvalidParameterValueException", **request):
        with pytest.raises(ClientError) as refused:
            client.create_event_source_mapping(**{"EventSourceArn": queue.arn, "FunctionName": function, **request})
        assert refused.value.response["Error"]["Code"] == code, refused.value
        return str(refused.value)

    assert "does not exist" in refused(EventSourceArn=f"arn:aws:sqs:us-east-1:{ACCOUNT}:nowhere")
    assert "another account" in refused(EventSourceArn="arn:aws:sqs:us-east-1:210987654321:q")
    assert "Function does not exist" in refused(FunctionName="nobody")
    assert "batch window" in refused(BatchSize=11)
    assert "StartingPosition" in refused(StartingPosition="LATEST")
    for pattern, said in [("{", "no JSON"), ("{}", "says nothing"), ('{"body": [{"like": "x"}]}', "body: like is no operator")]:
        assert said in refused(FilterCriteria={"Filters": [{"Pattern": pattern}]})
    assert "at most 5" in refused(FilterCriteria={"Filters": [{"Pattern": '{"body": ["x"]}'}] * 6})
    assert "MetricsConfig" in refused("UnsupportedOperationException", MetricsConfig={"Metrics": ["EventCount"]})
    assert "other than queues" in refused("UnsupportedOperationException", EventSourceArn="arn:aws:kinesis:us-east-1:123456789012:stream/s")
    assert "visibility timeout" in refused(EventSourceArn=make_queue(sqs, VisibilityTimeout="1").arn)
    fifo = make_queue(sqs, ".fifo", FifoQueue="true")
    assert "FIFO" in refused(EventSourceArn=fifo.arn, MaximumBatchingWindowInSeconds=1)
    made = {
        client.create_event_source_mapping(EventSourceArn=one.arn, FunctionName=function, Enabled=False)["UUID"]
        for one in (queue, fifo, make_queue(sqs))
    }
    assert "already exists" in refused("ResourceConflictException")
    pages = list(client.get_paginator("list_event_source_mappings").paginate(PaginationConfig={"PageSize": 2}))
    assert [len(page["EventSourceMappings"]) for page in pages] == [2, 1]
    assert {one["UUID"] for page in pages for one in page["EventSourceMappings"]} == made
    of_fifo = client.list_event_source_mappings(EventSourceArn=fifo.arn, FunctionName=function)
    assert [one["EventSourceArn"] for one in of_fifo["EventSourceMappings"]] == [fifo.arn]
    other = server.client(account="210987654321")
    assert not other.list_event_source_mappings()["EventSourceMappings"]
    with pytest.raises(other.exceptions.ResourceNotFoundException):
        other.get_event_source_mapping(UUID=made.pop())


def test_only_what_a_filter_describes_is_run_and_the_rest_is_deleted(server, function, sqs):
    client, queue = server.client(), make_queue(sqs, VisibilityTimeout="60")
    patterns = [{"body": {"kind": [{"prefix": "order-"}], "n": [{"numeric": [">", 1]}]}}, {"body": ["plain"]}]
    criteria = {"Filters": [{"Pattern": json.dumps(pattern)} for pattern in patterns]}
    made = client.create_event_source_mapping(EventSourceArn=queue.arn, FunctionName=function, FilterCriteria=criteria)
    assert made["FilterCriteria"] == criteria
    orders = [json.dumps({"kind": kind, "n": n}) for kind, n in [("order-a", 1), ("order-b", 2), ("other", 3)]]
    queue.send(*orders, "plain", "plain too")
    wait_for(lambda: len(got(server)) >= 2 and queue.is_empty(), "all are gone", 60)
    assert sorted(line.split(" of ")[0] for line in got(server)) == sorted([orders[1], "plain"])
    outcome = lambda name: server.metrics()[f'hearth_events_messages_total{{outcome="{name}"}}']
    assert [outcome(name) for name in ("received", "filtered", "success")] == [5, 3, 2]
    assert "FilterCriteria" not in client.update_event_source_mapping(UUID=made["UUID"], FilterCriteria={})
    queue.send("anything")
    wait_for(lambda: any(line.startswith("anything") for line in got(server)), "it takes everything now", 60)


def test_a_fifo_queue_keeps_the_order_of_each_group_over_a_failure(server, function, sqs):
    fifo = make_queue(sqs, ".fifo", FifoQueue="true", ContentBasedDeduplication="true", VisibilityTimeout="10")
    # Its first instance may take its time; a message that waits for it would come twice.
    assert "FunctionError" not in invoke(server.client(), "f", {"Records": []})[1]
    for number in range(6):
        body = f"bad-{number}" if number == 1 else f"a-{number}"
        sqs.send_message(QueueUrl=fifo.url, MessageBody=body, MessageGroupId="a")
    server.client().create_event_source_mapping(
        EventSourceArn=fifo.arn, FunctionName=function, BatchSize=1, FunctionResponseTypes=["ReportBatchItemFailures"]
    )
    wait_for(lambda: len(got(server)) >= 7 and fifo.is_empty(), "all are dealt with", 90)
    said = [(line.split(" of ")[0], line.split("time ")[1][0]) for line in got(server)]
    assert said == [("a-0", "1"), ("bad-1", "1"), ("bad-1", "2")] + [(f"a-{number}", "1") for number in range(2, 6)]


def test_a_queue_that_cannot_be_reached_is_said_and_asked_again(own, function, server, queue):
    client = server.client()
    mapping = client.create_event_source_mapping(EventSourceArn=queue.arn, FunctionName=function)["UUID"]
    server.kill()
    alone = own("--sqs-endpoint", "http://127.0.0.1:1", environment=KEYS)
    get = alone.client().get_event_source_mapping
    said = wait_for(lambda: get(UUID=mapping).get("LastProcessingResult"), "the mapping says what is wrong", 60)
    assert said.startswith("PROBLEM: ") and "cannot be reached" in said


def test_failures_of_events_go_to_queues(own, moto, python, sqs):
    server = own("--sqs-endpoint", moto.endpoint, "--event-retry-ms", "50", environment=KEYS)
    client, failures, dead = server.client(), make_queue(sqs), make_queue(sqs)
    code = archives.pack({"app.py": "def handler(event, context):\n    raise ValueError('no ü')\n"})
    server.create(client, "f", code, python, DeadLetterConfig={"TargetArn": dead.arn})
    client.put_function_event_invoke_config(
        FunctionName="f", MaximumRetryAttempts=0, DestinationConfig={"OnFailure": {"Destination": failures.arn}}
    )
    client.invoke(FunctionName="f", InvocationType="Event", Payload=json.dumps({"a": "ü"}))

    def message(queue):
        receive = lambda: sqs.receive_message(QueueUrl=queue.url, MessageAttributeNames=["All"]).get("Messages")
        return wait_for(receive, "the failure is told", 60)[0]

    record = json.loads(message(failures)["Body"])
    assert record["requestContext"]["condition"] == "RetriesExhausted"
    assert (record["requestPayload"], record["responsePayload"]["errorType"]) == ({"a": "ü"}, "ValueError")
    letter = message(dead)
    assert json.loads(letter["Body"]) == {"a": "ü"}
    assert letter["MessageAttributes"]["ErrorMessage"]["StringValue"] == "no ü"
    with pytest.raises(ClientError, match="another account"):
        client.put_function_event_invoke_config(
            FunctionName="f",
            DestinationConfig={"OnFailure": {"Destination": "arn:aws:sqs:us-east-1:210987654321:theirs"}},
        )
