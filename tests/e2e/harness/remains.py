"""What a server may leave behind on a machine: processes, cgroups, mounts, loop devices, sockets, files."""

import hashlib
import os
from pathlib import Path


def marked_processes(mark):
    """Processes with `mark` in their environment: a server, its helpers, and the functions made through it."""
    found = {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            if mark.encode() in (entry / "environ").read_bytes():
                found[int(entry.name)] = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
    return found


def descendants(pid):
    """The process and all below it, as pids."""
    children = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                stat = (entry / "stat").read_text()
            except OSError:
                continue
            parent = int(stat.rsplit(")", 1)[1].split()[1])
            children.setdefault(parent, []).append(int(entry.name))
    found, todo = [], [pid]
    while todo:
        one = todo.pop()
        found.append(one)
        todo += children.get(one, [])
    return found


def worker_name(data):
    """What the server calls itself in cgroups: from the path of its data folder."""
    return hashlib.sha256(os.fsencode(os.path.realpath(data))).hexdigest()[:12]


def cgroups(name):
    return [
        os.path.join(parent, directory)
        for parent, directories, _ in os.walk("/sys/fs/cgroup")
        for directory in directories
        if name in directory
    ]


def mounts(data):
    """Mounts that this process sees below or from a data folder, and namespaces kept by a mount."""
    path = os.path.realpath(data)
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    return [line for line in lines if path in line or (" nsfs " in line and "hearth" in line)]


def loops(data):
    path = os.path.realpath(data)
    found = []
    for backing in Path("/sys/block").glob("loop*/loop/backing_file"):
        try:
            if path in backing.read_text():
                found.append(str(backing))
        except OSError:
            continue
    return found


def unix_sockets(data):
    path = os.path.realpath(data)
    return [line for line in Path("/proc/net/unix").read_text().splitlines() if path in line]


def interfaces():
    return set(os.listdir("/sys/class/net"))


def files_outside():
    """Names that a server might leave where others leave theirs too."""
    places = ["/run", "/dev/shm", "/dev/mqueue", "/run/netns", "/run/lock", "/tmp"]
    return {
        f"{place}/{name}"
        for place in places
        if os.path.isdir(place)
        for name in os.listdir(place)
        if "hearth" in name and not name.startswith("hearth-dev-")
    }


def of(data, mark):
    """All that is there of the server that uses `data`, by kind; kinds with nothing are left out."""
    found = {
        "processes": marked_processes(mark),
        "cgroups": cgroups(worker_name(data)),
        "mounts": mounts(data),
        "loops": loops(data),
        "sockets": unix_sockets(data),
    }
    return {kind: things for kind, things in found.items() if things}
