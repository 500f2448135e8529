"""An operator's tools read from a server what it does."""

import json
import re

from harness import archives
from harness.server import ACCOUNT, ROOT, invoke
from harness.wait import wait_for


def test_metrics_are_prometheus_text_and_count_what_happens(shared, lambda_client, name, python):
    before = shared.metrics()
    shared.create(lambda_client, name, archives.function("python-echo"), python)
    for _ in range(3):
        invoke(lambda_client, name)
    after = shared.metrics()
    grown = {key for key in after if after[key] >= before.get(key, 0) + 3}
    assert grown, "three invocations moved no metric by three"
    text = shared.get("/metrics").decode()
    sample = re.compile(r"^[a-zA-Z_:][a-zA-Z0-9_:]*(\{[^}]*\})? [-+0-9.eE]+(Inf|NaN)?$")
    bad = [line for line in text.splitlines() if line and not line.startswith("#") and not sample.match(line)]
    assert bad == [] and "hearth_frontend_requests_total" in text
    assert all(re.match(r"hearth_(frontend|manager|placement|worker|events)_", key) for key in after)
    # Labels are bounded: a tenant's words are not among them.
    assert name not in text


def test_the_page_of_metrics_has_all_that_there_are_and_no_others(shared, lambda_client, name, python):
    shared.create(lambda_client, name, archives.function("python-echo"), python)
    invoke(lambda_client, name)
    page = (ROOT / "docs/METRICS.md").read_text()
    told = re.findall(r"^\| `(\w+)(?:\{([\w,]+)\})?` \| (\w+) \|", page, re.MULTILINE)
    types = dict(re.findall(r"^# TYPE (\w+) (\w+)$", shared.get("/metrics").decode(), re.MULTILINE))
    there = set()
    for sample in shared.metrics():
        family, labels = re.fullmatch(r"(\w+?)(?:_bucket|_sum|_count)?(?:\{(.*)\})?", sample).groups()
        labels = re.findall(r"(\w+)=", labels or "")
        there.add((family, ",".join(label for label in labels if label != "le"), types[family.removesuffix("_total")]))
    assert there == set(told)


def test_health_is_told(shared):
    assert json.loads(shared.get("/_hearth/health")) == {"status": "ok"}


def test_every_line_about_an_invocation_says_which_request_function_and_instance(own, python):
    server = own(environment={"HEARTH_LOG": "hearth=debug"})
    client = server.client()
    server.create(client, "traced", archives.function("python-echo"), python)
    _, answer = invoke(client, "traced")
    request = answer["ResponseMetadata"]["RequestId"]

    def lines(message):
        return [line for line in server.log().splitlines() if message in line and request in line]

    for message in ["leased", "invocation finished"]:
        wait_for(lambda: lines(message), f"{message} is logged")
        (line,) = lines(message)
        assert f"function={ACCOUNT}/traced" in line and "instance=" in line, line
