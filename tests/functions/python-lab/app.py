"""Runs what the event says, so that each test holds its own attack or misstep.

INIT_CODE runs while the module loads: in the init phase.
"""

import os

exec(os.environ.get("INIT_CODE", ""))


def handler(event, context):
    scope = {"event": event, "context": context}
    exec(event["code"], scope)
    return scope.get("result")
