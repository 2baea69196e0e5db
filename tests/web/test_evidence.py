"""The evidence beside the frame: who may see it, what it shows, and what stays hidden."""

from __future__ import annotations

import base64
import io
import random
import re
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pytest
from flask.testing import FlaskClient
from PIL import Image

from ml_backend.loop import evidence as gathering
from ml_backend.loop import order as ordering
from ml_backend.loop.evidence_files import write_pictures
from ml_backend.services import Services
from ml_backend.web.app import create_app
from tests.installation import PROJECT, make_version, settings_in
from tests.loop.installed import silent
from tests.studio_stand_in import Died, StudioStandIn, one_thread

__all__ = ["one_thread"]
TASKS = range(1, 9)
A, B, NOTHING = [0, 1, 0], [0, 1, 1], [0, 0, 0]
STUDIO = "http://127.0.0.1:1"
SVG = "{http://www.w3.org/2000/svg}"


class Place:
    """An installation with eight frames of two clips, and a client of its app."""

    def __init__(self, folder: Path, **changes: object) -> None:
        self.folder = folder
        self.studio = StudioStandIn()
        for task in TASKS:
            self.studio.add(folder, task, clip=f"clip {task % 2}", time=task / 4)
        values: dict[str, Any] = {"audit": 0, "hold_out": 0} | changes
        self.services = Services(settings_in(folder, **values))
        self.services.studio = self.studio  # type: ignore[assignment]
        self.client: FlaskClient = create_app(self.services.settings).test_client()

    def refresh(self) -> None:
        ordering.refresh(self.services, PROJECT, silent)

    def version(self) -> str:
        tasks = [{"id": task, "data": data} for task, data in self.studio.task_data.items()]
        made = make_version(self.services, tasks, 1)
        self.services.versions(PROJECT).activate(made.version, by="a test")
        return made.version

    def path(self, task: int, project: int = PROJECT) -> str:
        url = str(self.studio.task_data[task]["image"])
        return urlsplit(self.services.evidence_addresses.of(project, url)).path

    def texts(self, task: int) -> list[str]:
        return [element.text or "" for element in self.picture(task).iter(f"{SVG}text")]

    def picture(self, task: int) -> ElementTree.Element:
        answer = self.client.get(self.path(task))
        assert answer.status_code == 200
        assert answer.content_type.startswith("image/svg+xml")
        return ElementTree.fromstring(answer.data)

    def images(self, task: int) -> list[Image.Image]:
        found = [element.get("href", "") for element in self.picture(task).iter(f"{SVG}image")]
        return [Image.open(io.BytesIO(base64.b64decode(one.partition(",")[2]))).convert("RGB") for one in found]


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def test_before_the_first_order_there_is_nothing_to_show(place: Place) -> None:
    assert place.texts(1)[0] == "No evidence yet."


def test_the_memory_shows_the_confirmed_frames_most_like_it_with_who_and_when(place: Place) -> None:
    place.studio.names = {3: "Ada <b>L</b>"}
    place.studio.confirm(2, B, at="2026-11-12T10:00:00Z", by=3)
    place.studio.confirm(3, NOTHING, at="2026-11-13T10:00:00Z", by=4)
    place.refresh()
    texts = place.texts(4)
    assert texts[0] == "Suggestion: A-line, B-line"
    assert "No version yet: memory only." in texts
    assert "Ada <b>L</b>" in texts
    assert "user 4" in texts
    assert {"2026-11-12", "2026-11-13"} < set(texts)
    titles = [text for text in texts if text in ("Most similar confirmed frames", "Neighbours in the clip")]
    assert len(titles) == 2
    # The frame from the same clip comes first.
    assert texts.index("Ada <b>L</b>") < texts.index("user 4")
    assert [text for text in texts if text.endswith(("earlier", "later"))] == ["0.5 s earlier", "0.5 s later"]
    assert len(place.images(4)) == 1 + 2 + 3


def test_names_can_be_hidden(tmp_path: Path) -> None:
    place = Place(tmp_path, hide_names=True)
    place.studio.names = {3: "Ada"}
    place.studio.confirm(2, B, at="2026-11-12T10:00:00Z", by=3)
    place.refresh()
    texts = place.texts(4)
    assert "2026-11-12" in texts
    assert not any("Ada" in text or "user" in text for text in texts)


def test_a_version_adds_probabilities_and_a_map_of_what_is_ticked(place: Place) -> None:
    place.studio.confirm(2, B)
    place.refresh()
    before = np.asarray(place.images(4)[0], float)
    version = place.version()
    place.refresh()
    texts = place.texts(4)
    assert any(version in text for text in texts)
    (said,) = [one["result"][0]["tsal"]["probabilities"] for one in place.studio.served() if one["task"] == 4]
    shown = [int(text[:-1]) for text in texts if re.fullmatch(r"\d+%", text)]
    assert shown == [round(100 * value) for value in said.values()]
    after = np.asarray(place.images(4)[0], float)
    assert np.abs(after - before).max() > 60  # the frames are grey, so any colour is the map's
    assert np.abs(after[..., 0] - after[..., 2]).max() > 60


def test_it_is_right_for_the_order_that_serves(place: Place) -> None:
    place.studio.confirm(2, A)
    place.refresh()
    assert place.texts(4)[0] == "Suggestion: A-line"
    place.studio.change(2, B, at="later")
    assert place.texts(4)[0] == "Suggestion: A-line"
    place.refresh()
    assert place.texts(4)[0] == "Suggestion: A-line, B-line"


def test_blind_frames_show_nothing_but_that(tmp_path: Path) -> None:
    place = Place(tmp_path, audit=1.0, blind=0.5)
    place.studio.confirm(2, B)
    place.refresh()
    draw = place.services.audits(PROJECT).draws()[-1]
    assert draw.blind
    answers = [place.client.get(place.path(task)) for task in draw.blind]
    assert {answer.data for answer in answers} == {gathering.UNAIDED}
    assert len({str(sorted(answer.headers)) for answer in answers}) == 1
    told = set(TASKS) - set(draw.blind) - {2}
    assert told
    assert all(place.texts(task)[0].startswith("Suggestion") for task in told)


def test_an_address_that_was_changed_or_guessed_is_not_found(place: Place) -> None:
    place.refresh()
    right = place.path(4)
    assert place.client.get(right).status_code == 200
    name, signature = right.split("/")[3], right.split("/")[4]
    other = place.path(5).split("/")
    wrong = [
        right.replace(f"/{PROJECT}/", f"/{PROJECT + 1}/"),
        "/".join([*right.split("/")[:4], other[4]]),
        "/".join([*other[:4], signature]),
        right.replace(signature, "0" * 40 + ".svg"),
        right.replace(name, name.upper()),
        right.replace(".svg", ".png"),
        right.replace(signature, signature[:-5] + ".svg"),
        right.replace(f"/{PROJECT}/", f"/0{PROJECT}/../{PROJECT}/"),
        right.replace(f"/{PROJECT}/", f"/0{PROJECT}/"),
        right.replace(f"/{PROJECT}/", "/99999999999999999999999/"),
        right.replace(name, "%00"),
        "/evidence/7",
        "/evidence/",
    ]
    statuses = {address: place.client.get(address).status_code for address in wrong}
    assert set(statuses.values()) == {404}, statuses
    elsewhere = Place(place.folder, data_dir=place.folder / "another")  # with a key of its own
    assert elsewhere.client.get(right).status_code == 404


def test_of_five_thousand_damaged_addresses_none_shows_anything(place: Place) -> None:
    place.refresh()
    right, rng = place.path(4), random.Random(0)
    start = right.index(f"{PROJECT}/")
    odd = "0123456789abcdef/.%?#&;: \\\0é<>\"'٧"
    answered: set[int] = set()
    for _ in range(5000):
        letters = list(right)
        for _ in range(rng.choice((1, 1, 2, 5, 40))):
            letters[rng.randrange(start, len(letters))] = rng.choice(odd)
        damaged = "".join(letters)
        if damaged.partition("?")[0].partition("#")[0] != right:
            answered.add(place.client.get(damaged).status_code)
    assert answered <= {404, 308}  # doubled slashes are redirected


@pytest.mark.parametrize(
    ("origin", "allowed"),
    [
        (STUDIO, True),
        ("http://localhost:1", True),
        ("https://labels.example.org", True),
        ("http://labels.example.org", False),
        ("https://labels.example.org.evil.example", False),
        ("http://127.0.0.1:2", False),
        ("null", False),
        ("http://[", False),
        ("", False),
    ],
)
def test_only_pages_of_label_studio_may_read_it(tmp_path: Path, origin: str, allowed: bool) -> None:
    place = Place(tmp_path, label_studio_public_url="https://labels.example.org/")
    answer = place.client.get(place.path(1), headers={"Origin": origin})
    assert answer.headers.get("Access-Control-Allow-Origin") == (origin if allowed else None)
    assert answer.headers["Cache-Control"] == "no-store"


def test_no_password_is_asked_for_and_other_machines_may_ask(tmp_path: Path) -> None:
    secrets = {"webhook_secret": "s", "basic_auth_user": "u", "basic_auth_password": "p"}
    place = Place(tmp_path, **secrets)
    remote = {"REMOTE_ADDR": "192.0.2.7"}
    assert place.client.get(place.path(1), environ_base=remote).status_code == 200
    assert place.client.get("/versions", environ_base=remote).status_code == 401


def test_frames_that_cannot_be_read_cost_only_themselves(place: Place) -> None:
    place.studio.confirm(2, B)
    place.refresh()
    (place.folder / "files" / "2.png").unlink()
    assert "cannot be read" in place.texts(4)
    (place.folder / "files" / "4.png").unlink()
    assert place.client.get(place.path(4)).status_code == 200


def test_too_many_at_once_are_told_to_come_again(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    client = create_app(settings_in(place.folder, threads=1)).test_client()
    asked: list[int] = []

    def asks_again(*_: object) -> bytes:
        answer = client.get(place.path(1))
        asked.append(answer.status_code)
        assert int(answer.headers["Retry-After"]) > 0
        return b""

    monkeypatch.setattr(gathering.Gatherer, "_picture", asks_again)
    assert client.get(place.path(1)).status_code == 200
    assert asked == [503]
    monkeypatch.undo()
    assert client.get(place.path(1)).status_code == 200


def test_it_can_be_switched_off(tmp_path: Path) -> None:
    place = Place(tmp_path, evidence=False)
    place.refresh()
    assert place.client.get(place.path(1)).status_code == 404
    order = place.services.orders(PROJECT).current_name()
    assert order is not None
    assert place.services.grounds(PROJECT).path(order).exists()  # for the lead's page


def test_a_list_of_tasks_gets_no_drawn_pictures(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    place.refresh()
    drawn: list[str] = []

    def note(self: gathering.Gatherer, project: int, name: str) -> bytes:
        drawn.append(name)
        return b""

    monkeypatch.setattr(gathering.Gatherer, "_picture", note)
    in_list = {"Accept": "image/avif,image/webp,image/apng,image/svg+xml,image/*,*/*;q=0.8", "Origin": STUDIO}
    answer = place.client.get(place.path(1), headers=in_list)
    assert (answer.status_code, answer.headers["Access-Control-Allow-Origin"], drawn) == (200, STUDIO, [])
    place.client.get(place.path(1), headers={"Accept": "*/*", "Origin": STUDIO})
    assert len(drawn) == 1


def test_an_order_from_before_there_was_evidence_is_made_anew(place: Place) -> None:
    place.refresh()
    assert ordering.needs_refresh(place.services, PROJECT, False) is None
    order = place.services.orders(PROJECT).current_name()
    assert order is not None
    place.services.grounds(PROJECT).path(order).unlink()
    assert place.texts(1)[0] == "No evidence yet."
    assert ordering.needs_refresh(place.services, PROJECT, False)


class TestFiles:
    """Pictures in the folder that Label Studio serves."""

    def files(self, place: Place) -> dict[str, bytes]:
        folder = place.folder / "files" / "tsal-evidence" / str(PROJECT)
        return {path.name: path.read_bytes() for path in folder.iterdir()} if folder.is_dir() else {}

    def name(self, place: Place, task: int) -> str:
        url = str(place.studio.task_data[task]["image"])
        address = place.services.evidence_addresses.of(PROJECT, url)
        assert address.startswith(f"/data/local-files/?d=tsal-evidence/{PROJECT}/")
        return address.rpartition("/")[2]

    def test_those_of_the_frames_asked_next_are_written_once_for_an_order(self, tmp_path: Path) -> None:
        place = Place(tmp_path, evidence_files=3)
        assert write_pictures(place.services, PROJECT, None) is None
        place.studio.confirm(2, B)
        place.refresh()
        order = place.services.orders(PROJECT).current()
        assert order is not None
        written = write_pictures(place.services, PROJECT, None)
        assert written == order.about.name
        files = self.files(place)
        assert set(files) == {self.name(place, task) for task in order.tasks[:3].tolist()}
        assert all(b"Suggestion: A-line, B-line" in content for content in files.values())
        first = self.name(place, int(order.tasks[0]))
        (place.folder / "files" / "tsal-evidence" / str(PROJECT) / first).unlink()
        assert write_pictures(place.services, PROJECT, written) == written
        assert first not in self.files(place)
        for task in order.tasks[:3].tolist():
            place.studio.confirm(task, B)
        place.refresh()
        write_pictures(place.services, PROJECT, written)
        assert len(self.files(place)) == 3
        assert not set(self.files(place)) & set(files)

    def test_what_was_written_of_a_frame_is_gone_before_it_is_asked_blind(self, tmp_path: Path) -> None:
        place = Place(tmp_path, evidence_files=100)
        place.studio.confirm(2, B)
        place.refresh()
        write_pictures(place.services, PROJECT, None)
        assert len(self.files(place)) == len(TASKS) - 1
        before = set(self.files(place))
        later = Services(settings_in(tmp_path, evidence_files=100, hold_out=0, audit=1.0, blind=1.0))
        later.studio = place.studio  # type: ignore[assignment]
        place.studio.dies = True
        with pytest.raises(Died):
            ordering.refresh(later, PROJECT, silent)
        blind = {self.name(place, task) for task in later.audits(PROJECT).draws()[-1].blind}
        assert blind
        assert before - set(self.files(place)) == blind
        place.studio.dies = False
        ordering.refresh(later, PROJECT, silent)
        write_pictures(later, PROJECT, None)
        files = self.files(place)
        assert {name for name, content in files.items() if content == gathering.UNAIDED} == blind
        assert set(files) == before

    def test_without_a_folder_nothing_is_written_and_nothing_fails(self, tmp_path: Path) -> None:
        place = Place(tmp_path, evidence_files=3)
        place.refresh()
        blind = Services(settings_in(tmp_path, evidence_files=3, document_root=None))
        assert write_pictures(blind, PROJECT, None) is None
