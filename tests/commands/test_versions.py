from __future__ import annotations

import time
from dataclasses import asdict
from pathlib import Path

import pytest

from ml_backend.__main__ import main
from ml_backend.commands import versions
from ml_backend.loop import train as training
from ml_backend.loop.watch import Watched, look
from ml_backend.services import Services
from ml_backend.settings import Settings
from ml_backend.setup.label_configuration import render
from ml_backend.store.orders import WORDS
from ml_backend.store.versions import MANIFEST, Manifest, TrainedOn, VersionStore
from ml_backend.tsal.judgement import Figure
from tests.commands.test_sidecar import empty, environment, order, project, served, services, settings, trained
from tests.installation import manifest_of

__all__ = ["empty", "environment", "project", "services", "settings", "trained"]

PROJECT = 7
JUDGED = Figure(0.75, 0.61, 0.86, 90, 12)
HELD = ["held", "back:", "it", "fell", "from", "0.75"]


def code(*arguments: str) -> int:
    with pytest.raises(SystemExit) as ended:
        main(["versions", *arguments])
    assert isinstance(ended.value.code, int)
    return ended.value.code


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> VersionStore:
    """The connected project of an installation, without versions."""
    monkeypatch.setenv("TSAL_DATA_DIR", str(tmp_path))
    folder = tmp_path / "projects" / str(PROJECT)
    folder.mkdir(parents=True)
    return VersionStore(folder)


def add(store: VersionStore, seen: int, **changes: object) -> Manifest:
    active = store.active()
    version = store.create(
        manifest_of(seen, parent=active, held_out=(TrainedOn(annotation=99, task=99, updated_at="then"),), **changes),
        lambda path: path.write_bytes(b"weights"),
    )
    if not version.held_back:
        store.activate(version.version, by=f"job of {seen}")
    return version


@pytest.fixture
def three(store: VersionStore) -> list[Manifest]:
    """Two versions and a third that was held back."""
    return [
        add(store, 4, metrics={"exact_match": 0.5, "exact_match_parent": None}),
        add(store, 8, metrics={"exact_match": asdict(JUDGED), "exact_match_parent": 0.5}),
        add(store, 12, metrics={"exact_match": 0.25, "exact_match_parent": 0.75}, held_back="it fell from 0.75"),
    ]


def test_the_list_shows_each_version_and_who_activated_it(
    three: list[Manifest], store: VersionStore, capsys: pytest.CaptureFixture[str]
) -> None:
    assert code("list") == 0
    head, *rows = capsys.readouterr().out.splitlines()
    titles = ("version", "created", "parent", "trained on", "held out", "exact match", "parent's", "made active")
    assert head.split() == " ".join(titles).split()
    at = [one.at[:16] for one in store.activations()]
    names, shown = [one.version for one in three], str(JUDGED).split()
    assert [row.split() for row in rows] == [
        [names[0], "2026-01-01T00:00", "none", "4", "1", "0.500", "–", at[0], "by", "job", "of", "4"],
        [
            "*",
            names[1],
            "2026-01-01T00:00",
            names[0],
            "8",
            "1",
            *shown,
            "0.500",
            at[1],
            "by",
            "job",
            "of",
            "8",
        ],
        [
            names[2],
            "2026-01-01T00:00",
            names[1],
            "12",
            "1",
            "0.250",
            "0.750",
            *["held", "back:", "it", "fell", "from", "0.75"],
        ],
    ]
    assert rows[0].index("4") == rows[1].index("8  ")  # in columns


def test_a_damaged_version_does_not_hide_the_others(
    three: list[Manifest], store: VersionStore, capsys: pytest.CaptureFixture[str]
) -> None:
    (store.tail(three[0].version).parent / MANIFEST).write_text("{}")
    assert code("list") == 0
    rows = capsys.readouterr().out.splitlines()[1:]
    assert "cannot be read" in rows[0]
    assert "job of 8" in rows[1]
    assert code("show", "2") == 0
    assert code("show", "1") == 1


@pytest.mark.usefixtures("store")
def test_before_the_first_version_every_command_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    assert code("list") == 0
    assert capsys.readouterr().out == "no version yet: the first batch has to be confirmed\n"
    for arguments in (["show"], ["show", "1"], ["activate", "1"], ["rollback"]):
        assert code(*arguments) == 1
        assert capsys.readouterr().err.startswith("error: ")


def test_one_version_is_shown(three: list[Manifest], capsys: pytest.CaptureFixture[str]) -> None:
    assert code("show") == 0
    shown = dict(line.split("  ", 1) for line in capsys.readouterr().out.splitlines())
    assert shown["version"].strip() == f"{three[1].version} (active)"
    assert shown["trained on"].strip() == "8 frames"
    assert "0.75 (0.61 to 0.86, 12 patients), the parent's on the same frames 0.500" in shown["exact match"]
    for named in ("3", three[2].version):
        assert code("show", named) == 0
        assert "held back: it fell from 0.75" in capsys.readouterr().out
    assert code("show", "9") == 1
    assert "there is no version 9" in capsys.readouterr().err


def test_old_versions_are_removed(
    three: list[Manifest], store: VersionStore, capsys: pytest.CaptureFixture[str]
) -> None:
    assert code("prune", "--keep", "2") == 0
    assert capsys.readouterr().out == "nothing to remove\n"  # the oldest is the one to go back to
    add(store, 16)
    assert code("prune", "--keep", "1") == 0
    assert capsys.readouterr().out == f"removed {three[0].version}\nremoved {three[2].version}\n"
    assert code("prune", "--keep", "0") == 2
    assert "--keep" in capsys.readouterr().err


def test_one_of_several_projects_must_be_named(store: VersionStore, capsys: pytest.CaptureFixture[str]) -> None:
    (store.folder.parent / "8").mkdir()
    assert code("list") == 2
    assert "--project: 7, 8" in capsys.readouterr().err
    assert code("--project", "9", "list") == 2
    assert code("--project", "8", "list") == 0


@pytest.mark.usefixtures("environment")
def test_going_back_pushes_predictions_and_order_once(
    services: Services, settings: Settings, trained: int, capsys: pytest.CaptureFixture[str]
) -> None:
    first = services.versions(trained).active()
    state = Watched()
    look(services, trained, state)
    second = training.fine_tune(services, trained, lambda stage, done, total: None)
    look(services, trained, state)
    assert order(services, trained).about.version == second.version
    assert code("rollback") == 0
    said = capsys.readouterr().out.splitlines()
    placed = order(services, trained)
    assert said[0] == f"{first} is active"
    assert placed.about.name in said[-1]
    assert (services.versions(trained).active(), placed.about.version) == (first, first)
    assert services.studio.project(trained).model_version == placed.about.name
    look(services, trained, state)  # the sidecar has nothing left to do
    assert order(services, trained).about.name == placed.about.name
    assert code("rollback") == 1
    assert "nothing to go back to" in capsys.readouterr().err
    assert code("activate", "2") == 0
    assert order(services, trained).about.version == second.version
    assert served(services, trained) == order(services, trained).tasks.tolist()


@pytest.mark.usefixtures("environment")
def test_a_running_sidecar_goes_first(
    services: Services, trained: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    sleep = time.sleep
    made: list[str] = []

    def sidecar(seconds: float) -> None:
        if seconds == versions.SIDECAR_SECONDS:
            look(services, trained, Watched())
            made.append(order(services, trained).about.name)
        else:
            sleep(seconds)

    monkeypatch.setattr(time, "sleep", sidecar)
    assert code("activate", "1") == 0
    assert made == [f"{WORDS}{services.versions(trained).active()}.1"]
    assert capsys.readouterr().out.splitlines()[-1].endswith(f"in the order {made[0]}")


@pytest.mark.usefixtures("environment")
def test_a_version_from_before_a_symptom_was_added_serves_again(services: Services, trained: int) -> None:
    first = services.versions(trained).active()
    training.fine_tune(services, trained, lambda stage, done, total: None)
    with_fifth = render().replace("</Choices>", '<Choice value="Consolidation"/></Choices>')
    services.studio.update_project(trained, label_config=with_fifth)
    assert code("rollback") == 0
    assert services.versions(trained).active() == first
    placed = services.orders(trained).current()
    assert placed is not None
    assert (placed.about.version, placed.about.symptoms[-1]) == (first, "Consolidation")


@pytest.mark.usefixtures("environment")
class TestAVersionThatDoesNotFit:
    """Going back to it is refused, and the one that serves goes on."""

    def refused(self, services: Services, project: int, capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
        """What is said; nothing is changed."""
        store = services.versions(project)
        before = (store.active(), store.activations(), services.studio.project(project).model_version)
        capsys.readouterr()
        assert code(*arguments) == 1
        assert (store.active(), store.activations(), services.studio.project(project).model_version) == before
        said = capsys.readouterr()
        assert "is active" not in said.out
        assert said.err.splitlines()[-1].startswith("error: ")
        return said.err.splitlines()[-1]

    def test_no_shared_symptom(self, services: Services, trained: int, capsys: pytest.CaptureFixture[str]) -> None:
        store = services.versions(trained)
        served = store.get(str(store.active()))
        tail = store.tail(served.version).read_bytes()
        other = store.create(
            served.model_copy(update={"label_names": ("Healthy", "Nodule")}), lambda path: path.write_bytes(tail)
        )
        said = self.refused(services, trained, capsys, "activate", "2")
        assert f"{other.version} cannot be used" in said
        assert "it shares no symptom (Healthy, Nodule) with the project now (A-line, B-line, Pleural lesion, " in said
        assert "Pleural effusion); undo that change" in said

    def test_another_network_or_a_damaged_file(
        self, services: Services, trained: int, environment: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        with environment.context() as changed:
            changed.setenv("TSAL_BACKBONE", "resnet34")
            said = self.refused(services, trained, capsys, "activate", "1")
            assert "another backbone (efficientnet_lite0) than TSAL_BACKBONE now (resnet34)" in said
        with environment.context() as changed:
            changed.setenv("TSAL_WEIGHTS", "random")
            assert "TSAL_WEIGHTS as they were" in self.refused(services, trained, capsys, "activate", "1")
        store = services.versions(trained)
        store.tail(str(store.active())).write_bytes(b"half")
        assert "cannot be read" in self.refused(services, trained, capsys, "activate", "1")
