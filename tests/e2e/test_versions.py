"""Versions stay what they were, aliases lead to them, and both survive a crash of the server."""

import base64
import collections
import hashlib
import json
from concurrent.futures import ThreadPoolExecutor

import pytest

from harness import archives
from harness.server import ACCOUNT, invoke, settle
from harness.wait import wait_for

SOURCE = "import os\ndef handler(event, context):\n    return [{!r}, context.function_version, context.invoked_function_arn]\n"


def code(word):
    return archives.pack({"app.py": SOURCE.format(word)})


def arn(name):
    return f"arn:aws:lambda:us-east-1:{ACCOUNT}:function:{name}"


def ask(client, name, qualifier=None):
    more = {"Qualifier": qualifier} if qualifier else {}
    answer = client.invoke(FunctionName=name, Payload=b"{}", **more)
    value = json.loads(answer["Payload"].read())
    assert "FunctionError" not in answer, value
    return value, answer["ExecutedVersion"]


@pytest.fixture
def two(shared, lambda_client, name, python):
    """A function with the versions 1 and 2, whose $LATEST is a third one."""
    shared.create(lambda_client, name, code("one"), python)
    assert lambda_client.publish_version(FunctionName=name)["Version"] == "1"
    published = lambda_client.update_function_code(FunctionName=name, ZipFile=code("two"), Publish=True)
    assert (published["Version"], published["FunctionArn"]) == ("2", arn(name) + ":2")
    settle(lambda_client, name)
    lambda_client.update_function_code(FunctionName=name, ZipFile=code("three"))
    settle(lambda_client, name)
    return name


def test_each_version_runs_its_own_code(lambda_client, two):
    for qualifier, word in [("1", "one"), ("2", "two"), ("$LATEST", "three")]:
        wanted = [word, qualifier, f"{arn(two)}:{qualifier}"]
        assert ask(lambda_client, two, qualifier) == (wanted, qualifier)
        assert ask(lambda_client, f"{two}:{qualifier}") == (wanted, qualifier)
        shown = lambda_client.get_function(FunctionName=two, Qualifier=qualifier)["Configuration"]
        assert (shown["Version"], shown["FunctionArn"]) == (qualifier, f"{arn(two)}:{qualifier}")
        assert shown["CodeSha256"] == base64.b64encode(hashlib.sha256(code(word)).digest()).decode()
        assert shown["State"] == "Active"
    assert ask(lambda_client, two) == (["three", "$LATEST", arn(two)], "$LATEST")
    pages = lambda_client.get_paginator("list_versions_by_function").paginate(
        FunctionName=two, PaginationConfig={"PageSize": 1}
    )
    assert [v["Version"] for page in pages for v in page["Versions"]] == ["$LATEST", "1", "2"]


def test_the_waiter_for_published_versions_knows_when_one_is_ready(shared, lambda_client, name, python):
    shared.create(lambda_client, name, code("one"), python, wait=False, Publish=True)
    lambda_client.get_waiter("published_version_active").wait(
        FunctionName=name, Qualifier="1", WaiterConfig={"Delay": 1, "MaxAttempts": 20}
    )
    assert ask(lambda_client, name, "1")[0][0] == "one"


def test_publishing_checks_what_the_caller_saw(lambda_client, two):
    current = lambda_client.get_function_configuration(FunctionName=two)
    with pytest.raises(lambda_client.exceptions.PreconditionFailedException):
        lambda_client.publish_version(FunctionName=two, RevisionId="stale")
    with pytest.raises(lambda_client.exceptions.InvalidParameterValueException, match="is different from current CodeSHA256"):
        lambda_client.publish_version(FunctionName=two, CodeSha256="stale")
    good = {"RevisionId": current["RevisionId"], "CodeSha256": current["CodeSha256"], "Description": "third"}
    third = lambda_client.publish_version(FunctionName=two, **good)
    assert (third["Version"], third["Description"]) == ("3", "third")
    assert lambda_client.publish_version(FunctionName=two)["RevisionId"] == third["RevisionId"]


def test_what_is_not_there_is_said_in_lambdas_words(lambda_client, two):
    missing = lambda_client.exceptions.ResourceNotFoundException
    with pytest.raises(missing, match=f"Function not found: {arn(two)}:7"):
        lambda_client.invoke(FunctionName=two, Qualifier="7")
    for call in [lambda_client.invoke, lambda_client.get_function]:
        with pytest.raises(missing, match=f"Cannot find alias arn: {arn(two)}:no"):
            call(FunctionName=two, Qualifier="no")
    with pytest.raises(missing, match=f"Cannot find alias arn: {arn(two)}:no"):
        lambda_client.get_alias(FunctionName=two, Name="no")


def test_a_deleted_version_is_gone_and_its_number_never_comes_back(shared, lambda_client, two, python):
    assert ask(lambda_client, two, "2")[1] == "2"
    lambda_client.create_alias(FunctionName=two, Name="live", FunctionVersion="2")
    with pytest.raises(lambda_client.exceptions.ResourceConflictException, match=r"reference it: \[live\]"):
        lambda_client.delete_function(FunctionName=two, Qualifier="2")
    lambda_client.delete_alias(FunctionName=two, Name="live")
    lambda_client.delete_function(FunctionName=two, Qualifier="2")
    with pytest.raises(lambda_client.exceptions.ResourceNotFoundException):
        ask(lambda_client, two, "2")
    wait_for(lambda: not [i for i in shared.instances(two) if i["version"] == "2"], "its instances are gone")
    assert lambda_client.publish_version(FunctionName=two)["Version"] == "3"
    lambda_client.delete_function(FunctionName=two)
    shared.create(lambda_client, two, code("again"), python)
    assert lambda_client.publish_version(FunctionName=two)["Version"] == "4"


def test_an_alias_leads_to_its_version_and_can_be_moved(lambda_client, two):
    made = lambda_client.create_alias(FunctionName=two, Name="live", FunctionVersion="1", Description="d")
    assert made["AliasArn"] == f"{arn(two)}:live"
    assert ask(lambda_client, two, "live") == (["one", "1", f"{arn(two)}:live"], "1")
    with pytest.raises(lambda_client.exceptions.PreconditionFailedException):
        lambda_client.update_alias(FunctionName=two, Name="live", FunctionVersion="2", RevisionId="stale")
    moved = lambda_client.update_alias(
        FunctionName=two, Name="live", FunctionVersion="2", RevisionId=made["RevisionId"]
    )
    assert moved["Description"] == "d"
    assert ask(lambda_client, f"{arn(two)}:live")[1] == "2"
    shown = lambda_client.get_function_configuration(FunctionName=two, Qualifier="live")
    assert (shown["Version"], shown["FunctionArn"]) == ("2", f"{arn(two)}:live")
    assert [a["Name"] for a in lambda_client.list_aliases(FunctionName=two, FunctionVersion="2")["Aliases"]] == ["live"]
    with pytest.raises(lambda_client.exceptions.ResourceConflictException, match="Alias already exists"):
        lambda_client.create_alias(FunctionName=two, Name="live", FunctionVersion="1")


def test_weights_are_right_to_one_percent_over_ten_thousand_requests(shared, lambda_client, two):
    routing = {"AdditionalVersionWeights": {"2": 0.1}}
    lambda_client.create_alias(FunctionName=two, Name="canary", FunctionVersion="1", RoutingConfig=routing)
    assert lambda_client.get_alias(FunctionName=two, Name="canary")["RoutingConfig"] == routing

    def caller(_):
        client = shared.client()
        return collections.Counter(
            client.invoke(FunctionName=two, Qualifier="canary", Payload=b"{}")["ExecutedVersion"] for _ in range(2_500)
        )

    with ThreadPoolExecutor(4) as pool:
        counted = sum(pool.map(caller, range(4)), collections.Counter())
    assert sum(counted.values()) == 10_000
    assert abs(counted["2"] / 10_000 - 0.1) < 0.01, counted
    plain = lambda_client.update_alias(FunctionName=two, Name="canary", RoutingConfig={"AdditionalVersionWeights": {}})
    assert "RoutingConfig" not in plain
    assert {ask(lambda_client, two, "canary")[1] for _ in range(20)} == {"1"}


def test_versions_and_aliases_survive_a_crash(own, python):
    server = own()
    client = server.client()
    server.create(client, "f", code("one"), python, Publish=True)
    client.update_function_code(FunctionName="f", ZipFile=code("two"))
    settle(client, "f")
    client.create_alias(FunctionName="f", Name="live", FunctionVersion="1")
    server.kill()
    client = own().client()
    # The code of version 1 is in use, though $LATEST has another.
    assert ask(client, "f", "live")[0][0] == "one"
    assert ask(client, "f")[0][0] == "two"
    assert invoke(client, "f")[0][0] == "two"
