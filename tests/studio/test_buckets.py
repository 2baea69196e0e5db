"""What Label Studio's API says of frames in buckets."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest
from gcp_storage_emulator.server import create_server
from PIL import Image

from ml_backend.studio.client import Studio
from ml_backend.studio.images import FrameFetcher
from ml_backend.studio.payloads import choices_result
from tests.installation import CONFIGURATION, XML
from tests.s3_server import KEY, REGION, SECRET, S3Server, s3_server
from tests.studio_server import EXECUTABLE, StudioServer, executable, free_port, running_studio

__all__ = ["s3_server"]


def picture() -> bytes:
    file = io.BytesIO()
    Image.new("L", (8, 8)).save(file, "PNG")
    return file.getvalue()


def test_tasks_have_their_own_addresses(studio_server: StudioServer, s3_server: S3Server) -> None:
    """Where a storage covers a frame, Label Studio gives browsers another address, which is no place to remember."""
    s3_server.client().put_object(Bucket=s3_server.make("team-frames"), Key="a.png", Body=picture())
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
    assert fetcher.fetch(data["image"], task) == picture()


@pytest.fixture
def google() -> Iterator[str]:
    """The address of a server that speaks as Google Cloud Storage does, with a bucket."""
    port = free_port()
    server = create_server("127.0.0.1", port, in_memory=True, default_bucket="team-frames")
    server.start()
    yield f"http://127.0.0.1:{port}"
    server.stop()


def test_frames_in_google_cloud_storage_are_read_through_label_studio(google: str, tmp_path: Path) -> None:
    program = executable()
    if program is None:
        pytest.skip(f"no Label Studio: run `make install`, or set {EXECUTABLE} to its program")
    upload = f"{google}/upload/storage/v1/b/team-frames/o?uploadType=media&name=lung/a.png"
    httpx.post(upload, content=picture(), headers={"Content-Type": "image/png"}).raise_for_status()
    environment = {
        "STORAGE_EMULATOR_HOST": google,
        "RESOLVER_PROXY_GCS_DOWNLOAD_URL": f"{google}/download/storage/v1/b/{{bucket_name}}/o/{{blob_name}}?alt=media",
    }
    with running_studio(program, tmp_path, environment) as server:
        studio = Studio(server.url, server.token)
        project = studio.create_project("Google", XML)
        storage = {"project": project, "bucket": "team-frames", "prefix": "lung", "presign": False}
        studio._calls.request("POST", "api/storages/gcs/", json=storage)
        (task,) = studio.import_tasks(project, [{"image": "gs://team-frames/lung/a.png"}])
        (listed,) = studio.tasks(project)
        assert FrameFetcher(server.url, studio.authorization).fetch(listed.data["image"], task) == picture()
