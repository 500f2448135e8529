"""Waiting for what must come true, never for a while."""

import time


def wait_for(condition, what, timeout=20.0, every=0.02):
    """The first true value of `condition()`; fails with `what` when none comes in `timeout` seconds."""
    end = time.monotonic() + timeout
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            described = what() if callable(what) else what
            raise AssertionError(f"{described}: not within {timeout} s (last seen: {value!r})")
        time.sleep(every)
