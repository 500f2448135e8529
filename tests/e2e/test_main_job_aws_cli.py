"""The same life with the AWS CLI: what a shell script does."""

import json

from harness import archives
from harness.clients import run
from harness.server import ROLE


def test_the_aws_cli_brings_a_function_from_create_to_delete(tool, client_environment, tmp_path, name, python):
    (tmp_path / "code.zip").write_bytes(archives.function("python-echo"))
    (tmp_path / "new.zip").write_bytes(archives.pack({"app.py": "def handler(event, context):\n    return 'new'\n"}))

    def aws(*arguments, **options):
        return run([tool("aws"), "lambda", *arguments], client_environment, cwd=tmp_path, **options)

    created = aws(
        "create-function", "--function-name", name, "--runtime", python, "--handler", "app.handler", "--role", ROLE,
        "--zip-file", "fileb://code.zip", "--memory-size", "256", "--tags", "made-by=cli",
    )  # fmt: skip
    assert json.loads(created.stdout)["MemorySize"] == 256
    aws("wait", "function-active-v2", "--function-name", name)

    def call(payload):
        # Version 1 of the CLI takes the payload as it is.
        done = aws("invoke", "--function-name", name, "--payload", payload, "out.json")
        assert json.loads(done.stdout)["StatusCode"] == 200
        return json.loads((tmp_path / "out.json").read_text())

    assert call('{"from": "cli"}')["event"] == {"from": "cli"}
    aws("update-function-code", "--function-name", name, "--zip-file", "fileb://new.zip")
    aws("wait", "function-updated-v2", "--function-name", name)
    assert call("{}") == "new"

    listed = json.loads(aws("list-functions").stdout)["Functions"]
    assert name in [function["FunctionName"] for function in listed]
    arn = next(f["FunctionArn"] for f in listed if f["FunctionName"] == name)
    assert json.loads(aws("list-tags", "--resource", arn).stdout) == {"Tags": {"made-by": "cli"}}

    aws("delete-function", "--function-name", name)
    gone = aws("get-function", "--function-name", name, check=False)
    assert gone.returncode != 0 and "(ResourceNotFoundException)" in gone.stderr
