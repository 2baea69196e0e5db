"""Interrupted operations leave everything right, and the harness notices where they would not."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

from ml_backend.loop import push, queue
from ml_backend.services import Services
from ml_backend.store import activations
from ml_backend.store.orders import Order
from ml_backend.studio.configuration import Configuration
from ml_backend.studio.payloads import Prediction
from soak.crash import deeds
from soak.crash.operations import DUE, OPERATIONS, TRAINED, Operation
from soak.crash.processes import Blow
from soak.crash.run import Trial, tried
from soak.crash.worlds import World, running_world

POINTS = 1
"""Points of each operation that are tried here; `make soak` tries all."""
SEED = 0


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with running_world(tmp_path_factory.mktemp("crash")) as running:
        yield running


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda one: one.name)
def test_no_law_is_broken_wherever_an_operation_ends(world: World, operation: Operation) -> None:
    result = tried(operation, world, POINTS, SEED)
    assert result.broken == []
    assert result.tried == POINTS


def work_in_place(services: Services, project: int) -> None:
    """Do the jobs that are due, and overwrite the name of the active version in place."""

    def write(path: Path, text: str) -> None:
        path.write_text(text)

    vars(activations)["write_aside"] = write  # the process ends after this
    deeds.work(services, project)


def refresh_in_halves(services: Services, project: int) -> None:
    """Put the queue in order, but let Label Studio serve it when only half of it is there."""

    def serve(
        services: Services, project: int, order: Order, predictions: Iterable[Prediction], configuration: Configuration
    ) -> None:
        sent = list(push.checked(predictions, configuration, project))
        services.studio.import_predictions(project, sent[: len(sent) // 2])
        services.studio.update_project(project, model_version=order.about.name, sampling=push.SAMPLING)
        services.studio.import_predictions(project, sent[len(sent) // 2 :])
        services.orders(project).activate(order.about.name)

    vars(queue)["serve"] = serve
    deeds.refresh(services, project)


@pytest.mark.parametrize(
    ("operation", "blow", "law"),
    [
        (
            Operation("in place", DUE, work_in_place),
            Blow("open data/projects/#/active in store.activations:point", 1, "torn"),
            "versions_whole",
        ),
        (
            Operation("in halves", TRAINED, refresh_in_halves),
            Blow("studio POST /api/projects/#/import/predictions in studio.predictions:<lambda>", 2, "kill"),
            "served_whole",
        ),
    ],
    ids=lambda one: one.name if isinstance(one, Operation) else None,
)
def test_a_product_that_is_broken_is_found_out(world: World, operation: Operation, blow: Blow, law: str) -> None:
    problems = Trial(operation, world).strike(blow)
    assert problems is not None
    assert any(law in one for one in problems)


def test_a_point_that_is_never_reached_is_missed(world: World) -> None:
    (operation,) = [one for one in OPERATIONS if one.name == "finish: given up"]
    assert Trial(operation, world).strike(Blow("nothing", 1, "kill")) is None
