"""Labels that a team has already, in a real Label Studio: their origin stays, and the team decides if they teach."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path

import httpx
import numpy as np
import pytest
from PIL import Image

from ml_backend.export.gather import gather
from ml_backend.ingest.clip_table import column
from ml_backend.ingest.importer import Importer
from ml_backend.ingest.labels.plan import carry_out, plan
from ml_backend.ingest.origins import Rule
from ml_backend.ingest.served import Folder
from ml_backend.loop import census, confirm, overview
from ml_backend.loop.collect import collect
from ml_backend.services import Services
from ml_backend.settings import Settings
from ml_backend.setup.label_configuration import render
from ml_backend.studio.configuration import Configuration
from ml_backend.studio.keys import DataKeys
from ml_backend.studio.payloads import choices_result, labels_of
from tests.installation import connected_settings, environment_of, exit_code, finish_of
from tests.studio_server import StudioServer

CONFIGURATION = Configuration.parse(render())
NAMES = CONFIGURATION.label_names
HEAD = ",".join(map(column, NAMES))
SHARED = Path(__file__).parents[3] / "shared" / "data"
"""The public clips with experts' labels, which may not be copied into the repository."""


@pytest.fixture
def settings(studio_server: StudioServer, tmp_path: Path, redis_url: str, monkeypatch: pytest.MonkeyPatch) -> Settings:
    settings = connected_settings(studio_server, tmp_path, redis_url=redis_url, evidence=False)
    for name, value in environment_of(settings).items():
        monkeypatch.setenv(name, value)
    return settings


@pytest.fixture
def services(settings: Settings) -> Services:
    return Services(settings)


@pytest.fixture
def project(services: Services, studio_server: StudioServer) -> int:
    """A project with two clips of three frames each."""
    number = services.studio.create_project("Labels", render())
    data = []
    for place in range(6):
        file = studio_server.files / f"labels-{number}-{place}.png"
        Image.fromarray(np.full((16, 16), 40 * place, np.uint8)).save(file)
        clip = f"P{place // 3}/clip.mp4"
        about = {"patient": f"P{place // 3}", "clip": clip, "frame": place % 3, "time": place % 3 / 2, "caption": clip}
        data.append({"image": f"/data/local-files/?d={file.name}", **about})
    services.studio.import_tasks(number, data)
    return number


@pytest.fixture
def tasks(services: Services, project: int) -> list[int]:
    return [task.id for task in services.studio.tasks(project)]


@pytest.fixture
def table(tmp_path: Path) -> Callable[..., Path]:
    def write(*lines: str, head: str = f"clip,frame,{HEAD},annotator,date", name: str = "older.csv") -> Path:
        path = tmp_path / name
        path.write_text("\n".join([head, *lines]), encoding="utf-8")
        return path

    return write


def labels_in(services: Services, project: int) -> dict[int, list[int]]:
    found = services.studio.confirmed_annotations(project)
    return {one.task: labels_of(one.result, CONFIGURATION)[0].tolist() for one in found}


def imported(project: int, *arguments: str | Path) -> int:
    return exit_code("import-labels", "--project", str(project), *map(str, arguments))


def test_each_row_becomes_an_annotation_that_says_where_it_comes_from(
    services: Services, project: int, tasks: list[int], table: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    path = table("P0/clip.mp4,0,yes,no,0,0,Dr A,2019-05-01", "P1/clip.mp4,2,0,1,TRUE,0,,", "P1/clip.mp4,1,0,0,0,0,,")
    assert imported(project, path, "--dry-run") == 0
    assert labels_in(services, project) == {}
    assert imported(project, path) == 0
    assert "TSAL_IMPORTED" in capsys.readouterr().out
    assert labels_in(services, project) == {tasks[0]: [1, 0, 0, 0], tasks[5]: [0, 1, 1, 0], tasks[4]: [0, 0, 0, 0]}
    origins = {one.task: one.imported for one in services.studio.confirmed_annotations(project)}
    first = origins[tasks[0]]
    assert first is not None
    assert (first.file, first.annotator, first.date) == ("older.csv", "Dr A", "2019-05-01")
    assert all(one is not None and one.file == "older.csv" and one.at.startswith("20") for one in origins.values())

    # Again: nothing twice, also with more rows.
    path.write_text(path.read_text() + "\nP0/clip.mp4,1,0,0,0,1,,")
    assert imported(project, path) == 0
    assert len(services.studio.confirmed_annotations(project)) == 4
    assert "already imported:        3" in capsys.readouterr().out


def test_what_is_answered_or_drawn_meanwhile_stays_as_it_is(
    services: Services, project: int, tasks: list[int], table: Callable[..., Path]
) -> None:
    path = table("P0/clip.mp4,0,1,0,0,0,,", "P0/clip.mp4,1,1,0,0,0,,", "P0/clip.mp4,2,1,0,0,0,,")
    keys = DataKeys.of(services.settings)
    planned = plan(services.studio, project, path, CONFIGURATION, keys, (), whole_clips=False)
    drawn: list[int] = []

    def meanwhile(done: int, of: int) -> None:
        if done == 1:
            services.studio.submit(tasks[1], [choices_result(np.array([0, 1, 0, 0], np.uint8), CONFIGURATION)])
            drawn.append(tasks[2])

    done = carry_out(services.studio, planned, CONFIGURATION, lambda: drawn, meanwhile)
    assert (set(done.rows), set(done.answered), set(done.audited)) == ({tasks[0]}, {tasks[1]}, {tasks[2]})
    assert labels_in(services, project) == {tasks[0]: [1, 0, 0, 0], tasks[1]: [0, 1, 0, 0]}
    assert len(services.studio.confirmed_annotations(project)) == 2


def test_bad_rows_cost_only_themselves(
    services: Services, project: int, tasks: list[int], table: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    path = table(
        "P0/clip.mp4,0,1,0,0,0,,",
        "P0/clip.mp4,7,1,0,0,0,,",  # no such frame
        "P0/clip.mp4,1,1,2,0,0,,",  # no such value
        "P0/clip.mp4,2,1,,0,0,,",  # not assessed
        "P1/clip.mp4,0,1,0,0,0,,",
        "P1/clip.mp4,0,0,1,0,0,,",  # contradicts it
        "P1/clip.mp4,,0,1,0,0,,",  # a whole clip
    )
    assert imported(project, path) == 1
    said = capsys.readouterr()
    named = [int(line.split("line ")[1].split()[0]) for line in said.err.splitlines() if "older.csv, line" in line]
    assert named == [3, 4, 6, 7, 8]
    assert "rows not assessed:       1" in said.out
    assert labels_in(services, project) == {tasks[0]: [1, 0, 0, 0]}
    assert imported(project, table("x,1", head="clip,a_line")) == 2


def test_a_row_of_a_clip_holds_for_its_frames_if_asked(
    services: Services, project: int, tasks: list[int], table: Callable[..., Path]
) -> None:
    path = table("P1/clip.mp4,0,0,0,1", head=f"file,{HEAD}")
    assert imported(project, path) == 1
    assert imported(project, path, "--whole-clips") == 0
    assert labels_in(services, project) == {task: [0, 0, 0, 1] for task in tasks[3:]}


def test_answers_of_people_and_open_audits_stay_alone(
    services: Services,
    project: int,
    tasks: list[int],
    table: Callable[..., Path],
    capsys: pytest.CaptureFixture[str],
) -> None:
    answer = [choices_result(np.array([0, 0, 0, 1], np.uint8), CONFIGURATION)]
    services.studio.submit(tasks[0], answer, lead_time=3.0)
    services.finishes(project).save(finish_of((tasks[1],), symptoms=NAMES))
    path = table("P0/clip.mp4,1,0,0,0", head=f"file,{HEAD}")
    assert imported(project, path, "--whole-clips") == 0
    assert labels_in(services, project) == {tasks[0]: [0, 0, 0, 1], tasks[2]: [1, 0, 0, 0]}
    said = capsys.readouterr().out
    assert "have another annotation: 1" in said
    assert "asked in an open audit:  1" in said


class TestTeaching:
    @pytest.fixture
    def three(self, services: Services, project: int, tasks: list[int], table: Callable[..., Path]) -> list[int]:
        """The first three frames have imported labels, the fourth that of a person."""
        assert imported(project, table("P0/clip.mp4,1,0,0,0", head=f"file,{HEAD}"), "--whole-clips") == 0
        answer = [choices_result(np.array([0, 1, 0, 0], np.uint8), CONFIGURATION)]
        services.studio.submit(tasks[3], answer, lead_time=3.0)
        return tasks

    def test_the_team_decides_whether_they_teach(
        self, services: Services, settings: Settings, project: int, three: list[int]
    ) -> None:
        apart = collect(services, project, CONFIGURATION)
        assert [one.annotation.task for one in apart.labelled] == [three[3]]
        assert {len(numbers) for why, numbers in apart.left_out.items() if "imported" in why} == {3}
        teach = Services(settings.model_copy(update={"imported": "train"}))
        assert [one.annotation.task for one in collect(teach, project, CONFIGURATION).labelled] == three[:4]

    def test_a_webhook_is_told_apart_too(
        self, services: Services, settings: Settings, project: int, three: list[int]
    ) -> None:
        for one in services.studio.confirmed_annotations(project):
            sent = {"annotation": {"id": one.id, "task": one.task, "result": list(one.result)}}
            confirm.record(services, project, "ANNOTATION_CREATED", sent)
        assert services.pending(project).tasks() == {three[3]}
        teach = Services(settings.model_copy(update={"imported": "train"}))
        for one in services.studio.confirmed_annotations(project):
            sent = {"annotation": {"id": one.id, "task": one.task, "result": list(one.result)}}
            confirm.record(teach, project, "ANNOTATION_CREATED", sent)
        assert services.pending(project).tasks() == set(three[:4])

    @pytest.mark.parametrize("taught", ["keep apart", "train"])
    def test_export_and_page_say_where_they_come_from(
        self, settings: Settings, project: int, three: list[int], taught: str
    ) -> None:
        made = Services(settings.model_copy(update={"imported": taught}))
        labels = gather(made, project).material.labels
        assert [(labels[task].source, labels[task].method) for task in three[:4]] == [
            *[("imported", "older.csv")] * 3,
            ("person", ""),
        ]
        assert labels[three[0]].symptoms == (1, 0, 0, 0)
        answers = census.answered(made, project, CONFIGURATION)
        found = census.count(made, project, answers, None)
        assert [one.source for one in found.frames[:5]] == [*["imported"] * 3, "person", "not yet"]
        assert found.frames[0].label == NAMES[0]
        standing = overview.write(made, project, None).standing
        assert (standing.people, standing.imported, standing.left) == (1, 3, 2)

    def test_nobody_is_said_to_have_answered_them(self, services: Services, project: int, three: list[int]) -> None:
        (person,) = overview.write(services, project, None).people
        assert person.answers == 1

    def test_who_updates_one_answers_it(
        self, services: Services, studio_server: StudioServer, project: int, three: list[int]
    ) -> None:
        """The browser sends the result without what it does not know: the origin goes, and the answer is a person's."""
        one = next(one for one in services.studio.confirmed_annotations(project) if one.task == three[0])
        sent = [{name: value for name, value in item.items() if name != "tsal"} for item in one.result]
        with httpx.Client(headers={"Authorization": f"Token {studio_server.token}"}, timeout=60) as api:
            address = f"{studio_server.url}/api/annotations/{one.id}/"
            api.patch(address, json={"result": sent, "lead_time": 4.0}).raise_for_status()
        assert three[0] in {one.annotation.task for one in collect(services, project, CONFIGURATION).labelled}


@pytest.fixture
def clips(services: Services, studio_server: StudioServer, tmp_path: Path) -> Callable[..., int]:
    """Import files of real clips into a project of these symptoms."""

    def bring(files: list[Path], symptoms: list[str]) -> int:
        project = services.studio.create_project("Real clips", render(symptoms=symptoms))
        importer = Importer(
            services.studio,
            project,
            Folder(studio_server.files / f"real-{project}", studio_server.files),
            data_dir=services.settings.data_dir,
            rule=Rule(),
        )
        assert importer.run(files).imported
        return project

    return bring


@pytest.mark.parametrize(
    ("named", "files", "symptoms"),
    [
        ("pocus", 4, ["A-line", "B-line", "Pleural lesion", "Pleural effusion"]),
        ("blues", 3, ["A-line", "B-line", "Pleural lesion"]),
    ],
    ids=["pocus", "blues"],
)
def test_the_labels_of_experts(
    services: Services, clips: Callable[..., int], named: str, files: int, symptoms: list[str]
) -> None:
    folder = SHARED / named
    if not (folder / "clips.csv").is_file():
        pytest.skip(f"no labelled clips in {folder}")

    with (folder / "clips.csv").open(encoding="utf-8") as table:
        rows = list(csv.DictReader(table))
    labelled, others = ([row for row in rows if row["labelled"] == flag] for flag in "10")
    wanted = labelled[:files] + others[:1]
    project = clips([folder / "clips" / row["file"] for row in wanted], symptoms)
    # The table has rows of clips that were not imported: they are named, and the others count.
    assert imported(project, folder / "clips.csv", "--whole-clips") == 1
    truth = {row["file"]: [int(row[column(name)]) for name in symptoms] for row in wanted if row["labelled"] == "1"}
    configuration = Configuration.parse(services.studio.project(project).label_config)
    found = services.studio.confirmed_annotations(project)
    assert {Path(str(one.data["clip"])).name for one in found} == set(truth)
    for one in found:
        assert labels_of(one.result, configuration)[0].tolist() == truth[Path(str(one.data["clip"])).name]
    assert len(found) == len({one.task for one in found}) > files
