"""The same life with the AWS SDK for JavaScript, of a function in Node."""

from pathlib import Path

from harness import archives
from harness.clients import run


def test_the_javascript_sdk_brings_a_function_from_create_to_delete(
    tool, client_environment, node_modules, tmp_path, name, node
):
    (tmp_path / "code.zip").write_bytes(archives.function("node-echo"))
    new = archives.pack({"index.mjs": "export const handler = async () => 'new';\n"})
    (tmp_path / "new.zip").write_bytes(new)
    script = Path(__file__).with_name("sdk-life.mjs")
    run(
        [tool("node"), script, node_modules, tmp_path / "code.zip", tmp_path / "new.zip", name, node],
        client_environment,
    )
