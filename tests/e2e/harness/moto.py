"""moto's server: S3, SQS and others that Hearth asks, as far as the tests need them."""

import os
import subprocess
import urllib.request

import boto3

from harness.server import ACCOUNT, ROOT
from harness.testhost import free_port
from harness.wait import wait_for

PYTHON = ROOT / ".cache/moto/venv/bin/python"
SOURCE = next(iter((ROOT / ".cache/moto").glob("moto-*")), None)
# How a Hearth is told to sign what it asks there.
KEYS = {"HEARTH_AWS_ACCESS_KEY_ID": ACCOUNT, "HEARTH_AWS_SECRET_ACCESS_KEY": "hearth"}


class Moto:
    """A moto server of a test's own."""

    def __init__(self, directory):
        port = free_port()
        self.endpoint = f"http://127.0.0.1:{port}"
        command = [PYTHON, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
        with open(directory / "moto.log", "wb") as log:
            environment = {**os.environ, "PYTHONPATH": str(SOURCE), "PYTHONDONTWRITEBYTECODE": "1"}
            self.process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment
            )

    def __enter__(self):
        def answers():
            assert self.process.poll() is None, "moto ended: see moto.log"
            try:
                urllib.request.urlopen(f"{self.endpoint}/moto-api/data.json", timeout=10).close()
                return True
            except OSError:
                return False

        wait_for(answers, "moto answers", 90)
        return self

    def __exit__(self, *_):
        self.process.terminate()
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def client(self, service):
        return boto3.session.Session().client(
            service,
            endpoint_url=self.endpoint,
            region_name="us-east-1",
            aws_access_key_id=ACCOUNT,
            aws_secret_access_key="hearth",
        )
