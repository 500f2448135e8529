"""A developer brings a function from birth to death with boto3."""

import base64
import hashlib
import json
import urllib.request

import pytest

from harness import archives
from harness.clients import tail
from harness.server import ACCOUNT, ROLE, invoke, settle


def test_a_function_lives_from_create_to_delete(lambda_client, name, python):
    archive = archives.function("python-echo")
    created = lambda_client.create_function(
        FunctionName=name,
        Runtime=python,
        Handler="app.handler",
        Role=ROLE,
        Code={"ZipFile": archive},
        Description="first",
        Timeout=7,
        MemorySize=192,
        Environment={"Variables": {"CODE_VERSION": "1"}},
        Tags={"team": "fire"},
    )
    assert created["ResponseMetadata"]["HTTPStatusCode"] == 201
    assert created["State"] == "Pending"
    assert created["StateReasonCode"] == "Creating"
    lambda_client.get_waiter("function_active_v2").wait(FunctionName=name, WaiterConfig={"Delay": 1, "MaxAttempts": 30})

    config = lambda_client.get_function_configuration(FunctionName=name)
    arn = f"arn:aws:lambda:us-east-1:{ACCOUNT}:function:{name}"
    assert config["FunctionArn"] == arn
    assert (config["State"], config["LastUpdateStatus"]) == ("Active", "Successful")
    assert config["CodeSize"] == len(archive)
    assert config["CodeSha256"] == base64.b64encode(hashlib.sha256(archive).digest()).decode()
    assert (config["Timeout"], config["MemorySize"], config["Description"]) == (7, 192, "first")
    assert config["Version"] == "$LATEST"
    assert config["PackageType"] == "Zip"
    assert config["Architectures"] and config["EphemeralStorage"] == {"Size": 512}
    assert config["Environment"] == {"Variables": {"CODE_VERSION": "1"}}

    value, answer = invoke(lambda_client, name, {"name": "Ada"})
    assert answer["StatusCode"] == 200 and answer["ExecutedVersion"] == "$LATEST"
    assert value["event"] == {"name": "Ada"}
    assert value["request_id"] == answer["ResponseMetadata"]["RequestId"]

    lambda_client.update_function_configuration(
        FunctionName=name, Environment={"Variables": {"CODE_VERSION": "2"}}, Description="second"
    )
    lambda_client.get_waiter("function_updated_v2").wait(FunctionName=name, WaiterConfig={"Delay": 1})
    value, _ = invoke(lambda_client, name)
    assert value["version"] == "2"

    new_code = archives.pack({"app.py": "def handler(event, context):\n    return 'new code'\n"})
    updated = lambda_client.update_function_code(FunctionName=name, ZipFile=new_code)
    assert updated["CodeSize"] == len(new_code) and updated["RevisionId"] != config["RevisionId"]
    lambda_client.get_waiter("function_updated_v2").wait(FunctionName=name, WaiterConfig={"Delay": 1})
    assert invoke(lambda_client, name)[0] == "new code"

    lambda_client.delete_function(FunctionName=name)
    with pytest.raises(lambda_client.exceptions.ResourceNotFoundException):
        lambda_client.get_function(FunctionName=name)


def test_the_code_that_was_uploaded_can_be_downloaded_again_byte_for_byte(shared, lambda_client, name, python):
    archive = archives.function("python-echo")
    shared.create(lambda_client, name, archive, python)
    found = lambda_client.get_function(FunctionName=name)
    assert found["Code"]["RepositoryType"] == "S3"
    with urllib.request.urlopen(found["Code"]["Location"], timeout=20) as download:
        assert download.read() == archive


def test_tags_are_set_listed_and_removed(shared, lambda_client, name, python):
    config = shared.create(lambda_client, name, archives.function("python-echo"), python, Tags={"a": "1", "b": "2"})
    arn = config["FunctionArn"]
    lambda_client.tag_resource(Resource=arn, Tags={"b": "two", "c": "ü @ more"})
    assert lambda_client.list_tags(Resource=arn)["Tags"] == {"a": "1", "b": "two", "c": "ü @ more"}
    lambda_client.untag_resource(Resource=arn, TagKeys=["a", "c"])
    assert lambda_client.list_tags(Resource=arn)["Tags"] == {"b": "two"}
    assert lambda_client.get_function(FunctionName=name)["Tags"] == {"b": "two"}


def test_functions_are_listed_page_by_page_and_only_to_their_owner(shared, python):
    owner, stranger = shared.client("111111111111"), shared.client("222222222222")
    archive = archives.function("python-echo")
    names = [f"listed-{n}" for n in range(7)]
    for one in names:
        shared.create(owner, one, archive, python, wait=False)
    try:
        pages = list(owner.get_paginator("list_functions").paginate(PaginationConfig={"PageSize": 3}))
        assert [len(page["Functions"]) for page in pages] == [3, 3, 1]
        assert [f["FunctionName"] for page in pages for f in page["Functions"]] == names
        assert stranger.list_functions()["Functions"] == []
        with pytest.raises(stranger.exceptions.ResourceNotFoundException):
            stranger.invoke(FunctionName=names[0])
    finally:
        for one in names:
            owner.delete_function(FunctionName=one)
    assert owner.list_functions()["Functions"] == []


@pytest.mark.parametrize("form", ["name", "arn", "partial", "qualified"])
def test_a_function_is_found_by_every_form_of_its_name(form, shared, lambda_client, name, python):
    shared.create(lambda_client, name, archives.function("python-echo"), python)
    forms = {
        "name": name,
        "arn": f"arn:aws:lambda:us-east-1:{ACCOUNT}:function:{name}",
        "partial": f"{ACCOUNT}:function:{name}",
        "qualified": f"arn:aws:lambda:us-east-1:{ACCOUNT}:function:{name}:$LATEST",
    }
    assert lambda_client.get_function_configuration(FunctionName=forms[form])["FunctionName"] == name
    assert invoke(lambda_client, forms[form], {"form": form})[0]["event"] == {"form": form}


def test_an_update_with_an_old_revision_id_changes_nothing(shared, lambda_client, name, python):
    first = shared.create(lambda_client, name, archives.function("python-echo"), python)
    lambda_client.update_function_configuration(FunctionName=name, RevisionId=first["RevisionId"], Description="one")
    second = settle(lambda_client, name)
    for update, arguments in [
        (lambda_client.update_function_configuration, {"Description": "two"}),
        (lambda_client.update_function_code, {"ZipFile": archives.function("python-lab")}),
    ]:
        with pytest.raises(lambda_client.exceptions.PreconditionFailedException):
            update(FunctionName=name, RevisionId=first["RevisionId"], **arguments)
    now = settle(lambda_client, name)
    assert (now["Description"], now["CodeSha256"]) == ("one", second["CodeSha256"])


def test_a_dry_run_checks_and_runs_nothing(shared, lambda_client, name, python):
    shared.create(lambda_client, name, archives.function("python-echo"), python)
    answer = lambda_client.invoke(FunctionName=name, InvocationType="DryRun")
    assert answer["StatusCode"] == 204 and answer["Payload"].read() == b""
    assert shared.instances(name) == []
    updated = lambda_client.update_function_code(FunctionName=name, ZipFile=archives.function("python-lab"), DryRun=True)
    assert updated["CodeSize"] > 0
    assert invoke(lambda_client, name, {"still": "echo"})[0]["event"] == {"still": "echo"}


def test_the_client_context_and_the_log_reach_their_readers(shared, lambda_client, lab):
    context = {"custom": {"key": "value"}, "env": {"locale": "de"}, "client": {"installation_id": "x"}}
    answer = lambda_client.invoke(
        FunctionName=lab.name,
        LogType="Tail",
        ClientContext=base64.b64encode(json.dumps(context).encode()).decode(),
        Payload=json.dumps({"code": "print('said ü'); c = context.client_context; result = [c.custom, c.env, c.client.installation_id]"}),
    )
    assert json.load(answer["Payload"]) == [context["custom"], context["env"], "x"]
    log, request = tail(answer), answer["ResponseMetadata"]["RequestId"]
    assert f"START RequestId: {request} Version: $LATEST\n" in log
    assert "said ü\n" in log
    assert f"END RequestId: {request}\n" in log
    assert log.rstrip().rsplit("\n", 1)[-1].startswith(f"REPORT RequestId: {request}\tDuration: ")


def test_the_account_settings_count_functions_and_code(shared, python):
    client = shared.client("333333333333")
    empty = client.get_account_settings()
    assert empty["AccountUsage"] == {"TotalCodeSize": 0, "FunctionCount": 0}
    assert empty["AccountLimit"]["ConcurrentExecutions"] == 1000
    assert empty["AccountLimit"]["CodeSizeUnzipped"] == 262144000
    archive = archives.function("python-echo")
    shared.create(client, "one", archive, python)
    assert client.get_account_settings()["AccountUsage"] == {"TotalCodeSize": len(archive), "FunctionCount": 1}
    client.delete_function(FunctionName="one")


def test_a_json_value_of_any_kind_goes_in_and_out_unchanged(shared, lambda_client, name, python):
    code = "def handler(event, context):\n    return event\n"
    shared.create(lambda_client, name, archives.pack({"app.py": code}), python)
    for value in [None, True, 0, -1.5, "", "ü\u2028\U0001f525", [], {}, [1, {"a": [None]}], {"k" * 300: "v"}]:
        answer = lambda_client.invoke(FunctionName=name, Payload=json.dumps(value))
        assert json.load(answer["Payload"]) == value
