"""One instance takes as many requests at once as its function allows, and never more than are good for it."""

import threading
import time

from harness import archives
from harness.clients import tail
from harness.server import invoke
from harness.wait import wait_for
from test_concurrency import call_all

NODE = """
let running = 0;
exports.handler = async (event) => {
  running += 1;
  const most = running;
  console.log(`mark ${event.id}`);
  await new Promise((resolve) => setTimeout(resolve, event.sleep ?? 0));
  running -= 1;
  return { id: event.id, most, instance: process.env.AWS_LAMBDA_LOG_STREAM_NAME };
};
"""

# Every request takes 20 ms while there are at most eight of them; each one more doubles that.
EXPLODES = """
let running = 0;
exports.handler = async () => {
  running += 1;
  const beyond = Math.max(0, running - 8);
  await new Promise((resolve) => setTimeout(resolve, 20 * 2 ** Math.min(beyond, 7)));
  running -= 1;
  return running;
};
"""


def test_node_runs_many_at_once_in_one_instance(shared, lambda_client, name, node):
    archive = archives.pack({"app.js": NODE})
    tags = {"hearth:concurrency": "hard=4"}
    shared.create(lambda_client, name, archive, node, Timeout=20, Tags=tags)
    invoke(lambda_client, name, {"id": -1})
    answers = call_all(lambda_client, name, [{"id": n, "sleep": 500} for n in range(4)], 4)
    assert [answer["id"] for answer in answers] == list(range(4))
    assert len({answer["instance"] for answer in answers}) == 1 and len(shared.instances(name)) == 1
    assert max(answer["most"] for answer in answers) == 4
    _, raw = invoke(lambda_client, name, {"id": 77})
    assert f"{raw['ResponseMetadata']['RequestId']}\tINFO\tmark 77" in tail(raw)


def test_python_runs_many_at_once_in_one_instance(shared, lambda_client, name, python):
    shared.create(
        lambda_client, name, archives.function("python-echo"), python, Timeout=20, MemorySize=512,
        Tags={"hearth:concurrency": "hard=3"},
    )
    invoke(lambda_client, name, {"id": -1})
    began = time.monotonic()
    answers = call_all(lambda_client, name, [{"id": n, "sleep": 1} for n in range(3)], 3)
    assert sorted(answer["event"]["id"] for answer in answers) == [0, 1, 2]
    assert len(shared.instances(name)) == 1, "one instance for all three"
    assert time.monotonic() - began < 3 * 1, "they ran side by side"


def test_the_hard_limit_makes_another_instance(shared, lambda_client, name, node):
    archive = archives.pack({"app.js": NODE})
    shared.create(lambda_client, name, archive, node, Timeout=20, Tags={"hearth:concurrency": "hard=2"})
    answers = call_all(lambda_client, name, [{"id": n, "sleep": 1000} for n in range(6)], 6)
    assert max(answer["most"] for answer in answers) == 2
    assert len({answer["instance"] for answer in answers}) >= 3


def goodput(client, name, seconds=6, callers=32, deadline=0.5):
    """Answers within the deadline, by callers that each send one request after another."""
    good, end = [0] * callers, time.monotonic() + seconds

    def caller(number):
        while (began := time.monotonic()) < end:
            invoke(client, name, {}, LogType="None")
            good[number] += time.monotonic() - began < deadline

    threads = [threading.Thread(target=caller, args=(n,)) for n in range(callers)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    return sum(good)


def test_an_instance_whose_latency_explodes_is_not_overloaded(own, node):
    """Room for one instance only, so that all the requests must share it."""
    server = own("--memory", "512", "--oversubscription", "100")
    client = server.client()
    archive = archives.pack({"app.js": EXPLODES})
    counted = {}
    for kind in ["on", "off"]:
        tags = {"hearth:concurrency": f"soft=32,hard=32,adaptive={kind}", "hearth:queue": "wait=20s"}
        server.create(client, kind, archive, node, Timeout=60, MemorySize=512, Tags=tags)
        counted[kind] = goodput(client, kind)
        [instance] = server.instances(kind)
        assert instance["most_slots"] == 32
        assert instance["slots"] == 32 if kind == "off" else 4 <= instance["slots"] <= 12, instance
        client.delete_function(FunctionName=kind)
        wait_for(lambda: not server.instances(), "the instance is gone")
    assert counted["on"] >= 2 * counted["off"], counted
