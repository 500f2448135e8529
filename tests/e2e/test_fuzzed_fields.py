"""Every text of Lambda's model, at and past its bounds, through a real client: answered, never with a 500, never with a hang.

The requests are made from botocore's model, so that what is new there is asked, too. They are the same in every run.
"""

import random
import re

import pytest
from botocore.exceptions import ClientError, HTTPClientError, ReadTimeoutError

from harness import archives
from harness.server import ACCOUNT, ROLE, ROOT, Hearth

# Errors that any operation may have, besides those that the model names for it.
COMMON = {
    "ValidationException",
    "SerializationException",
    "AccessDeniedException",
    "InvalidParameterValueException",
    "ResourceNotFoundException",
    "ResourceConflictException",
    "PreconditionFailedException",
    "RequestEntityTooLargeException",
    "RequestHeaderFieldsTooLargeException",
    "UnsupportedOperationException",
    # A path with an empty part is another path, or none.
    "UnknownOperationException",
}
PAGE = (ROOT / "docs/LAMBDA-API.md").read_text()
OPERATIONS = re.findall(r"^\| (\w+) \| `[A-Z]+ /\S+` \| yes \|", PAGE, re.M)
CODE = archives.pack({"app.py": "def handler(event, context):\n    return event\n"})
ARN = f"arn:aws:lambda:us-east-1:{ACCOUNT}"
# What a request needs to get as far as the field that is tried.
USUAL = {
    "FunctionName": "fuzzed",
    "Runtime": "python3.12",
    "Handler": "app.handler",
    "Role": ROLE,
    "Code": {"ZipFile": CODE},
    "Content": {"ZipFile": CODE},
    "ZipFile": CODE,
    "LayerName": "fuzzed",
    "VersionNumber": 1,
    "Name": "live",
    "FunctionVersion": "1",
    "Qualifier": "1",
    "StatementId": "s",
    "Action": "lambda:InvokeFunction",
    "Principal": "s3.amazonaws.com",
    "Resource": f"{ARN}:function:fuzzed",
    "ResourceArn": f"{ARN}:function:fuzzed",
    "Arn": f"{ARN}:layer:fuzzed:1",
    "Payload": b"{}",
    "InvokeArgs": b"{}",
    "AuthType": "NONE",
    "UpdateRuntimeOn": "Auto",
    "RecursiveLoop": "Allow",
    "ProvisionedConcurrentExecutions": 1,
    "ReservedConcurrentExecutions": 1,
    "Policy": '{"Statement": []}',
    "Tags": {"a": "b"},
    "TagKeys": ["a"],
}
NONSENSE = ["", " ", "\u0000", "a\nb", "é日本\U0001f600", "../../etc/passwd", "%00%2e%2e", "${jndi:x}", "'; DROP TABLE function; --", "a" * 70_000, "*", ":", "arn:aws:lambda:::", "$LATEST", "-1", "9" * 30]


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with Hearth(tmp_path_factory.mktemp("fuzzed")) as server:
        yield server.ready()


@pytest.fixture(scope="module")
def client(server):
    return server.client(parameter_validation=False, read_timeout=30)


def usual(shape, name="", depth=0):
    """A value of a shape that is plain enough to be taken."""
    if name in USUAL:
        return USUAL[name]
    kind = shape.type_name
    if kind == "structure":
        return {member: usual(shape.members[member], member, depth + 1) for member in shape.required_members} if depth < 6 else {}
    if kind == "list":
        return [usual(shape.member, "", depth + 1)]
    if kind == "map":
        return {}
    if kind == "string":
        return shape.enum[0] if shape.enum else "a" * max(1, shape.metadata.get("min", 1))
    return {"boolean": True, "blob": b"{}", "timestamp": 0}.get(kind, max(1, shape.metadata.get("min", 1)))


def texts(shape, path=(), depth=0):
    """The path of every text in a shape, and its bounds."""
    if depth > 5:
        return
    if shape.type_name == "structure":
        for member, inner in shape.members.items():
            yield from texts(inner, (*path, member), depth + 1)
    elif shape.type_name == "list":
        yield from texts(shape.member, (*path, 0), depth + 1)
    elif shape.type_name == "map":
        yield from texts(shape.value, (*path, "key"), depth + 1)
    elif shape.type_name == "string":
        yield path, shape.metadata.get("min", 0), shape.metadata.get("max", 5_000)


def put(value, path, text):
    """`value` with `text` at `path`, and what leads there."""
    if not path:
        return text
    step, rest = path[0], path[1:]
    if step == 0:
        return [put(value[0] if isinstance(value, list) and value else None, rest, text)]
    inside = dict(value) if isinstance(value, dict) else {}
    inside[step] = put(inside.get(step), rest, text)
    return inside


def tried(chance, least, most):
    bounds = [length for length in (least - 1, least, most, most + 1) if 0 <= length <= 70_000]
    return ["a" * length for length in bounds] + ["1" * max(1, least)] + chance.sample(NONSENSE, 5)


def prepare(client):
    """What most requests are about, as far as those before have taken it away."""
    try:
        client.get_function_configuration(FunctionName="fuzzed")
    except client.exceptions.ResourceNotFoundException:
        client.create_function(FunctionName="fuzzed", Runtime="python3.12", Handler="app.handler", Role=ROLE, Code={"ZipFile": CODE})
    if not client.list_layer_versions(LayerName="fuzzed")["LayerVersions"]:
        client.publish_layer_version(LayerName="fuzzed", Content={"ZipFile": CODE})


def test_the_operations_that_are_there_are_found():
    assert len(OPERATIONS) > 50


@pytest.mark.parametrize("operation", OPERATIONS)
def test_every_text_at_and_past_its_bounds_is_answered(server, client, operation):
    prepare(client)
    model = client.meta.service_model.operation_model(operation)
    allowed = COMMON | {error.name for error in model.error_shapes}
    method = {api: python for python, api in client.meta.method_to_api_mapping.items()}[operation]
    shape, chance, wrong = model.input_shape, random.Random(operation), []
    request = usual(shape) if shape else {}
    for path, least, most in texts(shape) if shape else []:
        for text in tried(chance, least, most):
            try:
                getattr(client, method)(**put(request, path, text))
            except ClientError as error:
                answer = error.response
                status, code = answer["ResponseMetadata"]["HTTPStatusCode"], answer["Error"]["Code"]
                if code == str(status) and status in (400, 414, 431) and (len(text) > 60_000 or "\u0000" in text):
                    # HTTP itself has no request line that long, and no such character in a header.
                    continue
                if code not in allowed or status >= 500 and code != "UnsupportedOperationException":
                    wrong.append((path, text[:60], len(text), status, code, answer["Error"]["Message"][:200]))
            except ReadTimeoutError:
                wrong.append((path, text[:60], len(text), "no answer within 30 s"))
            except (HTTPClientError, ValueError, TypeError, AttributeError):
                # The client could not send it: a header with a line end, a text where it wants something else.
                pass
    assert not wrong, "\n".join(map(str, wrong))
    assert server.process.poll() is None
