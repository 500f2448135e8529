"""A Rust developer deploys and invokes with cargo-lambda."""

import json

from harness.clients import run
from harness.server import ROLE, ROOT, settle


def test_cargo_lambda_deploys_updates_and_invokes(tool, client_environment, lambda_client, static_echo, name):
    def cargo_lambda(command, *arguments):
        base = [tool("cargo-lambda"), "lambda", command, "--endpoint-url", client_environment["AWS_ENDPOINT_URL"]]
        return run([*base, *arguments], client_environment, cwd=ROOT / "examples/rust-hello")

    deploy = ["--binary-path", static_echo, "--role", ROLE, "--memory", "192", "--output-format", "json", name]
    cargo_lambda("deploy", *deploy)
    assert settle(lambda_client, name)["MemorySize"] == 192
    answer = cargo_lambda("invoke", "--remote", "--data-ascii", '{"name": "Ada"}', "--output-format", "json", name)
    assert "Ada" in json.dumps(json.loads(answer.stdout))

    before = settle(lambda_client, name)["RevisionId"]
    cargo_lambda("deploy", "--env-var", "MOOD=good", *deploy)
    config = settle(lambda_client, name)
    assert config["RevisionId"] != before
    assert config["Environment"]["Variables"]["MOOD"] == "good"
    cargo_lambda("invoke", "--remote", "--data-ascii", '{"name": "Bob"}', name)
