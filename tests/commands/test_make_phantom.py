"""Phantom frames: their labels can be read off the pixels, and the same seed gives the same bytes."""

from __future__ import annotations

import csv
from collections import Counter
from functools import cache
from pathlib import Path

import av
import numpy as np
import pytest
from numpy.typing import NDArray

from ml_backend.commands import make_phantom
from ml_backend.errors import InvalidRequest
from ml_backend.phantom import echoes as phantom

SEEDS = range(10)
A_LINE, B_LINE, LESION, EFFUSION, NOTHING = (1, 0, 0, 0), (0, 1, 0, 0), (0, 0, 1, 0), (0, 0, 0, 1), (0, 0, 0, 0)
MIDDLE = slice(phantom.BEAMS // 3, 2 * phantom.BEAMS // 3)


@cache
def clip(labels: tuple[int, ...], seed: int) -> phantom.Clip:
    return phantom.Clip(phantom.patient(seed, linear=seed % 6 == 4), labels, seed)


@cache
def echoes(shown: phantom.Clip) -> NDArray[np.float32]:
    return shown.echoes(0.0)


def grey_at(shown: phantom.Clip, depth: NDArray[np.float32]) -> NDArray[np.float32]:
    """Grey level of every beam at its own depth in mm."""
    rows = np.round(depth / shown.person.probe.depth * (phantom.DEPTH_SAMPLES - 1)).astype(int)
    return np.take_along_axis(echoes(shown), np.clip(rows, 0, phantom.DEPTH_SAMPLES - 1), axis=0)[0]


def line_contrast(shown: phantom.Clip, beams: slice = MIDDLE) -> float:
    """How much brighter it is at 2 and 3 times the depth of the pleural line than beside these depths."""
    pleura = shown.pleura(0.0)
    on = [grey_at(shown, order * pleura + shift)[beams].mean() for order in (2, 3) for shift in (-0.4, 0, 0.4)]
    beside = [grey_at(shown, (order + shift) * pleura)[beams].mean() for order in (2, 3) for shift in (-0.3, 0.3)]
    return float(np.mean(on) - np.mean(beside))


def brightest_bottom(shown: phantom.Clip) -> float:
    """The brightest group of beams in the deepest quarter."""
    bottom = echoes(shown)[3 * phantom.DEPTH_SAMPLES // 4 :].mean(axis=0)
    return float(np.convolve(bottom, np.ones(5) / 5, "valid").max())


def unevenness(shown: phantom.Clip) -> float:
    """How much the brightness of the pleural line varies along it."""
    line = np.max([grey_at(shown, shown.pleura(0.0) + shift) for shift in np.arange(-3, 3, 0.2)], axis=0)
    return float(line[MIDDLE].std())


def grey_below_pleura(shown: phantom.Clip) -> float:
    return float(np.mean([grey_at(shown, shown.pleura(0.0) + below)[MIDDLE].mean() for below in (2, 2.5, 3, 3.5)]))


@pytest.mark.parametrize("seed", SEEDS)
def test_a_lines_repeat_the_pleural_line_at_multiples_of_its_depth(seed: int) -> None:
    assert line_contrast(clip(A_LINE, seed)) > 0.15
    for other in (B_LINE, LESION, NOTHING):
        assert line_contrast(clip(other, seed)) < 0.08


@pytest.mark.parametrize("seed", SEEDS)
def test_b_lines_reach_the_bottom(seed: int) -> None:
    with_tails, without = clip(B_LINE, seed), clip(NOTHING, seed)
    assert brightest_bottom(with_tails) > brightest_bottom(without) + 0.1


def test_b_lines_erase_the_a_lines_that_they_cross() -> None:
    alone, crossed = [], []
    for seed in SEEDS:
        tail = int(echoes(clip((1, 1, 0, 0), seed))[300:].mean(axis=0).argmax())
        beams = slice(max(tail - 2, 0), tail + 3)
        alone.append(line_contrast(clip(A_LINE, seed), beams))
        crossed.append(line_contrast(clip((1, 1, 0, 0), seed), beams))
    assert np.mean(crossed) < 0.15 * np.mean(alone)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_lesion_makes_the_pleural_line_uneven(seed: int) -> None:
    assert unevenness(clip(LESION, seed)) > 1.15 * unevenness(clip(NOTHING, seed))


@pytest.mark.parametrize("seed", SEEDS)
def test_effusion_is_dark_below_the_pleural_line(seed: int) -> None:
    dry = grey_below_pleura(clip(NOTHING, seed))
    for labels in (EFFUSION, (0, 1, 0, 1), (0, 0, 1, 1)):
        assert grey_below_pleura(clip(labels, seed)) < 0.75 * dry


def test_speckle_is_there_and_fluid_has_little_of_it() -> None:
    lung, fluid = clip(NOTHING, 3).echoes(0.0), clip(EFFUSION, 3).echoes(0.0)
    row = round(clip(NOTHING, 3).person.pleura * 1.5 / clip(NOTHING, 3).person.probe.depth * phantom.DEPTH_SAMPLES)
    assert lung[row, MIDDLE].std() > 0.03
    assert lung[row, MIDDLE].std() > 2 * fluid[row, MIDDLE].std()


def test_a_convex_field_is_a_sector_and_a_linear_one_a_rectangle() -> None:
    convex = phantom.Clip(phantom.patient(3), A_LINE, 3).frame(0.0)
    linear = phantom.Clip(phantom.patient(3, linear=True), A_LINE, 3).frame(0.0)
    assert not convex[:40, :40].any()
    assert convex[:200].any(axis=0).sum() > convex[:40].any(axis=0).sum()
    assert linear[:40].any(axis=0).sum() == linear[:200].any(axis=0).sum()


def test_frames_move_slowly_and_never_stand_still() -> None:
    shown = clip(B_LINE, 5)
    first, soon = shown.frame(0.0), shown.frame(0.1)
    elsewhere = phantom.Clip(shown.person, B_LINE, 6).frame(0.0)
    assert np.corrcoef(first.ravel(), soon.ravel())[0, 1] > 0.8
    assert np.corrcoef(first.ravel(), elsewhere.ravel())[0, 1] < 0.8
    assert not np.array_equal(first, soon)
    assert np.array_equal(soon, shown.frame(0.1))


def test_the_lung_slides_under_the_chest_wall() -> None:
    shown = clip(B_LINE, 5)
    bottoms = np.stack([shown.echoes(time)[300:].mean(axis=0) for time in np.arange(0, shown.person.breath, 0.25)])
    places = bottoms.argmax(axis=1) * 2 * shown.person.probe.half_width_at(shown.person.pleura) / phantom.BEAMS
    assert shown.person.slide < np.ptp(places) < 4 * shown.person.slide
    skins = [shown.echoes(time)[:20] for time in (0.0, 1.0)]
    assert np.corrcoef(skins[0].ravel(), skins[1].ravel())[0, 1] > 0.8


def test_a_frame_is_a_picture_of_the_size_asked_for_and_depends_on_nothing_but_its_arguments() -> None:
    one = phantom.frame(B_LINE, seed=3, size=(224, 300))
    assert one.shape == (224, 300)
    assert one.dtype == np.uint8
    assert np.array_equal(one, phantom.frame(B_LINE, seed=3, size=(224, 300)))
    assert not np.array_equal(one, phantom.frame(B_LINE, seed=4, size=(224, 300)))
    assert not np.array_equal(one, phantom.frame(A_LINE, seed=3, size=(224, 300)))


@pytest.mark.parametrize("labels", [(1, 0, 0), (1, 0, 0, 0, 0), (2, 0, 0, 0)])
def test_labels_that_are_no_labels_are_refused(labels: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="4 values of 0 or 1"):
        phantom.frame(labels, seed=1)


def test_a_frame_too_small_to_show_anything_is_refused() -> None:
    with pytest.raises(ValueError, match="32×32"):
        phantom.frame(A_LINE, seed=1, size=(16, 400))


@pytest.mark.parametrize("seed", range(8))
def test_the_mix_of_labels_is_that_of_a_ward(seed: int) -> None:
    plans = make_phantom.plan(patients=12, clips_per_patient=2, seed=seed)
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
        plans = make_phantom.plan(patients=4, clips_per_patient=1, seed=seed)
        assert np.any([item.labels for item in plans], axis=0).all()


def test_among_many_patients_healthy_places_are_common_and_empty_ones_rare() -> None:
    combinations = Counter(item.labels for item in make_phantom.plan(patients=60, clips_per_patient=3, seed=1))
    assert 0.3 < combinations[A_LINE] / 180 < 0.6
    assert 0 < combinations[NOTHING] / 180 < 0.1
    assert len(combinations) >= 7


def written(folder: Path, seed: int = 7) -> Path:
    return make_phantom.generate(folder, patients=3, clips_per_patient=1, frames_per_clip=4, seed=seed, size=(96, 128))


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
    for row, item in zip(rows, make_phantom.plan(3, 1, seed=7), strict=True):
        assert [int(row[name]) for name in list(row)[4:]] == list(item.labels)


def test_what_is_read_from_a_clip_is_what_was_drawn(tmp_path: Path) -> None:
    written(tmp_path)
    item = make_phantom.plan(3, 1, seed=7)[0]
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
    with pytest.raises(InvalidRequest, match=r"not phantoms \(real.mp4\); name another folder"):
        written(tmp_path)
    assert "somebody" in table.read_text(encoding="utf-8")


def test_numbers_that_cannot_be_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert make_phantom.main([str(tmp_path), "--patients", "0"]) == 2
    assert "1 or more" in capsys.readouterr().err
    assert make_phantom.main([str(tmp_path), "--size", "101"]) == 2
    assert "even numbers" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_the_command_writes_clips_and_examples(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--patients", "1", "--clips", "1", "--frames", "2", "--size", "64", "--examples", str(tmp_path / "ex")]
    assert make_phantom.main([str(tmp_path / "out"), *arguments]) == 0
    assert str(tmp_path / "out" / "clips.csv") in capsys.readouterr().out
    assert len(list((tmp_path / "ex").iterdir())) == 4
    with pytest.raises(SystemExit):
        make_phantom.main([])
