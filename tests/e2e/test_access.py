"""Who may call: keys, signatures, what keys and policies allow, and that tenants do not see each other."""

import base64
import hashlib
import json
import os
import socket
import urllib.error
import urllib.request
from pathlib import Path
from urllib.parse import urlsplit

import botocore.auth
import botocore.awsrequest
import botocore.credentials
import pytest
from botocore.exceptions import ClientError

from harness import archives, sigv4
from harness.clients import RUST_SDK_TIMEOUT, run
from harness.server import ACCOUNT, ROOT, Hearth, aws_environment, hearth, invoke, settle
from harness.sigv4 import ask, sign
from harness.wait import wait_for

ONE, TWO = "111111111111", "222222222222"
FUNCTIONS = "/2015-03-31/functions"
CODE = archives.pack({"app.py": "def handler(event, context):\n    print('said', event)\n    return {'is': event}\n"})


@pytest.fixture(scope="module")
def keyed(tmp_path_factory):
    """A server that asks for keys, and its operator's."""
    directory = tmp_path_factory.mktemp("keyed")
    operator = sigv4.create("--operator", "--data", str(directory / "data"))
    with Hearth(directory, "--auth-failures", "0", "--service-domain", "example", data=directory / "data") as server:
        server.operator = operator
        yield server.ready()


@pytest.fixture(scope="module")
def make(keyed):
    """Makes keys of that server."""

    def make(account, *arguments):
        environment = {"HEARTH_ENDPOINT": keyed.endpoint, **keyed.operator.environment}
        return sigv4.create("--account", account, *arguments, environment=environment)

    return make


@pytest.fixture(scope="module")
def one(make):
    return make(ONE, "--name", "ada")


@pytest.fixture(scope="module")
def two(make):
    return make(TWO)


def create(client, name, python, account=ONE):
    role = f"arn:aws:iam::{account}:role/r"
    client.create_function(FunctionName=name, Runtime=python, Handler="app.handler", Role=role, Code={"ZipFile": CODE})
    return settle(client, name)["FunctionArn"]


@pytest.fixture(scope="module")
def function(keyed, one, python):
    """A function of the first account."""
    create(sigv4.client(keyed, "lambda", one), "mine", python)
    return f"arn:aws:lambda:us-east-1:{ONE}:function:mine"


def code(call, *arguments, **named):
    with pytest.raises(ClientError) as error:
        call(*arguments, **named)
    return error.value.response["Error"]["Code"]


def test_the_first_key_closes_a_server_and_nothing_opens_it_while_it_runs(own):
    server = own()
    anybody = server.client()
    anybody.list_functions()
    environment = {"HEARTH_ENDPOINT": server.endpoint}
    refused = hearth("key", "create", environment=environment)
    assert refused.returncode == 1 and "operator" in refused.stderr
    operator = sigv4.create("--operator", environment=environment)
    assert code(anybody.list_functions) == "UnrecognizedClientException"
    assert ask(server, "GET", FUNCTIONS)[:2] == (403, "MissingAuthenticationTokenException")
    client = sigv4.client(server, "lambda", operator)
    assert client.list_functions()["Functions"] == []
    environment |= operator.environment
    other = sigv4.create("--account", ONE, "--expires-days", "1", environment=environment)
    listed = json.loads(hearth("key", "list", "--json", environment=environment).stdout)
    assert [(key["access_key_id"], key["state"]) for key in listed] == [(operator.id, "active"), (other.id, "active")]
    assert operator.secret not in json.dumps(listed)
    assert hearth("key", "disable", other.id, environment=environment).returncode == 0
    theirs = sigv4.client(server, "lambda", other)
    assert code(theirs.list_functions) == "UnrecognizedClientException"
    assert hearth("key", "enable", other.id, environment=environment).returncode == 0
    theirs.list_functions()
    assert hearth("key", "rm", other.id, environment=environment).returncode == 0
    assert code(theirs.list_functions) == "UnrecognizedClientException"
    assert hearth("key", "rm", "HRTHNONE", environment=environment).returncode == 1
    server.kill()
    kept = b"".join(path.read_bytes() for path in server.data.glob("hearth.db*"))
    assert operator.id.encode() in kept and operator.secret.encode() not in kept
    assert (server.data / "seal.key").stat().st_mode & 0o777 == 0o600
    server = own(data=server.data)
    environment["HEARTH_ENDPOINT"] = server.endpoint
    sigv4.client(server, "lambda", operator).list_functions()
    assert hearth("key", "rm", operator.id, environment=environment).returncode == 0
    assert ask(server, "GET", FUNCTIONS)[0] == 403


def test_keys_without_what_seals_them_are_said_and_not_lost(own, tmp_path):
    data = tmp_path / "data"
    operator = sigv4.create("--operator", "--data", str(data))
    seal = (data / "seal.key").read_bytes()
    (data / "seal.key").unlink()
    server = own(data=data, ready=False)
    assert server.process.wait(60) == 1
    assert operator.id in server.log() and "--seal-key" in server.log()
    elsewhere = tmp_path / "elsewhere"
    elsewhere.write_bytes(seal)
    elsewhere.chmod(0o600)
    server = own("--seal-key", str(elsewhere), data=data)
    sigv4.client(server, "lambda", operator).list_functions()
    said = hearth("key", "list", "--data", str(data))
    assert said.returncode == 1 and "in use" in said.stderr


def test_the_network_is_not_listened_to_without_keys(tmp_path):
    refused = hearth("dev", "--listen", "0.0.0.0:0", "--data", str(tmp_path / "a"))
    assert refused.returncode == 1 and "--auth keys" in refused.stderr and "--insecure" in refused.stderr


def test_every_way_of_being_wrong_is_said_as_aws_says_it(keyed, one):
    assert ask(keyed, "GET", FUNCTIONS, sign(keyed, one, "GET", FUNCTIONS))[0] == 200

    def refused(method="GET", path=FUNCTIONS, change=None, **how):
        headers = sign(keyed, one, method, path.split("?")[0], **how)
        headers = {**headers, **(change(headers) if change else {})}
        status, kind, document = ask(keyed, method, path, headers, how.get("body", b""))
        assert status in (403, 501), document
        return kind, document["message"]

    def authorization(old, new):
        return lambda headers: {"authorization": headers["authorization"].replace(old, new)}

    invalid = "InvalidSignatureException"
    for change, kind in [
        (authorization("Signature=", "Signature=0"), invalid),
        (lambda headers: {"authorization": headers["authorization"][:-1] + ("0" if headers["authorization"][-1] != "0" else "1")}, invalid),
        (authorization("AWS4-HMAC-SHA256", "Bearer"), "IncompleteSignatureException"),
        (authorization("Signature=", "Sig="), "IncompleteSignatureException"),
        (authorization("SignedHeaders=host;", "SignedHeaders="), invalid),
        (authorization("/lambda/", "/s3/"), invalid),
        (authorization(one.id, "HRTHAAAAAAAAAAAAAAAA"), "UnrecognizedClientException"),
        (authorization("AWS4-HMAC-SHA256", "AWS4-ECDSA-P256-SHA256"), "UnsupportedSignatureException"),
        (lambda _: {"x-amz-date": sigv4.now(60)}, invalid),
        (lambda _: {"x-amz-invocation-type": "Event"}, invalid),
        (lambda _: {"x-amz-security-token": "x"}, invalid),
    ]:
        assert refused(change=change)[0] == kind
    assert "earlier than" in refused(date=sigv4.now(-360))[1]
    assert "later than" in refused(date=sigv4.now(360))[1]
    assert refused(date="20200101T000000Z")[0] == invalid
    assert refused(region="eu-west-1")[0] == invalid
    assert refused(path=FUNCTIONS + "?MaxItems=1")[0] == invalid
    assert refused(method="POST", body=b"{}", payload=hashlib.sha256(b"").hexdigest())[0] == invalid
    told = {"x-amz-content-sha256": hashlib.sha256(b"[]").hexdigest()}
    assert refused(method="POST", body=b"{}", more=told)[0] == invalid
    chunked = {"x-amz-content-sha256": "STREAMING-AWS4-HMAC-SHA256-PAYLOAD"}
    assert refused(method="POST", body=b"{}", more=chunked)[0] == "UnsupportedSignatureException"
    # A clock that is four minutes off is not, and a payload need not be signed.
    for fits in [{"date": sigv4.now(-240)}, {"date": sigv4.now(240)}, {"more": {"x-amz-content-sha256": "UNSIGNED-PAYLOAD"}}]:
        assert ask(keyed, "GET", FUNCTIONS, sign(keyed, one, "GET", FUNCTIONS, **fits))[0] == 200


def test_what_is_written_in_another_way_is_what_was_signed_or_is_refused(keyed, one, function):
    path = f"{FUNCTIONS}/mine/invocations"

    def asked(sent, **how):
        headers = how.pop("headers", None) or sign(keyed, one, "GET", **{"path": FUNCTIONS, **how})
        return ask(keyed, "GET", sent, headers)[0]

    # Names in an ARN: encoded as clients do, or not at all.
    for name in ["mine", quoted(function), function]:
        target = f"{FUNCTIONS}/{name}/configuration"
        assert asked(target, path=target) == 200
    # Encoded twice, in the other case, or as if it were another path.
    target = f"{FUNCTIONS}/{quoted(function)}/configuration"
    assert asked(target.replace("%3A", "%3a"), path=target) == 403
    assert asked(target.replace("%3A", "%253A"), path=target) == 403
    assert asked(f"{FUNCTIONS}/mine%2Fconfiguration", path=f"{FUNCTIONS}/mine/configuration") == 403
    # What normalizes to what was signed is not what is answered.
    for sent in [f"/{FUNCTIONS}", FUNCTIONS + "//", f"{FUNCTIONS}/x/..", f"/2015-03-31/./functions", f"{FUNCTIONS}/./"]:
        assert asked(sent, canonical_path=FUNCTIONS) in (403, 404), sent
        assert asked(sent, canonical_path=FUNCTIONS + "/") in (403, 404), sent
    # The order of the query does not matter, what is in it does.
    query = "Marker=&MaxItems=1"
    assert asked(f"{FUNCTIONS}?MaxItems=1&Marker", query=query) == 200
    assert asked(f"{FUNCTIONS}?Marker=&MaxItems=1&MaxItems=2", query=query) == 403
    assert asked(f"{FUNCTIONS}?Marker=&MaxItems=2", query=query) == 403
    # Spaces in headers are one space, and their order does not matter; a second value is another value.
    spaced = sign(keyed, one, "GET", FUNCTIONS, more={"x-amz-test": "a b"})
    assert asked(FUNCTIONS, headers={**dict(reversed(spaced.items())), "x-amz-test": "  a    b "}) == 200
    assert asked(FUNCTIONS, headers=[*spaced.items(), ("x-amz-test", "c")]) == 403
    plain = sign(keyed, one, "GET", FUNCTIONS)
    assert asked(FUNCTIONS, headers=[*plain.items(), ("authorization", plain["authorization"])]) == 403
    assert asked(FUNCTIONS, headers={**plain, "host": "localhost:1"}) == 403
    # The authority of the target wins over the host, where it is signed as where it is answered.
    absolute = f"GET http://other.example{FUNCTIONS} HTTP/1.1\r\n" + "".join(f"{k}: {v}\r\n" for k, v in plain.items()) + "\r\n"
    with socket.create_connection(keyed.address, timeout=20) as connection:
        connection.sendall(absolute.encode())
        assert connection.recv(100).startswith(b"HTTP/1.1 403")
    assert asked(path, path=path) != 403


def quoted(text):
    return text.replace(":", "%3A")


def test_a_presigned_address_is_good_for_its_time_and_nothing_else(keyed, one, function):
    client = sigv4.client(keyed, "lambda", one)
    address = client.generate_presigned_url("get_function_configuration", Params={"FunctionName": "mine"}, ExpiresIn=60)
    path = address.removeprefix(keyed.endpoint)
    assert ask(keyed, "GET", path)[2]["FunctionName"] == "mine"
    assert ask(keyed, "PUT", path)[0] == 403
    assert ask(keyed, "GET", path.replace("mine", "min"))[0] == 403
    assert ask(keyed, "GET", path.replace("X-Amz-Expires=60", "X-Amz-Expires=600"))[0] == 403
    assert ask(keyed, "GET", path + "&Qualifier=1")[0] == 403
    assert ask(keyed, "GET", path, {"x-amz-log-type": "Tail"})[0] == 403
    assert ask(keyed, "GET", path, sign(keyed, one, "GET", FUNCTIONS))[1] == "IncompleteSignatureException"
    late = client.generate_presigned_url("list_functions", ExpiresIn=1).removeprefix(keyed.endpoint)
    wait_for(lambda: ask(keyed, "GET", late)[0] == 403, "the address is no longer good")


def test_tenants_never_see_each_other(keyed, one, two, function, python):
    mine, theirs = (sigv4.client(keyed, "lambda", key) for key in (one, two))
    create(theirs, "theirs", python, TWO)
    invoke(mine, "mine", {"n": 1})
    invoke(theirs, "theirs", {"n": 2})
    mine.publish_layer_version(LayerName="layer", Content={"ZipFile": archives.pack({"x": "y"})})
    mine.put_function_event_invoke_config(FunctionName="mine", MaximumRetryAttempts=1)
    mine.create_function_url_config(FunctionName="mine", AuthType="AWS_IAM")
    publishers = {"SigningProfileVersionArns": [f"arn:aws:signer:us-east-1:{ONE}:/signing-profiles/p/1"]}
    mine.create_code_signing_config(AllowedPublishers=publishers)
    sigv4.client(keyed, "iam", one).create_role(RoleName="r", AssumeRolePolicyDocument="{}")
    sigv4.client(keyed, "scheduler", one).create_schedule(
        Name="s", ScheduleExpression="rate(1 day)", FlexibleTimeWindow={"Mode": "OFF"}, Target={"Arn": function, "RoleArn": f"arn:aws:iam::{ONE}:role/r"}
    )
    assert [f["FunctionName"] for f in theirs.list_functions()["Functions"]] == ["theirs"]
    assert [f["FunctionName"] for f in mine.list_functions()["Functions"]] == ["mine"]
    assert theirs.list_layers()["Layers"] == [] and len(mine.list_layers()["Layers"]) == 1
    assert theirs.list_code_signing_configs()["CodeSigningConfigs"] == []
    assert theirs.get_account_settings()["AccountUsage"]["FunctionCount"] == 1
    for read in ["get_function", "get_function_configuration", "list_versions_by_function", "list_aliases", "get_policy",
                 "get_function_event_invoke_config", "list_function_event_invoke_configs", "get_function_url_config",
                 "list_function_url_configs", "get_function_concurrency", "list_provisioned_concurrency_configs",
                 "get_function_recursion_config", "get_runtime_management_config", "get_function_code_signing_config"]:  # fmt: skip
        assert code(getattr(theirs, read), FunctionName="mine") == "ResourceNotFoundException", read
        assert code(getattr(theirs, read), FunctionName=function) == "AccessDeniedException", read
        nobodys = function.replace("mine", "none")
        assert code(getattr(theirs, read), FunctionName=nobodys) == "AccessDeniedException", read
    assert code(theirs.invoke, FunctionName=function) == "AccessDeniedException"
    assert code(theirs.delete_function, FunctionName=function) == "AccessDeniedException"
    assert code(theirs.list_tags, Resource=function) == "AccessDeniedException"
    layer = f"arn:aws:lambda:us-east-1:{ONE}:layer:layer:1"
    assert code(theirs.get_layer_version_by_arn, Arn=layer) == "AccessDeniedException"
    assert code(theirs.update_function_configuration, FunctionName="theirs", Layers=[layer]) == "AccessDeniedException"
    assert sigv4.client(keyed, "iam", two).list_roles()["Roles"] == []
    assert sigv4.client(keyed, "scheduler", two).list_schedules()["Schedules"] == []
    logs = sigv4.client(keyed, "logs", two)
    assert [g["logGroupName"] for g in logs.describe_log_groups()["logGroups"]] == ["/aws/lambda/theirs"]
    assert code(logs.filter_log_events, logGroupName="/aws/lambda/mine") == "ResourceNotFoundException"
    ps = hearth("ps", "--json", environment={"HEARTH_ENDPOINT": keyed.endpoint, **two.environment})
    assert {i["function"] for i in json.loads(ps.stdout)["instances"]} == {"theirs"}, ps.stderr
    for path in ["/metrics", "/_hearth/keys", "/_hearth/workers/local/drain", "/_hearth/logs/mine"]:
        assert ask(keyed, "GET", path, sign(keyed, two, "GET", path))[0] in (403, 404), path
        assert ask(keyed, "GET", path)[0] == 403, path
    everything = ask(keyed, "GET", "/_hearth/ps", sign(keyed, keyed.operator, "GET", "/_hearth/ps"))[2]
    assert {i["account"] for i in everything["instances"]} == {ONE, TWO}


def test_a_key_does_what_its_patterns_say(keyed, make, function):
    key = make(ONE, "--function", "mine", "--action", "Invoke*", "--action", "logs:FilterLogEvents")
    client = sigv4.client(keyed, "lambda", key)
    assert invoke(client, "mine", {"a": 1}, LogType="None")[0] == {"is": {"a": 1}}
    with pytest.raises(ClientError, match="not authorized to perform: lambda:GetFunction on resource: arn:aws:lambda:"):
        client.get_function(FunctionName="mine")
    for denied in [
        lambda: client.list_functions(),
        lambda: client.invoke(FunctionName="other"),
        lambda: client.update_function_code(FunctionName="mine", ZipFile=CODE),
        lambda: client.create_function(FunctionName="new", Role=f"arn:aws:iam::{ONE}:role/r", Code={"ZipFile": CODE}),
        lambda: sigv4.client(keyed, "logs", key).describe_log_streams(logGroupName="/aws/lambda/other"),
        lambda: sigv4.client(keyed, "scheduler", key).list_schedules(),
        lambda: sigv4.client(keyed, "iam", key).list_roles(),
    ]:
        assert code(denied) in ("AccessDeniedException", "AccessDenied", "ResourceNotFoundException")
    sigv4.client(keyed, "logs", key).filter_log_events(logGroupName="/aws/lambda/mine")
    maker = make(ONE, "--function", "made-*", "--action", "lambda:*")
    made = sigv4.client(keyed, "lambda", maker)
    new = {"Runtime": "provided.al2023", "Handler": "h", "Role": f"arn:aws:iam::{ONE}:role/r", "Code": {"ZipFile": archives.pack({"bootstrap": "#!/bin/sh\n"})}}
    made.create_function(FunctionName="made-1", **new)
    assert code(made.create_function, FunctionName="other", **new) == "AccessDeniedException"
    made.delete_function(FunctionName="made-1")
    for nonsense in [["--action", "a b"], ["--function", ""], ["--account", "1"], ["--name", "a b"]]:
        said = hearth("key", "create", *nonsense, environment={"HEARTH_ENDPOINT": keyed.endpoint, **keyed.operator.environment})
        assert said.returncode != 0 and said.stderr, nonsense


def test_another_account_does_what_a_policy_lets_it(keyed, one, two, make, function):
    mine, theirs = (sigv4.client(keyed, "lambda", key) for key in (one, two))
    permit = {"FunctionName": "mine", "StatementId": "s", "Action": "lambda:InvokeFunction", "Principal": TWO}
    mine.add_permission(**permit)
    assert invoke(theirs, function, 7, LogType="None")[0] == {"is": 7}
    assert code(theirs.get_function, FunctionName=function) == "AccessDeniedException"
    assert code(theirs.invoke, FunctionName=function, Qualifier="1") == "AccessDeniedException"
    narrow = make(TWO, "--function", "mine")
    assert code(sigv4.client(keyed, "lambda", narrow).invoke, FunctionName=function) == "AccessDeniedException"
    wide = make(TWO, "--function", function, "--action", "InvokeFunction")
    assert invoke(sigv4.client(keyed, "lambda", wide), function, 8, LogType="None")[0] == {"is": 8}
    mine.remove_permission(FunctionName="mine", StatementId="s")
    assert code(theirs.invoke, FunctionName=function) == "AccessDeniedException"
    mine.add_permission(**{**permit, "Principal": f"arn:aws:iam::{TWO}:user/none"})
    assert code(theirs.invoke, FunctionName=function) == "AccessDeniedException"
    mine.remove_permission(FunctionName="mine", StatementId="s")


def test_what_a_policy_denies_is_denied_to_its_own_account_too(keyed, one, function):
    mine = sigv4.client(keyed, "lambda", one)
    deny = {"Effect": "Deny", "Principal": {"AWS": f"arn:aws:iam::{ONE}:user/ada"}, "Action": "lambda:*", "Resource": function}
    mine.put_resource_policy(ResourceArn=function, Policy=json.dumps({"Statement": deny}))
    for denied in [mine.invoke, mine.get_function, mine.delete_function]:
        with pytest.raises(ClientError, match="explicit deny"):
            denied(FunctionName="mine")
    environment = {"HEARTH_ENDPOINT": keyed.endpoint, **keyed.operator.environment}
    another = sigv4.client(keyed, "lambda", sigv4.create("--account", ONE, environment=environment))
    another.get_function(FunctionName="mine")
    mine.delete_resource_policy(ResourceArn=function)
    mine.get_function(FunctionName="mine")


def test_a_service_asks_for_a_signature_where_it_is_not_published(keyed, one, two, python):
    mine = sigv4.client(keyed, "lambda", one)
    mine.create_function(
        FunctionName="shop", Runtime=python, Handler="server.py", Role=f"arn:aws:iam::{ONE}:role/r", Timeout=20, MemorySize=256,
        Code={"ZipFile": archives.function("http-lab")}, Tags={"hearth:http-port": "8080", "hearth:hosts": "shop.example"},
    )  # fmt: skip
    settle(mine, "shop")
    path, body = "/_/shop/seen", b"some words"
    told = {"x-amz-content-sha256": hashlib.sha256(body).hexdigest()}
    assert ask(keyed, "POST", path, {}, body)[1] == "MissingAuthenticationTokenException"
    assert ask(keyed, "POST", path, sign(keyed, one, "POST", path, body=body), body)[1] == "IncompleteSignatureException"
    status, _, seen = ask(keyed, "POST", path, sign(keyed, one, "POST", path, body=body, more=told), body)
    assert status == 200 and seen["body"] == "some words" and "authorization" not in seen["headers"]
    assert ask(keyed, "POST", path, sign(keyed, one, "POST", path, body=body, more=told), b"other word")[0] == 502
    assert ask(keyed, "POST", path, sign(keyed, two, "POST", path, body=body, more=told), body)[0] == 404
    local = {**told, "host": f"shop.{ONE}.localhost"}
    assert ask(keyed, "POST", "/seen", {"host": local["host"]}, body)[0] == 403
    assert ask(keyed, "POST", "/seen", sign(keyed, two, "POST", "/seen", more=local), body)[0] == 403
    assert ask(keyed, "POST", "/seen", sign(keyed, one, "POST", "/seen", more=local), body)[0] == 200
    status, _, seen = ask(keyed, "POST", "/seen", {"host": "shop.example", "authorization": "Bearer its-own"}, body)
    assert status == 200 and seen["headers"]["authorization"] == "Bearer its-own"


def test_a_url_with_iam_asks_for_a_signature_of_who_may(keyed, one, two, function):
    mine = sigv4.client(keyed, "lambda", one)
    try:
        url = mine.get_function_url_config(FunctionName="mine")["FunctionUrl"]
    except mine.exceptions.ResourceNotFoundException:
        url = mine.create_function_url_config(FunctionName="mine", AuthType="AWS_IAM")["FunctionUrl"]
    address = urlsplit(url).netloc

    def asked(key, body=b"", change=None):
        request = botocore.awsrequest.AWSRequest("POST", url + "a//b?x=1", data=body)
        if key:
            botocore.auth.SigV4Auth(botocore.credentials.Credentials(key.id, key.secret), "lambda", "us-east-1").add_auth(request)
        headers = {**dict(request.headers.items()), "host": address, **(change or {})}
        return ask(keyed, "POST", "/a//b?x=1", headers, body)

    status, _, document = asked(one, b"hello")
    event = document["is"]
    assert status == 200 and event["requestContext"]["authorizer"]["iam"]["userArn"] == f"arn:aws:iam::{ONE}:user/ada"
    assert event["requestContext"]["authorizer"]["iam"]["accessKey"] == one.id and "authorization" not in event["headers"]
    assert asked(None)[::2] == (403, {"Message": "Forbidden"})
    assert asked(one, b"hello", {"x-amz-date": sigv4.now(30)})[::2] == (403, {"Message": "Forbidden"})
    assert asked(two)[::2] == (403, {"Message": "Forbidden"})
    permit = {"FunctionName": "mine", "StatementId": "url", "Action": "lambda:InvokeFunctionUrl", "Principal": TWO}
    mine.add_permission(**permit, FunctionUrlAuthType="AWS_IAM")
    assert asked(two)[0] == 200
    mine.remove_permission(FunctionName="mine", StatementId="url")
    assert asked(two)[0] == 403


def test_the_registry_takes_a_keys_id_and_secret(keyed, one, two, make):
    def asked(path, key=None, secret=None, method="GET"):
        pair = base64.b64encode(f"{key.id}:{secret or key.secret}".encode()).decode() if key else None
        request = urllib.request.Request(keyed.endpoint + path, method=method, headers={"authorization": f"Basic {pair}"} if pair else {})
        try:
            with urllib.request.urlopen(request, timeout=20) as answer:
                return answer.status, answer.headers, answer.read()
        except urllib.error.HTTPError as error:
            return error.code, error.headers, error.read()

    status, headers, body = asked("/v2/")
    assert status == 401 and headers["www-authenticate"].startswith("Basic ") and b"UNAUTHORIZED" in body
    assert asked("/v2/", one, "wrong")[::2] == asked("/v2/", sigv4.Key({"access_key_id": "no", "secret_access_key": "no", "account": ONE}))[::2]
    assert asked("/v2/", one)[0] == 200
    digest = "sha256:" + hashlib.sha256(b"").hexdigest()
    assert asked(f"/v2/app/blobs/uploads/?digest={digest}", one, method="POST")[0] == 201
    assert json.loads(asked("/v2/_catalog", one)[2]) == {"repositories": ["app"]}
    assert json.loads(asked("/v2/_catalog", two)[2]) == {"repositories": []}
    assert asked(f"/v2/{ONE}/app/tags/list", two)[0] == 403
    assert asked("/v2/app/tags/list", two)[0] == 404
    puller = make(ONE, "--action", "registry:Pull")
    assert asked("/v2/_catalog", puller)[0] == 200
    assert asked("/v2/app/blobs/uploads/", puller, method="POST")[0] == 403
    assert asked("/metrics", keyed.operator)[0] == 200
    assert asked("/metrics", one)[0] == 403
    assert asked("/_hearth/health")[0] == 200


def test_credentials_for_a_while_are_the_callers_under_another_name(keyed, one, function):
    sts = sigv4.client(keyed, "sts", one)
    assert sts.get_caller_identity()["Arn"] == f"arn:aws:iam::{ONE}:user/ada"
    role = f"arn:aws:iam::{ONE}:role/r"
    given = sts.assume_role(RoleArn=role, RoleSessionName="session", DurationSeconds=900)["Credentials"]
    who = (given["AccessKeyId"], given["SecretAccessKey"], given["SessionToken"])
    assert sigv4.client(keyed, "sts", *who).get_caller_identity()["Arn"] == f"arn:aws:sts::{ONE}:assumed-role/r/session"
    assert invoke(sigv4.client(keyed, "lambda", *who), "mine", 1)[0] == {"is": 1}
    for key, secret, token in [
        (who[0], who[1], None),
        (who[0], who[1], who[2][:-2] + "AA"),
        (who[0], who[1], "FwoGZXIvYXdzEXAMPLE"),
        (one.id, one.secret, who[2]),
    ]:
        wrong = sigv4.client(keyed, "lambda", key, secret, token)
        assert code(wrong.list_functions) == "UnrecognizedClientException"
    assert code(sigv4.client(keyed, "lambda", who[0], "wrong", who[2]).list_functions) == "InvalidSignatureException"
    assert code(sigv4.client(keyed, "sts", one, "wrong").get_caller_identity) == "SignatureDoesNotMatch"
    assert code(sigv4.client(keyed, "iam", "HRTHNONE", "wrong").list_roles) == "InvalidClientTokenId"
    assert code(sigv4.client(keyed, "logs", one, "wrong").describe_log_groups) == "InvalidSignatureException"


def test_the_command_line_signs_what_it_sends(keyed, make, python, tmp_path):
    environment = {"HEARTH_ENDPOINT": keyed.endpoint, **make("333333333333").environment}
    (tmp_path / "app.py").write_text("def handler(event, context):\n    print('logged')\n    return event\n")

    def done(*arguments):
        ran = hearth(*arguments, environment=environment, timeout=90)
        assert ran.returncode == 0, ran.stderr
        return ran.stdout

    done("deploy", str(tmp_path), "--name", "by-hand", "--runtime", python, "--handler", "app.handler")
    assert json.loads(done("invoke", "by-hand", '{"a": 1}')) == {"a": 1}
    assert "by-hand" in done("ps")
    wait_for(lambda: "logged" in done("logs", "by-hand"), "the log has what was printed")
    done("schedule", "add", "nightly", "by-hand", "rate(1 day)")
    assert "nightly" in done("schedule", "list")
    done("events")
    done("rm", "by-hand")
    assert hearth("ps", environment={"HEARTH_ENDPOINT": keyed.endpoint}).returncode == 1
    assert hearth("drain", "local", environment=environment).returncode == 1


def test_an_address_that_is_wrong_too_often_is_not_looked_at(own, tmp_path):
    data = tmp_path / "data"
    operator = sigv4.create("--operator", "--data", str(data))
    server = own("--auth-failures", "5", data=data)
    good = sigv4.client(server, "lambda", operator)
    bad = sigv4.client(server, "lambda", operator, "wrong")
    good.list_functions()
    for _ in range(5):
        assert code(bad.list_functions) == "InvalidSignatureException"
    assert code(bad.list_functions) == "ThrottlingException"
    status, kind, _ = ask(server, "GET", FUNCTIONS, sign(server, operator, "GET", FUNCTIONS))
    assert (status, kind) == (429, "ThrottlingException")
    assert ask(server, "GET", "/_hearth/health")[0] == 200
    # It is forgiven with time: one in twelve seconds.
    wait_for(lambda: ask(server, "GET", FUNCTIONS, sign(server, operator, "GET", FUNCTIONS))[0] == 200, "another try", 90)


@pytest.fixture(scope="module")
def strangers(keyed, make, tmp_path_factory):
    """The environment of other people's clients, with a key of the account that their stories are about."""
    key = make(ACCOUNT)
    kept = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    home = {"CARGO_LAMBDA_HOME": str(tmp_path_factory.mktemp("home"))}
    return {**kept, **aws_environment(keyed.endpoint), **home, **key.environment}


def test_the_javascript_sdks_signatures_are_taken(tool, strangers, node_modules, tmp_path, node):
    (tmp_path / "code.zip").write_bytes(archives.function("node-echo"))
    (tmp_path / "new.zip").write_bytes(archives.pack({"index.mjs": "export const handler = async () => 'new';\n"}))
    script = Path(__file__).with_name("sdk-life.mjs")
    run([tool("node"), script, node_modules, tmp_path / "code.zip", tmp_path / "new.zip", "signed-js", node], strangers)


@pytest.mark.timeout(RUST_SDK_TIMEOUT)
def test_the_rust_sdks_signatures_are_taken(rust_sdk, strangers, tmp_path, node):
    (tmp_path / "code.zip").write_bytes(archives.function("node-echo"))
    (tmp_path / "new.zip").write_bytes(archives.pack({"index.mjs": "export const handler = async () => 'new';\n"}))
    run([rust_sdk, "life", tmp_path / "code.zip", tmp_path / "new.zip", "signed-rust-sdk", node], strangers)


def test_the_signatures_of_the_cli_of_cargo_lambda_and_of_curl_are_taken(tool, strangers, static_echo, keyed):
    deploy = ["deploy", "--binary-path", static_echo, "--role", f"arn:aws:iam::{ACCOUNT}:role/r", "signed-rust"]
    at = ["--endpoint-url", keyed.endpoint]
    run([tool("cargo-lambda"), "lambda", *deploy[:1], *at, *deploy[1:]], strangers, cwd=ROOT / "examples/rust-hello")
    run([tool("aws"), "lambda", "wait", "function-active-v2", "--function-name", "signed-rust"], strangers)
    called = ["invoke", *at, "--remote", "--data-ascii", '{"name": "Ada"}', "signed-rust"]
    assert "Ada" in run([tool("cargo-lambda"), "lambda", *called], strangers, cwd=ROOT / "examples/rust-hello").stdout
    who = json.loads(run([tool("aws"), "sts", "get-caller-identity"], strangers).stdout)
    assert who["Account"] == ACCOUNT
    user = f"{strangers['AWS_ACCESS_KEY_ID']}:{strangers['AWS_SECRET_ACCESS_KEY']}"
    for http in ["--http1.1", "--http2-prior-knowledge"]:
        curl = ["curl", "-sS", http, "--aws-sigv4", "aws:amz:us-east-1:lambda", "--user", user]
        answer = run([*curl, f"{keyed.endpoint}{FUNCTIONS}/signed-rust/configuration?Qualifier=1"], strangers).stdout
        assert json.loads(answer)["Version"] == "1"
        answer = run([*curl, f"{keyed.endpoint}{FUNCTIONS}/signed-rust/configuration"], strangers).stdout
        assert json.loads(answer)["FunctionName"] == "signed-rust", answer
        answer = run([*curl, "--data", '{"name": "Bob"}', f"{keyed.endpoint}{FUNCTIONS}/signed-rust/invocations"], strangers).stdout
        assert "Bob" in answer
