"""`tsal import --dicomweb` as a whole: what it asks for, says and ends with, and that it names nobody."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest

from ml_backend.errors import PacsRefused, PacsUnavailable, StudioUnavailable
from ml_backend.ingest.pacs.server import Pacs
from ml_backend.ingest.salt import salt
from tests.commands.test_import_frames import Place, command, exit_code, place
from tests.ingest.named import NAMES, everything_below, forms, found_in, names_in, write_named
from tests.installation import one_line
from tests.orthanc_server import OrthancServer, running_orthanc

__all__ = ["command", "place"]
pytestmark = pytest.mark.integration
STUDY = "1.2.826.0.1.3680043.8.498.8812"


def call(place: Place, server: OrthancServer, *options: str) -> int:
    arguments = ("--project", "7", "--document-root", str(place.document_root), "--dicomweb", server.dicomweb)
    return exit_code(*arguments, *options)


def test_forms_of_a_name_are_found() -> None:
    for form in forms("MRN 77310/XQ"):
        assert found_in(f"… {form.upper()} …", {"MRN 77310/XQ", "other"}) == {"MRN 77310/XQ"}


@pytest.fixture
def seen_all(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> pytest.LogCaptureFixture:
    """All that libraries log too, and progress in lines from the first moment on."""
    for name in ("", "dicomweb_client", "urllib3", "requests", "pydicom", "PIL"):
        caplog.set_level(logging.DEBUG, name or None)
    monkeypatch.setattr("ml_backend.progress.LINE_SECONDS", 0.0)
    return caplog


def test_nobody_is_named(
    command: Place,
    orthanc_server: OrthancServer,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    seen_all: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Sound and damaged instances, a search that finds something and one that finds nothing, a PACS that is away."""
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(temporary))
    monkeypatch.setattr(Pacs, "waits", (0.0,))
    paths = [write_named(command.clips / f"Quintessa {n}.dcm", f"{STUDY}.1", [3 * n, 3 * n + 1]) for n in range(3)]
    paths[2].write_bytes(paths[2].read_bytes()[:-6000])
    orthanc_server.store(*paths[:2])
    names = names_in(*paths)
    seen_all.clear()
    asked = f"PatientID={NAMES['PatientID']},StudyDate=20190401-20190430,PatientName=Quintessa*,Modality=US"
    for options, code in (
        (["--query", asked, "--dry-run"], 0),
        (["--query", asked], 0),
        (["--study", f"{STUDY}.1", "--again"], 0),
        (["--query", asked.replace("US", "MG")], 2),
        (["--study", f"{STUDY}.1", "--study", f"{STUDY}.99"], 2),
        (["--query", "PatientName=Quintessa", "Zephyrine"], 2),
        (["--query", f"MRN={NAMES['PatientID']}"], 2),
    ):
        assert call(command, orthanc_server, *options) == code, options
    gone = OrthancServer("http://127.0.0.1:1", None, None, orthanc_server.log, orthanc_server.process)
    assert call(command, gone, "--query", asked) == PacsUnavailable.exit_code
    assert len(command.studio.rows) == 2
    files = (str(command.clips), "--project", "7", "--document-root", str(command.document_root))
    assert exit_code(*files) == 1  # the same as files, one of them damaged
    assert len(command.studio.rows) == 2

    output = "".join(capfd.readouterr())
    assert "search: " in output
    assert "import: " in output
    output = output.replace(str(command.clips), "").replace(paths[2].name, "")  # the user's own words
    said = output + json.dumps(command.studio.rows) + json.dumps(command.studio.storages) + seen_all.text
    said += everything_below(command.document_root) + everything_below(command.data_dir)
    assert found_in(said, names | {f"{STUDY}.99", salt(command.data_dir).hex()}) == set()
    assert list(temporary.iterdir()) == []


def test_it_signs_in_by_settings_and_continues(
    command: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with running_orthanc(tmp_path / "orthanc", signed=True) as server:
        for number in range(3):
            server.store(write_named(command.clips / f"{number}.dcm", STUDY, [number]))
        assert call(command, server, "--study", STUDY) == PacsRefused.exit_code
        assert "TSAL_DICOMWEB_USER" in one_line(capsys)
        assert server.user is not None
        assert server.password is not None
        monkeypatch.setenv("TSAL_DICOMWEB_USER", server.user)
        monkeypatch.setenv("TSAL_DICOMWEB_PASSWORD", server.password)
        command.studio.failing = 2
        assert call(command, server, "--study", STUDY) == StudioUnavailable.exit_code
        capsys.readouterr()
        assert call(command, server, "--study", STUDY, "--crop", "0,0,80,60") == 2
        assert "--change-crop" in one_line(capsys)
        assert call(command, server, "--study", STUDY) == 0
    output = capsys.readouterr()
    assert "instances read:          2" in output.out
    assert "instances complete:      1" in output.out
    assert server.password not in output.out + output.err
    assert len({row["clip"] for row in command.studio.rows}) == len(command.studio.rows) == 3


def test_failed_instances_end_with_1(
    command: Place, orthanc_server: OrthancServer, capsys: pytest.CaptureFixture[str]
) -> None:
    for number in range(2):
        orthanc_server.store(write_named(command.clips / f"{number}.dcm", f"{STUDY}.2", [number]))
    assert call(command, orthanc_server, "--study", f"{STUDY}.2", "--crop", "0,0,900,900") == 1
    output = capsys.readouterr()
    assert "instances failed:        2" in output.out
    assert output.err.count("80 x 64") == 2
    assert call(command, orthanc_server, "--study", f"{STUDY}.2", "--mask", "0,0,900,9") == 0
    assert "taken of every picture:  mask 0,0,900,9" in capsys.readouterr().out


@pytest.mark.parametrize(
    "options",
    [
        [],
        ["--dicomweb", "http://pacs/rs"],
        ["--dicomweb", "http://pacs/rs", "--study", "1.2", "clips"],
        ["--dicomweb", "http://pacs/rs", "--study", "1.2", "--patients", "a.csv"],
        ["--dicomweb", "http://pacs/rs", "--study", "1.2", "--patient-level", "0"],
        ["--dicomweb", "http://pacs/rs", "--study", "1.2", "--trust-headers"],
        ["--study", "1.2", "clips"],
        ["--query", "PatientID=1", "clips"],
        ["--again", "clips"],
    ],
    ids=" ".join,
)
def test_what_does_not_go_together(
    command: Place, options: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (command.clips / "a.csv").write_text("file,patient\n")
    monkeypatch.chdir(command.clips)
    assert exit_code("--project", "7", "--document-root", str(command.document_root), *options) == 2
    assert "--dicomweb" in one_line(capsys)
