"""The table of clips: patients and labels, as spreadsheets write it, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from ml_backend.errors import InvalidRequest
from ml_backend.ingest.clip_table import ClipRow, column, read_clip_table

SYMPTOMS = ("A-line", "B-line", "Pleural lesion")


def table(folder: Path, content: str | bytes) -> Path:
    path = folder / "clips.csv"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def test_rows_have_patients_and_the_labels_that_the_table_records(tmp_path: Path) -> None:
    path = table(tmp_path, "file,b_line,patient,labelled,a_line\na.mp4,1,anna,1,0\nb.mp4,,berta,0,\nc.mp4,,,,\n")
    found = read_clip_table(path, SYMPTOMS)
    assert found.symptoms == ("A-line", "B-line")
    assert found.rows == (ClipRow("a.mp4", "anna", (0, 1)), ClipRow("b.mp4", "berta", None), ClipRow("c.mp4", "", None))
    assert found.patients == {"a.mp4": "anna", "b.mp4": "berta"}


def test_every_clip_is_labelled_where_no_column_says_which_are(tmp_path: Path) -> None:
    path = table(tmp_path, "file,patient,a_line\na.mp4,anna,1\n")
    assert read_clip_table(path, SYMPTOMS).rows == (ClipRow("a.mp4", "anna", (1,)),)
    assert read_clip_table(path).rows == (ClipRow("a.mp4", "anna", None),)


@pytest.mark.parametrize(
    "content",
    [
        '\ufefffile,patient\r\na.mp4,"Müller, anna"\r\n',
        "file;patient\na.mp4;Müller, anna\n",
        "File\t Patient \na.mp4\t Müller, anna \n",
        '"file";"patient"\n"a.mp4";"Müller, anna"\n\n',
    ],
    ids=["byte order mark", "semicolon", "tab", "quotes"],
)
def test_tables_of_spreadsheets_are_read(tmp_path: Path, content: str) -> None:
    assert read_clip_table(table(tmp_path, content)).patients == {"a.mp4": "Müller, anna"}


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_only_ends_of_lines_end_a_row(tmp_path: Path, end: str) -> None:
    path = table(tmp_path, f"file,patient{end}a.mp4,an\x0cna\u2028\x85\x1cx{end}b.mp4,berta{end}")
    assert read_clip_table(path).patients == {"a.mp4": "an\x0cna\u2028\x85\x1cx", "b.mp4": "berta"}


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("", "column file and the column patient is missing"),
        ("file,person\na.mp4,anna\n", "column patient is missing"),
        ("file,patient\na.mp4,anna\na.mp4,berta\n", "line 3: a.mp4 is listed twice"),
        ("file,patient\na.mp4,anna\nb.mp4,berta\na.mp4,anna\n", "line 4: a.mp4 is listed twice"),
        ("file,patient\na.mp4,Smith, John\n", "line 2 has more values than there are columns.*“,” in quotes"),
        ("file,patient\np/a.mp4,anna\np\\a.mp4,anna\n", "line 3: p/a.mp4 is listed twice"),
        ("file,patient,labelled,a_line\na.mp4,anna,yes,1\n", "line 2: a.mp4 has 'yes' in the column labelled"),
        ("file,patient,labelled,a_line\na.mp4,anna,1,2\n", "line 2: a.mp4 has '2' in the column a_line"),
        ("file,patient,a_line,b_line\na.mp4,anna,1\n", "line 2: a.mp4 has '' in the column b_line"),
        ("file,patient,a_line\na.mp4,,1\n", "line 2: a.mp4 is labelled and has no patient"),
        (b"file,patient\na.mp4,M\xfcller\n", "is not UTF-8"),
        ("file,patient\na.mp4,anna\n".encode("utf-16"), "is not UTF-8"),
        (b'file,patient\n"' + b"x" * 200_000, "field larger than field limit"),
    ],
    ids=range(13),
)
def test_a_table_that_cannot_be_used_says_where_and_why(tmp_path: Path, content: str | bytes, reason: str) -> None:
    path = table(tmp_path, content)
    with pytest.raises(InvalidRequest, match=reason) as refused:
        read_clip_table(path, SYMPTOMS)
    assert str(path) in str(refused.value)


def test_an_absent_table_is_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match=r"absent\.csv: No such file"):
        read_clip_table(tmp_path / "absent.csv")


@pytest.mark.parametrize(("symptom", "name"), [("A-line", "a_line"), ("Konsolidierung > 1cm", "konsolidierung_1cm")])
def test_columns_are_named_like_their_symptom(symptom: str, name: str) -> None:
    assert column(symptom) == name
