from __future__ import annotations

import stat
from pathlib import Path

import pytest

from ml_backend.errors import FrameUnreadable, InvalidRequest, SettingsError
from ml_backend.ingest.origins import ClipFile, Origin, origin_of, pseudonym, read_patients, salt


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("file;patient\na.png;p1\n", "column file and the column patient is missing"),
        ("", "column file and the column patient is missing"),
        ("file,patient\na.png,p1\na.png,p2\n", "a.png has two patients, p1 and p2"),
        (b"file,patient\na.png,\xff\n", "decode"),
    ],
)
def test_a_table_that_cannot_be_used_is_refused(tmp_path: Path, text: str | bytes, reason: str) -> None:
    path = tmp_path / "patients.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(InvalidRequest, match=reason):
        read_patients(path)
    with pytest.raises(InvalidRequest, match="No such file"):
        read_patients(tmp_path / "absent.csv")


def test_the_hash_needs_this_installations_salt(tmp_path: Path) -> None:
    one, other = salt(tmp_path / "one"), salt(tmp_path / "other")
    assert one != other
    assert salt(tmp_path / "one") == one
    assert pseudonym(one, "patient", "PAT-4711") != pseudonym(other, "patient", "PAT-4711")
    assert [path.name for path in (tmp_path / "one").iterdir()] == ["patient-salt"]
    assert stat.S_IMODE((tmp_path / "one" / "patient-salt").stat().st_mode) == 0o600


def test_a_damaged_salt_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "patient-salt").write_bytes(b"short")
    with pytest.raises(SettingsError, match="damaged"):
        salt(tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(SettingsError, match="TSAL_DATA_DIR"):
        salt(tmp_path / "file" / "data")


@pytest.mark.parametrize(
    ("name", "origin"),
    [
        ("still.png", Origin("still", "still.png", "still.png", "file name")),
        ("anna/still.png", Origin("anna", "anna/still.png", "still.png", "folder")),
        ("ward 3/anna/still.png", Origin("anna", "ward 3/anna/still.png", "still.png", "folder")),
        ("listed.png", Origin("p1", "listed.png", "listed.png", "table")),
        ("anna/listed.png", Origin("p1", "anna/listed.png", "listed.png", "table")),
        ("berta/listed.png", Origin("p2", "berta/listed.png", "listed.png", "table")),
    ],
)
def test_table_then_folder_then_name(tmp_path: Path, name: str, origin: Origin) -> None:
    path = tmp_path / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"\x89PNG\r\n\x1a\n")
    patients = {"listed.png": "p1", "berta/listed.png": "p2"}
    assert origin_of(ClipFile(path, name), patients, tmp_path / "data") == origin
    assert not (tmp_path / "data").exists()


def test_a_dicom_file_without_a_header_has_no_origin(tmp_path: Path) -> None:
    (tmp_path / "DOE.dcm").write_bytes(b"text" * 100)
    with pytest.raises(FrameUnreadable, match="not a DICOM file"):
        origin_of(ClipFile(tmp_path / "DOE.dcm", "DOE.dcm"), {}, tmp_path)
