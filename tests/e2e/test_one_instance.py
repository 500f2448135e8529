"""One instance in an operator's hands: suspended, resumed, ended, and what is said when it cannot be."""

import os

from harness import archives
from harness.server import invoke
from harness.wait import wait_for

MACHINES = os.environ.get("HEARTH_ISOLATION") in ("qemu", "firecracker")
REMEMBER = "import builtins\nbuiltins.seen = getattr(builtins, 'seen', 0) + 1\nresult = builtins.seen"


def test_an_instance_is_suspended_resumed_and_ended_by_hand(own, python):
    server = own()
    client = server.client()
    server.create(client, "one", archives.function("python-lab"), python, Timeout=20, MemorySize=256)

    def called():
        return invoke(client, "one", {"code": REMEMBER})[0]

    def only():
        [instance] = server.instances("one")
        return instance

    def becomes(state):
        wait_for(lambda: only()["state"] == state, f"it is {state}", 30)

    def do(verb, instance):
        return server.command("instance", verb, instance)

    assert called() == 1
    one = only()["instance"]
    slept = 'hearth_worker_hibernations_total{worker="local",outcome="asleep"}'
    for n in (1, 2):
        done = do("suspend", one)
        assert done.returncode == 0 and "was idle" in done.stdout, done.stderr
        becomes("hibernating")
        wait_for(lambda n=n: server.metrics()[slept] >= n, "it gave its memory back", 30)
        if MACHINES:
            assert only()["memory_bytes"] == 0, "its machine is a file"
        if n == 1:
            assert called() == 2, "the next request wakes it, with all that it had"
        else:
            assert do("resume", one).returncode == 0
            becomes("idle")
            assert called() == 3, "or an operator does"
    assert only()["instance"] == one
    assert do("terminate", one).returncode == 0
    wait_for(lambda: server.instances("one") == [], "it is gone", 30)
    assert called() == 1, "the next request has another"

    refused = do("suspend", one)
    assert refused.returncode != 0 and "there is no such instance" in refused.stderr
    refused = do("suspend", "no id")
    assert refused.returncode != 0 and "there is no such instance" in refused.stderr
