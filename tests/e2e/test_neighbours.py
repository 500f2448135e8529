"""What tools for Lambda ask of IAM, STS and CloudWatch Logs is answered."""

import json

import boto3
import pytest
from botocore.exceptions import ClientError

from harness import archives
from harness.server import ACCOUNT, invoke
from harness.wait import wait_for

TRUST = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Principal": {"Service": "lambda.amazonaws.com"}, "Action": "sts:AssumeRole"}]}
BASIC = "arn:aws:iam::aws:policy/service-role/AWSLambdaBasicExecutionRole"


@pytest.fixture
def neighbour(shared):
    def client(service):
        return boto3.client(
            service, "us-east-1", endpoint_url=shared.endpoint, aws_access_key_id=ACCOUNT, aws_secret_access_key="hearth"
        )

    return client


def code(error):
    return error.value.response["Error"]["Code"]


def test_a_role_is_made_given_policies_shown_and_deleted(neighbour, name):
    iam = neighbour("iam")
    made = iam.create_role(
        RoleName=name, Path="/service-role/", AssumeRolePolicyDocument=json.dumps(TRUST), Tags=[{"Key": "team", "Value": "a b&<c>"}]
    )["Role"]
    assert made["Arn"] == f"arn:aws:iam::{ACCOUNT}:role/service-role/{name}"
    with pytest.raises(ClientError) as taken:
        iam.create_role(RoleName=name, AssumeRolePolicyDocument="{}")
    assert code(taken) == "EntityAlreadyExists"
    iam.get_waiter("role_exists").wait(RoleName=name)
    shown = iam.get_role(RoleName=name)["Role"]
    assert (shown["AssumeRolePolicyDocument"], shown["Tags"]) == (TRUST, [{"Key": "team", "Value": "a b&<c>"}])
    iam.attach_role_policy(RoleName=name, PolicyArn=BASIC)
    iam.put_role_policy(RoleName=name, PolicyName="own", PolicyDocument=json.dumps(TRUST))
    attached = iam.list_attached_role_policies(RoleName=name)["AttachedPolicies"]
    assert attached == [{"PolicyName": "AWSLambdaBasicExecutionRole", "PolicyArn": BASIC}]
    assert iam.get_role_policy(RoleName=name, PolicyName="own")["PolicyDocument"] == TRUST
    assert name in [role["RoleName"] for page in iam.get_paginator("list_roles").paginate(PaginationConfig={"PageSize": 1}) for role in page["Roles"]]
    with pytest.raises(ClientError) as used:
        iam.delete_role(RoleName=name)
    assert code(used) == "DeleteConflict"
    iam.detach_role_policy(RoleName=name, PolicyArn=BASIC)
    iam.delete_role_policy(RoleName=name, PolicyName="own")
    iam.delete_role(RoleName=name)
    with pytest.raises(ClientError) as gone:
        iam.get_role(RoleName=name)
    assert code(gone) == "NoSuchEntity"


def test_a_caller_learns_its_account_and_assumes_a_role_of_it(neighbour):
    sts = neighbour("sts")
    assert sts.get_caller_identity()["Account"] == ACCOUNT
    role = f"arn:aws:iam::{ACCOUNT}:role/any"
    assumed = sts.assume_role(RoleArn=role, RoleSessionName="session")
    assert assumed["Credentials"]["AccessKeyId"] == ACCOUNT
    with pytest.raises(ClientError) as denied:
        sts.assume_role(RoleArn="arn:aws:iam::999999999999:role/any", RoleSessionName="session")
    assert code(denied) == "AccessDenied"


def test_what_a_function_wrote_is_read_as_a_log_group(shared, lambda_client, neighbour, name, python):
    source = "import os\ndef handler(event, context):\n    print(event['say'])\n    return os.environ['AWS_LAMBDA_LOG_STREAM_NAME']\n"
    shared.create(lambda_client, name, archives.pack({"app.py": source}), python)
    logs, group = neighbour("logs"), f"/aws/lambda/{name}"
    stream, _ = invoke(lambda_client, name, {"say": "one fish"})
    invoke(lambda_client, name, {"say": "two fish"})
    assert [one["logGroupName"] for one in logs.describe_log_groups(logGroupNamePrefix=group)["logGroups"]] == [group]
    wait_for(lambda: "two fish\n" in said(logs, group), "the log has it")
    assert stream in [one["logStreamName"] for one in logs.describe_log_streams(logGroupName=group, orderBy="LastEventTime", descending=True)["logStreams"]]
    assert said(logs, group, filterPattern="fish -one") == ["two fish\n"]
    pages, token = [], None
    while True:
        more = {"nextToken": token} if token else {}
        page = logs.get_log_events(logGroupName=group, logStreamName=stream, limit=2, startFromHead=True, **more)
        pages += [event["message"] for event in page["events"]]
        if page["nextForwardToken"] == token:
            break
        token = page["nextForwardToken"]
    assert pages == said(logs, group) and len([line for line in pages if "fish" in line]) == 2
    with pytest.raises(ClientError) as missing:
        logs.describe_log_streams(logGroupName="/aws/lambda/nobody")
    assert code(missing) == "ResourceNotFoundException"


def said(logs, group, **options):
    pages = logs.get_paginator("filter_log_events").paginate(logGroupName=group, PaginationConfig={"PageSize": 3}, **options)
    return [event["message"] for page in pages for event in page["events"]]


def test_what_there_is_not_is_said_by_name(neighbour):
    with pytest.raises(ClientError) as users:
        neighbour("iam").list_users()
    assert code(users) == "InvalidAction" and "ListUsers" in str(users.value)
    with pytest.raises(ClientError) as write:
        neighbour("logs").create_log_group(logGroupName="x")
    assert code(write) == "UnknownOperationException"
