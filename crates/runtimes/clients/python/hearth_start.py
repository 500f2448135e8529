"""Starts AWS's runtime client in an interpreter that runs without its own site-packages (-S).

What a machine has installed beside its Python is nothing that a function may see, or that may slow its start; of what the
site module does, only the builtins that scripts use are wanted.
"""

import os
import site
import sys

from awslambdaric.__main__ import main
from awslambdaric.lambda_runtime_client import LambdaRuntimeClient


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
    site.setquit()
    site.setcopyright()
    site.sethelper()
    if os.environ.get("AWS_LAMBDA_INITIALIZATION_TYPE") == "snap-start":
        prepare_to_be_saved()
    main(sys.argv)
