"""Pictures in a bucket that speaks S3."""

from __future__ import annotations

import io
import re
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from PIL import Image

from ml_backend.errors import BucketUnusable, ExtraMissing, InvalidRequest
from ml_backend.ingest.places import BUCKETS
from ml_backend.ingest.storage import save_png
from ml_backend.settings import PREFIX
from ml_backend.studio.client import Studio
from ml_backend.studio.storages import BucketAccess

AT_ONCE = 10  # pictures that are sent at the same time
_ADDRESS = re.compile(r"s3://(?P<bucket>[a-z0-9][a-z0-9.-]{1,61}[a-z0-9])/(?P<prefix>[\w.-]+(?:/[\w.-]+)*)/?", re.ASCII)
_CONFIGURATION = {
    "connect_timeout": 10,
    "read_timeout": 60,
    "retries": {"mode": "standard", "max_attempts": 3},
    # Several servers that speak S3 refuse uploads with the checksums that are Amazon's default.
    "request_checksum_calculation": "when_required",
    "response_checksum_validation": "when_required",
}
_WRONG_KEYS = ("InvalidAccessKeyId", "SignatureDoesNotMatch", "InvalidToken", "ExpiredToken")


@dataclass(frozen=True)
class BucketFolder:
    """What lies in a bucket under a prefix."""

    bucket: str
    prefix: str

    @classmethod
    def parse(cls, address: str) -> BucketFolder:
        """Read ``s3://BUCKET/PREFIX``, or raise InvalidRequest."""
        found = _ADDRESS.fullmatch(address)
        if found is None or not {".", ".."}.isdisjoint(PurePosixPath(found["prefix"]).parts):
            raise InvalidRequest(
                f"{address!r} is not of the form s3://BUCKET/PREFIX, with a prefix of letters, digits, dots, hyphens, "
                "underscores and slashes"
            )
        return cls(found["bucket"], found["prefix"])

    def __str__(self) -> str:
        return f"{BUCKETS}{self.bucket}/{self.prefix}"


class Bucket:
    """Keeps pictures in a bucket, and lets Label Studio show them by an S3 storage of the project.

    Safe to use from several threads. Putting an object is atomic: after an interruption a picture is there whole, or
    not at all.

    Raises:
        ExtraMissing: if s3fs is not installed.
        BucketUnusable: from every method but `address`, saying what to change and telling no secret.
    """

    folder = None

    def __init__(self, place: BucketFolder, access: BucketAccess) -> None:
        self._place, self._access = place, access
        self._files = _file_system(access)
        self._lock = threading.Lock()  # over what follows
        self._there: set[str] = set()
        self._waiting: dict[str, bytes] = {}
        self._unserved: tuple[Studio, int] | None = None

    def address(self, name: str) -> str:
        """Return the address of a picture, which Label Studio resolves through the project's storage."""
        return f"{self._place}/{name}"

    def open(self, studio: Studio, project: int) -> None:
        """List what the bucket holds, once for the whole import."""
        with self._explained("list"):
            # Not `find` of the whole place: where that is empty, it would ask for an object of this name too.
            found = self._files.find(self._place.bucket, prefix=f"{self._place.prefix}/")
        self._there = {f"{BUCKETS}{path}" for path in found}
        self._unserved = studio, project

    def keep(self, name: str, picture: Image.Image) -> None:
        """Upload a picture unless it is there already; pictures are uploaded several at a time."""
        address, file = self.address(name), io.BytesIO()
        if address in self._there:
            return
        save_png(picture, file)
        with self._lock:
            if address in self._there:
                return
            self._there.add(address)
            self._waiting[address] = file.getvalue()
            if len(self._waiting) >= AT_ONCE:
                self._send()

    def settle(self) -> None:
        """Upload what is waiting, and let the project show it; raises StudioRefused if Label Studio cannot."""
        with self._lock:
            self._send()
        # Only now: Label Studio refuses a storage that is still empty.
        if self._unserved is not None and self._there:
            serve(*self._unserved, self._place, self._access)
            self._unserved = None

    def _send(self) -> None:
        if self._waiting:
            with self._explained("write to"):
                self._files.pipe(self._waiting, batch_size=AT_ONCE, ContentType="image/png")
            # After an error they keep waiting: no task may be sent before its picture, whichever thread met the error.
            self._waiting.clear()

    @contextmanager
    def _explained(self, what: str) -> Iterator[None]:
        """Turn every error of a call into BucketUnusable, without the server's words, which may hold what was sent."""
        from botocore.exceptions import NoCredentialsError, PartialCredentialsError

        try:
            yield
        except (NoCredentialsError, PartialCredentialsError):
            reason = f"there is no access key; set {PREFIX}S3_KEY and {PREFIX}S3_SECRET"
        except OSError as error:
            reason = self._refusal(what, error)
        except Exception as error:  # botocore's, which share no base
            reason = (
                f"{self._access.shown_endpoint} does not answer as an S3 server does ({type(error).__name__}); start "
                f"it, or correct {PREFIX}S3_ENDPOINT"
            )
        else:
            return
        raise BucketUnusable(f"{self._place}: {reason}")

    def _refusal(self, what: str, error: OSError) -> str:
        answer: Mapping[str, Any] = getattr(error.__cause__, "response", {})
        status = answer.get("ResponseMetadata", {}).get("HTTPStatusCode")
        code = answer.get("Error", {}).get("Code") or str(status or type(error).__name__)
        if code in _WRONG_KEYS:
            return f"the access key is refused ({code}); correct {PREFIX}S3_KEY and {PREFIX}S3_SECRET"
        if isinstance(error, PermissionError):
            return f"the access key may not {what} the bucket ({code}); allow it to list the bucket and to put objects"
        if code in ("NoSuchBucket", "404"):
            return f"there is no such bucket; create it, or correct --storage or {PREFIX}S3_ENDPOINT"
        return (
            f"{self._access.shown_endpoint} does not let us {what} the bucket ({code}); see its log, or correct "
            f"{PREFIX}S3_ENDPOINT and {PREFIX}S3_REGION"
        )


def serve(studio: Studio, project: int, place: BucketFolder, access: BucketAccess) -> None:
    """Let a project show pictures of a bucket, unless it has a storage for that, whatever the prefix."""
    if all(one.bucket != place.bucket for one in studio.bucket_storages(project)):
        studio.create_bucket_storage(project, place.bucket, place.prefix, access, "Frames")


def _file_system(access: BucketAccess) -> Any:
    try:
        from s3fs import S3FileSystem
    except ImportError as error:
        raise ExtraMissing("--storage needs s3fs: run `pip install s3fs`") from error
    return S3FileSystem(
        key=access.key,
        secret=access.secret,
        endpoint_url=access.endpoint,
        client_kwargs={"region_name": access.region} if access.region else {},
        config_kwargs=_CONFIGURATION,
        skip_instance_cache=True,
    )
