"""Patients of DICOM files: by header, by folder, and what must not get out."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from ml_backend.errors import InvalidRequest, SettingsError
from ml_backend.ingest.identity import identity_of
from ml_backend.ingest.salt import clip_name, patient_name, pseudonym, salt
from tests.commands.test_import_frames import Place, write_identified, write_still

NOBODY = {"PatientID": "", "PatientName": ""}


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def patients(place: Place) -> list[str]:
    return [row["patient"] for row in place.studio.rows]


# Folders


def test_a_folder_of_dicom_and_other_files_is_one_patient(place: Place) -> None:
    write_still(place.clips / "P07" / "a.png", 1)
    write_identified(place.clips / "P07" / "b.dcm", [2], **NOBODY)
    write_still(place.clips / "P08" / "a.png", 3)
    place.run()
    first, second, third = patients(place)
    assert first == second == pseudonym(salt(place.data_dir), "folder", "P07")
    assert third == "P08"


@pytest.mark.parametrize("flat", [False, True], ids=["folders", "flat"])
def test_a_folder_that_names_only_some_of_its_files_is_refused(place: Place, flat: bool) -> None:
    folder = place.clips if flat else place.clips / "P07"
    write_still(folder / "a.png", 1)
    write_identified(folder / "b.dcm", [2])
    with pytest.raises(InvalidRequest, match=f"--patient-level {0 if flat else 1} .*--patients"):
        place.run()
    assert place.studio.rows == []
    place.run(patient_level=0 if flat else 1)
    assert len(place.studio.rows) == 2
    assert len(set(patients(place))) == 1
    place.studio.rows.clear()
    place.run(patients={"a.png": "p1", "b.dcm": "p1"})
    assert patients(place) == ["p1", "p1"]


def test_a_table_must_list_all_files_of_a_folder_or_none(place: Place) -> None:
    write_still(place.clips / "P07" / "a.png", 1)
    write_still(place.clips / "P07" / "b.png", 2)
    with pytest.raises(InvalidRequest, match=r"two patients in .*P07.*the table"):
        place.run(patients={"a.png": "p1"})


# Headers


@pytest.mark.parametrize(
    "number",
    ["ANONYMOUS", "0", "0000", "unknown", "None", "anon", "Anonymized", "anon^0", "XXX", "N/A", "DE-IDENTIFIED"],
)
def test_a_placeholder_is_no_patient(place: Place, number: str) -> None:
    for seed, name in enumerate(("P07", "P08")):
        write_identified(place.clips / name / "a.dcm", [seed], PatientID=number, PatientName="Anonymous")
    report = place.run()
    assert len(set(patients(place))) == 2
    assert set(report.patients) == {"folder"}


def test_numbers_that_an_anonymizer_gave_are_patients(place: Place) -> None:
    for seed, number in enumerate(("ANON001", "ANON002", "ANON002")):
        write_identified(place.clips / f"{seed}.dcm", [seed], PatientID=number, PatientName="Anonymous")
    place.run()
    first, second, third = patients(place)
    assert first != second == third


def test_the_issuer_tells_equal_numbers_apart(place: Place) -> None:
    for seed, issuer in enumerate(("North", "South", "North")):
        write_identified(place.clips / f"{seed}.dcm", [seed], IssuerOfPatientID=issuer)
    place.run()
    first, second, third = patients(place)
    assert first == third != second


def test_one_header_patient_in_several_folders_is_refused(place: Place) -> None:
    for seed, name in enumerate(("P07", "P08")):
        write_identified(place.clips / name / "visit1" / "a.dcm", [seed], PatientID="12345")
        write_identified(place.clips / name / "visit2" / "a.dcm", [seed + 5], PatientID="12345")
    with pytest.raises(InvalidRequest, match=r"P07.*P08.*--trust-headers.*--patient-level 1"):
        place.run()
    assert not (place.data_dir / "patient-salt").exists()
    place.run(trust_headers=True)
    assert len(set(patients(place))) == 1
    place.studio.rows.clear()
    place.run(patient_level=1)
    assert len(set(patients(place))) == 2


@pytest.mark.parametrize("patient", ["Doe", "Jane Doe", "doe, JANE", "janedoe", "Doe 1", "K1", "k2", "pat4711", "Roe"])
def test_a_table_must_not_repeat_any_name_or_number(tmp_path: Path, patient: str) -> None:
    header = identity_of(
        write_identified(
            tmp_path / "a.dcm",
            [1],
            OtherPatientIDs=["K1", "K2"],
            OtherPatientNames=["DOE^JANE", "ROE^JANE"],
            PatientName="JANE^DOE",
        )
    )
    assert header.is_told_by(patient)


@pytest.mark.parametrize("patient", ["p1", "K3", "Smith", "P 07", "patient 12", "J1"])
def test_a_table_may_have_pseudonyms(tmp_path: Path, patient: str) -> None:
    assert not identity_of(write_identified(tmp_path / "a.dcm", [1], PatientName="DOE^JANE^PATIENT")).is_told_by(
        patient
    )


def test_a_header_with_broken_values_costs_only_its_file_and_is_not_quoted(
    place: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_identified(place.clips / "a.dcm", [1], PatientID="PAT-47")
    whole = path.read_bytes()
    path.write_bytes(whole.replace(b"\x10\x00\x20\x00LO", b"\x10\x00\x20\x00FD"))
    assert path.read_bytes() != whole
    write_identified(place.clips / "b.dcm", [2])
    report = place.run()
    assert (report.files, len(report.failed)) == (1, 1)
    assert "PAT-47" not in capsys.readouterr().err


# Names in the picture


def test_names_in_the_picture_are_warned_of(place: Place) -> None:
    for number, said in enumerate(("YES", "YES", "NO", "")):
        write_identified(place.clips / f"{number}.dcm", [number], BurnedInAnnotation=said)
    write_identified(place.clips / "5.dcm", [5])
    report = place.run()
    assert report.burnt_in == {"YES": 2, "NO": 1, "": 2}
    warning, unsaid = (line for line in report.lines() if "BurnedInAnnotation" in line)
    assert "2 files" in warning
    assert unsaid.endswith(" 2")
    assert place.run(dry_run=True).burnt_in == report.burnt_in


def test_files_without_header_say_nothing_of_names(place: Place) -> None:
    write_still(place.clips / "a.png", 1)
    assert place.run().burnt_in == {}


# The salt


def test_another_data_folder_does_not_give_patients_new_names(place: Place, tmp_path: Path) -> None:
    write_identified(place.clips / "a.dcm", [1])
    place.run()
    write_identified(place.clips / "b.dcm", [2])
    for dry_run in (False, True):
        with pytest.raises(SettingsError, match=r"patient-salt is missing.*TSAL_DATA_DIR"):
            place.run(data_dir=tmp_path / "other", dry_run=dry_run)
    assert not (tmp_path / "other" / "patient-salt").exists()
    place.run()
    assert len(set(patients(place))) == 1


@pytest.mark.parametrize(("mode", "expected"), [(0o2770, 0o640), (0o775, 0o640), (0o755, 0o600), (0o700, 0o600)])
def test_the_salt_is_for_the_group_where_the_data_folder_is(tmp_path: Path, mode: int, expected: int) -> None:
    tmp_path.chmod(mode)
    group = 4711 if os.geteuid() == 0 else tmp_path.stat().st_gid
    os.chown(tmp_path, -1, group)
    tmp_path.chmod(mode)
    salt(tmp_path)
    found = (tmp_path / "patient-salt").stat()
    assert stat.S_IMODE(found.st_mode) == expected
    assert expected == 0o600 or found.st_gid == group


def test_a_dry_run_writes_no_data_folder(place: Place) -> None:
    write_identified(place.clips / "a.dcm", [1])
    write_identified(place.clips / "b.dcm", [2])
    report = place.run(dry_run=True)
    assert len(report.patients["header"]) == 1
    assert not place.data_dir.exists()
    assert "would import:            2" in list(report.lines())
    assert "imported:                2" in list(place.run().lines())


def test_names_cannot_be_computed_without_the_salt() -> None:
    one, other = bytes(32), bytes([1] * 32)
    assert clip_name(one, "1.2.3") != clip_name(other, "1.2.3")
    assert patient_name(one, ("PAT-4711",)) != patient_name(other, ("PAT-4711",))
    assert clip_name(one, "PAT-4711") != patient_name(one, ("PAT-4711",))
