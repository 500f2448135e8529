"""A `hearth dev` of a test's own, and the clients that speak to it."""

import json
import os
import re
import selectors
import signal
import subprocess
import time
import urllib.request
import uuid
from pathlib import Path

import boto3
from botocore.config import Config

from .wait import wait_for

ROOT = Path(__file__).resolve().parents[3]
BINARY = Path(os.environ.get("HEARTH_BIN", ROOT / "target/release/hearth"))
ACCOUNT = "123456789012"
ROLE = f"arn:aws:iam::{ACCOUNT}:role/e2e"
READY_TIMEOUT = 20


def aws_environment(endpoint):
    """The variables that point any AWS client at a server, and keep it from anything of the user's."""
    return {
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_ACCESS_KEY_ID": ACCOUNT,
        "AWS_SECRET_ACCESS_KEY": "hearth",
        "AWS_REGION": "us-east-1",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
    }


class Hearth:
    """A running `hearth dev`. `mark` is in the environment of it and of the functions made through `create`."""

    def __init__(self, directory, *arguments, data=None, listen="127.0.0.1:0", prefix=(), environment=None):
        self.directory = Path(directory)
        self.data = data
        self.mark = f"e2e-mark-{uuid.uuid4().hex}"
        self.log_path = self.directory / f"hearth-{uuid.uuid4().hex[:8]}.log"
        self.endpoint = None
        command = [*prefix, str(BINARY), "dev", "--listen", listen]
        if data is not None:
            command += ["--data", str(data)]
        with open(self.log_path, "wb") as log:
            self.process = subprocess.Popen(
                [*command, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                start_new_session=True,
                env={**os.environ, "HEARTH_E2E_MARK": self.mark, **(environment or {})},
            )

    # Life

    def ready(self, timeout=READY_TIMEOUT):
        """Waits for the line that says where it listens."""
        os.set_blocking(self.process.stdout.fileno(), False)
        selector = selectors.DefaultSelector()
        selector.register(self.process.stdout, selectors.EVENT_READ)
        end, text = time.monotonic() + timeout, b""
        while not (match := re.search(rb"hearth is ready at (http://\S+)\n", text)):
            selector.select(max(0, end - time.monotonic()))
            piece = self.process.stdout.read()
            if piece == b"" or time.monotonic() > end:
                self.kill()
                raise AssertionError(f"hearth did not become ready:\n{text.decode()}\n{self.log()}")
            text += piece or b""
        self.endpoint = match[1].decode()
        return self

    @property
    def pid(self):
        return self.process.pid

    @property
    def address(self):
        host, port = self.endpoint.removeprefix("http://").split(":")
        return host, int(port)

    def log(self):
        return self.log_path.read_text(errors="replace")

    def interrupt(self):
        self.process.send_signal(signal.SIGINT)

    def stop(self, timeout=45):
        """Ctrl-C, and the exit code."""
        if self.process.poll() is None:
            self.interrupt()
        try:
            return self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f"hearth did not stop within {timeout} s:\n{self.log()[-4000:]}") from None

    def kill(self):
        """kill -9."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            try:
                self.stop()
            finally:
                self.kill()

    # What it says of itself

    def get(self, path, timeout=20):
        request = urllib.request.Request(self.endpoint + path)
        with urllib.request.urlopen(request, timeout=timeout) as answer:
            return answer.read()

    def instances(self, function=None):
        listed = json.loads(self.get("/_hearth/ps"))["instances"]
        return [i for i in listed if function in (None, i["function"].rsplit("/", 1)[-1])]

    def metrics(self):
        """Sample names, with their labels, to values."""
        samples = {}
        for line in self.get("/metrics").decode().splitlines():
            if line and not line.startswith("#"):
                name, value = line.rsplit(" ", 1)
                samples[name] = float(value)
        return samples

    # Clients

    def client(self, account=ACCOUNT, **config):
        options = {
            "retries": {"total_max_attempts": 1},
            "read_timeout": 100,
            "max_pool_connections": 80,
            **config,
        }
        return boto3.session.Session().client(
            "lambda",
            endpoint_url=self.endpoint,
            region_name="us-east-1",
            aws_access_key_id=account,
            aws_secret_access_key="hearth",
            config=Config(**options),
        )

    def create(self, client, name, archive, runtime, handler="app.handler", variables=None, wait=True, **more):
        client.create_function(
            FunctionName=name,
            Runtime=runtime,
            Handler=handler,
            Role=ROLE,
            Code={"ZipFile": archive},
            Environment={"Variables": {"E2E_MARK": self.mark, **(variables or {})}},
            **more,
        )
        return settle(client, name) if wait else None

    def command(self, *arguments, environment=None, **options):
        """Runs a `hearth` command against this server."""
        return hearth(*arguments, environment={"HEARTH_ENDPOINT": self.endpoint, "HEARTH_ACCOUNT": ACCOUNT, **(environment or {})}, **options)


def hearth(*arguments, environment=None, timeout=60, **options):
    """Runs a `hearth` command to its end."""
    return subprocess.run(
        [str(BINARY), *arguments],
        capture_output=True,
        text=True,
        timeout=timeout,
        stdin=options.pop("stdin", None if "input" in options else subprocess.DEVNULL),
        env={**os.environ, **(environment or {})},
        **options,
    )


def settle(client, name, timeout=30):
    """Waits until neither the function nor its last update is in the making."""

    def settled():
        config = client.get_function_configuration(FunctionName=name)
        return config if config["State"] != "Pending" and config["LastUpdateStatus"] != "InProgress" else None

    return wait_for(settled, f"{name} settles", timeout)


def invoke(client, name, event=None, **options):
    """The decoded answer and the response of an invocation with the end of its log."""
    options.setdefault("LogType", "Tail")
    answer = client.invoke(FunctionName=name, Payload=json.dumps(event if event is not None else {}), **options)
    payload = answer["Payload"].read()
    return (json.loads(payload) if payload else None), answer
