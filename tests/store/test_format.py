from __future__ import annotations

import json
from pathlib import Path

import pytest

from ml_backend import __version__
from ml_backend.__main__ import main
from ml_backend.commands.versions import listed
from ml_backend.errors import DataTooNew, SettingsError
from ml_backend.services import Services
from ml_backend.settings import load
from ml_backend.setup.doctor import findings
from ml_backend.store.format import FILE, FIRST, NOW, PRESENT, Stamp, mark, require_readable
from ml_backend.store.secret import kept_secret
from ml_backend.store.versions import MANIFEST, VersionStore
from tests.installation import manifest_of, write_no_weights

NEWER = Stamp(format=PRESENT + 1, written_by="9.8.7")


def written(folder: Path, stamp: Stamp) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / FILE).write_text(stamp.model_dump_json())


class TestFolder:
    def test_a_folder_without_a_number_is_of_0_1_0(self, tmp_path: Path) -> None:
        assert require_readable(tmp_path / "none") == Stamp(format=FIRST)
        assert require_readable(tmp_path).format == 1

    def test_marking_brings_an_old_folder_up_to_date_and_a_present_one_stays(self, tmp_path: Path) -> None:
        mark(tmp_path / "data")
        assert require_readable(tmp_path / "data") == NOW
        before = (tmp_path / "data" / FILE).stat()
        mark(tmp_path / "data")
        assert (tmp_path / "data" / FILE).stat() == before
        written(tmp_path / "old", Stamp(format=FIRST, written_by="0.1.5"))
        mark(tmp_path / "old")
        assert require_readable(tmp_path / "old").written_by == __version__

    def test_a_newer_folder_is_refused_and_left_alone(self, tmp_path: Path) -> None:
        (tmp_path / "there").write_bytes(bytes(32))
        written(tmp_path, NEWER)
        for opened in (
            lambda: mark(tmp_path),
            lambda: Services(load(data_dir=tmp_path)),
            lambda: kept_secret(tmp_path / "new", "restore it"),
            lambda: kept_secret(tmp_path / "there", "restore it"),
        ):
            with pytest.raises(DataTooNew, match=r"9\.8\.7"):
                opened()
        assert {path.name for path in tmp_path.iterdir()} == {FILE, "there"}

    def test_a_folder_that_becomes_newer_is_refused_where_a_store_is_opened(self, tmp_path: Path) -> None:
        services = Services(load(data_dir=tmp_path))
        services.versions(1)
        written(tmp_path, NEWER)
        with pytest.raises(DataTooNew):
            services.versions(1)

    def test_a_damaged_number_is_refused(self, tmp_path: Path) -> None:
        (tmp_path / FILE).write_text("{")
        with pytest.raises(SettingsError, match=FILE):
            require_readable(tmp_path)

    @pytest.mark.parametrize("command", [("serve",), ("backend",), ("sidecar",), ("versions", "list")], ids="-".join)
    def test_a_command_says_what_to_install(
        self,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
        command: tuple[str, ...],
    ) -> None:
        written(tmp_path, NEWER)
        monkeypatch.setenv("TSAL_DATA_DIR", str(tmp_path))
        monkeypatch.setenv("TSAL_LABEL_STUDIO_TOKEN", "token-of-the-tests")
        with pytest.raises(SystemExit) as ended:
            main([*command])
        error = capsys.readouterr().err
        assert ended.value.code == DataTooNew.exit_code
        assert error.count("\n") == 1
        assert "install 9.8.7" in error

    def test_the_doctor_says_it_too(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        written(tmp_path, NEWER)
        monkeypatch.setenv("TSAL_DATA_DIR", str(tmp_path))
        (found,) = findings()
        assert (found.state, "9.8.7" in found.text) == ("change", True)

    def test_the_first_secret_marks_the_folder(self, tmp_path: Path) -> None:
        kept_secret(tmp_path / "data" / "key", "restore it")
        assert require_readable(tmp_path / "data") == NOW


class TestVersion:
    def test_a_version_says_its_format(self, tmp_path: Path) -> None:
        made = VersionStore(tmp_path).create(manifest_of(), write_no_weights)
        assert (made.format, made.written_by) == (PRESENT, __version__)
        assert VersionStore(tmp_path).get(made.version) == made

    def test_a_newer_version_is_refused_and_not_set_aside_as_damaged(self, tmp_path: Path) -> None:
        store = VersionStore(tmp_path)
        made = store.create(manifest_of(), write_no_weights)
        path = tmp_path / "versions" / made.version / MANIFEST
        path.write_text(json.dumps({"format": PRESENT + 1, "written_by": "9.8.7", "labels": "elsewhere"}))
        for opened in (lambda: store.get(made.version), store.newest, store.set_aside_damaged):
            with pytest.raises(DataTooNew, match=made.version):
                opened()
        assert store.names() == [made.version]
        assert store.damaged() == []
        assert "9.8.7" in listed(store)
