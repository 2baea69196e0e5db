from __future__ import annotations

import shutil
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from ml_backend.msml.network import build
from studies import dataset
from tests.studies.clips import write_clips


def load(folder: Path, cache: Path, limit: int | None = None) -> dataset.ClipSet:
    return dataset.load(folder, Fraction(1), cache, limit, lambda *_: None)


def test_frames_come_with_labels_patients_and_clips(tmp_path: Path) -> None:
    clips = load(write_clips(tmp_path / "made"), tmp_path / "cache")
    assert clips.name == "made"
    assert clips.symptoms == ("A-line", "B-line", "Pleural lesion")
    assert clips.labels.tolist() == 4 * [[1, 0, 0], [0, 1, 0], [0, 1, 1]]
    assert clips.patients[:5] == ("patient 0", "patient 1", "patient 2", "patient 3", "patient 0")
    assert clips.clips[3] == "3.png"
    assert clips.pixels.shape == (12, 224, 224, 3)
    assert clips.pixels[0].max() < 80  # the first pattern is dark, the second is not
    assert clips.pixels[1].max() > 200
    assert np.bincount(clips.clip_numbers).tolist() == 12 * [1]


def test_the_second_time_nothing_is_decoded(tmp_path: Path) -> None:
    folder = write_clips(tmp_path / "made")
    first = load(folder, tmp_path / "cache")
    shutil.rmtree(folder / "clips")
    again = load(folder, tmp_path / "cache")
    np.testing.assert_array_equal(first.pixels, again.pixels)
    np.testing.assert_array_equal(first.labels, again.labels)


def test_a_clip_that_cannot_be_read_costs_only_itself(tmp_path: Path) -> None:
    folder = write_clips(tmp_path / "made")
    (folder / "clips" / "4.png").write_bytes(b"\x89PNG\r\n\x1a\nbroken")
    clips = load(folder, tmp_path / "cache")
    assert len(clips) == 11
    assert [line.split(":")[0] for line in clips.unreadable] == ["4.png"]
    assert "4.png" not in clips.clips
    assert clips.labels[4].tolist() == [0, 1, 1]  # the fifth frame is of the sixth clip


def test_a_limit_takes_clips_from_everywhere(tmp_path: Path) -> None:
    clips = load(write_clips(tmp_path / "made"), tmp_path / "cache", limit=3)
    assert clips.clips == ("0.png", "6.png", "11.png")  # of 0 to 11 the ends and 5.5, rounded to even


def test_records_are_those_of_each_frame_and_its_views(tmp_path: Path) -> None:
    clips = load(write_clips(tmp_path / "made", clips=3), tmp_path / "cache")
    network = build("efficientnet_lite0", 3)
    records = dataset.activations(clips, network, 2, tmp_path / "cache", lambda *_: None)
    assert records.shape[:2] == (3, 2)
    expected = network.activations(clips.pixels[:])
    found = dataset.restored(records[:, 0], network)
    step = (expected.max() - expected.min()) / 255
    np.testing.assert_allclose(found, expected, atol=float(step))
    assert not np.array_equal(records[:, 0], records[:, 1])
    again = dataset.activations(clips, network, 2, tmp_path / "cache", lambda *_: pytest.fail("computed twice"))
    np.testing.assert_array_equal(records, again)
