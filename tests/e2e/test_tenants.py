"""Tenant isolation: whom an instance serves, it serves alone."""

import http.client
import json
from concurrent.futures import ThreadPoolExecutor

import pytest
from botocore.exceptions import ClientError, EventStreamError, ParamValidationError

from harness import archives
from harness.server import ACCOUNT, invoke, settle
from harness.wait import wait_for

PER_TENANT = {"TenancyConfig": {"TenantIsolationMode": "PER_TENANT"}}
MISSING = "The invoked function is enabled with tenancy configuration. Add a valid tenant ID in your request and try again."
TOO_MANY = "The invoked function is not enabled with tenancy configuration. Remove the tenant ID from your request and try again."
# What an instance has seen, and by whose hand: in its memory, and in its files.
LOOK = """
import builtins, pathlib
seen = builtins.__dict__.setdefault("seen", set())
mark = pathlib.Path("/tmp/mark")
seen.add(context.tenant_id)
mark.open("a").write(context.tenant_id + "\\n")
result = {"tenant": context.tenant_id, "seen": sorted(seen), "marks": sorted(set(mark.read_text().split("\\n")[:-1]))}
"""


def refusal(call, *arguments, **named):
    with pytest.raises(ClientError) as refused:
        call(*arguments, **named)
    error = refused.value.response["Error"]
    return error["Code"], error["Message"]


@pytest.fixture
def shop(shared, lambda_client, python, name):
    shared.create(lambda_client, name, archives.function("python-lab"), python, Timeout=20, **PER_TENANT)
    return name


@pytest.fixture
def plain(shared, lambda_client, python, name):
    shared.create(lambda_client, f"{name}-x", archives.function("python-lab"), python, Timeout=20)
    yield f"{name}-x"
    lambda_client.delete_function(FunctionName=f"{name}-x")


def look(client, name, tenant):
    return invoke(client, name, {"code": LOOK}, TenantId=tenant)[0]


def test_two_tenants_never_meet_in_an_instance(shared, lambda_client, shop):
    for _ in range(3):
        for tenant in ("blue", "Green team/7 @a+b=c:d._-"):
            assert look(lambda_client, shop, tenant) == {"tenant": tenant, "seen": [tenant], "marks": [tenant]}
    kept = shared.instances(shop)
    assert sorted(i["tenant"] for i in kept) == ["Green team/7 @a+b=c:d._-", "blue"], "and each is used again"
    assert sum(i["invocations"] for i in kept) == 6
    assert "blue" in shared.command("ps").stdout


def test_a_flood_of_tenants_is_served_and_kept_apart(shared, lambda_client, shop):
    tenants = [f"tenant-{n % 50}" for n in range(150)]
    with ThreadPoolExecutor(24) as pool:
        answers = list(pool.map(lambda tenant: (tenant, look_again(lambda_client, shop, tenant)), tenants))
    for tenant, answer in answers:
        assert answer == {"tenant": tenant, "seen": [tenant], "marks": [tenant]}
    assert {i["tenant"] for i in shared.instances(shop)} <= set(tenants)


def look_again(client, name, tenant):
    """Asks until there is room: on a small machine a flood meets its bounds."""

    def asked():
        try:
            return look(client, name, tenant)
        except ClientError as error:
            assert error.response["Error"]["Code"] == "TooManyRequestsException", error
            return None

    return wait_for(asked, f"{tenant} is served", 120, every=0.2)


def test_a_tenant_is_missing_or_one_too_many(lambda_client, shop, plain):
    wrong = "InvalidParameterValueException"
    for options in ({}, {"InvocationType": "Event"}, {"InvocationType": "DryRun"}):
        assert refusal(lambda_client.invoke, FunctionName=shop, **options) == (wrong, MISSING)
        assert refusal(lambda_client.invoke, FunctionName=plain, TenantId="blue", **options) == (wrong, TOO_MANY)
    streamed = lambda_client.invoke_with_response_stream
    assert refusal(streamed, FunctionName=shop) == (wrong, MISSING)
    assert refusal(streamed, FunctionName=plain, TenantId="blue") == (wrong, TOO_MANY)
    assert refusal(lambda_client.invoke_async, FunctionName=shop, InvokeArgs=b"{}") == (wrong, MISSING)
    assert lambda_client.invoke(FunctionName=shop, TenantId="blue", InvocationType="DryRun")["StatusCode"] == 204


@pytest.mark.parametrize("value", ["", "x" * 257, "a,b", "a*b", "a#b", "a\tb", "\xe9"])
def test_a_tenant_id_that_cannot_be_is_refused(shared, shop, value):
    connection = http.client.HTTPConnection(*shared.address, timeout=60)
    headers = {"x-amz-tenant-id": value.encode("latin-1"), "Authorization": f"AWS4-HMAC-SHA256 Credential={ACCOUNT}/20260101/us-east-1/lambda/aws4_request, SignedHeaders=host, Signature=0"}
    connection.request("POST", f"/2015-03-31/functions/{shop}/invocations", b"{}", headers)
    answer = connection.getresponse()
    body = json.loads(answer.read())
    assert (answer.status, answer.getheader("x-amzn-errortype")) == (400, "ValidationException"), body
    assert "tenantId" in body["message"]
    connection.close()


def test_two_tenant_ids_are_none(shared, shop):
    connection = http.client.HTTPConnection(*shared.address, timeout=60)
    connection.putrequest("POST", f"/2015-03-31/functions/{shop}/invocations")
    for value in ("blue", "green"):
        connection.putheader("X-Amz-Tenant-Id", value)
    connection.putheader("Content-Length", "2")
    connection.endheaders(b"{}")
    answer = connection.getresponse()
    assert answer.status == 400 and "tenantId" in answer.read().decode()
    connection.close()


def test_the_longest_tenant_id_is_taken(lambda_client, shop):
    longest = "x" * 256
    assert look(lambda_client, shop, longest)["tenant"] == longest
    with pytest.raises((ClientError, ParamValidationError)):
        look(lambda_client, shop, longest + "x")


def test_a_stream_is_of_its_tenant(lambda_client, shop):
    code = {"code": "result = context.tenant_id"}
    answer = lambda_client.invoke_with_response_stream(FunctionName=shop, TenantId="blue", Payload=json.dumps(code))
    try:
        pieces = [event["PayloadChunk"]["Payload"] for event in answer["EventStream"] if "PayloadChunk" in event]
    except EventStreamError as error:
        raise AssertionError(error) from error
    assert b"".join(pieces) == b'"blue"'


def test_a_function_has_tenants_from_its_creation_or_never(lambda_client, shop, plain):
    wanted = PER_TENANT["TenancyConfig"]
    assert lambda_client.get_function(FunctionName=shop)["Configuration"]["TenancyConfig"] == wanted
    listed = {f["FunctionName"]: f for page in lambda_client.get_paginator("list_functions").paginate() for f in page["Functions"]}
    assert listed[shop]["TenancyConfig"] == wanted and "TenancyConfig" not in listed[plain]
    lambda_client.update_function_configuration(FunctionName=shop, Description="changed")
    assert settle(lambda_client, shop)["TenancyConfig"] == wanted
    published = lambda_client.publish_version(FunctionName=shop)
    assert published["TenancyConfig"] == wanted
    lambda_client.create_alias(FunctionName=shop, Name="live", FunctionVersion=published["Version"])
    for qualifier in ("live", "1", "$LATEST"):
        assert invoke(lambda_client, shop, {"code": LOOK}, TenantId="blue", Qualifier=qualifier)[0]["seen"] == ["blue"]


def test_what_would_not_say_whose_a_request_is_cannot_be_had(shared, lambda_client, python, shop, name):
    wrong = "InvalidParameterValueException"
    lambda_client.publish_version(FunctionName=shop)
    queue = f"arn:aws:sqs:us-east-1:{ACCOUNT}:q"
    tag = {"hearth:http-port": "8080"}
    archive = archives.function("python-lab")
    arn = lambda_client.get_function(FunctionName=shop)["Configuration"]["FunctionArn"]
    for call, arguments in [
        (lambda_client.create_function_url_config, {"FunctionName": shop, "AuthType": "NONE"}),
        (lambda_client.put_provisioned_concurrency_config, {"FunctionName": shop, "Qualifier": "1", "ProvisionedConcurrentExecutions": 1}),
        (lambda_client.update_function_configuration, {"FunctionName": shop, "SnapStart": {"ApplyOn": "PublishedVersions"}}),
        (lambda_client.create_event_source_mapping, {"FunctionName": shop, "EventSourceArn": queue}),
        (lambda_client.tag_resource, {"Resource": arn, "Tags": tag}),
        (shared.create, {"client": lambda_client, "name": f"{name}-y", "archive": archive, "runtime": python, "SnapStart": {"ApplyOn": "PublishedVersions"}, **PER_TENANT}),
        (shared.create, {"client": lambda_client, "name": f"{name}-y", "archive": archive, "runtime": python, "Tags": tag, **PER_TENANT}),
    ]:
        code, message = refusal(call, **arguments)
        assert code == wrong and "tenant isolation" in message, message
    lambda_client.update_function_configuration(FunctionName=shop, SnapStart={"ApplyOn": "None"})


def test_an_events_tenant_outlives_failures_and_a_kill(own, python, tmp_path):
    """The first attempt fails, the server is killed, and the second knows whose the event is."""
    server = own("--event-retry-ms", "1000")
    client = server.client()
    server.create(client, "f", archives.function("python-lab"), python, Timeout=20, **PER_TENANT)
    fails = "print('attempt', context.tenant_id, flush=True)\nraise ValueError('again')"
    sent = client.invoke(FunctionName="f", InvocationType="Event", TenantId="blue", Payload=json.dumps({"code": fails}))
    assert sent["StatusCode"] == 202

    def attempts():
        return server.command("logs", "f").stdout.count("attempt blue")

    wait_for(lambda: attempts() >= 1, "the first attempt", 60)
    server.kill()
    server = own("--event-retry-ms", "50", data=tmp_path / "data")
    wait_for(lambda: attempts() >= 3, "the attempts after it", 60)
    assert {i["tenant"] for i in server.instances("f")} == {"blue"}


def test_events_of_one_tenant_too_many_hold_up_nobody_elses(own, python):
    server = own("--event-refused-ms", "100")
    client = server.client()
    server.create(client, "f", archives.function("python-lab"), python, Timeout=20, **PER_TENANT)
    # One request at once: instances of two tenants.
    client.put_function_concurrency(FunctionName="f", ReservedConcurrentExecutions=1)
    for tenant in ("blue", "green"):
        assert look(client, "f", tenant)["seen"] == [tenant]

    def send(tenant):
        client.invoke(FunctionName="f", InvocationType="Event", TenantId=tenant, Payload=json.dumps({"code": LOOK}))

    def attempts(outcome):
        return server.metrics()[f'hearth_events_attempts_total{{outcome="{outcome}"}}']

    send("red")
    wait_for(lambda: attempts("no-slot") >= 2, "the event of a third waits", 60)
    for _ in range(5):
        send("blue")
        send("green")
    wait_for(lambda: attempts("success") >= 10, "the others' events are run", 60)
    client.put_function_concurrency(FunctionName="f", ReservedConcurrentExecutions=2)
    wait_for(lambda: attempts("success") == 11, "the third has its turn", 60)


def test_the_command_line_names_a_tenant(shared, shop):
    done = shared.command("invoke", shop, json.dumps({"code": LOOK}), "--tenant-id", "ada")
    assert done.returncode == 0 and json.loads(done.stdout)["seen"] == ["ada"], done.stderr
    refused = shared.command("invoke", shop, "{}")
    assert refused.returncode != 0 and MISSING in refused.stderr
    assert shared.command("invoke", shop, "{}", "--tenant-id", "a,b").returncode == 2


def test_json_logs_are_as_ever_and_a_custom_runtime_is_told_too(shared, lambda_client, name):
    script = """#!/bin/sh
while true; do
  curl -s -D /tmp/head "http://$AWS_LAMBDA_RUNTIME_API/2018-06-01/runtime/invocation/next" > /tmp/event
  id=$(grep -i '^lambda-runtime-aws-request-id' /tmp/head | tr -d '\\r' | cut -d' ' -f2)
  tenant=$(grep -i '^lambda-runtime-aws-tenant-id' /tmp/head | tr -d '\\r' | cut -d' ' -f2-)
  curl -s -d "\\"$tenant\\"" "http://$AWS_LAMBDA_RUNTIME_API/2018-06-01/runtime/invocation/$id/response" > /dev/null
done
"""
    archive = archives.pack({"bootstrap": script})
    shared.create(lambda_client, name, archive, "provided.al2023", Timeout=20, LoggingConfig={"LogFormat": "JSON"}, **PER_TENANT)
    assert invoke(lambda_client, name, {}, TenantId="Blue Team")[0] == "Blue Team"
    lines = [json.loads(line) for line in shared.command("logs", name).stdout.splitlines()]
    assert {"platform.start", "platform.report"} <= {line["type"] for line in lines}
