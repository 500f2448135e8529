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

def stream(id, pieces, trailers='', end=True, mode='streaming', type='text/plain'):
    """Posts an answer in chunks; `end=False` hangs up in the middle. The status of the answer."""
    connection = socket.create_connection(tuple(API.split(':')))
    connection.sendall(f'POST /2018-06-01/runtime/invocation/{id}/response HTTP/1.1\r\nHost: x\r\nContent-Type: {type}\r\n'
        f'Lambda-Runtime-Function-Response-Mode: {mode}\r\nTransfer-Encoding: chunked\r\n\r\n'.encode())
    for piece in pieces:
        connection.sendall(f'{len(piece):x}\r\n'.encode() + piece + b'\r\n')
    if end:
        connection.sendall(f'0\r\n{trailers}\r\n'.encode())
        status = int(connection.recv(4096).split(b' ')[1])
    connection.close()
    return status if end else None

def serve_streams(handler):
    while True:
        id, headers, event = next_event()
        handler(id, event)
