from __future__ import annotations

import errno
import io
import json
import tarfile
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

import pytest

from ml_backend.errors import BackupUnusable, DataTooNew, InvalidRequest
from ml_backend.store.backup import CONTENTS, back_up, restore
from ml_backend.store.files import write_aside
from ml_backend.store.format import PRESENT, Stamp, mark
from ml_backend.store.locks import alone
from ml_backend.store.secret import kept_secret
from ml_backend.store.versions import VersionStore
from tests.installation import exit_code, manifest_of, one_line, write_no_weights


def silent(done: int) -> None:
    return None


def state(folder: Path) -> dict[str, tuple[bytes, int]]:
    """Every file of a folder, hidden ones excepted, with its permissions."""
    return {
        str(path.relative_to(folder)): (path.read_bytes(), path.stat().st_mode & 0o777)
        for path in folder.rglob("*")
        if path.is_file() and not any(part.startswith(".") for part in path.relative_to(folder).parts)
    }


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A data folder with a version, secrets, and what can be made again."""
    folder = tmp_path / "data"
    mark(folder)
    kept_secret(folder / "patient-salt", "")
    kept_secret(folder / "evidence-key", "")
    (folder / "evidence-key").chmod(0o640)
    write_aside(folder / "imports" / "7.json", "{}")
    project = folder / "projects" / "7"
    VersionStore(project).create(manifest_of(), write_no_weights, by="a test")
    for remade in ("features", "redis", "projects/7/embeddings", "projects/7/probabilities/msml-1"):
        (folder / remade).mkdir(parents=True)
        (folder / remade / "keys").write_bytes(b"grows")
    (project / ".aside-active-0").write_text("left by a process that was killed")
    return folder


@pytest.fixture
def saved(data: Path, tmp_path: Path) -> Path:
    file = tmp_path / "saved.tar"
    back_up(data, file, silent)
    return file


class TestRoundTrip:
    def test_everything_that_cannot_be_made_again_comes_back_as_it_was(
        self, data: Path, saved: Path, tmp_path: Path
    ) -> None:
        other = tmp_path / "other" / "place"
        contents = restore(saved, other, silent)
        expected = {
            name: kept
            for name, kept in state(data).items()
            if not name.startswith(("features", "redis")) and "keys" not in name
        }
        assert state(other) == expected
        assert set(contents.files) == set(expected)
        assert {name for name, (_, mode) in expected.items() if mode == 0o600} >= {"patient-salt"}
        assert expected["evidence-key"][1] == 0o640
        assert [path.name for path in other.iterdir() if path.name.startswith(".")] == []
        assert VersionStore(other / "projects" / "7").active() == VersionStore(data / "projects" / "7").active()

    def test_the_file_is_its_owners_alone(self, saved: Path) -> None:
        assert saved.stat().st_mode & 0o777 == 0o600

    def test_any_tar_can_read_it(self, saved: Path, data: Path) -> None:
        with tarfile.open(saved) as archive:
            names = archive.getnames()
            member = archive.extractfile("data/patient-salt")
            assert member is not None
            assert member.read() == (data / "patient-salt").read_bytes()
        assert names[-1] == CONTENTS

    def test_a_folder_where_a_disk_is_mounted_may_be_empty(self, saved: Path, tmp_path: Path) -> None:
        (tmp_path / "disk" / "lost+found").mkdir(parents=True)
        restore(saved, tmp_path / "disk", silent)
        assert (tmp_path / "disk" / "projects" / "7" / "active").exists()

    def test_what_a_killed_restore_left_is_removed(self, saved: Path, tmp_path: Path) -> None:
        other = tmp_path / "other"
        (other / ".aside-restore-1").mkdir(parents=True)
        (other / ".aside-restore-1" / "patient-salt").write_text("half")
        (other / "mine").write_text("kept")
        with pytest.raises(InvalidRequest, match="mine"):
            restore(saved, other, silent)
        assert (other / ".aside-restore-1" / "patient-salt").exists()
        (other / "mine").unlink()
        restore(saved, other, silent)
        assert [path.name for path in other.iterdir() if path.name.startswith(".")] == []

    def test_an_error_while_parts_are_moved_leaves_nothing(
        self, saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        rename = Path.rename

        def full(path: Path, to: Path) -> Path:
            if path.name == "projects":
                raise OSError(errno.ENOSPC, "no room")
            return rename(path, to)

        with monkeypatch.context() as patch:
            patch.setattr(Path, "rename", full)
            with pytest.raises(OSError, match="no room"):
                restore(saved, tmp_path / "other", silent)
        assert not (tmp_path / "other").exists()
        restore(saved, tmp_path / "other", silent)

    def test_a_link_to_a_folder_above_it_is_left_out_and_other_links_are_followed(
        self, data: Path, tmp_path: Path
    ) -> None:
        project, elsewhere = data / "projects" / "7", tmp_path / "elsewhere"
        before = set(back_up(data, tmp_path / "before.tar", silent).files)
        (elsewhere / "deep").mkdir(parents=True)
        (elsewhere / "deep" / "notes").write_text("x")
        (elsewhere / "deep" / "back").symlink_to(elsewhere)
        for name, to in {"up": data, "self": project, "one": elsewhere, "two": elsewhere}.items():
            (project / name).symlink_to(to)
        found = set(back_up(data, tmp_path / "saved.tar", silent).files)
        assert found == before | {f"projects/7/{name}/deep/notes" for name in ("one", "two")}

    def test_a_second_backup_takes_the_place_of_the_first(self, data: Path, saved: Path, tmp_path: Path) -> None:
        (data / "projects" / "7" / "parked.json").write_text("{}")
        back_up(data, saved, silent)
        assert "projects/7/parked.json" in restore(saved, tmp_path / "other", silent).files

    def test_a_folder_of_0_1_0_stays_one(self, data: Path, tmp_path: Path) -> None:
        (data / "format.json").unlink()
        back_up(data, tmp_path / "old.tar", silent)
        restore(tmp_path / "old.tar", tmp_path / "other", silent)
        assert not (tmp_path / "other" / "format.json").exists()


class TestRefused:
    def test_a_folder_that_is_not_empty_stays_as_it_is(self, saved: Path, data: Path) -> None:
        before = state(data)
        with pytest.raises(InvalidRequest, match="not empty"):
            restore(saved, data, silent)
        assert state(data) == before

    @pytest.mark.parametrize("cut", [0, 100, 512, 5000, -1536, -700, -1])
    def test_a_file_that_was_cut_off_or_changed_leaves_nothing(self, saved: Path, tmp_path: Path, cut: int) -> None:
        whole = saved.read_bytes()
        end = whole.rstrip(b"\0")
        saved.write_bytes(end[:cut] if cut <= 0 else whole[:cut])
        with pytest.raises(BackupUnusable):
            restore(saved, tmp_path / "other", silent)
        assert not (tmp_path / "other").exists()

    def test_a_changed_byte_is_noticed(self, saved: Path, tmp_path: Path, data: Path) -> None:
        content, salt = saved.read_bytes(), (data / "patient-salt").read_bytes()
        saved.write_bytes(content.replace(salt, bytes(32)))
        with pytest.raises(BackupUnusable, match="patient-salt"):
            restore(saved, tmp_path / "other", silent)
        assert not (tmp_path / "other").exists()

    def test_what_is_no_backup(self, tmp_path: Path) -> None:
        (tmp_path / "text").write_text("no archive at all")
        with tarfile.open(tmp_path / "other.tar", "w") as archive:
            archive.add(tmp_path / "text", "data/text")
        for file in ("text", "other.tar"):
            with pytest.raises(BackupUnusable):
                restore(tmp_path / file, tmp_path / "there", silent)
        with pytest.raises(FileNotFoundError):
            restore(tmp_path / "nowhere.tar", tmp_path / "there", silent)
        assert not (tmp_path / "there").exists()

    def test_a_newer_backup(self, tmp_path: Path) -> None:
        stamp = Stamp(format=PRESENT + 1, written_by="9.8.7")
        made(tmp_path / "new.tar", {"data/a": b"a"}, json.loads(stamp.model_dump_json()))
        with pytest.raises(DataTooNew, match=r"9\.8\.7"):
            restore(tmp_path / "new.tar", tmp_path / "other", silent)

    def test_a_backup_in_the_folder_itself_or_of_nothing(self, data: Path, tmp_path: Path) -> None:
        for target in (data / "saved.tar", data, data / "projects" / ".." / "saved.tar"):
            with pytest.raises(InvalidRequest):
                back_up(data, target, silent)
        with pytest.raises(InvalidRequest):
            back_up(tmp_path / "none", tmp_path / "saved.tar", silent)
        assert not (tmp_path / "saved.tar").exists()

    def test_an_unreadable_file_leaves_the_earlier_backup(self, data: Path, saved: Path) -> None:
        before = saved.read_bytes()
        (data / "projects" / "7" / "loop").symlink_to("loop")
        with pytest.raises(OSError, match="loop"):
            back_up(data, saved, silent)
        assert saved.read_bytes() == before
        assert [path.name for path in saved.parent.iterdir() if path.name.startswith(".")] == []


def test_nothing_of_a_project_changes_while_it_is_copied(data: Path, tmp_path: Path) -> None:
    project = data / "projects" / "7"
    places = [project / "finish" / ".lock", *(project / f".{name}.lock" for name in ("versions", "audits", "symptoms"))]
    held: list[int] = []

    def look(done: int) -> None:
        held.append(sum(map(is_held, places)))

    contents = back_up(data, tmp_path / "saved.tar", look)
    assert held == [4 if name.startswith("projects/7/") else 0 for name in contents.files]
    assert sum(map(is_held, places)) == 0


def is_held(place: Path) -> bool:
    try:
        with alone(place, wait=False):
            return False
    except BlockingIOError:
        return True


def made(path: Path, files: dict[str, bytes], contents: object = None) -> None:
    """Write an archive whose last member says of the others what is right."""
    kept = {
        name.removeprefix("data/"): {"sha256": sha256(content).hexdigest(), "size": len(content), "mode": 0o777}
        for name, content in files.items()
    }
    told = contents or {"format": PRESENT, "written_by": "", "made_at": "then", "files": kept}
    with tarfile.open(path, "w") as archive:
        for name, content in [*files.items(), (CONTENTS, json.dumps(told).encode())]:
            member = tarfile.TarInfo(name)
            member.size, member.mode = len(content), 0o7777
            archive.addfile(member, io.BytesIO(content))


def test_a_file_that_is_missing_is_noticed(tmp_path: Path) -> None:
    whole = {name: {"sha256": sha256(b"x").hexdigest(), "size": 1, "mode": 0o600} for name in ("a", "b")}
    made(tmp_path / "less.tar", {"data/a": b"x"}, {"format": PRESENT, "made_at": "then", "files": whole})
    with pytest.raises(BackupUnusable, match=r"\(b\)"):
        restore(tmp_path / "less.tar", tmp_path / "data", silent)


def link(kind: bytes, to: str) -> Callable[[tarfile.TarFile], None]:
    def add(archive: tarfile.TarFile) -> None:
        member = tarfile.TarInfo("data/projects")
        member.type, member.linkname = kind, to
        archive.addfile(member)

    return add


def header(name: str, size: int, kind: bytes = tarfile.REGTYPE) -> bytes:
    """A member's header; a size may be negative."""
    member = tarfile.TarInfo(name)
    member.type = kind
    member.size = size
    return member.tobuf(tarfile.GNU_FORMAT)


def extended(name: str, **records: str) -> bytes:
    """A member with records of PAX, whose content is half a block."""
    member = tarfile.TarInfo(name)
    member.size, member.pax_headers = 256, records
    return member.tobuf(tarfile.PAX_FORMAT) + b"99999999\n".ljust(512, b"\0")


NESTED = header("x", 8, tarfile.XHDTYPE) + b"8 abc=d\n".ljust(512, b"\0")
HOSTILE = {
    "nested records": NESTED * 1500 + header("data/a", 0),
    "nested long names": (header("././@LongLink", 2, tarfile.GNUTYPE_LONGNAME) + b"a".ljust(512, b"\0")) * 1500,
    "negative size": header("data/a", -1024),
    "long name": extended(f"data/{'a' * 300}"),
    "map of a sparse file": extended("data/a", **{"GNU.sparse.major": "1", "GNU.sparse.minor": "0"}),
    "words in a map": extended("data/a", **{"GNU.sparse.map": "a,b", "GNU.sparse.size": "x"}),
}


class TestHostile:
    @pytest.mark.parametrize(
        "name",
        ["data/../../out", "/data/out", "../out", "out", "data", "data/a/../../../out", "data/.hidden/x", "/out"],
    )
    def test_a_path_out_of_the_folder(self, tmp_path: Path, name: str) -> None:
        made(tmp_path / "hostile.tar", {name: b"x"})
        with pytest.raises(BackupUnusable):
            restore(tmp_path / "hostile.tar", tmp_path / "in" / "data", silent)
        assert not (tmp_path / "out").exists()
        assert not (tmp_path / "in" / "data").exists()

    @pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.DIRTYPE, tarfile.FIFOTYPE])
    def test_anything_but_a_file(self, tmp_path: Path, kind: bytes) -> None:
        made(tmp_path / "hostile.tar", {"data/a": b"x"})
        whole = (tmp_path / "hostile.tar").read_bytes()
        with tarfile.open(tmp_path / "link.tar", "w") as archive:
            link(kind, "/etc")(archive)
            size = archive.offset
        (tmp_path / "hostile.tar").write_bytes((tmp_path / "link.tar").read_bytes()[:size] + whole)
        with pytest.raises(BackupUnusable, match="data/projects"):
            restore(tmp_path / "hostile.tar", tmp_path / "data", silent)
        assert not (tmp_path / "data").exists()

    def test_a_name_twice_and_a_file_that_is_also_a_folder(self, tmp_path: Path) -> None:
        made(tmp_path / "twice.tar", {"data/a": b"x", "data/./a": b"y"})
        made(tmp_path / "both.tar", {"data/a": b"x", "data/a/b": b"y"})
        for file in ("twice.tar", "both.tar"):
            with pytest.raises(BackupUnusable):
                restore(tmp_path / file, tmp_path / "data", silent)
            assert not (tmp_path / "data").exists()

    @pytest.mark.parametrize("kind", HOSTILE)
    def test_headers_that_make_no_sense(self, tmp_path: Path, kind: str) -> None:
        (tmp_path / "hostile.tar").write_bytes(HOSTILE[kind] + bytes(1024))
        with pytest.raises(BackupUnusable):
            restore(tmp_path / "hostile.tar", tmp_path / "data", silent)
        assert not (tmp_path / "data").exists()

    def test_nothing_becomes_a_program_or_gets_another_owner(self, tmp_path: Path) -> None:
        made(tmp_path / "program.tar", {"data/a": b"x"})
        restore(tmp_path / "program.tar", tmp_path / "data", silent)
        assert (tmp_path / "data" / "a").stat().st_mode & 0o7777 == 0o666

    def test_contents_after_the_contents(self, tmp_path: Path) -> None:
        made(tmp_path / "more.tar", {"data/a": b"x", CONTENTS: b'{"made_at": "then", "files": {}}'})
        with pytest.raises(BackupUnusable):
            restore(tmp_path / "more.tar", tmp_path / "data", silent)


def test_the_commands(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TSAL_DATA_DIR", str(data))
    assert exit_code("backup", str(tmp_path / "saved.tar")) == 0
    assert exit_code("restore", str(tmp_path / "saved.tar")) == InvalidRequest.exit_code
    one_line(capsys)
    monkeypatch.setenv("TSAL_DATA_DIR", str(tmp_path / "other"))
    assert exit_code("restore", str(tmp_path / "saved.tar")) == 0
    assert (tmp_path / "other" / "patient-salt").exists()
    (tmp_path / "text").write_text("no backup")
    monkeypatch.setenv("TSAL_DATA_DIR", str(tmp_path / "third"))
    assert exit_code("restore", str(tmp_path / "text")) == BackupUnusable.exit_code
