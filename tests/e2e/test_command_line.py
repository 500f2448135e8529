"""A person at a terminal: deploy, invoke, look, clean up; and every mistake is answered with what to do."""

import json
import os
import subprocess

import pytest

from harness import archives
from harness.server import ACCOUNT, BINARY, hearth
from harness.wait import wait_for


@pytest.fixture
def project(tmp_path, name):
    """Makes a folder of source files whose name is the function's."""

    def make(files):
        folder = tmp_path / name
        for path, content in files.items():
            target = folder / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(content if isinstance(content, bytes) else content.encode())
            if path == "bootstrap":
                target.chmod(0o755)
        return str(folder)

    return make


def ok(done):
    assert done.returncode == 0, f"{done.args}\n{done.stdout}\n{done.stderr}"
    return done


PYTHON = "def lambda_handler(event, context):\n    print('hello log')\n    return {'hi': event.get('name')}\n"
NODE = "exports.handler = async (event) => ({ hi: event.name });\n"


@pytest.mark.parametrize("kind", ["python", "node", "shell", "zip"])
def test_deploy_guesses_what_it_is_given_and_says_so(kind, shared, lambda_client, name, project, tmp_path, python, node):
    path, word = {
        "python": (lambda: project({"lambda_function.py": PYTHON}), python),
        "node": (lambda: project({"index.js": NODE, "package.json": "{}"}), node),
        "shell": (lambda: project({"bootstrap": archives.FUNCTIONS.joinpath("shell-echo/bootstrap").read_bytes()}), "provided.al2023"),
        "zip": (lambda: archived(tmp_path, name), python),
    }[kind]  # fmt: skip
    done = ok(shared.command("deploy", path()))
    assert word in done.stderr + done.stdout and name in done.stdout
    assert lambda_client.get_function_configuration(FunctionName=name)["Runtime"] == word
    answer = json.loads(ok(shared.command("invoke", name, '{"name": "Ada"}')).stdout)
    assert answer in ({"hi": "Ada"}, {"shell": {"name": "Ada"}})


def archived(folder, name):
    path = folder / f"{name}.zip"
    path.write_bytes(archives.pack({"lambda_function.py": PYTHON}))
    return str(path)


def test_deploy_twice_updates_and_keeps_what_was_not_said_anew(shared, lambda_client, name, project):
    path = project({"lambda_function.py": PYTHON})
    ok(shared.command("deploy", path, "--memory", "192", "--timeout", "9", "--env", "AA=1", "--tag", "team=fire"))
    project({"lambda_function.py": "def lambda_handler(event, context):\n    return 'second'\n"})
    ok(shared.command("deploy", path))
    config = lambda_client.get_function(FunctionName=name)
    assert (config["Configuration"]["MemorySize"], config["Configuration"]["Timeout"]) == (192, 9)
    assert config["Configuration"]["Environment"]["Variables"] == {"AA": "1"} and config["Tags"]["team"] == "fire"
    assert json.loads(ok(shared.command("invoke", name)).stdout) == "second"


def test_invoke_reads_its_event_from_stdin_or_a_file_and_fails_with_the_function(shared, name, project, tmp_path):
    code = "def lambda_handler(event, context):\n    return event if event != 'fail' else 1 / 0\n"
    ok(shared.command("deploy", project({"lambda_function.py": code})))
    assert json.loads(ok(shared.command("invoke", name, "-", input='{"from": "stdin"}')).stdout) == {"from": "stdin"}
    (tmp_path / "event.json").write_text("[1, 2]")
    assert json.loads(ok(shared.command("invoke", name, f"@{tmp_path}/event.json")).stdout) == [1, 2]
    failed = shared.command("invoke", name, '"fail"')
    assert failed.returncode == 1
    assert json.loads(failed.stdout)["errorType"] == "ZeroDivisionError" and "Unhandled" in failed.stderr
    logged = ok(shared.command("invoke", name, "{}", "--log"))
    assert "REPORT RequestId" in logged.stderr


def test_logs_show_what_was_written_and_follow_what_comes(shared, name, project):
    ok(shared.command("deploy", project({"lambda_function.py": PYTHON})))
    ok(shared.command("invoke", name))

    def logged():
        text = ok(shared.command("logs", name)).stdout
        return text if "hello log" in text and "REPORT RequestId" in text else None

    text = wait_for(logged, "the log has the invocation")
    assert text.index("START RequestId") < text.index("hello log") < text.index("END RequestId") < text.index("REPORT")
    with subprocess.Popen(
        [str(BINARY), "logs", name, "-f"],
        stdout=subprocess.PIPE,
        text=True,
        bufsize=1,
        env={**os.environ, "HEARTH_ENDPOINT": shared.endpoint, "HEARTH_ACCOUNT": ACCOUNT},
    ) as follower:
        try:
            seen = []
            for line in follower.stdout:
                seen.append(line)
                if line.startswith("REPORT") and len([s for s in seen if s.startswith("REPORT")]) == 1:
                    ok(shared.command("invoke", name))
                if len([s for s in seen if s.startswith("REPORT")]) == 2:
                    break
        finally:
            follower.terminate()
    assert len([line for line in seen if "hello log" in line]) == 2


def test_ps_shows_instances_come_and_go(shared, name, project):
    ok(shared.command("deploy", project({"lambda_function.py": PYTHON}), "--tag", "hearth:idle-timeout=1"))
    assert name not in ok(shared.command("ps")).stdout
    ok(shared.command("invoke", name))
    row = wait_for(lambda: [i for i in shared.instances(name) if i["state"] == "idle"], "it is idle")[0]
    for key in ["function", "version", "instance", "state", "leases", "slots", "age_ms", "memory_bytes", "worker"]:
        assert key in row
    assert row["memory_bytes"] > 1 << 20 and row["memory_mb"] == 128
    wait_for(lambda: name not in ok(shared.command("ps")).stdout, "it went")
    assert name not in json.dumps(json.loads(ok(shared.command("ps", "--json")).stdout))


def test_rm_deletes_a_function_and_says_when_there_is_none(shared, name, project):
    ok(shared.command("deploy", project({"lambda_function.py": PYTHON})))
    after = shared.command("rm", f"{name}-not-there", name)
    assert after.returncode == 1 and after.stdout == f"{name}\n", "one that is not there keeps no other"
    gone = shared.command("rm", name)
    assert gone.returncode != 0 and name in gone.stderr and "not found" in gone.stderr.lower()
    assert shared.command("invoke", name).returncode != 0


def test_doctor_says_what_this_machine_can_do(tmp_path):
    text = hearth("doctor")
    said = hearth("doctor", "--json")
    report = json.loads(said.stdout)
    words = json.dumps(report).lower() + text.stdout.lower()
    for word in ["namespace", "cgroup", "kvm", "disk", "seccomp", "owners of images"]:
        assert word in words, f"doctor says nothing of {word}"
    assert text.returncode == said.returncode


def test_runtimes_are_listed(runtimes):
    names = [runtime["name"] for runtime in runtimes]
    assert {"provided.al2023", "provided.al2"} <= set(names)
    assert any(name.startswith("python3.") for name in names) and any(name.startswith("nodejs") for name in names)
    text = ok(hearth("runtime", "list")).stdout
    assert all(name in text for name in names)


@pytest.mark.parametrize("shell, word", [("bash", "complete"), ("zsh", "#compdef"), ("fish", "complete -c hearth")])
def test_completions_are_printed_for_every_shell(shell, word):
    script = ok(hearth("completions", shell)).stdout
    assert word in script and "deploy" in script


@pytest.mark.parametrize("arguments", [["completions", "bash"], ["runtime", "list", "--json"], ["--help"]], ids=" ".join)
def test_a_reader_that_has_enough_is_no_error_and_a_full_disk_is_one(arguments):
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "wb") as gone, open("/dev/full", "wb") as full:
        done = [subprocess.run([BINARY, *arguments], stdout=out, stderr=subprocess.PIPE, text=True) for out in (gone, full)]
    assert done[0].returncode == 0 and done[0].stderr == ""
    if arguments != ["--help"]:
        assert done[1].returncode == 1 and "cannot print the answer: No space left" in done[1].stderr


def test_every_command_teaches_itself():
    top = ok(hearth("--help")).stdout
    for command in ["dev", "deploy", "invoke", "logs", "ps", "rm", "doctor", "runtime"]:
        assert command in top
        assert "Usage: hearth " + command in ok(hearth(command, "--help")).stdout
    assert "Examples:" in top
    assert ok(hearth("--version")).stdout.startswith("hearth 0.")


@pytest.mark.parametrize(
    "arguments", [["ps"], ["invoke", "x"], ["logs", "x"], ["rm", "x"], ["ps", "--json"]], ids=" ".join
)
def test_without_a_server_every_command_says_how_to_start_one(arguments):
    done = hearth(*arguments, environment={"HEARTH_ENDPOINT": "http://127.0.0.1:9"})
    assert done.returncode != 0 and done.stdout == ""
    assert "127.0.0.1:9" in done.stderr and "hearth dev" in done.stderr


@pytest.mark.parametrize(
    "files, words",
    [
        ({"readme.md": "x"}, ["--runtime", "--handler"]),
        ({"Cargo.toml": "[package]"}, ["cargo lambda build"]),
    ],
)
def test_deploy_says_what_it_misses(shared, project, files, words):
    done = shared.command("deploy", project(files))
    assert done.returncode != 0 and all(word in done.stderr for word in words), done.stderr


def test_mistakes_are_answered_with_what_was_wrong(shared, name, project, tmp_path):
    path = project({"lambda_function.py": PYTHON})
    (tmp_path / "text.zip").write_text("no archive")
    for arguments, word in [
        (["deploy", str(tmp_path / "nowhere")], "nowhere"),
        (["deploy", str(tmp_path / "text.zip")], "zip"),
        (["deploy", path, "--memory", "1"], "memory"),
        (["deploy", path, "--env", "novalue"], "novalue"),
        (["deploy", path, "--runtime", "cobol"], "cobol"),
        (["invoke", "nobody"], "nobody"),
        (["logs", "nobody"], "nobody"),
        (["invoke"], "NAME"),
        (["frobnicate"], "frobnicate"),
        (["ps", "--endpoint", "ftp://x"], "ftp"),
    ]:
        done = shared.command(*arguments)
        assert done.returncode not in (0, 101), arguments
        assert word.lower() in done.stderr.lower(), f"{arguments}: {done.stderr}"
        assert "panicked" not in done.stderr


def test_a_function_that_cannot_run_fails_its_deploy(shared, name, project, runtimes):
    absent = [r["name"] for r in runtimes if r["state"] == "no_interpreter"]
    if not absent:
        pytest.skip("this machine has every runtime")
    path = project({"lambda_function.py": PYTHON, "index.js": NODE})
    handler = "lambda_function.lambda_handler" if absent[0].startswith("python") else "index.handler"
    done = shared.command("deploy", path, "--runtime", absent[0], "--handler", handler)
    assert done.returncode != 0 and "cannot run" in done.stderr and absent[0] in done.stderr


def test_a_log_cannot_play_tricks_on_the_terminal(shared, name, project):
    code = "def lambda_handler(event, context):\n    print('\\x1b[2J\\x1b]0;owned\\x07 visible')\n    return '\\x1b[31m'\n"
    ok(shared.command("deploy", project({"lambda_function.py": code})))
    ok(shared.command("invoke", name))

    def logged():
        text = ok(shared.command("logs", name)).stdout
        return text if "visible" in text else None

    text = wait_for(logged, "it is logged")
    assert "\x1b" not in text and "\x07" not in text


@pytest.mark.skipif(os.geteuid() != 0, reason="mounts need root")
def test_a_plain_chroot_is_refused_with_what_to_do(tmp_path):
    places = "for one in usr dev proc; do mkdir $0/$one; mount --rbind /$one $0/$one; done; "
    aliases = "for one in bin sbin lib lib64; do ln -s usr/$one $0/$one; done; "
    program = "mkdir $0/tmp $0/program; touch $0/program/hearth; mount --bind $1 $0/program/hearth; shift; "
    script = places + aliases + program + 'exec chroot $0 /program/hearth "$@"'
    base = ["unshare", "--mount", "--propagation", "private", "sh", "-euc", script]

    def run(folder, *arguments):
        folder.mkdir()
        return subprocess.run(
            [*base, str(folder), str(BINARY), *arguments], capture_output=True, text=True, timeout=60, check=False
        )

    done = run(tmp_path / "one", "dev", "--isolation", "container", "--listen", "127.0.0.1:0")
    assert done.returncode != 0
    assert "root is no mount" in done.stderr and "mount --bind" in done.stderr, done.stderr
    found = json.loads(run(tmp_path / "two", "doctor", "--json").stdout)
    root = next(one for one in found if one["what"] == "root")
    assert root["verdict"] == "missing" and "mount --bind" in root["advice"], root


def test_auto_asks_for_no_proof_where_machines_cannot_be_made(own, tmp_path):
    # Neither what the suite runs on nor the answer of another start decides: there is no kernel here.
    environment = {"HEARTH_KERNELS": str(tmp_path / "none"), "HEARTH_CACHE": str(tmp_path / "cache")}
    server = own("--isolation", "auto", environment=environment)
    assert "no kernel for them" in server.log()
    assert not (tmp_path / "cache/emulated-kvm").exists()


@pytest.mark.skipif(not os.environ.get("HEARTH_KERNELS"), reason="needs a kernel for machines")
def test_auto_remembers_that_guests_are_emulated_until_the_machine_restarts(own, tmp_path):
    environment = {"HEARTH_CACHE": str(tmp_path / "cache")}
    own("--isolation", "auto", environment=environment).stop()
    note = tmp_path / "cache/emulated-kvm"
    if not note.exists():
        pytest.skip("KVM runs guests here, is not there, or did not answer in time")
    noted = note.read_text()
    note.write_text(noted.replace(noted.split()[0], "another-boot"))
    own("--isolation", "auto", environment=environment)
    assert note.read_text() == noted
