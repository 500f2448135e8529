"""Servers, clients and runtimes for the stories."""

import json
import os
import platform
import re
import shutil
import subprocess
import sys
import textwrap
import uuid
from pathlib import Path

import pytest

from harness import archives
from harness.clients import RUST_SDK_TIMEOUT, tail
from harness.server import BINARY, ROOT, Hearth, aws_environment, hearth, invoke

VENV_BIN = Path(sys.executable).parent


def pytest_configure(config):
    if not BINARY.exists():
        pytest.exit(f"{BINARY} is not there: run `cargo build --release`, or set HEARTH_BIN", 3)
    if os.geteuid() != 0:
        pytest.exit("these tests need root: namespaces, cgroups and mounts", 3)


@pytest.fixture(scope="session")
def shared(tmp_path_factory):
    """The server of all tests that do it no harm."""
    directory = tmp_path_factory.mktemp("shared")
    with Hearth(directory, "--service-domain", "example.com", data=directory / "data") as server:
        yield server.ready()


@pytest.fixture(scope="session")
def containers(tmp_path_factory):
    """A server like the shared one whose instances are containers, whatever those of the others are."""
    directory = tmp_path_factory.mktemp("containers")
    with Hearth(directory, "--isolation", "container", data=directory / "data") as server:
        yield server.ready()


@pytest.fixture(scope="session")
def machines(tmp_path_factory):
    """A server like the shared one whose instances are micro-VMs of QEMU, if there is a kernel for them."""
    if not os.environ.get("HEARTH_KERNELS"):
        pytest.skip("needs a kernel for machines")
    directory = tmp_path_factory.mktemp("machines")
    with Hearth(directory, "--isolation", "qemu", data=directory / "data") as server:
        yield server.ready()


@pytest.fixture
def own(tmp_path):
    """Starts servers for one test, and ends them with it."""
    started = []

    def start(*arguments, data=None, ready=True, **more):
        server = Hearth(tmp_path, *arguments, data=data or tmp_path / "data", **more)
        started.append(server)
        return server.ready() if ready else server

    yield start
    for server in started:
        server.__exit__()


@pytest.fixture(scope="session")
def lambda_client(shared):
    return shared.client()


@pytest.fixture
def name(request, shared):
    """A function name of this test's own; the function is deleted from the shared server after it."""
    word = re.sub(r"[^a-zA-Z0-9]+", "-", request.node.name.removeprefix("test_"))[:40].strip("-")
    name = f"{word}-{uuid.uuid4().hex[:6]}"
    yield name
    client = shared.client()
    try:
        client.delete_function(FunctionName=name)
    except client.exceptions.ResourceNotFoundException:
        pass


def newest(family, listed):
    numbers = re.compile(r"\d+")
    ready = [r["name"] for r in listed if r["name"].startswith(family) and r["state"] == "ready"]
    return max(ready, key=lambda one: [int(n) for n in numbers.findall(one)], default=None)


@pytest.fixture(scope="session")
def runtimes():
    """All that `hearth runtime list` knows."""
    listed = hearth("runtime", "list", "--json")
    assert listed.returncode == 0, listed.stderr
    return json.loads(listed.stdout)


def ready_runtime(family, runtimes):
    if found := newest(family, runtimes):
        return found
    candidates = [r["name"] for r in runtimes if r["name"].startswith(family) and r["state"] == "needs_client"]
    for candidate in reversed(candidates):
        if hearth("runtime", "add", candidate, timeout=110).returncode == 0:
            return candidate
    pytest.skip(f"no interpreter for {family} on this machine")


@pytest.fixture(scope="session")
def python(runtimes):
    """The newest Python runtime of this machine."""
    return ready_runtime("python3.", runtimes)


@pytest.fixture(scope="session")
def node(runtimes):
    """The newest Node runtime of this machine."""
    return ready_runtime("nodejs", runtimes)


@pytest.fixture(scope="session")
def tool():
    """The path of a client's program, installed beside the Python that runs the tests."""

    def find(program):
        path = shutil.which(program, path=f"{VENV_BIN}:{os.environ['PATH']}")
        assert path, f"{program} is not there: run scripts/setup"
        return path

    return find


@pytest.fixture(scope="session")
def node_modules():
    """The folder that has @aws-sdk/client-lambda."""
    for path in [os.environ.get("HEARTH_NODE_MODULES"), ROOT / ".cache/node/node_modules"]:
        if path and (Path(path) / "@aws-sdk/client-lambda").exists():
            return Path(path)
    pytest.fail("@aws-sdk/client-lambda is not there: run scripts/setup")


@pytest.fixture(scope="session")
def rust_sdk():
    """The program that uses the AWS SDK for Rust. Tests that need it have RUST_SDK_TIMEOUT: it is compiled once, for a minute."""
    built = ROOT / ".cache/clients"
    subprocess.run(
        ["cargo", "build", "--locked", "--quiet", "--target-dir", str(built)],
        cwd=ROOT / "tests/clients/rust-sdk",
        check=True,
        timeout=RUST_SDK_TIMEOUT - 120,
    )
    return built / "debug/rust-sdk"


@pytest.fixture(scope="session")
def client_environment(shared, tmp_path_factory):
    """An environment in which every AWS client speaks to the shared server."""
    home = tmp_path_factory.mktemp("home")
    kept = {key: value for key, value in os.environ.items() if not key.startswith("AWS_")}
    return {**kept, **aws_environment(shared.endpoint), "CARGO_LAMBDA_HOME": str(home)}


@pytest.fixture
def lab(shared, lambda_client, python, name):
    """A function that runs what it is told: `lab(code)` gives `result` as the code left it."""
    shared.create(lambda_client, name, archives.function("python-lab"), python, Timeout=20, MemorySize=256)

    def run(code, expect_error=False, **event):
        value, answer = invoke(lambda_client, name, {"code": textwrap.dedent(code), **event})
        failed = "FunctionError" in answer
        assert failed == expect_error, f"{value}\n{tail(answer)}"
        return value

    run.name = name
    return run


@pytest.fixture(scope="session")
def static_echo():
    """The Rust example, which greets by name, as one static program."""
    return static_program(ROOT / "examples/rust-hello", "bootstrap")


@pytest.fixture(scope="session")
def static_server():
    """An HTTP server that knows nothing of Lambda, as one static program."""
    return static_program(ROOT / "tests/functions/rust-server", "rust-server")


@pytest.fixture(scope="session")
def static_lab():
    """The Rust function that draws random numbers, takes memory or exits, as one static program."""
    return static_program(ROOT / "tests/functions/rust-lab", "rust-lab")


def static_program(folder, name):
    target, built = f"{platform.machine()}-unknown-linux-gnu", ROOT / ".cache/examples"
    subprocess.run(
        ["cargo", "build", "--release", "--locked", "--quiet", "--target", target, "--target-dir", str(built)],
        cwd=folder,
        env={**os.environ, "RUSTFLAGS": "-C target-feature=+crt-static"},
        check=True,
        timeout=600,
    )
    return built / target / "release" / name
