"""The end of an unattended demo: the pool finished with a guarantee, and how right all its labels are."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ml_backend.errors import NotEnoughLabels
from ml_backend.loop import finish as finishing
from ml_backend.loop.certificate_page import summary_of
from ml_backend.loop.remember import looked_at
from ml_backend.services import Services
from ml_backend.store.finishes import Finish

ERROR, CONFIDENCE = 0.03, 0.95
Truth = Mapping[int, NDArray[np.uint8]]


def right_in_pool(services: Services, project: int, truth: Truth) -> dict[str, float] | None:
    """How many labels of the whole pool are right, people's answers included; None if nothing is told.

    ``truth`` has the right combination of each task. The result also has the share that people answered.
    """
    order = services.orders(project).current()
    if order is None or order.told is None or not order.told.remembered:
        return None
    told = dict(zip(order.tasks.tolist(), order.told.labels, strict=True))
    people = set(order.told.remembered)
    right = sum(task in people or (task in told and np.array_equal(told[task], truth[task])) for task in truth)
    return {"by_people": len(people) / len(truth), "right": right / len(truth)}


def finish_pool(
    services: Services,
    project: int,
    truth: Truth,
    annotate: Callable[[Sequence[int]], None],
    wait: Callable[[Callable[[], bool]], None],
) -> dict[str, Any]:
    """Certify the pool through the product: draw, answer, wait for the count, answer what goes to people.

    ``annotate`` answers the tasks it is given; ``wait`` waits until something is true.
    """
    try:
        offered = finishing.offer(services, project, ERROR, CONFIDENCE, None, lambda stage, done, total: None)
    except NotEnoughLabels as error:
        return {"not_possible": str(error)}
    drawn = finishing.begin(services, project, offered)
    annotate(drawn.drawn)
    store = services.finishes(project)

    def newest() -> Finish:
        found = store.newest()
        assert found is not None
        return found

    wait(lambda: newest().state != "open" and finishing.asks(services, project, newest()))
    done = newest()
    print(f"finish   {summary_of(done)}", flush=True)
    if done.outcome is None:
        return {"void": done.void}
    rows = store.rows(done)
    kept = dict(zip(rows.tasks[rows.kept].tolist(), rows.labels[rows.kept], strict=True))
    annotate([task for task in rows.tasks[~rows.kept].tolist() if task not in done.drawn])
    configuration = services.configuration(services.studio.project(project).label_config)
    answers = {one.annotation.task: one.labels for one in looked_at(services, project, configuration)}
    final = {**kept, **answers}
    right = sum(task in final and np.array_equal(final[task], truth[task]) for task in truth)
    wrong = sum(not np.array_equal(labels, truth[task]) for task, labels in kept.items())
    return {
        "state": newest().state,
        "audit": len(drawn.drawn),
        "expected_answers": drawn.expected_answers,
        **done.outcome.model_dump(),
        "frames": len(truth),
        "answered_by_people": len(answers) / len(truth),
        "machine_labels_wrong": wrong / len(truth),
        "final_labels_right": right / len(truth),
    }
