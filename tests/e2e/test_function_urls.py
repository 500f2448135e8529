"""Functions over plain HTTP, at URLs of their own."""

import base64
import http.client
import json
import subprocess
import time
from urllib.parse import urlsplit

import botocore.auth
import botocore.awsrequest
import botocore.credentials
import pytest

from harness import archives
from harness.server import ACCOUNT, Hearth


@pytest.fixture
def function(shared, lambda_client, node, name):
    """A function that has no URL yet."""
    shared.create(
        lambda_client, name, archives.function("node-stream"), node, "url.handler", Timeout=20, MemorySize=256
    )
    return name


@pytest.fixture
def url(lambda_client, function):
    """The address of the function's URL, made with these settings."""

    def make(**settings):
        made = lambda_client.create_function_url_config(FunctionName=function, **{"AuthType": "NONE", **settings})
        return made["FunctionUrl"]

    return make


def ask(url, path="/", method="GET", body=None, headers=()):
    """A request to a URL, wherever its name leads: status, headers, body."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection("127.0.0.1", parts.port, timeout=30)
    connection.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
    connection.putheader("Host", parts.netloc)
    if body is not None:
        connection.putheader("Content-Length", str(len(body)))
    for key, value in headers:
        connection.putheader(key, value)
    connection.endheaders(body)
    answer = connection.getresponse()
    return answer.status, answer.headers, answer.read()


def test_a_url_is_made_shown_changed_listed_and_deleted(lambda_client, function, shared):
    cors = {"AllowOrigins": ["https://a.example"], "AllowMethods": ["GET"], "MaxAge": 10}
    made = lambda_client.create_function_url_config(FunctionName=function, AuthType="AWS_IAM", Cors=cors)
    assert made["ResponseMetadata"]["HTTPStatusCode"] == 201
    assert (made["AuthType"], made["InvokeMode"], made["Cors"]) == ("AWS_IAM", "BUFFERED", cors)
    assert made["FunctionArn"] == f"arn:aws:lambda:us-east-1:{ACCOUNT}:function:{function}"
    assert ".lambda-url.us-east-1.localhost:" in made["FunctionUrl"]
    with pytest.raises(lambda_client.exceptions.ResourceConflictException):
        lambda_client.create_function_url_config(FunctionName=function, AuthType="NONE")
    changed = lambda_client.update_function_url_config(FunctionName=function, AuthType="NONE", InvokeMode="RESPONSE_STREAM")
    assert (changed["AuthType"], changed["InvokeMode"], changed["Cors"]) == ("NONE", "RESPONSE_STREAM", cors)
    assert changed["FunctionUrl"] == made["FunctionUrl"]
    shown = lambda_client.get_function_url_config(FunctionName=function)
    assert shown["LastModifiedTime"] >= shown["CreationTime"]

    lambda_client.publish_version(FunctionName=function)
    lambda_client.create_alias(FunctionName=function, Name="live", FunctionVersion="1")
    of_alias = lambda_client.create_function_url_config(FunctionName=function, Qualifier="live", AuthType="NONE")
    assert of_alias["FunctionArn"].endswith(":live")
    pages = lambda_client.get_paginator("list_function_url_configs").paginate(
        FunctionName=function, PaginationConfig={"PageSize": 1}
    )
    listed = [config["FunctionUrl"] for page in pages for config in page["FunctionUrlConfigs"]]
    assert listed == [made["FunctionUrl"], of_alias["FunctionUrl"]]
    event = json.loads(ask(of_alias["FunctionUrl"])[2])
    assert event["requestContext"]["domainPrefix"] == urlsplit(of_alias["FunctionUrl"]).hostname.split(".")[0]

    lambda_client.delete_alias(FunctionName=function, Name="live")
    assert ask(of_alias["FunctionUrl"])[0] == 404
    lambda_client.delete_function_url_config(FunctionName=function)
    assert ask(made["FunctionUrl"])[0] == 404
    with pytest.raises(lambda_client.exceptions.ResourceNotFoundException):
        lambda_client.get_function_url_config(FunctionName=function)
    with pytest.raises(lambda_client.exceptions.ResourceNotFoundException):
        lambda_client.create_function_url_config(FunctionName=function, Qualifier="none", AuthType="NONE")


def test_a_request_becomes_an_event_and_both_shapes_of_answers_a_response(url):
    url = url()
    status, headers, body = ask(
        url, "/a/b%20c?x=1&x=2&y=%C3%BC", "POST", b'{"n":1}',
        [("Content-Type", "application/json"), ("Cookie", "a=1; b=2"), ("X-Mine", "v"), ("User-Agent", "me")],
    )  # fmt: skip
    event = json.loads(body)
    assert status == 200 and headers["content-type"] == "application/json"
    assert (event["version"], event["rawPath"], event["rawQueryString"]) == ("2.0", "/a/b%20c", "x=1&x=2&y=%C3%BC")
    assert event["queryStringParameters"] == {"x": "1,2", "y": "ü"}
    assert event["cookies"] == ["a=1", "b=2"] and event["headers"]["x-mine"] == "v"
    assert (event["body"], event["isBase64Encoded"]) == ('{"n":1}', False)
    http_context = event["requestContext"]["http"]
    assert (http_context["method"], http_context["sourceIp"], http_context["userAgent"]) == ("POST", "127.0.0.1", "me")
    assert event["requestContext"]["requestId"] == headers["x-amzn-requestid"]
    event = json.loads(ask(url, "/", "PUT", b"\x00\xff")[2])
    assert event["isBase64Encoded"] and base64.b64decode(event["body"]) == b"\x00\xff"

    status, headers, body = ask(url, "/bare")
    assert (status, headers["content-type"], json.loads(body)) == (200, "application/json", {"seen": "/bare"})
    status, headers, body = ask(url, "/image")
    assert (status, headers["content-type"], body) == (200, "image/png", b"\x01\x02\xff")
    status, headers, _ = ask(url, "/cookies")
    assert (status, headers["location"], headers.get_all("set-cookie")) == (302, "/next", ["a=1; Secure", "b=2"])
    for path in ["/fail", "/wrong"]:
        status, _, body = ask(url, path)
        assert (status, json.loads(body)) == (502, {"Message": "Internal Server Error"})
    assert ask(url, "/", "POST", bytes(6 << 20))[0] == 413
    assert ask("http://nobody.lambda-url.us-east-1.localhost:%d/" % urlsplit(url).port)[0] == 404


def test_a_streamed_response_comes_while_it_is_made_with_the_head_that_the_function_gives(
    lambda_client, shared, node, name
):
    shared.create(lambda_client, name, archives.function("node-stream"), node, "index.page", Timeout=20, MemorySize=256)
    made = lambda_client.create_function_url_config(FunctionName=name, AuthType="NONE", InvokeMode="RESPONSE_STREAM")
    ask(made["FunctionUrl"])
    host = urlsplit(made["FunctionUrl"])
    # curl resolves names below localhost by itself, as browsers do.
    curl = subprocess.Popen(["curl", "-siN", made["FunctionUrl"] + "feed"], stdout=subprocess.PIPE)
    times, text = [], b""
    while piece := curl.stdout.read1():
        times.append(time.monotonic())
        text += piece
    assert curl.wait() == 0
    head, _, body = text.partition(b"\r\n\r\n")
    head = head.decode().lower()
    assert head.startswith("http/1.1 201") and "content-type: text/event-stream" in head and "x-mine: yes" in head
    assert "set-cookie: a=1" in head and "set-cookie: b=2; secure" in head
    assert body == b"".join(b"data: %d /feed\n\n" % n for n in (1, 2, 3))
    assert times[-1] - times[0] > 0.3, "the head and the first event come long before the last"
    assert host.hostname.endswith(".localhost")


def test_browsers_are_told_what_the_url_allows(url):
    url = url(
        Cors={
            "AllowOrigins": ["https://a.example"],
            "AllowMethods": ["GET", "PUT"],
            "AllowHeaders": ["x-a"],
            "ExposeHeaders": ["x-b"],
            "AllowCredentials": True,
            "MaxAge": 60,
        }
    )
    asked = [("Origin", "https://a.example"), ("Access-Control-Request-Method", "PUT")]
    status, headers, body = ask(url, "/", "OPTIONS", headers=asked)
    assert (status, body) == (200, b"")
    told = {key.lower(): value for key, value in headers.items() if key.lower().startswith("access-control")}
    assert told == {
        "access-control-allow-origin": "https://a.example",
        "access-control-allow-methods": "GET,PUT",
        "access-control-allow-headers": "x-a",
        "access-control-allow-credentials": "true",
        "access-control-expose-headers": "x-b",
        "access-control-max-age": "60",
    }
    assert ask(url, headers=asked[:1])[1]["access-control-allow-origin"] == "https://a.example"
    assert "access-control-allow-origin" not in ask(url, headers=[("Origin", "https://evil.example")])[1]


def test_a_url_with_iam_takes_signed_requests_of_its_account_only(url):
    url = url(AuthType="AWS_IAM")

    def signed(account):
        request = botocore.awsrequest.AWSRequest("GET", url)
        credentials = botocore.credentials.Credentials(account, "hearth")
        botocore.auth.SigV4Auth(credentials, "lambda", "us-east-1").add_auth(request)
        return ask(url, headers=list(request.headers.items()))

    assert ask(url)[0] == 403
    assert ask(url, headers=[("Authorization", "Bearer x")])[0] == 403
    assert signed("210987654321")[0] == 403
    status, _, body = signed(ACCOUNT)
    context = json.loads(body)["requestContext"]
    assert status == 200 and context["authorizer"]["iam"]["accountId"] == context["accountId"] == ACCOUNT


def test_urls_are_there_after_a_restart(own, node, tmp_path):
    server: Hearth = own()
    client = server.client()
    server.create(client, "kept", archives.function("node-stream"), node, "url.handler", MemorySize=256, Timeout=20)
    made = client.create_function_url_config(FunctionName="kept", AuthType="NONE")["FunctionUrl"]
    server.kill()
    server = own()
    moved = server.client().get_function_url_config(FunctionName="kept")["FunctionUrl"]
    assert urlsplit(moved).hostname == urlsplit(made).hostname
    assert ask(moved, "/bare")[0] == 200


def test_what_throttles_an_invocation_throttles_a_request(url, lambda_client, function):
    url = url()
    lambda_client.put_function_concurrency(FunctionName=function, ReservedConcurrentExecutions=0)
    status, headers, _ = ask(url)
    assert status == 429 and headers["retry-after"]
