from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ml_backend.msml.network import Network
from studies import calibration, work
from studies.plan import PRESETS, Part, split
from studies.simulation import Way
from studies.work import Bench, Setting, do_all
from tests.studies.clips import write_clips

PRESET = replace(PRESETS["quick"], clips=None, rounds=2, way=Way(1, 2), views=2)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_clips(tmp_path_factory.mktemp("work") / "made", 18)


@pytest.fixture(scope="module")
def setting(tmp_path_factory: pytest.TempPathFactory) -> Setting:
    return Setting(PRESET, tmp_path_factory.mktemp("study"), "efficientnet_lite0", None)


@pytest.fixture(scope="module")
def bench(setting: Setting, folder: Path) -> Bench:
    return Bench(setting, folder)


def test_what_is_done_is_not_done_again(setting: Setting, bench: Bench, folder: Path) -> None:
    parts = [Part("run", "made", "frames", seed, "random") for seed in (0, 1)]
    seen: list[Part] = []
    first = do_all(setting, {"made": folder}, parts, 1, seen.append)
    assert seen == parts
    assert [result["seed"] for result in first] == [0, 1]
    assert [len(result["rounds"]) for result in first] == [2, 2]
    kept = {path: path.stat().st_mtime_ns for path in (setting.folder / "parts").iterdir()}
    assert len(kept) == 2
    again = do_all(setting, {"made": folder}, parts, 1, seen.append)
    assert again == first
    assert {path: path.stat().st_mtime_ns for path in (setting.folder / "parts").iterdir()} == kept
    next(iter(kept)).unlink()
    more = do_all(setting, {"made": folder}, parts, 1, seen.append)
    assert [row | {"seconds": 0} for row in more] == [row | {"seconds": 0} for row in first]
    assert len(seen) == 6
    unchanged = [path for path, when in kept.items() if path.stat().st_mtime_ns == when]
    assert len(unchanged) == 1


def test_other_labels_are_another_study(setting: Setting, tmp_path: Path) -> None:
    folder = write_clips(tmp_path / "made", 4)
    before = setting.settings(folder)
    assert setting.settings(folder) == before
    table = folder / "clips.csv"
    table.write_text(table.read_text().replace("patient 0", "patient 7"))
    assert setting.settings(folder) != before


def test_layers_that_are_trained(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(work, "TRAINED_LAYERS_STEPS", 1)
    built: list[Network] = []
    fresh = Bench.fresh

    def noted(*given: Any) -> Network:
        built.append(fresh(*given))
        return built[-1]

    monkeypatch.setattr(Bench, "fresh", noted)
    for layers in ("head", "last three", "all"):
        result = bench.do(Part("trained layers", "made", "frames", 0, layers))
        assert 0.0 <= result["exact"] <= 1.0
        assert set(result["symptoms"]) == {"A-line", "B-line", "Pleural lesion"}
    counts = [sum(value.size for value in network.trainable_state().values()) for network in built]
    assert counts == sorted(set(counts))


def test_calibration_is_fitted_on_other_patients_than_it_is_tested_on(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained: list[set[str]] = []
    fitted = calibration.fit_temperatures
    sizes: list[int] = []

    def spy_trained(self: Bench, rows, seed):  # type: ignore[no-untyped-def]
        trained.append({self.clips.patients[row] for row in rows})
        return original(self, rows, seed)

    def spy_fitted(probabilities, labels):  # type: ignore[no-untyped-def]
        sizes.append(len(labels))
        return fitted(probabilities, labels)

    original = Bench._trained
    monkeypatch.setattr(Bench, "_trained", spy_trained)
    monkeypatch.setattr(calibration, "fit_temperatures", spy_fitted)
    for seed in range(20):
        pool, test = split(bench.clips, "patients", seed)
        result = bench.do(Part("calibration", "made", "patients", seed, "MSML")) if len(pool) and len(test) else None
        if result and result["symptoms"]:
            break
    else:
        pytest.fail("no seed divides four patients into three groups")
    tested = {bench.clips.patients[row] for row in test}
    assert not trained[-1] & tested
    in_training = sum(patient in trained[-1] for patient in bench.clips.patients)
    assert sizes[-1] + in_training + len(test) == len(bench.clips)
    assert [row["symptom"] for row in result["symptoms"]] == list(bench.clips.symptoms)
    for row in result["symptoms"]:
        assert sum(count for _, _, count in row["bins_before"]) == len(test)
        assert 0.1 <= row["temperature"] <= 10


def test_maps_show_frames_of_different_clips(bench: Bench, setting: Setting, monkeypatch: pytest.MonkeyPatch) -> None:
    assert work._of_different_clips(np.array([4, 2, 0, 1, 3]), ["a", "b", "a", "c", "a"]) == [4, 1, 3]
    monkeypatch.setattr(work, "MAPS", 1)
    drawn = bench.do(Part("maps", "made", "patients", 1, "MSML"))["maps"]
    assert {one["place"] for one in drawn} == {"most informative", "least informative"}
    most = [one for one in drawn if one["place"] == "most informative"]
    least = [one for one in drawn if one["place"] == "least informative"]
    assert len(most) == len(least) == 1
    assert max(abs(one["margin"]) for one in most) <= min(abs(one["margin"]) for one in least)
    for one in drawn:
        assert (setting.folder / one["figure"]).read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("method", ["NNBD-style", "POCOVID-Net", "ResNet34"])
def test_comparison_networks_run_and_say_what_they_started_from(bench: Bench, method: str) -> None:
    weights = None if method == "NNBD-style" else "random"
    result = bench.do(Part("compared", "made", "frames", 0, method, {"weights": weights}))
    assert result["weights"] == ("trained from scratch" if method == "NNBD-style" else "random weights")
    assert 0.0 <= result["exact"] <= 1.0
