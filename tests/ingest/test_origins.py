from __future__ import annotations

import stat
from pathlib import Path

import pytest

from ml_backend.errors import InvalidRequest, SettingsError
from ml_backend.ingest.origins import Rule, origins_of
from ml_backend.ingest.paths import ClipFile, find_files
from ml_backend.ingest.salt import pseudonym, salt


def test_the_hash_needs_this_installations_salt(tmp_path: Path) -> None:
    one, other = salt(tmp_path / "one"), salt(tmp_path / "other")
    assert one != other
    assert salt(tmp_path / "one") == one
    assert pseudonym(one, "patient", "PAT-4711") != pseudonym(other, "patient", "PAT-4711")
    assert {path.name for path in (tmp_path / "one").iterdir()} == {"patient-salt", "format.json"}
    assert stat.S_IMODE((tmp_path / "one" / "patient-salt").stat().st_mode) == 0o600


def test_a_damaged_salt_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "patient-salt").write_bytes(b"short")
    with pytest.raises(SettingsError, match="damaged"):
        salt(tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(SettingsError, match="TSAL_DATA_DIR"):
        salt(tmp_path / "file" / "data")


def make(root: Path, *names: str) -> list[ClipFile]:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"\x89PNG\r\n\x1a\n")
    return find_files([root])[0]


def patients(files: list[ClipFile], level: int | None = None, table: dict[str, str] | None = None) -> dict[str, str]:
    origins, failed = origins_of(files, Rule(table or {}, level), bytes)
    assert failed == []
    return {origin.clip: origin.patient for origin in origins.values()}


def test_the_first_folder_below_the_imported_one_is_the_patient(tmp_path: Path) -> None:
    files = make(tmp_path / "in", "P07/visit1/a.png", "P07/visit2/b.png", "P08/visit1/c.png")
    assert list(patients(files).values()) == ["P07", "P07", "P08"]
    assert list(patients(files, 2).values()) == ["visit1", "visit2", "visit1"]


def test_level_0_is_the_imported_folder_and_names_clips_as_an_import_of_the_folder_above_does(tmp_path: Path) -> None:
    make(tmp_path / "in", "P07/visit1/a.png", "P07/b.png")
    below = patients(find_files([tmp_path / "in" / "P07"])[0], 0)
    assert below == patients(find_files([tmp_path / "in"])[0]) == {"P07/visit1/a.png": "P07", "P07/b.png": "P07"}


def test_files_without_folders_are_patients_of_their_own(tmp_path: Path) -> None:
    assert patients(make(tmp_path / "in", "a.png", "b.png")) == {"a.png": "a", "b.png": "b"}


@pytest.mark.parametrize("level", [None, 1, 2])
def test_a_tree_of_mixed_depth_is_refused_with_what_each_level_gives(tmp_path: Path, level: int | None) -> None:
    files = make(tmp_path / "in", "loose.png", "P07/visit1/a.png", "P08/b.png")
    with pytest.raises(InvalidRequest) as refused:
        patients(files, level)
    told = str(refused.value)
    assert "--patient-level 0: 1 patient (in)" in told
    assert "--patient-level 1: 2 patients (P07, P08); none for 1 file, such as loose.png" in told
    assert "--patient-level 2: 1 patient (visit1); none for 2 files" in told
    assert patients(files, level, {"loose.png": "p1", "b.png": "p2", "a.png": "p3"})["loose.png"] == "p1"


def test_folders_of_the_same_name_in_two_imported_folders_do_not_mix(tmp_path: Path) -> None:
    make(tmp_path / "P07", "visit1/a.png")
    make(tmp_path / "P08", "visit1/b.png")
    files, _ = find_files([tmp_path / "P07", tmp_path / "P08"])
    with pytest.raises(InvalidRequest, match="visit1 would be a patient both in"):
        patients(files)
    assert sorted(patients(files, 0).values()) == ["P07", "P08"]


def test_files_given_one_by_one_must_share_a_folder(tmp_path: Path) -> None:
    files = make(tmp_path / "in", "P07/a.png", "P08/b.png")
    with pytest.raises(InvalidRequest, match="different folders"):
        patients(find_files([file.path for file in files])[0])


def test_the_table_wins_by_path_or_by_name(tmp_path: Path) -> None:
    files = make(tmp_path / "in", "anna/still.png", "berta/still.png", "carla/other.png")
    found = patients(files, None, {"anna/still.png": "p1", "other.png": "p3"})
    assert list(found.values()) == ["p1", "berta", "p3"]
    with pytest.raises(InvalidRequest, match="2 files have that name"):
        patients(files, None, {"still.png": "p1"})


def test_a_dicom_file_without_a_header_has_no_origin(tmp_path: Path) -> None:
    (tmp_path / "DOE.dcm").write_bytes(b"text" * 100)
    origins, failed = origins_of(find_files([tmp_path])[0], Rule({}), bytes)
    assert origins == {}
    assert "not a DICOM file" in failed[0][1]
