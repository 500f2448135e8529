"""Starts AWS's runtime client in an interpreter that runs without its own site-packages (-S).

What a machine has installed beside its Python is nothing that a function may see, or that may slow its start; of what the
site module does, only the builtins that scripts use are wanted.
"""

import os
import site
import sys

from awslambdaric.__main__ import main
from awslambdaric.lambda_runtime_client import LambdaRuntimeClient


# What the worker sets for a process that is started before its function is known, with spaces for a value: room for a
# function's variables.
WAIT = "HEARTH_WAIT_FOR_FUNCTION"


def wait_for_function():
    """Waits until the function is known, and then makes the process as one that was started for it.

    Nothing of a function is in the sandbox until then. If the function brings a module by the name of one that is loaded, the
    process starts anew: the function's would have been found first.
    """
    os.write(0, b"\n")
    told = receive(int(receive(8)))
    count, *rest = [os.fsdecode(part) for part in told[:-1].split(b"\0")]
    arguments, told = rest[: int(count)], rest[int(count) :]
    variables = dict(variable.split("=", 1) for variable in told)
    with open("/proc/self/environ", "rb") as given:
        names = {one.partition(b"=")[0] for one in given.read().split(b"\0")}
    # What Python sets itself as it starts (LC_CTYPE, PEP 538) comes after what it was given.
    own = {name: value for name, value in os.environ.items() if os.fsencode(name) not in names}
    os.environ.clear()
    os.environ.update({**variables, **own})
    # Now nothing points any more to where the kernel keeps what the process was started with: the worker writes the function's
    # arguments and variables there.
    os.write(0, b"\n")
    receive(1)
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)
    # The directory that it was in is covered by the function's code now.
    os.chdir("/var/task")
    places = sys.path[: sys.path.index("/var/runtime")]
    for place in list(sys.path_importer_cache):
        if place in places:
            del sys.path_importer_cache[place]
    loaded = {"hearth_start"} | {name.partition(".")[0] for name in sys.modules}
    if any(entry.partition(".")[0] in loaded for place in places for entry in list_directory(place)):
        os.execve(arguments[0], arguments, variables)
    sys.argv[1:] = sys.orig_argv[-1:] = arguments[-1:]


def receive(length):
    received = b""
    while len(received) < length:
        piece = os.read(0, length - len(received))
        if not piece:
            os._exit(0)  # Nobody needs it.
        received += piece
    return received


def list_directory(path):
    try:
        return os.listdir(path)
    except OSError:
        return []


def seed_again():
    """In each instance that is made from one snapshot: what draws random numbers by itself must not go on from one state.

    The kernel's (os.urandom, secrets, uuid4, random.SystemRandom) are fresh in each instance as they are.
    """
    if "random" in sys.modules:
        sys.modules["random"].seed()
    if "numpy.random" in sys.modules:
        sys.modules["numpy.random"].seed()
    if "ssl" in sys.modules:
        sys.modules["ssl"].RAND_add(os.urandom(32), 32.0)


def prepare_to_be_saved():
    """Has the process be saved where the fewest steps are left to its first answer.

    With hooks to run after the restoration, or threads that go on at once, that is before the hooks. Without them it is as
    late as while it waits for the first invocation: nothing of the function runs in between.
    """
    restore_next, wait_next_invocation = LambdaRuntimeClient.restore_next, LambdaRuntimeClient.wait_next_invocation

    def wait_for_the_first(client):
        first = wait_next_invocation(client)
        seed_again()
        LambdaRuntimeClient.wait_next_invocation = wait_next_invocation
        return first

    def restore(client):
        import threading

        from snapshot_restore_py import get_after_restore

        if get_after_restore() or threading.active_count() > 1:
            restore_next(client)
            seed_again()
        else:
            LambdaRuntimeClient.wait_next_invocation = wait_for_the_first

    LambdaRuntimeClient.restore_next = restore


if __name__ == "__main__":
    if WAIT in os.environ:
        wait_for_function()
    site.setquit()
    site.setcopyright()
    site.sethelper()
    if os.environ.get("AWS_LAMBDA_INITIALIZATION_TYPE") == "snap-start":
        prepare_to_be_saved()
    main(sys.argv)
