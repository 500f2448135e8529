"""Starts AWS's runtime client in an interpreter that runs without its own site-packages (-S).

What a machine has installed beside its Python is nothing that a function may see, or that may slow its start; of what the
site module does, only the builtins that scripts use are wanted.
"""

import os
import site
import sys

from awslambdaric.__main__ import main


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


if __name__ == "__main__":
    site.setquit()
    site.setcopyright()
    site.sethelper()
    if os.environ.get("AWS_LAMBDA_INITIALIZATION_TYPE") == "snap-start":
        from snapshot_restore_py import register_after_restore

        # Before any of the function's own.
        register_after_restore(seed_again)
    main(sys.argv)
