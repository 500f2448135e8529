"""Keys, and a signer by hand, for what no decent client signs."""

import datetime
import hashlib
import hmac
import http.client
import json
from urllib.parse import quote

import boto3
from botocore.config import Config

from .server import hearth


class Key:
    """An access key of a server."""

    def __init__(self, made):
        self.id, self.secret, self.account = made["access_key_id"], made["secret_access_key"], made["account"]

    @property
    def environment(self):
        return {"AWS_ACCESS_KEY_ID": self.id, "AWS_SECRET_ACCESS_KEY": self.secret}


def create(*arguments, environment=None):
    """`hearth key create`, and what it made."""
    made = hearth("key", "create", "--json", *arguments, environment=environment)
    assert made.returncode == 0, made.stderr
    return Key(json.loads(made.stdout))


def client(server, service, key, secret=None, token=None, region="us-east-1"):
    """A client of boto3 with a key, or with an id and a secret."""
    return boto3.session.Session().client(
        service,
        endpoint_url=server.endpoint,
        region_name=region,
        aws_access_key_id=getattr(key, "id", key),
        aws_secret_access_key=secret or key.secret,
        aws_session_token=token,
        config=Config(retries={"total_max_attempts": 1}, read_timeout=60),
    )


def now(seconds=0):
    moment = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(seconds=seconds)
    return moment.strftime("%Y%m%dT%H%M%SZ")


def signature(secret, date, region, service, canonical):
    """The signature of a canonical request, by the book."""
    scope = f"{date[:8]}/{region}/{service}/aws4_request"
    text = f"AWS4-HMAC-SHA256\n{date}\n{scope}\n{hashlib.sha256(canonical.encode()).hexdigest()}"
    key = f"AWS4{secret}".encode()
    for part in [date[:8], region, service, "aws4_request"]:
        key = hmac.digest(key, part.encode(), "sha256")
    return hmac.new(key, text.encode(), "sha256").hexdigest()


def sign(server, key, method, path, query="", body=b"", date=None, more=(), service="lambda", region="us-east-1", unsigned=(), canonical_path=None, payload=None):
    """The headers of a signed request. What is in `more` is signed but for the names in `unsigned`."""
    date = date or now()
    headers = {"host": "{}:{}".format(*server.address), "x-amz-date": date, **dict(more)}
    names = sorted(name for name in headers if name not in unsigned)
    pairs = sorted(query.split("&")) if query else []
    lines = [
        method,
        quote(path if canonical_path is None else canonical_path, safe="/-_.~"),
        "&".join(pairs),
        *(f"{name}:{' '.join(headers[name].split())}" for name in names),
        "",
        ";".join(names),
        payload or headers.get("x-amz-content-sha256") or hashlib.sha256(body).hexdigest(),
    ]
    made = signature(key.secret, date, region, service, "\n".join(lines))
    credential = f"{key.id}/{date[:8]}/{region}/{service}/aws4_request"
    headers["authorization"] = f"AWS4-HMAC-SHA256 Credential={credential}, SignedHeaders={';'.join(names)}, Signature={made}"
    return headers


def ask(server, method, path, headers=(), body=b""):
    """Sends a request as it is: status, the error's type or None, and the document."""
    connection = http.client.HTTPConnection(*server.address, timeout=30)
    connection.putrequest(method, path, skip_host="host" in dict(headers), skip_accept_encoding=True)
    if body or method in ("POST", "PUT"):
        connection.putheader("content-length", str(len(body)))
    for name, value in headers.items() if isinstance(headers, dict) else headers:
        connection.putheader(name, value)
    connection.endheaders(body or None)
    answer = connection.getresponse()
    text = answer.read()
    connection.close()
    try:
        document = json.loads(text)
    except ValueError:
        document = text
    return answer.status, answer.headers.get("x-amzn-errortype"), document
