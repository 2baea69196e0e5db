"""Frames in a bucket of a real S3 server, shown by a real Label Studio: import, connect, score, evidence, export."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pandas as pd
import pytest
from PIL import Image
from playwright.sync_api import Page

from ml_backend.errors import FrameUnreadable, StudioRefused
from ml_backend.ingest.bucket import Bucket, BucketFolder
from ml_backend.ingest.importer import Importer
from ml_backend.loop import order as ordering
from ml_backend.loop.evidence import Gatherer
from ml_backend.services import Services
from ml_backend.settings import Settings
from ml_backend.setup.buckets import checked
from ml_backend.setup.doctor import findings
from ml_backend.store.evidence_addresses import name_of
from ml_backend.studio.payloads import choices_result
from ml_backend.studio.storages import NO_FILE, BucketAccess
from scripts.browser import log_in
from tests.browser.conftest import browser, page, people
from tests.commands.test_import_frames import scene, write_still
from tests.export.test_round_trip import tsal
from tests.installation import CONFIGURATION, XML, connected_settings, environment_of
from tests.loop.installed import silent
from tests.loop.test_remember import Noted
from tests.s3_server import KEY, REGION, SECRET, S3Server, s3_server
from tests.studio_server import StudioServer
from tests.studio_stand_in import one_thread

__all__ = ["browser", "one_thread", "page", "people", "s3_server"]
pytestmark = pytest.mark.integration
BUCKET, PLACE = "team-frames", "s3://team-frames/lung/frames"
FRAMES = 6


@pytest.fixture
def settings(studio_server: StudioServer, s3_server: S3Server, tmp_path: Path) -> Settings:
    s3_server.reset()
    s3_server.make(BUCKET)
    access = {"s3_endpoint": s3_server.endpoint, "s3_region": REGION, "s3_key": KEY, "s3_secret": SECRET}
    return connected_settings(studio_server, tmp_path, audit=0, hold_out=0, **access)


@pytest.fixture
def services(settings: Settings) -> Services:
    made = Services(settings)
    made.pending = lambda project: Noted()  # type: ignore[method-assign, assignment, return-value]
    return made


@pytest.fixture
def project(services: Services) -> int:
    return services.studio.create_project("Bucket", XML)


@pytest.fixture
def api(studio_server: StudioServer) -> Iterator[httpx.Client]:
    headers = {"Authorization": f"Token {studio_server.token}"}
    with httpx.Client(base_url=studio_server.url, headers=headers, timeout=60) as client:
        yield client


def imported(services: Services, project: int, folder: Path, frames: int = FRAMES) -> list[tuple[int, str]]:
    """Import stills into the bucket, and return each task with the address of its frame."""
    for number in range(frames):
        write_still(folder / "clips" / f"P{number}" / "still.png", number)
    bucket = Bucket(BucketFolder.parse(PLACE), BucketAccess.of(services.settings))
    Importer(services.studio, project, bucket, services.settings.data_dir).run([folder / "clips"])
    return [(task.id, str(task.data["image"])) for task in services.studio.tasks(project)]


def storage_of(api: httpx.Client, project: int) -> dict[str, Any]:
    """The project's only S3 storage."""
    (found,) = api.get("/api/storages/s3/", params={"project": project}).raise_for_status().json()
    return dict(found)


def changed(api: httpx.Client, storage: int, **fields: object) -> None:
    """Save a storage's form in Label Studio, changed."""
    whole = {"bucket": BUCKET, "prefix": "lung/frames", **fields}
    api.patch(f"/api/storages/s3/{storage}", json=whole).raise_for_status()


def test_what_was_imported_is_read_through_label_studio(
    services: Services, project: int, tmp_path: Path, s3_server: S3Server, api: httpx.Client
) -> None:
    tasks = imported(services, project, tmp_path)
    for task, url in tasks:
        content, stamp = services.fetcher.look(url, task) or (b"", "")
        assert content == s3_server.content(BUCKET, url.removeprefix(f"s3://{BUCKET}/"))
        assert stamp
        assert services.fetcher.look(url, task, stamp) is None, "the same picture is not sent again"
        # What the labelling page asks for, with the annotator's own rights and nobody's without them.
        shown = api.get(f"/api/tasks/{task}/").json()["data"]["image"]
        assert api.get(shown).content == content
        assert httpx.get(f"{api.base_url}{shown}").status_code == 401
    assert len(imported(services, project, tmp_path)) == len(tasks) == FRAMES
    assert storage_of(api, project)["presign"] is False


def test_a_click_on_sync_makes_no_task(services: Services, project: int, tmp_path: Path, api: httpx.Client) -> None:
    imported(services, project, tmp_path)
    storage = storage_of(api, project)["id"]
    assert api.post(f"/api/storages/s3/{storage}/sync").status_code == 400
    changed(api, storage, regex_filter=".*png")
    assert list(checked(services, project, CONFIGURATION))[-1].state == "ok"

    changed(api, storage, regex_filter=NO_FILE, synchronizable=True)
    assert api.post(f"/api/storages/s3/{storage}/sync").json()["last_sync_count"] == 0
    assert services.studio.counts(project).tasks == FRAMES
    assert list(checked(services, project, CONFIGURATION))[-1].state == "ok"

    for wide in (".*png", ""):
        changed(api, storage, regex_filter=wide)
        assert list(checked(services, project, CONFIGURATION))[-1].state == "note"
    changed(api, storage, regex_filter=".*mp4")
    assert list(checked(services, project, CONFIGURATION))[-1].state == "ok"
    changed(api, storage, regex_filter=".*png")
    api.post(f"/api/storages/s3/{storage}/sync")
    assert services.studio.counts(project).tasks == 2 * FRAMES, "what the note warns of"


def test_presigned_addresses_need_an_allowed_host(
    services: Services, project: int, tmp_path: Path, s3_server: S3Server, api: httpx.Client
) -> None:
    ((task, url),) = imported(services, project, tmp_path, frames=1)
    changed(api, storage_of(api, project)["id"], presign=True)
    host = s3_server.endpoint.removeprefix("http://")
    with pytest.raises(FrameUnreadable) as error:
        services.fetcher.fetch(url, task)
    assert f"the host {host} is not allowed" in str(error.value)
    assert "Signature" not in str(error.value)
    (finding,) = checked(services, project, CONFIGURATION)
    assert (finding.state, host in finding.text) == ("change", True)

    allowed = Services(services.settings.model_copy(update={"allowed_hosts": (host,)}))
    content, stamp = allowed.fetcher.look(url, task) or (b"", "")
    assert content == s3_server.content(BUCKET, url.removeprefix(f"s3://{BUCKET}/"))
    assert allowed.fetcher.look(url, task, stamp) is None
    (finding,) = checked(allowed, project, CONFIGURATION)
    assert finding.state == "ok"


@pytest.mark.parametrize("presign", [False, True], ids=["proxied", "presigned"])
def test_frames_are_scored_shown_as_evidence_and_exported(
    services: Services,
    project: int,
    tmp_path: Path,
    s3_server: S3Server,
    api: httpx.Client,
    monkeypatch: pytest.MonkeyPatch,
    presign: bool,
) -> None:
    tasks = imported(services, project, tmp_path)
    if presign:
        changed(api, storage_of(api, project)["id"], presign=True)
        hosts = (s3_server.endpoint.removeprefix("http://"),)
        services.settings = services.settings.model_copy(update={"allowed_hosts": hosts})
    services.folder(project).mkdir(parents=True)
    services.studio.submit(tasks[0][0], [choices_result(np.array([0, 1, 0], np.uint8), CONFIGURATION)], lead_time=2.0)
    ordering.refresh(services, project, silent)
    order = services.orders(project).current()
    assert order is not None
    assert (len(order.tasks), order.about.unreadable) == (FRAMES - 1, {})
    drawn = Gatherer(services).picture(project, name_of(tasks[1][1]))
    assert b"data:image/jpeg" in drawn

    tsal(services, monkeypatch, "--to", str(tmp_path / "all"), "--only", "all")
    table = pd.read_csv(tmp_path / "all" / "labels.csv").set_index("task")
    assert set(table.index) == {task for task, _ in tasks}
    for number, (task, _) in enumerate(tasks):
        with Image.open(tmp_path / "all" / str(table["image"][task])) as picture:
            assert np.array_equal(np.asarray(picture), scene(number))


def test_connect_makes_the_storage_that_is_missing(
    services: Services, project: int, tmp_path: Path, api: httpx.Client, s3_server: S3Server
) -> None:
    tasks = imported(services, project, tmp_path)
    api.delete(f"/api/storages/s3/{storage_of(api, project)['id']}").raise_for_status()
    with pytest.raises(FrameUnreadable, match="no storage of the project covers it"):
        services.fetcher.fetch(tasks[0][1], tasks[0][0])
    (finding,) = checked(services, project, CONFIGURATION)
    assert (finding.state, PLACE in finding.text) == ("change", True)
    assert finding.mend is not None
    finding.mend()
    assert services.fetcher.fetch(tasks[0][1], tasks[0][0])
    (finding,) = checked(services, project, CONFIGURATION)
    assert (finding.state, finding.mend) == ("ok", None)

    last = tasks[-1][1]
    s3_server.client().delete_object(Bucket=BUCKET, Key=last.removeprefix(f"s3://{BUCKET}/"))
    (finding,) = checked(services, project, CONFIGURATION)
    assert (finding.state, finding.mend, last in finding.text) == ("change", None, True)


def test_addresses_that_no_storage_can_be_made_for_are_told(services: Services, project: int) -> None:
    services.studio.import_tasks(project, [{"image": "s3://team-frames/häuser/1.png"}, {"image": "s3://other"}])
    found = list(checked(services, project, CONFIGURATION))
    assert [(one.state, one.mend) for one in found] == [("change", None)] * 2


def test_the_doctor_looks_into_buckets(
    services: Services, project: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, s3_server: S3Server
) -> None:
    imported(services, project, tmp_path, frames=1)
    for name, value in environment_of(services.settings).items():
        monkeypatch.setenv(name, value)
    states = {one.subject: one.state for one in findings(project)}
    assert (states["buckets"], states["frames"]) == ("ok", "ok")
    s3_server.remove(BUCKET)
    states = {one.subject: one.state for one in findings(project)}
    assert (states["buckets"], states["frames"]) == ("change", "change")


def test_an_import_that_label_studio_cannot_follow_sends_no_task(
    services: Services, project: int, tmp_path: Path, s3_server: S3Server
) -> None:
    """Label Studio asks for one name when it checks a storage; here it may not."""
    refusal = ("403 Forbidden", b"<Error><Code>AccessDenied</Code><Message>no</Message></Error>")
    s3_server.fails = lambda method, target: refusal if "max-keys=1" in target else None
    with pytest.raises(StudioRefused, match="Label Studio itself must be able to list the bucket") as error:
        imported(services, project, tmp_path)
    assert SECRET not in str(error.value)
    assert services.studio.counts(project).tasks == 0
    sent = s3_server.keys(BUCKET)
    assert len(sent) == FRAMES

    s3_server.fails = lambda method, target: None
    s3_server.seen.clear()
    assert len(imported(services, project, tmp_path)) == FRAMES
    assert (s3_server.puts(), s3_server.keys(BUCKET)) == ([], sent)


def test_an_annotators_browser_shows_the_picture(
    services: Services, project: int, tmp_path: Path, studio_server: StudioServer, page: Page
) -> None:
    ((task, _),) = imported(services, project, tmp_path, frames=1)
    log_in(page, studio_server.url, studio_server.username, studio_server.password)
    page.goto(f"{studio_server.url}/projects/{project}/data?task={task}")
    page.wait_for_function("() => [...document.images].some(one => one.naturalWidth === 80 && one.clientWidth > 80)")
