"""A real server that speaks S3 for the tests (moto), which notes requests and can be told to fail."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import boto3
import httpx
import pytest
from moto.server import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import WSGIRequestHandler, make_server

REGION = "us-east-1"
KEY, SECRET = "AKIAPHANTOMFRAMES000", "phantom/secret+of/the+tests/0123456789"


@dataclass
class S3Server:
    """A running server: its address, a client, and ``seen``, what was asked of it (method, path).

    ``fails`` is asked before each request (method, path with query) and may give an answer in its place.
    """

    endpoint: str
    seen: list[tuple[str, str]] = field(default_factory=list)
    fails: Callable[[str, str], tuple[str, bytes] | None] = lambda method, path: None

    def client(self, service: str = "s3", key: str = KEY, secret: str = SECRET) -> Any:
        """Return boto's own client."""
        return boto3.client(
            service,
            endpoint_url=self.endpoint,
            region_name=REGION,
            aws_access_key_id=key,
            aws_secret_access_key=secret,
        )

    def reset(self) -> None:
        """Forget all buckets, requests and faults."""
        self.fails = lambda method, path: None
        httpx.post(f"{self.endpoint}/moto-api/reset").raise_for_status()
        self.seen.clear()

    def make(self, bucket: str) -> str:
        """Make a bucket and return its name."""
        self.client().create_bucket(Bucket=bucket)
        return bucket

    def keys(self, bucket: str) -> list[str]:
        """Return the names of what lies in a bucket."""
        return [one["Key"] for one in self.client().list_objects_v2(Bucket=bucket).get("Contents", [])]

    def content(self, bucket: str, key: str) -> bytes:
        """Return an object."""
        content: bytes = self.client().get_object(Bucket=bucket, Key=key)["Body"].read()
        return content

    def remove(self, bucket: str) -> None:
        """Delete a bucket with all that lies in it."""
        for key in self.keys(bucket):
            self.client().delete_object(Bucket=bucket, Key=key)
        self.client().delete_bucket(Bucket=bucket)

    def puts(self) -> list[str]:
        """Return the paths of the objects that were sent, in this order."""
        return [path for method, path in self.seen if method == "PUT" and path.count("/") > 1]

    @contextmanager
    def with_rights(self, *actions: str) -> Iterator[tuple[str, str]]:
        """Enforce rights; give the key and the secret of a user who has these."""
        iam = self.client("iam")
        policy = '{"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": [%s], "Resource": "*"}]}'
        iam.create_user(UserName="importer")
        named = ", ".join(f'"{action}"' for action in actions or ("s3:GetObject",))
        iam.put_user_policy(UserName="importer", PolicyName="rights", PolicyDocument=policy % named)
        made = iam.create_access_key(UserName="importer")["AccessKey"]
        self._enforce("0")
        try:
            yield made["AccessKeyId"], made["SecretAccessKey"]
        finally:
            self._enforce("inf")
            iam.delete_access_key(UserName="importer", AccessKeyId=made["AccessKeyId"])
            iam.delete_user_policy(UserName="importer", PolicyName="rights")
            iam.delete_user(UserName="importer")

    def _enforce(self, after: str) -> None:
        httpx.post(f"{self.endpoint}/moto-api/reset-auth", content=after).raise_for_status()


class _Quiet(WSGIRequestHandler):
    def log_request(self, *what: object) -> None:
        pass


@contextmanager
def running_s3() -> Iterator[S3Server]:
    """Run a server on a free port of 127.0.0.1 until the block ends."""
    app = DomainDispatcherApplication(create_backend_app)

    def noted(environment: dict[str, Any], start: Any) -> Iterable[bytes]:
        method, path = environment["REQUEST_METHOD"], environment["PATH_INFO"]
        server.seen.append((method, path))
        answer = server.fails(method, f"{path}?{environment['QUERY_STRING']}")
        if answer is None:
            return app(environment, start)  # type: ignore[no-any-return]
        start(answer[0], [("Content-Type", "application/xml")])
        return [answer[1]]

    listener = make_server("127.0.0.1", 0, noted, threaded=True, request_handler=_Quiet)
    server = S3Server(f"http://127.0.0.1:{listener.port}")
    thread = threading.Thread(target=listener.serve_forever)
    thread.start()
    try:
        yield server
    finally:
        listener.shutdown()
        thread.join()
        listener.server_close()


@pytest.fixture(scope="module")
def s3_server() -> Iterator[S3Server]:
    """A server of its own for the tests of a file."""
    with running_s3() as server:
        yield server
