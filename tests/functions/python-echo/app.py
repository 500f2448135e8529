"""Answers the event, and says which instance did it."""

import os
import time
import uuid

INSTANCE = str(uuid.uuid4())
served = 0


def handler(event, context):
    global served
    served += 1
    time.sleep(event.get("sleep", 0))
    return {
        "event": event,
        "instance": INSTANCE,
        "served": served,
        "version": os.environ.get("CODE_VERSION", "1"),
        "request_id": context.aws_request_id,
    }
