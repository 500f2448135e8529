"""A flood of one function is the flood's own trouble.

What a flood adds to another function's latency is judged by order and counts, never by the clock: on a slow machine both are slow
alike. (The p99 itself is proven in virtual time: crates/manager/src/manager/tests/fairness.rs.)
"""

import threading
from concurrent.futures import ThreadPoolExecutor

from harness import archives
from harness.server import invoke
from harness.wait import wait_for

# Instances that there is room for; callers of the flood, of whom so many always wait.
ROOM, CALLERS = 4, 40
WAITING = CALLERS - ROOM


class Flood:
    """Callers of a function, each of whom calls again as soon as it is answered; counts their answers."""

    def __init__(self, client, name):
        self.answered, self.refused, self.over = 0, 0, threading.Event()
        self.client, self.name = client, name
        self.pool = ThreadPoolExecutor(CALLERS)
        self.callers = [self.pool.submit(self.call) for _ in range(CALLERS)]

    def call(self):
        while not self.over.is_set():
            try:
                invoke(self.client, self.name, {"sleep": 0.05}, LogType="None")
                self.answered += 1
            except self.client.exceptions.ClientError:
                self.refused += 1

    def stop(self):
        self.over.set()
        self.pool.shutdown()
        [caller.result() for caller in self.callers]


def test_a_flood_of_one_function_does_not_make_another_queue_behind_it(own, python):
    server = own("--memory", str(ROOM * 256), "--oversubscription", "100")
    client = server.client()
    for name in ["flood", "calm"]:
        tags = {"hearth:queue": "wait=30s"}
        server.create(client, name, archives.function("python-echo"), python, MemorySize=256, Timeout=30, Tags=tags)
    flood = Flood(server.client(), "flood")
    try:
        full = lambda: sum(one["state"] == "busy" for one in server.instances("flood")) == ROOM
        wait_for(full, "the flood has all the room", timeout=60)
        wait_for(lambda: flood.answered > 2 * WAITING, "the flood flows", timeout=60)
        # The first call needs an instance, which the flood gives up though it has requests that came earlier.
        assert invoke(client, "calm", {"id": -1})[0]["served"] == 1
        overtaken = []
        for number in range(60):
            before = flood.answered
            answer = invoke(client, "calm", {"id": number, "sleep": 0.05}, LogType="None")[0]
            overtaken.append(flood.answered - before)
            assert answer["event"]["id"] == number and answer["served"] == number + 2, "its instance stays its own"
        # Behind the queue, each would have seen all of the waiting go first. With a slot of its own it sees what the other
        # three instances answer while it runs.
        overtaken.sort()
        assert overtaken[len(overtaken) // 2] <= 2 * ROOM, overtaken
        assert overtaken[-2] < WAITING // 2, overtaken
        assert len(server.instances("calm")) == 1 and len(server.instances("flood")) <= ROOM - 1
    finally:
        flood.stop()
    # The flood itself is served on, by what it has left; nobody is turned away.
    assert flood.refused == 0 and flood.answered > 4 * WAITING


def test_two_floods_share_the_room_and_each_is_served(own, python):
    server = own("--memory", str(ROOM * 256), "--oversubscription", "100")
    client = server.client()
    for name in ["first", "second"]:
        tags = {"hearth:queue": "wait=30s"}
        server.create(client, name, archives.function("python-echo"), python, MemorySize=256, Timeout=30, Tags=tags)
    first = Flood(server.client(), "first")
    second = None
    try:
        wait_for(lambda: len(server.instances("first")) == ROOM, "the first has all the room", timeout=60)
        second = Flood(server.client(), "second")
        even = lambda: [len(server.instances(name)) for name in ["first", "second"]] == [ROOM // 2] * 2
        wait_for(even, "each has half of the room", timeout=60)
        before = (first.answered, second.answered)
        wait_for(lambda: first.answered + second.answered > sum(before) + 200, "two hundred more", timeout=60)
        grown = [first.answered - before[0], second.answered - before[1]]
        assert min(grown) >= 50, f"neither starves: {grown}"
    finally:
        first.stop()
        if second:
            second.stop()
    assert (first.refused, second.refused) == (0, 0)
