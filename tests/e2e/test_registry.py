"""The registry inside, with the clients that people have: Docker, skopeo, buildah, and HTTP by hand."""

import base64
import hashlib
import json
import os
import subprocess

import pytest

from harness import images
from harness.clients import run
from harness.server import ACCOUNT, invoke
from test_images import get, lambda_client, shared, skopeo  # noqa: F401


@pytest.fixture
def repository(name):
    """A repository's name, whose account is the tests'."""
    return f"{ACCOUNT}/{name.lower()}"


def path(shared, repository):
    return f"{shared.endpoint.removeprefix('http://')}/{repository}"


def blob(shared, repository, content):
    """Puts content into a repository in one request."""
    status, _, body = get(shared, f"/v2/{repository}/blobs/uploads/?digest={images.digest(content)}", "POST", data=content)
    assert status == 201, body


def test_docker_builds_pushes_and_pulls_back_the_same_image(shared, lambda_client, static_echo, repository, name, tmp_path):
    context = tmp_path / "context"
    context.mkdir()
    (context / "Dockerfile").write_text('FROM scratch\nCOPY bootstrap /bootstrap\nENTRYPOINT ["/bootstrap"]\n')
    (context / "bootstrap").write_bytes(static_echo.read_bytes())
    (context / "bootstrap").chmod(0o755)
    image = path(shared, repository) + ":docker"
    with images.Docker(tmp_path) as docker:
        docker.run("build", "-t", image, str(context))
        identity = docker.run("inspect", "--format", "{{.Id}}", image)
        docker.run("push", image)
        digests = docker.run("inspect", "--format", "{{json .RepoDigests}}", image)
        docker.run("rmi", image)
        docker.run("pull", image)
        assert docker.run("inspect", "--format", "{{.Id}}", image) == identity
        assert docker.run("inspect", "--format", "{{json .RepoDigests}}", image) == digests
        docker.run("save", "-o", str(tmp_path / "saved.tar"), image)
    deployed = shared.command("deploy", image, "--name", name)
    assert deployed.returncode == 0, deployed.stderr
    value, _ = invoke(lambda_client, name, {"name": "Docker"})
    assert value["message"] == "Hello, Docker, from Rust!"
    deployed = shared.command("deploy", str(tmp_path / "saved.tar"), "--name", name)
    assert deployed.returncode == 0, deployed.stderr


def test_skopeo_and_buildah_take_back_what_they_put(shared, static_echo, repository, tmp_path):
    image = images.of_program(static_echo)
    layout = image.write_layout(tmp_path / "layout")
    for compression in ["gzip", "zstd"]:
        target = f"docker://{path(shared, repository)}:{compression}"
        skopeo(f"oci:{layout}:latest", target, "--dest-compress-format", compression)
        skopeo(target, f"oci:{tmp_path / compression}:back")
        back = json.loads((tmp_path / compression / "index.json").read_text())["manifests"][0]["digest"]
        listed = run(["skopeo", "inspect", "--tls-verify=false", "--raw", target], None).stdout
        assert back == images.digest(listed.encode())
    store = ["--root", str(tmp_path / "store"), "--runroot", str(tmp_path / "run"), "--storage-driver", "vfs"]
    environment = {**os.environ, "HOME": str(tmp_path), "BUILDAH_ISOLATION": "chroot"}

    def buildah(*arguments):
        return run(["buildah", *store, *arguments], environment).stdout.strip()

    container = buildah("from", "scratch")
    buildah("copy", container, str(static_echo), "/bootstrap")
    buildah("config", "--entrypoint", '["/bootstrap"]', container)
    buildah("commit", container, "made")
    buildah("push", "--tls-verify=false", "made", f"docker://{path(shared, repository)}:buildah")
    pulled = buildah("pull", "--tls-verify=false", f"docker://{path(shared, repository)}:buildah")
    assert pulled == buildah("images", "--no-trunc", "-q", "made").splitlines()[0].removeprefix("sha256:")


def test_content_comes_in_pieces_and_goes_out_in_parts(shared, repository):
    content = os.urandom(300_000)
    status, headers, _ = get(shared, f"/v2/{repository}/blobs/uploads/", "POST")
    assert status == 202
    place = headers["location"]
    status, headers, _ = get(shared, place, "PATCH", {"Content-Range": "0-99999"}, content[:100_000])
    assert (status, headers["range"]) == (202, "0-99999")
    status, headers, _ = get(shared, place, "PATCH", {"Content-Range": "5-6"}, content[:2])
    assert (status, headers["range"]) == (416, "0-99999")
    status, headers, _ = get(shared, place)
    assert (status, headers["range"]) == (204, "0-99999")
    assert get(shared, place, "PATCH", data=content[100_000:200_000])[0] == 202
    name = images.digest(content)
    status, headers, _ = get(shared, f"{place}?digest={name}", "PUT", data=content[200_000:])
    assert (status, headers["docker-content-digest"]) == (201, name)
    assert get(shared, place)[0] == 404
    status, headers, body = get(shared, f"/v2/{repository}/blobs/{name}", headers={"Range": "bytes=299990-"})
    assert (status, headers["content-range"], body) == (206, "bytes 299990-299999/300000", content[-10:])
    status, headers, body = get(shared, f"/v2/{repository}/blobs/{name}", "HEAD")
    assert (status, headers["content-length"], body) == (200, "300000", b"")
    # Another repository of the account mounts it; one of another account cannot.
    mount = f"/blobs/uploads/?mount={name}&from={repository}"
    assert get(shared, f"/v2/{repository}-two{mount}", "POST")[0] == 201
    assert get(shared, f"/v2/999999999999/other{mount}", "POST")[0] == 202
    assert get(shared, f"/v2/{repository}/blobs/{name}", "DELETE")[0] == 202
    assert get(shared, f"/v2/{repository}/blobs/{name}")[0] == 404
    assert get(shared, f"/v2/{repository}-two/blobs/{name}")[0] == 200


def test_manifests_that_lie_are_refused_with_the_specifications_codes(shared, repository):
    image = images.of_program("/bin/true")
    for content in image.blobs.values():
        blob(shared, repository, content)

    def put(document, reference="v1", media_type=images.MANIFEST):
        content = document if isinstance(document, bytes) else json.dumps(document).encode()
        status, _, body = get(shared, f"/v2/{repository}/manifests/{reference}", "PUT", {"Content-Type": media_type}, content)
        return status, json.loads(body)["errors"][0]["code"] if status >= 400 else None

    def lie(**more):
        document = json.loads(image.manifest)
        document["layers"][0].update(more)
        return document

    assert put(b"{") == (400, "MANIFEST_INVALID")
    assert put(b"[]") == (400, "MANIFEST_INVALID")
    assert put(lie(digest="sha256:" + "0" * 64)) == (404, "MANIFEST_BLOB_UNKNOWN")
    assert put(lie(size=1)) == (404, "MANIFEST_BLOB_UNKNOWN")
    assert put(lie(digest="sha512:00")) == (400, "MANIFEST_INVALID")
    assert put(image.document, media_type=images.INDEX) == (400, "MANIFEST_INVALID")
    assert put({**image.document, "manifests": []}) == (400, "MANIFEST_INVALID")
    assert put(image.document, reference="sha256:" + "0" * 64) == (400, "DIGEST_INVALID")
    assert put(image.document, reference="-bad-tag") == (400, "MANIFEST_INVALID")
    assert put(b" " * (5 << 20)) == (413, "SIZE_INVALID")
    assert put(image.manifest) == (201, None)
    status, _, body = get(shared, f"/v2/{repository}/blobs/uploads/?digest=sha256:{'0' * 64}", "POST", data=b"x")
    assert (status, json.loads(body)["errors"][0]["code"]) == (400, "DIGEST_INVALID")
    status, _, body = get(shared, "/v2/UPPER/case/tags/list")
    assert (status, json.loads(body)["errors"][0]["code"]) == (400, "NAME_INVALID")


def test_tags_come_in_pages_and_referrers_by_kind(shared, repository):
    image = images.of_program("/bin/true")
    for content in image.blobs.values():
        blob(shared, repository, content)
    kind = {"Content-Type": images.MANIFEST}
    for tag in ["a", "b", "c"]:
        assert get(shared, f"/v2/{repository}/manifests/{tag}", "PUT", kind, image.manifest)[0] == 201
    status, headers, body = get(shared, f"/v2/{repository}/tags/list?n=2")
    assert json.loads(body) == {"name": repository, "tags": ["a", "b"]}
    following = headers["link"].split(">")[0].lstrip("<")
    assert json.loads(get(shared, following)[2])["tags"] == ["c"]

    signature = {
        "schemaVersion": 2, "mediaType": images.MANIFEST, "artifactType": "application/vnd.test.signature",
        "config": image.document["config"], "layers": [], "annotations": {"by": "test"},
        "subject": images.descriptor(images.MANIFEST, image.manifest),
    }  # fmt: skip
    content = json.dumps(signature).encode()
    status, headers, _ = get(shared, f"/v2/{repository}/manifests/{images.digest(content)}", "PUT", kind, content)
    assert (status, headers["oci-subject"]) == (201, image.digest)
    listed = json.loads(get(shared, f"/v2/{repository}/referrers/{image.digest}")[2])["manifests"]
    assert [(d["digest"], d["artifactType"], d["annotations"]) for d in listed] == [
        (images.digest(content), "application/vnd.test.signature", {"by": "test"})
    ]
    status, headers, body = get(shared, f"/v2/{repository}/referrers/{image.digest}?artifactType=other")
    assert json.loads(body)["manifests"] == [] and headers["oci-filters-applied"] == "artifactType"
    assert get(shared, f"/v2/{repository}/manifests/{image.digest}", "DELETE")[0] == 202
    assert json.loads(get(shared, f"/v2/{repository}/tags/list")[2])["tags"] == []


def test_accounts_do_not_see_each_others_images(shared, repository, static_echo, name, tmp_path):
    layout = images.of_program(static_echo).write_layout(tmp_path / "layout")
    skopeo(f"oci:{layout}:latest", f"docker://{path(shared, repository)}:v1")
    mine, other = (
        {"Authorization": "Basic " + base64.b64encode(f"{account}:x".encode()).decode()}
        for account in [ACCOUNT, "999999999999"]
    )
    assert get(shared, f"/v2/{name.lower()}/tags/list", headers=mine)[0] == 200
    assert get(shared, f"/v2/{repository}/tags/list", headers=mine)[0] == 200
    assert get(shared, f"/v2/{name.lower()}/tags/list", headers=other)[0] == 404
    assert get(shared, f"/v2/{repository}/tags/list", headers=other)[0] == 403
    assert repository.split("/")[1] not in json.loads(get(shared, "/v2/_catalog", headers=other)[2])["repositories"]
    deployed = shared.command("deploy", f"{path(shared, repository)}:v1", "--name", name, "--account", "999999999999")
    assert deployed.returncode != 0 and "does not exist" in deployed.stderr


def test_a_kill_loses_no_image_that_was_pushed(own, static_echo, tmp_path):
    server = own("--isolation", "container")
    layout = images.of_program(static_echo).write_layout(tmp_path / "layout")
    assert server.command("deploy", f"oci:{layout}", "--name", "kept").returncode == 0
    get(server, f"/v2/{ACCOUNT}/half/blobs/uploads/", "POST")
    server.kill()
    again = own("--isolation", "container")
    assert not list((again.data / "images/tmp").iterdir())
    done = again.command("invoke", "kept", '{"name": "again"}')
    assert done.returncode == 0 and "Hello, again" in done.stdout, done.stderr
    stored = [p for p in (again.data / "images/blobs").iterdir()]
    assert all(hashlib.sha256(p.read_bytes()).hexdigest() == p.name for p in stored) and len(stored) == 3
