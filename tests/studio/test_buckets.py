"""What Label Studio's API says of frames in buckets."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image

from ml_backend.studio.client import Studio
from ml_backend.studio.images import FrameFetcher
from ml_backend.studio.payloads import choices_result
from tests.installation import CONFIGURATION, XML
from tests.s3_server import KEY, REGION, SECRET, S3Server, s3_server
from tests.studio_server import StudioServer

__all__ = ["s3_server"]


def test_tasks_have_their_own_addresses(studio_server: StudioServer, s3_server: S3Server) -> None:
    """Where a storage covers a frame, Label Studio gives browsers another address, which is no place to remember."""
    file = io.BytesIO()
    Image.new("L", (8, 8)).save(file, "PNG")
    s3_server.client().put_object(Bucket=s3_server.make("team-frames"), Key="a.png", Body=file.getvalue())
    studio = Studio(studio_server.url, studio_server.token)
    project = studio.create_project("Bucket", XML)
    storage = {
        "project": project,
        "bucket": "team-frames",
        "s3_endpoint": s3_server.endpoint,
        "region_name": REGION,
        "aws_access_key_id": KEY,
        "aws_secret_access_key": SECRET,
        "presign": False,
    }
    studio._calls.request("POST", "api/storages/s3/", json=storage)
    data = {"image": "s3://team-frames/a.png"}
    (task,) = studio.import_tasks(project, [data])
    studio.submit(task, [choices_result(np.array([0, 1, 0], np.uint8), CONFIGURATION)])
    assert [one.data for one in studio.tasks(project)] == [data]
    assert [one.data for one in studio.confirmed_annotations(project)] == [data]
    fetcher = FrameFetcher(studio_server.url, studio.authorization)
    assert fetcher.fetch(data["image"], task) == file.getvalue()
