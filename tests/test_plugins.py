"""The example in CONTRIBUTING.md, installed as a package of its own beside ours."""

from __future__ import annotations

import configparser
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ml_backend import plugins, settings
from ml_backend.errors import SettingsError, WeightsUnavailable
from ml_backend.loop import order as ordering
from ml_backend.model import LungUltrasoundModel
from ml_backend.msml import backbones
from ml_backend.plugins import Registry
from ml_backend.services import Services
from ml_backend.settings import load
from ml_backend.tsal.acquisition import STRATEGIES, Strategy
from tests.installation import PROJECT, XML, settings_in
from tests.loop.installed import Installation, labels_of, silent
from tests.studio_stand_in import StudioStandIn, one_thread
from tests.tsal.strategy_checks import StrategyChecks

__all__ = ["one_thread"]

TEXT = (Path(__file__).resolve().parent.parent / "CONTRIBUTING.md").read_text()
CODE = re.search(r"```python\n(# our_additions\.py\n.*?)```", TEXT, re.DOTALL)
TABLES = re.search(r"    # pyproject\.toml of your package\n((?:    .*\n|\n)+)", TEXT)
SETTINGS = {"TSAL_STRATEGY": "sickest-diverse", "TSAL_BACKBONE": "mobilenet_v2", "TSAL_WEIGHTS": "random"}


def install(folder: Path, name: str, code: str, entry_points: str) -> None:
    """Write what an installer leaves: a module, and beside it what the package says of itself."""
    about = folder / f"{name}-1.0.dist-info"
    about.mkdir(parents=True)
    (folder / f"{name}.py").write_text(code)
    (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text(entry_points)


@pytest.fixture
def example(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The example of the guide, installed."""
    assert CODE
    assert TABLES
    written = configparser.ConfigParser()
    written.read_string(re.sub("^    ", "", TABLES[1], flags=re.MULTILINE))
    lines = []
    for section in written.sections():
        group = section.removeprefix('project.entry-points."').removesuffix('"')
        lines += [f"[{group}]", *(f"{name} = {value[1:-1]}" for name, value in written[section].items())]
    install(tmp_path / "site", "our_additions", CODE[1], "\n".join(lines))
    monkeypatch.syspath_prepend(str(tmp_path / "site"))


@pytest.mark.usefixtures("example")
class TestTheStrategyOfTheExample(StrategyChecks):
    @pytest.fixture
    def strategy(self) -> Strategy:
        return Registry(plugins.STRATEGIES, STRATEGIES)["sickest"]


def test_settings_know_the_names_of_what_comes_with_the_package() -> None:
    assert tuple(STRATEGIES) == settings.STRATEGIES
    assert tuple(backbones.BACKBONES) == settings.BACKBONES


@pytest.mark.parametrize("name", ["TSAL_STRATEGY", "TSAL_BACKBONE"])
def test_a_name_that_nobody_gives_is_refused_with_those_there_are(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, SETTINGS[name])
    with pytest.raises(SettingsError, match=f"{name}.*{SETTINGS[name]}.* is none of .*(binmin, random|vgg16)"):
        load()


@pytest.mark.usefixtures("example")
def test_a_name_that_a_package_gives_is_taken_and_listed(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in SETTINGS.items():
        monkeypatch.setenv(name, value)
    assert (load().strategy, load().backbone) == ("sickest-diverse", "mobilenet_v2")
    monkeypatch.setenv("TSAL_STRATEGY", "sickly")
    with pytest.raises(SettingsError, match=r"TSAL_STRATEGY: .*'sickly' is none of .*, sickest; "):
        load()
    monkeypatch.setenv("TSAL_BACKBONE", "mobilenet")
    with pytest.raises(SettingsError, match=r"'mobilenet' is none of resnet50, .*, mobilenet_v2"):
        load()


def registry(folder: Path, monkeypatch: pytest.MonkeyPatch, code: str, entry_points: str) -> Registry[Any]:
    install(folder, "theirs", code, f"[a.group]\n{entry_points}\n")
    monkeypatch.syspath_prepend(str(folder))
    return Registry("a.group", {"ours": 1})


def test_only_what_is_asked_for_is_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = registry(tmp_path, monkeypatch, "raise RuntimeError('half installed')", "broken = theirs:x")
    assert list(found) == ["ours", "broken"]
    assert found["ours"] == 1
    with pytest.raises(SettingsError, match=r"'broken' of a\.group \(theirs:x\) cannot be imported.*half installed"):
        found["broken"]
    with pytest.raises(KeyError):
        found["nobody's"]


def test_a_name_that_is_given_twice_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = registry(tmp_path, monkeypatch, "x = 2", "ours = theirs:x")
    assert len(found) == 1
    with pytest.raises(SettingsError, match=r"'ours' .* twice .*theirs:x"):
        found["ours"]


def test_a_backbone_must_be_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path, "theirs", "x = 2", f"[{plugins.BACKBONES}]\nnone = theirs:x\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(WeightsUnavailable, match="must be a Backbone with that name"):
        backbones.load("none", backbones.RANDOM)


@pytest.mark.usefixtures("example")
def test_a_project_trains_and_chooses_with_it(tmp_path: Path) -> None:
    studio = StudioStandIn()
    for task in range(1, 15):
        studio.add(tmp_path, task)
    for task in range(1, 7):
        studio.confirm(task, labels_of(task))
    common: dict[str, Any] = {
        "weights": "random",
        "backbone": "mobilenet_v2",
        "hold_out": 0,
        "audit": 0,
        "minimum_steps": 4,
    }
    installation = Installation(
        tmp_path, tmp_path / "data", studio, Services(settings_in(tmp_path, **common)).predictor
    )
    services = installation.services(**common | {"strategy": "sickest"})
    manifest = installation.trained(**common)
    assert (manifest.backbone, manifest.weights) == ("mobilenet_v2", "random")
    network = installation.network(manifest)
    before = installation.predictor.fresh(3)
    assert any(
        not np.array_equal(value, network.trainable_state()[name]) for name, value in before.trainable_state().items()
    )

    order = ordering.refresh(services, PROJECT, silent)
    assert order is not None
    assert order.about.strategy == "sickest"
    shown = {one["task"]: one["result"][0]["tsal"]["probabilities"] for one in studio.served()}
    sickness = [max(shown[task]["A-line"], shown[task]["B-line"]) for task in order.tasks.tolist()]
    assert len(set(sickness)) > 1
    assert sickness == sorted(sickness, reverse=True)

    hook = LungUltrasoundModel(str(PROJECT), XML, services)
    task = int(order.tasks[0])
    (said,) = hook.predict([{"id": task, "data": studio.task_data[task]}])
    assert said["result"][0]["tsal"]["strategy"] == "sickest"
