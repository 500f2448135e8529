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


DEBIAN = Path(__file__).resolve().parents[3] / ".cache/debian"
BASE = ["libc6", "libcrypt1", "libssl3", "zlib1g", "base-passwd"]
PYTHON = ["python3-minimal", "python3.11-minimal", "libpython3.11-minimal", "libpython3.11-stdlib", "libexpat1", "libffi8", "libuuid1", "media-types"]


def unpacked(packages, directory):
    """Packages of Debian, unpacked with the owners and modes that they have, and a shell."""
    for package in packages:
        (archive,) = DEBIAN.glob(f"{package}_*.deb")
        subprocess.run(["dpkg-deb", "-x", archive, directory], check=True)
    if "base-passwd" in packages:
        # Which a base system has as links, and its set-up puts in place.
        for name in ["passwd", "group"]:
            shutil.copy(directory / f"usr/share/base-passwd/{name}.master", directory / "etc" / name)
        (directory / "bin").mkdir(exist_ok=True)
        shutil.copy("/bin/busybox", directory / "bin/busybox")
        (directory / "bin/sh").symlink_to("busybox")
    shutil.rmtree(directory / "usr/share/doc", ignore_errors=True)
    return directory


def tree(directory):
    """A layer of a directory as it is."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for name in sorted(os.listdir(directory)):
            archive.add(directory / name, name)
    return buffer.getvalue()


def own(path, uid, gid=None):
    os.chown(path, uid, uid if gid is None else gid, follow_symlinks=False)


def of_nginx(directory):
    """Debian's nginx as its own image is: begins as root, listens on port 80, drops to www-data, logs to the standard streams."""
    base, server = directory / "base", directory / "server"
    unpacked(BASE, base)
    unpacked(["nginx", "nginx-common", "libpcre2-8-0"], server)
    (server / "etc/nginx/sites-enabled").mkdir(exist_ok=True)
    (server / "etc/nginx/sites-enabled/default").symlink_to("/etc/nginx/sites-available/default")
    (server / "var/www/html").mkdir(parents=True, exist_ok=True)
    (server / "var/www/html/index.html").write_text("<h1>hello from nginx</h1>")
    for name in ["var/lib/nginx", "var/log/nginx"]:
        (server / name).mkdir(parents=True, exist_ok=True)
    own(server / "var/log/nginx", 33, 4)
    (server / "var/log/nginx").chmod(0o750)
    (server / "var/log/nginx/access.log").symlink_to("/dev/stdout")
    (server / "var/log/nginx/error.log").symlink_to("/dev/stderr")
    (server / "run").mkdir(exist_ok=True)
    config = {"Cmd": ["nginx", "-g", "daemon off;"], "StopSignal": "SIGQUIT", "ExposedPorts": {"80/tcp": {}}}
    return Image([tree(base), tree(server)], config)


def of_gunicorn(directory, app):
    """Debian's gunicorn with an application, as a user that the image makes, with a folder that is that user's."""
    base = unpacked([*BASE, *PYTHON, "gunicorn", "python3-gunicorn", "python3-pkg-resources"], directory / "base")
    (base / "usr/bin/env").symlink_to("/bin/busybox")
    # Debian compiles what it installs; without that an emulated machine is busy with it for most of a minute.
    compiled = "import json, logging.config, gunicorn.app.wsgiapp, gunicorn.arbiter, gunicorn.workers.sync"
    subprocess.run(["/usr/sbin/chroot", base, "/usr/bin/python3.11", "-c", compiled], check=True, env={})
    code = directory / "code"
    (code / "srv/data").mkdir(parents=True)
    (code / "srv/app.py").write_text(app)
    own(code / "srv/data", 10001)
    (code / "srv/data").chmod(0o700)
    (code / "etc").mkdir()
    (code / "etc/passwd").write_text((base / "etc/passwd").read_text() + "app:x:10001:10001::/srv:/bin/sh\n")
    config = {"Entrypoint": ["gunicorn", "--workers", "2", "--bind", "0.0.0.0:8000"], "Cmd": ["app:app"], "WorkingDir": "/srv", "User": "app"}
    return Image([tree(base), tree(code)], config)


def of_node(directory, node, server):
    """Node with all that it needs, as Docker's own image is: one that is started as root and steps down to `node` by its USER."""
    listed = subprocess.run(["ldd", node], capture_output=True, text=True, check=True).stdout
    libraries = {name.lstrip("/"): Path(name) for name in re.findall(r"(/\S+) \(0x", listed)}
    trees = {name.lstrip("/"): name for name in ["/usr/share/nodejs"] if os.path.isdir(name)}
    base = layer({"usr/local/bin/node": Path(node), **libraries}, trees)
    home = directory / "home-layer"
    (home / "home/node").mkdir(parents=True)
    own(home / "home/node", 1000)
    (home / "home/node").chmod(0o750)
    (home / "etc").mkdir()
    (home / "etc/passwd").write_text("root:x:0:0:root:/root:/bin/sh\nnode:x:1000:1000::/home/node:/bin/sh\n")
    (home / "app").mkdir()
    (home / "app/server.mjs").write_text(server)
    config = {"Cmd": ["node", "server.mjs"], "WorkingDir": "/app", "User": "node", "Env": ["PATH=/usr/local/bin"]}
    return Image([base, tree(home)], config, compress=lambda data: data)


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
            self.process.wait()
        # What it keeps of the host's network, for containers that were in it, it leaves mounted.
        for left in self.directory.glob("exec/netns/*"):
            subprocess.run(["umount", left], capture_output=True, check=False)
        shutil.rmtree(self.directory / "data", ignore_errors=True)
