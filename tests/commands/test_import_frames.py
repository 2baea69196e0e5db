from __future__ import annotations

import itertools
import json
import stat
from collections.abc import Callable, Iterator, Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import imagehash
import numpy as np
import pydicom
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from ml_backend.__main__ import main
from ml_backend.errors import BackendError, InvalidRequest, StudioUnavailable
from ml_backend.ingest import importer as importing
from ml_backend.ingest.clip_table import read_clip_table
from ml_backend.ingest.duplicates import distinct
from ml_backend.ingest.importer import Importer
from ml_backend.ingest.origins import Rule
from ml_backend.ingest.paths import find_files
from ml_backend.ingest.pictures import ClipFrame
from ml_backend.ingest.places import place_of
from ml_backend.ingest.report import Report
from ml_backend.ingest.salt import pseudonym, salt
from ml_backend.ingest.served import Folder
from ml_backend.ingest.storage import Storage
from ml_backend.settings import load
from ml_backend.store.evidence_addresses import FILE, EvidenceAddresses
from ml_backend.studio import client
from ml_backend.studio.client import ProjectInfo, Task
from ml_backend.studio.storages import NO_FILE, BucketAccess, BucketStorage
from tests.ingest.test_files import write_dicom

POCUS = Path(__file__).parents[3] / "shared" / "data" / "pocus"
CONFIGURATION = (
    '<View><Image name="image" value="$image"/><Choices name="symptoms" toName="image" choice="multiple">'
    '<Choice value="A-line"/><Choice value="B-line"/></Choices></View>'
)
IDENTITY = ("DOE^JANE", "JANE", "DOE", "PAT-4711", "19700131", "ST. ELSEWHERE", "ACC-99")


class StudioInMemory:
    """The few methods of `Studio` that importing uses; fails with the ``failing`` call of `import_tasks`."""

    def __init__(self, failing: int | None = None) -> None:
        self.rows: list[dict[str, Any]] = []
        self.storages: list[str] = []
        self.buckets: list[tuple[str, str]] = []
        self.access: BucketAccess | None = None
        self.on_import: Callable[[], None] = lambda: None
        self.calls = 0
        self.failing = failing

    def project(self, project: int) -> ProjectInfo:
        return ProjectInfo("", CONFIGURATION, None, "", 1, True)

    def tasks(self, project: int, only_unlabelled: bool = False) -> Iterator[Task]:
        return (Task(number, row) for number, row in enumerate(self.rows))

    def import_tasks(self, project: int, data: Sequence[Mapping[str, Any]]) -> list[int]:
        self.calls += 1
        if self.calls == self.failing:
            raise StudioUnavailable("Label Studio does not answer")
        self.rows += json.loads(json.dumps(data))
        self.on_import()
        return list(range(len(self.rows) - len(data), len(self.rows)))

    def local_storages(self, project: int) -> list[str]:
        return self.storages

    def create_local_storage(self, project: int, path: str, title: str) -> int:
        assert Path(path).is_dir()
        self.storages.append(path)
        return 1

    def bucket_storages(self, project: int) -> list[BucketStorage]:
        return [BucketStorage(1, bucket, prefix, NO_FILE, False) for bucket, prefix in self.buckets]

    def create_bucket_storage(self, project: int, bucket: str, prefix: str, access: BucketAccess, title: str) -> int:
        assert not any(row["image"].startswith(f"s3://{bucket}/") for row in self.rows)
        self.buckets.append((bucket, prefix))
        self.access = access
        return 1


class Place:
    """A data folder, a document root and a folder of clips, with a Label Studio in memory."""

    def __init__(self, root: Path) -> None:
        self.clips = root / "clips"
        self.document_root = root / "served"
        self.frames = self.document_root / "frames"
        self.data_dir = root / "data"
        self.studio = StudioInMemory()
        self.clips.mkdir(exist_ok=True)
        self.document_root.mkdir(exist_ok=True)

    def importer(
        self,
        patients: Mapping[str, str] | None = None,
        patient_level: int | None = None,
        trust_headers: bool = False,
        frames: Path | None = None,
        storage: Storage | None = None,
        **options: Any,
    ) -> Importer:
        rule = Rule(patients or {}, patient_level, trust_headers)
        kept = storage or Folder(frames or self.frames, self.document_root)
        options = {"data_dir": self.data_dir, **options}
        return Importer(self.studio, 7, kept, rule=rule, **options)  # type: ignore[arg-type]

    def run(self, **options: Any) -> Report:
        return self.importer(**options).run([self.clips])

    def pictures(self) -> list[Path]:
        return sorted(self.frames.iterdir())


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def scene(seed: int, height: int = 64, width: int = 80) -> NDArray[np.uint8]:
    """A smooth random picture, unlike that of any other seed."""
    coarse = np.random.default_rng(seed).integers(0, 255, (16, 16), np.uint8)
    return np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC))


def write_gif(path: Path, seeds: Sequence[int], milliseconds: int = 250) -> Path:
    pictures = [Image.fromarray(scene(seed)) for seed in seeds]
    path.parent.mkdir(parents=True, exist_ok=True)
    pictures[0].save(path, save_all=True, append_images=pictures[1:], duration=milliseconds, loop=0)
    return path


def write_still(path: Path, seed: int) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(scene(seed)).save(path)
    return path


def write_identified(path: Path, seeds: Sequence[int], **tags: object) -> Path:
    """Write a DICOM clip that says who the patient is, wherever a header can say it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    identity: dict[str, Any] = {
        "PatientName": "DOE^JANE",
        "PatientID": "PAT-4711",
        "PatientBirthDate": "19700131",
        "InstitutionName": "ST. ELSEWHERE",
        "AccessionNumber": "ACC-99",
        "ImageComments": "JANE DOE",
        "FrameTime": "250",
    }
    return write_dicom(path, np.stack([scene(seed) for seed in seeds]), **{**identity, **tags})


# Importing


def test_frames_become_tasks_with_where_they_come_from(place: Place) -> None:
    write_gif(place.clips / "anna" / "left 1+2.gif", [1, 2, 3, 4, 5])
    write_still(place.clips / "berta" / "berta.png", 9)
    report = place.run()

    assert (report.files, report.frames, report.near_duplicates, report.already_there) == (2, 4, 0, 0)
    assert (report.imported, report.failed) == (4, [])
    rows = [{name: value for name, value in row.items() if name != "image"} for row in place.studio.rows]
    common = {"patient": "anna", "clip": "anna/left 1+2.gif", "source": "left 1+2.gif"}
    assert rows == [
        {**common, "frame": 0, "time": 0.0, "caption": "Patient anna · clip anna/left 1+2.gif · frame 1 of 3 · 0.0 s"},
        {**common, "frame": 2, "time": 0.5, "caption": "Patient anna · clip anna/left 1+2.gif · frame 2 of 3 · 0.5 s"},
        {**common, "frame": 4, "time": 1.0, "caption": "Patient anna · clip anna/left 1+2.gif · frame 3 of 3 · 1.0 s"},
        {
            "patient": "berta",
            "clip": "berta/berta.png",
            "source": "berta.png",
            "frame": 0,
            "time": 0.0,
            "caption": "Patient berta · clip berta/berta.png",
        },
    ]
    assert report.patients == {"folder": {"anna", "berta"}}


def test_every_task_leads_to_its_picture(place: Place) -> None:
    write_still(place.clips / "still.png", 3)
    frames = place.document_root / "team a" / "främes & more"
    place.run(frames=frames)
    (row,) = place.studio.rows
    assert row["image"].startswith("/data/local-files/?d=team%20a/fr%C3%A4mes%20%26%20more/")
    path = place.document_root / unquote(row["image"].removeprefix("/data/local-files/?d="))
    assert path.parent == frames
    assert np.array_equal(np.asarray(Image.open(path)), scene(3))
    assert path.stat().st_mode & stat.S_IRGRP or not Path(place.clips).stat().st_mode & stat.S_IRGRP
    assert place.studio.storages == [str(frames)]


def test_the_image_goes_under_the_projects_own_key(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.commands.test_import_frames.CONFIGURATION", CONFIGURATION.replace("$image", "$scan"))
    write_still(place.clips / "still.png", 3)
    assert place.run().imported == 1
    assert place.run().already_there == 1
    assert "scan" in place.studio.rows[0]
    assert "image" not in place.studio.rows[0]


def test_patient_clip_and_time_go_under_the_teams_own_keys(command: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    for setting, key in (("PATIENT", "pat"), ("CLIP", "video"), ("TIME", "seconds")):
        monkeypatch.setenv(f"TSAL_{setting}_KEY", key)
    write_still(command.clips / "P07" / "visit1" / "still.png", 3)
    assert call(command) == 0
    (row,) = command.studio.rows
    assert row.keys() == {"image", "pat", "video", "frame", "seconds", "source", "evidence", "caption"}
    assert (row["pat"], row["video"], row["seconds"]) == ("P07", "P07/visit1/still.png", 0.0)
    assert call(command, "--patient-level", "2") == 2  # what is in the project is found by the same keys


def test_tasks_carry_the_signed_address_of_their_evidence(command: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TSAL_EVIDENCE_KEY", "why")
    monkeypatch.setenv("TSAL_PUBLIC_URL", "https://lungs.example.org")
    write_still(command.clips / "still.png", 3)
    assert call(command, "--dry-run") == 0
    assert not (command.data_dir / FILE).exists()
    assert call(command) == 0
    (row,) = command.studio.rows
    addresses = EvidenceAddresses(load())
    assert row["why"] == addresses.of(7, str(row["image"]))
    assert str(row["why"]).startswith("https://lungs.example.org/evidence/7/")
    monkeypatch.setenv("TSAL_EVIDENCE", "false")
    write_still(command.clips / "other.png", 4)
    assert call(command) == 0
    assert "why" not in command.studio.rows[1]


def test_importing_again_imports_what_is_new(place: Place) -> None:
    write_gif(place.clips / "clip.gif", [1, 2, 3, 4])
    place.run()
    before = [path.stat().st_mtime_ns for path in place.pictures()]
    report = place.run()
    assert (report.imported, report.already_there, report.near_duplicates) == (0, 2, 0)
    assert [path.stat().st_mtime_ns for path in place.pictures()] == before
    assert len(place.studio.storages) == 1

    report = place.run(every=Fraction(1, 4))
    assert (report.imported, report.already_there) == (2, 2)
    write_still(place.clips / "still.png", 9)
    report = place.run()
    assert (report.imported, report.already_there) == (1, 2)
    assert len({row["image"] for row in place.studio.rows}) == len(place.studio.rows) == 5


def test_the_same_picture_in_two_files_is_one_task(place: Place) -> None:
    write_still(place.clips / "a" / "still.png", 3)
    write_still(place.clips / "b" / "copy.png", 3)
    report = place.run()
    assert (report.frames, report.imported, report.already_there) == (2, 1, 1)


def test_tasks_that_label_studio_made_itself_count(place: Place) -> None:
    write_still(place.clips / "still.png", 3)
    place.run()
    place.studio.rows = [{"image": "http://studio:8080" + place.studio.rows[0]["image"]}]
    assert place.run().already_there == 1


def test_two_imports_at_once_are_refused(place: Place) -> None:
    write_still(place.clips / "still.png", 3)
    first, second = place.importer(), place.importer()
    with first.alone(), pytest.raises(InvalidRequest), second.alone():
        pass
    with first.alone(), place.importer(dry_run=True).alone():
        pass
    assert second.run([place.clips]).imported == 1


def test_an_interrupted_run_goes_on(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importing, "PIECE", 2)
    for number in range(5):
        write_still(place.clips / f"{number}.png", number)
    place.studio.failing = 2
    with pytest.raises(StudioUnavailable):
        place.run()
    assert len(place.studio.rows) == 2
    assert len(place.pictures()) >= 4  # others may be read ahead

    place.pictures()[0].unlink()
    report = place.run()
    assert (report.imported, report.already_there) == (3, 2)
    assert len(place.studio.rows) == len(place.pictures()) == 5


def test_pieces_reach_label_studio_whole(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importing, "PIECE", 2)
    for number in range(5):
        write_still(place.clips / f"{number}.png", number)
    assert place.run().imported == 5
    assert place.studio.calls == 3
    assert [row["source"] for row in place.studio.rows] == [f"{number}.png" for number in range(5)]


def test_an_unreadable_file_costs_only_itself(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    (place.clips / "broken.mp4").write_bytes(b"no video")
    write_still(place.clips / "still.png", 3)
    report = place.run()
    assert (report.files, report.imported) == (1, 1)
    assert [path.name for path, _ in report.failed] == ["broken.mp4"]
    assert f"{place.clips / 'broken.mp4'}: " in capsys.readouterr().err


HOSTILE_NAMES = (
    "\x1b[2J\x1b]0;owned\x07",
    "two\nlines",
    "\udcff",
    "\u202egnp",
    "<script>",
    "=cmd",
    "$(reboot)",
    "a;b|c",
    "%s",
)


@pytest.mark.parametrize("dry", [True, False])
def test_names_of_files_do_nothing_in_a_terminal(command: Place, capsys: pytest.CaptureFixture[str], dry: bool) -> None:
    for number, name in enumerate(HOSTILE_NAMES):
        write_still(command.clips / f"{name}.png", number)
        (command.clips / f"{name}.broken.mp4").write_text("broken")
    code = call(command, *(["--dry-run"] if dry else []))
    told = capsys.readouterr()
    assert code == 1
    assert (told.out + told.err).replace("\n", "").isprintable()
    assert len(command.studio.rows) == (0 if dry else len(HOSTILE_NAMES))


def test_a_damaged_clip_gives_its_sound_frames_and_is_reported(place: Place) -> None:
    path = write_gif(place.clips / "clip.gif", range(6))
    path.write_bytes(path.read_bytes()[:-2500])
    report = place.run()
    assert report.imported >= 1
    assert report.files == 0
    assert [path.name for path, _ in report.failed] == ["clip.gif"]


def test_a_dry_run_counts_and_writes_nothing(place: Place) -> None:
    write_gif(place.clips / "clip.gif", [1, 2, 3])
    report = place.run(dry_run=True)
    assert report.imported == 2
    assert (place.studio.rows, place.studio.storages) == ([], [])
    assert not place.frames.exists()


def test_nothing_is_left_of_a_picture_that_could_not_be_written(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(self: Path, target: Path) -> Path:
        raise OSError(28, "No space left on device")

    write_still(place.clips / "still.png", 3)
    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(BackendError, match="No space left"):
        place.run()
    assert place.pictures() == []
    assert place.studio.rows == []


def test_an_existing_storage_is_used(place: Place) -> None:
    write_still(place.clips / "still.png", 3)
    place.studio.storages = [str(place.document_root / "frames-of-others")]
    place.run()
    assert place.studio.storages[1:] == [str(place.frames)]
    place.run(frames=place.frames / "deeper")
    assert len(place.studio.storages) == 2


@pytest.mark.parametrize("frames", ["served", "elsewhere", "served/../elsewhere"])
def test_frames_must_lie_below_the_document_root(place: Place, tmp_path: Path, frames: str) -> None:
    with pytest.raises(InvalidRequest, match="not a folder below"):
        place.importer(frames=tmp_path / frames)


# Duplicates


def frames_like(*seeds: int) -> list[ClipFrame]:
    return [ClipFrame(Image.fromarray(scene(seed)), number, float(number)) for number, seed in enumerate(seeds)]


def test_near_duplicates_of_any_earlier_frame_are_dropped() -> None:
    frames = frames_like(1, 2, 1, 3, 2)
    noisy = np.clip(scene(1).astype(int) + np.random.default_rng(0).integers(-20, 21, (64, 80)), 0, 255)
    frames.append(ClipFrame(Image.fromarray(noisy.astype(np.uint8)), 5, 5.0))
    assert [frame.frame for frame in distinct(frames, 16)] == [0, 1, 3]
    assert [frame.frame for frame in distinct(frames, 0)] == [0, 1, 3, 5]
    assert [frame.frame for frame in distinct(frames, -1)] == [0, 1, 2, 3, 4, 5]


@given(st.lists(st.integers(0, 5), max_size=12), st.integers(0, 256))
def test_kept_frames_differ_and_dropped_frames_are_near_copies(seeds: list[int], distance: int) -> None:
    frames = frames_like(*seeds)
    kept = list(distinct(frames, distance))
    bits = {frame.frame: imagehash.phash(frame.picture, hash_size=16) for frame in frames}
    for earlier, later in itertools.combinations(kept, 2):
        assert bits[earlier.frame] - bits[later.frame] > distance
    for frame in frames:
        if frame not in kept:
            assert any(bits[other.frame] - bits[frame.frame] <= distance for other in kept if other.frame < frame.frame)


def test_distance_is_within_a_clip(place: Place) -> None:
    write_gif(place.clips / "one.gif", [1, 2, 1], milliseconds=500)
    noisy = Image.fromarray(np.where(scene(1) < 255, scene(1) + 1, 255).astype(np.uint8))
    noisy.save(place.clips / "two.png")
    report = place.run()
    assert (report.frames, report.near_duplicates, report.imported) == (4, 1, 3)


# Patients


def test_patients_come_from_the_table_first(place: Place, tmp_path: Path) -> None:
    write_still(place.clips / "a" / "still.png", 1)
    write_still(place.clips / "b" / "still.png", 2)
    write_still(place.clips / "c" / "other.png", 3)
    table = tmp_path / "patients.csv"
    table.write_text(
        "\ufefffile,patient,probe\nb/still.png,p2,convex\nother.png, p3 ,linear\nabsent.png,p4,\n", "utf-8"
    )
    report = place.run(patients=read_clip_table(table).patients)
    assert [row["patient"] for row in place.studio.rows] == ["a", "p2", "p3"]
    assert report.patients == {"folder": {"a"}, "table": {"p2", "p3"}}


def test_dicom_identity_reaches_neither_tasks_nor_names_nor_pictures(place: Place) -> None:
    write_identified(place.clips / "DOE^JANE" / "PAT-4711.dcm", [1, 2, 3])
    write_identified(place.clips / "JANE DOE 19700131", [4])
    report = place.run()
    assert (report.imported, report.failed) == (3, [])

    told = json.dumps(place.studio.rows) + "".join(map(str, report.patients.values()))
    told += "".join(path.name + path.read_bytes().decode("latin-1") for path in place.pictures())
    for picture in map(Image.open, place.pictures()):
        with picture:
            assert picture.info == {}
            told += str(picture.getexif())
    uids = [str(pydicom.dcmread(path).SOPInstanceUID) for path in place.clips.rglob("*") if path.is_file()]
    for secret in (*IDENTITY, *uids, salt(place.data_dir).hex()):
        assert secret.casefold() not in told.casefold()
    assert all(set(row) == {"image", "patient", "clip", "frame", "time", "caption"} for row in place.studio.rows)


def test_dicom_files_of_one_patient_are_grouped(place: Place) -> None:
    write_identified(place.clips / "1.dcm", [1])
    write_identified(place.clips / "sub" / "2.dcm", [2])
    write_identified(place.clips / "3.dcm", [3], PatientID="PAT-4712")
    report = place.run()
    first, third, second = (row["patient"] for row in place.studio.rows)
    assert first == second != third
    assert first == pseudonym(salt(place.data_dir), "patient", "PAT-4711")
    assert len({row["clip"] for row in place.studio.rows}) == 3
    assert set(report.patients) == {"header"}


def test_dicom_without_identity_hides_its_folder_too(place: Place) -> None:
    nobody = {"PatientID": "", "PatientName": ""}
    write_identified(place.clips / "DOE^JANE" / "1.dcm", [1], **nobody)
    write_identified(place.clips / "DOE^JANE" / "2.dcm", [2], **nobody)
    write_identified(place.clips / "JANE" / "3.dcm", [3], **nobody)
    report = place.run()
    first, second, third = (row["patient"] for row in place.studio.rows)
    assert first == second != third
    assert "DOE" not in json.dumps(place.studio.rows)
    assert set(report.patients) == {"folder"}


def test_the_table_must_not_repeat_the_patient_of_a_dicom_header(place: Place) -> None:
    write_identified(place.clips / "1.dcm", [1])
    write_identified(place.clips / "2.dcm", [2])
    report = place.run(patients={"1.dcm": "p1", "2.dcm": "Doe, Jane"})
    (row,) = place.studio.rows
    assert row["patient"] == "p1"
    assert row["clip"].startswith("dicom-")
    assert "source" not in row
    ((path, reason),) = report.failed
    assert path.name == "2.dcm"
    assert "pseudonym" in reason


def test_a_clip_keeps_the_patient_it_has_in_the_project(place: Place) -> None:
    """Projects that an older rule filled have the folder next to the file for the patient."""
    write_gif(place.clips / "P07" / "visit1" / "clip.gif", [1, 2, 3, 4])
    place.run(patient_level=2)
    with pytest.raises(InvalidRequest, match=r"visit1 there, P07 now.*--patient-level 2 gives visit1"):
        place.run(every=Fraction(1, 4))
    assert len(place.studio.rows) == 2

    write_still(place.clips / "P07" / "visit2" / "still.png", 9)
    report = place.run(every=Fraction(1, 4), keep_patients=True)
    assert (report.imported, report.already_there) == (3, 2)
    assert {row["clip"]: row["patient"] for row in place.studio.rows} == {
        "P07/visit1/clip.gif": "visit1",
        "P07/visit2/still.png": "visit1",
    }
    assert report.patients == {"project": {"visit1"}}


def test_a_renamed_folder_is_no_new_patient(place: Place) -> None:
    write_still(place.clips / "anna" / "still.png", 3)
    place.run()
    (place.clips / "anna").rename(place.clips / "berta")
    with pytest.raises(InvalidRequest, match="anna there, berta now"):
        place.run()
    report = place.run(keep_patients=True)
    assert (report.imported, report.already_there, report.other_patient) == (0, 1, 0)
    assert [row["patient"] for row in place.studio.rows] == ["anna"]


def test_a_dry_run_lists_patients_and_clips(command: Place, capsys: pytest.CaptureFixture[str]) -> None:
    write_still(command.clips / "P07" / "visit1" / "a.png", 1)
    write_still(command.clips / "P07" / "visit2" / "b.png", 2)
    assert call(command, "--dry-run") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[1:4] == ["patient P07 (known by folder): 2 clips", "  P07/visit1/a.png", "  P07/visit2/b.png"]
    assert command.studio.rows == []


# Files


def test_a_folder_stands_for_its_importable_files(place: Place, tmp_path: Path) -> None:
    write_still(place.clips / "b" / "still.png", 1)
    write_still(place.clips / "a.jpg", 1)
    write_identified(place.clips / "IM0001", [1])
    for name in ("notes.txt", "clips.csv", ".hidden.png", ".git/still.png", "DICOMDIR"):
        (place.clips / name).parent.mkdir(exist_ok=True)
        (place.clips / name).write_bytes((place.clips / "IM0001").read_bytes() if name == "DICOMDIR" else b"text")
    write_still(place.clips / "served" / "frame.png", 1)

    found, _ = find_files([place.clips, place.clips / "a.jpg"], leave_out=place.clips / "served")
    assert [file.name for file in found] == ["IM0001", "a.jpg", "b/still.png"]
    listed, _ = find_files([place.clips / "b" / "still.png", place.clips / "a.jpg", place.clips / "notes.txt"])
    assert [file.name for file in listed] == ["a.jpg", "b/still.png", "notes.txt"]
    with pytest.raises(InvalidRequest, match="no such file"):
        find_files([tmp_path / "absent"])
    with pytest.raises(InvalidRequest, match="nothing to import"):
        find_files([place.document_root])


@pytest.mark.parametrize(
    ("value", "path"),
    [
        ("/data/local-files/?d=frames/a%20b.png", "frames/a b.png"),
        ("http://studio:8080/data/local-files/?d=frames%2Fa.png", "frames/a.png"),
        ("/data/local-files?d=/frames/a.png", "frames/a.png"),
        ("s3://bucket/team/a.png", "s3://bucket/team/a.png"),
        ("s3://", None),
        ("/data/upload/1/a.png", None),
        ("/data/local-files/", None),
        ("http://[broken", None),
        (None, None),
        (7, None),
    ],
)
def test_places(value: object, path: str | None) -> None:
    assert place_of(value) == path


# The command


@pytest.fixture
def command(place: Place, monkeypatch: pytest.MonkeyPatch) -> Place:
    monkeypatch.setenv("TSAL_LABEL_STUDIO_TOKEN", "token")
    monkeypatch.setenv("TSAL_DATA_DIR", str(place.data_dir))
    monkeypatch.delenv("TSAL_DOCUMENT_ROOT", raising=False)
    monkeypatch.setattr(client, "Studio", lambda url, token: place.studio)
    return place


def call(place: Place, *options: str) -> int:
    return exit_code(str(place.clips), "--project", "7", "--document-root", str(place.document_root), *options)


def exit_code(*arguments: str) -> int:
    with pytest.raises(SystemExit) as ended:
        main(["import", *arguments])
    assert isinstance(ended.value.code, int)
    return ended.value.code


def test_the_command_imports_and_sums_up(command: Place, capsys: pytest.CaptureFixture[str]) -> None:
    write_gif(command.clips / "clip.gif", [1, 2, 1, 3])
    assert call(command, "--every", "0.25s") == 0
    out = capsys.readouterr().out
    assert "frames seen:             4" in out
    assert "near-duplicates dropped: 1" in out
    assert "imported:                3" in out
    assert command.pictures()[0].parent == command.document_root / "frames"
    assert call(command, "--every", "0", "--keep-duplicates") == 0
    assert "already there:           4" in capsys.readouterr().out


def test_the_command_ends_with_1_after_importing_the_rest(command: Place, capsys: pytest.CaptureFixture[str]) -> None:
    (command.clips / "broken.mov").write_bytes(b"")
    write_still(command.clips / "still.png", 1)
    assert call(command) == 1
    assert len(command.studio.rows) == 1
    output = capsys.readouterr()
    assert "broken.mov: " in output.err
    assert "Traceback" not in output.err


def test_pydicoms_warnings_stay_silent(command: Place, capfd: pytest.CaptureFixture[str]) -> None:
    path = write_identified(command.clips / "clip.dcm", [1])
    number = str(pydicom.dcmread(path).SOPInstanceUID).encode()
    path.write_bytes(path.read_bytes().replace(number, b"JANE" * (len(number) // 4) + b"E" * (len(number) % 4)))
    assert call(command) == 0
    assert "JANE" not in "".join(capfd.readouterr())


@pytest.mark.parametrize("options", [["--every", "-1"], ["--every", "soon"], ["--every", "nan"], ["--distance", "far"]])
def test_wrong_options_end_with_2(command: Place, options: list[str]) -> None:
    assert call(command, *options) == 2


def test_a_missing_file_or_setting_is_named(
    command: Place, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_still(command.clips / "still.png", 1)

    def error_of(*arguments: str) -> str:
        assert exit_code("--project", "7", *arguments) == 2
        output = capsys.readouterr()
        assert output.err.startswith("error: ")
        return output.err

    clips, root = str(command.clips), ["--document-root", str(command.document_root)]
    assert "TSAL_DOCUMENT_ROOT" in error_of(clips)
    assert "no such file" in error_of(*root, str(command.clips / "absent"))
    assert "not a folder below" in error_of(*root, "--frames", clips, clips)
    assert "absent.csv" in error_of(*root, "--patients", "absent.csv", clips)
    monkeypatch.delenv("TSAL_LABEL_STUDIO_TOKEN")
    assert "TSAL_LABEL_STUDIO_TOKEN" in error_of(*root, clips)


def test_an_unreachable_label_studio_has_its_own_exit_code(command: Place, capsys: pytest.CaptureFixture[str]) -> None:
    write_still(command.clips / "still.png", 1)
    command.studio.failing = 1
    assert call(command) == StudioUnavailable.exit_code
    assert "error: Label Studio does not answer" in capsys.readouterr().err.splitlines()


@pytest.mark.skipif(not POCUS.is_dir(), reason=f"the clips of {POCUS} are not here")
def test_real_clips(place: Place) -> None:
    chosen = sorted((POCUS / "clips").iterdir())[::12]
    patients = read_clip_table(POCUS / "clips.csv").patients
    report = place.importer(patients=patients).run(chosen)
    assert report.files == len(chosen)
    assert report.imported == len(place.studio.rows) == len(place.pictures()) > len(chosen)
    assert set(report.patients) == {"table"}
    assert {row["source"]: row["patient"] for row in place.studio.rows}.items() <= patients.items()
    again = place.importer(patients=patients).run([POCUS / "clips" / path.name for path in chosen])
    assert (again.imported, again.already_there) == (0, report.imported)
