"""Clients that are programs of their own."""

import base64
import subprocess

# Of a test that may be the first to need the Rust client, which is compiled then.
RUST_SDK_TIMEOUT = 900


def run(arguments, environment, timeout=100, cwd=None, check=True, input=None):
    done = subprocess.run(
        [str(a) for a in arguments],
        env=environment,
        cwd=cwd,
        timeout=timeout,
        capture_output=True,
        text=True,
        input=input,
        stdin=None if input is not None else subprocess.DEVNULL,
    )
    if check:
        assert done.returncode == 0, f"{arguments} ended with {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done


def tail(answer):
    """The end of the invocation's log in a boto3 response."""
    return base64.b64decode(answer.get("LogResult", "")).decode(errors="replace")
