"""A project's storages: the folders and buckets from which Label Studio shows files."""

from __future__ import annotations

from dataclasses import dataclass, field
from urllib.parse import urlsplit

from ml_backend.errors import SettingsError, StudioRefused
from ml_backend.settings import PREFIX, Settings
from ml_backend.studio.addresses import origin_of, shown_address
from ml_backend.studio.calls import Resource

NO_FILE = "(?!)"
"""A file filter that fits no name, so that a click on Sync makes no task of what lies in a folder or a bucket."""


@dataclass(frozen=True)
class BucketAccess:
    """How buckets are reached. What is None is left to the environment of the program that reaches them."""

    endpoint: str | None = None
    region: str | None = None
    key: str | None = field(default=None, repr=False)
    secret: str | None = field(default=None, repr=False)

    @classmethod
    def of(cls, settings: Settings) -> BucketAccess:
        """Read the settings.

        Raises:
            SettingsError: if the endpoint is no address, and if there is a key without a secret or the reverse.
        """
        if settings.s3_endpoint is not None and origin_of(urlsplit(settings.s3_endpoint)) is None:
            raise SettingsError(f"{PREFIX}S3_ENDPOINT must be of the form http://HOST:PORT or https://HOST")
        key, secret = settings.s3_key, settings.s3_secret
        if (key is None) != (secret is None):
            raise SettingsError(f"{PREFIX}S3_KEY and {PREFIX}S3_SECRET go together: set both or none")
        told = None if secret is None else secret.get_secret_value()
        return cls(settings.s3_endpoint, settings.s3_region, key, told)

    @property
    def shown_endpoint(self) -> str:
        """The endpoint as messages may show it."""
        return shown_address(self.endpoint) if self.endpoint else "the default endpoint"


@dataclass(frozen=True)
class BucketStorage:
    """A bucket that a project shows files from; where ``synchronizable``, a click on Sync makes tasks of its files."""

    id: int
    bucket: str
    prefix: str
    file_filter: str
    synchronizable: bool


class Storages(Resource):
    """Lists and makes storages."""

    def local_storages(self, project: int) -> list[str]:
        """List the folders that a project serves as local files."""
        found = self._calls.read(
            f"listing the local files of project {project}",
            lambda: self._sdk.import_storage.local.list(project=project),
        )
        return [one.path or "" for one in found]

    def create_local_storage(self, project: int, path: str, title: str) -> int:
        """Let a project serve a folder below Label Studio's document root; no task is made of what lies in it."""
        return self._make(
            f"serving the folder {path} in project {project}",
            lambda: self._sdk.import_storage.local.create(
                project=project, path=path, title=title, use_blob_urls=True, regex_filter=NO_FILE
            ),
        )

    def bucket_storages(self, project: int) -> list[BucketStorage]:
        """List the S3 buckets that a project shows files from."""
        found = self._get(f"listing the S3 storages of project {project}", "api/storages/s3/", project=project)
        return [
            BucketStorage(
                id=one["id"],
                bucket=one["bucket"] or "",
                prefix=(one["prefix"] or "").strip("/"),
                file_filter=one["regex_filter"] or "",
                synchronizable=bool(one["synchronizable"]),
            )
            for one in found
        ]

    def create_bucket_storage(self, project: int, bucket: str, prefix: str, access: BucketAccess, title: str) -> int:
        """Let a project show files of a bucket, and never make tasks of them; something must lie there already.

        Label Studio hands the files on itself, so browsers need not reach the bucket.
        """
        fields = {
            "project": project,
            "title": title,
            "bucket": bucket,
            "prefix": prefix,
            "s3_endpoint": access.endpoint,
            "region_name": access.region,
            "aws_access_key_id": access.key,
            "aws_secret_access_key": access.secret,
            "presign": False,
            "use_blob_urls": True,
            # Both, because saving the storage's form in Label Studio may switch synchronizing on again.
            "synchronizable": False,
            "regex_filter": NO_FILE,
        }
        given = {name: value for name, value in fields.items() if value is not None}
        try:
            made = self._calls.write(
                f"showing the files of s3://{bucket}/{prefix} in project {project}",
                lambda: self._calls.request("POST", "api/storages/s3/", json=given),
            )
        except StudioRefused as error:
            raise StudioRefused(
                f"{error}. Label Studio itself must be able to list the bucket at {access.shown_endpoint}, with "
                f"{PREFIX}S3_KEY and {PREFIX}S3_SECRET, or without these with the keys of its own environment. If it "
                "sees the bucket under another address, add the storage by hand (Settings, Cloud Storage, file filter "
                f"{NO_FILE}) and run this again"
            ) from None
        return int(made["id"])
