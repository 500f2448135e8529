"""An extension that lives inside the runtime's process sees each request, and the request waits for it."""

import pytest

from harness import archives
from harness.server import invoke

EXTENSION = """
import http.client, json, os, threading

def api(method, path, body=None, headers={}):
    connection = http.client.HTTPConnection(os.environ['AWS_LAMBDA_RUNTIME_API'])
    connection.request(method, '/2020-01-01/extension' + path, body, headers)
    answer = connection.getresponse()
    return answer.status, dict(answer.headers.items()), answer.read().decode()

def lower(headers):
    return {key.lower(): value for key, value in headers.items()}

seen = []
refusals = {}
refusals['no name'] = api('POST', '/register', '{"events": []}')[0]
refusals['shutdown inside'] = api('POST', '/register', '{"events": ["SHUTDOWN"]}', {'Lambda-Extension-Name': 'late'})[0]
refusals['nonsense'] = api('POST', '/register', 'nonsense', {'Lambda-Extension-Name': 'bad'})[0]
refusals['no id'] = api('GET', '/event/next')[0]
refusals['wrong id'] = api('GET', '/event/next', None, {'Lambda-Extension-Identifier': '00000000-0000-0000-0000-000000000000'})[0]
status, headers, body = api('POST', '/register', '{"events": ["INVOKE"]}', {'Lambda-Extension-Name': 'watcher'})
registered = [status, json.loads(body)]
identifier = {'Lambda-Extension-Identifier': lower(headers)['lambda-extension-identifier']}

def watch():
    while True:
        status, headers, body = api('GET', '/event/next', None, identifier)
        seen.append([status, json.loads(body)])

threading.Thread(target=watch, daemon=True).start()

def handler(event, context):
    return {'seen': seen, 'registered': registered, 'refusals': refusals, 'id': context.aws_request_id}
"""


@pytest.fixture
def watched(shared, lambda_client, name, python):
    shared.create(lambda_client, name, archives.pack({"app.py": EXTENSION}), python, Timeout=10)
    return lambda: invoke(lambda_client, name)[0]


def test_it_registers_and_is_told_about_each_request(watched, name):
    first = watched()
    assert first["registered"][0] == 200
    assert first["registered"][1] == {"functionName": name, "functionVersion": "$LATEST", "handler": "app.handler"}
    second = watched()
    events = second["seen"]
    assert [event["eventType"] for _, event in events][:1] == ["INVOKE"]
    told = [event["requestId"] for _, event in events]
    assert first["id"] in told and len(told) == len(set(told))
    assert all(event["invokedFunctionArn"].endswith(name) and event["deadlineMs"] > 1.7e12 for _, event in events)


def test_what_it_may_not_do_is_refused(watched):
    refusals = watched()["refusals"]
    assert all(400 <= status < 500 for status in refusals.values()), refusals
