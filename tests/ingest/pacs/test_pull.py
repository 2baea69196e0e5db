"""Import from a real PACS: Orthanc with its DICOMweb plugin."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import pydicom
import pytest
from pydicom import uid

from ml_backend.errors import InvalidRequest, PacsRefused, PacsUnavailable, StudioUnavailable
from ml_backend.ingest.cut import Box, Cut
from ml_backend.ingest.pacs.pull import carry_out_pull, plan_pull
from ml_backend.ingest.pacs.server import Pacs
from ml_backend.ingest.report import Report
from ml_backend.ingest.salt import patient_name, pseudonym, salt
from ml_backend.settings import load
from tests.commands.test_import_frames import Place, StudioInMemory
from tests.ingest.pacs.instances import CountingPacs, pacs_of, write_instance, write_jpeg
from tests.ingest.pacs.pulling import StudioInFile, pull
from tests.orthanc_server import OrthancServer, running_orthanc

pytestmark = pytest.mark.integration
ROOT = Path(__file__).parents[3]


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


@pytest.fixture
def study(request: pytest.FixtureRequest) -> str:
    """The UID of a study that only this test uses, since all tests share one PACS."""
    return str(uid.generate_uid(entropy_srcs=[request.node.name, str(os.getpid())]))[:48].rstrip(".")


@pytest.fixture
def pacs(orthanc_server: OrthancServer) -> CountingPacs:
    return pacs_of(orthanc_server)


def run(
    place: Place, pacs: Pacs, *studies: str, queries: Sequence[str] = (), again: bool = False, **options: Any
) -> Report:
    importer = place.importer(**options)
    return carry_out_pull(importer, pacs, plan_pull(importer, pacs, studies, queries, again))


def clips(place: Place) -> Counter[str]:
    return Counter(row["clip"] for row in place.studio.rows)


def tasks(place: Place) -> list[Mapping[str, Any]]:
    return sorted(place.studio.rows, key=lambda row: (row["clip"], row["frame"]))


def test_a_study_becomes_what_its_files_would_become(
    place: Place, pacs: CountingPacs, orthanc_server: OrthancServer, study: str, tmp_path: Path
) -> None:
    """Native and compressed clips, several frames and one: the same pictures, clips, patients, times."""
    paths = [
        write_instance(place.clips / "a.dcm", study, [1, 2, 3, 4], FrameTime="500"),
        write_instance(place.clips / "b.dcm", study, [5], SOPClassUID=uid.UltrasoundImageStorage),
        write_jpeg(place.clips / "c.dcm", f"{study}.2", [6, 7, 8], PatientID="PAT-12"),
    ]
    orthanc_server.store(*paths)
    report = run(place, pacs, study, f"{study}.2")
    assert (report.files, report.frames, report.imported, report.failed) == (3, 8, 8, [])
    assert {name: len(there) for name, there in report.patients.items()} == {"header": 2}

    (tmp_path / "files").mkdir()
    other = Place(tmp_path / "files")
    shutil.copytree(place.data_dir, other.data_dir)
    other.importer().run([place.clips])
    assert tasks(place) == tasks(other)
    assert [path.read_bytes() for path in place.pictures()] == [path.read_bytes() for path in other.pictures()]


def test_what_came_as_a_file_is_not_fetched(
    place: Place, pacs: CountingPacs, orthanc_server: OrthancServer, study: str
) -> None:
    orthanc_server.store(write_instance(place.clips / "a.dcm", study, [1, 2]))
    orthanc_server.store(write_instance(place.clips.parent / "b.dcm", study, [3, 4]))
    place.run()
    report = run(place, pacs, study)
    assert (report.complete, report.files, len(pacs.fetches)) == (1, 1, 1)
    assert len({row["patient"] for row in place.studio.rows}) == 1
    assert len(clips(place)) == 2


def test_other_kinds_are_counted_and_left_out(
    place: Place, pacs: CountingPacs, orthanc_server: OrthancServer, study: str
) -> None:
    kinds = (
        ("US", "1.2.840.10008.5.1.4.1.1.3"),
        ("US", "1.2.840.10008.5.1.4.1.1.6"),
        ("US", uid.SecondaryCaptureImageStorage),
        ("CT", uid.CTImageStorage),
        ("CT", uid.CTImageStorage),
        ("OT", "1.2.276.0.7230010.3.0.3.6.2"),
    )
    for number, (modality, kind) in enumerate(kinds):
        orthanc_server.store(
            write_instance(place.clips / f"{number}.dcm", study, [number], Modality=modality, SOPClassUID=kind)
        )
    report = run(place, pacs, study)
    assert report.files == len(pacs.fetches) == 2
    assert report.left_out == {"Secondary Capture Image": 1, "CT Image": 2, "of unknown kind": 1}
    assert any("left out" in line and "2 CT Image" in line for line in report.lines())


def test_queries_choose_studies_and_series(
    place: Place, pacs: CountingPacs, orthanc_server: OrthancServer, study: str, tmp_path: Path
) -> None:
    number = study[-12:]  # a patient of this test alone
    for day in (1, 2, 3):
        tags = {"PatientID": number, "StudyDate": f"2024010{day}"}
        path = write_instance(tmp_path / f"{day}.dcm", f"{study}.{day}", [day], **tags)
        orthanc_server.store(path)
    tags = {"PatientID": number, "Modality": "CT"}
    orthanc_server.store(write_instance(tmp_path / "c.dcm", f"{study}.3", [9], StudyDate="20240103", **tags))
    tags["SOPClassUID"] = str(uid.CTImageStorage)
    orthanc_server.store(write_instance(tmp_path / "d.dcm", f"{study}.4", [9], StudyDate="20240104", **tags))

    def found(*queries: str) -> int:
        pull = plan_pull(place.importer(), pacs, [], queries)
        return len(pull.fetch) + pull.complete

    assert found(f"PatientID={number}") == 4
    assert found(f"PatientID={number},StudyDate=20240102-20240103,Modality=US") == 2
    assert found(f"PatientID={number},StudyDate=20240101", f"StudyDate=20240101-20240102,PatientID={number}") == 2
    assert found(f"PatientID={number},Modality=CT") == 1
    with pytest.raises(InvalidRequest, match=r"no ultrasound among .* 1 CT Image"):
        found(f"PatientID={number},StudyDate=20240104")
    report = run(place, pacs, f"{study}.1", queries=[f"PatientID={number},Modality=US"])
    assert (report.files, report.left_out) == (3, {})


def test_nothing_found_is_said_without_naming_anybody(
    place: Place, pacs: CountingPacs, orthanc_server: OrthancServer, study: str
) -> None:
    orthanc_server.store(write_instance(place.clips / "a.dcm", study, [1]))
    for studies, queries in (([], ["PatientID=NOBODY^AT^ALL"]), ([study, f"{study}.99"], [])):
        with pytest.raises(InvalidRequest) as refused:
            run(place, pacs, *studies, queries=queries)
        assert "NOBODY" not in str(refused.value)
        assert study not in str(refused.value)
        assert ("--study number 2 of 2" in str(refused.value)) == bool(studies)
    assert place.studio.storages == []
    assert not place.frames.exists()


def test_it_can_run_again_and_go_on(
    place: Place, pacs: CountingPacs, orthanc_server: OrthancServer, study: str
) -> None:
    for number in range(4):
        path = write_instance(place.clips / f"{number}.dcm", study, range(number * 4, number * 4 + 4))
        orthanc_server.store(path)
    place.studio.failing = 3
    with pytest.raises(StudioUnavailable):
        run(place, pacs, study)
    assert list(clips(place).values()) == [2, 2]
    report = run(place, pacs, study)
    assert (report.complete, report.imported, len(pacs.fetches)) == (2, 4, 3 + 2)
    assert list(clips(place).values()) == [2] * 4

    pacs.fetches.clear()
    report = run(place, pacs, study)
    assert (report.complete, report.files, report.imported, pacs.fetches) == (4, 0, 0, [])
    report = run(place, pacs, study, again=True, every=Fraction(1, 4))
    assert (report.complete, report.imported, report.already_there) == (0, 8, 8)
    assert len({row["image"] for row in place.studio.rows}) == len(place.studio.rows) == 16


def test_two_hundred_instances(place: Place, pacs: CountingPacs, orthanc_server: OrthancServer, study: str) -> None:
    for number in range(200):
        tags = {"PatientID": f"PAT-{number % 9}", "InstanceNumber": number}
        path = place.clips / f"{number}.dcm"
        orthanc_server.store(write_instance(path, f"{study}.{number % 9}", [2 * number, 2 * number + 1], **tags))
    studies = [f"{study}.{number}" for number in range(9)]
    place.studio.failing = 120
    with pytest.raises(StudioUnavailable):
        run(place, pacs, *studies, every=Fraction(0))
    report = run(place, pacs, *studies, every=Fraction(0))
    assert (report.complete, report.files, report.imported) == (119, 81, 162)
    assert sorted(clips(place).values()) == [2] * 200
    assert len({row["patient"] for row in place.studio.rows}) == 9
    fetches = Counter(pacs.fetches)
    assert len(fetches) == 200
    assert fetches.total() <= 200 + 1 + 8  # the one that failed, and one of each study to compare a new patient with


def test_searches_read_all_pages(
    place: Place, pacs: CountingPacs, orthanc_server: OrthancServer, study: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ml_backend.ingest.pacs.server._PAGE", 2)
    for number in range(5):
        tags = {"Modality": ["US", "OT", "CT"][number % 3]}
        orthanc_server.store(write_instance(place.clips / f"{number}.dcm", study, [number], **tags))
        orthanc_server.store(write_instance(place.clips / f"{number}b.dcm", study, [number + 9], **tags))
    assert len(plan_pull(place.importer(), pacs, [study], []).fetch) == 10


# What goes wrong


def test_a_damaged_instance_costs_only_itself(
    place: Place, pacs: CountingPacs, orthanc_server: OrthancServer, study: str, capsys: pytest.CaptureFixture[str]
) -> None:
    write_instance(place.clips / "a.dcm", study, [1, 2, 3, 4], FrameTime="500")
    cut_off = write_instance(place.clips / "b.dcm", study, [11, 12, 13, 14], FrameTime="500")
    data = pydicom.dcmread(cut_off)
    data.PixelData = data.PixelData[: len(data.PixelData) * 5 // 8]
    data.save_as(cut_off)
    garbled = write_jpeg(place.clips / "c.dcm", study, [21, 22, 23])
    garbled.write_bytes(garbled.read_bytes().replace(b"\xff\xd9", b"\0\0", 1))
    orthanc_server.store(*sorted(place.clips.iterdir()))
    report = run(place, pacs, study)
    assert (report.files, len(report.failed)) == (1, 2)
    assert sorted(clips(place).values())[-1] == 4
    names = {str(name) for name, _ in report.failed}
    assert all(name.startswith("dicom-") for name in names)
    said = capsys.readouterr().err
    assert all(f"{name}: " in said for name in names)
    assert all("--again" in reason for _, reason in report.failed)
    assert run(place, pacs, study).imported == 0


def test_a_deleted_instance_costs_only_itself(
    place: Place, pacs: CountingPacs, orthanc_server: OrthancServer, study: str
) -> None:
    for number in range(3):
        orthanc_server.store(write_instance(place.clips / f"{number}.dcm", study, [number]))
    importer = place.importer()
    pull = plan_pull(importer, pacs, [study], [])
    gone = list(pull.fetch)[1]
    instance = pull.fetch[gone]
    (known,) = json.loads(orthanc_server.ask("/tools/lookup", instance.uid.encode()))
    orthanc_server.ask(f"/instances/{known['ID']}", method="DELETE")
    report = carry_out_pull(importer, pacs, pull)
    assert (report.files, [str(name) for name, _ in report.failed]) == (2, [gone])
    assert "404" in report.failed[0][1]


def test_an_instance_that_is_too_large_is_not_fetched_to_its_end(
    place: Place, orthanc_server: OrthancServer, study: str
) -> None:
    large = write_instance(place.clips / "a.dcm", study, range(8))
    small = write_instance(place.clips / "b.dcm", study, [9])
    orthanc_server.store(large, small)
    limit = small.stat().st_size + 2000
    report = run(place, Pacs(orthanc_server.dicomweb, load(max_instance_bytes=limit)), study)
    assert report.files == 1
    assert "TSAL_MAX_INSTANCE_BYTES" in report.failed[0][1]


def test_a_pacs_that_dies_in_the_middle(place: Place, study: str, tmp_path: Path) -> None:
    with running_orthanc(tmp_path / "orthanc") as server:
        for number in range(5):
            server.store(write_instance(place.clips / f"{number}.dcm", study, range(number * 4, number * 4 + 4)))
        port = int(server.root.rpartition(":")[2])
        pacs = pacs_of(server)

        class Killing(StudioInMemory):
            def import_tasks(self, project: int, data: Sequence[Mapping[str, Any]]) -> list[int]:
                made = super().import_tasks(project, data)
                if self.calls == 2:
                    server.process.kill()
                    server.process.wait()
                return made

        place.studio = Killing()
        with pytest.raises(PacsUnavailable, match=r"3 times.*Run the same command"):
            run(place, pacs, study)
        assert list(clips(place).values()) == [2, 2]
        with pytest.raises(PacsUnavailable):
            run(place, pacs, study)
    with running_orthanc(tmp_path / "orthanc", port):
        report = run(place, pacs, study)
    assert (report.complete, report.files) == (2, 3)
    assert list(clips(place).values()) == [2] * 5


def test_an_import_that_is_killed_in_the_middle_leaves_nothing_half_done(
    orthanc_server: OrthancServer, study: str, tmp_path: Path
) -> None:
    """Nor does a file of a patient stay behind anywhere."""
    made, temporary = tmp_path / "made", tmp_path / "temporary"
    made.mkdir()
    temporary.mkdir()
    (tmp_path / "root").mkdir()
    for number in range(9):
        orthanc_server.store(write_instance(made / f"{number}.dcm", study, range(number * 4, number * 4 + 4)))
    module = "tests.ingest.pacs.pulling"
    command = [sys.executable, "-m", module, str(tmp_path / "root"), orthanc_server.dicomweb, study]
    environment = {**os.environ, "TMPDIR": str(temporary)}
    process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True)
    with process:
        assert process.stdout is not None
        assert process.stdout.readline() == "holding\n"
        process.kill()
    assert process.returncode < 0
    assert list(temporary.iterdir()) == []
    sent = tmp_path / "root" / "tasks"
    assert len(StudioInFile(sent).requests) == 5

    pacs = pacs_of(orthanc_server)
    pull(tmp_path / "root", pacs, study)
    after = StudioInFile(sent)
    assert len(pacs.fetches) == 4
    assert list(Counter(row["clip"] for row in after.rows).values()) == [2] * 9
    assert len({row["image"] for row in after.rows}) == 18


def test_who_may_not_read_is_told_what_to_set(place: Place, study: str, tmp_path: Path) -> None:
    with running_orthanc(tmp_path / "orthanc", signed=True) as server:
        server.store(write_instance(place.clips / "a.dcm", study, [1, 2, 3]))
        for settings in (load(), load(dicomweb_user=server.user, dicomweb_password="wrong")):
            with pytest.raises(PacsRefused, match=r"401: .*TSAL_DICOMWEB_USER.*TSAL_DICOMWEB_TOKEN"):
                run(place, Pacs(server.dicomweb, settings), study)
        assert not place.frames.exists()
        assert run(place, pacs_of(server), study).imported == 2


@pytest.mark.parametrize("address", ["", "/app/explorer.html", "/dicom-webb", "/wado"])
def test_an_address_that_is_not_dicomwebs(
    place: Place, orthanc_server: OrthancServer, study: str, address: str
) -> None:
    orthanc_server.store(write_instance(place.clips / "a.dcm", study, [1]))
    pacs = Pacs(orthanc_server.root + address, load())
    for studies, queries in (([study], []), ([], ["PatientID=PAT-4711"])):
        with pytest.raises(PacsRefused, match="--dicomweb") as refused:
            run(place, pacs, *studies, queries=queries)
        assert study not in str(refused.value)
        assert "PAT-4711" not in str(refused.value)


# Patients and pictures


def test_the_patient_is_the_one_of_the_header(
    place: Place, pacs: CountingPacs, orthanc_server: OrthancServer, study: str
) -> None:
    nobody = {"PatientID": "ANONYMOUS", "PatientName": ""}
    orthanc_server.store(
        write_instance(place.clips / "a.dcm", study, [1], PatientID="PAT-1", IssuerOfPatientID="North")
    )
    orthanc_server.store(write_instance(place.clips / "b.dcm", f"{study}.2", [2], **nobody))
    orthanc_server.store(write_instance(place.clips / "c.dcm", f"{study}.2", [3], **nobody))
    orthanc_server.store(write_instance(place.clips / "d.dcm", f"{study}.3", [4], **nobody))
    report = run(place, pacs, study, f"{study}.2", f"{study}.3")
    key = salt(place.data_dir)
    named, first, second, third = (row["patient"] for row in place.studio.rows)
    assert named == patient_name(key, ("PAT-1", "North"))
    assert first == second == pseudonym(key, "study", f"{study}.2") != third
    assert {name: len(there) for name, there in report.patients.items()} == {"header": 1, "study": 2}


def test_a_study_of_which_the_project_has_clips_under_another_patient(
    place: Place, pacs: CountingPacs, orthanc_server: OrthancServer, study: str
) -> None:
    for number in range(2):
        orthanc_server.store(write_instance(place.clips / f"{number}.dcm", study, [number]))
    place.importer(patient_level=0).run([place.clips / "0.dcm"])
    (there,) = {row["patient"] for row in place.studio.rows}
    report = run(place, pacs, study)
    ((_, reason),) = report.failed
    assert there in reason
    assert "--keep-patients" in reason
    report = run(place, pacs, study, keep_patients=True)
    assert (report.imported, report.patients) == (1, {"project": {there}})
    assert {row["patient"] for row in place.studio.rows} == {there}


def test_a_person_whose_files_have_a_patient_of_a_table_stays_one_patient(
    place: Place, pacs: CountingPacs, orthanc_server: OrthancServer, study: str, tmp_path: Path
) -> None:
    person = {"PatientID": f"P{study[-9:]}"}
    orthanc_server.store(write_instance(place.clips / "a.dcm", study, [1], **person))
    orthanc_server.store(write_instance(tmp_path / "b.dcm", f"{study}.2", [2], **person))
    orthanc_server.store(write_instance(tmp_path / "c.dcm", f"{study}.3", [3], PatientID="PAT-OTHER"))
    place.run(patients={"a.dcm": "P08"})
    studies = (study, f"{study}.2", f"{study}.3")
    report = run(place, pacs, *studies)
    ((_, reason),) = report.failed
    assert "P08" in reason
    assert "--keep-patients" in reason
    assert (report.imported, len(pacs.fetches)) == (1, 2 + 1)
    other = patient_name(salt(place.data_dir), ("PAT-OTHER",))
    assert [row["patient"] for row in place.studio.rows] == ["P08", other]
    report = run(place, pacs, *studies, keep_patients=True)
    assert (report.imported, report.patients) == (1, {"project": {"P08"}})
    assert [row["patient"] for row in place.studio.rows] == ["P08", other, "P08"]


def test_a_patient_who_cannot_be_compared_is_not_taken_for_a_new_one(
    place: Place, pacs: CountingPacs, orthanc_server: OrthancServer, study: str, tmp_path: Path
) -> None:
    orthanc_server.store(write_instance(place.clips / "a.dcm", study, [1]))
    orthanc_server.store(write_instance(tmp_path / "b.dcm", f"{study}.2", [2]))
    place.run(patients={"a.dcm": "P08"})
    importer = place.importer()
    pull = plan_pull(importer, pacs, [study, f"{study}.2"], [])
    (clip,) = pull.found.keys() - pull.fetch.keys()
    gone = {**pull.found, clip: replace(pull.found[clip], uid=f"{study}.99")}
    report = carry_out_pull(importer, pacs, replace(pull, found=gone))
    assert report.imported == 0
    assert "P08" in report.failed[0][1]


def test_clips_are_not_doubled_with_another_crop(
    place: Place, pacs: CountingPacs, orthanc_server: OrthancServer, study: str
) -> None:
    orthanc_server.store(write_instance(place.clips / "a.dcm", study, [1]))
    run(place, pacs, study)
    cut = Cut(Box(0, 10, 80, 54))
    with pytest.raises(InvalidRequest, match="--change-crop"):
        run(place, pacs, study, again=True, cut=cut, change_cut=True)
    assert run(place, pacs, study, cut=cut, change_cut=True).complete == 1  # the project has the new crop from now on
    report = run(place, pacs, study, again=True)
    assert (report.imported, len(report.failed), len(place.studio.rows)) == (0, 1, 1)


@pytest.mark.parametrize("interrupted", [False, True])
def test_a_study_is_of_one_patient(
    place: Place, pacs: CountingPacs, orthanc_server: OrthancServer, study: str, interrupted: bool
) -> None:
    """An instance without a patient follows the others; one of somebody else is left to people."""
    tags = ({"PatientID": "PAT-1"}, {"PatientID": "", "PatientName": ""}, {"PatientID": "PAT-2"})
    for number, identity in enumerate(tags):
        orthanc_server.store(
            write_instance(
                place.clips / f"{number}.dcm", study, [number], SOPInstanceUID=f"{study}.{number}", **identity
            )
        )
    importer = place.importer()
    pull = plan_pull(importer, pacs, [study], [])
    ordered = dict(sorted(pull.fetch.items(), key=lambda item: item[1].uid))
    if interrupted:
        place.studio.failing = 2
        with pytest.raises(StudioUnavailable):
            carry_out_pull(importer, pacs, replace(pull, fetch=ordered))
        pull = plan_pull(importer, pacs, [study], [])
        ordered = {clip: instance for clip, instance in ordered.items() if clip in pull.fetch}
    report = carry_out_pull(importer, pacs, replace(pull, fetch=ordered))
    assert len(report.failed) == 1
    assert [row["patient"] for row in place.studio.rows] == [patient_name(salt(place.data_dir), ("PAT-1",))] * 2


def test_names_in_the_picture_are_warned_of_and_cut_off(
    place: Place, pacs: CountingPacs, orthanc_server: OrthancServer, study: str
) -> None:
    for number, said in enumerate(("YES", "YES", "NO", None)):
        tags = {} if said is None else {"BurnedInAnnotation": said}
        orthanc_server.store(write_instance(place.clips / f"{number}.dcm", study, [number], **tags))
    cut = Cut(Box(0, 10, 80, 54))
    report = run(place, pacs, study, cut=cut)
    assert report.burnt_in == {"YES": 2, "NO": 1, "": 1}
    assert report.cut == cut
    (warning,) = (line for line in report.lines() if line.startswith("WARNING"))
    assert "picture of 2 instances" in warning
    place.studio.rows.clear()
    assert place.run().burnt_in == report.burnt_in


def test_a_dry_run_fetches_and_writes_nothing(
    place: Place, pacs: CountingPacs, orthanc_server: OrthancServer, study: str
) -> None:
    orthanc_server.store(write_instance(place.clips / "a.dcm", study, [1]))
    lines = list(plan_pull(place.importer(dry_run=True), pacs, [study], []).lines())
    assert lines == ["would fetch:             1 instance of 1 study"]
    assert pacs.fetches == []
    assert not place.data_dir.exists()
    assert not place.frames.exists()


def test_wildcards(place: Place, pacs: CountingPacs, orthanc_server: OrthancServer, study: str) -> None:
    number = f"W{study[-9:]}"
    orthanc_server.store(write_instance(place.clips / "a.dcm", study, [1], PatientID=number))
    assert len(plan_pull(place.importer(), pacs, [], [f"PatientID={number[:-2]}*"]).fetch) == 1
