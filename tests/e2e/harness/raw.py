"""HTTP by hand, for what no decent client sends."""

import socket

from .server import ACCOUNT


class Raw:
    """One TCP connection to a server."""

    def __init__(self, server, timeout=20):
        self.socket = socket.create_connection(server.address, timeout=timeout)

    def send(self, data):
        self.socket.sendall(data if isinstance(data, bytes) else data.encode())
        return self

    def receive(self):
        """Status, headers and body of one response; None when the server closed instead."""
        data = b""
        while b"\r\n\r\n" not in data:
            piece = self._read()
            if not piece:
                return None
            data += piece
        head, _, body = data.partition(b"\r\n\r\n")
        lines = head.decode("latin-1").split("\r\n")
        headers = {k.lower(): v.strip() for k, v in (line.split(":", 1) for line in lines[1:])}
        status = int(lines[0].split(" ")[1])
        length = int(headers.get("content-length", 0))
        while len(body) < length:
            piece = self._read()
            if not piece:
                break
            body += piece
        return status, headers, body

    def closed(self):
        """Reads what comes until the server closes."""
        while self._read():
            pass
        return True

    def _read(self):
        try:
            return self.socket.recv(65536)
        except ConnectionError:
            return b""

    def close(self):
        self.socket.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


# Who calls: any signature will do, the account is the access key.
CALLER = f"Authorization: AWS4-HMAC-SHA256 Credential={ACCOUNT}/20240101/us-east-1/lambda/aws4_request, SignedHeaders=host, Signature=00\r\n"  # fmt: skip


def invocation(function, body=b"{}", length=None, headers=""):
    """The bytes of an Invoke request."""
    return (
        f"POST /2015-03-31/functions/{function}/invocations HTTP/1.1\r\nHost: hearth\r\n{CALLER}"
        f"Content-Type: application/json\r\n{headers}Content-Length: {len(body) if length is None else length}\r\n\r\n"
    ).encode() + body
