"""Every mistake of a caller gets the error class, status and words that AWS's clients know."""

import base64
import json
import os
import re
import urllib.error
import urllib.request

import pytest
from botocore.exceptions import ClientError

from harness import archives
from harness.server import ACCOUNT, ROLE, settle


@pytest.fixture(scope="module")
def unchecked(shared):
    """A client that sends what it is told, checked or not."""
    return shared.client(parameter_validation=False)


@pytest.fixture(scope="module")
def steady(shared, python):
    """A function that the tests of this file only look at."""
    client = shared.client()
    shared.create(client, "steady", archives.function("python-echo"), python)
    yield "steady"
    client.delete_function(FunctionName="steady")


def refused(call, **arguments):
    """The error of a call that must fail: code, status, message."""
    with pytest.raises(ClientError) as caught:
        call(**arguments)
    response = caught.value.response
    assert response["ResponseMetadata"].get("RequestId"), "every answer has a request id"
    return response["Error"]["Code"], response["ResponseMetadata"]["HTTPStatusCode"], response["Error"]["Message"]


def creation(name, **changes):
    base = dict(
        FunctionName=name,
        Runtime="provided.al2023",
        Handler="h",
        Role=ROLE,
        Code={"ZipFile": archives.pack({"bootstrap": "#!/bin/sh\n"})},
    )
    merged = {**base, **changes}
    return {key: value for key, value in merged.items() if value is not None}


MISSING = f"Function not found: arn:aws:lambda:us-east-1:{ACCOUNT}:function:nobody"


@pytest.mark.parametrize(
    "operation, arguments",
    [
        ("get_function", {}),
        ("get_function_configuration", {}),
        ("update_function_configuration", {"Description": "x"}),
        ("update_function_code", {"ZipFile": archives.pack({"bootstrap": "x"})}),
        ("delete_function", {}),
        ("invoke", {"Payload": "{}"}),
    ],
)
def test_a_function_that_is_not_there(lambda_client, operation, arguments):
    code, status, message = refused(getattr(lambda_client, operation), FunctionName="nobody", **arguments)
    assert (code, status) == ("ResourceNotFoundException", 404)
    assert message.startswith(MISSING)


def test_tags_of_a_function_that_is_not_there(lambda_client):
    arn = f"arn:aws:lambda:us-east-1:{ACCOUNT}:function:nobody"
    for call, more in [("list_tags", {}), ("tag_resource", {"Tags": {"a": "b"}}), ("untag_resource", {"TagKeys": ["a"]})]:
        code, status, _ = refused(getattr(lambda_client, call), Resource=arn, **more)
        assert (code, status) == ("ResourceNotFoundException", 404)


def test_a_version_that_is_not_there(lambda_client, steady):
    code, status, message = refused(lambda_client.invoke, FunctionName=steady, Qualifier="7")
    assert (code, status) == ("ResourceNotFoundException", 404) and message.endswith(f"function:{steady}:7")


def test_a_name_that_is_taken(lambda_client, steady):
    code, status, message = refused(lambda_client.create_function, **creation(steady))
    assert (code, status) == ("ResourceConflictException", 409)
    assert message == f"Function already exist: {steady}"


def test_all_violations_of_the_model_are_named_at_once(unchecked):
    wrong = creation("bad name!", MemorySize=1, Timeout=0, Description="x" * 300, Runtime="cobol", Handler="a b")
    code, status, message = refused(unchecked.create_function, **wrong)
    assert status == 400
    assert code in ("ValidationException", "InvalidParameterValueException")
    assert re.match(r"[5-9] validation errors detected: ", message)
    for said in [
        "Value '1' at 'memorySize' failed to satisfy constraint: Member must have value greater than or equal to 128",
        "Value '0' at 'timeout' failed to satisfy constraint: Member must have value greater than or equal to 1",
        "at 'description' failed to satisfy constraint: Member must have length less than or equal to 256",
        "Value 'cobol' at 'runtime' failed to satisfy constraint: Member must satisfy enum value set:",
        "at 'handler' failed to satisfy constraint: Member must satisfy regular expression pattern:",
    ]:
        assert said in message, f"{said!r} is not in {message!r}"


@pytest.mark.parametrize(
    "change, word",
    [
        ({"MemorySize": 10241}, "memorySize"),
        ({"Timeout": 901}, "timeout"),
        ({"EphemeralStorage": {"Size": 511}}, "phemeralStorage"),
        ({"EphemeralStorage": {"Size": 10241}}, "phemeralStorage"),
        ({"Role": "nobody"}, "role"),
        ({"Architectures": ["vax"]}, "rchitectures"),
        ({"Environment": {"Variables": {"1X": "y"}}}, "nvironment"),
        ({"Role": None}, "role"),
        ({"TracingConfig": {"Mode": "Loud"}}, "mode"),
    ],
)
def test_one_violation(unchecked, change, word):
    code, status, message = refused(unchecked.create_function, **creation("violator", **change))
    assert status == 400 and code in ("ValidationException", "InvalidParameterValueException"), (code, message)
    assert word.lower() in message.lower()


@pytest.mark.parametrize(
    "change",
    [
        {"Environment": {"Variables": {"AWS_LAMBDA_FUNCTION_NAME": "x"}}},
        {"Environment": {"Variables": {"BIG": "x" * 5000}}},
        {"Runtime": None},
        {"Handler": None},
        {"Code": {}},
        {"Tags": {"aws:mine": "x"}},
        {"Tags": {"hearth:idle-timeout": "soon"}},
        {"Tags": {"hearth:isolation": "wall"}},
        {"Tags": {"hearth:concurrency": "soft=9,hard=2"}},
        {"Tags": {"hearth:unknown": "x"}},
    ],
    ids=lambda change: next(iter(change)) + "-" + str(next(iter((list(change.values())[0] or {"none": 0}))))[:20],
)
def test_a_setting_that_makes_no_sense(unchecked, change):
    code, status, _ = refused(unchecked.create_function, **creation("senseless", **change))
    assert (code, status) in [("InvalidParameterValueException", 400), ("ValidationException", 400)]
    assert refused(unchecked.get_function, FunctionName="senseless")[0] == "ResourceNotFoundException"


def test_a_refused_update_leaves_the_function_as_it_was(unchecked, steady):
    before = settle(unchecked, steady)
    for change in [{"MemorySize": 1}, {"Timeout": 100000}, {"Environment": {"Variables": {"BIG": "x" * 5000}}}]:
        assert refused(unchecked.update_function_configuration, FunctionName=steady, **change)[1] == 400
    assert refused(unchecked.update_function_code, FunctionName=steady, ZipFile=b"no zip")[1] == 400
    after = settle(unchecked, steady)
    before.pop("ResponseMetadata"), after.pop("ResponseMetadata")
    assert after == before


def test_an_old_revision_id(lambda_client, steady):
    arguments = {"FunctionName": steady, "RevisionId": "00000000-0000-0000-0000-000000000000", "Description": "x"}
    code, status, message = refused(lambda_client.update_function_configuration, **arguments)
    assert (code, status) == ("PreconditionFailedException", 412)
    assert message.startswith("The Revision Id provided does not match the latest Revision Id.")


@pytest.mark.parametrize("payload", [b"", b"{", b"{'a': 1}", b"\xff\xfe", b"nonsense", b"{} {}"])
def test_a_payload_that_is_not_json(lambda_client, steady, payload):
    if payload == b"":
        # No payload is an empty event, as in Lambda.
        assert lambda_client.invoke(FunctionName=steady, Payload=payload)["StatusCode"] == 200
        return
    code, status, message = refused(lambda_client.invoke, FunctionName=steady, Payload=payload)
    assert (code, status) == ("InvalidRequestContentException", 400)
    assert message.startswith("Could not parse request body into json")


def test_a_client_context_that_is_not_base64_or_not_json(lambda_client, steady):
    for context in ["%%%", base64.b64encode(b"{").decode()]:
        code, status, _ = refused(lambda_client.invoke, FunctionName=steady, ClientContext=context)
        assert (code, status) == ("InvalidRequestContentException", 400)


def test_a_payload_of_six_megabytes_passes_and_one_byte_more_does_not(shared, lambda_client, name, python):
    code = "def handler(event, context):\n    return len(event)\n"
    shared.create(lambda_client, name, archives.pack({"app.py": code}), python, Timeout=30, MemorySize=512)
    largest = 6 * 1024 * 1024
    answer = lambda_client.invoke(FunctionName=name, Payload=b'"' + b"x" * (largest - 2) + b'"')
    assert json.load(answer["Payload"]) == largest - 2
    code, status, message = refused(lambda_client.invoke, FunctionName=name, Payload=b'"' + b"x" * (largest - 1) + b'"')
    assert (code, status) == ("RequestTooLargeException", 413)
    assert message == "Request must be smaller than 6291456 bytes for the InvokeFunction operation"


def test_an_archive_that_is_too_large_to_send(lambda_client):
    archive = archives.pack({"bootstrap": "#!/bin/sh\n"}) + b""
    big = os.urandom(1 << 20) * 51
    code, status, _ = refused(lambda_client.create_function, **creation("too-large", Code={"ZipFile": big + archive}))
    assert (code, status) in [("RequestEntityTooLargeException", 413), ("RequestTooLargeException", 413)]


def test_an_invocation_type_or_log_type_that_does_not_exist(unchecked, steady):
    for change in [{"InvocationType": "Later"}, {"LogType": "Head"}]:
        code, status, _ = refused(unchecked.invoke, FunctionName=steady, **change)
        assert (code, status) in [("InvalidParameterValueException", 400), ("ValidationException", 400)]


@pytest.mark.parametrize(
    "operation, arguments",
    [
        ("list_durable_executions_by_function", {"FunctionName": "steady"}),
        ("list_capacity_providers", {}),
    ],
)
def test_an_operation_that_is_not_there_yet_is_named(lambda_client, steady, operation, arguments):
    code, status, message = refused(getattr(lambda_client, operation), **arguments)
    assert status in (400, 404, 501), (code, status, message)
    wanted = "".join(word.title() for word in operation.split("_"))
    assert wanted in message, message


def test_every_answer_names_its_error_type_and_request_in_headers(shared):
    """What SDKs of all languages read: x-amzn-errortype, x-amzn-requestid, and a JSON body."""
    with pytest.raises(urllib.error.HTTPError) as caught:
        shared.get("/2015-03-31/functions/nobody")
    answer = caught.value
    assert answer.code == 404
    assert answer.headers["x-amzn-errortype"].split(":")[0] == "ResourceNotFoundException"
    assert len(answer.headers["x-amzn-requestid"]) == 36
    assert answer.headers["content-type"].startswith("application/json")
    body = json.loads(answer.read())
    assert body["Type"] == "User" and body["Message"].startswith("Function not found: ")


def test_a_path_that_is_no_operation(shared):
    for path in ["/", "/2015-03-31/", "/2015-03-31/functions/a/b/c", "/2099-01-01/functions", "/%00", "/../../etc/passwd"]:
        with pytest.raises(urllib.error.HTTPError) as caught:
            shared.get(path)
        assert caught.value.code in (400, 403, 404)


def test_a_body_that_is_not_json_or_not_an_object(shared):
    for body in [b"{", b"[]", b'"x"', b"\xff", b""]:
        request = urllib.request.Request(shared.endpoint + "/2015-03-31/functions", data=body, method="POST")
        with pytest.raises(urllib.error.HTTPError) as caught:
            urllib.request.urlopen(request, timeout=20)
        assert caught.value.code == 400, body


def test_a_function_that_is_still_in_the_making_refuses_changes_or_takes_them(shared, lambda_client, name, python):
    """Lambda answers a change of a Pending function with ResourceConflictException; never with a broken state."""
    shared.create(lambda_client, name, archives.function("python-echo"), python, wait=False)
    for round in range(20):
        try:
            lambda_client.update_function_configuration(FunctionName=name, Description=f"{round}")
        except lambda_client.exceptions.ResourceConflictException as error:
            assert f"function:{name}" in str(error) or "following state: Pending" in str(error)
    config = settle(lambda_client, name)
    assert (config["State"], config["LastUpdateStatus"]) == ("Active", "Successful")
