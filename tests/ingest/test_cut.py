"""Crop and masks: what is taken of a picture, and that a project keeps it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ml_backend.errors import FrameUnreadable, InvalidRequest, NotWritten, SettingsError
from ml_backend.ingest.cut import WHOLE, Box, Cut
from tests.commands.test_import_frames import Place, command, place, scene, write_gif, write_still
from tests.installation import exit_code

__all__ = ["command", "place"]

CUT = Cut(Box(8, 4, 60, 50), (Box(0, 0, 2000, 10), Box(70, 60, 5, 5)))


def sizes(place: Place) -> set[tuple[int, int]]:
    found = set()
    for path in place.pictures():
        with Image.open(path) as picture:
            found.add(picture.size)
    return found


def kept(place: Place) -> Path:
    return place.data_dir / "imports" / "7.json"


@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_a_cut_takes_the_crop_with_masks_black(mode: str) -> None:
    values = np.array(Image.fromarray(scene(1) // 2 + 9).convert(mode))
    cut = CUT.applied(Image.fromarray(values))
    values[:10] = 0
    values[60:65, 70:75] = 0
    assert np.array_equal(np.asarray(cut), values[4:54, 8:68])


def test_a_mask_changes_no_picture_but_the_cut_one() -> None:
    picture = Image.fromarray(scene(1))
    Cut(None, (Box(0, 0, 10, 10),)).applied(picture)
    assert np.array_equal(np.asarray(picture), scene(1))


@pytest.mark.parametrize(
    "cut",
    [
        Cut(Box(0, 0, 81, 64)),
        Cut(Box(0, 0, 80, 65)),
        Cut(Box(1, 0, 80, 64)),
        Cut(Box(90, 0, 1, 1)),
        Cut(None, (Box(80, 0, 5, 5),)),
        Cut(None, (Box(0, 0, 5, 5), Box(0, 64, 5, 5))),
    ],
    ids=str,
)
def test_what_lies_outside_the_picture_is_refused(cut: Cut) -> None:
    with pytest.raises(FrameUnreadable, match="80 x 64"):
        cut.applied(Image.fromarray(scene(1)))


@pytest.mark.parametrize("text", ["", "1,2,3", "1,2,3,4,5", "-1,0,5,5", "1,2,0,4", "1,2,3,0", "a,b,c,d", "1.5,0,5,5"])
def test_what_is_no_box(text: str) -> None:
    with pytest.raises(InvalidRequest):
        Box.parse(text)
    assert Box.parse(" 1, 2, 3, 4 ") == Box(1, 2, 3, 4)


# With a project


def test_every_picture_is_cut_before_anything_looks_at_it(place: Place) -> None:
    """Frames that differ only in what is cut off are the same picture."""
    frames = []
    for number in range(3):
        values = scene(1).copy()
        values[:20] = scene(5 + number)[:20]
        frames.append(Image.fromarray(values))
    frames[0].save(
        place.clips / "a.gif", save_all=True, append_images=[*frames[1:], Image.fromarray(scene(9))], duration=500
    )
    report = place.run(cut=Cut(Box(0, 20, 80, 44)), distance=0)
    assert (report.frames, report.near_duplicates, report.imported) == (4, 2, 2)
    assert sizes(place) == {(80, 44)}
    assert "taken of every picture:  crop 0,20,80,44" in list(report.lines())


def test_a_project_keeps_its_cut(place: Place) -> None:
    write_still(place.clips / "a.png", 1)
    place.run(cut=CUT)
    assert json.loads(kept(place).read_text()) == {
        "format": 1,
        "crop": "8,4,60,50",
        "masks": ["0,0,2000,10", "70,60,5,5"],
    }
    write_still(place.clips / "b.png", 2)
    report = place.run()
    assert (report.imported, report.already_there, report.cut) == (1, 1, CUT)
    assert sizes(place) == {(60, 50)}
    assert place.run(cut=CUT).already_there == 2


@pytest.mark.parametrize("other", [WHOLE, Cut(CUT.crop), Cut(CUT.crop, CUT.masks[:1])], ids=str)
def test_another_cut_is_refused_while_the_project_has_frames(place: Place, other: Cut) -> None:
    write_still(place.clips / "a.png", 1)
    place.run(cut=CUT)
    before = kept(place).read_bytes()
    with pytest.raises(InvalidRequest, match="--change-crop"):
        place.run(cut=other)
    assert kept(place).read_bytes() == before
    (place.clips / "a.png").rename(place.clips.parent / "a.png")
    write_still(place.clips / "b.png", 2)
    place.run(cut=other, change_cut=True)
    assert place.run().cut == other
    assert len(place.studio.rows) == 2


def test_a_project_with_whole_pictures_is_not_cut_by_chance(place: Place) -> None:
    write_still(place.clips / "a.png", 1)
    place.run()
    with pytest.raises(InvalidRequest, match="frames with whole pictures"):
        place.run(cut=CUT)


def test_without_frames_any_cut_may_replace_another(place: Place) -> None:
    write_still(place.clips / "a.png", 1)
    place.run(cut=CUT)
    place.studio.rows.clear()
    place.run(cut=Cut(Box(0, 0, 8, 8)))
    assert [str(row["image"]) for row in place.studio.rows]
    assert json.loads(kept(place).read_text())["crop"] == "0,0,8,8"


def test_a_clip_that_is_there_is_recognised_by_its_cut_pictures(place: Place) -> None:
    """Another patient's clip under the same name would be refused."""
    write_gif(place.clips / "anna" / "a.gif", [1, 2, 3, 4])
    place.run(cut=CUT)
    (place.clips / "anna").rename(place.clips / "berta")
    with pytest.raises(InvalidRequest, match="anna there, berta now"):
        place.run()


def test_a_cut_that_does_not_fit_costs_only_its_file(place: Place) -> None:
    Image.fromarray(scene(1, 30, 40)).save(place.clips / "small.png")
    write_still(place.clips / "large.png", 2)
    report = place.run(cut=CUT)
    assert report.imported == 1
    ((name, reason),) = report.failed
    assert Path(name).name == "small.png"
    assert "40 x 30" in reason


def test_a_dry_run_keeps_no_cut(place: Place) -> None:
    write_still(place.clips / "a.png", 1)
    assert place.run(cut=CUT, dry_run=True).cut == CUT
    assert not place.data_dir.exists()


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"format": 1, "crop": "x", "masks": []}', '{"format": 1, "crop": 5, "masks": []}']
)
def test_a_damaged_cut_is_not_passed_over(place: Place, text: str) -> None:
    """Pictures would be imported whole, with names in them."""
    write_still(place.clips / "a.png", 1)
    kept(place).parent.mkdir(parents=True)
    kept(place).write_text(text)
    with pytest.raises(SettingsError, match=r"7\.json is damaged"):
        place.run()
    kept(place).write_text('{"format": 2}')
    with pytest.raises(SettingsError, match="another release"):
        place.run()
    assert place.studio.rows == []


def test_a_cut_that_cannot_be_kept_stops_the_import(place: Place) -> None:
    write_still(place.clips / "a.png", 1)
    place.data_dir.mkdir()
    kept(place).parent.write_text("no folder")
    with pytest.raises((NotWritten, SettingsError)):
        place.run(cut=CUT)
    assert place.studio.rows == []
    assert not place.frames.exists()


def test_wrong_crops_end_with_2(place: Place, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    write_still(place.clips / "a.png", 1)
    monkeypatch.setenv("TSAL_LABEL_STUDIO_TOKEN", "token")
    call = ("import", str(place.clips), "--project", "7", "--document-root", str(tmp_path))
    for option in ("--crop", "--mask"):
        assert exit_code(*call, option, "everything") == 2


def test_the_command_crops_and_masks(command: Place, capsys: pytest.CaptureFixture[str]) -> None:
    write_still(command.clips / "a.png", 1)
    call = ("import", str(command.clips), "--project", "7", "--document-root", str(command.document_root))
    assert exit_code(*call, "--crop", "8,4,60,50", "--mask", "0,0,2000,10", "--mask", "70,60,5,5") == 0
    (path,) = command.pictures()
    with Image.open(path) as picture:
        assert np.array_equal(np.asarray(picture), np.asarray(CUT.applied(Image.fromarray(scene(1)))))
    assert exit_code(*call, "--mask", "0,0,2000,10") == 2
    write_still(command.clips.parent / "new" / "b.png", 2)
    capsys.readouterr()
    assert exit_code("import", str(command.clips.parent / "new"), *call[2:], "--change-crop") == 0
    assert "taken of every picture" not in capsys.readouterr().out
    assert sizes(command) == {(60, 50), (80, 64)}


def test_a_picture_whose_colours_are_cut_off_is_a_grey_one(place: Place) -> None:
    """So it is the same picture as from a file that is grey as a whole."""
    colours = np.stack([scene(1)] * 3, axis=-1)
    colours[:4] = (255, 200, 0)
    Image.fromarray(colours).save(place.clips / "a.png")
    write_still(place.clips / "b.png", 1)
    report = place.run(cut=Cut(Box(0, 4, 80, 60)))
    assert (report.imported, report.already_there) == (1, 1)
