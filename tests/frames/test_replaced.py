"""Files that are replaced under the same address: on disk, and on a real web server with and without validators."""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from ml_backend.frames import activations as activations_module
from ml_backend.frames import addresses
from ml_backend.frames.activations import Chunk
from ml_backend.frames.frame import Frame
from ml_backend.frames.predictor import Predictor
from ml_backend.loop import score as scoring
from ml_backend.msml import frames as msml_frames
from ml_backend.services import Services
from tests.events import events
from tests.installation import PROJECT, settings_in
from tests.studio.site import Site, running_site
from tests.studio_stand_in import one_thread

__all__ = ["one_thread"]

LENGTH = 20_000
LOCAL = Frame(1, "/data/local-files/?d=1.png")


def picture(seed: int, length: int = LENGTH) -> bytes:
    """A picture in a file of a given length; a PNG may carry anything behind its end."""
    file = io.BytesIO()
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (64, 64), dtype=np.uint8)).save(file, "PNG")
    return file.getvalue().ljust(length, b"\0")


OLD, NEW, LONGER = picture(1), picture(2), picture(2, LENGTH + 1)


@pytest.fixture
def services(tmp_path: Path, shared: Predictor, site: Site) -> Services:
    (tmp_path / "files").mkdir()
    services = Services(settings_in(tmp_path, label_studio_url=site.url))
    services.predictor._networks[3] = shared.network(3)
    return services


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Predictor:
    return Services(settings_in(tmp_path_factory.mktemp("shared"))).predictor


@pytest.fixture
def site() -> Iterator[Site]:
    with running_site() as site:
        yield site


@pytest.fixture
def put(tmp_path: Path, services: Services) -> Callable[[bytes, int], None]:
    def put(content: bytes, changed: int) -> None:
        (tmp_path / "files" / "1.png").write_bytes(content)
        os.utime(tmp_path / "files" / "1.png", (changed, changed))

    return put


def seen(services: Services, frame: Frame = LOCAL, check: bool = True) -> bytes:
    """Digest of the content whose activations are used; they are compared with what that content really gives."""
    (chunk,) = services.predictor.activations([frame], 3, check=check)
    (digest,) = chunk.digests
    assert_activations_of(services, chunk, next(one for one in (OLD, NEW, LONGER) if digest_of(one) == digest))
    return digest


def assert_activations_of(services: Services, chunk: Chunk, content: bytes) -> None:
    def distance(content: bytes) -> float:
        pixels = msml_frames.decode(content)[None]
        given = services.predictor.network(3).activations(pixels).reshape(chunk.activations.shape)
        return float(np.abs(chunk.activations - given).mean())

    assert distance(content) < 0.2 * distance(OLD if content != OLD else NEW)


def digest_of(content: bytes) -> bytes:
    return hashlib.sha256(content).digest()


def told(caplog: pytest.LogCaptureFixture) -> int:
    return sum(one["tasks"] == "1" for one in events(caplog, "files replaced"))


class TestLocal:
    @pytest.mark.parametrize(("new", "changed"), [(NEW, 2000), (LONGER, 1000)], ids=["same size", "same time"])
    def test_a_replaced_file_is_used_and_told_of_once(
        self,
        services: Services,
        put: Callable[[bytes, int], None],
        caplog: pytest.LogCaptureFixture,
        new: bytes,
        changed: int,
    ) -> None:
        put(OLD, 1000)
        assert seen(services) == digest_of(OLD)
        put(new, changed)
        assert seen(services, check=False) == digest_of(OLD)  # as /predict does
        assert told(caplog) == 0
        assert seen(services) == digest_of(new)
        assert seen(services) == seen(services, check=False) == digest_of(new)
        assert told(caplog) == 1

    def test_a_touched_file_is_not_computed_again(
        self,
        services: Services,
        put: Callable[[bytes, int], None],
        caplog: pytest.LogCaptureFixture,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        put(OLD, 1000)
        seen(services)
        put(OLD, 2000)
        monkeypatch.setattr(msml_frames, "decode", None)
        (chunk,) = services.predictor.activations([LOCAL], 3, check=True)
        assert chunk.digests == [digest_of(OLD)]
        assert told(caplog) == 0

    def test_a_file_that_is_half_written_is_tried_again(
        self, services: Services, put: Callable[[bytes, int], None], tmp_path: Path
    ) -> None:
        put(OLD, 1000)
        seen(services)
        put(NEW[:50], 2000)
        assert seen(services) == digest_of(OLD)
        (tmp_path / "files" / "1.png").unlink()
        assert seen(services) == digest_of(OLD)
        put(NEW, 3000)
        assert seen(services) == digest_of(NEW)

    def test_scoring_notices_it(self, services: Services, put: Callable[[bytes, int], None]) -> None:
        def embedded() -> NDArray[np.float16]:
            return scoring.embed(services, PROJECT, [LOCAL], 3, lambda *_: None).features

        put(OLD, 1000)
        before = embedded()
        put(NEW, 2000)
        assert np.abs(embedded() - before).max() > 0.01

    def test_training_tells_where_it_must_read_another_file_than_before(
        self, services: Services, put: Callable[[bytes, int], None], caplog: pytest.LogCaptureFixture
    ) -> None:
        put(OLD, 1000)
        digest = seen(services)
        put(NEW, 2000)
        services.predictor.records(3, [LOCAL], [digest], np.zeros(1, np.intp))
        assert told(caplog) == 0
        services.predictor.records(3, [LOCAL], [b"a frame that the cache lost".ljust(32)], np.zeros(1, np.intp))
        assert told(caplog) == 1


class Served:
    """A file on a web server that gives a validator, and answers 304 to who has the file already."""

    def __init__(self, site: Site, validator: str) -> None:
        self.content, self.version, self.asked, self.sent = OLD, 1, 0, 0
        self.url = site.answers("/data/upload/1.png", self._answer)
        self._validator = validator

    def replace(self) -> None:
        self.content, self.version = NEW, 2

    def _answer(self, handler: BaseHTTPRequestHandler) -> None:
        self.asked += 1
        value = {
            "ETag": f'"version-{self.version}"',
            "Last-Modified": f"Mon, 0{self.version} Jun 2026 10:00:00 GMT",
            "": "",
        }[self._validator]
        asked = {"ETag": "If-None-Match", "Last-Modified": "If-Modified-Since", "": ""}[self._validator]
        same = bool(asked) and handler.headers[asked] == value
        handler.send_response(304 if same else 200)
        if value:
            handler.send_header(self._validator, value)
        handler.send_header("Content-Length", "0" if same else str(len(self.content)))
        handler.send_header("Content-Type", "image/png")
        handler.end_headers()
        if not same:
            self.sent += 1
            handler.wfile.write(self.content)


class TestServed:
    @pytest.mark.parametrize("validator", ["ETag", "Last-Modified", ""])
    def test_it_is_asked_once_a_day_whether_it_is_the_same(
        self,
        services: Services,
        site: Site,
        caplog: pytest.LogCaptureFixture,
        monkeypatch: pytest.MonkeyPatch,
        validator: str,
    ) -> None:
        file = Served(site, validator)
        frame = Frame(1, file.url)
        assert seen(services, frame) == seen(services, frame) == digest_of(OLD)
        assert (file.asked, file.sent) == (1, 1)
        with monkeypatch.context() as a_day_later:
            a_day_later.setattr(addresses, "CHECK_SECONDS", 0.0)
            assert seen(services, frame) == digest_of(OLD)
            assert (file.asked, file.sent) == (2, 1 if validator else 2)
            file.replace()
            assert seen(services, frame, check=False) == digest_of(OLD)
            assert file.asked == 2
            assert told(caplog) == 0
            assert seen(services, frame) == digest_of(NEW)
            assert told(caplog) == 1
        asked = file.asked
        assert seen(services, frame) == digest_of(NEW)
        assert file.asked == asked
        assert told(caplog) == 1

    def test_a_server_that_is_down_costs_nothing_but_the_check(
        self, services: Services, shared: Predictor, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with running_site() as other:
            services = Services(services.settings.model_copy(update={"allowed_hosts": (other.host,)}))
            services.predictor._networks[3] = shared.network(3)
            frames = [Frame(number, other.serves(f"/{number}.png", OLD)) for number in range(40)]
            (before,) = services.predictor.activations(frames, 3)
        monkeypatch.setattr(addresses, "CHECK_SECONDS", 0.0)
        asked: list[str] = []
        look = services.fetcher.look

        def counted(url: str, *rest: object) -> tuple[bytes, str] | None:
            asked.append(url)
            return look(url, *rest)  # type: ignore[arg-type]

        monkeypatch.setattr(services.fetcher, "look", counted)
        (after,) = services.predictor.activations(frames, 3, check=True)
        assert (after.frames, after.digests, after.unreadable) == (before.frames, before.digests, {})
        np.testing.assert_array_equal(after.activations, before.activations)
        assert activations_module.FAILED_CHECKS <= len(asked) < 2 * activations_module.FAILED_CHECKS
        assert len(events(caplog, "files not checked")) == 1
