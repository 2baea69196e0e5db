"""Imports into a project that has frames: one person stays one patient, and two people never become one."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from ml_backend.errors import InvalidRequest, StudioUnavailable
from ml_backend.ingest import importer as importing
from ml_backend.ingest.report import Report
from tests.commands.test_import_frames import Place, scene, write_gif, write_still


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def run(place: Place, *names: str, **options: Any) -> Report:
    return place.importer(**options).run([place.clips / name for name in names])


def patients(place: Place) -> dict[str, str]:
    return {row["clip"]: row["patient"] for row in place.studio.rows}


def write_titled(path: Path, seeds: Sequence[int]) -> Path:
    """Write a clip that begins with a black picture."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pictures = [Image.fromarray(picture) for picture in (np.zeros((64, 80), np.uint8), *map(scene, seeds))]
    pictures[0].save(path, save_all=True, append_images=pictures[1:], duration=500, loop=0)
    return path


# Two people under one name


@pytest.mark.parametrize("inside", ["visit1/IMG_1.png", "IMG_1.png"], ids=["folders", "flat"])
@pytest.mark.parametrize("keep", [False, True], ids=["", "keep"])
def test_the_same_name_in_another_patients_folder_is_refused(place: Place, inside: str, keep: bool) -> None:
    write_still(place.clips / "P07" / inside, 1)
    write_still(place.clips / "P08" / inside, 2)
    run(place, "P07")
    with pytest.raises(InvalidRequest, match=r"another clip.*--patient-level 0"):
        run(place, "P08", keep_patients=keep)
    assert len(place.studio.rows) == 1


def test_one_patient_at_a_time_works_with_level_0(place: Place) -> None:
    for number, name in enumerate(("P07", "P08")):
        write_still(place.clips / name / "visit1" / "IMG_1.png", number)
        run(place, name, patient_level=0)
    assert patients(place) == {"P07/visit1/IMG_1.png": "P07", "P08/visit1/IMG_1.png": "P08"}


def test_a_black_first_picture_does_not_make_two_clips_one(place: Place) -> None:
    write_titled(place.clips / "P07" / "visit1" / "a.gif", [1, 2])
    write_titled(place.clips / "P08" / "visit1" / "a.gif", [3, 4])
    run(place, "P07")
    with pytest.raises(InvalidRequest, match="another clip"):
        run(place, "P08")
    place.studio.rows.clear()
    for _ in range(2):
        run(place, "")
        assert set(patients(place).values()) == {"P07", "P08"}


def test_a_clip_is_the_same_at_another_rate_and_after_tasks_were_deleted(place: Place) -> None:
    write_gif(place.clips / "P07" / "a.gif", range(8))
    run(place, "")
    assert [row["frame"] for row in place.studio.rows] == [0, 2, 4, 6]
    del place.studio.rows[:2]
    assert run(place, "", every=Fraction(1, 4)).imported == 6


def test_an_import_that_stopped_within_a_clip_goes_on(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importing, "PIECE", 3)
    for name in ("P07", "P08"):
        write_gif(place.clips / name / "a.gif", [ord(name[-1]) * 10 + number for number in range(8)])
    place.studio.failing = 2
    with pytest.raises(StudioUnavailable):
        run(place, "")
    assert run(place, "").imported == 5


def test_a_file_that_cannot_be_read_any_more_costs_only_itself(place: Place) -> None:
    path = write_still(place.clips / "P07" / "a.png", 1)
    run(place, "")
    path.write_bytes(path.read_bytes()[:60])
    write_still(place.clips / "P07" / "b.png", 2)
    report = run(place, "")
    assert (report.imported, len(report.failed)) == (1, 1)


# One person under two names


def test_a_clip_that_was_imported_from_another_folder_is_recognised(place: Place) -> None:
    write_gif(place.clips / "P07" / "visit1" / "a.gif", [1, 2, 3, 4])
    run(place, "P07")
    write_still(place.clips / "P07" / "visit2" / "b.png", 5)
    with pytest.raises(InvalidRequest, match=r"1 clip is .*visit1 there, P07 now") as refused:
        run(place, "")
    assert "gives visit1" not in str(refused.value)  # level 2 would mix the visits of all patients
    assert len(place.studio.rows) == 2
    run(place, "", keep_patients=True, every=Fraction(1, 4))
    assert patients(place) == {"visit1/a.gif": "visit1", "P07/visit2/b.png": "visit1"}
    assert len(place.studio.rows) == 5


def test_a_file_that_was_imported_alone_is_recognised_in_its_folder(place: Place) -> None:
    write_still(place.clips / "P07" / "visit1" / "a.png", 1)
    run(place, "P07/visit1/a.png")
    with pytest.raises(InvalidRequest, match="a there, P07 now"):
        run(place, "")


def test_a_copy_in_another_patients_folder_does_not_stop_a_second_run(place: Place) -> None:
    write_still(place.clips / "P07" / "a.png", 1)
    write_still(place.clips / "P08" / "copy.png", 1)
    for _ in range(2):
        assert run(place, "").other_patient == 1
        assert patients(place) == {"P07/a.png": "P07"}


def test_pictures_in_another_folder_are_recognised(place: Place) -> None:
    write_still(place.clips / "P07" / "visit1" / "a.png", 1)
    run(place, "P07")
    with pytest.raises(InvalidRequest, match="visit1 there, P07 now"):
        run(place, "", frames=place.document_root / "more")


def test_keeping_patients_keeps_a_person_together(place: Place) -> None:
    """New files go to the patient that the person has in the project, unless there are two of them."""
    for number, visit in enumerate(("visit1", "visit2")):
        write_still(place.clips / "P07" / visit / "a.png", number)
    write_still(place.clips / "P08" / "visit3" / "a.png", 5)
    run(place, "", patient_level=2)
    write_still(place.clips / "P07" / "visit4" / "a.png", 6)
    write_still(place.clips / "P08" / "visit4" / "a.png", 7)
    run(place, "", keep_patients=True)
    assert patients(place)["P07/visit4/a.png"] == "P07"
    assert patients(place)["P08/visit4/a.png"] == "visit3"


def test_new_clips_of_a_patient_from_another_import_are_mentioned(place: Place) -> None:
    write_still(place.clips / "P07" / "visit1" / "a.png", 1)
    write_still(place.clips / "P08" / "visit1" / "b.png", 2)
    assert run(place, "P07").joined == ()
    report = run(place, "P08")
    assert report.joined == ("visit1",)
    assert any("other people" in line and "visit1" in line for line in report.lines())
    assert run(place, "P08").joined == ()


# Rows of the table


def test_rows_that_fit_no_file_are_told(place: Place) -> None:
    write_still(place.clips / "P1" / "a.png", 1)
    report = run(place, "", patients={"P1/a.png": "p1", "P2/b.png": "p2"})
    assert "rows of the table without a file: 1 (P2/b.png)" in list(report.lines())
    assert patients(place) == {"P1/a.png": "p1"}


@pytest.mark.parametrize("row", ["p1/a.png", "A.PNG"])
def test_a_row_in_another_case_is_refused(place: Place, row: str) -> None:
    write_still(place.clips / "P1" / "a.png", 1)
    with pytest.raises(InvalidRequest, match=f"lists {row}, and the file is P1/a.png"):
        run(place, "", patients={row: "p1"})
