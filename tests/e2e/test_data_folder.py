"""The data folder: one hearth at a time, what was accepted stays, and a damaged or full disk is said, not hidden."""

import hashlib
import os
import signal
import subprocess
import sys

import pytest

from harness import archives
from harness.server import BINARY, invoke


def files_of(folder):
    """Every file below a folder with the digest of its content."""
    return {
        os.path.join(root, name): hashlib.sha256(open(os.path.join(root, name), "rb").read()).hexdigest()
        for root, _, names in os.walk(folder)
        for name in names
        if os.path.isfile(os.path.join(root, name))
    }


def start_and_fail(*arguments, timeout=20):
    done = subprocess.run(
        [str(BINARY), "dev", *arguments], capture_output=True, text=True, timeout=timeout, stdin=subprocess.DEVNULL
    )
    assert done.returncode not in (0, None, 101, -6), done.stderr
    assert "panicked" not in done.stderr and "hearth is ready" not in done.stdout
    return done.stderr


def test_functions_outlive_the_server(own, python):
    with own() as first:
        client = first.client()
        first.create(client, "kept", archives.function("python-echo"), python, Tags={"a": "b"}, Timeout=9)
        before = client.get_function(FunctionName="kept")
    assert first.process.returncode == 0
    second = own()
    client = second.client()
    after = client.get_function(FunctionName="kept")
    assert after["Configuration"] == before["Configuration"] and after["Tags"] == {"a": "b"}
    assert invoke(client, "kept", {"x": 1})[0]["event"] == {"x": 1}


def test_a_throw_away_server_keeps_nothing(tmp_path, python):
    from harness.server import Hearth

    scratch = tmp_path / "tmp"
    scratch.mkdir()
    with Hearth(tmp_path, environment={"TMPDIR": str(scratch)}) as server:
        server.ready()
        server.create(server.client(), "gone", archives.function("python-echo"), python)
        assert invoke(server.client(), "gone")[0]["served"] == 1
        assert len(os.listdir(scratch)) == 1
    assert os.listdir(scratch) == []


def test_a_second_hearth_on_the_same_folder_says_so_and_leaves_the_first_alone(own, python):
    server = own()
    client = server.client()
    server.create(client, "mine", archives.function("python-echo"), python)
    said = start_and_fail("--listen", "127.0.0.1:0", "--data", str(server.data))
    assert str(server.data) in said and "in use" in said and str(server.pid) in said
    assert invoke(client, "mine")[0]["served"] == 1
    assert invoke(client, "mine")[0]["served"] == 2


def test_a_second_hearth_on_the_same_port_says_so_and_leaves_the_first_alone(own, tmp_path, python):
    server = own()
    client = server.client()
    server.create(client, "mine", archives.function("python-echo"), python)
    port = server.address[1]
    said = start_and_fail("--listen", f"127.0.0.1:{port}", "--data", str(tmp_path / "other"))
    assert str(port) in said and "--listen" in said
    assert invoke(client, "mine")[0]["served"] == 1


@pytest.mark.parametrize("damage", ["overwritten", "cut", "text", "empty", "missing", "flipped"])
def test_a_damaged_database_is_said_and_never_becomes_an_empty_one(own, damage, python):
    with own() as server:
        client = server.client()
        for n in range(12):
            server.create(client, f"kept-{n}", archives.function("python-echo"), python, wait=n == 11)
    database = server.data / "hearth.db"
    content = database.read_bytes()
    assert len(content) > 8192
    for extra in ["hearth.db-wal", "hearth.db-shm"]:
        (server.data / extra).unlink(missing_ok=True)
    damaged = {
        "overwritten": bytes(4096) + content[4096:],
        "cut": content[: len(content) // 2],
        "text": b"this is no database\n" * 100,
        "empty": b"",
        "missing": None,
        "flipped": content[:4096] + bytes(b ^ 0xFF for b in content[4096:8192]) + content[8192:],
    }[damage]
    database.unlink() if damaged is None else database.write_bytes(damaged)
    before = files_of(server.data)
    said = start_and_fail("--listen", "127.0.0.1:0", "--data", str(server.data))
    assert "hearth.db" in said, said
    after = files_of(server.data)
    changed = {path for path in {*before, *after} if before.get(path) != after.get(path)}
    assert not [path for path in changed if os.path.basename(path).startswith("hearth.db")], changed
    # Put back, all is as it was.
    database.write_bytes(content)
    again = own()
    assert len(again.client().list_functions()["Functions"]) == 12


def test_code_that_was_damaged_on_disk_is_not_run(own, python):
    with own() as server:
        server.create(server.client(), "bad", archives.function("python-echo"), python)
    for root, _, names in os.walk(server.data / "code"):
        for one in names:
            path = os.path.join(root, one)
            content = open(path, "rb").read()
            os.chmod(path, 0o644)
            if one == "app.py":
                os.unlink(path)
            else:
                with open(path, "wb") as file:
                    file.write(content[: len(content) // 2])
    server = own()
    client = server.client()
    try:
        value, answer = invoke(client, "bad")
        assert "FunctionError" in answer
    except client.exceptions.ClientError as error:
        assert error.response["ResponseMetadata"]["HTTPStatusCode"] >= 400
    # The server itself goes on.
    server.create(client, "good", archives.pack({"app.py": "handler = lambda e, c: 'good'\n"}), python)
    assert invoke(client, "good")[0] == "good"


@pytest.mark.parametrize(
    "arguments",
    [
        ["--data", "/proc/hearth"],
        ["--data", "/dev/null"],
        ["--listen", "nowhere"],
        ["--listen", "192.0.2.1:0"],
        ["--isolation", "wishes"],
        ["--account-concurrency", "0"],
        ["--memory", "1"],
        ["--no-such-flag"],
    ],
    ids=lambda a: "-".join(a),
)
def test_settings_that_cannot_be_are_refused_at_once(arguments):
    assert arguments[-1] in start_and_fail(*arguments) or arguments[0] in start_and_fail(*arguments)


MOUNT = """
import os, subprocess, sys
folder, size, *command = sys.argv[1:]
subprocess.run(["mount", "-t", "tmpfs", "-o", "size=" + size, "none", folder], check=True)
os.execvp(command[0], command)
"""


def test_a_full_disk_refuses_new_functions_clearly_and_goes_on_with_the_old_ones(own, tmp_path, python):
    """The folder lies on a small file system in a mount namespace of the server's own."""
    data = tmp_path / "data"
    data.mkdir()
    prefix = ["unshare", "--mount", "--propagation", "private", sys.executable, "-c", MOUNT, str(data), "48m"]
    server = own(data=data, prefix=prefix)
    client = server.client()
    server.create(client, "old", archives.function("python-echo"), python)
    assert invoke(client, "old")[0]["served"] == 1
    ballast = f"/proc/{server.pid}/root{data}/ballast"
    # Without a buffer: what of it was not written would be told when the file is closed.
    with open(ballast, "wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(65536))
        except OSError:
            pass
    big = archives.pack({"app.py": "def handler(e, c): return 1\n", "big": os.urandom(2 << 20)})
    for _ in range(3):
        with pytest.raises(client.exceptions.ClientError) as refused:
            server.create(client, "new", big, python)
        error = refused.value.response
        assert error["ResponseMetadata"]["HTTPStatusCode"] >= 400
        assert "disk" in error["Error"]["Message"].lower() or "full" in error["Error"]["Message"].lower(), error
        assert [invoke(client, "old")[0]["event"] for _ in range(3)] == [{}] * 3
    assert [f["FunctionName"] for f in client.list_functions()["Functions"]] == ["old"]
    os.unlink(ballast)
    server.create(client, "new", big, python)
    assert invoke(client, "new")[0] == 1
    server.process.send_signal(signal.SIGTERM)
    assert server.process.wait(30) == 0
