"""Asks a frontend with the scripted backend everything that boto3 can ask it. Usage: boto3_check.py ENDPOINT"""

import base64
import hashlib
import io
import json
import sys
import urllib.request
import zipfile

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError, WaiterError

ROLE = "arn:aws:iam::123456789012:role/r"
FAST = {"Delay": 0.05, "MaxAttempts": 200}


def client(key="AKIAIOSFODNN7EXAMPLE"):
    config = Config(retries={"max_attempts": 0}, parameter_validation=False)
    keys = {"aws_access_key_id": key, "aws_secret_access_key": "x"}
    return boto3.client("lambda", endpoint_url=sys.argv[1], region_name="us-east-1", config=config, **keys)


def archive(text="#!/bin/sh\n"):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as made:
        info = zipfile.ZipInfo("bootstrap")
        info.external_attr = 0o755 << 16
        made.writestr(info, text)
    return buffer.getvalue()


def refused(error, status, call, *words, **arguments):
    try:
        call(**arguments)
    except ClientError as caught:
        answer = caught.response
        got = answer["Error"]["Code"], answer["ResponseMetadata"]["HTTPStatusCode"]
        assert got == (error, status), (got, answer["Error"])
        assert all(word in answer["Error"]["Message"] for word in words), answer["Error"]
        assert answer["ResponseMetadata"]["RequestId"], answer
        # The SDK knows the error by its class, unless it is of the kinds that the model leaves out.
        return caught
    raise AssertionError(f"{arguments} was not refused")


def create(c, name, **more):
    settings = {"Runtime": "provided.al2023", "Handler": "h", "Role": ROLE, "Code": {"ZipFile": archive()}} | more
    return c.create_function(FunctionName=name, **settings)


def lives(c):
    made = create(c, "f", Environment={"Variables": {"AB": "1"}}, Tags={"a": "b"}, Description="d")
    assert (made["State"], made["StateReasonCode"], made["Version"]) == ("Pending", "Creating", "$LATEST"), made
    arn = made["FunctionArn"]
    assert arn == "arn:aws:lambda:us-east-1:000000000000:function:f"
    for waiter in ["function_exists", "function_active", "function_active_v2", "function_updated", "function_updated_v2"]:
        c.get_waiter(waiter).wait(FunctionName="f", WaiterConfig=FAST)
    shown = c.get_function(FunctionName="f")
    assert shown["Tags"] == {"a": "b"} and shown["Code"]["RepositoryType"] == "S3"
    assert urllib.request.urlopen(shown["Code"]["Location"]).read() == archive()
    config = c.get_function_configuration(FunctionName=arn + ":$LATEST")
    assert (config["State"], config["LastUpdateStatus"], config["CodeSize"]) == ("Active", "Successful", len(archive()))
    assert config["Environment"] == {"Variables": {"AB": "1"}} and config["FunctionArn"] == arn + ":$LATEST"
    assert (config["Timeout"], config["MemorySize"], config["EphemeralStorage"]["Size"]) == (3, 128, 512)
    refused("ResourceConflictException", 409, lambda: create(c, "f"), "Function already exist: f")
    return arn


def answers(c, arn):
    whole = {"FunctionName": "f", "LogType": "Tail", "Payload": b'{"x": 1}'}
    answer = c.invoke(**whole)
    assert answer["StatusCode"] == 200 and answer["ExecutedVersion"] == "$LATEST" and "FunctionError" not in answer
    assert base64.b64decode(answer["LogResult"]) == b"the log" and answer["Payload"].read() == b'{"x": 1}'
    context = base64.b64encode(b'{"custom": 1}').decode()
    told = json.load(c.invoke(FunctionName=arn, Payload=b'"context"', ClientContext=context)["Payload"])
    assert told["arn"] == arn and told["client"] == {"custom": 1} and told["trace"].startswith("Root=1-")
    failed = c.invoke(FunctionName="000000000000:function:f", Payload=b'"fail"')
    assert failed["StatusCode"] == 200 and failed["FunctionError"] == "Unhandled"
    assert c.invoke(FunctionName="f", InvocationType="DryRun")["StatusCode"] == 204
    assert c.invoke(FunctionName="f")["Payload"].read() == b"{}"
    event = c.invoke(FunctionName="f", InvocationType="Event")
    assert event["StatusCode"] == 202 and event["Payload"].read() == b"" and "ExecutedVersion" not in event
    words = "Request must be smaller than 1048576 bytes for the InvokeFunction operation"
    larger = {"FunctionName": "f", "InvocationType": "Event", "Payload": b'"' + b"x" * (1 << 20) + b'"'}
    refused("RequestTooLargeException", 413, c.invoke, words, **larger)
    refused("InvalidRequestContentException", 400, c.invoke, "Could not parse", FunctionName="f", Payload=b"{")
    words = "Request must be smaller than 6291456 bytes for the InvokeFunction operation"
    large = b'"' + b"x" * (6 << 20) + b'"'
    refused("RequestTooLargeException", 413, c.invoke, words, FunctionName="f", Payload=large)
    refused("ServiceException", 500, c.invoke, FunctionName="f", Payload=b'"lost"')
    missing = refused("ResourceNotFoundException", 404, c.invoke, "Function not found: arn:aws", FunctionName="g")
    assert isinstance(missing, c.exceptions.ResourceNotFoundException)


def limits(c):
    c.put_function_concurrency(FunctionName="f", ReservedConcurrentExecutions=0)
    throttled = refused("TooManyRequestsException", 429, c.invoke, "Rate Exceeded.", FunctionName="f")
    assert throttled.response["Reason"] == "ReservedFunctionConcurrentInvocationLimitExceeded"
    assert throttled.response["Type"] == "User" and isinstance(throttled, c.exceptions.TooManyRequestsException)
    below = "UnreservedConcurrentExecution below its minimum value of [100]"
    arguments = {"FunctionName": "f", "ReservedConcurrentExecutions": 901}
    refused("InvalidParameterValueException", 400, c.put_function_concurrency, below, **arguments)
    c.put_function_concurrency(FunctionName="f", ReservedConcurrentExecutions=900)
    account = c.get_account_settings()
    assert account["AccountLimit"]["UnreservedConcurrentExecutions"] == 100
    assert account["AccountUsage"] == {"TotalCodeSize": len(archive()), "FunctionCount": 1}
    assert c.get_function(FunctionName="f")["Concurrency"] == {"ReservedConcurrentExecutions": 900}
    c.delete_function_concurrency(FunctionName="f")
    assert "ReservedConcurrentExecutions" not in c.get_function_concurrency(FunctionName="f")


def updates(c):
    changed = c.update_function_configuration(FunctionName="f", Timeout=10, Environment={})
    assert (changed["LastUpdateStatus"], changed["Timeout"], "Environment" in changed) == ("InProgress", 10, False)
    c.get_waiter("function_updated_v2").wait(FunctionName="f", WaiterConfig=FAST)
    revision = c.get_function_configuration(FunctionName="f")["RevisionId"]
    new = archive("#!/bin/bash\n")
    code = {"FunctionName": "f", "ZipFile": new}
    refused("PreconditionFailedException", 412, c.update_function_code, "Revision Id", RevisionId="x", **code)
    dry = c.update_function_code(DryRun=True, **code)
    digest = base64.b64encode(hashlib.sha256(new).digest()).decode()
    assert (dry["CodeSha256"], dry["RevisionId"]) == (digest, revision)
    done = c.update_function_code(RevisionId=revision, **code)
    assert done["CodeSha256"] == digest and done["RevisionId"] != revision
    c.get_waiter("function_updated_v2").wait(FunctionName="f", WaiterConfig=FAST)
    c.update_function_configuration(FunctionName="f", Handler="broken")
    try:
        c.get_waiter("function_updated_v2").wait(FunctionName="f", WaiterConfig=FAST)
        raise AssertionError("a failed update is no success")
    except WaiterError:
        pass
    failed = c.get_function_configuration(FunctionName="f")
    assert (failed["State"], failed["LastUpdateStatus"]) == ("Active", "Failed")
    assert failed["LastUpdateStatusReason"] == "no bootstrap"
    assert c.invoke(FunctionName="f")["StatusCode"] == 200


def failures(c):
    create(c, "java", Runtime="java21")
    try:
        c.get_waiter("function_active_v2").wait(FunctionName="java", WaiterConfig=FAST)
        raise AssertionError("java21 does not run here")
    except WaiterError:
        pass
    java = c.get_function_configuration(FunctionName="java")
    assert (java["State"], java["StateReasonCode"]) == ("Failed", "InvalidRuntime") and "java21" in java["StateReason"]
    refused("ResourceConflictException", 409, c.invoke, "Failed", FunctionName="java")
    c.delete_function(FunctionName="java")


def tags(c, arn):
    c.tag_resource(Resource=arn, Tags={"k": "v v", "hearth:idle-timeout": "90", "hearth:concurrency": "soft=2,hard=4"})
    c.untag_resource(Resource=arn, TagKeys=["k", "a"])
    assert c.list_tags(Resource=arn)["Tags"] == {"hearth:idle-timeout": "90", "hearth:concurrency": "soft=2,hard=4"}
    for wrong in [{"hearth:isolation": "vm"}, {"hearth:idle-timeout": "soon"}, {"hearth:sped": "1"}, {"aws:x": "1"}]:
        refused("InvalidParameterValueException", 400, c.tag_resource, next(iter(wrong)), Resource=arn, Tags=wrong)
    refused("ResourceNotFoundException", 404, c.list_tags, Resource=arn + "x")


def mistakes(c):
    two = {"MemorySize": 64, "Timeout": 0}
    refused("ValidationException", 400, lambda: create(c, "z", **two), "2 validation errors detected", "'memorySize'")
    refused("ValidationException", 400, lambda: create(c, "no good"), "'functionName'")
    refused("ValidationException", 400, lambda: create(c, "z", Runtime="cobol"), "Member must satisfy enum value set: [")
    bad = "InvalidParameterValueException"
    unzip = "Could not unzip uploaded file. Please check your file, then try to upload again."
    refused(bad, 400, lambda: create(c, "z", Code={"ZipFile": b"no zip"}), unzip)
    reserved = {"Variables": {"AWS_REGION": "x"}}
    refused(bad, 400, lambda: create(c, "z", Environment=reserved), "Reserved keys used in this request: AWS_REGION")
    large = {"Variables": {"AA": "x" * 5000}}
    refused(bad, 400, lambda: create(c, "z", Environment=large), "4KB")
    s3 = {"S3Bucket": "bucket", "S3Key": "k"}
    refused("UnsupportedOperationException", 501, lambda: create(c, "z", Code=s3), "S3")
    refused("ValidationException", 400, c.list_functions, "'maxItems'", MaxItems=0)
    refused(bad, 400, c.list_functions, Marker="!!")
    refused("UnsupportedOperationException", 501, c.list_capacity_providers, "ListCapacityProviders")
    refused("ResourceNotFoundException", 404, c.get_function, "function:f:3", FunctionName="f", Qualifier="3")
    refused("AccessDeniedException", 403, client("111122223333").get_function, FunctionName="000000000000:function:f")
    assert client("111122223333").list_functions()["Functions"] == []


def ends(c):
    assert [f["FunctionName"] for page in c.get_paginator("list_functions").paginate() for f in page["Functions"]] == ["f"]
    assert c.delete_function(FunctionName="f")["ResponseMetadata"]["HTTPStatusCode"] == 204
    refused("ResourceNotFoundException", 404, c.delete_function, FunctionName="f")


def main():
    c = client()
    arn = lives(c)
    answers(c, arn)
    limits(c)
    updates(c)
    failures(c)
    tags(c, arn)
    mistakes(c)
    ends(c)


main()
