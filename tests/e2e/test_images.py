"""Container images become functions: pushed, deployed from files, configured, and run with nothing of the machine's own."""

import json
import os
import subprocess
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from harness import images
from harness.clients import run, tail
from harness.server import ACCOUNT, ROLE, invoke, settle
from harness.wait import wait_for


@pytest.fixture(scope="module")
def shared(containers):
    return containers


@pytest.fixture(scope="module")
def lambda_client(shared):
    return shared.client()


@pytest.fixture
def pushed(shared, static_echo, tmp_path, name):
    """An image of the static Rust program in the registry inside, put there by skopeo: its name without a tag."""
    images.of_program(static_echo).write_layout(tmp_path / "layout")
    repository = f"{shared.endpoint.removeprefix('http://')}/{ACCOUNT}/{name.lower()}"
    skopeo(f"oci:{tmp_path / 'layout'}:latest", f"docker://{repository}:v1")
    return repository


def skopeo(source, target, *options):
    tls = ["--dest-tls-verify=false"] if target.startswith("docker:") else []
    tls += ["--src-tls-verify=false"] if source.startswith("docker:") else []
    run(["skopeo", "copy", "--insecure-policy", *tls, *options, source, target], None)


def get(shared, path, method="GET", headers=None, data=None):
    request = urllib.request.Request(shared.endpoint + path, method=method, headers=headers or {}, data=data)
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.status, dict(answer.headers), answer.read()
    except urllib.error.HTTPError as error:
        return error.code, dict(error.headers), error.read()


def test_a_pushed_image_runs_and_is_recorded_by_digest(shared, lambda_client, pushed, name):
    created = lambda_client.create_function(
        FunctionName=name, PackageType="Image", Code={"ImageUri": f"{pushed}:v1"}, Role=ROLE, MemorySize=192
    )
    assert created["PackageType"] == "Image" and created["CodeSize"] == 0
    assert "Runtime" not in created and "Handler" not in created
    settle(lambda_client, name)
    value, answer = invoke(lambda_client, name, {"name": "Ada"})
    assert answer.get("FunctionError") is None and value["message"] == "Hello, Ada, from Rust!"

    found = lambda_client.get_function(FunctionName=name)
    sha = found["Configuration"]["CodeSha256"]
    assert found["Code"] == {
        "RepositoryType": "ECR",
        "ImageUri": f"{pushed}:v1",
        "ResolvedImageUri": f"{pushed}@sha256:{sha}",
    }
    version = lambda_client.publish_version(FunctionName=name, CodeSha256=sha)
    assert version["CodeSha256"] == sha and version["PackageType"] == "Image"
    # The tag moves on; what was recorded does not.
    status, _, _ = get(shared, f"/v2/{pushed.split('/', 1)[1]}/manifests/v1", "DELETE")
    assert status == 202
    value, _ = invoke(lambda_client, name, {"name": "Bob"}, Qualifier="1")
    assert value["message"] == "Hello, Bob, from Rust!"


def test_an_images_configuration_is_changed_and_given_back(shared, lambda_client, pushed, name):
    lambda_client.create_function(
        FunctionName=name, PackageType="Image", Code={"ImageUri": f"{pushed}:v1"}, Role=ROLE,
        ImageConfig={"EntryPoint": ["/nothing"], "Command": ["a", "b"], "WorkingDirectory": "/"},
    )  # fmt: skip
    config = settle(lambda_client, name)
    expected = {"EntryPoint": ["/nothing"], "Command": ["a", "b"], "WorkingDirectory": "/"}
    assert config["ImageConfigResponse"] == {"ImageConfig": expected}
    value, answer = invoke(lambda_client, name)
    assert answer["FunctionError"] == "Unhandled" and "/nothing" in value["errorMessage"], value
    lambda_client.update_function_configuration(FunctionName=name, ImageConfig={"WorkingDirectory": "/"})
    assert settle(lambda_client, name)["ImageConfigResponse"] == {"ImageConfig": {"WorkingDirectory": "/"}}
    value, _ = invoke(lambda_client, name, {"name": "Ada"})
    assert value["message"] == "Hello, Ada, from Rust!"


def test_what_does_not_go_together_is_refused_in_words(lambda_client, pushed, name, python):
    def refused(text, call, **members):
        with pytest.raises(lambda_client.exceptions.InvalidParameterValueException) as error:
            call(FunctionName=name, **members)
        assert text in str(error.value)

    create = lambda_client.create_function
    image = {"PackageType": "Image", "Role": ROLE}
    refused("Runtime", create, Runtime=python, Handler="x", Code={"ImageUri": f"{pushed}:v1"}, **image)
    refused("does not exist", create, Code={"ImageUri": f"{pushed}:nothing"}, **image)
    refused("is not valid", create, Code={"ImageUri": "Not a reference"}, **image)
    refused("ZipFile", create, Code={"ZipFile": b"x"}, **image)
    create(FunctionName=name, Code={"ImageUri": f"{pushed}:v1"}, **image)
    settle(lambda_client, name)
    refused("ZipFile", lambda_client.update_function_code, ZipFile=b"x")
    refused("Runtime", lambda_client.update_function_configuration, Runtime=python)


def test_an_image_of_another_machine_is_refused_by_name(shared, lambda_client, static_echo, tmp_path, name):
    image = images.Image([images.layer({"bootstrap": "x"})], {"Cmd": ["/bootstrap"]}, architecture="riscv64")
    layout = image.write_layout(tmp_path / "layout")
    deployed = shared.command("deploy", f"oci:{layout}", "--name", name)
    assert deployed.returncode != 0 and "linux/riscv64" in deployed.stderr and "build it for that" in deployed.stderr


def test_a_python_image_with_awss_client_runs_as_on_lambda(shared, lambda_client, python, runtimes, tmp_path, name):
    interpreter = next(r["interpreter"] for r in runtimes if r["name"] == python)
    client = next(runtimes_home().glob(f"{python}-*"))
    app = """
import os
def handler(event, context):
    def can_write(path):
        try:
            open(path, "w").close()
            return True
        except OSError:
            return False
    return {"event": event, "name": context.function_name, "root": sorted(os.listdir("/")), "cwd": os.getcwd(),
            "uid": os.getuid(), "handler": os.environ["_HANDLER"], "image": os.environ["FROM_IMAGE"],
            "mine": os.environ.get("MINE"), "root_writable": can_write("/function/x"), "tmp": can_write("/tmp/x")}
"""
    layout = images.of_python(interpreter, client, app).write_layout(tmp_path / "layout")
    deployed = shared.command("deploy", f"oci:{layout}", "--name", name, "--memory", "256", "--timeout", "20", "--env", "MINE=1")
    assert deployed.returncode == 0, deployed.stderr
    value, answer = invoke(lambda_client, name, {"a": 1})
    assert answer.get("FunctionError") is None, (value, tail(answer))
    assert value["event"] == {"a": 1} and value["name"] == name and value["handler"] == "app.handler"
    assert (value["cwd"], value["image"], value["mine"]) == ("/function", "yes", "1")
    assert (value["root_writable"], value["tmp"]) == (False, True)
    assert value["uid"] == 993, "Lambda ignores an image's USER"
    assert not {"boot", "home", "srv", "var", "work"} & set(value["root"]), "nothing of the machine's own is there"


def runtimes_home():
    return Path(os.environ.get("HEARTH_RUNTIMES", "/var/lib/hearth/runtimes"))


def test_what_docker_save_and_skopeo_write_is_deployed_from_the_file(shared, lambda_client, static_echo, tmp_path, name):
    layout = images.of_program(static_echo).write_layout(tmp_path / "layout")
    for kind in ["docker-archive", "oci-archive"]:
        file = tmp_path / f"{kind}.tar"
        tag = ":app:v1" if kind == "docker-archive" else ":v1"
        skopeo(f"oci:{layout}:latest", f"{kind}:{file}{tag}")
        deployed = shared.command("deploy", str(file), "--name", name)
        assert deployed.returncode == 0, deployed.stderr
        value, _ = invoke(lambda_client, name, {"name": kind})
        assert value["message"] == f"Hello, {kind}, from Rust!"
    packed = tmp_path / "saved.tar.gz"
    with open(packed, "wb") as out:
        subprocess.run(["gzip", "-c", tmp_path / "docker-archive.tar"], stdout=out, check=True)
    deployed = shared.command("deploy", str(packed), "--name", name)
    assert deployed.returncode == 0, deployed.stderr
    deployed = shared.command("deploy", "./nothing.tar", "--name", name)
    assert deployed.returncode != 0 and "nothing.tar" in deployed.stderr


def test_umoci_and_the_layers_here_agree(own, static_echo, tmp_path):
    server = own("--isolation", "container")
    files = {"a/file": "x" * 100_000, "bin/tool": "#!/bin/sh\n", "bootstrap": static_echo}
    upper = {"a/.wh.gone": "", "b/.wh..wh..opq": "", "b/new": "n"}
    image = images.Image([images.layer({**files, "a/gone": "", "b/old": ""}), images.layer(upper)], {"Cmd": ["/bootstrap"]})
    layout = image.write_layout(tmp_path / "layout")
    assert server.command("deploy", f"oci:{layout}", "--name", "agree").returncode == 0
    run(["umoci", "unpack", "--image", f"{layout}:latest", tmp_path / "bundle"], None)
    layers = [str(server.data / "images/layers" / d.removeprefix("sha256:")) for d in json.loads(image.config)["rootfs"]["diff_ids"]]
    merged = tmp_path / "merged"
    merged.mkdir()
    mount = f"mount -t overlay overlay -o lowerdir={layers[1]}:{layers[0]} {merged}"
    run(["unshare", "-m", "sh", "-c", f"{mount} && diff -r {merged} {tmp_path / 'bundle/rootfs'}"], None)
