"""The benchmarks' own logic; their figures pass or fail nothing."""

from __future__ import annotations

import csv
import itertools
import json
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from benchmarks import growth, large_pools, run, workload, year_store
from benchmarks.report import Report
from ml_backend.frames.predictor import Predictor
from ml_backend.frames.scores import concatenate
from ml_backend.phantom.clips import generate
from ml_backend.services import Services
from ml_backend.settings import load
from ml_backend.store.features import FeatureStore
from ml_backend.store.versions import VersionStore
from ml_backend.tsal.likeness import Scale
from tests.studio_stand_in import one_thread

__all__ = ["one_thread"]


class TestReport:
    def test_a_row_is_a_median_with_its_spread(self, capsys: pytest.CaptureFixture[str]) -> None:
        report = Report()
        report.part = "scoring"
        assert report.row("rescoring", "s", [3.0, 1.0, 10.0], "a note") == 3.0
        assert report.row("once", "ms", [2.0]) == 2.0
        assert report.measured == [
            {"part": "scoring", "what": "rescoring", "unit": "s", "median": 3.0, "spread": 9.0, "note": "a note"},
            {"part": "scoring", "what": "once", "unit": "ms", "median": 2.0, "spread": 0.0, "note": ""},
        ]
        first, second = capsys.readouterr().out.splitlines()
        assert first.split() == ["rescoring", "3.000", "s", "±4.500", "a", "note"]
        assert second.split() == ["once", "2.000", "ms", "±0.000"]

    @pytest.mark.parametrize(
        ("value", "at_least", "holds"),
        [
            (9.9, True, False),
            (10.0, True, True),
            (10.1, True, True),
            (9.9, False, True),
            (10.0, False, True),
            (10.1, False, False),
            (float("nan"), True, False),
            (float("nan"), False, False),
        ],
    )
    def test_a_bar_holds_or_not(
        self, value: float, at_least: bool, holds: bool, capsys: pytest.CaptureFixture[str]
    ) -> None:
        report = Report()
        report.bar("times faster", value, 10, at_least=at_least, earlier=2.0)
        (bar,) = report.bars
        assert (bar["at_least"], bar["earlier"]) == (at_least, 2.0)
        assert (bar["name"], bar["bar"], bar["holds"]) == ("times faster", 10, holds)
        assert capsys.readouterr().out.startswith("HOLDS" if holds else "MISSED")


def test_a_quick_run_of_the_selection_writes_its_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "runs" / "bench.json"
    monkeypatch.setattr(sys, "argv", ["bench", "--quick", "--only", "selection", "--output", str(output)])
    assert run.main() == 0
    written = json.loads(output.read_text())
    assert written["quick"] is True
    (selection,) = written["parts"].values()
    assert selection["machine"]["cores"] >= 1
    assert selection["machine"]["instructions"]
    assert set(selection["versions"]) >= {"python", "torch", "numpy"}
    assert [row["what"] for row in written["measured"]] == [
        "mlm: order of 50,000",
        "lc: order of 50,000",
        "mle: order of 50,000",
        "binmin: order of 50,000",
        "nearest table row of 50,000",
        "mlm-diverse: 100 of 5,000",
    ]
    slowest, nearest, diverse = written["bars"]
    assert (
        set(slowest) == set(nearest) == set(diverse) == {"part", "name", "value", "bar", "at_least", "holds", "earlier"}
    )
    assert slowest["value"] == max(row["median"] for row in written["measured"][:4])
    assert nearest["value"] == written["measured"][4]["median"]
    assert diverse["value"] == written["measured"][5]["median"]
    assert (slowest["bar"], nearest["bar"], diverse["bar"]) == (0.5, 1.0, 20)
    assert str(output) in capsys.readouterr().out


@pytest.fixture
def parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[tuple[str, float]]]:
    """Runs parts of the benchmarks that report how often they ran; returns each part with what it reported."""
    runs = itertools.count(1)

    def counted(report: Report, quick: bool, folder: Path) -> None:
        report.row("runs", "", [float(next(runs))])

    def ran(*arguments: str) -> list[tuple[str, float]]:
        output = tmp_path / "bench.json"
        monkeypatch.setattr(sys, "argv", ["bench", *arguments, "--output", str(output)])
        assert run.main() == 0
        written = json.loads(output.read_text())
        assert list(written["parts"]) == [row["part"] for row in written["measured"]]
        return [(row["part"], row["median"]) for row in written["measured"]]

    monkeypatch.setattr(run, "PARTS", {"one": counted, "two": counted, "three": counted})
    return ran


def test_a_part_that_runs_again_replaces_its_own_rows(parts: Callable[..., list[tuple[str, float]]]) -> None:
    assert parts() == [("one", 1), ("two", 2), ("three", 3)]
    assert parts("--only", "two") == [("one", 1), ("two", 4), ("three", 3)]
    assert parts() == [("one", 5), ("two", 6), ("three", 7)]


def test_rows_of_another_kind_of_run_do_not_stay(parts: Callable[..., list[tuple[str, float]]]) -> None:
    assert parts("--quick", "--only", "one", "two") == [("one", 1), ("two", 2)]
    assert parts("--only", "two") == [("two", 3)]


class TestWorkload:
    def test_a_filled_pool_is_scored_from_the_cache(self, tmp_path: Path) -> None:
        class Counted(workload.Files):
            fetched = 0

            def fetch(self, url: str, task: int | None = None) -> bytes:
                Counted.fetched += 1
                return super().fetch(url, task)

        settings = load(backbone="efficientnet_lite0", data_dir=tmp_path)
        features = FeatureStore(tmp_path / "features", 500_000_000)
        predictor = Predictor(settings, Counted(workload.pictures(2, 0)), features)
        network = predictor.network(4)
        pool = workload.frames(150, "pool")
        workload.fill(predictor, features, pool, 1)
        store = VersionStore(tmp_path / "project")
        manifest = workload.version(store, network, settings)
        fetched = Counted.fetched
        scores = concatenate(list(predictor.scores(pool, manifest, store)), 4)
        assert scores.tasks.tolist() == [frame.task for frame in pool]
        assert Counted.fetched == fetched  # none of them was fetched: what is timed is the cache
        assert scores.unreadable == {}
        assert store.active() == manifest.version

    def test_labelled_frames_are_those_of_the_table(self, tmp_path: Path) -> None:
        path = generate(tmp_path, 3, clips_per_patient=1, frames_per_clip=2, seed=0, size=(64, 64))
        pixels, truth, patients = workload.labelled_frames(tmp_path, every=1)
        with path.open(newline="") as file:
            rows = {row["patient"]: row for row in csv.DictReader(file)}
        assert pixels.shape == (len(truth), 224, 224, 3)
        assert set(patients) == set(rows)
        for labels, patient in zip(truth.tolist(), patients, strict=True):
            row = rows[patient]
            assert labels == [int(row[name]) for name in ("a_line", "b_line", "pleural_lesion", "pleural_effusion")]


class TestLargePools:
    def test_a_frame_is_as_far_away_as_the_nearest_chosen(self) -> None:
        angles = np.radians([0, 60, 90, 180])
        directions = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)
        half = 2 * np.sin(np.pi / 12)  # between 60 and 90 degrees
        np.testing.assert_allclose(large_pools.distances(directions, np.array([0, 2])), [0, half, 0, 2**0.5], atol=1e-3)

    def test_a_made_up_pool_has_clips_that_are_alike(self, tmp_path: Path) -> None:
        pool = large_pools.made_up(tmp_path / "vectors", 150)
        assert pool.embeddings.shape == (150, 512)
        assert np.bincount(pool.clips).tolist() == [60, 60, 30]
        assert pool.times[[0, 59, 60]].tolist() == [0, 29.5, 0]
        units = Scale.of(pool.embeddings).units(pool.embeddings)
        alike, same = units @ units.T, pool.clips[:, None] == pool.clips
        assert alike[same].min() > alike[~same].max()
        again = large_pools.mapped(tmp_path / "vectors", 150)
        np.testing.assert_array_equal(again.embeddings, pool.embeddings)


class TestGrowth:
    @pytest.mark.parametrize("power", [0.5, 1.0, 2.0])
    def test_the_exponent_is_that_of_the_seconds(self, power: float) -> None:
        sizes = (1000, 10_000, 100_000)
        assert growth.exponent(sizes, [3 * size**power for size in sizes]) == pytest.approx(power)

    def test_a_step_that_bends_upwards_has_a_larger_exponent(self) -> None:
        assert growth.exponent((1000, 10_000, 100_000), [1.0, 10.0, 200.0]) > 1.05


class TestYear:
    def test_each_version_has_learnt_a_batch_more(self, tmp_path: Path) -> None:
        year_store.write(tmp_path, 500, 2)
        services = Services(year_store.year_settings(tmp_path))
        store, order = services.versions(year_store.PROJECT), services.orders(year_store.PROJECT).current()
        first, second = (store.get(name) for name in store.names())
        assert set(first.seen) < set(second.seen)
        assert [len(one.seen) for one in (first, second)] == [100, 200]
        assert second.parent == first.version
        assert order is not None
        assert sorted(order.tasks.tolist()) == list(range(201, 501))
        assert order.about.version == second.version
        grounds = services.grounds(year_store.PROJECT).get(order.about.name)
        assert grounds is not None
        assert len(grounds.frames) == 500
