from __future__ import annotations

from pathlib import Path

import pytest

from ml_backend.errors import InvalidRequest
from ml_backend.ingest.labels.frames import Frames, labels_of_frames
from ml_backend.ingest.labels.table import LabelRow, LabelTable, read_label_table
from ml_backend.studio.keys import DataKeys
from ml_backend.studio.tasks import Task

SYMPTOMS = [("A-line", "A-line"), ("B-line", "b")]


def read(folder: Path, *lines: str) -> LabelTable:
    (folder / "labels.csv").write_text("\n".join(lines), encoding="utf-8")
    return read_label_table(folder / "labels.csv", SYMPTOMS)


class TestTable:
    def test_every_way_to_write_yes_and_no(self, tmp_path: Path) -> None:
        pairs = {"1": 1, "0": 0, "yes": 1, "No": 0, "TRUE": 1, "false": 0, " 1 ": 1}
        table = read(tmp_path, "file,a_line,b_line", *(f"{place}.png,{said},0" for place, said in enumerate(pairs)))
        assert [row.labels for row in table.rows] == [(said, 0) for said in pairs.values()]
        assert table.problems == {}

    @pytest.mark.parametrize("head", ["image;A-line;B-line", "image;a_line;B", "IMAGE ; a line; b"])
    def test_columns_are_called_by_name_or_stored_value(self, tmp_path: Path, head: str) -> None:
        assert read(tmp_path, head, "x.png;0;1").rows == (LabelRow(2, "x.png", (0, 1)),)

    def test_everything_that_a_row_may_say(self, tmp_path: Path) -> None:
        table = read(
            tmp_path,
            "clip,frame,time,a_line,b_line,annotator,date,severity,comment",
            "P1/a.mp4,3,,1,0,Dr A,2019-05-01,2,hm",
            "P1\\b.mp4,,1.5,0,1,,,,",
        )
        assert table.rows == (
            LabelRow(2, "P1/a.mp4", (1, 0), frame=3, annotator="Dr A", date="2019-05-01"),
            LabelRow(3, "P1/b.mp4", (0, 1), time=1.5),
        )
        assert table.ignored == ("severity", "comment")

    def test_the_first_name_that_has_a_value_counts(self, tmp_path: Path) -> None:
        table = read(tmp_path, "clip,file,image,a_line,b_line", "c,f,i,0,0", "c,f,,0,0", "c,,,0,0")
        assert [row.name for row in table.rows] == ["i", "f", "c"]

    def test_what_was_not_assessed_is_counted_and_is_no_label(self, tmp_path: Path) -> None:
        table = read(tmp_path, "file,labelled,a_line,b_line", "a,1,1,", "b,1,,", "c,0,0,0", "d,,0,1", "e,1,0")
        assert ([row.name for row in table.rows], table.not_assessed, table.problems) == (["d"], 4, {})

    def test_a_bad_row_costs_only_itself(self, tmp_path: Path) -> None:
        table = read(
            tmp_path,
            "clip,frame,time,a_line,b_line",
            "a,,,1,maybe",
            ",,,1,1",
            "a,x,,1,1",
            "a,,soon,1,1",
            "a,,nan,1,1",
            "a,,,1,1,1",
            "a,-1,,1,1",
            "a,1,,1,1",
        )
        assert [row.line for row in table.rows] == [9]
        assert sorted(table.problems) == [2, 3, 4, 5, 6, 7, 8]
        assert "maybe" in table.problems[2]

    @pytest.mark.parametrize("head", ["file,a_line", "a_line,b_line", "", "file"])
    def test_a_missing_column_is_refused(self, tmp_path: Path, head: str) -> None:
        with pytest.raises(InvalidRequest, match=r"labels\.csv lacks"):
            read(tmp_path, head, "x,1,0")

    def test_a_column_that_is_there_twice_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(InvalidRequest, match="twice"):
            read(tmp_path, "file,a_line,A-line,b_line", "x,1,0,0")


def task(number: int, **data: object) -> Task:
    return Task(number, {"image": f"/data/local-files/?d=frames/{number}.png", **data})


TASKS = [
    *(task(number, clip="P1/a.mp4", source="clips/a.mp4", frame=number, time=number / 3) for number in range(1, 4)),
    task(4, clip="P2/a.mp4", frame=1, time=0.0),
    task(5, clip="P3/single.png"),
    task(6),
]
FRAMES = Frames(TASKS, "image", DataKeys())


def row(name: str, labels: tuple[int, ...] = (1, 0), line: int = 2, **place: float) -> LabelRow:
    return LabelRow(line, name, labels, **place)  # type: ignore[arg-type]


class TestFrames:
    @pytest.mark.parametrize(
        ("asked", "found"),
        [
            (row("/data/local-files/?d=frames/6.png"), [6]),
            (row("frames/2.png"), [2]),
            (row("3.png"), [3]),
            (row("P1/a.mp4", frame=2), [2]),
            (row("P1/a.mp4", time=0.33), [1]),
            (row("clips/a.mp4", frame=3), [3]),
            (row("P3/single.png"), [5]),
            (row("single.png"), [5]),
        ],
    )
    def test_a_frame_is_found_by_what_a_table_calls_it(self, asked: LabelRow, found: list[int]) -> None:
        assert FRAMES.of(asked, whole_clips=False) == found

    @pytest.mark.parametrize(
        ("asked", "why"),
        [
            (row("nowhere.mp4"), "no picture"),
            (row("a.mp4", frame=1), "2 clips"),
            (row("P1/a.mp4", frame=9), "frame 9"),
            (row("P1/a.mp4", time=0.5), "no frame"),
            (row("P3/single.png", time=0.0), "no frame"),
            (row("P1/a.mp4"), "--whole-clips"),
        ],
    )
    def test_what_is_not_there_or_not_clear(self, asked: LabelRow, why: str) -> None:
        with pytest.raises(ValueError, match=why):
            FRAMES.of(asked, whole_clips=False)

    def test_a_picture_of_several_tasks_is_not_clear(self) -> None:
        frames = Frames([task(1), Task(2, task(1).data)], "image", DataKeys())
        with pytest.raises(ValueError, match="2 tasks"):
            frames.of(row("1.png"), whole_clips=False)

    def test_a_whole_clip_only_if_asked(self) -> None:
        assert FRAMES.of(row("P1/a.mp4"), whole_clips=True) == [1, 2, 3]

    def test_the_keys_are_the_teams(self) -> None:
        frames = Frames([Task(1, {"img": "x.png", "video": "v", "t": 2})], "img", DataKeys("p", "video", "t"))
        assert frames.of(row("v", time=2.0), whole_clips=False) == [1]


class TestLabels:
    def test_contradictions_cost_only_themselves(self) -> None:
        rows = [
            row("1.png", (1, 0), 2),
            row("1.png", (0, 1), 3),
            row("2.png", (1, 0), 4),
            row("2.png", (1, 0), 5),
            row("nowhere", (1, 0), 6),
        ]
        labels = labels_of_frames(rows, FRAMES, whole_clips=False)
        assert {number: one.line for number, one in labels.rows.items()} == {2: 4}
        assert sorted(labels.problems) == [2, 3, 6]
        assert "line 3" in labels.problems[2]

    def test_a_frame_counts_before_its_clip(self) -> None:
        rows = [row("P1/a.mp4", (1, 0), 2), row("2.png", (0, 1), 3)]
        labels = labels_of_frames(rows, FRAMES, whole_clips=True)
        assert {number: one.line for number, one in labels.rows.items()} == {1: 2, 2: 3, 3: 2}
        assert labels.problems == {}

    def test_a_clip_that_is_contradicted_labels_none_of_its_frames(self) -> None:
        rows = [row("P1/a.mp4", (1, 0), 2), row("clips/a.mp4", (0, 1), 3)]
        assert labels_of_frames(rows, FRAMES, whole_clips=True).rows == {}
