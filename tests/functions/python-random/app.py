"""Draws random numbers in all ways that Python's users know, some of them before the snapshot already."""

import os
import random
import secrets
import ssl
import uuid

random.random(), ssl.RAND_bytes(8), uuid.uuid4()


def handler(event, context):
    if event.get("exit"):
        os._exit(0)
    return {
        "random": random.random(),
        "shuffled": random.sample(range(10**9), 2),
        "secrets": secrets.token_hex(8),
        "uuid4": str(uuid.uuid4()),
        "openssl": ssl.RAND_bytes(8).hex(),
        "kernel": os.urandom(8).hex(),
    }
