"""The same life with the AWS SDK for Rust, of a function in Node; and an event that it hands over."""

import pytest

from harness import archives
from harness.clients import RUST_SDK_TIMEOUT, run
from harness.wait import wait_for

pytestmark = pytest.mark.timeout(RUST_SDK_TIMEOUT)


def test_the_rust_sdk_brings_a_function_from_create_to_delete(rust_sdk, client_environment, tmp_path, name, node):
    (tmp_path / "code.zip").write_bytes(archives.function("node-echo"))
    new = archives.pack({"index.mjs": "export const handler = async () => 'new';\n"})
    (tmp_path / "new.zip").write_bytes(new)
    run([rust_sdk, "life", tmp_path / "code.zip", tmp_path / "new.zip", name, node], client_environment)


def test_an_event_of_the_rust_sdk_runs_under_the_id_that_it_got(rust_sdk, shared, lambda_client, client_environment, name, node):
    shared.create(lambda_client, name, archives.function("node-echo"), node, "index.handler")
    event = run([rust_sdk, "event", name], client_environment).stdout.strip()
    wait_for(lambda: f"END RequestId: {event}" in shared.command("logs", name).stdout, f"event {event} runs")
