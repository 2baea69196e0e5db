"""What is interrupted beside a real Label Studio leaves everything right, and Label Studio goes back to how it was."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from soak.crash.label_studio import running_label_studio
from soak.crash.laws import IN_THE_END, broken
from soak.crash.operations import OPERATIONS
from soak.crash.run import tried
from soak.crash.worlds import World, world_beside


@pytest.fixture(scope="module")
def world(label_studio_on_postgresql: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("crash")
    with running_label_studio(folder) as studio, world_beside(studio, folder) as running:
        yield running


def test_no_law_is_broken(world: World) -> None:
    (operation,) = [one for one in OPERATIONS if one.name == "memory refresh"]
    result = tried(operation, world, 1, 0)
    assert result.broken == []
    assert result.tried == 1


def test_label_studio_goes_back_to_how_it_was(world: World) -> None:
    before, taken = world.project, world.studio.take("before it goes back")
    (task,) = world.annotate(1)
    assert len(world.project.of(task)) == 1
    assert world.project.locks != before.locks or world.project.annotations != before.annotations
    world.studio.put(taken)
    after = world.project
    assert (after.annotations, after.locks, after.predictions) == (before.annotations, before.locks, before.predictions)
    assert world.annotate(1) == [task]
    world.studio.put(taken)  # nothing looks at the answer here


def test_laws_see_what_is_wrong_in_the_database(world: World) -> None:
    taken, project = world.studio.take("before it is broken"), world.project
    open_task = next(task for task in project.tasks if not project.of(task))
    shown = project.shown_prediction(open_task)
    assert shown is not None
    world.services.studio.import_predictions(
        world.number,
        [{"task": open_task, "model_version": shown.model_version, "score": shown.score, "result": shown.result}],
    )
    assert [one for one in broken(world, IN_THE_END) if one.startswith("served_whole: ")] == [
        f"served_whole: task {open_task} has 2 predictions of {shown.model_version}"
    ]
    world.studio.put(taken)
    assert broken(world, IN_THE_END) == []
