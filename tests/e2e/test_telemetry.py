"""Telemetry: an external extension of a layer and one inside the runtime's process are sent what happens in their instance."""

import json

from harness import archives
from harness.server import invoke
from harness.wait import wait_for

TRACE = "Root=1-5759e988-bd862e3fe1be46a994272793;Parent=53995c3f42cd8ad8;Sampled=1"
EXTENSION = """#!/var/lang/bin/python3
import http.client, http.server, json, os, threading
def api(method, path, body=None, headers={}):
    connection = http.client.HTTPConnection(os.environ['AWS_LAMBDA_RUNTIME_API'])
    connection.request(method, path, body, headers)
    answer = connection.getresponse()
    return answer.headers, json.loads(answer.read())
class Listener(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        for event in json.loads(self.rfile.read(int(self.headers['Content-Length']))):
            # Its own lines come, too: to say of those what came would never end.
            if event['type'] != 'extension' or event['record'] == 'here':
                print('got', json.dumps(event), flush=True)
        self.send_response(200)
        self.end_headers()
    def log_message(self, *rest): pass
server = http.server.HTTPServer(('0.0.0.0', 4243), Listener)
threading.Thread(target=server.serve_forever, daemon=True).start()
headers, _ = api('POST', '/2020-01-01/extension/register', json.dumps({'events': ['SHUTDOWN']}), {'Lambda-Extension-Name': os.path.basename(__file__)})
own = {'Lambda-Extension-Identifier': headers['Lambda-Extension-Identifier']}
_, said = api('PUT', '/2022-07-01/telemetry', json.dumps({'schemaVersion': '2022-12-13', 'types': ['platform', 'function', 'extension'],
    'buffering': {'timeoutMs': 25}, 'destination': {'protocol': 'HTTP', 'URI': 'http://sandbox.localdomain:4243/x'}}), own)
print('subscribed', said, flush=True)
print('here', flush=True)
api('GET', '/2020-01-01/extension/event/next', None, own)
"""
INSIDE = """
import http.client, json, os, socket, threading
def api(method, path, body, headers={}):
    connection = http.client.HTTPConnection(os.environ['AWS_LAMBDA_RUNTIME_API'])
    connection.request(method, path, body, headers)
    answer = connection.getresponse()
    return answer.headers, json.loads(answer.read() or 'null')
got = []
def read(listener):
    while True:
        for line in listener.accept()[0].makefile():
            got.append(json.loads(line))
listener = socket.create_server(('0.0.0.0', 4244))
threading.Thread(target=read, args=[listener], daemon=True).start()
headers, _ = api('POST', '/2020-01-01/extension/register', '{"events": []}', {'Lambda-Extension-Name': 'inner'})
own = {'Lambda-Extension-Identifier': headers['Lambda-Extension-Identifier']}
said = api('PUT', '/2020-08-15/logs', json.dumps({'schemaVersion': '2021-03-18', 'types': ['platform', 'function'],
    'buffering': {'timeoutMs': 25}, 'destination': {'protocol': 'TCP', 'port': 4244}}), own)[1]
threading.Thread(target=api, args=['GET', '/2020-01-01/extension/event/next', None, own], daemon=True).start()
def handler(event, context):
    print('hello from', context.aws_request_id)
    return {'id': context.aws_request_id, 'said': said, 'got': got}
"""


def test_an_extension_of_a_layer_is_sent_all_that_happens(shared, name, python):
    client = shared.client()
    client.meta.events.register("before-call.lambda.Invoke", lambda params, **_: params["headers"].update({"X-Amzn-Trace-Id": TRACE}))
    layer = client.publish_layer_version(LayerName=f"{name}-watch", Content={"ZipFile": archives.pack({"extensions/watch": EXTENSION}, 0o755)})
    code = archives.pack({"app.py": "def handler(event, context):\n    print('hello from', context.aws_request_id)\n    return context.aws_request_id\n"})
    shared.create(client, name, code, python, Layers=[layer["LayerVersionArn"]], Timeout=20)
    ids = [invoke(client, name)[0] for _ in range(3)]

    def events():
        lines = shared.command("logs", name, "--lines", "1000").stdout.splitlines()
        # A batch whose answer took too long is sent again.
        got = [json.loads(event) for event in dict.fromkeys(line.split("got ", 1)[1] for line in lines if "got {" in line)]
        return got if sum(event["type"] == "platform.report" for event in got) == 3 else None

    got = wait_for(events, "all of it has arrived", 60)
    kinds = [event["type"] for event in got]
    of = lambda kind: [event["record"] for event in got if event["type"] == kind]  # noqa: E731
    assert kinds[:2] == ["platform.initStart", "platform.telemetrySubscription"]
    assert of("platform.initStart")[0]["functionName"] == name and of("extension") == ["here"]
    assert of("platform.extension") == [{"name": "watch", "state": "Ready", "events": ["SHUTDOWN"]}]
    assert of("platform.initReport")[0]["status"] == "success" and of("platform.initRuntimeDone")[0]["status"] == "success"
    cycle = ["platform.start", "function", "platform.runtimeDone", "platform.report"]
    assert [kind for kind in kinds if kind in cycle] == cycle * 3
    assert of("function") == [f"hello from {request}" for request in ids]
    for kind in ("platform.start", "platform.runtimeDone", "platform.report"):
        assert [record["requestId"] for record in of(kind)] == ids
        assert {record["tracing"]["value"] for record in of(kind)} == {TRACE}
    assert all(record["metrics"]["producedBytes"] == 38 and len(record["spans"]) == 2 for record in of("platform.runtimeDone"))
    assert ["initDurationMs" in record["metrics"] for record in of("platform.report")] == [True, False, False]
    client.delete_layer_version(LayerName=f"{name}-watch", VersionNumber=layer["Version"])


def test_an_extension_inside_reads_the_logs_api_over_tcp(shared, lambda_client, name, python):
    shared.create(lambda_client, name, archives.pack({"app.py": INSIDE}), python, Timeout=20)
    first = invoke(lambda_client, name)[0]
    assert first["said"] == "OK"

    def told():
        got = [event for event in invoke(lambda_client, name)[0]["got"] if first["id"] in json.dumps(event)]
        return got if len(got) == 5 else None

    got = wait_for(told, "the first invocation was told", 60)
    assert [event["type"] for event in got] == ["platform.start", "function", "platform.runtimeDone", "platform.end", "platform.report"]
