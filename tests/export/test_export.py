"""An export of a project: which frames and labels it has, and what it says of them."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pandas as pd
import pytest

from ml_backend.errors import BackendError, InvalidRequest
from ml_backend.export.export import formats_of
from ml_backend.export.rows import Label, Row
from ml_backend.loop import finish as finishing
from ml_backend.services import Services
from ml_backend.store.finishes import Finish
from ml_backend.store.orders import WORDS
from ml_backend.studio.configuration import Configuration
from ml_backend.studio.payloads import Prediction, prediction_payload
from tests.export.projects import AT, HOLD_OUT, PART_OF, SEED, answer, content, exported, of_patients, patient
from tests.installation import CONFIGURATION, NO_ANSWER, PROJECT, XML, exit_code, manifest_of, one_line, task_with_frame
from tests.installation import write_no_weights as no_weights
from tests.loop.test_finish import advanced, begun
from tests.loop.test_finish import answer as answer_audit
from tests.loop.test_imported import bring
from tests.loop.test_order import TASKS, Installation, folder, installed, lose, predictor, refreshed, studio
from tests.loop.test_remember import A, B
from tests.studio_stand_in import one_thread

__all__ = ["folder", "installed", "one_thread", "predictor", "studio"]
EVERY = ("csv", "parquet", "coco", "imagefolder")


def labelled(installed: Installation) -> Services:
    """People answered six frames, the machine ticked the others, and one of those was accepted unseen."""
    made = of_patients(installed)
    for task in TASKS[:6]:
        answer(installed, task, B if task % 2 else A, by=1 + task % 2)
    refreshed(made)
    answer(installed, TASKS[6], B, by=3, accepted_unseen=True)
    return made


def certified(installed: Installation) -> tuple[Services, Finish]:
    """A pool with a certificate."""
    of_patients(installed)
    made, finish = begun(installed, hold_out=HOLD_OUT, seed=SEED)
    answer_audit(installed, finish)
    return made, advanced(made)


def by_task(rows: tuple[Row, ...]) -> dict[int, Row]:
    return {one.task: one for one in rows}


def test_every_frame_comes_with_its_label_and_where_that_is_from(installed: Installation, tmp_path: Path) -> None:
    made = labelled(installed)
    number = answer(installed, TASKS[7], B, by=3, accepted_unseen=True)
    audit = {"confidence": 0.87654, "source": "network"}
    told = Prediction(TASKS[7], B, 0.5, f"{WORDS}msml-0003-0a1b2c3d.2", audit)  # type: ignore[arg-type]
    installed.studio.shown[number] = prediction_payload(told, CONFIGURATION)
    order = made.orders(PROJECT).current()
    assert order is not None
    assert order.told is not None
    rows = by_task(exported(made, tmp_path / "out").rows.rows)
    assert sorted(rows) == list(TASKS)
    for task in TASKS[:6]:
        said, user = tuple(B if task % 2 else A), 1 + task % 2
        assert rows[task].label == Label(said, "person", user=user, at=AT)
    assert rows[TASKS[6]].label == Label((0, 1, 0), "accepted unseen", user=3, at=AT)
    assert rows[TASKS[7]].label == Label(
        (0, 1, 0), "accepted unseen", "network", 3, AT, confidence=0.8765, version="msml-0003-0a1b2c3d"
    )
    for task, labels, confidence in zip(order.tasks.tolist(), order.told.labels, order.told.confidence, strict=True):
        if task in TASKS[8:]:
            one = rows[task].label
            assert (one.symptoms, one.source, one.method) == (tuple(labels.tolist()), "machine", "memory")
            assert one.confidence == pytest.approx(float(confidence), abs=1e-4)
            assert (one.at, one.user, one.version) == (order.about.created_at, None, "")
    assert rows[3].time == 1.5
    assert rows[2].patient == rows[3].patient != rows[4].patient
    assert rows[2].clip == rows[3].clip != rows[4].clip
    assert rows[2].annotator == rows[4].annotator not in ("", rows[3].annotator)


def test_a_networks_labels_name_its_version(installed: Installation, tmp_path: Path) -> None:
    manifest = installed.version()
    made = installed.services()
    refreshed(made)
    rows = exported(made, tmp_path / "out").rows.rows
    assert {one.label.version for one in rows} == {manifest.version}
    assert {one.label.method for one in rows} <= {"network", "table"}


def test_patients_are_split_as_the_project_holds_them_out(installed: Installation, tmp_path: Path) -> None:
    made = labelled(installed)
    before = by_task(exported(made, tmp_path / "out").rows.rows)
    assert {task: before[task].split for task in TASKS} == {task: PART_OF[task // 2] for task in TASKS}
    for task in range(20, 40):
        data = task_with_frame(installed.folder, task, patient=f"Other{task}")["data"]
        installed.studio.task_data[task] = data
        answer(installed, task, A)
    after = by_task(exported(made, tmp_path / "out").rows.rows)
    assert {task: after[task].split for task in TASKS} == {task: PART_OF[task // 2] for task in TASKS}
    assert {after[task].split for task in range(20, 40)} == {"train", "validation", "test"}


def test_only_what_people_confirmed(installed: Installation, tmp_path: Path) -> None:
    dataset = exported(labelled(installed), tmp_path / "out", only="people")
    assert [one.task for one in dataset.rows.rows] == list(TASKS[:6])
    assert sum(dataset.rows.left_out.values()) == len(TASKS) - 6


def test_what_does_not_count_is_left_out_and_counted(installed: Installation, tmp_path: Path) -> None:
    made = of_patients(installed, disagreement="leave out", k_max=8, audit=0.5)
    answer(installed, 1, A)
    lose(installed.studio, 2)
    refreshed(made)
    audit = sorted(made.audits(PROJECT).tasks())
    free = [task for task in TASKS[2:] if task not in audit]
    answer(installed, free[0], A, result=[NO_ANSWER])
    answer(installed, free[1], A, by=1)
    answer(installed, free[1], B, by=2)
    answer(installed, audit[0], B)
    answer(installed, audit[1], B, accepted_unseen=True)
    dataset = exported(made, tmp_path / "out")
    rows = by_task(dataset.rows.rows)
    assert sorted(rows) == sorted({1, audit[0], *free[2:]})
    assert rows[audit[0]].audited
    assert not rows[1].audited
    assert sorted(dataset.rows.left_out.values()) == [1, 1, 1, len(audit) - 1]


def test_a_symptom_that_was_added_later_is_not_known(installed: Installation, tmp_path: Path) -> None:
    made = of_patients(installed)
    answer(installed, 1, A)
    answer(installed, 2, B, accepted_unseen=True)
    refreshed(made)
    made.symptoms(PROJECT).note(CONFIGURATION.label_names, CONFIGURATION.label_names)
    installed.studio.xml = XML.replace("</Choices>", '<Choice value="C-line"/></Choices>')
    rows = by_task(exported(made, tmp_path / "out", "csv", "coco").rows.rows)
    assert {one.label.source for one in rows.values()} == {"person", "accepted unseen", "machine"}
    assert {one.label.symptoms[3] for one in rows.values()} == {None}
    assert None not in {told for one in rows.values() for told in one.label.symptoms[:3]}
    table = pd.read_csv(tmp_path / "out" / "labels.csv")
    assert table["label_C-line"].isna().all()
    image = json.loads((tmp_path / "out" / "coco" / "train.json").read_text())["images"][0]
    assert image["unknown_category_ids"] == [4]
    assert Configuration.parse(installed.studio.xml).label_names[3] == "C-line"


def test_a_certificate_covers_what_people_answered_and_what_it_lets_stand(
    installed: Installation, tmp_path: Path
) -> None:
    made, finish = certified(installed)
    late = next(task for task in reversed(TASKS) if task not in finish.drawn)
    answer(installed, late, B)
    rows = by_task(exported(made, tmp_path / "out", only="certified").rows.rows)
    machine = made.finishes(PROJECT).rows(finish)
    assert machine.kept.any()
    assert sorted(rows) == list(TASKS)
    assert {one.label.certificate for one in rows.values()} == {1}
    assert rows[late].label.source == "person"
    assert [task for task in rows if rows[task].audited] == sorted(finish.drawn)
    for task, labels, unsure in zip(machine.tasks.tolist(), machine.labels, machine.uncertainty, strict=True):
        if task not in (*finish.drawn, late):
            one = rows[task].label
            assert (one.source, one.method, one.symptoms) == ("machine", "memory", tuple(labels.tolist()))
            assert one.confidence == pytest.approx(1 - unsure, abs=1e-4)
            assert one.at == finish.drawn_at


def test_what_a_certificate_does_not_cover_is_not_certified(installed: Installation, tmp_path: Path) -> None:
    of_patients(installed)
    made, finish = begun(installed, hold_out=HOLD_OUT, seed=SEED)
    answer_audit(installed, finish, B)
    done = advanced(made)
    rows = made.finishes(PROJECT).rows(done)
    asked = set(rows.tasks[~rows.kept].tolist()) - set(done.drawn)
    assert asked
    found = by_task(exported(made, tmp_path / "out", only="certified").rows.rows)
    assert set(found) == set(TASKS) - asked
    everything = by_task(exported(made, tmp_path / "out").rows.rows)
    assert {task for task, one in everything.items() if one.label.certificate is None} == asked


def test_an_answer_to_a_frame_outside_of_the_pool_is_not_certified(installed: Installation, tmp_path: Path) -> None:
    outside = TASKS[5]
    of_patients(installed)
    answer(installed, outside, B, accepted_unseen=True)
    made, finish = begun(installed, hold_out=HOLD_OUT, seed=SEED)
    assert finish.outside == (outside,)
    answer_audit(installed, finish)
    assert advanced(made).state == "certified"
    answer(installed, outside, B, by=2)
    assert outside not in by_task(exported(made, tmp_path / "out", only="certified").rows.rows)
    label = by_task(exported(made, tmp_path / "out").rows.rows)[outside].label
    assert (label.source, label.certificate) == ("person", None)


def test_a_kept_label_that_was_accepted_unseen_is_still_the_certified_one(
    installed: Installation, tmp_path: Path
) -> None:
    made, finish = certified(installed)
    rows = made.finishes(PROJECT).rows(finish)
    kept = int(rows.tasks[rows.kept][0])
    answer(installed, kept, B, accepted_unseen=True)
    label = by_task(exported(made, tmp_path / "out").rows.rows)[kept].label
    assert (label.source, label.certificate) == ("machine", 1)
    assert label.symptoms == tuple(rows.labels[rows.tasks == kept][0].tolist())


def test_an_imported_label_takes_no_certificate_over(installed: Installation, tmp_path: Path) -> None:
    made, finish = certified(installed)
    made.settings = made.settings.model_copy(update={"imported": "train"})
    rows = made.finishes(PROJECT).rows(finish)
    kept = int(rows.tasks[rows.kept][0])
    bring(installed, kept, B)
    label = by_task(exported(made, tmp_path / "out", only="all").rows.rows)[kept].label
    assert (label.source, label.certificate) == ("machine", 1)


def test_without_a_valid_certificate_nothing_is_certified(installed: Installation, tmp_path: Path) -> None:
    made, finish = certified(installed)
    change = next(one.id for one in installed.studio.annotations if one.task == finish.drawn[0])
    installed.studio.change(change, B, "later")  # and nobody has looked at the certificate since
    with pytest.raises(InvalidRequest):
        exported(made, tmp_path / "out", only="certified")
    assert {one.label.certificate for one in exported(made, tmp_path / "out").rows.rows} == {None}
    newest = made.finishes(PROJECT).newest()
    assert newest is not None
    assert newest.state == "certified"  # an export only reads


def test_an_open_finish_certifies_nothing(installed: Installation, tmp_path: Path) -> None:
    of_patients(installed)
    made, finish = begun(installed)
    with pytest.raises(InvalidRequest):
        exported(made, tmp_path / "out", only="certified")
    rows = by_task(exported(made, tmp_path / "out").rows.rows)
    assert set(rows) == set(TASKS) - set(finish.drawn)
    assert finishing.asks(made, PROJECT, finish)


def test_the_same_state_gives_the_same_bytes(installed: Installation, tmp_path: Path) -> None:
    made, _ = certified(installed)
    exported(made, tmp_path / "one", *EVERY)
    again = installed.services(hold_out=HOLD_OUT, seed=SEED)
    exported(again, tmp_path / "other", *EVERY)
    first = content(tmp_path / "one")
    assert len(first) > len(TASKS)
    assert content(tmp_path / "other") == first
    exported(made, tmp_path / "one", *EVERY)
    assert content(tmp_path / "one") == first


def test_nobody_is_named(installed: Installation, tmp_path: Path) -> None:
    made = labelled(installed)
    installed.studio.names = {1: "Ada Anno", 2: "Bea Anno"}
    exported(made, tmp_path / "out", *EVERY)
    files = content(tmp_path / "out")
    for task in TASKS:
        for name in (patient(task), "sweep", "ada anno"):
            assert name.lower() not in " ".join(files).lower()
            assert not any(name.lower().encode() in one.lower() for one in files.values())
    rows = by_task(exported(made, tmp_path / "out", names=True, as_in_tasks=True).rows.rows)
    assert (rows[2].annotator, rows[3].annotator) == ("Ada Anno", "Bea Anno")
    assert (rows[2].patient, rows[2].clip) == ("Muster1", "Muster1/Sweep.mp4")
    hiding = installed.services(hide_names=True)
    with pytest.raises(InvalidRequest):
        exported(hiding, tmp_path / "out", names=True)


def test_pseudonyms_are_the_installations_own(installed: Installation, tmp_path: Path) -> None:
    made = labelled(installed)
    before = by_task(exported(made, tmp_path / "out").rows.rows)
    (installed.data / "export-key").write_bytes(bytes(32))
    after = by_task(exported(made, tmp_path / "out").rows.rows)
    assert all(before[task].patient != after[task].patient for task in TASKS)
    (installed.data / "export-key").write_bytes(b"short")
    with pytest.raises(BackendError):
        exported(made, tmp_path / "out")


def test_pictures_are_referred_to_by_addresses_that_name_nobody(installed: Installation, tmp_path: Path) -> None:
    made = labelled(installed)
    image = {"image": "https://reader:secret@frames.example/a.png?signature=secret"}
    installed.studio.task_data[1] = {**installed.studio.task_data[1], **image}
    rows = by_task(exported(made, tmp_path / "out", copied=False).rows.rows)
    assert rows[1].image == "https://frames.example/a.png"
    assert rows[2].image == "/data/local-files/?d=2.png"
    assert not (tmp_path / "out" / "frames").exists()
    installed.studio.task_data[1] = {**installed.studio.task_data[1], "image": "/data/local-files/?d=muster0%2F1.png"}
    with pytest.raises(InvalidRequest):
        exported(made, tmp_path / "out", copied=False)
    rows = by_task(exported(made, tmp_path / "out", copied=False, as_in_tasks=True).rows.rows)
    assert rows[1].image == "/data/local-files/?d=muster0%2F1.png"
    with pytest.raises(InvalidRequest):
        exported(made, tmp_path / "out", "imagefolder", copied=False)


def test_a_picture_that_cannot_be_read_costs_only_itself(installed: Installation, tmp_path: Path) -> None:
    made = labelled(installed)
    lose(installed.studio, 2)
    for copied in (True, False):
        dataset = exported(made, tmp_path / "out", "coco", only="people", copied=copied)
        assert [one.task for one in dataset.rows.rows] == [1, 3, 4, 5, 6]
        assert 1 in dataset.rows.left_out.values()


def test_the_card_says_what_is_in_it(installed: Installation, tmp_path: Path) -> None:
    made = labelled(installed)
    for task, labels in ((1, B), (2, A), (3, A)):
        answer(installed, task, labels, by=7)
    manifest = manifest_of(trained_on=(), held_out=())
    seen = manifest.model_copy(update={"trained_on": tuple(manifest_of(5).trained_on)})
    version = made.versions(PROJECT).create(seen, no_weights).version
    made.versions(PROJECT).activate(version, by="a test")
    exported(made, tmp_path / "out", licence="CC BY 4.0")
    card = (tmp_path / "out" / "README.md").read_text()
    assert "## Licence\n\nCC BY 4.0\n" in card
    assert "| train | 7 | 4 | 4 | 3 | 0 | 1 | 3 | 0 | 0 |" in card  # tasks 2, 3, 6, 7, 12, 13, 14
    assert "| all | 14 | 8 | 8 | 6 | 0 | 1 | 7 | 0 | 0 |" in card
    assert "| A-line | 3 | 0.444 |" in card
    assert f"{version} was trained on 3 frames of the test part" in card  # of tasks 1 to 5
    mark = json.loads((tmp_path / "out" / "export.json").read_text())
    assert (mark["frames"], mark["seed"], mark["version"]) == (14, SEED, version)


def test_the_card_has_the_certificate_and_the_audit(installed: Installation, tmp_path: Path) -> None:
    made, finish = certified(installed)
    exported(made, tmp_path / "out")
    card = (tmp_path / "out" / "README.md").read_text()
    assert "Certificate 1" in card
    assert finish.outcome is not None
    assert f"at most {finish.outcome.at_most_wrong} of the {finish.pool} frames" in card
    assert f"{len(finish.drawn)} of {len(finish.drawn)}" in card
    assert "_to be filled in_" in card


def test_formats_are_named_one_by_one_or_with_commas() -> None:
    assert formats_of(["coco, csv", "CSV", "parquet"]) == ("csv", "parquet", "coco")
    with pytest.raises(InvalidRequest):
        formats_of(["csv,xml"])


def test_a_folder_that_may_not_be_written_is_refused_before_anything_is_read(
    installed: Installation, tmp_path: Path
) -> None:
    made = labelled(installed)
    (tmp_path / "mine").write_text("notes")
    listed = installed.studio.listed
    with pytest.raises(InvalidRequest):
        exported(made, tmp_path)
    assert installed.studio.listed == listed


def test_without_pyarrow_parquet_is_refused_before_anything_is_done(
    installed: Installation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = labelled(installed)
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    for name in ("parquet", "imagefolder"):
        with pytest.raises(BackendError) as caught:
            exported(made, tmp_path / "out", name)
        assert caught.value.exit_code == 3
    assert not (tmp_path / "out").exists()
    exported(made, tmp_path / "out", "csv", "coco")


def test_the_command(
    installed: Installation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    made = labelled(installed)
    made.folder(PROJECT).mkdir(parents=True, exist_ok=True)
    monkeypatch.setattr("ml_backend.services.Services", lambda settings: made)
    to = str(tmp_path / "out")
    assert exit_code("export", "--to", to, "--format", "csv,coco", "--format", "parquet") == 0
    assert "6 frames (3 train, 0 validation, 3 test)" in capsys.readouterr().out
    assert {path.name for path in (tmp_path / "out").iterdir()} >= {"labels.csv", "labels.parquet", "coco", "frames"}
    assert exit_code("export", "--project", str(PROJECT), "--to", to, "--format", "xml") == 2
    one_line(capsys)
    lose(installed.studio, 3)
    assert exit_code("export", "--project", str(PROJECT), "--to", to, "--only", "all", "--frames", "copy") == 1
    assert "task 3" in capsys.readouterr().err
    assert len(pd.read_csv(tmp_path / "out" / "labels.csv")) == len(TASKS) - 1
