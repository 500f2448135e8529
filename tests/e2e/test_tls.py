"""HTTPS with certificates of one's own."""

import json
import signal
import socket
import ssl
import subprocess

import pytest

from harness import archives
from harness.server import ACCOUNT
from harness.wait import wait_for


def certificate(folder, name):
    """Files of a new certificate for everything below localhost."""
    key, cert = folder / f"{name}.key", folder / f"{name}.pem"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    command += ["-days", "2", "-subj", f"/CN={name}", "-addext", f"subjectAltName=DNS:localhost,DNS:*.{ACCOUNT}.localhost"]
    subprocess.run([*command, "-keyout", str(key), "-out", str(cert)], check=True, capture_output=True)
    return cert, key


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


def subject(port):
    """Who the server says it is."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with socket.create_connection(("127.0.0.1", port), timeout=10) as plain, context.wrap_socket(plain) as secure:
        pem = ssl.DER_cert_to_PEM_cert(secure.getpeercert(True))
    done = subprocess.run(["openssl", "x509", "-noout", "-subject"], input=pem, capture_output=True, text=True, check=True)
    return done.stdout.rsplit("=", 1)[1].strip()


def test_https_serves_the_api_and_services_and_its_certificate_is_renewed_without_a_restart(own, python, tmp_path):
    cert, key = certificate(tmp_path, "first")
    port = free_port()
    server = own("--tls-listen", f"127.0.0.1:{port}", "--tls-cert", str(cert), "--tls-key", str(key))
    client = server.client()
    server.create(client, "lab", archives.function("http-lab"), python, "server.py", Tags={"hearth:http-port": "8080"}, Timeout=20, MemorySize=256)

    def curl(path, *options):
        url = f"https://lab.{ACCOUNT}.localhost:{port}{path}"
        done = subprocess.run(["curl", "-s", "--cacert", str(cert), "-w", "\n%{http_version}", *options, url], capture_output=True, text=True, timeout=30)
        assert done.returncode == 0, done
        body, version = done.stdout.rsplit("\n", 1)
        return json.loads(body), version

    seen, version = curl("/", "--http2")
    assert version == "2" and seen["headers"]["x-forwarded-proto"] == "https"
    seen, version = curl("/", "--http1.1")
    assert version == "1.1" and seen["headers"]["host"] == f"lab.{ACCOUNT}.localhost:{port}"

    kept = ssl.create_default_context(cafile=str(cert)).wrap_socket(
        socket.create_connection(("127.0.0.1", port)), server_hostname="localhost"
    )
    new_cert, new_key = certificate(tmp_path, "second")
    key.write_bytes(new_key.read_bytes())
    server.process.send_signal(signal.SIGHUP)
    wait_for(lambda: "is not used" in server.log(), "a key that does not fit is said")
    assert subject(port) == "first"
    cert.write_bytes(new_cert.read_bytes())
    server.process.send_signal(signal.SIGHUP)
    wait_for(lambda: subject(port) == "second", "the new certificate serves")
    third_cert, third_key = certificate(tmp_path, "third")
    cert.write_bytes(third_cert.read_bytes())
    key.write_bytes(third_key.read_bytes())
    wait_for(lambda: subject(port) == "third", "a changed file is enough", 20)
    # What was connected before goes on.
    kept.sendall(b"GET /none HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
    assert kept.recv(4096).startswith(b"HTTP/1.1 404")

    # Neither plain HTTP nor silence is an answer, and neither harms anybody.
    plain = socket.create_connection(("127.0.0.1", port), timeout=10)
    plain.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
    assert not plain.recv(4096).startswith(b"HTTP")
    assert subject(port) == "third"


@pytest.mark.parametrize("wrong", ["missing", "empty", "unfit"])
def test_certificates_that_cannot_serve_are_said_at_the_start(own, tmp_path, wrong):
    cert, key = certificate(tmp_path, "first")
    if wrong == "missing":
        key.unlink()
    elif wrong == "empty":
        cert.write_text("nothing\n")
    else:
        key = certificate(tmp_path, "second")[1]
    server = own("--tls-listen", "127.0.0.1:0", "--tls-cert", str(cert), "--tls-key", str(key), ready=False)
    assert server.process.wait(20) != 0
    assert str(key if wrong != "empty" else cert) in server.log()
