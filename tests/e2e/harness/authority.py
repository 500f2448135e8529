"""What serles, an ACME server, is started with: a certifier of the test's own, and names below `.test` that lead to this machine.

Runs in serles' own Python environment, not in the tests'.
"""

import socket
from datetime import datetime, timedelta, timezone
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization

ask = socket.getaddrinfo


def here(host, *arguments, **more):
    return ask("127.0.0.1" if str(host).endswith(".test") else host, *arguments, **more)


socket.getaddrinfo = here


class Backend:
    """Certifies what serles found to be right, for as long as a file says: seconds before and after now."""

    def __init__(self, config):
        folder = Path(config["authority"]["folder"])
        self.lifetime = folder / "lifetime"
        self.certificate = x509.load_pem_x509_certificate((folder / "ca.pem").read_bytes())
        self.key = serialization.load_pem_private_key((folder / "ca.key").read_bytes(), None)

    def sign(self, request, subject, names, _email):
        request = x509.load_pem_x509_csr(request)
        before, after = map(int, self.lifetime.read_text().split())
        now = datetime.now(timezone.utc)
        made = x509.CertificateBuilder(
            issuer_name=self.certificate.subject,
            subject_name=x509.Name([]),
            public_key=request.public_key(),
            serial_number=x509.random_serial_number(),
            not_valid_before=now - timedelta(seconds=before),
            not_valid_after=now + timedelta(seconds=after),
        )
        names = request.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        made = made.add_extension(names, critical=False).sign(self.key, hashes.SHA256())
        return made.public_bytes(serialization.Encoding.PEM).decode() + self.certificate.public_bytes(serialization.Encoding.PEM).decode(), None
