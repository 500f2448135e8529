"""An HTTP endpoint that keeps what is sent to it, and outlives the servers that send."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Receiver:
    """`status` is what it answers with; `posts` are (headers, body) in the order that they came."""

    def __init__(self):
        self.posts, self.status, lock = [], 200, threading.Lock()
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                with lock:
                    if receiver.status == 200:
                        receiver.posts.append((dict(self.headers), body))
                    status = receiver.status
                self.send_response(status)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server.server_port}/records"

    def records(self):
        return [body for _, body in list(self.posts)]

    def close(self):
        self.server.shutdown()
        self.server.server_close()
