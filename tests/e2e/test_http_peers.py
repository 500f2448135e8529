"""Real peers of HTTP services: a load generator that speaks HTTP/2, a browser, and clients that only pretend to ask."""

import re
import select
import shutil
import socket
import subprocess
import time

import pytest

from harness import archives
from harness.server import ACCOUNT
from harness.wait import wait_for

TAGS = {"hearth:http-port": "8080"}


@pytest.fixture
def lab(shared, lambda_client, python, name):
    """A service of many requests at once; its host."""
    shared.create(lambda_client, name, archives.function("http-lab"), python, "server.py", Tags=TAGS, Timeout=60, MemorySize=256)
    return f"{name}.{ACCOUNT}.localhost:{shared.address[1]}"


@pytest.mark.parametrize("protocol", ["--no-tls-proto=h2c", "--h1"])
def test_h2load_gets_every_answer(lab, shared, protocol):
    done = subprocess.run(
        ["h2load", protocol, "-n", "1000", "-c", "8", "-m", "4", f"--connect-to=127.0.0.1:{shared.address[1]}", f"http://{lab}/"],
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "1000 succeeded, 0 failed, 0 errored, 0 timeout" in done.stdout, done.stdout
    assert re.search("status codes: 1000 2xx, 0 3xx, 0 4xx, 0 5xx", done.stdout), done.stdout


def test_a_browser_gets_a_page_events_and_a_websocket(lab, shared, name, tmp_path):
    browser = subprocess.Popen(
        [
            shutil.which("chromium"), "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
            "--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage",
            f"--user-data-dir={tmp_path / 'profile'}", "--remote-debugging-port=0", f"http://{lab}/page",
        ],
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=open(tmp_path / "browser.log", "w"),
    )  # fmt: skip
    try:
        log = lambda: shared.command("logs", name).stdout  # noqa: E731
        wait_for(lambda: "browser:" in log(), lambda: (tmp_path / "browser.log").read_text()[-2000:], 90, 0.5)
        assert "browser: event 0, event 1, event 2, socket hello" in log()
    finally:
        browser.terminate()
        browser.wait(30)


def test_clients_that_take_for_ever_over_their_head_lose_their_places_to_others(own, python, name):
    server = own("--connections", "32", "--client-timeout", "2")
    client = server.client()
    server.create(client, name, archives.function("http-lab"), python, "server.py", Tags=TAGS, Timeout=60, MemorySize=256)
    host = f"{name}.{ACCOUNT}.localhost:{server.address[1]}"
    client.close()
    slow = [socket.create_connection(server.address, timeout=60) for _ in range(64)]
    for one in slow:
        one.sendall(f"GET / HTTP/1.1\r\nHost: {host}\r\n".encode())
    honest = socket.create_connection(server.address, timeout=60)
    honest.sendall(f"GET /status?code=200 HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
    end = time.monotonic() + 60
    # A byte now and then buys no time.
    while not select.select([honest], [], [], 0.3)[0]:
        assert time.monotonic() < end
        for one in slow:
            try:
                one.sendall(b"x")
            except OSError:
                pass
    assert honest.recv(4096).startswith(b"HTTP/1.1 200 ")
    for one in [*slow, honest]:
        one.close()
