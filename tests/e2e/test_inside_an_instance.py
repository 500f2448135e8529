"""What a function sees around it is what Lambda promises."""

import os

from harness import archives
from harness.remains import descendants
from harness.server import ACCOUNT, invoke


def test_the_environment_is_lambdas(shared, lambda_client, name, python):
    shared.create(
        lambda_client,
        name,
        archives.function("python-lab"),
        python,
        MemorySize=192,
        Timeout=30,
        variables={"MINE": "ü =x", "EMPTY": ""},
    )
    env = invoke(lambda_client, name, {"code": "import os; result = dict(os.environ)"})[0]
    expected = {
        "AWS_LAMBDA_FUNCTION_NAME": name,
        "AWS_LAMBDA_FUNCTION_VERSION": "$LATEST",
        "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "192",
        "AWS_LAMBDA_LOG_GROUP_NAME": f"/aws/lambda/{name}",
        "AWS_LAMBDA_INITIALIZATION_TYPE": "on-demand",
        "AWS_REGION": "us-east-1",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EXECUTION_ENV": f"AWS_Lambda_{python}",
        "AWS_XRAY_CONTEXT_MISSING": "LOG_ERROR",
        "AWS_XRAY_DAEMON_ADDRESS": "127.0.0.1:2000",
        "LAMBDA_TASK_ROOT": "/var/task",
        "LAMBDA_RUNTIME_DIR": "/var/runtime",
        "_HANDLER": "app.handler",
        "TZ": ":UTC",
        "MINE": "ü =x",
        "EMPTY": "",
    }
    assert {key: env.get(key) for key in expected} == expected
    assert env["AWS_LAMBDA_RUNTIME_API"].startswith("127.0.0.1:")
    assert env["AWS_LAMBDA_LOG_STREAM_NAME"]
    assert "/var/lang/bin" in env["PATH"].split(":") and "/opt/bin" in env["PATH"].split(":")
    assert "LANG" in env and "LD_LIBRARY_PATH" in env
    assert "AWS_LAMBDA_MAX_CONCURRENCY" not in env


def test_the_context_tells_about_the_request(lab):
    value = lab(
        """
        result = {
            "name": context.function_name, "version": context.function_version, "memory": context.memory_limit_in_mb,
            "arn": context.invoked_function_arn, "remaining": context.get_remaining_time_in_millis(),
            "id": context.aws_request_id, "group": context.log_group_name,
        }
        """
    )
    assert value["name"] == lab.name and value["version"] == "$LATEST" and value["memory"] == "256"
    assert value["arn"] == f"arn:aws:lambda:us-east-1:{ACCOUNT}:function:{lab.name}"
    assert 18_000 < value["remaining"] <= 20_000
    assert len(value["id"]) == 36


def test_the_process_is_an_ordinary_user_without_any_privilege(lab):
    status = lab("result = dict(l.rstrip('\\n').split(':\\t', 1) for l in open('/proc/self/status') if ':\\t' in l)")
    for field in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"]:
        assert int(status[field], 16) == 0, (field, status[field])
    assert status["NoNewPrivs"] == "1" and status["Seccomp"] == "2"
    assert 0 not in lab("import os; result = [os.getuid(), os.geteuid(), os.getgid(), os.getegid(), *os.getgroups()]")


def test_the_host_sees_it_as_a_user_of_its_own_range(shared, lab):
    """Root outside is nobody inside, and no two instances are the same user."""
    inside, outside, count = (int(n) for n in lab("result = open('/proc/self/uid_map').read().split()[:3]"))
    assert outside != 0 and inside + count <= 1 << 20
    users = set()
    for pid in descendants(shared.pid):
        try:
            with open(f"/proc/{pid}/environ", "rb") as environ:
                if f"AWS_LAMBDA_FUNCTION_NAME={lab.name}".encode() in environ.read():
                    users.add(os.stat(f"/proc/{pid}").st_uid)
        except OSError:
            pass
    assert len(users) == 1 and outside <= users.pop() < outside + count


def test_namespaces_are_all_its_own(lab):
    kinds = ["user", "mnt", "pid", "net", "ipc", "uts", "cgroup"]
    inside = lab(f"import os; result = {{k: os.readlink('/proc/self/ns/' + k) for k in {kinds!r}}}")
    for kind in kinds:
        assert inside[kind] != os.readlink(f"/proc/self/ns/{kind}"), kind


def test_the_code_is_read_only_and_where_it_belongs(lab):
    assert lab("import os; result = [os.getcwd(), os.listdir('/var/task'), os.access('/var/task', os.W_OK)]") == [
        "/var/task",
        ["app.py"],
        False,
    ]
    flags = lab("result = {l.split()[4]: l.split()[5] for l in open('/proc/self/mountinfo')}")
    assert "ro" in flags["/var/task"].split(",")


def test_tmp_is_writable_empty_and_as_large_as_configured(shared, lambda_client, name, python):
    shared.create(
        lambda_client, name, archives.function("python-lab"), python, EphemeralStorage={"Size": 700}, MemorySize=256
    )
    code = """
import os
v = os.statvfs('/tmp')
open('/tmp/x', 'w').write('y' * 100)
os.chmod('/tmp/x', 0o755)
result = [sorted(os.listdir('/tmp')), v.f_blocks * v.f_frsize >> 20, v.f_bavail * v.f_frsize >> 20]
"""
    listed, size, free = invoke(lambda_client, name, {"code": code})[0]
    assert listed == ["x"] and 640 <= free <= size <= 760, (size, free)


def test_names_resolve_as_they_do_on_lambda(lab):
    assert lab("import socket; result = socket.gethostbyname('localhost')") == "127.0.0.1"
    assert lab("import socket; result = bool(socket.getaddrinfo('sandbox.localdomain', 80))")


def test_the_usual_things_work(lab):
    assert lab("import subprocess; result = subprocess.run(['/bin/sh', '-c', 'echo $((6*7))'], capture_output=True, text=True).stdout") == "42\n"  # fmt: skip
    assert lab("import threading\nt = [threading.Thread(target=lambda: 1) for _ in range(50)]\n[x.start() for x in t]\n[x.join() for x in t]\nresult = 1") == 1  # fmt: skip
    assert lab("import tempfile, mmap\nwith tempfile.TemporaryFile() as f:\n    f.truncate(4096)\n    m = mmap.mmap(f.fileno(), 4096)\n    m[:2] = b'ok'\n    result = m[:2].decode()") == "ok"  # fmt: skip
    assert lab("import multiprocessing as m\nctx = m.get_context('fork')\na, b = ctx.Pipe()\np = ctx.Process(target=lambda: b.send(5))\np.start()\nresult = a.recv()\np.join()") == 5  # fmt: skip
    assert lab("import os; result = len(os.urandom(16))") == 16
    assert lab("import time; result = time.time() > 1.7e9 and time.monotonic() > 0")
    assert lab("import uuid, hashlib, ssl, sqlite3, json; result = 'imported'") == "imported"
    assert lab("import os; result = os.cpu_count() >= 1 and len(os.sched_getaffinity(0)) >= 1")
