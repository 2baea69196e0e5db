"""Check that Label Studio shows the frames that lie in buckets, and let it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import partial
from itertools import islice

from ml_backend.errors import FrameUnreadable, InvalidRequest
from ml_backend.ingest.bucket import BucketFolder, serve
from ml_backend.ingest.places import BUCKETS
from ml_backend.ingest.storage import is_picture_name
from ml_backend.services import Services
from ml_backend.setup.findings import Finding
from ml_backend.setup.project import LOOKED_AT
from ml_backend.studio.configuration import Configuration
from ml_backend.studio.storages import NO_FILE, BucketAccess, BucketStorage


def checked(services: Services, project: int, configuration: Configuration) -> Iterator[Finding]:
    """Say for each S3 bucket whether its frames can be read, and whether a click on Sync would double them."""
    urls = {
        str(task.data.get(configuration.image_key)): task.id
        for task in islice(services.studio.tasks(project), LOOKED_AT)
    }
    there = {url: task for url, task in urls.items() if url.startswith(BUCKETS)}
    if not there:
        return
    storages = services.studio.bucket_storages(project)
    one_of = {url.removeprefix(BUCKETS).partition("/")[0]: url for url in there}
    for bucket, url in sorted(one_of.items()):
        if any(one.bucket == bucket for one in storages):
            yield _read(services, bucket, url, there[url])
        else:
            yield _unserved(services, project, url)
    for one in storages:
        if any(_makes_task(one, url) for url in there):
            yield Finding(
                "buckets",
                "note",
                f"a click on Sync of the storage s3://{one.bucket}/{one.prefix} makes second tasks of imported frames: "
                f"give it a file filter that leaves them out, such as {NO_FILE} (Settings, Cloud Storage)",
            )


def _read(services: Services, bucket: str, url: str, task: int) -> Finding:
    try:
        services.fetcher.fetch(url, task)
    except FrameUnreadable as error:
        text = (
            f"the frame of task {task} cannot be read: {error}. Correct the storage of the bucket {bucket} in the "
            "project (Settings, Cloud Storage)"
        )
        return Finding("buckets", "change", text)
    return Finding("buckets", "ok", f"the bucket {bucket} can be read through Label Studio ({url})")


def _unserved(services: Services, project: int, url: str) -> Finding:
    try:
        place = BucketFolder.parse(url.rpartition("/")[0])
    except InvalidRequest:
        text = f"no storage of the project covers {url}: add one in Label Studio (Settings, Cloud Storage)"
        return Finding("buckets", "change", text)
    make = partial(serve, services.studio, project, place, BucketAccess.of(services.settings))
    return Finding("buckets", "change", f"let Label Studio show the frames in {place}", make)


def _makes_task(storage: BucketStorage, url: str) -> bool:
    """Say whether Label Studio, told to sync, could make a task of a picture that `tsal import` wrote."""
    key = url.removeprefix(f"{BUCKETS}{storage.bucket}/")
    if not storage.synchronizable or key == url or not is_picture_name(key.rpartition("/")[2]):
        return False
    try:
        return key.startswith(storage.prefix) and re.match(storage.file_filter, key) is not None
    except re.error:
        return False  # Label Studio cannot use the filter either
