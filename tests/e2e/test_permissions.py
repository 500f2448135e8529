"""Policies of functions, versions and aliases, statement by statement and as a whole; and settings that are kept."""

import json

import pytest
from botocore.exceptions import ClientError

from harness import archives
from harness.server import ACCOUNT

CODE = archives.pack({"app.py": "def handler(event, context):\n    return 1\n"})


@pytest.fixture
def function(shared, lambda_client, name, python):
    shared.create(lambda_client, name, CODE, python)
    lambda_client.publish_version(FunctionName=name)
    lambda_client.create_alias(FunctionName=name, Name="live", FunctionVersion="1")
    return f"arn:aws:lambda:us-east-1:{ACCOUNT}:function:{name}"


def policy(client, **named):
    answer = client.get_policy(**named)
    return json.loads(answer["Policy"])["Statement"], answer["RevisionId"]


def permit(client, name, sid="s", **more):
    named = {"FunctionName": name, "StatementId": sid, "Action": "lambda:InvokeFunction", "Principal": "s3.amazonaws.com", **more}
    return json.loads(client.add_permission(**named)["Statement"])


def code(call, *arguments, **named):
    with pytest.raises(ClientError) as error:
        call(*arguments, **named)
    return error.value.response["Error"]["Code"]


def test_statements_are_added_shown_and_removed_where_they_belong(lambda_client, name, function):
    whole = permit(lambda_client, name, SourceArn="arn:aws:s3:::bucket", SourceAccount=ACCOUNT)
    assert whole["Condition"] == {"ArnLike": {"AWS:SourceArn": "arn:aws:s3:::bucket"}, "StringEquals": {"AWS:SourceAccount": ACCOUNT}}
    assert permit(lambda_client, name, Qualifier="live")["Resource"] == f"{function}:live"
    assert permit(lambda_client, f"{function}:1", Principal="222222222222")["Principal"] == {"AWS": "arn:aws:iam::222222222222:root"}
    assert policy(lambda_client, FunctionName=name)[0] == [whole]
    assert code(permit, lambda_client, name) == "ResourceConflictException"
    assert code(permit, lambda_client, name, "t", Principal="nonsense") == "InvalidParameterValueException"
    assert code(permit, lambda_client, name, "t", Qualifier="$LATEST") == "InvalidParameterValueException"
    assert code(permit, lambda_client, name, "t", Qualifier="9") == "ResourceNotFoundException"
    _, revision = policy(lambda_client, FunctionName=name)
    permit(lambda_client, name, "t", RevisionId=revision)
    remove = {"FunctionName": name, "StatementId": "s"}
    assert code(lambda_client.remove_permission, **remove, RevisionId=revision) == "PreconditionFailedException"
    assert code(lambda_client.remove_permission, FunctionName=name, StatementId="none") == "ResourceNotFoundException"
    lambda_client.remove_permission(**remove)
    lambda_client.remove_permission(FunctionName=name, StatementId="t")
    assert code(lambda_client.get_policy, FunctionName=name) == "ResourceNotFoundException"
    lambda_client.delete_alias(FunctionName=name, Name="live")
    lambda_client.create_alias(FunctionName=name, Name="live", FunctionVersion="1")
    assert code(lambda_client.get_policy, FunctionName=name, Qualifier="live") == "ResourceNotFoundException"


def test_a_policy_is_put_as_a_whole_and_grows_no_larger_than_it_may(lambda_client, name, function):
    statement = {"Effect": "Allow", "Principal": "*", "Action": "lambda:InvokeFunction", "Resource": function}
    put = lambda_client.put_resource_policy(ResourceArn=function, Policy=json.dumps({"Statement": statement}))
    assert json.loads(put["Policy"])["Statement"] == [statement]
    assert policy(lambda_client, FunctionName=name)[0] == [statement]
    for nonsense in ["{", "[]", "{}", '{"Statement": []}', '{"Statement": [{"Effect": "Maybe"}]}', '{"Statement": {"Effect": "Allow"}}']:
        assert code(lambda_client.put_resource_policy, ResourceArn=function, Policy=nonsense) == "InvalidParameterValueException"
    stale = "00000000-0000-0000-0000-000000000000"
    assert code(lambda_client.delete_resource_policy, ResourceArn=function, RevisionId=stale) == "PreconditionFailedException"
    with pytest.raises(lambda_client.exceptions.PolicyLengthExceededException):
        for number in range(60):
            permit(lambda_client, name, f"s{number}", SourceArn="arn:aws:s3:::" + "b" * 500)
    lambda_client.delete_resource_policy(ResourceArn=function, RevisionId=policy(lambda_client, FunctionName=name)[1])
    assert code(lambda_client.get_resource_policy, ResourceArn=function) == "ResourceNotFoundException"
    assert code(lambda_client.delete_resource_policy, ResourceArn=function) == "ResourceNotFoundException"


def test_settings_are_kept_until_the_function_goes(shared, lambda_client, name, function, python):
    client = lambda_client
    assert client.get_runtime_management_config(FunctionName=name)["UpdateRuntimeOn"] == "Auto"
    version = "arn:aws:lambda:us-east-1::runtime:0123456789"
    assert code(client.put_runtime_management_config, FunctionName=name, UpdateRuntimeOn="Manual") == "InvalidParameterValueException"
    client.put_runtime_management_config(FunctionName=name, Qualifier="1", UpdateRuntimeOn="Manual", RuntimeVersionArn=version)
    assert client.get_runtime_management_config(FunctionName=name, Qualifier="1")["RuntimeVersionArn"] == version
    assert client.get_runtime_management_config(FunctionName=name)["FunctionArn"] == f"{function}:$LATEST"
    assert client.get_function_recursion_config(FunctionName=name)["RecursiveLoop"] == "Terminate"
    client.put_function_recursion_config(FunctionName=name, RecursiveLoop="Allow")
    assert client.get_function_recursion_config(FunctionName=name)["RecursiveLoop"] == "Allow"
    limits = {"MinExecutionEnvironments": 1, "MaxExecutionEnvironments": 3}
    client.put_function_scaling_config(FunctionName=name, Qualifier="1", FunctionScalingConfig=limits)
    assert client.get_function_scaling_config(FunctionName=name, Qualifier="1")["RequestedFunctionScalingConfig"] == limits
    client.delete_function(FunctionName=name)
    shared.create(client, name, CODE, python)
    assert client.get_function_recursion_config(FunctionName=name)["RecursiveLoop"] == "Terminate"


def test_code_signing_is_kept_and_goes_when_nothing_has_it(lambda_client, name, function):
    client = lambda_client
    publishers = {"SigningProfileVersionArns": ["arn:aws:signer:us-east-1:123456789012:/signing-profiles/p/1"]}
    made = client.create_code_signing_config(AllowedPublishers=publishers, Description="d")["CodeSigningConfig"]
    arn = {"CodeSigningConfigArn": made["CodeSigningConfigArn"]}
    client.update_code_signing_config(**arn, CodeSigningPolicies={"UntrustedArtifactOnDeployment": "Enforce"})
    shown = client.get_code_signing_config(**arn)["CodeSigningConfig"]
    assert (shown["Description"], shown["AllowedPublishers"]) == ("d", publishers)
    assert shown["CodeSigningPolicies"]["UntrustedArtifactOnDeployment"] == "Enforce"
    client.put_function_code_signing_config(FunctionName=name, **arn)
    assert client.get_function_code_signing_config(FunctionName=name)["CodeSigningConfigArn"] == made["CodeSigningConfigArn"]
    assert client.list_functions_by_code_signing_config(**arn)["FunctionArns"] == [function]
    assert code(client.delete_code_signing_config, **arn) == "ResourceConflictException"
    client.delete_function_code_signing_config(FunctionName=name)
    client.delete_code_signing_config(**arn)
    assert code(client.put_function_code_signing_config, FunctionName=name, **arn) == "CodeSigningConfigNotFoundException"
