"""Reserved and provisioned concurrency as Lambda's API has them."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from harness import archives
from harness.server import ACCOUNT, invoke, settle
from harness.wait import wait_for


@pytest.fixture
def echo(shared, lambda_client, name, python):
    shared.create(lambda_client, name, archives.function("python-echo"), python, Timeout=20)
    yield name
    lambda_client.delete_function_concurrency(FunctionName=name)


def reserve(client, name, count):
    return client.put_function_concurrency(FunctionName=name, ReservedConcurrentExecutions=count)


def test_a_reservation_is_shown_everywhere_and_taken_away(lambda_client, echo):
    before = lambda_client.get_account_settings()["AccountLimit"]
    assert reserve(lambda_client, echo, 7)["ReservedConcurrentExecutions"] == 7
    assert lambda_client.get_function_concurrency(FunctionName=echo)["ReservedConcurrentExecutions"] == 7
    assert lambda_client.get_function(FunctionName=echo)["Concurrency"] == {"ReservedConcurrentExecutions": 7}
    after = lambda_client.get_account_settings()["AccountLimit"]
    assert after["ConcurrentExecutions"] == before["ConcurrentExecutions"]
    assert after["UnreservedConcurrentExecutions"] == before["UnreservedConcurrentExecutions"] - 7
    answer = lambda_client.delete_function_concurrency(FunctionName=echo)
    assert answer["ResponseMetadata"]["HTTPStatusCode"] == 204
    assert "ReservedConcurrentExecutions" not in lambda_client.get_function_concurrency(FunctionName=echo)
    assert "Concurrency" not in lambda_client.get_function(FunctionName=echo)


def test_a_hundred_of_the_account_stay_unreserved(lambda_client, echo):
    all_ = lambda_client.get_account_settings()["AccountLimit"]["ConcurrentExecutions"]
    words = (
        "Specified ReservedConcurrentExecutions for function decreases account's UnreservedConcurrentExecution below "
        r"its minimum value of \[100\]."
    )
    with pytest.raises(lambda_client.exceptions.InvalidParameterValueException, match=words):
        reserve(lambda_client, echo, all_ - 99)
    assert reserve(lambda_client, echo, all_ - 100)["ReservedConcurrentExecutions"] == all_ - 100


def refused(client, name):
    with pytest.raises(client.exceptions.TooManyRequestsException) as caught:
        invoke(client, name)
    response = caught.value.response
    assert response["ResponseMetadata"]["HTTPStatusCode"] == 429
    assert int(response["ResponseMetadata"]["HTTPHeaders"]["retry-after"]) >= 1
    assert response["Error"]["Message"] == "Rate Exceeded."
    return response["Reason"]


def test_a_reservation_is_a_limit_of_its_own(lambda_client, shared, echo):
    reserve(lambda_client, echo, 2)
    with ThreadPoolExecutor(2) as pool:
        slow = [pool.submit(invoke, lambda_client, echo, {"sleep": 3}) for _ in range(2)]
        wait_for(lambda: sum(i["leases"] for i in shared.instances(echo)) == 2, "both are running")
        assert refused(lambda_client, echo) == "ReservedFunctionConcurrentInvocationLimitExceeded"
        assert all("event" in one.result()[0] for one in slow)
    assert invoke(lambda_client, echo)[0]["served"] >= 1


def test_no_concurrency_switches_a_function_off(lambda_client, echo):
    assert invoke(lambda_client, echo)[0]["served"] == 1
    reserve(lambda_client, echo, 0)
    assert refused(lambda_client, echo) == "ReservedFunctionConcurrentInvocationLimitExceeded"
    lambda_client.delete_function_concurrency(FunctionName=echo)
    assert invoke(lambda_client, echo)[0]["served"] == 2


def test_what_is_reserved_is_kept_from_others_after_a_restart_too(own, python):
    server = own("--account-concurrency", "103")
    client = server.client()
    for one in ["mine", "other"]:
        server.create(client, one, archives.function("python-echo"), python, Timeout=20)
    reserve(client, "mine", 3)
    server.kill()
    client = own("--account-concurrency", "103").client()
    limits = client.get_account_settings()["AccountLimit"]
    assert (limits["ConcurrentExecutions"], limits["UnreservedConcurrentExecutions"]) == (103, 100)
    with pytest.raises(client.exceptions.InvalidParameterValueException):
        reserve(client, "other", 1)
    reserve(client, "mine", 0)
    assert refused(client, "mine") == "ReservedFunctionConcurrentInvocationLimitExceeded"


def test_requests_at_once_in_one_instance_as_lambda_names_them(shared, lambda_client, name, python):
    capacity = {
        "LambdaManagedInstancesCapacityProviderConfig": {
            "CapacityProviderArn": f"arn:aws:lambda:us-east-1:{ACCOUNT}:capacity-provider:p",
            "PerExecutionEnvironmentMaxConcurrency": 4,
        }
    }
    shared.create(lambda_client, name, archives.function("python-echo"), python)
    changed = lambda_client.update_function_configuration(FunctionName=name, CapacityProviderConfig=capacity)
    assert changed["CapacityProviderConfig"] == capacity
    settle(lambda_client, name)
    assert lambda_client.get_function_configuration(FunctionName=name)["CapacityProviderConfig"] == capacity


def provision(client, name, qualifier, count):
    return client.put_provisioned_concurrency_config(
        FunctionName=name, Qualifier=qualifier, ProvisionedConcurrentExecutions=count
    )


def test_provisioned_concurrency_is_of_versions_and_aliases_only(lambda_client, echo):
    lambda_client.publish_version(FunctionName=echo)
    lambda_client.create_alias(FunctionName=echo, Name="live", FunctionVersion="1")
    wrong = lambda_client.exceptions.InvalidParameterValueException
    with pytest.raises(wrong, match="Provisioned Concurrency Configs cannot be applied to unpublished function versions."):
        provision(lambda_client, echo, "$LATEST", 1)
    with pytest.raises(lambda_client.exceptions.ResourceNotFoundException):
        provision(lambda_client, echo, "7", 1)
    with pytest.raises(wrong, match="greater than account's unreserved concurrency"):
        provision(lambda_client, echo, "1", 100_000)
    with pytest.raises(lambda_client.exceptions.ProvisionedConcurrencyConfigNotFoundException) as caught:
        lambda_client.get_provisioned_concurrency_config(FunctionName=echo, Qualifier="live")
    assert caught.value.response["Error"]["Message"] == "No Provisioned Concurrency Config found for this function"

    made = provision(lambda_client, echo, "live", 1)
    assert made["ResponseMetadata"]["HTTPStatusCode"] == 202
    assert made["RequestedProvisionedConcurrentExecutions"] == 1
    assert made["Status"] in ("IN_PROGRESS", "READY", "FAILED")
    with pytest.raises(lambda_client.exceptions.ResourceConflictException, match="Provisioned Concurrency alias"):
        provision(lambda_client, echo, "1", 1)
    listed = lambda_client.list_provisioned_concurrency_configs(FunctionName=echo)["ProvisionedConcurrencyConfigs"]
    assert [one["FunctionArn"].rsplit(":", 1)[1] for one in listed] == ["live"]
    ended = lambda_client.delete_provisioned_concurrency_config(FunctionName=echo, Qualifier="live")
    assert ended["ResponseMetadata"]["HTTPStatusCode"] == 204
    assert lambda_client.list_provisioned_concurrency_configs(FunctionName=echo)["ProvisionedConcurrencyConfigs"] == []


INITIALIZED = """
import os
def handler(event, context):
    return {"kind": os.environ["AWS_LAMBDA_INITIALIZATION_TYPE"], "log": os.environ["AWS_LAMBDA_LOG_STREAM_NAME"]}
"""


def ready(client, name, qualifier, count):
    def state():
        return client.get_provisioned_concurrency_config(FunctionName=name, Qualifier=qualifier)

    wait_for(lambda: state()["Status"] == "READY", lambda: f"{name}:{qualifier} is ready: {state()}")
    now = state()
    assert now["AllocatedProvisionedConcurrentExecutions"] == now["AvailableProvisionedConcurrentExecutions"] == count


def test_provisioned_instances_are_there_before_a_request_and_after_a_crash(own, tmp_path, python):
    server = own()
    client = server.client()
    server.create(client, "f", archives.pack({"app.py": INITIALIZED}), python, Publish=True)
    provision(client, "f", "1", 2)
    ready(client, "f", "1", 2)
    assert [i["started_for"] for i in server.instances("f")] == ["provisioned"] * 2
    answer, raw = invoke(client, "f", Qualifier="1")
    assert answer["kind"] == "provisioned-concurrency" and raw["ExecutedVersion"] == "1"
    assert server.metrics()['hearth_manager_cold_starts_spared_total{pool="provisioned"}'] == 1
    # Others are started on demand.
    assert invoke(client, "f")[0]["kind"] == "on-demand"
    first = server.instances("f")[0]["instance"]
    server.kill()
    again = own()
    client = again.client()
    ready(client, "f", "1", 2)
    assert first not in [i["instance"] for i in again.instances("f")]
    client.delete_provisioned_concurrency_config(FunctionName="f", Qualifier="1")
    client.delete_function(FunctionName="f")
    wait_for(lambda: not again.instances(), "all are gone")


def test_provisioned_concurrency_without_room_fails_and_says_why(own, python):
    server = own("--memory", "512", "--oversubscription", "100")
    client = server.client()
    server.create(client, "f", archives.pack({"app.py": INITIALIZED}), python, MemorySize=256, Publish=True)
    provision(client, "f", "1", 3)

    def state():
        return client.get_provisioned_concurrency_config(FunctionName="f", Qualifier="1")

    def failed():
        now = state()
        return now if now["Status"] == "FAILED" and now["AllocatedProvisionedConcurrentExecutions"] == 2 else None

    now = wait_for(failed, lambda: f"two are there and the third is not: {state()}")
    assert "512 of 512 MB promised" in now["StatusReason"]
    provision(client, "f", "1", 2)
    ready(client, "f", "1", 2)
