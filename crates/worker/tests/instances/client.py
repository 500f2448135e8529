"""A client of the Runtime API without opinions: what a test wants to do wrong, it can."""
import http.client, json, os, socket, sys, threading, time

API = os.environ['AWS_LAMBDA_RUNTIME_API']

def call(method, path, body=None, headers={}, connection=None):
    connection = connection or http.client.HTTPConnection(API)
    connection.request(method, path, body, headers)
    answer = connection.getresponse()
    data = answer.read()
    return answer.status, {k.lower(): v for k, v in answer.headers.items()}, data.decode()

kept = http.client.HTTPConnection(API)

def next_event(connection=None):
    status, headers, body = call('GET', '/2018-06-01/runtime/invocation/next', connection=connection or kept)
    assert status == 200, (status, body)
    return headers['lambda-runtime-aws-request-id'], headers, json.loads(body)

def respond(id, value, headers={}):
    return call('POST', f'/2018-06-01/runtime/invocation/{id}/response', json.dumps(value), headers, kept)

def fail(id, document):
    return call('POST', f'/2018-06-01/runtime/invocation/{id}/error', json.dumps(document), {}, kept)

def serve(handler):
    while True:
        id, headers, event = next_event()
        respond(id, handler(event, id, headers))
