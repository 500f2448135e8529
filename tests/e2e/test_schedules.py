"""Schedules over EventBridge Scheduler's own API: due times bring one event each, over kills too."""

import datetime
import json
import os

import boto3
import pytest
from botocore.config import Config

from harness import archives
from harness.clients import run
from harness.receiver import Receiver
from harness.server import ACCOUNT, ROLE, aws_environment
from harness.wait import wait_for

ENDPOINT = "arn:aws:hearth:::http/records"
FUNCTION = f"arn:aws:lambda:us-east-1:{ACCOUNT}:function:f"
APP = "def handler(event, context):\n    return event\n"
OFF = {"Mode": "OFF"}


@pytest.fixture
def receiver():
    receiver = Receiver()
    yield receiver
    receiver.close()


def scheduler_of(server):
    return boto3.session.Session().client(
        "scheduler",
        endpoint_url=server.endpoint,
        region_name="us-east-1",
        aws_access_key_id=ACCOUNT,
        aws_secret_access_key="hearth",
        config=Config(retries={"total_max_attempts": 1}),
    )


@pytest.fixture
def timed(own, receiver, python, tmp_path):
    """A server with a function whose successes are told, and the scheduler's client."""
    arguments = ["--http-destination", f"records={receiver.url}"]
    server = own(*arguments, data=tmp_path / "data")
    server.again = lambda: own(*arguments, data=tmp_path / "data")
    client = server.client()
    server.create(client, "f", archives.pack({"app.py": APP}), python)
    client.put_function_event_invoke_config(FunctionName="f", DestinationConfig={"OnSuccess": {"Destination": ENDPOINT}})
    return server, scheduler_of(server)


def moment(seconds):
    """An expression for a moment so many seconds from now."""
    at = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(seconds=seconds)
    return f"at({at:%Y-%m-%dT%H:%M:%S})"


def target(**more):
    return {"Arn": FUNCTION, "RoleArn": ROLE, **more}


def test_a_schedule_is_made_read_changed_listed_and_deleted(timed):
    _, scheduler = timed
    made = scheduler.create_schedule(
        Name="s", ScheduleExpression="cron(0 10 ? * MON-FRI *)", ScheduleExpressionTimezone="Europe/Berlin",
        FlexibleTimeWindow={"Mode": "FLEXIBLE", "MaximumWindowInMinutes": 5}, Target=target(Input='{"a": 1}'), Description="d",
    )
    arn = f"arn:aws:scheduler:us-east-1:{ACCOUNT}:schedule/default/s"
    assert made["ScheduleArn"] == arn
    got = scheduler.get_schedule(Name="s")
    assert (got["Arn"], got["GroupName"], got["State"], got["Description"]) == (arn, "default", "ENABLED", "d")
    assert got["Target"] == target(Input='{"a": 1}') and got["ScheduleExpressionTimezone"] == "Europe/Berlin"
    assert isinstance(got["CreationDate"], datetime.datetime)
    with pytest.raises(scheduler.exceptions.ConflictException):
        scheduler.create_schedule(Name="s", ScheduleExpression="rate(1 day)", FlexibleTimeWindow=OFF, Target=target())
    scheduler.update_schedule(Name="s", ScheduleExpression="rate(1 day)", FlexibleTimeWindow=OFF, Target=target(), State="DISABLED")
    got = scheduler.get_schedule(Name="s")
    assert got["ScheduleExpression"] == "rate(1 day)" and got["State"] == "DISABLED" and "Description" not in got
    scheduler.create_schedule_group(Name="g")
    for n in range(3):
        scheduler.create_schedule(Name=f"n{n}", GroupName="g", ScheduleExpression="rate(1 day)", FlexibleTimeWindow=OFF, Target=target())
    pages = scheduler.get_paginator("list_schedules").paginate(PaginationConfig={"PageSize": 2})
    assert [s["Name"] for page in pages for s in page["Schedules"]] == ["s", "n0", "n1", "n2"]
    assert [s["Name"] for s in scheduler.list_schedules(GroupName="g", NamePrefix="n1")["Schedules"]] == ["n1"]
    assert [g["Name"] for g in scheduler.list_schedule_groups()["ScheduleGroups"]] == ["default", "g"]
    scheduler.delete_schedule_group(Name="g")
    scheduler.delete_schedule(Name="s")
    assert scheduler.list_schedules()["Schedules"] == []
    with pytest.raises(scheduler.exceptions.ResourceNotFoundException):
        scheduler.get_schedule(Name="s")


@pytest.mark.parametrize(
    "change, said",
    [
        ({"ScheduleExpression": "cron(0 10 * * * *)"}, "exactly one of day-of-month and day-of-week must be ?"),
        ({"ScheduleExpression": "rate(0 days)"}, "a positive number"),
        ({"ScheduleExpressionTimezone": "Europe/Atlantis"}, "no time zone"),
        ({"Target": {"Arn": "arn:aws:sqs:us-east-1:1:q", "RoleArn": ROLE}}, "invoke functions"),
        ({"FlexibleTimeWindow": {"Mode": "FLEXIBLE"}}, "MaximumWindowInMinutes must be provided"),
        ({"Name": "a b"}, "regular expression"),
    ],
)
def test_what_cannot_be_scheduled_is_refused_with_its_reason(timed, change, said):
    _, scheduler = timed
    good = {"Name": "s", "ScheduleExpression": "rate(1 day)", "FlexibleTimeWindow": OFF, "Target": target()}
    with pytest.raises(scheduler.exceptions.ValidationException) as refused:
        scheduler.create_schedule(**{**good, **change})
    assert said in str(refused.value)


def test_a_schedule_runs_its_function_with_its_input_once_and_is_gone(timed, receiver):
    _, scheduler = timed
    given = {"at": "<aws.scheduler.scheduled-time>", "by": "<aws.scheduler.schedule-arn>"}
    expression = moment(3)
    scheduler.create_schedule(
        Name="once", ScheduleExpression=expression, FlexibleTimeWindow=OFF, Target=target(Input=json.dumps(given)), ActionAfterCompletion="DELETE"
    )
    scheduler.create_schedule(Name="plain", ScheduleExpression=moment(3), FlexibleTimeWindow=OFF, Target=target())
    scheduler.create_schedule(Name="off", ScheduleExpression=moment(3), FlexibleTimeWindow=OFF, Target=target(), State="DISABLED")
    wait_for(lambda: len(receiver.posts) >= 2, "both ran")
    answers = [r["responsePayload"] for r in receiver.records()]
    [own] = [a for a in answers if "at" in a]
    assert own == {"at": expression[3:-1] + "Z", "by": f"arn:aws:scheduler:us-east-1:{ACCOUNT}:schedule/default/once"}
    [usual] = [a for a in answers if "at" not in a]
    assert usual["source"] == "aws.scheduler" and usual["detail-type"] == "Scheduled Event" and usual["account"] == ACCOUNT
    wait_for(lambda: {s["Name"] for s in scheduler.list_schedules()["Schedules"]} == {"plain", "off"}, "the one that says so is gone")
    assert len(receiver.posts) == 2


def test_a_time_that_came_while_the_server_was_dead_is_made_up_for_once(timed, receiver):
    server, scheduler = timed
    again = server.again
    scheduler.create_schedule(Name="s", ScheduleExpression=moment(2), FlexibleTimeWindow=OFF, Target=target(Input='"late"'))
    server.kill()
    due = datetime.datetime.now() + datetime.timedelta(seconds=2.2)
    wait_for(lambda: datetime.datetime.now() > due, "the time is over")
    server = again()
    wait_for(lambda: receiver.posts, "it ran")
    server.kill()
    server = again()
    events = lambda: json.loads(server.get("/_hearth/events"))["events"]  # noqa: E731
    wait_for(lambda: events() == [], "nothing waits")
    assert {r["requestContext"]["requestId"] for r in receiver.records()} == {receiver.records()[0]["requestContext"]["requestId"]}


def test_the_command_line_and_the_aws_cli_know_the_same_schedules(timed, tool, tmp_path):
    server, _ = timed
    made = server.command("schedule", "add", "night", "f", "cron(0 3 * * ? *)", "--zone", "Asia/Tokyo", "--input", "{}")
    assert made.stdout.strip() == f"arn:aws:scheduler:us-east-1:{ACCOUNT}:schedule/default/night", made.stderr
    environment = {**os.environ, **aws_environment(server.endpoint)}
    got = json.loads(run([tool("aws"), "scheduler", "get-schedule", "--name", "night"], environment, cwd=tmp_path).stdout)
    assert got["ScheduleExpressionTimezone"] == "Asia/Tokyo" and got["Target"]["Arn"] == FUNCTION
    listed = server.command("schedule", "list").stdout
    assert "night" in listed and "cron(0 3 * * ? *)" in listed
    assert server.command("schedule", "rm", "night").returncode == 0
    assert json.loads(server.command("schedule", "list", "--json").stdout) == []
    wrong = server.command("schedule", "add", "x", "f", "cron(0 3 * * *)")
    assert wrong.returncode == 1 and "six fields" in wrong.stderr
