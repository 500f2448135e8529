"""Container images, made here: good ones from programs of this machine, and ones that lie."""

import gzip
import hashlib
import io
import json
import os
import platform
import re
import shutil
import subprocess
import tarfile
import time
from pathlib import Path

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"
ARCHITECTURE = {"x86_64": "amd64", "aarch64": "arm64"}[platform.machine()]


def digest(content):
    return "sha256:" + hashlib.sha256(content).hexdigest()


def descriptor(media_type, content, **more):
    return {"mediaType": media_type, "digest": digest(content), "size": len(content), **more}


def layer(files=(), trees=()):
    """A tar archive of `files`, names to texts, bytes or paths, and of `trees`, names to directories."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for name, content in dict(files).items():
            if isinstance(content, Path):
                archive.add(content.resolve(), name, filter=plain)
                continue
            info = tarfile.TarInfo(name)
            data = content.encode() if isinstance(content, str) else content
            info.size, info.mode = len(data), 0o755
            archive.addfile(info, io.BytesIO(data))
        for name, directory in dict(trees).items():
            archive.add(directory, name, filter=plain)
    return buffer.getvalue()


def plain(info):
    if "__pycache__" in info.name or re.search(r"/(config-[^/]*|site-packages|test|tests|idlelib|ensurepip|tkinter|turtledemo)(/|$)", info.name):
        return None
    info.uid = info.gid = 0
    info.uname = info.gname = "root"
    return info


class Image:
    """An image in memory: its blobs by digest, and its manifest."""

    def __init__(self, layers, config=None, compress=lambda data: gzip.compress(data, 1), architecture=ARCHITECTURE):
        packed = [compress(archive) for archive in layers]
        document = {
            "os": "linux",
            "architecture": architecture,
            "config": config or {},
            "rootfs": {"type": "layers", "diff_ids": [digest(archive) for archive in layers]},
        }
        self.config = json.dumps(document).encode()
        self.blobs = {digest(content): content for content in [self.config, *packed]}
        self.document = {
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": descriptor(CONFIG, self.config),
            "layers": [descriptor(LAYER, content) for content in packed],
        }

    @property
    def manifest(self):
        return json.dumps(self.document).encode()

    @property
    def digest(self):
        return digest(self.manifest)

    def write_layout(self, directory, tag="latest"):
        """An OCI layout."""
        blobs = Path(directory) / "blobs/sha256"
        blobs.mkdir(parents=True)
        for name, content in {**self.blobs, self.digest: self.manifest}.items():
            (blobs / name.removeprefix("sha256:")).write_bytes(content)
        entry = descriptor(MANIFEST, self.manifest, annotations={"org.opencontainers.image.ref.name": tag})
        (Path(directory) / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [entry]}))
        (Path(directory) / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
        return directory


def of_program(program, **config):
    """FROM scratch, COPY the program."""
    return Image([layer({"bootstrap": Path(program)})], {"Entrypoint": ["/bootstrap"], **config})


def of_python(interpreter, client, app):
    """A CPython of this machine with all that it needs, AWS's client, and a handler in /function/app.py."""
    home = Path(interpreter).resolve().parents[1]
    version = re.match(r"python(\d+\.\d+)", Path(interpreter).resolve().name)[1]
    programs = [home / f"bin/python{version}", *home.glob(f"lib/python{version}/lib-dynload/*.so")]
    programs += Path(client).glob("*.so")
    listed = subprocess.run(["ldd", *programs], capture_output=True, text=True, check=False).stdout
    libraries = {name: Path(name) for name in re.findall(r"(/\S+) \(0x", listed)}
    base = layer(
        {"opt/python/bin/python3": home / f"bin/python{version}", **{name.lstrip("/"): p for name, p in libraries.items()}},
        {f"opt/python/lib/python{version}": home / f"lib/python{version}"},
    )
    code = layer({"function/app.py": app}, {"function/lib": client})
    config = {
        "Entrypoint": ["/opt/python/bin/python3", "-m", "awslambdaric"],
        "Cmd": ["app.handler"],
        "WorkingDir": "/function",
        "Env": ["PYTHONHOME=/opt/python", "PYTHONPATH=/function/lib", "PATH=/opt/python/bin", "FROM_IMAGE=yes"],
        "User": "nobody",
    }
    return Image([base, code], config, compress=lambda data: data)


class Docker:
    """A Docker engine of a test's own."""

    def __init__(self, directory):
        self.directory = Path(directory)
        self.socket = f"unix://{self.directory}/docker.sock"
        self.process = None

    def __enter__(self):
        log = open(self.directory / "dockerd.log", "wb")
        self.process = subprocess.Popen(
            ["dockerd", "--data-root", self.directory / "data", "--exec-root", self.directory / "exec",
             "-H", self.socket, "--pidfile", self.directory / "pid", "--iptables=false", "--bridge=none",
             "--storage-driver=overlay2"],
            stdout=log, stderr=log, start_new_session=True,
        )  # fmt: skip
        end = time.monotonic() + 60
        while subprocess.run(self.command("version"), capture_output=True, check=False).returncode:
            assert self.process.poll() is None and time.monotonic() < end, (self.directory / "dockerd.log").read_text()
            time.sleep(0.2)
        return self

    def command(self, *arguments):
        return ["/usr/bin/docker", "-H", self.socket, *arguments]

    def run(self, *arguments):
        home = self.directory / "home"
        home.mkdir(exist_ok=True)
        done = subprocess.run(
            self.command(*arguments), capture_output=True, text=True, timeout=100, check=False,
            env={**os.environ, "HOME": str(home), "DOCKER_BUILDKIT": "0"},
        )  # fmt: skip
        assert done.returncode == 0, f"docker {arguments}: {done.stdout}\n{done.stderr}"
        return done.stdout.strip()

    def __exit__(self, *_):
        self.process.terminate()
        try:
            self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.process.kill()
        shutil.rmtree(self.directory / "data", ignore_errors=True)
