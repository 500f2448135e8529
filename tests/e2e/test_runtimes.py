"""Every runtime that this machine has runs a function, and one that it lacks says what to do."""

import json

import pytest

from harness import archives
from harness.server import BINARY, hearth, invoke


def ready_names():
    """At collection: each ready runtime becomes a test of its own."""
    if not BINARY.exists():
        return []
    listed = hearth("runtime", "list", "--json")
    return [r["name"] for r in json.loads(listed.stdout or "[]") if r["state"] == "ready"]


@pytest.mark.parametrize("runtime", [name for name in ready_names() if name.startswith("python")])
def test_python_runs(runtime, shared, lambda_client, name):
    code = "import sys\ndef handler(event, context):\n    return [event, '%d.%d' % sys.version_info[:2]]\n"
    shared.create(lambda_client, name, archives.pack({"app.py": code}), runtime)
    assert invoke(lambda_client, name, {"a": 1})[0] == [{"a": 1}, runtime.removeprefix("python")]


@pytest.mark.parametrize("runtime", [name for name in ready_names() if name.startswith("nodejs")])
def test_node_runs(runtime, shared, lambda_client, name):
    shared.create(lambda_client, name, archives.function("node-echo"), runtime, "index.handler", MemorySize=256)
    value, answer = invoke(lambda_client, name, {"a": 1})
    assert value["event"] == {"a": 1}
    assert value["node"].startswith("v" + runtime.removeprefix("nodejs").removesuffix(".x") + ".")
    assert value["request_id"] == answer["ResponseMetadata"]["RequestId"]


def test_node_runs_commonjs_and_callbacks(shared, lambda_client, name, node):
    code = "exports.handler = (event, context, callback) => setTimeout(() => callback(null, [event, 'late']), 5);\n"
    shared.create(lambda_client, name, archives.pack({"lib/fn.js": code}), node, "lib/fn.handler", MemorySize=256)
    assert invoke(lambda_client, name, {"a": 1})[0] == [{"a": 1}, "late"]


@pytest.mark.parametrize("runtime", ["provided.al2023", "provided.al2"])
def test_a_static_rust_program_runs(runtime, shared, lambda_client, name, static_echo):
    archive = archives.pack({"bootstrap": static_echo.read_bytes()})
    shared.create(lambda_client, name, archive, runtime, "any.handler")
    value, answer = invoke(lambda_client, name, {"name": "Ada"})
    assert "FunctionError" not in answer and "Ada" in json.dumps(value)


def test_a_shell_script_is_a_runtime_too(shared, lambda_client, name):
    shared.create(lambda_client, name, archives.function("shell-echo"), "provided.al2023", "any")
    for event in [{"a": 1}, [], "x"]:
        assert invoke(lambda_client, name, event)[0] == {"shell": event}


def test_a_python_package_beside_the_code_can_be_imported(shared, lambda_client, name, python):
    files = {"pkg/__init__.py": "WORD = 'found'\n", "src/app.py": "import pkg\nhandler = lambda e, c: pkg.WORD\n"}
    shared.create(lambda_client, name, archives.pack(files), python, "src/app.handler")
    assert invoke(lambda_client, name)[0] == "found"


def test_a_runtime_that_is_absent_makes_the_function_fail_and_says_what_adds_it(
    shared, lambda_client, name, runtimes
):
    absent = [r["name"] for r in runtimes if r["state"] == "no_interpreter"]
    runtime = next(iter(r for r in ["nodejs18.x", "nodejs22.x", "python3.14", *absent] if r in absent), None)
    if runtime is None:
        pytest.skip("this machine has every runtime")
    config = shared.create(lambda_client, name, archives.function("python-echo"), runtime)
    assert config["State"] == "Failed"
    assert runtime in config["StateReason"]
    assert "hearth runtime" in config["StateReason"] or "install" in config["StateReason"].lower()
    # A caller who comes all the same is told, and nothing is started.
    with pytest.raises(lambda_client.exceptions.ClientError) as refused:
        lambda_client.invoke(FunctionName=name)
    assert refused.value.response["ResponseMetadata"]["HTTPStatusCode"] in (400, 409, 502)
