"""Certificates from an authority: a real ACME server asks, certifies, and is asked again in time."""

import os
import socket
import ssl
import subprocess
from pathlib import Path

import pytest

from harness.netns import Namespace
from harness.server import BINARY, ROOT, Hearth
from harness.wait import wait_for

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="port 80 on a host of the test's own takes root")
VENV = ROOT / ".cache/acme/venv/bin"
DAY = 86_400


class Authority:
    """serles behind TLS, on a host of the test's."""

    def __init__(self, host, folder):
        self.host, self.folder = host, folder
        openssl = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"]
        by_ca = ["-CA", folder / "ca.pem", "-CAkey", folder / "ca.key", "-addext", "basicConstraints=critical,CA:FALSE"]
        for name, more in (("ca", []), ("server", [*by_ca, "-addext", "subjectAltName=IP:127.0.0.1"])):
            command = [*openssl, "-subj", f"/CN={name}", *more, "-keyout", folder / f"{name}.key", "-out", folder / f"{name}.pem"]
            subprocess.run(command, check=True, capture_output=True)
        self.certifies_for(1, 90 * DAY)
        (folder / "config.ini").write_text(
            f"[serles]\nbackend = authority:Backend\ndatabase = sqlite:///{folder}/serles.db\nsubjectNameTemplate = {{SAN[0]}}\n[authority]\nfolder = {folder}\n"
        )
        self.log = open(folder / "log", "w")
        environment = {**os.environ, "HOME": str(folder), "CONFIG": str(folder / "config.ini"), "PYTHONPATH": str(Path(__file__).parent / "harness")}
        command = [VENV / "gunicorn", "--bind", "127.0.0.1:14000", "--certfile", folder / "server.pem", "--keyfile", folder / "server.key", "serles:create_app()"]
        self.process = host.run(subprocess.Popen, [str(word) for word in command], env=environment, stdout=self.log, stderr=subprocess.STDOUT)
        wait_for(self.answers, "the authority answers", 60)

    def answers(self):
        assert self.process.poll() is None, (self.folder / "log").read_text()
        try:
            self.host.run(socket.create_connection, ("127.0.0.1", 14000), 5).close()
            return True
        except OSError:
            return False

    def certifies_for(self, before, after):
        (self.folder / "lifetime").write_text(f"{before} {after}")

    def close(self):
        self.process.terminate()
        self.process.wait(20)
        self.log.close()


@pytest.fixture
def host():
    host = Namespace()
    host.shell("ip link set lo up")
    yield host
    host.close()


@pytest.fixture
def authority(host, tmp_path):
    folder = tmp_path / "authority"
    folder.mkdir()
    authority = Authority(host, folder)
    yield authority
    authority.close()


@pytest.fixture
def served(host, authority, tmp_path):
    """Starts a server that is to get a certificate for two names."""
    started = []

    def start(listen="127.0.0.1:80"):
        more = ["--tls-listen", "127.0.0.1:443", "--acme-domain", "shop.test,www.shop.test", "--acme-accept-terms", "--acme-contact", "me@shop.test"]
        more += ["--acme-directory", "https://127.0.0.1:14000/directory", "--acme-ca", str(authority.folder / "ca.pem")]
        server = host.run(Hearth, tmp_path, *more, listen=listen, data=tmp_path / "data")
        host.run(server.ready)
        started.append(server)
        return server

    yield start
    for server in started:
        host.run(server.__exit__)


def certificate(host, authority):
    """What the server shows for one of its names: checked against the authority's, and its serial number. Nothing if there is none yet."""

    def shown():
        context = ssl.create_default_context(cafile=authority.folder / "ca.pem")
        try:
            with socket.create_connection(("127.0.0.1", 443), 5) as plain, context.wrap_socket(plain, server_hostname="www.shop.test") as secure:
                return secure.getpeercert()["serialNumber"]
        except (TimeoutError, ConnectionError):
            return None

    return host.run(shown)


def test_a_certificate_is_ordered_kept_and_renewed(host, authority, served, tmp_path):
    server = served()
    first = wait_for(lambda: certificate(host, authority), "there is a certificate", 60)
    # Nobody else reads the keys.
    for file in (tmp_path / "data/acme").iterdir():
        assert file.stat().st_mode & 0o77 == 0, file
    host.run(server.__exit__)
    server = served()
    assert wait_for(lambda: certificate(host, authority), "it is served at once", 60) == first, "a restart orders nothing"
    host.run(server.__exit__)
    # Two thirds of the life of the next are over in some seconds. Other names need another certificate.
    authority.certifies_for(60, 45)
    (tmp_path / "data/acme/certificate.pem").unlink()
    served()
    second = wait_for(lambda: certificate(host, authority), "there is another", 60)
    assert second != first
    authority.certifies_for(1, 90 * DAY)
    third = wait_for(lambda: (now := certificate(host, authority)) not in (None, second) and now, "it is renewed", 60)
    assert third not in (first, second)


def test_a_name_that_does_not_lead_here_is_said_and_the_rest_is_served(host, authority, served):
    # Who asks the name finds another server there.
    server = served(listen="127.0.0.1:8080")
    said = "does not find this server at http://shop.test/"
    wait_for(lambda: said in server.log(), "it says why", 60)
    assert certificate(host, authority) is None
    host.run(server.client().list_functions)


@pytest.mark.parametrize(
    "arguments, said",
    [
        (["--acme-domain", "shop.test"], "--tls-listen"),
        (["--acme-domain", "shop.test", "--tls-listen", "127.0.0.1:0", "--acme-accept-terms"], "--data"),
        (["--acme-domain", "shop.test", "--tls-listen", "127.0.0.1:0", "--data", "x"], "--acme-accept-terms"),
        (["--acme-domain", "*.shop.test"], "wildcard"),
        (["--acme-domain", "192.0.2.1"], "domain name"),
        (["--tls-listen", "127.0.0.1:0"], "--acme-domain"),
    ],
)
def test_what_is_missing_is_said(arguments, said):
    done = subprocess.run([BINARY, "dev", *arguments], capture_output=True, text=True, timeout=30)
    assert done.returncode == 2 and said in done.stderr, done.stderr
