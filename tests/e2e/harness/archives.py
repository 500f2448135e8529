"""Zip archives, made in memory: what people send, and what they should not."""

import io
import stat
import zipfile
from pathlib import Path

FUNCTIONS = Path(__file__).resolve().parents[2] / "functions"


def entry(name, mode=0o644, kind=stat.S_IFREG, method=zipfile.ZIP_DEFLATED):
    info = zipfile.ZipInfo(name, (2024, 1, 1, 0, 0, 0))
    info.external_attr = (kind | mode) << 16
    info.create_system = 3
    info.compress_type = method
    return info


def pack(files, mode=0o644):
    """An archive of `files`, names to texts or bytes. A name that is `bootstrap` gets its execute bit."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in files.items():
            executable = name.rsplit("/", 1)[-1] == "bootstrap"
            archive.writestr(entry(name, 0o755 if executable else mode), content)
    return buffer.getvalue()


def pack_entries(entries):
    """An archive of entries as they are, each with its content."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for info, content in entries:
            archive.writestr(info, content)
    return buffer.getvalue()


def pack_links(links, files=()):
    """An archive of symbolic links, names to targets, and after them `files`."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, target in links.items():
            archive.writestr(entry(name, 0o777, stat.S_IFLNK), target)
        for name, content in dict(files).items():
            archive.writestr(entry(name), content)
    return buffer.getvalue()


def function(name):
    """One of tests/functions, packed."""
    root = FUNCTIONS / name
    return pack(
        {
            str(path.relative_to(root)): path.read_bytes()
            for path in sorted(root.rglob("*"))
            if path.is_file() and "__pycache__" not in path.parts
        }
    )


def zeros(total, name="zeros", extra=()):
    """A small archive of one file of `total` zero bytes."""
    buffer = io.BytesIO()
    chunk = bytes(1 << 20)
    with zipfile.ZipFile(buffer, "w") as archive:
        for extra_name, content in dict(extra).items():
            archive.writestr(entry(extra_name), content)
        with archive.open(entry(name), "w", force_zip64=False) as file:
            while total > 0:
                total -= file.write(chunk[: min(total, len(chunk))])
    return buffer.getvalue()


def overlapping(copies, size):
    """An archive whose directory names one compressed file `copies` times: as David Fifield's better zip bomb."""
    single = zeros(size, "f00000")
    end = single.rindex(b"PK\5\6")
    start = int.from_bytes(single[end + 16 : end + 20], "little")
    local, central = single[:start], single[start:end]
    directory = b"".join(central.replace(b"f00000", b"f%05d" % n) for n in range(copies))
    tail = bytearray(single[end:])
    tail[8:10] = tail[10:12] = copies.to_bytes(2, "little")
    tail[12:16] = len(directory).to_bytes(4, "little")
    return local + directory + bytes(tail)


def lying_about_size(real, claimed):
    """An archive whose headers claim another size than the file unpacks to."""
    honest = bytearray(zeros(real, "zeros"))
    central = honest.rindex(b"PK\1\2")
    honest[central + 24 : central + 28] = claimed.to_bytes(4, "little")
    honest[22:26] = claimed.to_bytes(4, "little")
    return bytes(honest)
