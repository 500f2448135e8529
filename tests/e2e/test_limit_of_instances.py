"""Far more wanted at once than there is room for: everybody is answered, the limit holds, and nothing is left."""

import asyncio
import json
import os
import threading
from collections import Counter

import pytest

from harness import archives
from harness.remains import cgroups, descendants, marked_processes, worker_name
from harness.server import ACCOUNT
from harness.wait import wait_for

LIMIT, WANTED, MEMORY_MB = 10, 1000, 128
SIGNED = f"Authorization: AWS4-HMAC-SHA256 Credential={ACCOUNT}/x, Signature=y"


async def call(address, number):
    """The status of a request and its answer."""
    reader, writer = await asyncio.open_connection(*address)
    try:
        body = json.dumps({"name": str(number), "sleep_ms": 50})
        writer.write(
            f"POST /2015-03-31/functions/crowd/invocations HTTP/1.1\r\nHost: x\r\n{SIGNED}\r\nConnection: close\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode()
        )
        head, _, answer = (await reader.read()).partition(b"\r\n\r\n")
        return int(head.split()[1]), answer
    finally:
        writer.close()


async def crowd(address):
    return await asyncio.gather(*(asyncio.wait_for(call(address, n), 200) for n in range(WANTED)))


class Most:
    """Looks at instances all the time: the most that there were."""

    def __init__(self, server):
        self.server, self.instances, self.looks, self.over = server, 0, 0, threading.Event()
        self.thread = threading.Thread(target=self._look)

    def _look(self):
        while not self.over.wait(0.02):
            alive = [i for i in self.server.instances() if i["state"] not in ("ending", "gone")]
            self.instances, self.looks = max(self.instances, len(alive)), self.looks + 1

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.over.set()
        self.thread.join()
        assert self.looks > 0


@pytest.mark.timeout(300)
def test_a_thousand_at_once_against_a_limit_of_ten_are_all_answered_and_leave_nothing(own, static_echo, tmp_path):
    data = tmp_path / "data"
    server = own("--memory", str(LIMIT * MEMORY_MB), "--oversubscription", "100", data=data)
    client = server.client()
    server.create(client, "crowd", archives.pack({"bootstrap": static_echo.read_bytes()}, 0o755), "provided.al2023", Timeout=60, MemorySize=MEMORY_MB)
    with Most(server) as most:
        answers = asyncio.run(crowd(server.address))
    outcomes = Counter(status for status, _ in answers)
    assert sum(outcomes.values()) == WANTED and set(outcomes) <= {200, 429, 503} and outcomes[200] > 0, outcomes
    for number, (status, answer) in enumerate(answers):
        assert status != 200 or json.loads(answer)["message"] == f"Hello, {number}, from Rust!", "each has the answer to its own"
        assert status == 200 or json.loads(answer), "who had no room is told so"
    assert 1 <= most.instances <= LIMIT, most.instances
    # Whoever comes later finds room.
    assert asyncio.run(call(server.address, 1))[0] == 200
    for instance in server.instances():
        server.command("instance", "terminate", instance["instance"])
    wait_for(lambda: server.instances() == [], "the instances end", 60)
    pids = descendants(server.pid)
    assert server.stop() == 0
    wait_for(lambda: not [pid for pid in pids if os.path.exists(f"/proc/{pid}")], "the processes end", 30)
    assert marked_processes(server.mark) == {} and cgroups(worker_name(data)) == []
