"""Makes moto's own tests speak to Hearth, and to moto for what is not Lambda's.

moto's server mode sends every client to one endpoint. Here Lambda, IAM, STS and CloudWatch Logs go to the Hearth of their
region and all else to a moto server. What moto calls a reset is done through Hearth's API: everything of the account is
deleted. moto's functions are ready at once, Hearth's in a moment, as Lambda's: the client waits for that.
"""

import functools
import os

import boto3
import requests
from botocore.exceptions import ClientError

from moto.core import models

HEARTHS = dict(pair.split("=", 1) for pair in os.environ["HEARTH_ENDPOINTS"].split())
OTHERS = models.settings.test_server_mode_endpoint()
USED = set()
OURS = {"lambda", "iam", "sts", "logs"}
make_client = boto3.client
enable_patching = models.ServerModeMockAWS._enable_patching


def pytest_configure(config):
    for mark in ("requires_docker", "network", "aws_verified"):
        config.addinivalue_line("markers", f"{mark}: of moto's own")
    # The runtime that this machine has, for tests that name moto's newest.
    from tests.test_awslambda import utilities

    utilities.PYTHON_VERSION = os.environ["HEARTH_MOTO_RUNTIME"]
    models.ServerModeMockAWS.reset = lambda self: reset()
    models.ServerModeMockAWS._enable_patching = route


def route(mock, reset=True):
    """As moto's own, which patches boto3, and then our endpoint for our services."""
    enable_patching(mock, reset)
    client = boto3.client

    def routed(service_name, *arguments, **named):
        if service_name not in OURS or "endpoint_url" in named:
            return client(service_name, *arguments, **named)
        region = named.get("region_name") or (arguments[0] if arguments else os.environ["AWS_DEFAULT_REGION"])
        made = client(service_name, *arguments, endpoint_url=HEARTHS.get(region, OTHERS), **named)
        if service_name == "lambda" and region in HEARTHS:
            USED.add(region)
            for operation in ("CreateFunction", "UpdateFunctionCode", "UpdateFunctionConfiguration"):
                made.meta.events.register(f"after-call.lambda.{operation}", settled(region))
        return made

    boto3.client = routed


def settled(region):
    """Waits until a function that was just made or changed is ready, or cannot be."""

    def wait(parsed, **_):
        client = hearth(region)
        while parsed.get("FunctionArn"):
            try:
                config = client.get_function_configuration(FunctionName=parsed["FunctionName"])
            except ClientError:
                return
            if config["State"] != "Pending" and config["LastUpdateStatus"] != "InProgress":
                return

    return wait


@functools.cache
def hearth(region):
    return make_client("lambda", region, endpoint_url=HEARTHS[region])


def reset():
    requests.post(f"{OTHERS}/moto-api/reset", timeout=10)
    # Only where something can be.
    while USED:
        empty(hearth(USED.pop()))


def empty(client):
    for page in client.get_paginator("list_functions").paginate():
        for function in page["Functions"]:
            client.delete_function(FunctionName=function["FunctionName"])
    for remove in (remove_layers, remove_mappings):
        try:
            remove(client)
        except ClientError as error:
            # An operation that Hearth lacks leaves nothing behind.
            if error.response["Error"]["Code"] != "UnsupportedOperationException":
                raise


def remove_layers(client):
    for layer in client.list_layers()["Layers"]:
        for version in client.list_layer_versions(LayerName=layer["LayerName"])["LayerVersions"]:
            client.delete_layer_version(LayerName=layer["LayerName"], VersionNumber=version["Version"])


def remove_mappings(client):
    for mapping in client.list_event_source_mappings()["EventSourceMappings"]:
        client.delete_event_source_mapping(UUID=mapping["UUID"])
