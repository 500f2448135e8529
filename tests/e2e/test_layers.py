"""Layers: in /opt in their order, found by the runtimes, with extensions that start, and kept while functions have them."""

import base64
import hashlib
import io
import urllib.request
import zipfile

import pytest
from botocore.exceptions import ClientError

from harness import archives
from harness.clients import tail
from harness.server import ACCOUNT, invoke, settle
from harness.wait import wait_for

READER = "import json\ndef handler(event, context):\n    return {path: open(path).read() for path in event['paths']}\n"
EXTENSION = """#!/var/lang/bin/python3
import http.client, json, os
connection = http.client.HTTPConnection(os.environ['AWS_LAMBDA_RUNTIME_API'])
def api(method, path, body=None, headers={}):
    connection.request(method, '/2020-01-01/extension' + path, body, headers)
    answer = connection.getresponse()
    return answer.headers, json.loads(answer.read())
headers, told = api('POST', '/register', json.dumps({'events': ['INVOKE', 'SHUTDOWN']}), {'Lambda-Extension-Name': os.path.basename(__file__)})
print('extension registered', told['functionName'], '_HANDLER' in os.environ, flush=True)
own = {'Lambda-Extension-Identifier': headers['Lambda-Extension-Identifier']}
while True:
    _, event = api('GET', '/event/next', None, own)
    print('extension heard', event['eventType'], flush=True)
    if event['eventType'] == 'SHUTDOWN':
        break
"""


@pytest.fixture
def publish(lambda_client, name):
    made = []

    def publish(suffix, files, **more):
        layer = f"{name}-{suffix}"
        version = lambda_client.publish_layer_version(LayerName=layer, Content={"ZipFile": zipped(files)}, **more)
        made.append((layer, version["Version"]))
        return version

    yield publish
    for layer, number in made:
        lambda_client.delete_layer_version(LayerName=layer, VersionNumber=number)


def zipped(files):
    """An archive of names to contents, or to contents and modes; compressed, for some are large."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            content, mode = content if isinstance(content, tuple) else (content, 0o644)
            entry = archives.entry(name, mode)
            entry.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(entry, content)
    return buffer.getvalue()


def arns(*versions):
    return [version["LayerVersionArn"] for version in versions]


def test_layers_lie_over_each_other_in_order_and_python_finds_them(shared, lambda_client, publish, name, python):
    low = publish("low", {"same": "low", "low": "low", "python/shared.py": "WORD = 'low'"})
    high = publish("high", {"same": "high", "python/other.py": "import shared\nWORD = shared.WORD + ' below'"})
    code = "import other\ndef handler(event, context):\n    return [other.WORD, open('/opt/same').read(), open('/opt/low').read()]\n"
    shared.create(lambda_client, name, archives.pack({"app.py": code}), python, Layers=arns(low, high))
    assert invoke(lambda_client, name)[0] == ["low below", "high", "low"]
    shown = lambda_client.get_function_configuration(FunctionName=name)["Layers"]
    assert [layer["Arn"] for layer in shown] == arns(low, high)
    assert [layer["CodeSize"] for layer in shown] == [low["Content"]["CodeSize"], high["Content"]["CodeSize"]]
    lambda_client.update_function_configuration(FunctionName=name, Layers=arns(high, low))
    settle(lambda_client, name)
    assert invoke(lambda_client, name)[0][1] == "low"
    lambda_client.update_function_configuration(FunctionName=name, Layers=[])
    assert "Layers" not in settle(lambda_client, name)
    assert "other" in invoke(lambda_client, name)[0]["errorMessage"]


def test_node_finds_modules_of_layers(shared, lambda_client, publish, name, node):
    layer = publish("node", {"nodejs/node_modules/word/index.js": "module.exports = 'from a layer';"})
    code = {"index.js": "exports.handler = async () => require('word');"}
    shared.create(lambda_client, name, archives.pack(code), node, handler="index.handler", Layers=arns(layer))
    assert invoke(lambda_client, name)[0] == "from a layer"


def test_extensions_of_a_layer_start_hear_of_requests_and_of_the_end(shared, lambda_client, publish, name, python):
    layer = publish("extension", {"extensions/watcher": (EXTENSION, 0o755), "extensions/notes.txt": "not a program"})
    code = "def handler(event, context):\n    print('the function ran')\n    return 1\n"
    tags = {"hearth:idle-timeout": "1s"}
    shared.create(lambda_client, name, archives.pack({"app.py": code}), python, Layers=arns(layer), Tags=tags, Timeout=10)
    value, answer = invoke(lambda_client, name)
    assert value == 1
    assert "extension registered" in log(shared, name), tail(answer)
    wait_for(lambda: "extension heard INVOKE" in log(shared, name), "the extension hears of the request")
    wait_for(lambda: "extension heard SHUTDOWN" in log(shared, name), "the extension hears of the end", timeout=30)
    assert f"extension registered {name} False" in log(shared, name)


def log(server, name):
    return server.command("logs", name).stdout


def test_a_deleted_version_stays_with_the_functions_that_have_it(own, python):
    server = own()
    client = server.client()
    layer = client.publish_layer_version(LayerName="l", Content={"ZipFile": archives.pack({"word": "kept"})})
    server.create(client, "f", archives.pack({"app.py": READER}), python, Layers=arns(layer))
    client.delete_layer_version(LayerName="l", VersionNumber=1)
    client.delete_layer_version(LayerName="l", VersionNumber=1)
    with pytest.raises(client.exceptions.ResourceNotFoundException):
        client.get_layer_version(LayerName="l", VersionNumber=1)
    with pytest.raises(client.exceptions.InvalidParameterValueException):
        client.update_function_configuration(FunctionName="f", Layers=arns(layer))
    assert client.publish_layer_version(LayerName="l", Content={"ZipFile": archives.pack({"word": "new"})})["Version"] == 2
    server.stop()
    again = own(data=server.data)
    assert invoke(again.client(), "f", {"paths": ["/opt/word"]})[0] == {"/opt/word": "kept"}


def test_a_version_is_shown_downloaded_found_by_arn_and_listed_by_what_it_is_for(lambda_client, publish, name):
    archive = archives.pack({"a": "b"})
    first = lambda_client.publish_layer_version(
        LayerName=f"{name}-x", Content={"ZipFile": archive}, Description="d", LicenseInfo="MIT",
        CompatibleRuntimes=["python3.12", "python3.13"], CompatibleArchitectures=["x86_64"],
    )
    second = publish("x", {"a": "c"}, CompatibleRuntimes=["nodejs22.x"])
    assert (first["Version"], second["Version"]) == (1, 2)
    assert first["LayerArn"] == f"arn:aws:lambda:us-east-1:{ACCOUNT}:layer:{name}-x"
    shown = lambda_client.get_layer_version(LayerName=first["LayerArn"], VersionNumber=1)
    by_arn = lambda_client.get_layer_version_by_arn(Arn=first["LayerVersionArn"])
    for one in (shown, by_arn):
        assert (one["Description"], one["LicenseInfo"], one["CompatibleRuntimes"]) == ("d", "MIT", ["python3.12", "python3.13"])
        assert one["Content"]["CodeSha256"] == base64.b64encode(hashlib.sha256(archive).digest()).decode()
        assert urllib.request.urlopen(one["Content"]["Location"], timeout=10).read() == archive
    def versions(**filters):
        pages = lambda_client.get_paginator("list_layer_versions").paginate(LayerName=f"{name}-x", PaginationConfig={"PageSize": 1}, **filters)
        return [version["Version"] for page in pages for version in page["LayerVersions"]]
    assert versions() == [2, 1]
    assert versions(CompatibleRuntime="python3.13") == [1]
    assert versions(CompatibleArchitecture="arm64") == []
    layers = [layer for page in lambda_client.get_paginator("list_layers").paginate(PaginationConfig={"PageSize": 1}) for layer in page["Layers"]]
    (own,) = [layer for layer in layers if layer["LayerName"] == f"{name}-x"]
    assert own["LatestMatchingVersion"]["Version"] == 2
    lambda_client.delete_layer_version(LayerName=f"{name}-x", VersionNumber=1)


def test_what_is_too_much_or_not_there_is_refused(shared, lambda_client, publish, name, python):
    small = [publish(str(number), {"x": str(number)}) for number in range(6)]
    code = archives.pack({"app.py": READER})

    def refused(layers):
        with pytest.raises(ClientError) as error:
            shared.create(lambda_client, name, code, python, Layers=layers, wait=False)
        assert error.value.response["Error"]["Code"] == "InvalidParameterValueException"
        return str(error.value)

    assert "more than 5 layers" in refused(arns(*small))
    again = publish("0", {"x": "again"})
    assert "same layer" in refused(arns(small[0], again))
    assert "does not exist" in refused([small[0]["LayerArn"] + ":99"])
    half = bytes(140_000_000)
    large = [publish(word, {"half": half, "word": word}) for word in ("left", "right")]
    assert "262144000" in refused(arns(*large))
    with pytest.raises(lambda_client.exceptions.InvalidParameterValueException):
        lambda_client.publish_layer_version(LayerName=f"{name}-bad", Content={"ZipFile": b"no archive"})


def test_another_account_reads_a_layer_only_where_its_policy_says_so(shared, lambda_client, publish, name):
    layer = publish("shared", {"a": "b"})
    other = shared.client(account="222222222222")
    named = {"LayerName": f"{name}-shared", "VersionNumber": 1}

    def denied():
        with pytest.raises(ClientError) as error:
            other.get_layer_version_by_arn(Arn=layer["LayerVersionArn"])
        return error.value.response["Error"]["Code"] == "AccessDeniedException"

    assert denied()
    statement = {"StatementId": "s", "Action": "lambda:GetLayerVersion", "Principal": "222222222222"}
    added = lambda_client.add_layer_version_permission(**named, **statement)
    assert other.get_layer_version_by_arn(Arn=layer["LayerVersionArn"])["Version"] == 1
    with pytest.raises(lambda_client.exceptions.ResourceConflictException):
        lambda_client.add_layer_version_permission(**named, **statement)
    with pytest.raises(lambda_client.exceptions.PreconditionFailedException):
        lambda_client.remove_layer_version_permission(**named, StatementId="s", RevisionId="stale")
    lambda_client.remove_layer_version_permission(**named, StatementId="s", RevisionId=added["RevisionId"])
    assert denied()
    with pytest.raises(lambda_client.exceptions.ResourceNotFoundException):
        lambda_client.get_layer_version_policy(**named)
