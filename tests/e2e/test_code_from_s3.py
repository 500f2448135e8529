"""Code that lies in a bucket: functions and layers from it, and buckets and keys that are not there."""

import base64
import hashlib

import pytest
from botocore.exceptions import ClientError

from harness import archives
from harness.moto import KEYS, Moto
from harness.server import ROLE, invoke, settle

BUCKET = "code"


def program(answer):
    return archives.pack({"app.py": f"def handler(event, context):\n    return {answer!r}\n"})


@pytest.fixture(scope="module")
def moto(tmp_path_factory):
    with Moto(tmp_path_factory.mktemp("moto")) as moto:
        s3 = moto.client("s3")
        s3.create_bucket(Bucket=BUCKET)
        s3.put_bucket_versioning(Bucket=BUCKET, VersioningConfiguration={"Status": "Enabled"})
        yield moto


def test_functions_and_layers_come_from_a_bucket_in_the_version_that_is_named(own, moto, python):
    server = own("--s3-endpoint", moto.endpoint, environment=KEYS)
    client, s3 = server.client(), moto.client("s3")
    first = s3.put_object(Bucket=BUCKET, Key="a folder/f ü+&.zip", Body=program("first"))
    s3.put_object(Bucket=BUCKET, Key="a folder/f ü+&.zip", Body=program("second"))
    code = {"S3Bucket": BUCKET, "S3Key": "a folder/f ü+&.zip"}
    made = client.create_function(FunctionName="f", Runtime=python, Handler="app.handler", Role=ROLE, Code=code)
    expected = base64.b64encode(hashlib.sha256(program("second")).digest()).decode()
    assert (made["CodeSha256"], made["CodeSize"]) == (expected, len(program("second")))
    settle(client, "f")
    assert invoke(client, "f")[0] == "second"
    client.update_function_code(FunctionName="f", S3ObjectVersion=first["VersionId"], **code)
    settle(client, "f")
    assert invoke(client, "f")[0] == "first"
    s3.put_object(Bucket=BUCKET, Key="layer.zip", Body=archives.pack({"python/one.py": "NUMBER = 1\n"}))
    layer = client.publish_layer_version(LayerName="l", Content={"S3Bucket": BUCKET, "S3Key": "layer.zip"})
    assert layer["Content"]["CodeSize"] > 0
    # What is taken is kept: the bucket may go.
    own_copy = client.get_function(FunctionName="f")["Code"]["Location"]
    assert own_copy.startswith(server.endpoint)


def test_what_is_not_there_or_no_archive_is_said_in_lambdas_words(own, moto):
    server = own("--s3-endpoint", moto.endpoint, environment=KEYS)
    client, s3 = server.client(), moto.client("s3")
    s3.put_object(Bucket=BUCKET, Key="text", Body=b"no archive")

    def refused(**code):
        with pytest.raises(ClientError) as refused:
            client.create_function(FunctionName="n", Runtime="provided.al2023", Handler="h", Role=ROLE, Code=code)
        return refused.value.response["Error"]["Code"], refused.value.response["Error"]["Message"]

    wrong = "InvalidParameterValueException"
    assert refused(S3Bucket="nobody-has-it", S3Key="k") == (
        wrong,
        "Error occurred while GetObject. S3 Error Code: NoSuchBucket. S3 Error Message: The specified bucket does not exist",
    )
    assert refused(S3Bucket=BUCKET, S3Key="missing") == (
        wrong,
        "Error occurred while GetObject. S3 Error Code: NoSuchKey. S3 Error Message: The specified key does not exist.",
    )
    assert refused(S3Bucket=BUCKET, S3Key="../other/secret")[0] == wrong
    assert "Could not unzip uploaded file" in refused(S3Bucket=BUCKET, S3Key="text")[1]
    assert "provide a source" in refused(S3Bucket=BUCKET)[1]
    assert not client.list_functions()["Functions"]


def test_without_an_endpoint_or_with_nobody_there_it_is_said(own, shared, lambda_client):
    code = {"S3Bucket": BUCKET, "S3Key": "k"}
    about = {"FunctionName": "n", "Runtime": "provided.al2023", "Handler": "h", "Role": ROLE, "Code": code}
    with pytest.raises(ClientError, match="--s3-endpoint"):
        lambda_client.create_function(**about)
    server = own("--s3-endpoint", "http://127.0.0.1:1")
    with pytest.raises(ClientError, match="cannot be reached") as refused:
        server.client(retries={"total_max_attempts": 1}).create_function(**about)
    assert refused.value.response["ResponseMetadata"]["HTTPStatusCode"] == 503
