"""Greets, after an optional pause, and says which instance did."""

import platform
import time


def handler(event, context):
    time.sleep(event.get("sleep_ms", 0) / 1000)
    name = event.get("name", "world")
    print(f"greeting {name}")
    return {
        "message": f"Hello, {name}, from Python {platform.python_version()}!",
        "instance": context.log_stream_name,
        "request_id": context.aws_request_id,
    }
