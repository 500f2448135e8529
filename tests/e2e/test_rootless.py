"""A server that is not root, as far as the kernel lets it: functions run, with less around them, and it says so."""

import os
import shutil
import tempfile
from pathlib import Path

import pytest

from harness import archives
from harness.server import BINARY, invoke

NOBODY = 65534
BOOTSTRAP = """#!/bin/sh
api=http://$AWS_LAMBDA_RUNTIME_API/2018-06-01/runtime/invocation
while true; do
  head=$(mktemp)
  curl -sS -D "$head" "$api/next" >/dev/null
  id=$(grep -i request-id "$head" | tr -d "\\r" | cut -d" " -f2)
  caps=$(grep CapEff /proc/self/status | cut -f2)
  curl -sS -d "{\\"caps\\":\\"$caps\\"}" "$api/$id/response" >/dev/null
done
"""


@pytest.fixture
def home():
    """A folder that an ordinary user can reach and write."""
    path = Path(tempfile.mkdtemp(prefix="e2e-rootless-", dir="/tmp"))
    shutil.copy(BINARY, path / "hearth")
    os.chown(path, NOBODY, NOBODY)
    yield path
    shutil.rmtree(path)


def test_an_ordinary_user_runs_functions_without_root(own, home):
    limit = Path("/proc/sys/user/max_user_namespaces")
    if limit.exists() and limit.read_text().strip() == "0":
        pytest.skip("this kernel gives ordinary users no user namespaces")
    become = f'shift; exec setpriv --reuid {NOBODY} --regid {NOBODY} --clear-groups {home}/hearth "$@"'
    server = own(
        prefix=["sh", "-c", become, "sh"],
        data=home / "data",
        environment={"HOME": str(home), "TMPDIR": str(home)},
    )
    client = server.client()
    server.create(client, "rootless", archives.pack({"bootstrap": BOOTSTRAP}), "provided.al2023", "bootstrap")
    value, _ = invoke(client, "rootless")
    assert value == {"caps": "0000000000000000"}
    log = server.log_path.read_text()
    assert "no scratch disks" in log, "what it does without is said"
