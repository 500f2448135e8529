"""An HTTP server that does what its path says, and starts as its environment says."""

import base64
import hashlib
import json
import os
import select
import signal
import socket
import struct
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

served = [0]
PAGE = b"""<!doctype html><title>lab</title><script>
async function all() {
  const seen = [];
  await new Promise((done, fail) => {
    const events = new EventSource("/events?n=3&pause=0");
    events.onmessage = (event) => {
      seen.push("event " + event.data);
      if (event.data === "2") { events.close(); done(); }
    };
    events.onerror = () => fail("events");
  });
  await new Promise((done, fail) => {
    const socket = new WebSocket(`ws://${location.host}/ws`);
    socket.onopen = () => socket.send("hello");
    socket.onmessage = (message) => { seen.push("socket " + message.data); socket.close(); done(); };
    socket.onerror = () => fail("socket");
  });
  return seen.join(", ");
}
all().catch((what) => `failed: ${what}`).then((text) => fetch("/report", {method: "POST", body: text}));
</script>"""


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def say(self, status, body, **headers):
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)

    def chunk(self, data):
        self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
        self.wfile.flush()

    def begin_chunks(self, kind="text/plain", **headers):
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Transfer-Encoding", "chunked")
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()

    def pieces(self):
        """The request's body as it comes."""
        if self.headers.get("Transfer-Encoding") == "chunked":
            while length := int(self.rfile.readline(), 16):
                yield self.rfile.read(length)
                self.rfile.readline()
            while self.rfile.readline() != b"\r\n":
                pass
        else:
            left = int(self.headers.get("Content-Length", 0))
            while left:
                piece = self.rfile.read1(min(left, 65536))
                left -= len(piece)
                yield piece

    def any(self):
        served[0] += 1
        parts = urlsplit(self.path)
        query = {key: values[0] for key, values in parse_qs(parts.query).items()}
        name = parts.path.strip("/").split("/")[0] or "seen"
        getattr(self, f"on_{name}", self.on_seen)(query)

    do_GET = do_POST = do_PUT = do_DELETE = do_OPTIONS = do_HEAD = any

    def on_seen(self, _):
        body = b"".join(self.pieces()).decode(errors="replace")
        seen = {"method": self.command, "path": self.path, "headers": {k.lower(): v for k, v in self.headers.items()}}
        seen |= {"body": body, "pid": os.getpid(), "served": served[0], "port": os.environ["PORT"]}
        self.say(200, json.dumps(seen).encode(), X_Mine="yes", Set_Cookie="a=1")

    def on_health(self, _):
        ready = time.monotonic() - started >= float(os.environ.get("HEALTHY_AFTER", 0))
        print("health", ready, flush=True)
        self.say(200 if ready else 503, b"")

    def on_status(self, query):
        self.say(int(query["code"]), b"as told")

    def on_back(self, _):
        """Streams back what comes, piece by piece."""
        self.begin_chunks()
        for piece in self.pieces():
            self.chunk(piece)
        self.wfile.write(b"0\r\n\r\n")

    def on_count(self, _):
        self.say(200, str(sum(len(piece) for piece in self.pieces())).encode())

    def on_events(self, query):
        self.begin_chunks("text/event-stream")
        for n in range(int(query.get("n", 3))):
            self.chunk(b"data: %d\n\n" % n)
            time.sleep(float(query.get("pause", 0.2)))
        self.wfile.write(b"0\r\n\r\n")

    def on_page(self, _):
        """What a browser does with events and a WebSocket, told by itself."""
        self.say(200, PAGE, Content_Type="text/html")

    def on_report(self, _):
        print("browser:", b"".join(self.pieces()).decode(), flush=True)
        self.say(204, b"")

    def on_large(self, query):
        self.begin_chunks("application/octet-stream")
        for n in range(int(query["mb"])):
            self.chunk(bytes(1 << 20))
            print("megabyte", n, flush=True)
        self.wfile.write(b"0\r\n\r\n")

    def on_trailers(self, _):
        self.begin_chunks(Trailer="X-Sum")
        self.chunk(b"body")
        self.wfile.write(b"0\r\nX-Sum: 42\r\n\r\n")

    def on_early(self, _):
        """Answers before the body is read."""
        self.close_connection = True
        self.say(413, b"too much")

    def on_says(self, _):
        """What tells versions apart."""
        self.say(200, os.environ["SAYS"].encode())

    def on_slow(self, query):
        time.sleep(float(query["s"]))
        self.say(200, b"done")

    def on_hang(self, _):
        print("hanging", flush=True)
        select.select([self.connection], [], [], 30)
        gone = self.connection.recv(1, socket.MSG_PEEK) == b""
        print("client gone" if gone else "client speaks", flush=True)
        self.close_connection = True

    def on_cut(self, _):
        """Breaks off in the middle of a body."""
        self.send_response(200)
        self.send_header("Content-Length", "100")
        self.end_headers()
        self.wfile.write(b"some")
        self.close_connection = True

    def on_exit(self, _):
        os._exit(3)

    def on_ws(self, _):
        key = self.headers["Sec-WebSocket-Key"] + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
        self.send_response(101)
        self.send_header("Upgrade", "websocket")
        self.send_header("Connection", "Upgrade")
        self.send_header("Sec-WebSocket-Accept", base64.b64encode(hashlib.sha1(key.encode()).digest()).decode())
        self.end_headers()
        self.close_connection = True
        while True:
            head = self.rfile.read(2)
            if len(head) < 2:
                return print("socket closed", flush=True)
            length = head[1] & 127
            if length == 126:
                (length,) = struct.unpack(">H", self.rfile.read(2))
            elif length == 127:
                (length,) = struct.unpack(">Q", self.rfile.read(8))
            mask = self.rfile.read(4)
            data = bytes(b ^ mask[n % 4] for n, b in enumerate(self.rfile.read(length)))
            size = bytes([length]) if length < 126 else b"\x7e" + struct.pack(">H", length) if length < 65536 else b"\x7f" + struct.pack(">Q", length)
            self.wfile.write(head[:1] + size + data)
            self.wfile.flush()
            if head[0] & 15 == 8:
                return print("socket closed", flush=True)


started = time.monotonic()
if os.environ.get("IGNORE_TERM"):
    signal.signal(signal.SIGTERM, lambda *_: print("ignored", flush=True))
else:
    signal.signal(signal.SIGTERM, lambda *_: (print("terminated", flush=True), os._exit(0)))
if os.environ.get("EXIT"):
    sys.exit(int(os.environ["EXIT"]))
time.sleep(float(os.environ.get("LISTEN_AFTER", 0)))
ThreadingHTTPServer.request_queue_size = 1024
ThreadingHTTPServer(("0.0.0.0", int(os.environ["PORT"])), Handler).serve_forever()
