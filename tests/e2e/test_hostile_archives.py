"""Archives that attack: each is refused with words that help, and leaves nothing behind."""

import os
import stat

import pytest
from botocore.exceptions import ClientError

from harness import archives
from harness.server import ROLE, invoke

GOOD = {"app.py": "def handler(event, context):\n    return open('/var/task/data').read()\n", "data": "good"}


def refused(client, name, archive, runtime="provided.al2023"):
    with pytest.raises(ClientError) as caught:
        client.create_function(
            FunctionName=name, Runtime=runtime, Handler="app.handler", Role=ROLE, Code={"ZipFile": archive}
        )
    error = caught.value.response["Error"]
    assert error["Code"] == "InvalidParameterValueException", error
    with pytest.raises(client.exceptions.ResourceNotFoundException):
        client.get_function(FunctionName=name)
    return error["Message"]


def disk_used(folder):
    return sum(os.lstat(os.path.join(root, file)).st_blocks * 512 for root, _, files in os.walk(folder) for file in files)


@pytest.fixture
def nothing_left(shared):
    """The data folder must not grow by what is refused."""
    before = disk_used(shared.data)
    yield
    assert disk_used(shared.data) - before < 2 << 20


@pytest.mark.parametrize(
    "archive",
    [
        b"",
        b"PK",
        b"not a zip archive at all",
        archives.pack({})[:22],
        archives.pack(GOOD)[:-30],
        archives.pack(GOOD)[40:],
        bytes(1000),
    ],
    ids=["empty", "two-bytes", "text", "no-entries", "cut-end", "cut-start", "zeros"],
)
def test_what_is_no_archive(lambda_client, name, nothing_left, archive):
    assert "zip" in refused(lambda_client, name, archive).lower()


def test_an_archive_with_flipped_bytes(lambda_client, name, nothing_left):
    archive = bytearray(archives.pack({"app.py": os.urandom(4000)}))
    archive[60:80] = bytes(20)
    refused(lambda_client, name, bytes(archive))


@pytest.mark.parametrize(
    "entry",
    ["../escaped", "a/../../escaped", "/etc/escaped", "a/../../../../../../tmp/escaped", "..", "app.py\0/../../escaped"],
)
def test_an_entry_that_climbs_out(shared, lambda_client, name, nothing_left, entry):
    # Python cuts names at a zero byte; a real attacker does not.
    whole = archives.entry(entry.replace("\0", "\1"))
    archive = archives.pack_entries([(whole, "out"), (archives.entry("app.py"), "x = 1")]).replace(b"\1/..", b"\0/..")
    message = refused(lambda_client, name, archive)
    assert "escaped" in message or ".." in message or "entry" in message.lower(), message
    for place in ["/etc/escaped", "/tmp/escaped", shared.data / "escaped", shared.data.parent / "escaped"]:
        assert not os.path.lexists(place)


@pytest.mark.parametrize(
    "links, files",
    [
        ({"out": "/etc"}, {}),
        ({"out": "/etc"}, {"out/written": "x"}),
        ({"out": "../../../../etc"}, {}),
        ({"a/b": "../../out"}, {}),
        ({"a": "b", "b": "a"}, {"a/file": "x"}),
        ({"loop": "loop/../.."}, {}),
        ({"out": ".."}, {"out/written": "x"}),
    ],
)
def test_a_link_that_leaves_the_root(lambda_client, name, nothing_left, links, files):
    refused(lambda_client, name, archives.pack_links(links, files))
    assert not os.path.lexists("/etc/written")


def test_links_that_stay_inside_are_kept(shared, lambda_client, name, python):
    files = {"app.py": GOOD["app.py"], "real/data": "good"}
    archive = archives.pack_links({"data": "real/data", "lib/up": "../real"}, files)
    shared.create(lambda_client, name, archive, python)
    assert invoke(lambda_client, name)[0] == "good"


@pytest.mark.parametrize("kind", [stat.S_IFCHR, stat.S_IFBLK, stat.S_IFIFO, stat.S_IFSOCK])
def test_an_entry_that_is_no_file(lambda_client, name, nothing_left, kind):
    refused(lambda_client, name, archives.pack_entries([(archives.entry("app.py", 0o666, kind), "x")]))


def test_set_user_id_bits_do_not_survive(shared, lambda_client, name, python):
    code = "import os\ndef handler(event, context):\n    return oct(os.stat('/var/task/tool').st_mode)\n"
    entries = [(archives.entry("app.py"), code), (archives.entry("tool", 0o6755), "#!/bin/sh\n")]
    shared.create(lambda_client, name, archives.pack_entries(entries), python)
    assert invoke(lambda_client, name)[0] == oct(stat.S_IFREG | 0o755)


def test_a_small_archive_that_unpacks_to_more_than_250_megabytes(lambda_client, name, nothing_left):
    archive = archives.zeros(262_144_001)
    assert len(archive) < 1 << 20
    assert "262144000" in refused(lambda_client, name, archive)


def test_overlapping_entries_that_add_up_to_gigabytes(lambda_client, name, nothing_left):
    archive = archives.overlapping(copies=5000, size=1 << 20)
    assert len(archive) < 1 << 20
    refused(lambda_client, name, archive)


@pytest.mark.parametrize("real, claimed", [(1 << 20, 10), (300 << 20, 10), (10, 1 << 30)])
def test_an_archive_that_lies_about_its_sizes(lambda_client, name, nothing_left, real, claimed):
    refused(lambda_client, name, archives.lying_about_size(real, claimed))


def test_an_archive_of_very_many_empty_files(lambda_client, name):
    archive = archives.pack({f"{n // 256}/{n}": b"" for n in range(30_000)})
    try:
        lambda_client.create_function(
            FunctionName=name, Runtime="provided.al2023", Handler="h", Role=ROLE, Code={"ZipFile": archive}
        )
    except ClientError as error:
        assert error.response["Error"]["Code"] == "InvalidParameterValueException"
    else:
        lambda_client.delete_function(FunctionName=name)


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize(
    "names",
    [["app.py", "app.py"], ["a", "a/b"], ["x" * 300], ["/".join("d" * 200 for _ in range(40))], ["."], [""]],
    ids=["twice", "file-as-folder", "long-name", "deep", "dot", "none"],
)
def test_names_that_no_file_system_likes(lambda_client, name, names):
    """Taken or refused: the server neither breaks nor keeps half of it."""
    entries = [(archives.entry("bootstrap", 0o755), "#!/bin/sh\n")]
    entries += [(archives.entry(n or "placeholder"), "x") for n in names]
    archive = archives.pack_entries(entries)
    if names == [""]:
        archive = archive.replace(b"placeholder", b"\0" * 11)
    try:
        lambda_client.create_function(
            FunctionName=name, Runtime="provided.al2023", Handler="h", Role=ROLE, Code={"ZipFile": archive}
        )
    except ClientError as error:
        assert error.response["Error"]["Code"] == "InvalidParameterValueException", error


def test_a_bad_archive_in_an_update_leaves_the_old_code_in_service(shared, lambda_client, name, python):
    shared.create(lambda_client, name, archives.pack(GOOD), python)
    for bad in [b"no", archives.pack_links({"x": "/etc"}), archives.zeros(262_144_001)]:
        with pytest.raises(lambda_client.exceptions.InvalidParameterValueException):
            lambda_client.update_function_code(FunctionName=name, ZipFile=bad)
    assert invoke(lambda_client, name)[0] == "good"
