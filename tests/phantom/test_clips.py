"""The clips of a phantom ward and the table of their labels."""

from __future__ import annotations

import csv
from collections import Counter
from pathlib import Path

import av
import numpy as np
import pytest

from ml_backend.errors import InvalidRequest
from ml_backend.phantom import clips
from ml_backend.phantom import echoes as phantom

A_LINE, NOTHING = (1, 0, 0, 0), (0, 0, 0, 0)


@pytest.mark.parametrize("seed", range(8))
def test_the_mix_of_labels_is_that_of_a_ward(seed: int) -> None:
    plans = clips.plan(patients=12, clips_per_patient=2, seed=seed)
    assert len(plans) == 24
    assert len({item.file for item in plans}) == 24
    assert len({item.person for item in plans}) == 12
    for index in range(4):
        assert len({item.patient for item in plans if item.labels[index]}) >= 3
    assert Counter(item.labels for item in plans).most_common(1)[0][0] == A_LINE
    assert {item.person.probe.kind for item in plans} == {"convex", "linear"}
    assert not any(item.labels[0] and any(item.labels[1:]) for item in plans)


def test_four_patients_are_enough_for_every_symptom() -> None:
    for seed in range(8):
        plans = clips.plan(patients=4, clips_per_patient=1, seed=seed)
        assert np.any([item.labels for item in plans], axis=0).all()


def test_among_many_patients_healthy_places_are_common_and_empty_ones_rare() -> None:
    combinations = Counter(item.labels for item in clips.plan(patients=60, clips_per_patient=3, seed=1))
    assert 0.3 < combinations[A_LINE] / 180 < 0.6
    assert 0 < combinations[NOTHING] / 180 < 0.1
    assert len(combinations) >= 7


def written(folder: Path, seed: int = 7) -> Path:
    return clips.generate(folder, patients=3, clips_per_patient=1, frames_per_clip=4, seed=seed, size=(96, 128))


def test_clips_and_their_table_are_written_like_the_real_ones(tmp_path: Path) -> None:
    table = written(tmp_path)
    assert table == tmp_path / "clips.csv"
    with table.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == [
        "file", "patient", "probe", "labelled", "a_line", "b_line", "pleural_lesion", "pleural_effusion",
    ]  # fmt: skip
    assert sorted(row["file"] for row in rows) == sorted(path.name for path in (tmp_path / "clips").iterdir())
    assert len({row["patient"] for row in rows}) == 3
    assert {row["labelled"] for row in rows} == {"1"}
    for row, item in zip(rows, clips.plan(3, 1, seed=7), strict=True):
        assert [int(row[name]) for name in list(row)[4:]] == list(item.labels)


def test_what_is_read_from_a_clip_is_what_was_drawn(tmp_path: Path) -> None:
    written(tmp_path)
    item = clips.plan(3, 1, seed=7)[0]
    with av.open(str(tmp_path / "clips" / item.file)) as container:
        frames = [frame.to_ndarray(format="gray") for frame in container.decode(video=0)]
    assert len(frames) == 4
    drawn = phantom.Clip(item.person, item.labels, item.seed)
    for index, frame in enumerate(frames):
        expected = drawn.frame(index / 10, (96, 128)).astype(float)
        assert np.abs(frame - expected).mean() < 4
        assert np.abs(frame - expected).mean() < 0.5 * np.abs(frame - drawn.frame(index / 10 + 1, (96, 128))).mean()


def test_the_same_seed_gives_the_same_bytes_and_another_seed_others(tmp_path: Path) -> None:
    for name, seed in (("one", 7), ("two", 7), ("other", 8)):
        written(tmp_path / name, seed)
    names = [Path("clips.csv"), *(Path("clips") / path.name for path in (tmp_path / "one" / "clips").iterdir())]
    for name in names:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
    assert any((tmp_path / "one" / name).read_bytes() != (tmp_path / "other" / name).read_bytes() for name in names)


def test_running_again_replaces_phantoms_but_never_a_table_of_real_clips(tmp_path: Path) -> None:
    written(tmp_path)
    table = written(tmp_path)
    table.write_text("file,patient\nreal.mp4,somebody\n", encoding="utf-8")
    with pytest.raises(InvalidRequest, match=r"not phantoms \(real.mp4\); choose another folder"):
        written(tmp_path)
    assert "somebody" in table.read_text(encoding="utf-8")
